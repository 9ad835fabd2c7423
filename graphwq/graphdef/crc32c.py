"""CRC-32C (Castagnoli), as the checkpoint formats use it, at the speed of numpy's xor.

A CRC is the remainder of the data, read as a polynomial over GF(2). Long data is folded with a
multiple of the divisor that has four terms only: a word is dropped and xored onto three words
behind it, thousands of words at once. What is left is folded row by row by table look-ups, and the
last kilobyte goes byte by byte. Source of the format: RFC 3720, appendix B.4; of the mask:
tensorflow/core/lib/hash/crc32c.h.
"""

from __future__ import annotations

from functools import lru_cache
from typing import List, Tuple

import numpy as np

from graphwq.graphdef.mapping import pieces

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_MASK_DELTA = 0xA282EAD8
#: x^(64 a) + x^(64 b) + x^(64 c) + 1 is a multiple of the divisor (found by search, see the test).
FOUR_TERMS = (5685, 1362, 426)
#: Bytes in a row of the second stage.
_ROW = 1024


def _table() -> List[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: memoryview) -> int:
    """The CRC-32C of the bytes."""
    return _finish(data, _ONES) ^ _ONES


def masked(crc: int) -> int:
    """A CRC as it is stored beside the data it is of."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _ONES


def matches(data: memoryview, stored: int) -> bool:
    """Whether data has the CRC that is stored (masked) for it."""
    return masked(crc32c(data)) == stored


def _finish(data: memoryview, state: int) -> int:
    """The register after ``data`` when it held ``state`` before."""
    for piece in pieces(data):
        state = _of_piece(piece, state)
    return state


def _of_piece(piece: memoryview, state: int) -> int:
    if piece.nbytes < 2 * _ROW:
        return _bytewise(bytes(piece), state)
    # Zeros in front do not change a remainder; the register goes into the first four bytes.
    padding = -piece.nbytes % _ROW
    data = np.zeros(padding + piece.nbytes, np.uint8)
    data[padding:] = np.frombuffer(piece, np.uint8)
    data[padding : padding + 4] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    rest = _fold_words(data.view(np.uint64)).view("<u4")
    return _bytewise(_fold_rows(rest.reshape(-1, _ROW // 4)), 0)


def _fold_words(words: np.ndarray) -> np.ndarray:
    """The end of ``words`` (changed in place), of whole rows, with the remainder of all."""
    far, middle, near = FOUR_TERMS
    step = far - middle
    begin, end = 0, words.size - far - _ROW // 8
    while begin < end:
        stop = min(begin + step, end)
        chunk = words[begin:stop]
        for distance in (far - middle, far - near, far):
            target = words[begin + distance : stop + distance]
            np.bitwise_xor(target, chunk, out=target)
        begin = stop
    first = begin - begin % (_ROW // 8)
    words[first:begin] = 0  # done with, and zeros in front do no harm
    return words[first:]


def _fold_rows(rows: np.ndarray) -> bytes:
    """One row of words with the remainder of all ``rows``."""
    low, high = _shift_tables(_ROW)
    state = np.zeros(rows.shape[1], np.uint32)
    for row in rows:
        state = low[state & 0xFFFF] ^ high[state >> 16] ^ row
    return state.astype("<u4").tobytes()


@lru_cache(maxsize=None)
def _shift_tables(size: int) -> Tuple[np.ndarray, np.ndarray]:
    """What becomes of the low and the high half of a word that ``size`` bytes follow."""
    columns = []
    for bit in range(32):
        columns.append(_shifted(1 << bit, size))
    halves = []
    for first in (0, 16):
        table = np.zeros(1, np.uint32)
        for bit in range(16):
            table = np.concatenate([table, table ^ np.uint32(columns[first + bit])])
        halves.append(table)
    return halves[0], halves[1]


def _shifted(word: int, size: int) -> int:
    """``word`` * x^(8 * size) modulo the polynomial; ``size`` is a power of two."""
    power = 1 << 23  # x^8; the highest bit is x^0
    while size > 1:
        power = _product(power, power)
        size //= 2
    return _product(word, power)


def _product(left: int, right: int) -> int:
    result = 0
    for bit in range(31, -1, -1):
        if left >> bit & 1:
            result ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return result


def _bytewise(data: bytes, state: int) -> int:
    for byte in data:
        state = state >> 8 ^ _TABLE[(state ^ byte) & 0xFF]
    return state
