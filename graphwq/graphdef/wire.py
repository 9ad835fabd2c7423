"""The protobuf wire format: just enough to cut a message into its fields without losing a byte.

Source of the format: https://protobuf.dev/programming-guides/encoding/. Nothing here interprets a
field; a field is a slice of the buffer it came from, so untouched bytes are never copied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Iterator, Tuple, Union

from graphwq.errors import InputError

Buffer = Union[bytes, memoryview]

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5

#: (field number, wire type, offset of the tag, offset of the value, end of the field)
Field = Tuple[int, int, int, int, int]


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))


class WireError(InputError):
    """The bytes are not a protobuf message."""


def read_varint(buffer: Buffer, position: int, end: int) -> Tuple[int, int]:
    """Return (value, position behind it) of the base-128 varint at ``position``.

    Raises:
        WireError: the varint runs past ``end`` or is longer than ten bytes.
    """
    result = shift = 0
    while position < end:
        byte = buffer[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
        if shift >= 70:
            raise WireError(f"varint of more than ten bytes at byte {position}")
    raise WireError(f"the data ends inside a number at byte {end}")


def fields(buffer: Buffer, position: int = 0, end: int = -1) -> Iterator[Field]:
    """Yield the fields of the message ``buffer[position:end]`` in file order.

    For a varint or fixed field, value offset..end is the value; for a length-delimited field it is
    the payload without its length.

    Raises:
        WireError: the bytes are not a sequence of complete fields.
    """
    if end < 0:
        end = len(buffer)
    while position < end:
        begin = position
        tag = buffer[position]
        position += 1
        if tag >= 0x80:
            tag, position = read_varint(buffer, begin, end)
        wire_type = tag & 7
        number = tag >> 3
        if number == 0 or number > 0x1FFFFFFF:
            raise WireError(f"field number {number} at byte {begin} is not legal")
        if wire_type == LENGTH_DELIMITED:
            if position >= end:
                raise WireError(f"the data ends inside a field at byte {end}")
            size = buffer[position]
            if size < 0x80:
                value = position + 1
            else:
                size, value = read_varint(buffer, position, end)
            position = value + size
        elif wire_type == VARINT:
            value = position
            _, position = read_varint(buffer, position, end)
        elif wire_type in (FIXED32, FIXED64):
            value = position
            position += 4 if wire_type == FIXED32 else 8
        else:
            raise WireError(f"wire type {wire_type} at byte {begin} is not one that protobuf 3 has")
        if position > end:
            raise WireError(
                f"a field at byte {begin} claims to end at byte {position}, the data ends at {end}"
            )
        yield number, wire_type, begin, value, position


def varint(value: int) -> bytes:
    """Encode a number >= 0 as a base-128 varint."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, wire_type: int = LENGTH_DELIMITED) -> bytes:
    """Encode the tag of a field."""
    return varint(number << 3 | wire_type)


def delimited(number: int, payload: bytes) -> bytes:
    """Encode a length-delimited field (string, bytes, message)."""
    return header(number, len(payload)) + payload


@lru_cache(maxsize=4096)
def header(number: int, size: int) -> bytes:
    """Encode tag and length of a length-delimited field whose payload follows elsewhere."""
    return tag(number) + varint(size)


def text(buffer: Buffer, begin: int, end: int, what: str) -> str:
    """Decode ``buffer[begin:end]`` as UTF-8.

    Raises:
        WireError: the bytes are not UTF-8; the message names ``what``.
    """
    try:
        return str(buffer[begin:end], "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"{what} at byte {begin} is not UTF-8 text") from error
