"""graphdef/sstable.py, snappy.py and orderedcode.py: the tables in which checkpoints keep keys."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
from checkpoints import snappy, table
from hypothesis import given
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.graphdef.orderedcode import slice_key
from graphwq.graphdef.snappy import uncompress
from graphwq.graphdef.sstable import entries, is_table
from graphwq.graphdef.wire import varint

_ITEMS = {b"": b"head", b"a": b"1" * 100, b"ab": b"2" * 100, b"abc/d": b"", b"b": b"x" * 300}
_CONTENTS = st.dictionaries(st.binary(max_size=20), st.binary(max_size=90), min_size=1, max_size=60)


def _read(data: bytes, **options: Any) -> List[Tuple[bytes, bytes]]:
    return [(entry.key, bytes(entry.value)) for entry in entries(memoryview(data), **options)]


@given(_CONTENTS, st.sampled_from([1, 60, 500, 4096]), st.booleans())
def test_round_trip(content: Dict[bytes, bytes], block_size: int, compress: bool) -> None:
    """What is written is read in the order of the keys, whatever the blocks and compression."""
    data = table(content.items(), block_size, compress)
    assert is_table(memoryview(data))
    assert _read(data) == sorted(content.items())


def test_values_are_slices_of_the_file() -> None:
    """Without compression nothing is copied."""
    data = memoryview(table(_ITEMS.items()))
    assert all(entry.value.obj is data.obj for entry in entries(data))


@pytest.mark.parametrize("compress", [False, True])
def test_every_byte_counts(compress: bool) -> None:
    """No byte of a block can change unseen: wrong checksum, or another damage, or the same keys."""
    good = table(_ITEMS.items(), 200, compress)
    for place in range(len(good) - 48):
        bad = bytearray(good)
        bad[place] ^= 0x21
        try:
            found = _read(bytes(bad))
        except InputError:
            continue
        # the empty block of metadata is not read
        assert found == sorted(_ITEMS.items()), place


def test_every_cut() -> None:
    """A table that lacks anything is no table."""
    good = table(_ITEMS.items(), 200)
    for length in range(len(good)):
        with pytest.raises(InputError, match="cut short|damaged|outside"):
            _read(good[:length])


def test_the_checksum_of_a_block_can_wait() -> None:
    """check=False reads the keys; the block that is asked for is compared then."""
    good = bytearray(table(_ITEMS.items(), 4096))
    good[good.index(b"x" * 300)] = 0
    found = list(entries(memoryview(bytes(good)), check=False))
    assert len(found) == len(_ITEMS)
    with pytest.raises(InputError, match="checksum"):
        found[0].block.check()
    with pytest.raises(InputError, match="checksum"):
        _read(bytes(good))


# ------------------------------------------------------------------------------- snappy


@given(st.binary(max_size=400), st.integers(1, 40), st.binary(max_size=9))
def test_snappy_round_trip(data: bytes, times: int, end: bytes) -> None:
    """Repetitions near and far, literals short and long."""
    plain = data * times + end
    assert uncompress(memoryview(snappy(plain))) == plain


def test_snappy_by_hand() -> None:
    """From format_description.txt: a literal, and copies of all three kinds."""
    literal = b"\x10abcde"  # (5 - 1) << 2
    assert uncompress(memoryview(b"\x05" + literal)) == b"abcde"
    overlapping = b"\x0a" + literal + bytes([1 | (5 - 4) << 2, 2])
    assert uncompress(memoryview(overlapping)) == b"abcdededed"
    two = b"\x08" + literal + bytes([2 | (3 - 1) << 2, 5, 0])
    assert uncompress(memoryview(two)) == b"abcdeabc"
    four = b"\x08" + literal + bytes([3 | (3 - 1) << 2, 5, 0, 0, 0])
    assert uncompress(memoryview(four)) == b"abcdeabc"
    long = varint(70) + bytes([60 << 2, 69]) + b"z" * 70
    assert uncompress(memoryview(long)) == b"z" * 70


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x10abcd",
        b"\x06\x10abcde",
        b"\x04\x10abcde",
        b"\x09\x10abcde\x01\x00",
        b"\x09\x10abcde\x01\x06",
        b"\x09\x10abcde\x02\x05",
        b"\xff\xff\xff\xff\x0f\x00a",
        b"\x05\xf0",
        b"\x07\x10abcde" + bytes([2 | (2 - 1) << 2, 8, 0]),
    ],
)
def test_broken_snappy(data: bytes) -> None:
    """Cut, a lying length, a copy of nothing or from before the start, a size beyond reason."""
    with pytest.raises(InputError):
        uncompress(memoryview(data))


# -------------------------------------------------------------------------------- keys


def test_slice_keys_by_hand() -> None:
    """The bytes that ordered_code.cc makes."""
    assert slice_key("w", ()) == b"\x00w\x00\x01\x00"
    assert slice_key("w", ((0, -1),)) == b"\x00w\x00\x01\x01\x01\x80\x7f"
    assert slice_key("w", ((63, 64),)) == b"\x00w\x00\x01\x01\x01\xbf\xc0\x40"
    assert slice_key("w", ((8191, 8192),)) == b"\x00w\x00\x01\x01\x01\xdf\xff\xe0\x20\x00"
    assert slice_key("a\x00b", ()) == b"\x00a\x00\xffb\x00\x01\x00"


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(-1, 2**62)), min_size=2, max_size=2))
def test_slice_keys_sort_like_their_numbers(pairs: List[Tuple[int, int]]) -> None:
    """That is what an ordered code is for, and it is one to one."""
    left, right = (slice_key("w", (pair,)) for pair in pairs)
    assert (left < right, left == right) == (pairs[0] < pairs[1], pairs[0] == pairs[1])
