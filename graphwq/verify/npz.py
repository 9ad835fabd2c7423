"""Arrays in a ``.npz`` file, read as data from a stranger: with bounds, and never a pickle."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Dict, Mapping, Tuple, Union

import numpy as np
from numpy.lib import format as npy

from graphwq.errors import InputError
from graphwq.graphdef.atomic import write_atomically

#: All arrays of a file together, in bytes.
MAX_BYTES = 4 << 30
_MAX_ARRAYS = 10_000
_MAX_HEADER = 64 * 1024
_STEP = 8 << 20
#: numpy 1 has no room for more axes.
_MAX_RANK = 32
_SUFFIX = ".npy"
_KINDS = "biufcSUV"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PARSING = (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, EOFError)
_ARCHIVE = (OSError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_ARCHIVE += (struct.error, OverflowError)  # type: ignore[assignment]


def read_npz(path: Union[str, Path], max_bytes: int = MAX_BYTES) -> Dict[str, np.ndarray]:
    """Every array of an ``.npz``, by name.

    Nothing is unpickled, and nothing is unpacked before its declared size has been checked.

    Args:
        path: of the file.
        max_bytes: what all arrays together may take.

    Raises:
        InputError: no such file, no zip archive, an array of Python objects, a header that does not
            match its data, or more than ``max_bytes``.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(6)
        if start == b"\x93NUMPY":
            raise InputError(f"{path} is a single .npy array: name it with numpy.savez(path, **x)")
        with zipfile.ZipFile(str(path)) as archive:
            return _arrays(archive, path, max_bytes)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not an .npz file, or a damaged one: {error}") from error
    except _ARCHIVE as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise InputError(f"{path} cannot be read as .npz: {reason}") from error


def _arrays(archive: zipfile.ZipFile, path: Path, max_bytes: int) -> Dict[str, np.ndarray]:
    members = archive.infolist()
    if len(members) > _MAX_ARRAYS:
        raise InputError(f"{path} holds {len(members)} arrays, {_MAX_ARRAYS} are possible")
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise InputError(
            f"the arrays in {path} would take {total} bytes, {max_bytes} are possible: split them "
            "into several files"
        )
    found: Dict[str, np.ndarray] = {}
    for member in members:
        if not member.filename.endswith(_SUFFIX):
            raise InputError(f"{path} holds {member.filename!r:.200}, which is no array")
        name = member.filename[: -len(_SUFFIX)]
        if name in found:
            raise InputError(f"{path} holds two arrays of the name {name!r:.200}")
        with archive.open(member) as file:
            found[name] = _array(file, member.file_size, f"array {name!r:.200} in {path}")
    return found


def _array(file: IO[bytes], size: int, where: str) -> np.ndarray:
    shape, is_fortran, dtype, header = _header(file, where)
    if dtype.hasobject:
        raise InputError(
            f"{where} holds Python objects (a pickle), which are never read: save strings as "
            "numpy.array(values, 'S') and numbers as numbers"
        )
    if dtype.kind not in _KINDS or dtype.names is not None or dtype.subdtype is not None:
        raise InputError(f"{where} is of type {dtype}, which no tensor has")
    if len(shape) > _MAX_RANK:
        raise InputError(f"{where} has {len(shape)} axes and cannot be read, {_MAX_RANK} can")
    count = 1
    for length in shape:
        if not isinstance(length, int) or isinstance(length, bool) or length < 0:
            raise InputError(f"{where} declares the shape {shape!r:.100}")
        count *= length
    nbytes = count * dtype.itemsize
    if nbytes != size - header or (count and not dtype.itemsize):
        raise InputError(
            f"{where} declares {nbytes} bytes and holds {size - header}: the file is damaged"
        )
    try:
        return _filled(file, nbytes, dtype, shape, is_fortran, where)
    except (ValueError, MemoryError) as error:  # more axes than numpy has, or too large
        raise InputError(f"{where} cannot be read: {error}") from error


def _filled(
    file: IO[bytes],
    nbytes: int,
    dtype: np.dtype,
    shape: Tuple[int, ...],
    is_fortran: bool,
    where: str,
) -> np.ndarray:
    data = bytearray()
    while len(data) < nbytes:
        piece = file.read(min(_STEP, nbytes - len(data)))
        if not piece:
            raise InputError(f"{where} ends after {len(data)} of {nbytes} bytes")
        data += piece
    if not nbytes:
        return np.empty(shape, dtype)
    array = np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _header(file: IO[bytes], where: str) -> Tuple[Tuple[int, ...], bool, np.dtype, int]:
    """Shape, order, dtype and length of the header of an ``.npy``."""
    start = file.read(8)
    version = tuple(start[6:8])
    if start[:6] != b"\x93NUMPY" or version not in ((1, 0), (2, 0), (3, 0)):
        raise InputError(f"{where} is not in the .npy format")
    width = 2 if version == (1, 0) else 4
    field = file.read(width)
    length = int.from_bytes(field, "little")
    if len(field) < width or length > _MAX_HEADER:
        raise InputError(f"{where} has a header of {length} bytes, {_MAX_HEADER} are possible")
    text = file.read(length)
    if len(text) < length:
        raise InputError(f"{where} ends inside its header")
    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, is_fortran, dtype = reader(io.BytesIO(field + text))
    except (*_PARSING, tokenize.TokenError) as error:
        raise InputError(f"{where} has a header that cannot be read") from error
    return shape, is_fortran, dtype, 8 + width + length


def write_npz(path: Union[str, Path], arrays: Mapping[str, np.ndarray], force: bool = False) -> int:
    """Write arrays to an ``.npz`` in one step; the same arrays give the same bytes.

    The entries are in the order of their names, without times and not compressed.

    Raises:
        InputError: an array of Python objects, or the file cannot be written.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape)
            if array.dtype.hasobject:
                raise InputError(f"array {name!r:.200} holds Python objects: they are not written")
            content = io.BytesIO()
            npy.write_array(content, array, allow_pickle=False)
            entry = zipfile.ZipInfo(name + _SUFFIX, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content.getbuffer())
    return write_atomically(Path(path), (buffer.getbuffer(),), force)
