"""A dozen instants of the fault harness (``make faults`` does hundreds)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from faults import disturb
from faults.scenes import scene


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_at_random_instants(tmp_path: Path, number: signal.Signals) -> None:
    """Old or new, permissions kept, no temporary file after the next run."""
    found = disturb.stopped(scene("quantize", tmp_path, 4), number, 6)
    assert found.broken == []
    assert sum(found.outcomes.values()) == 6


def test_an_input_that_becomes_shorter(tmp_path: Path) -> None:
    """Exit status 2 instead of SIGBUS, and the old output."""
    assert disturb.truncated(scene("quantize", tmp_path, 8), "large.pb", 4).broken == []


def test_two_processes(tmp_path: Path) -> None:
    """Without --force one of them finds that the output exists."""
    made = scene("quantize, checkpoint", tmp_path, 1)
    assert disturb.two_at_once(made, 2, False).broken == []


def test_no_room(tmp_path: Path) -> None:
    """Exit status 2, one line, the old output and no temporary file."""
    made = scene("quantize", tmp_path, 4)
    limit = disturb.file_size_limit(1 << 20)
    assert disturb.refused(made, "no room", "quantize", "large", limit).broken == []


def test_no_room_for_the_converter(tmp_path: Path) -> None:
    """The converter writes half a model and says nothing: the disk is named, not the graph."""
    pytest.importorskip("_tools", reason="needs MNN")
    made = scene("mnn convert", tmp_path, 1)
    limit = disturb.file_size_limit(len(made.new["out.mnn"]) // 2)
    assert disturb.refused(made, "no room", "mnn convert", "File too large", limit).broken == []
