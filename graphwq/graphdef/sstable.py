"""Sorted tables (the table format of LevelDB), in which checkpoints keep their index.

Source of the format: https://github.com/google/leveldb/blob/main/doc/table_format.md and
tensorflow/core/lib/io/format.cc. A table is data blocks, an index block with the place of each,
and a footer; a block is entries whose keys share prefixes, and ends in the offsets of those that do
not (not needed to read all entries). Behind each block stand one byte (0 plain, 1 snappy) and the
masked CRC of block and byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, List, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.crc32c import matches
from graphwq.graphdef.snappy import uncompress
from graphwq.graphdef.wire import WireError, read_varint

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER, _TRAILER = 48, 5
_PLAIN, _SNAPPY = 0, 1
#: A table of more entries than this and one for each so many bytes is no checkpoint.
_FEW_ENTRIES, _ENTRY_BYTES = 1000, 4
#: Keys hold the name of a tensor and its slice.
_MAX_KEY = 1 << 20
#: All keys of a table together (an entry of three bytes can repeat a long key).
_MAX_KEYS = 1 << 26


@dataclass(frozen=True)
class Block:
    """A block of a table.

    Attributes:
        content: the entries and restart points; a slice of the file unless it was compressed.
        checked: what the CRC is of (block and type), and the CRC as stored.
        compressed: whether ``content`` is a copy.
    """

    content: memoryview
    checked: Tuple[memoryview, int]
    compressed: bool

    def check(self) -> None:
        """Compare the block with its CRC.

        Raises:
            InputError: they differ.
        """
        data, stored = self.checked
        if not matches(data, stored):
            raise InputError(
                "the checksum of a block is wrong: the file is damaged, copy it again from where "
                "it came"
            )


@dataclass(frozen=True)
class Entry:
    """One key of a table, its value (a slice of the block) and the block."""

    key: bytes
    value: memoryview
    block: Block


def is_table(data: memoryview) -> bool:
    """Whether the bytes end like a table."""
    return len(data) >= FOOTER and bytes(data[-8:]) == MAGIC


def entries(data: memoryview, check: bool = True) -> Iterator[Entry]:
    """The entries of a table in the order of the file.

    Args:
        data: the whole file.
        check: compare every data block with its CRC; the index block is always compared.

    Raises:
        InputError: not a table, or a damaged one.
    """
    if not is_table(data):
        raise InputError(
            "the file does not end like a checkpoint's table: it is cut short, or something else"
        )
    try:
        yield from _entries(data, check)
    except WireError as error:
        raise InputError(f"the table is damaged ({error}): copy it again") from error


def _entries(data: memoryview, check: bool) -> Iterator[Entry]:
    footer = data[-FOOTER:]
    _, position = _handle(footer, 0)
    place, _ = _handle(footer, position)
    index = _block(data, *place)
    index.check()
    most = _FEW_ENTRIES + len(data) // _ENTRY_BYTES
    count = keys = end = 0
    for _, value in _block_entries(index.content):
        offset, size = _handle(value, 0)[0]
        if offset < end:
            raise InputError("two blocks of the table overlap: the file is damaged")
        end = offset + size
        block = _block(data, offset, size)
        if check or block.compressed:
            block.check()
        for key, content in _block_entries(block.content):
            count += 1
            keys += len(key)
            if count > most or keys > _MAX_KEYS:
                raise InputError("the table has more entries than any checkpoint: it is damaged")
            yield Entry(key, content, block)


def _handle(data: memoryview, position: int) -> Tuple[Tuple[int, int], int]:
    offset, position = read_varint(data, position, len(data))
    size, position = read_varint(data, position, len(data))
    return (offset, size), position


def _block(data: memoryview, offset: int, size: int) -> Block:
    end = offset + size
    if end + _TRAILER > len(data) - FOOTER + _TRAILER or end + _TRAILER > len(data):
        raise InputError("a block of the table lies outside of the file: it is cut short")
    kind = data[end]
    stored = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    checked = (data[offset : end + 1], stored)
    if kind == _PLAIN:
        return Block(data[offset:end], checked, False)
    if kind == _SNAPPY:
        return Block(memoryview(uncompress(data[offset:end])), checked, True)
    raise InputError(f"a block of the table has the unknown compression {kind}: it is damaged")


def _block_entries(block: memoryview) -> Iterator[Tuple[bytes, memoryview]]:
    end = _entries_end(block)
    position, key = 0, b""
    while position < end:
        numbers: List[int] = []
        for _ in range(3):
            number, position = read_varint(block, position, end)
            numbers.append(number)
        shared, own, size = numbers
        if shared > len(key) or shared + own > _MAX_KEY or position + own + size > end:
            raise InputError("an entry of the table does not fit its block: the file is damaged")
        key = key[:shared] + bytes(block[position : position + own])
        position += own
        yield key, block[position : position + size]
        position += size


def _entries_end(block: memoryview) -> int:
    if len(block) < 4:
        raise InputError("a block of the table is too short: the file is damaged")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise InputError("a block of the table has lost its end: the file is damaged")
    return end
