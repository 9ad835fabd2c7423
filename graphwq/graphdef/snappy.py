"""Decompression of snappy blocks, which TensorFlow 1.1 and some of its kin wrote into tables.

Source of the format: https://github.com/google/snappy/blob/main/format_description.txt. Plain
Python: an index is some kilobytes. The tensors of a V2 checkpoint are never compressed.
"""

from __future__ import annotations

from graphwq.errors import InputError
from graphwq.graphdef.wire import read_varint

_LITERAL, _ONE_BYTE_OFFSET, _TWO_BYTE_OFFSET = 0, 1, 2
#: No element makes more than this of one byte: a larger promise is a lie.
_MAX_GROWTH = 64


def uncompress(data: memoryview) -> bytes:
    """The bytes that a snappy block stands for.

    Raises:
        InputError: the block is damaged.
    """
    size, position = read_varint(data, 0, len(data))
    if size > _MAX_GROWTH * len(data):
        raise InputError("a compressed block claims more than it can hold: the file is damaged")
    out = bytearray()
    end = len(data)
    while position < end:
        tag = data[position]
        position += 1
        kind, upper = tag & 3, tag >> 2
        if kind == _LITERAL:
            length = upper + 1
            if upper >= 60:
                length = _number(data, position, upper - 59) + 1
                position += upper - 59
            if position + length > end:
                raise _damaged()
            out += data[position : position + length]
            position += length
        else:
            if kind == _ONE_BYTE_OFFSET:
                length, extra = (upper & 7) + 4, 1
                offset = (upper >> 3) << 8 | _number(data, position, 1)
            else:
                length, extra = upper + 1, 2 if kind == _TWO_BYTE_OFFSET else 4
                offset = _number(data, position, extra)
            position += extra
            _copy(out, offset, length)
        if len(out) > size:
            raise _damaged()
    if len(out) != size:
        raise _damaged()
    return bytes(out)


def _copy(out: bytearray, offset: int, length: int) -> None:
    if not 0 < offset <= len(out):
        raise _damaged()
    begin = len(out) - offset
    if offset >= length:
        out += out[begin : begin + length]
    else:  # the copy runs into what it writes: the bytes repeat
        pattern = bytes(out[begin:])
        out += (pattern * (length // offset + 1))[:length]


def _number(data: memoryview, position: int, size: int) -> int:
    if position + size > len(data):
        raise _damaged()
    return int.from_bytes(data[position : position + size], "little")


def _damaged() -> InputError:
    return InputError("a compressed block cannot be read: the file is damaged")
