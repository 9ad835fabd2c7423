"""graphdef/atomic.py: a file is the old one or the complete new one, at any instant (law 11)."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from graphwq.errors import InputError
from graphwq.graphdef import atomic, mapping
from graphwq.graphdef.atomic import check_output, write_atomically

ROOT = Path(__file__).resolve().parent.parent


def _names(folder: Path) -> List[str]:
    return sorted(os.listdir(str(folder)))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -------------------------------------------------------------------------------------- writing


def test_the_pieces_become_the_file(tmp_path: Path) -> None:
    """All chunks in order, bytes and views alike; the number of bytes comes back."""
    path = tmp_path / "out.pb"
    assert write_atomically(path, [b"ab", memoryview(b"xcdx")[1:3], b"", b"e"]) == 5
    assert path.read_bytes() == b"abcde"
    assert _names(tmp_path) == ["out.pb"]


def test_no_pieces_make_an_empty_file(tmp_path: Path) -> None:
    """Writing nothing is writing."""
    assert write_atomically(tmp_path / "out", []) == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_a_piece_longer_than_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are written in steps; the steps lose and repeat nothing."""
    monkeypatch.setattr(mapping, "_STEP", 7)
    data = bytes(range(50))
    assert write_atomically(tmp_path / "out", [data, data[:14]]) == 64
    assert (tmp_path / "out").read_bytes() == data + data[:14]


def test_pieces_that_are_not_bytes_are_counted_in_bytes(tmp_path: Path) -> None:
    """A view of floats is written as its bytes."""
    import numpy as np

    values = np.arange(5, dtype=np.float32)
    assert write_atomically(tmp_path / "out", [memoryview(values).cast("B")]) == 20
    assert (tmp_path / "out").read_bytes() == values.tobytes()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_the_permissions_of_a_replaced_file_are_kept(tmp_path: Path, mode: int) -> None:
    """Replacing is not republishing: a private file stays private."""
    path = tmp_path / "out.pb"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, [b"new"], force=True)
    assert path.read_bytes() == b"new"
    assert _mode(path) == mode


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    """Not the 0600 of the temporary file, but what the umask leaves; the umask stays as it is."""
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "out.pb", [b"new"])
        assert _mode(tmp_path / "out.pb") == 0o666 & ~mask
    finally:
        assert os.umask(before) == mask


