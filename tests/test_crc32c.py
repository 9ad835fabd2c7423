"""graphdef/crc32c.py: the checksum of checkpoints."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphwq.graphdef import crc32c as module
from graphwq.graphdef.crc32c import FOUR_TERMS, crc32c, masked, matches

_POLYNOMIAL = 0x82F63B78


def _reference(data: bytes) -> int:
    """Bit by bit, from the definition."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (_POLYNOMIAL if state & 1 else 0)
    return state ^ 0xFFFFFFFF


#: RFC 3720, appendix B.4.
_VECTORS = {
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
    b"123456789": 0xE3069283,
    b"": 0,
}


@pytest.mark.parametrize("data", sorted(_VECTORS), ids=lambda data: repr(data[:8]))
def test_known_values(data: bytes) -> None:
    """The examples of the standard."""
    assert crc32c(memoryview(data)) == _VECTORS[data] == _reference(data)


@given(st.binary(max_size=5000))
def test_short_data(data: bytes) -> None:
    """Any bytes around the first stages: what the definition gives."""
    assert crc32c(memoryview(data)) == _reference(data)


def _stages() -> List[int]:
    row, words = 1024, 8 * FOUR_TERMS[0]
    sizes = [2 * row + d for d in (-1, 0, 1, 3, 1023)]
    sizes += [words + row + d for d in (-9, -8, -1, 0, 1, 7, 8, 9, 1023, 1024, 40000)]
    return sizes + [3 * words + 5, 200_001]


@pytest.mark.parametrize("size", _stages())
def test_long_data(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage of the folding, at its borders, equals the walk byte by byte."""
    data = np.random.RandomState(size).bytes(size)
    expected = module._bytewise(data, 0xFFFFFFFF) ^ 0xFFFFFFFF
    assert crc32c(memoryview(data)) == expected
    monkeypatch.setattr("graphwq.graphdef.mapping._STEP", 60_001)
    assert crc32c(memoryview(data)) == expected


def test_the_four_terms_are_a_multiple_of_the_divisor() -> None:
    """x^(64 a) + x^(64 b) + x^(64 c) + 1 leaves no remainder."""
    step = module._shifted(1 << 31, 8)
    power, powers = 1 << 31, [1 << 31]
    for _ in range(FOUR_TERMS[0]):
        power = module._product(power, step)
        powers.append(power)
    assert powers[FOUR_TERMS[0]] ^ powers[FOUR_TERMS[1]] ^ powers[FOUR_TERMS[2]] == 1 << 31


def test_mask_and_comparison() -> None:
    """The mask of TensorFlow's crc32c.h: rotated by 15, plus a constant; one bit off is off."""
    data = memoryview(b"a tensor")
    crc = crc32c(data)
    assert masked(0) == 0xA282EAD8
    assert masked(crc) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % (1 << 32)
    assert matches(data, masked(crc))
    assert not matches(data, masked(crc) ^ 1)
    assert not matches(data, crc)
