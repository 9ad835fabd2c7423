"""Mapped files that another process changes while they are read.

Reading a mapped page that is not in the file any more raises SIGBUS, which ends the process and
which Python cannot handle. ``survive`` installs a handler in C, as far as ctypes can: it puts pages
of zeros where the file has ended, so that reading goes on, and ``check_unchanged`` refuses the
result. Files are compared by size and time of change, so that one that was written over in place is
found as well. Small files are read whole and need none of this.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple
from weakref import ReferenceType, ref

from graphwq.errors import InputError

_FIXED_PRIVATE_ANONYMOUS = 0x10 | 0x02 | 0x20


class _Watched(NamedTuple):
    """A mapped file: as it was when it was mapped, and a descriptor of our own to ask again."""

    path: Path
    descriptor: int
    state: Tuple[int, int]
    data: ReferenceType


_files: Dict[int, _Watched] = {}
_handler: List[Any] = []


def watched(path: Path, descriptor: int) -> mmap.mmap:
    """Map a file, and remember what it was like.

    Raises:
        OSError, ValueError: it cannot be mapped.
    """
    data = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    own = os.dup(descriptor)
    state = _state(own)
    _files[own] = _Watched(path, own, (len(data), state[1]), ref(data, _closer(own)))
    return data


def _closer(descriptor: int) -> Callable[[Any], None]:
    def close(_: Any) -> None:
        _files.pop(descriptor, None)
        os.close(descriptor)

    return close


def _state(descriptor: int) -> Tuple[int, int]:
    """Size and time of the last change."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns


def changed() -> Optional[Path]:
    """A mapped file that is in use and not what it was; None where all are."""
    for file in list(_files.values()):
        if _state(file.descriptor) != file.state:
            return file.path
    return None


def check_unchanged() -> None:
    """Refuse what was read of a file that has changed since.

    Raises:
        InputError: such a file is in use.
    """
    path = changed()
    if path is not None:
        raise InputError(
            f"{path} was changed by another process while it was read: wait until it is complete, "
            "then run this again"
        )


def survive() -> bool:
    """Let this process outlive mapped files that become shorter; whether that is possible here."""
    if not sys.platform.startswith("linux") or signal.getsignal(signal.SIGBUS) != signal.SIG_DFL:
        return False
    if _handler:
        return True
    import ctypes

    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.signal.restype = ctypes.c_void_p

    def fill(_: int) -> None:
        filled = [_fill(file, libc) for file in list(_files.values())]
        if not any(filled):
            libc.signal(int(signal.SIGBUS), None)  # no file of ours: let it end the process

    handle = ctypes.CFUNCTYPE(None, ctypes.c_int)(fill)
    _handler.append(handle)
    libc.signal(int(signal.SIGBUS), handle)
    return True


def _fill(file: _Watched, libc: Any) -> bool:
    """Put zeros where a mapped file has ended; whether it has changed at all."""
    import ctypes

    import numpy as np

    data = file.data()
    now = _state(file.descriptor)
    size = now[0]
    if data is None or size >= file.state[0]:
        return data is not None and now != file.state  # it has grown again: the page is there
    begin = int(np.frombuffer(data, np.uint8).__array_interface__["data"][0])
    first = begin + -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    last = begin + -(-file.state[0] // mmap.PAGESIZE) * mmap.PAGESIZE
    place = libc.mmap(
        ctypes.c_void_p(first),
        ctypes.c_size_t(last - first),
        mmap.PROT_READ,
        _FIXED_PRIVATE_ANONYMOUS,
        -1,
        ctypes.c_long(0),
    )
    return bool(place == first)
