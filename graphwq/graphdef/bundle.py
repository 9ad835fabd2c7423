"""Checkpoints of format V2: PREFIX.index, a table, and PREFIX.data-00000-of-00001 and so on.

Source of the format: tensorflow/core/util/tensor_bundle/tensor_bundle.h and
tensorflow/core/protobuf/tensor_bundle.proto. The index has a header under the empty key and, under
the name of each tensor, its dtype, shape, place in the data files and CRC, or the list of its
slices, which have entries of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.crc32c import matches
from graphwq.graphdef.mapping import is_file, read_file
from graphwq.graphdef.message import Message
from graphwq.graphdef.orderedcode import slice_key
from graphwq.graphdef.pieces import Piece, Region, StoredTensor, extents, nbytes, read_shape, whole
from graphwq.graphdef.sstable import entries
from graphwq.graphdef.wire import WireError, text

_NUM_SHARDS, _ENDIANNESS, _VERSION, _MIN_CONSUMER = 1, 2, 3, 2
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _CRC, _SLICES = 1, 2, 3, 4, 5, 6, 7
#: The version of the format that tensor_bundle.cc reads.
_OUR_VERSION = 1
_MAX_SHARDS = 100_000


class Shards:
    """The data files, each opened when it is first needed."""

    def __init__(self, prefix: Path, count: int) -> None:
        self._prefix = prefix
        self.count = count
        self._open: Dict[int, memoryview] = {}

    def path(self, number: int) -> Path:
        """The name of one of them."""
        return self._prefix.with_name(f"{self._prefix.name}.data-{number:05d}-of-{self.count:05d}")

    def read(self, number: int, offset: int, size: int, name: str) -> memoryview:
        """Bytes of one of them; ``name`` is the tensor's.

        Raises:
            InputError: there is no such file, or it is too short.
        """
        if number not in self._open:
            if not 0 <= number < self.count:
                raise InputError(
                    f"{name!r} is said to be in part {number} of {self.count}: the index is damaged"
                )
            path = self.path(number)
            if not is_file(path):
                raise InputError(
                    f"{path} is missing, which holds {name!r}: a checkpoint needs all of its "
                    f"{self.count} data files"
                )
            self._open[number] = read_file(path)
        data = self._open[number]
        if offset < 0 or size < 0 or offset + size > len(data):
            raise InputError(
                f"{self.path(number)} is cut short: {name!r} needs bytes {offset} to "
                f"{offset + size}, the file has {len(data)}"
            )
        return data[offset : offset + size]


def read_bundle(prefix: Path, index: memoryview, check: bool) -> Dict[str, StoredTensor]:
    """The tensors of a V2 checkpoint by name; nothing of the data is read yet.

    Args:
        prefix: of the files.
        index: the bytes of PREFIX.index.
        check: compare each tensor that is read with its CRC.

    Raises:
        InputError: the index is damaged, or written on a machine of the other byte order.
    """
    found = {entry.key: entry.value for entry in entries(index)}
    if b"" not in found:
        raise InputError("the index has no header: the file is damaged")
    shards = Shards(prefix, _header(Message(found.pop(b""))))
    messages = {key: Message(value) for key, value in found.items()}
    slices = {key for key in messages if key[:1] == b"\x00"}
    reader = _Reader(shards, messages, check)
    tensors = {}
    for key, message in messages.items():
        if key not in slices:
            name = text(key, 0, len(key), "a tensor's name")
            tensors[name] = reader.tensor(name, message)
    return tensors


def _header(header: Message) -> int:
    if header.number(_ENDIANNESS):
        raise InputError("the checkpoint is of a big-endian machine, which graphwq does not read")
    needed = Message(header.buffer(_VERSION)).number(_MIN_CONSUMER)
    if needed > _OUR_VERSION:
        raise InputError(f"the checkpoint is of a later format (version {needed})")
    count = header.number(_NUM_SHARDS)
    if not 0 <= count <= _MAX_SHARDS:
        raise InputError(f"the index speaks of {count} data files: it is damaged")
    return count


class _Reader:
    def __init__(self, shards: Shards, messages: Dict[bytes, Message], check: bool) -> None:
        self._shards = shards
        self._messages = messages
        self._check = check

    def tensor(self, name: str, message: Message) -> StoredTensor:
        dtype = message.number(_DTYPE)
        shape = read_shape(Message(message.buffer(_SHAPE)), name)
        pieces: List[Piece] = []
        for item in message.messages(_SLICES):
            region, written = extents(item, shape)
            part = self._messages.get(slice_key(name, written))
            if part is None:
                raise InputError(f"the slice {list(written)} of {name!r} is not in the index")
            pieces.append(self._piece(name, dtype, region, part))
        if not pieces:
            pieces = [self._piece(name, dtype, whole(shape), message)]
        return StoredTensor(name, dtype, shape, tuple(pieces))

    def _piece(self, name: str, dtype: int, region: Region, entry: Message) -> Piece:
        place = (entry.number(_SHARD), entry.number(_OFFSET), entry.number(_SIZE))
        crc = entry.number(_CRC)

        def read() -> memoryview:
            if dtype in dtypes.NUMPY and place[2] != nbytes(dtype, region):
                raise InputError(
                    f"{name!r} has {place[2]} bytes in the checkpoint, its shape needs "
                    f"{nbytes(dtype, region)}: the index is damaged"
                )
            if not place[2]:
                return memoryview(b"")
            data = self._shards.read(*place, name)
            if self._check and dtype in dtypes.NUMPY and not matches(data, crc):
                raise InputError(
                    f"the checksum of {name!r} is wrong: {self._shards.path(place[0])} is damaged, "
                    "copy it again from where it came"
                )
            return data

        return Piece(region, read)


def read_strings(tensor: StoredTensor) -> Tuple[bytes, ...]:
    """The values of a tensor of strings: their lengths, a CRC of these, and the bytes.

    Raises:
        InputError: the data is damaged.
    """
    from graphwq.graphdef.wire import read_varint

    data = tensor.pieces[0].read()
    position = 0
    lengths = []
    count = 1
    for size in tensor.shape:
        count *= size
    try:
        for _ in range(count):
            length, position = read_varint(data, position, len(data))
            lengths.append(length)
    except WireError as error:
        raise InputError(f"the strings of {tensor.name!r} are damaged") from error
    position += 4
    values = []
    for length in lengths:
        values.append(bytes(data[position : position + length]))
        position += length
    if position != len(data):
        raise InputError(f"the strings of {tensor.name!r} are damaged")
    return tuple(values)
