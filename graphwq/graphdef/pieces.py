"""A tensor of a checkpoint: stored whole or, of a partitioned variable, in pieces.

A region of it is a slice of the file where one piece holds it in one run of bytes; otherwise it is
put together in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.message import Message

#: (start, length) along each axis.
Region = Tuple[Tuple[int, int], ...]

_MAX_RANK = 32
#: No variable is cut into more pieces; every two of them are compared.
_MAX_PIECES = 2000
_SHAPE_DIM, _SHAPE_UNKNOWN, _DIM_SIZE = 2, 3, 1
_SLICE_EXTENT, _EXTENT_START, _EXTENT_LENGTH = 1, 1, 2


@dataclass(frozen=True)
class Piece:
    """A part of a tensor that is stored in one run of bytes.

    Attributes:
        region: which part.
        read: gives its bytes, row by row, after a check of what can be checked; raises InputError.
    """

    region: Region
    read: Callable[[], memoryview]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint.

    Attributes:
        name: its key.
        dtype: DataType number.
        shape: of the whole.
        pieces: one for a tensor that is stored whole.
    """

    name: str
    dtype: int
    shape: Tuple[int, ...]
    pieces: Tuple[Piece, ...]

    def content(self, region: Optional[Region] = None) -> memoryview:
        """The bytes of a region (of the whole: None), row by row.

        Raises:
            InputError: the checkpoint is damaged, holds only a part of the region, or text.
        """
        wanted = whole(self.shape) if region is None else region
        size = _volume(wanted)
        if not nbytes(self.dtype, wanted):
            return memoryview(b"")
        inside = [(piece, _common(piece.region, wanted)) for piece in self.pieces]
        touching = [(piece, common) for piece, common in inside if _volume(common)]
        if len(touching) == 1 and _volume(touching[0][1]) == size:
            run = self._run(touching[0][0], wanted)
            if run is not None:
                return run
        _check_disjoint([piece.region for piece, _ in touching], self.name)
        if sum(_volume(common) for _, common in touching) != size:
            raise InputError(f"only a part of {self.name!r} is in the checkpoint")
        return self._assemble(touching, wanted)

    def _run(self, piece: Piece, wanted: Region) -> Optional[memoryview]:
        """The bytes of ``wanted`` within one piece where they are one run, else None."""
        item = dtypes.NUMPY[self.dtype].itemsize
        cut = [number for number, pair in enumerate(wanted) if pair != piece.region[number]]
        if not cut:
            return piece.read()
        if any(length != 1 for _, length in piece.region[: cut[0]]) or len(cut) > 1:
            return None
        axis = cut[0]
        step = item * reduce(mul, (length for _, length in wanted[axis + 1 :]), 1)
        begin = (wanted[axis][0] - piece.region[axis][0]) * step
        return piece.read()[begin : begin + wanted[axis][1] * step]

    def _assemble(self, parts: Sequence[Tuple[Piece, Region]], wanted: Region) -> memoryview:
        result = np.empty([length for _, length in wanted], dtypes.NUMPY[self.dtype])
        for piece, common in parts:
            values = np.frombuffer(piece.read(), dtypes.NUMPY[self.dtype])
            values = values.reshape([length for _, length in piece.region])
            result[_index(common, wanted)] = values[_index(common, piece.region)]
        return memoryview(result.reshape(-1).view(np.uint8).data)


def whole(shape: Sequence[int]) -> Region:
    """The region that is all of a tensor."""
    return tuple((0, size) for size in shape)


def extents(message: Message, shape: Sequence[int]) -> Tuple[Region, Region]:
    """Read a TensorSliceProto: the region, and the region as written (-1: all of an axis).

    Raises:
        InputError: it does not fit the shape.
    """
    written: List[Tuple[int, int]] = []
    for extent in message.messages(_SLICE_EXTENT):
        length = extent.number(_EXTENT_LENGTH) if extent.has(_EXTENT_LENGTH) else -1
        written.append((extent.number(_EXTENT_START), length))
    region = resolved(written, shape)
    return region, tuple(written)


def resolved(written: Sequence[Tuple[int, int]], shape: Sequence[int]) -> Region:
    """The region in which a length of -1 is all of an axis.

    Raises:
        InputError: it does not fit the shape.
    """
    region = tuple(
        (0, size) if length == -1 else (start, length)
        for (start, length), size in zip(written, shape)
    )
    inside = all(
        start >= 0 and length >= 0 and start + length <= size
        for (start, length), size in zip(region, shape)
    )
    if len(written) != len(shape) or not inside:
        raise InputError(f"the slice {list(written)} does not fit the shape {list(shape)}")
    return region


def read_shape(message: Message, name: str) -> Tuple[int, ...]:
    """Read the TensorShapeProto of a stored tensor.

    Raises:
        InputError: it has no full shape, or one that cannot be.
    """
    shape = tuple(dim.number(_DIM_SIZE) for dim in message.messages(_SHAPE_DIM))
    unknown = message.has(_SHAPE_UNKNOWN) and message.number(_SHAPE_UNKNOWN)
    if unknown or any(size < 0 for size in shape) or len(shape) > _MAX_RANK:
        raise InputError(f"{name!r} has no possible shape in the checkpoint: it is damaged")
    return shape


def nbytes(dtype: int, region: Region) -> int:
    """The bytes of a region.

    Raises:
        InputError: the dtype has no elements of a fixed size.
    """
    if dtype not in dtypes.NUMPY:
        raise InputError(f"a variable of {dtypes.dtype_name(dtype)} cannot be read")
    return _volume(region) * dtypes.NUMPY[dtype].itemsize


def _volume(region: Region) -> int:
    return reduce(mul, (max(0, length) for _, length in region), 1)


def _common(left: Region, right: Region) -> Region:
    pairs = []
    for (begin, length), (other, size) in zip(left, right):
        start, stop = max(begin, other), min(begin + length, other + size)
        pairs.append((start, stop - start))
    return tuple(pairs)


def _index(inner: Region, outer: Region) -> Tuple[slice, ...]:
    """The place of ``inner`` in an array that holds ``outer``."""
    return tuple(
        slice(start - begin, start - begin + length)
        for (start, length), (begin, _) in zip(inner, outer)
    )


def _check_disjoint(regions: Sequence[Region], name: str) -> None:
    if len(regions) > _MAX_PIECES:
        raise InputError(f"{name!r} is cut into {len(regions)} pieces: too many")
    if len(regions) < 2:
        return
    table = np.array(regions, np.float64)  # [pieces, axes, 2]; exact for every real size
    begin, end = table[..., 0], table[..., 0] + table[..., 1]
    overlap = np.ones((len(regions), len(regions)), bool)
    for axis in range(begin.shape[1]):
        overlap &= begin[:, None, axis] < end[None, :, axis]
        overlap &= begin[None, :, axis] < end[:, None, axis]
    if overlap.sum() != len(regions):
        raise InputError(f"pieces of {name!r} overlap in the checkpoint: it is damaged")
