"""Golden data: what the reference gave, in place of the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from graphwq.errors import InputError
from graphwq.verify.feeds import SYNTHETIC, Feeds
from graphwq.verify.golden import Golden, compare_golden, load_golden, record_golden, save_golden
from graphwq.verify.npz import read_npz, write_npz
from graphwq.verify.outputs import Limits, compare_outputs
from verify.test_outputs import Fake

OUTPUTS: Dict[str, Any] = {
    "b:0": np.asarray([[1.5, np.nan], [-0.0, np.inf]], np.float32),
    "a:0": np.asarray([b"x\0", b"", b"yz"], object),
    "n:1": np.asarray(7, np.int64),
    "flag:0": np.asarray([True, False]),
    "text:0": np.asarray(b"one", object),
}
FEEDS = Feeds(
    tuple(
        {"x:0": np.full((2, 3), index, np.float32), "s:0": np.asarray([b"a\0b"], object)}
        for index in range(3)
    ),
    SYNTHETIC,
    ("made up",),
)


def _golden() -> Golden:
    return record_golden(Fake(OUTPUTS), list(OUTPUTS), FEEDS, "abc", "1.15.3")


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Nothing is lost: values to the bit, strings with their zeros, order and words."""
    golden = _golden()
    save_golden(tmp_path / "g.npz", golden)
    found = load_golden(tmp_path / "g.npz")
    assert (found.graph_digest, found.tensorflow, found.repeatable) == ("abc", "1.15.3", True)
    assert found.tensors == tuple(OUTPUTS)
    assert found.feeds.digest == FEEDS.digest
    assert found.feeds.notes == FEEDS.notes
    assert found.feeds.origin == SYNTHETIC
    assert len(found.outputs) == 3
    for name, array in OUTPUTS.items():
        other = found.outputs[2][name]
        assert other.dtype == array.dtype
        assert other.shape == array.shape
        assert other.tolist() == array.tolist() or other.tobytes() == array.tobytes()


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    """So that golden files can be kept in git."""
    for name in ("one.npz", "two.npz"):
        save_golden(tmp_path / name, _golden())
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with pytest.raises(InputError, match="exists"):
        save_golden(tmp_path / "one.npz", _golden())
    save_golden(tmp_path / "one.npz", _golden(), force=True)


@pytest.mark.parametrize("exact", [False, True])
def test_the_verdict_is_that_of_the_reference(exact: bool, tmp_path: Path) -> None:
    """Compared with golden data or with the reference itself: the same result."""
    save_golden(tmp_path / "g.npz", _golden())
    golden = load_golden(tmp_path / "g.npz")
    for change in (0, 0.25):
        other = dict(OUTPUTS, **{"b:0": OUTPUTS["b:0"] + np.float32(change)})
        limits = Limits(max_abs=0.2)
        expected = compare_outputs(Fake(OUTPUTS), Fake(other), list(OUTPUTS), FEEDS, limits, exact)
        assert compare_golden(golden, Fake(other), limits, exact) == expected
        assert expected.passed is (change == 0 and not exact)


def test_golden_data_of_nothing() -> None:
    """It would prove nothing."""
    with pytest.raises(InputError):
        record_golden(Fake(OUTPUTS), [], FEEDS, "", "")
    with pytest.raises(InputError):
        record_golden(Fake(OUTPUTS), ["b:0"], Feeds((), SYNTHETIC), "", "")


def test_a_restless_reference_is_remembered(tmp_path: Path) -> None:
    """So that the comparison can say so later."""
    restless = Fake({"y:0": np.float32(1)}, {"y:0": np.float32(2)})
    golden = record_golden(restless, ["y:0"], FEEDS, "", "")
    assert golden.repeatable is False
    save_golden(tmp_path / "g.npz", golden)
    golden = load_golden(tmp_path / "g.npz")
    assert golden.repeatable is False
    assert compare_golden(golden, Fake({"y:0": np.float32(1)})).repeatable is False


def _meta(**changes: Any) -> np.ndarray:
    meta = {"format": "graphwq-golden", "version": 1, "graph_digest": "", "tensorflow": ""}
    meta.update({"samples": 1, "feeds": [], "outputs": ["y:0"], "origin": "file", "notes": []})
    meta.update({"repeatable": True}, **changes)
    return np.frombuffer(json.dumps(meta).encode(), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "not golden data"),
        ({"meta": np.ones(3)}, "not golden data"),
        ({"meta": np.asarray([b"{}"])}, "not golden data"),
        ({"meta": _meta(version=2)}, "version 2"),
        ({"meta": _meta()}, "damaged"),
        ({"meta": _meta(samples=0)}, "no samples"),
        ({"meta": _meta(samples=10**9)}, "no samples"),
        ({"meta": _meta(outputs=[])}, "no samples or no outputs"),
        ({"meta": _meta(outputs=3)}, "damaged"),
        ({"meta": _meta(origin="moon"), "output/0/0": np.ones(1)}, "moon"),
        (
            {
                "meta": _meta(),
                "output/0/0/lengths": np.asarray([5]),
                "output/0/0/bytes": np.zeros(4, np.uint8),
            },
            "strings",
        ),
        (
            {
                "meta": _meta(),
                "output/0/0/lengths": np.asarray([-1, 5]),
                "output/0/0/bytes": np.zeros(4, np.uint8),
            },
            "strings",
        ),
    ],
)
def test_files_that_are_no_golden_data(
    arrays: Dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    """Each is refused in a sentence."""
    write_npz(tmp_path / "g.npz", arrays)
    assert set(read_npz(tmp_path / "g.npz")) == set(arrays)
    with pytest.raises(InputError, match=message):
        load_golden(tmp_path / "g.npz")
