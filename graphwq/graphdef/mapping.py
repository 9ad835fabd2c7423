"""The bytes of a file, mapped into memory and given back page by page."""

from __future__ import annotations

import mmap
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Iterator

from graphwq.errors import InputError
from graphwq.graphdef.watch import watched
from graphwq.graphdef.wire import Buffer

#: Smaller files are read whole: a mapped file that another process truncates kills the reader.
MAP_FROM_BYTES = 16 * 1024 * 1024

#: Mapped data that is walked through once is given back in steps of this many bytes.
_STEP = 8 * 1024 * 1024

_MADV_DONTNEED = 4


def read_file(path: Path) -> memoryview:
    """The bytes of a file, read-only; a large file is mapped instead of read.

    Raises:
        InputError: the file is missing, empty, a folder, or cannot be read.
    """
    try:
        if path.is_dir():
            raise InputError(
                f"{path} is a folder: give the .pb file inside it (graphwq reads frozen graphs)"
            )
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < MAP_FROM_BYTES:
                data = memoryview(file.read())
            else:
                data = memoryview(watched(path, file.fileno()))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}; check the path") from error
    if not len(data):
        raise InputError(f"{path} is empty: there is no graph in it")
    return data


def is_file(path: Path) -> bool:
    """Whether there is a file; False also for names that the system refuses."""
    return _asked(os.path.isfile, path)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; False also for names that the system refuses."""
    return _asked(os.path.isdir, path)


def _asked(question: Callable[[str], bool], path: Path) -> bool:
    try:
        return question(str(path))
    except ValueError:  # a name with a null byte, before Python 3.8
        return False


def pieces(data: Buffer) -> Iterator[memoryview]:
    """The data step by step; of a mapped file each step is given back before the next."""
    view = memoryview(data)
    for begin in range(0, view.nbytes, _STEP):
        piece = view[begin : begin + _STEP]
        yield piece
        release(piece)


def release(view: memoryview) -> None:
    """Tell the kernel that the pages behind a slice of a mapped file are not needed any more.

    Only a hint that keeps resident memory low; the slice stays valid. Nothing happens for bytes
    that were read, or where the system has no ``madvise``.
    """
    libc = _libc()
    if libc is None or not isinstance(view.obj, mmap.mmap) or view.nbytes < mmap.PAGESIZE:
        return
    import numpy as np

    begin = int(np.frombuffer(view, np.uint8).__array_interface__["data"][0])
    first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (begin + view.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        from ctypes import c_size_t, c_void_p

        libc.madvise(c_void_p(first), c_size_t(last - first), _MADV_DONTNEED)


@lru_cache(maxsize=None)
def _libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "madvise") else None
    except OSError:
        return None
