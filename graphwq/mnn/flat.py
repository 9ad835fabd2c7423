"""Reading FlatBuffers: tables, vectors and strings as views of the file, every offset checked.

Source of the format: https://flatbuffers.dev/internals/. Only what a ``.mnn`` file needs; the
``flatbuffers`` package would be one more dependency and trusts its input.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

from graphwq.errors import InputError

#: A file is read no more often than this, and some bytes more where it is tiny.
_READS, _MORE = 16, 1 << 16


class FlatError(InputError):
    """The bytes are not a FlatBuffer of the expected form."""


class Budget:
    """How many bytes of vectors and texts may still be read of one file.

    Offsets may lead to the same bytes again and again, so that a small file could stand for any
    amount of data.
    """

    def __init__(self, nbytes: int) -> None:
        self._left = _READS * nbytes + _MORE

    def spend(self, nbytes: int) -> None:
        """Count bytes that are read.

        Raises:
            FlatError: there is nothing left.
        """
        self._left -= nbytes
        if self._left < 0:
            raise FlatError("the same bytes are used again and again: the file is damaged")


@dataclass(frozen=True)
class Table:
    """A table at ``position`` of ``buffer``; fields are named by their number in the schema."""

    buffer: memoryview
    position: int
    budget: Budget

    def integer(self, field: int, form: str = "<i", default: int = 0) -> int:
        """A scalar field in the given ``struct`` form; ``default`` where the table leaves it out.

        Raises:
            FlatError: the offset leaves the file.
        """
        place = self._place(field)
        return default if place is None else _unpack(self.buffer, place, form)

    def table(self, field: int) -> Optional[Table]:
        """A table field, or None."""
        place = self._place(field)
        return (
            None if place is None else Table(self.buffer, _follow(self.buffer, place), self.budget)
        )

    def text(self, field: int) -> str:
        """A string field; "" where the table leaves it out."""
        place = self._place(field)
        return "" if place is None else _text(self, _follow(self.buffer, place))

    def texts(self, field: int) -> Tuple[str, ...]:
        """A vector of strings."""
        return tuple(_text(self, _follow(self.buffer, place)) for place in self._each(field))

    def tables(self, field: int) -> Tuple[Table, ...]:
        """A vector of tables."""
        places = self._each(field)
        return tuple(
            Table(self.buffer, _follow(self.buffer, place), self.budget) for place in places
        )

    def vector(self, field: int, dtype: str) -> np.ndarray:
        """A vector of scalars as a read-only array that shares the file's memory."""
        place = self._place(field)
        item = np.dtype(dtype)
        if place is None:
            return np.empty(0, item)
        begin, count = _vector(self, _follow(self.buffer, place), item.itemsize)
        return np.frombuffer(self.buffer, item, count, begin)

    def _each(self, field: int) -> Tuple[int, ...]:
        place = self._place(field)
        if place is None:
            return ()
        begin, count = _vector(self, _follow(self.buffer, place), 4)
        return tuple(range(begin, begin + 4 * count, 4))

    def _place(self, field: int) -> Optional[int]:
        """Where a field stands in the file; None where the table leaves it out."""
        vtable = self.position - _unpack(self.buffer, self.position, "<i")
        entry = 4 + 2 * field
        if entry + 2 > _unpack(self.buffer, vtable, "<H"):
            return None
        offset = _unpack(self.buffer, vtable + entry, "<H")
        return self.position + offset if offset else None


def root(buffer: memoryview) -> Table:
    """The root table of a file.

    Raises:
        FlatError: too short, or the root lies outside.
    """
    return Table(buffer, _follow(buffer, 0), Budget(len(buffer)))


def _unpack(buffer: memoryview, place: int, form: str) -> int:
    if place < 0 or place + struct.calcsize(form) > len(buffer):
        raise FlatError(f"an offset leads to byte {place} of {len(buffer)}")
    value: int = struct.unpack_from(form, buffer, place)[0]
    return value


def _follow(buffer: memoryview, place: int) -> int:
    target = place + _unpack(buffer, place, "<I")
    _unpack(buffer, target, "<i")
    return target


def _vector(table: Table, place: int, item: int) -> Tuple[int, int]:
    buffer = table.buffer
    count = _unpack(buffer, place, "<I")
    if place + 4 + count * item > len(buffer):
        raise FlatError(f"a vector of {count} elements at byte {place} runs past {len(buffer)}")
    table.budget.spend(count * item)
    return place + 4, count


def _text(table: Table, place: int) -> str:
    buffer = table.buffer
    begin, count = _vector(table, place, 1)
    try:
        return str(buffer[begin : begin + count], "utf-8")
    except UnicodeDecodeError as error:
        raise FlatError(f"the text at byte {begin} is not UTF-8") from error
