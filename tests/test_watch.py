"""graphdef/watch.py: an input that another process changes is refused, and kills nobody."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from commandline import environment

from graphwq.errors import InputError
from graphwq.graphdef import mapping, watch
from graphwq.graphdef.atomic import write_atomically
from graphwq.graphdef.mapping import read_file

PAGE = mmap.PAGESIZE
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="survive() is for Linux")


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of ten pages of ones, which counts as large enough to be mapped."""
    monkeypatch.setattr(mapping, "MAP_FROM_BYTES", PAGE)
    path = tmp_path / "large.pb"
    path.write_bytes(b"\1" * (10 * PAGE))
    return path


def _descriptors() -> List[str]:
    return os.listdir("/proc/self/fd") if sys.platform == "linux" else []


def test_a_file_that_stays_as_it_is(large: Path) -> None:
    """Nothing is said, and it is forgotten with its data, descriptor included."""
    before = len(_descriptors())
    data = read_file(large)
    assert isinstance(data.obj, mmap.mmap)
    watch.check_unchanged()
    assert watch.changed() is None
    large.chmod(0o600)
    os.utime(str(large.parent))
    watch.check_unchanged()
    del data
    assert len(_descriptors()) == before
    os.truncate(str(large), 0)
    watch.check_unchanged()


@pytest.mark.parametrize("how", ["shorter", "empty", "longer", "in place"])
def test_a_file_that_changes(large: Path, how: str) -> None:
    """By size, or by its time where the size is the same; the message names it."""
    data = read_file(large)
    if how == "in place":
        with open(large, "r+b") as file:
            file.write(b"\2")
        os.utime(str(large), (1, 1))
    else:
        sizes = {"shorter": 10 * PAGE - 1, "empty": 0, "longer": 10 * PAGE + 1}
        os.truncate(str(large), sizes[how])
    assert watch.changed() == large
    with pytest.raises(InputError, match=r"large\.pb was changed by another process"):
        watch.check_unchanged()
    assert len(data) == 10 * PAGE


def test_a_file_that_is_replaced(large: Path) -> None:
    """Another file under the same name is no change: the old one is still there, and read."""
    data = read_file(large)
    other = large.with_name("other")
    other.write_bytes(b"\2")
    other.replace(large)
    watch.check_unchanged()
    assert bytes(data[-3:]) == b"\1\1\1"
    del data
    data = read_file(large.with_name("large.pb"))
    assert bytes(data) == b"\2"


def test_nothing_is_made_of_it(large: Path) -> None:
    """The last look is before the output takes its place: the old output stays."""
    out = large.with_name("out.pb")
    out.write_bytes(b"old")
    data = read_file(large)

    def chunks() -> List[bytes]:
        os.truncate(str(large), 3 * PAGE)
        return [bytes(data[:PAGE])]

    with pytest.raises(InputError, match="was changed by another process"):
        write_atomically(out, chunks(), force=True)
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(str(out.parent))) == ["large.pb", "out.pb"]


_CHILD = """
import os, sys
from pathlib import Path
from graphwq.errors import InputError
from graphwq.graphdef import mapping, watch
path, size, survives = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
mapping.MAP_FROM_BYTES = 1
data = mapping.read_file(path)
assert not survives or (watch.survive() and watch.survive())
os.truncate(sys.argv[1], size)
if sys.argv[4] == "1":
    os.truncate(sys.argv[1], len(data))
data[-1]  # the end first: what is there must outlive it
copy = bytes(data)
assert len(copy) == len(data)
assert copy[:size] == b"\\1" * size, "what is there is read"
assert not any(copy[size:]), "what is gone is zero"
try:
    watch.check_unchanged()
except InputError as error:
    print(error)
"""


def _child(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@LINUX
@pytest.mark.parametrize("size", [0, 1, PAGE, 3 * PAGE + 7, 10 * PAGE - 1])
def test_reading_behind_the_end(large: Path, size: int) -> None:
    """The process lives, reads zeros where nothing is, and refuses the result."""
    done = _child("-c", _CHILD, large, size, 1, 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert "large.pb was changed by another process" in done.stdout


@LINUX
def test_a_file_that_grows_again(large: Path) -> None:
    """Its pages are there again, and it is refused all the same."""
    done = _child("-c", _CHILD, large, PAGE, 1, 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert "was changed" in done.stdout


@LINUX
def test_without_the_handler(large: Path) -> None:
    """What it is for: the system ends a process that reads there."""
    assert _child("-c", _CHILD, large, PAGE, 0, 0).returncode == -signal.SIGBUS


_FOREIGN = """
import mmap, os, sys
from pathlib import Path
from graphwq.graphdef import mapping, watch
mapping.MAP_FROM_BYTES = 1
data = mapping.read_file(Path(sys.argv[1]))
assert watch.survive()
with open(sys.argv[2], "rb") as file:
    other = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
os.truncate(sys.argv[2], 0)
bytes(other)
"""


@LINUX
def test_a_file_that_is_not_ours(large: Path) -> None:
    """A bus error of something else ends the process as always; it does not go round for ever."""
    other = large.with_name("other")
    other.write_bytes(bytes(2 * PAGE))
    assert _child("-c", _FOREIGN, large, other).returncode == -signal.SIGBUS
