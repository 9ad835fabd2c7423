"""quant/packing.py: codes of 2..8 bits in bytes, without a wasted bit."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.quant.packing import (
    ONE_BIT,
    Plane,
    bit_weights,
    pack,
    pack_bits,
    packed_nbytes,
    planes,
    table,
    unpack,
)

WIDTHS = range(2, 8)


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (2, [(2, 0, -2)]),
        (3, [(2, 1, -4), (1, 0, 0)]),
        (4, [(4, 0, -8)]),
        (5, [(4, 1, -16), (1, 0, 0)]),
        (6, [(4, 2, -32), (2, 0, 0)]),
        (7, [(4, 3, -64), (2, 1, 0), (1, 0, 0)]),
    ],
)
def test_the_planes_of_each_width(bits: int, expected: List[tuple]) -> None:
    """3 = 2+1, 5 = 4+1, 6 = 4+2, 7 = 4+2+1; the first plane carries the whole offset."""
    assert [(plane.bits, plane.shift, plane.offset) for plane in planes(bits)] == expected


@pytest.mark.parametrize(("bits", "per_byte"), [(4, 2), (2, 4), (1, 8)])
def test_codes_in_a_byte(bits: int, per_byte: int) -> None:
    """A plane of p bits holds 8/p codes in a byte, the last byte may not be full."""
    plane = Plane(bits, 0, 0)
    assert plane.per_byte == per_byte
    assert [plane.nbytes(count) for count in (0, 1, per_byte, per_byte + 1)] == [0, 1, 1, 2]


def test_eight_bits_are_not_packed() -> None:
    """They are int8 as they are; asking for planes is our own mistake."""
    with pytest.raises(ValueError, match="stored as int8, not packed"):
        planes(8)


@pytest.mark.parametrize("bits", [1, 9, 0])
def test_widths_that_do_not_exist(bits: int) -> None:
    """As everywhere: 2..8."""
    with pytest.raises(InputError):
        planes(bits)


def test_packing_by_hand() -> None:
    """The first code stands in the lowest bits; u = q + 2^(b-1)."""
    two = np.array([-2, -1, 0, 1, 1], np.int8)  # u = 0 1 2 3 3
    (packed,) = pack(two, 2)
    assert packed.dtype == np.uint8
    assert packed.tolist() == [0b11_10_01_00, 0b00_00_00_11]
    (packed,) = pack(np.array([-8, 7, 1], np.int8), 4)  # u = 0 15 9
    assert packed.tolist() == [0xF0, 0x09]
    high, low = pack(np.array([-4, 3, 1, -1, 0], np.int8), 3)  # u = 000 111 101 011 100
    assert high.tolist() == [0b01_10_11_00, 0b00_00_00_10]
    assert low.tolist() == [0b0000_1110]
    top, middle, last = pack(np.array([63, -64, 2], np.int8), 7)  # u = 1111111 0 1000010
    assert top.tolist() == [0x0F, 0x08]
    assert middle.tolist() == [0b00_01_00_11]
    assert last.tolist() == [0b001]


def test_bits_by_hand() -> None:
    """Byte k holds bit k of eight codes, the first code in the lowest bit."""
    codes = np.array([1, 0, 0, 0, 0, 0, 0, -1, 2, 2, -4, -4, 3, 0, 0, 1], np.int8)
    assert pack_bits(codes, 3).tolist() == [
        [0b1000_0001, 0b1000_0000, 0b1000_0000],
        [0b1001_0000, 0b0001_0011, 0b0000_1100],
    ]
    assert bit_weights(3).tolist() == [1, 2, -4]
    assert bit_weights(3).dtype == np.float32


def test_bits_of_a_ragged_number_of_codes() -> None:
    """The last bytes are filled with zeros."""
    assert pack_bits(np.array([-1] * 9, np.int8), 2).tolist() == [[255, 255], [1, 1]]
    assert pack_bits(np.array([[1], [-2]], np.int8), 3).tolist() == [[1, 2, 2]]


@pytest.mark.parametrize("bits", WIDTHS)
def test_bits_hold_every_code(bits: int) -> None:
    """Law: the sum of the bits, weighted, is the code; the bytes are as many as the planes'."""
    codes = np.random.RandomState(bits).randint(-(1 << (bits - 1)), 1 << (bits - 1), (6, 4, 8))
    packed = pack_bits(codes.astype(np.int8), bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (24, bits)
    assert packed.nbytes == packed_nbytes(codes.size, bits)
    digits = table(ONE_BIT)[packed]  # [24, bits, 8]
    assert np.array_equal((digits * bit_weights(bits)[:, None]).sum(1), codes.reshape(24, 8))


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33])
def test_unpacking_inverts_packing(bits: int, count: int) -> None:
    """Every code of the width, at every place of the byte, for lengths with and without a tail."""
    codes = np.arange(-(1 << (bits - 1)), 1 << (bits - 1)).astype(np.int8)
    for shift in range(0, len(codes), max(1, count // 2)):
        row = np.resize(np.roll(codes, shift), count)
        back = unpack(pack(row, bits), bits, count)
        assert back.dtype == np.int8
        assert back.tolist() == row.tolist()


@given(
    st.integers(2, 7),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(0, 2**31 - 1),
)
def test_packing_runs_along_the_last_axis(bits: int, shape: List[int], seed: int) -> None:
    """Rows are packed by themselves: each starts with a new byte."""
    half = 1 << (bits - 1)
    codes = np.random.RandomState(seed).randint(-half, half, shape).astype(np.int8)
    packed = pack(codes, bits)
    for plane, stored in zip(planes(bits), packed):
        assert stored.shape == (*shape[:-1], plane.nbytes(shape[-1]))
    assert np.array_equal(unpack(packed, bits, shape[-1]), codes)
    first = tuple(np.array([0] * (len(shape) - 1), int))
    alone = pack(codes[first], bits)
    assert all(np.array_equal(a, b[first]) for a, b in zip(alone, packed))


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_tail_of_the_last_byte_is_zero(bits: int) -> None:
    """Bytes do not depend on what happened to be in memory (law 8)."""
    codes = np.full(9, (1 << (bits - 1)) - 1, np.int8)
    for plane, stored in zip(planes(bits), pack(codes, bits)):
        used = 9 - (plane.nbytes(9) - 1) * plane.per_byte
        assert int(stored[-1]) >> (used * plane.bits) == 0


@pytest.mark.parametrize("bits", WIDTHS)
def test_the_tables_decode_every_byte(bits: int) -> None:
    """Summing the rows of the tables gives the code: q = sum(digit * weight) - 2^(b-1)."""
    half = 1 << (bits - 1)
    codes = np.arange(-half, half).astype(np.int8)
    packed = pack(codes, bits)
    total = np.zeros(len(codes))
    for plane, stored in zip(planes(bits), packed):
        rows = table(plane)
        assert rows.shape == (256, plane.per_byte)
        assert rows.dtype == np.float32
        total += rows[stored].reshape(-1)[: len(codes)]
    assert total.tolist() == codes.tolist()


def test_a_table_by_hand() -> None:
    """Byte 0b11_10_01_00 of a two-bit plane at shift 1 with offset -4."""
    rows = table(Plane(2, 1, -4))
    assert rows[0b11_10_01_00].tolist() == [-4, -2, 0, 2]


@pytest.mark.parametrize(
    ("count", "bits", "nbytes"),
    [
        (8, 2, 2),
        (9, 2, 3),
        (8, 3, 3),
        (9, 3, 5),
        (8, 4, 4),
        (8, 5, 5),
        (8, 6, 6),
        (8, 7, 7),
        (9, 8, 9),
    ],
)
def test_bytes_of_packed_codes(count: int, bits: int, nbytes: int) -> None:
    """Eight codes of b bits take b bytes exactly."""
    assert packed_nbytes(count, bits) == nbytes
    if bits < 8:
        codes = np.zeros(count, np.int8)
        assert sum(stored.nbytes for stored in pack(codes, bits)) == nbytes


@pytest.mark.parametrize("bits", WIDTHS)
def test_large_arrays_cost_num_bits_per_weight(bits: int) -> None:
    """The file really costs num_bits per weight."""
    assert packed_nbytes(1 << 20, bits) * 8 == bits << 20


def test_packing_leaves_the_codes_alone() -> None:
    """Arrays are values."""
    codes = np.array([[1, -1, 0]], np.int8)
    codes.flags.writeable = False
    assert unpack(pack(codes, 2), 2, 3).tolist() == [[1, -1, 0]]
