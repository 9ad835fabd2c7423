"""Checkpoints of format V1: a table with everything in it, whole or in files PREFIX-00000-of-00002.

Source of the format: tensorflow/core/util/saved_tensor_slice.proto and tensor_slice_writer.cc.
Under the empty key stands what there is (name, shape, dtype and slices of each tensor); under a key
of its own each slice, its values as a TensorProto without dtype or shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.message import Message
from graphwq.graphdef.orderedcode import slice_key
from graphwq.graphdef.pieces import (
    Piece,
    Region,
    StoredTensor,
    extents,
    nbytes,
    read_shape,
)
from graphwq.graphdef.sstable import Entry, entries
from graphwq.graphdef.tensor import Tensor
from graphwq.graphdef.wire import LENGTH_DELIMITED, fields

_META, _DATA = 1, 2
_META_TENSOR = 1
_NAME, _SHAPE, _TYPE, _SLICE = 1, 2, 3, 4
_SLICE_DATA = 3
#: The lists whose packed form is the bytes of an array: float_val, double_val and so on.
_RAW_LISTS = {
    dtypes.DT_FLOAT: 5,
    dtypes.DT_DOUBLE: 6,
    dtypes.DT_COMPLEX64: 9,
    dtypes.DT_COMPLEX128: 12,
}


def read_v1(files: Sequence[Tuple[Path, memoryview]], check: bool) -> Dict[str, StoredTensor]:
    """The tensors of a V1 checkpoint by name; their values are not read yet.

    Args:
        files: all its files.
        check: compare each block that a tensor is read from with its CRC.

    Raises:
        InputError: a file is damaged, or two of them do not belong together.
    """
    found: Dict[str, StoredTensor] = {}
    for path, data in files:
        try:
            for tensor in _File(path, data, check).tensors():
                found[tensor.name] = _joined(found.get(tensor.name), tensor)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return found


def _joined(known: StoredTensor | None, more: StoredTensor) -> StoredTensor:
    if known is None:
        return more
    if (known.dtype, known.shape) != (more.dtype, more.shape):
        raise InputError(
            f"{more.name!r} has shape {list(more.shape)} here and {list(known.shape)} in another "
            "part: the files are not of one checkpoint"
        )
    return StoredTensor(known.name, known.dtype, known.shape, known.pieces + more.pieces)


class _File:
    def __init__(self, path: Path, data: memoryview, check: bool) -> None:
        self._path = path
        self._check = check
        self._checked: Set[int] = set()
        self._entries = {entry.key: entry for entry in entries(data, check=False)}

    def tensors(self) -> List[StoredTensor]:
        """Every tensor of which there is something in this file."""
        head = self._entries.get(b"")
        if head is None:
            raise InputError("the table has no list of tensors: it is no checkpoint")
        if self._check:
            head.block.check()
        meta = Message(Message(head.value).buffer(_META))
        return [self._tensor(item) for item in meta.messages(_META_TENSOR)]

    def _tensor(self, item: Message) -> StoredTensor:
        name = item.text(_NAME, "a tensor's name")
        dtype = item.number(_TYPE)
        shape = read_shape(Message(item.buffer(_SHAPE)), name)
        pieces = []
        for part in item.messages(_SLICE):
            region, written = extents(part, shape)
            entry = self._entries.get(slice_key(name, written))
            if entry is None:
                raise InputError(f"the slice {list(written)} of {name!r} is not in the table")
            pieces.append(self._piece(name, dtype, region, entry))
        return StoredTensor(name, dtype, shape, tuple(pieces))

    def _piece(self, name: str, dtype: int, region: Region, entry: Entry) -> Piece:
        def read() -> memoryview:
            if self._check and id(entry.block) not in self._checked:
                try:
                    entry.block.check()
                except InputError as error:
                    raise InputError(f"{self._path}, {name!r}: {error}") from error
                self._checked.add(id(entry.block))
            values = Message(Message(entry.value).buffer(_DATA)).buffer(_SLICE_DATA)
            return _values(name, dtype, region, values)

        return Piece(region, read)


def _values(name: str, dtype: int, region: Region, proto: memoryview) -> memoryview:
    """The bytes of a slice: of floats as they stand in the file, of others decoded."""
    size = nbytes(dtype, region)
    lists = [
        proto[value:end]
        for number, wire_type, _, value, end in fields(proto)
        if number == _RAW_LISTS.get(dtype) and wire_type == LENGTH_DELIMITED
    ]
    if len(lists) == 1 and lists[0].nbytes == size:
        return lists[0]
    count = size // dtypes.NUMPY[dtype].itemsize
    values = Tensor(dtype, (count,), None, proto)
    if values.listed != count:  # in a constant the last one would repeat
        raise InputError(
            f"{name!r} has {values.listed} values in the checkpoint, its shape needs {count}: it "
            "is damaged"
        )
    return memoryview(values.numpy().tobytes())
