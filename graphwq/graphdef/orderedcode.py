"""The key under which a checkpoint keeps one slice of a tensor.

Source of the format: tensorflow/core/util/saved_tensor_slice_util.cc (EncodeTensorNameSlice) and
tensorflow/core/lib/strings/ordered_code.cc: numbers and texts as bytes that sort like they do.
"""

from __future__ import annotations

from typing import Sequence, Tuple

#: What marks the length of a number in its first bytes, by length.
_HEADERS = (0, 0x80, 0xC0, 0xE0, 0xF0, 0xF8, 0xFC, 0xFE, 0xFF, 0xFF80, 0xFFC0)


def slice_key(name: str, written: Sequence[Tuple[int, int]]) -> bytes:
    """The key of the slice with these (start, length) pairs; a length of -1 is all of an axis."""
    key = _unsigned(0) + _text(name.encode()) + _unsigned(len(written))
    return key + b"".join(_signed(start) + _signed(length) for start, length in written)


def _unsigned(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _text(value: bytes) -> bytes:
    escaped = b"".join(
        {0: b"\x00\xff", 0xFF: b"\xff\x00"}.get(byte, bytes([byte])) for byte in value
    )
    return escaped + b"\x00\x01"


def _signed(value: int) -> bytes:
    magnitude = ~value if value < 0 else value
    size = magnitude.bit_length() // 7 + 1
    number = value & ((1 << 8 * size) - 1)
    header = _HEADERS[size]
    shift = 8 * (size - (2 if header > 0xFF else 1))
    return (number ^ header << shift).to_bytes(size, "big")
