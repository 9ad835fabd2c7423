"""What the tests of the command line share: running it without a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional

import pytest
from conftest import ROOT

from graphwq.cli.main import main


class Outcome(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture, *arguments: Any) -> Outcome:
    """Run ``graphwq ARGUMENTS`` in this process."""
    capsys.readouterr()
    try:
        status = main([str(item) for item in arguments])
    except SystemExit as stop:  # argparse: --help, --version, a wrong argument
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return Outcome(status, captured.out, captured.err)


#: git as it is without anybody's configuration.
GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_PAGER": "cat",
}


def environment() -> dict:
    """For a subprocess that has to find the package that is tested."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def process(*arguments: Any, code: Optional[str] = None, timeout: float = 60) -> Outcome:
    """Run ``python -m graphwq ARGUMENTS`` (or ``python -c CODE ARGUMENTS``)."""
    command: List[str] = [sys.executable]
    command += ["-m", "graphwq"] if code is None else ["-c", code]
    done = subprocess.run(
        command + [str(item) for item in arguments],
        env=environment(),
        cwd=str(ROOT),
        capture_output=True,
        timeout=timeout,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def assert_one_line(err: str, *said: str) -> None:
    """Exactly one line on stderr: ``graphwq: error: WHAT WHERE WHAT TO DO``."""
    assert err.startswith("graphwq: error: "), err
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert err[:-1].isprintable()
    assert len(err) <= 1100
    for part in said:
        assert part in err, f"{part!r} is not in {err!r}"


def leftovers(folder: Path) -> List[str]:
    """Temporary files that a run left in a folder."""
    return [item.name for item in folder.iterdir() if "graphwq-tmp" in item.name]