def test_a_link_is_followed(tmp_path: Path) -> None:
    """The file behind a link is replaced; the link stays a link."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "model.pb"
    target.write_bytes(b"old")
    link = tmp_path / "link.pb"
    link.symlink_to(target)
    write_atomically(link, [b"new"], force=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert _names(tmp_path / "real") == ["model.pb"]


def test_a_link_to_nothing_makes_the_file(tmp_path: Path) -> None:
    """A dangling link is followed too."""
    link = tmp_path / "link.pb"
    link.symlink_to(tmp_path / "model.pb")
    write_atomically(link, [b"new"])
    assert link.is_symlink()
    assert (tmp_path / "model.pb").read_bytes() == b"new"


@pytest.mark.parametrize("letter", ["n", "\u4e2d", "\U0001d54e"])
def test_a_name_as_long_as_names_can_be(tmp_path: Path, letter: str) -> None:
    """The temporary name is short even where the file's name leaves no room for a suffix."""
    path = tmp_path / (letter * (255 // len(letter.encode())))
    write_atomically(path, [b"new"])
    assert _names(tmp_path) == [path.name]


# -------------------------------------------------------------------------------------- refusing


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    """Nothing is overwritten by accident, and the attempt leaves nothing behind."""
    path = tmp_path / "out.pb"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="exists: add --force to replace it"):
        write_atomically(path, [b"new"])
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["out.pb"]


def test_a_file_that_appears_while_we_write(tmp_path: Path) -> None:
    """Without force not even a file that was not there at the start is overwritten."""
    path = tmp_path / "out.pb"

    def chunks() -> Iterator[bytes]:
        yield b"new"
        path.write_bytes(b"somebody else's")

    with pytest.raises(InputError, match="exists"):
        write_atomically(path, chunks())
    assert path.read_bytes() == b"somebody else's"
    assert _names(tmp_path) == ["out.pb"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_among_the_pieces(tmp_path: Path, error: BaseException, exists: bool) -> None:
    """What goes wrong while the graph is made: the old file stays, no temporary file does."""
    path = tmp_path / "out.pb"
    if exists:
        path.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"new" * 1000
        assert len(_names(tmp_path)) == 1 + exists  # the temporary file is in the same folder
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, chunks(), force=True)
    assert _names(tmp_path) == (["out.pb"] if exists else [])
    if exists:
        assert path.read_bytes() == b"old"


@pytest.mark.parametrize("force", [False, True])
def test_an_interrupt_at_any_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Before every single instruction: the interrupt gets through, and one whole file is there."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    path = tmp_path / "out.pb"
    complete = []
    for instant in count(1):
        if force:
            path.write_bytes(b"old")
        elif path.exists():
            path.unlink()
        if not _interrupted(instant, lambda: write_atomically(path, [b"ne", b"w"], force=force)):
            break
        left = _names(tmp_path)
        assert left == ["out.pb"] or (left == [] and not force), instant
        complete.append(path.exists() and path.read_bytes() == b"new")
        assert complete[-1] or not force or path.read_bytes() == b"old", instant
    assert len(complete) > 100
    assert complete == sorted(complete)  # one instant divides the old from the new
    assert {False, True} == set(complete)


def _interrupted(instant: int, call: Callable[[], object]) -> bool:
    """Call with Ctrl-C at the given instruction of atomic.py; False where it was done before."""
    left = [instant]

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        if frame.f_code.co_filename != atomic.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("call", ["fsync", "fchmod", "replace"])
def test_a_system_call_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Disk full and the like: an InputError with the reason, the old file, no temporary file."""
    path = tmp_path / "out.pb"
    path.write_bytes(b"old")

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(InputError, match=r"cannot write .*out\.pb: No space left on device"):
        write_atomically(path, [b"new"], force=True)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["out.pb"]


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file is made there too."""

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_atomically(tmp_path / "out.pb", [b"new"])
    assert (tmp_path / "out.pb").read_bytes() == b"new"
    assert _names(tmp_path) == ["out.pb"]


def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing the folder is a service, not a condition."""
    real = os.fsync

    def only_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomically(tmp_path / "out.pb", [b"new"])
    assert (tmp_path / "out.pb").read_bytes() == b"new"


def test_the_file_is_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut could leave a file of the right name and wrong content."""
    path = tmp_path / "out.pb"
    seen: List[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        size = os.fstat(descriptor).st_size
        seen.append("folder" if is_folder else f"file of {size}")
        real_sync(descriptor)

    def move(source: str, target: str) -> None:
        seen.append("named")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", move)
    write_atomically(path, [b"new"], force=True)
    assert seen == ["file of 3", "named", "folder"]


@pytest.mark.parametrize("force", [False, True], ids=["new", "force"])
@pytest.mark.parametrize(
    "name",
    ["missing/out.pb", "file/out.pb", "folder", "n" * 256, "ring", "ring/out.pb"],
    ids=["missing_folder", "file_as_folder", "folder", "too_long", "ring_of_links", "in_ring"],
)
def test_places_where_no_file_can_be(tmp_path: Path, name: str, force: bool) -> None:
    """Whatever the system says against a name is an InputError, and nothing is left behind."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(InputError, match=r"cannot write|exists"):
        write_atomically(tmp_path / name, [b"new"], force=force)
    assert _names(tmp_path) == ["file", "folder", "ring"]
    assert _names(tmp_path / "folder") == []


# ------------------------------------------------------------------------------- checking before


def test_an_output_that_can_be_written(tmp_path: Path) -> None:
    """No complaint, and nothing is touched."""
    source = tmp_path / "in.pb"
    source.write_bytes(b"x")
    existing = tmp_path / "old.pb"
    existing.write_bytes(b"y")
    check_output(tmp_path / "out.pb", [source])
    check_output(existing, [source], force=True)
    check_output(tmp_path / "out.pb", [tmp_path / "missing.pb"])
    assert _names(tmp_path) == ["in.pb", "old.pb"]


def test_the_output_must_not_be_an_input(tmp_path: Path) -> None:
    """Not by name, not through links of either kind, and not with force."""
    source = tmp_path / "in.pb"
    source.write_bytes(b"x")
    (tmp_path / "soft.pb").symlink_to(source)
    os.link(str(source), str(tmp_path / "hard.pb"))
    roundabout = tmp_path / "." / ".." / tmp_path.name / "in.pb"
    for path in (source, tmp_path / "soft.pb", tmp_path / "hard.pb", roundabout):
        with pytest.raises(InputError, match="is the input itself: choose another output file"):
            check_output(path, [tmp_path / "other.pb", source], force=True)


def test_the_output_must_not_be_a_missing_input(tmp_path: Path) -> None:
    """The same name twice is refused even before the file is there."""
    with pytest.raises(InputError, match="is the input itself"):
        check_output(tmp_path / "a.pb", [tmp_path / "." / "a.pb"])


def test_an_existing_output_needs_force(tmp_path: Path) -> None:
    """Said before any work is done."""
    (tmp_path / "out.pb").write_bytes(b"old")
    with pytest.raises(InputError, match="exists: add --force to replace it"):
        check_output(tmp_path / "out.pb")


def test_an_output_that_is_a_folder(tmp_path: Path) -> None:
    """A folder is not replaced, force or not."""
    for force in (False, True):
        with pytest.raises(InputError, match="is a folder: name the output file"):
            check_output(tmp_path, force=force)


def test_an_output_that_is_a_device(tmp_path: Path) -> None:
    """Renaming over a device or a pipe would replace it by a file."""
    os.mkfifo(str(tmp_path / "pipe"))
    for path in (Path(os.devnull), tmp_path / "pipe"):
        with pytest.raises(InputError, match="is no ordinary file: name another output file"):
            check_output(path, force=True)


def test_an_output_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """No folder is made on the side."""
    with pytest.raises(InputError, match="create it first"):
        check_output(tmp_path / "missing" / "out.pb")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InputError, match="there is no folder"):
        check_output(tmp_path / "file" / "out.pb")


def test_an_output_in_a_folder_that_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is named. (Root may write anywhere, so the answer of the system is played.)"""
    asked = []

    def access(path: str, mode: int) -> bool:
        asked.append((path, mode))
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(InputError, match=f"the folder {tmp_path.resolve()} is not writable"):
        check_output(tmp_path / "out.pb")
    assert asked == [(str(tmp_path.resolve()), os.W_OK)]


@pytest.mark.parametrize(
    "name",
    ["n" * 256, "ring", "ring/out.pb", "a\0b"],
    ids=["too_long", "ring_of_links", "in_ring", "null"],
)
def test_names_that_the_system_refuses(tmp_path: Path, name: str) -> None:
    """A name too long, a ring of links: an InputError here too, whatever the system raises."""
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(InputError):
        check_output(tmp_path / name, force=True)


# --------------------------------------------------------------------------------------- killing

_CHILD = """
import os, signal, sys
from pathlib import Path
from graphwq.graphdef.atomic import write_atomically

path, size = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
turn = 0
while True:
    turn += 1
    letter = bytes([65 + turn % 26])
    write_atomically(path, (letter * 1000 for _ in range(size)), force=True)
"""

_DYING = """
import os, signal, sys
from pathlib import Path
from graphwq.graphdef import atomic

path, call, when, force = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "force"

def die():
    os.kill(os.getpid(), signal.SIGKILL)

real = getattr(os, call)

def dying(*args, **kwargs):
    if when == "before":
        die()
    real(*args, **kwargs)
    die()

def chunks():
    yield b"n" * 5000
    if call == "getpid":
        die()
    yield b"n" * 5000

setattr(os, call, dying if call != "getpid" else real)
atomic.write_atomically(path, chunks(), force)
"""


def _child(code: str, *arguments: str) -> subprocess.Popen:  # type: ignore[type-arg]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, env=environment
    )


@pytest.mark.parametrize(
    ("call", "when", "force"),
    [
        *[
            (call, when, force)
            for call, when in [
                ("getpid", "among the pieces"),
                ("fchmod", "before"),
                ("fchmod", "after"),
                ("fsync", "before"),
                ("fsync", "after"),
            ]
            for force in ("force", "new")
        ],
        ("replace", "before", "force"),
        ("replace", "after", "force"),
        ("link", "before", "new"),
        ("link", "after", "new"),
        ("unlink", "before", "new"),
    ],
)
def test_killed_at_every_step(tmp_path: Path, call: str, when: str, force: str) -> None:
    """Killed before or after any system call: the old file or the complete new one is there."""
    path = tmp_path / "out.pb"
    if force == "force":
        path.write_bytes(b"old")
    child = _child(_DYING, str(path), call, when, force)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    content = path.read_bytes() if path.exists() else None
    new = b"n" * 10000
    named = (call, when) in (("replace", "after"), ("link", "after"), ("unlink", "before"))
    assert content == (new if named else b"old" if force == "force" else None)


def test_killed_at_random_instants(tmp_path: Path) -> None:
    """kill -9 while a child rewrites the file again and again: it is always one whole version."""
    path = tmp_path / "out.pb"
    pieces = 300
    rng = random.Random(0)
    seen = set()
    for _ in range(12):
        child = _child(_CHILD, str(path), str(pieces))
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.08))
        child.kill()
        child.communicate(timeout=60)
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 1000 * pieces
            assert content == content[:1] * len(content)
            seen.add(content[:1])
    assert len(seen) > 1, "the children never got to write: the test has shown nothing"
    assert all(name == "out.pb" or name.endswith(".graphwq-tmp") for name in _names(tmp_path))
    write_atomically(path, [b"after all that"], force=True)
    assert path.read_bytes() == b"after all that"


