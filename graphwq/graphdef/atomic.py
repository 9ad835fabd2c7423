"""Writing a file so that it is either the old one or the complete new one, at any instant.

The bytes go to a temporary file in the same folder, which is locked while its process lives. A
process that is killed leaves its temporary file; the next that writes into the folder finds it
unlocked and removes it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO, Iterable, List, Optional

from graphwq.errors import InputError
from graphwq.graphdef.mapping import pieces
from graphwq.graphdef.watch import check_unchanged
from graphwq.graphdef.wire import Buffer

_MAX_SHOWN = 400
_SUFFIX = ".graphwq-tmp"
#: Characters of the output's name in that of its temporary file: at most 160 bytes of 255.
_STEM = 40
#: Bytes after which the disk gets something to do.
_TO_DISK = 16 * 1024 * 1024
#: Smaller chunks have no pages to give back.
_PIECEWISE = 16 * 1024
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def check_output(path: Path, inputs: Iterable[Path] = (), force: bool = False) -> None:
    """Refuse an output that must not be written, before any work is done.

    Raises:
        InputError: the output is one of the inputs (also through a link), exists while ``force`` is
            not set, is a folder or a device, or its folder is missing or not writable.
    """
    for source in inputs:
        if _same_file(path, source):
            raise InputError(f"{path} is the input itself: choose another output file")
    folder = _resolved(path).parent
    if path.is_dir():
        raise InputError(f"{path} is a folder: name the output file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no ordinary file: name another output file")
    if path.exists() and not force:
        raise InputError(f"{path} exists: add --force to replace it, or choose another name")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} to write {path.name} in: create it first")
    if not os.access(str(folder), os.W_OK):
        raise InputError(
            f"the folder {folder} is not writable: {path.name} cannot be written there"
        )


def write_atomically(path: Path, chunks: Iterable[Buffer], force: bool = False) -> int:
    """Write ``chunks`` to ``path`` in one step and return the number of bytes.

    The bytes go to a temporary file in the same folder, which is synced and then renamed. A
    symbolic link as ``path`` is followed, and the permissions of a replaced file are kept; another
    name (hard link) of a replaced file keeps the old one.

    Raises:
        InputError: the file exists and ``force`` is not set, the system refuses (disk full, folder
            not writable), or a mapped input has changed meanwhile. The old file is left as it was
            and no temporary file stays behind.
    """
    target = _resolved(path)
    temporary: List[str] = []  # its name is here before it is there: an interrupt comes any time
    try:
        _remove_abandoned(target.parent)
        handle = _create(target, temporary)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), _mode(target))
            written = _write(file, chunks)
            file.flush()
            os.fsync(file.fileno())
            check_unchanged()
            _move(temporary[0], target, path, force)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for name in temporary:
            _unlink(name)
    _sync_folder(target.parent)
    return written


def _create(target: Path, temporary: List[str]) -> int:
    """Make a new file beside ``target``, locked: its descriptor; the name goes to ``temporary``."""
    while True:
        name = f".{target.name[:_STEM]}.{secrets.token_hex(8)}{_SUFFIX}"
        temporary[:] = [str(target.parent / name)]
        handle = os.open(temporary[0], _NEW, 0o600)
        if _lock(handle, wait=True) is not True or os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # somebody took it for abandoned before it was locked


def _unlink(name: str) -> None:
    """Remove a temporary file that may be gone already; what stays is left to the next run."""
    try:
        os.unlink(name)
    except OSError:
        pass


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed: nobody holds their lock."""
    try:
        names = os.listdir(str(folder))
    except OSError:  # a folder may be writable and not readable
        return
    for name in names:
        if not (name.startswith(".") and name.endswith(_SUFFIX)):
            continue
        path = str(folder / name)
        try:
            handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except OSError:  # gone meanwhile, a link, or not ours
            continue
        try:
            if _lock(handle, wait=False):
                os.unlink(path)
        except OSError:
            pass
        finally:
            os.close(handle)


def _lock(handle: int, wait: bool) -> Optional[bool]:
    """Lock a file until it is closed: whether that went, None where files cannot be locked."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return True
    except BlockingIOError:
        return False
    except OSError:
        return None


def _write(file: BinaryIO, chunks: Iterable[Buffer]) -> int:
    """Write everything; the disk works on what is there while the rest is still computed."""
    written = begun = 0
    for chunk in chunks:
        written += _write_chunk(file, memoryview(chunk))
        del chunk  # it would stay in memory while the next is computed
        if written - begun >= _TO_DISK:
            file.flush()
            _begin_sync(file.fileno(), begun, written)
            begun = written
    return written


def _write_chunk(file: BinaryIO, chunk: memoryview) -> int:
    if chunk.nbytes < _PIECEWISE:
        file.write(chunk)
    else:
        for piece in pieces(chunk):
            file.write(piece)
    return chunk.nbytes


def _begin_sync(handle: int, begin: int, end: int) -> None:
    """Let the kernel start to write a part to the disk: on Linux this advice does, and returns."""
    if hasattr(os, "posix_fadvise"):
        try:
            os.posix_fadvise(handle, begin, end - begin, os.POSIX_FADV_DONTNEED)
        except OSError:  # only a hint; the sync at the end does it all
            pass


def _mode(target: Path) -> int:
    """The permissions of the file that is replaced, or those that a new file would have."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _move(temporary: str, target: Path, named: Path, force: bool) -> None:
    if force:
        os.replace(temporary, str(target))
        return
    try:
        os.link(temporary, str(target))  # fails where the target appeared meanwhile
    except FileExistsError as error:
        raise InputError(
            f"{named} exists: add --force to replace it, or choose another name"
        ) from error
    except OSError:  # a file system without hard links
        os.replace(temporary, str(target))
        return
    _unlink(temporary)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(str(folder), os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _same_file(left: Path, right: Path) -> bool:
    try:
        return os.path.samefile(str(left), str(right))
    except OSError:
        return _resolved(left) == _resolved(right)


def _resolved(path: Path) -> Path:
    """The path with links followed.

    Raises:
        InputError: the links run in a ring, or the name is one that the system does not take.
    """
    try:
        resolved = path.resolve()
        found = os.lstat(str(resolved))
    except (FileNotFoundError, NotADirectoryError):
        return resolved
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).split(" from ")[0]
        raise InputError(f"cannot write {one_path(path)}: {reason}; name another file") from error
    if stat.S_ISLNK(found.st_mode):  # from Python 3.13 on resolve() lets a ring of links pass
        reason = os.strerror(errno.ELOOP)
        raise InputError(f"cannot write {one_path(path)}: {reason}; name another file")
    return resolved


def one_path(path: Path) -> str:
    """A path for a message, shortened in the middle."""
    text = str(path)
    return text if len(text) <= _MAX_SHOWN else f"{text[:120]}...{text[-40:]}"