@pytest.mark.parametrize("fails", [False, True])
def test_the_disk_gets_its_work_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Each part is given to the disk once, complete, in order; a refusal changes nothing."""
    asked: List[Tuple[int, int]] = []

    def advise(handle: int, begin: int, size: int, advice: int) -> None:
        assert os.fstat(handle).st_size >= begin + size
        asked.append((begin, begin + size))
        if fails:
            raise OSError(errno.EINVAL, "no such advice")

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    monkeypatch.setattr(atomic, "_TO_DISK", 50_000)
    chunks = [bytes([number]) * size for number, size in enumerate([3, 70_000, 1, 49_000, 999, 5])]
    assert write_atomically(tmp_path / "out", chunks) == 120_008
    assert (tmp_path / "out").read_bytes() == b"".join(chunks)
    assert asked == [(0, 70_003), (70_003, 120_003)]


def test_temporary_files_of_others(tmp_path: Path) -> None:
    """One that nobody holds goes with the next run; one that is being written stays."""
    held, abandoned = (tmp_path / f".x.{name}.graphwq-tmp" for name in ("held", "abandoned"))
    abandoned.write_bytes(b"half")
    with open(held, "wb") as file:
        assert atomic._lock(file.fileno(), wait=True)
        write_atomically(tmp_path / "out.pb", [b"new"])
        assert _names(tmp_path) == [held.name, "out.pb"]
    write_atomically(tmp_path / "out.pb", [b"new"], force=True)
    assert _names(tmp_path) == ["out.pb"]
