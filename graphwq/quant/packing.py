"""Codes of 2..8 bits in bytes, without a wasted bit.

A code q of b bits is stored as u = q + 2^(b-1), 0 <= u < 2^b. The bits of u are cut into planes of
4, 2 or 1 bits, most significant first (3 = 2+1, 5 = 4+1, 6 = 4+2, 7 = 4+2+1). A plane of p bits
packs 8/p neighbouring codes into a byte, the first one in the lowest bits; the last byte is filled
with zeros. Eight bits are stored as int8 as they are.

    q = sum over the planes of (digit * weight) - 2^(b-1),   weight = 2^(bits below the plane)

``pack_bits`` is another order of the same number of bytes, which takes one constant whatever b is:
eight neighbouring codes become b bytes, of which byte k holds their bits k (two's complement).

    q = sum over k of (bit k) * bit_weights(b)[k]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from graphwq.quant.blocks import BLOCK_ELEMENTS
from graphwq.quant.scheme import check_num_bits


@dataclass(frozen=True)
class Plane:
    """One bit plane of a packed code.

    Attributes:
        bits: width, 4, 2 or 1.
        shift: number of bits of the code below this plane.
        offset: what the digits of this plane carry of -2^(b-1): all of it on the first plane.
    """

    bits: int
    shift: int
    offset: int

    @property
    def per_byte(self) -> int:
        """How many codes share a byte."""
        return 8 // self.bits

    def nbytes(self, count: int) -> int:
        """Bytes of this plane for ``count`` codes."""
        return -(-count // self.per_byte)


#: What a byte of ``pack_bits`` means: one bit of each of eight codes.
ONE_BIT = Plane(1, 0, 0)


def planes(num_bits: int) -> Tuple[Plane, ...]:
    """The planes of codes of ``num_bits`` (2..7), most significant first."""
    check_num_bits(num_bits)
    if num_bits == 8:
        raise ValueError("codes of 8 bits are stored as int8, not packed")
    result: List[Plane] = []
    left = num_bits
    for bits in (4, 2, 1):
        if left >= bits:
            left -= bits
            result.append(Plane(bits, left, 0 if result else -(1 << (num_bits - 1))))
    return tuple(result)


def pack(codes: np.ndarray, num_bits: int) -> Tuple[np.ndarray, ...]:
    """Pack int8 codes along the last axis: shape [..., n] -> per plane uint8 [..., nbytes(n)]."""
    return tuple(pack_plane(codes, num_bits, plane) for plane in planes(num_bits))


def pack_plane(codes: np.ndarray, num_bits: int, plane: Plane) -> np.ndarray:
    """One of the planes of ``pack``, made in pieces that stay in the cache."""
    zero = 1 << (num_bits - 1)
    missing = -codes.shape[-1] % plane.per_byte
    if missing:
        width = [(0, 0)] * (codes.ndim - 1) + [(0, missing)]
        codes = np.pad(codes, width, mode="constant", constant_values=-zero)
    flat = codes.reshape(-1).view(np.uint8)
    packed = np.empty(flat.size // plane.per_byte, np.uint8)
    for begin in range(0, flat.size, BLOCK_ELEMENTS):
        digits = flat[begin : begin + BLOCK_ELEMENTS] + np.uint8(zero)
        digits >>= np.uint8(plane.shift)
        digits &= np.uint8((1 << plane.bits) - 1)
        target = packed[begin // plane.per_byte :][: digits.size // plane.per_byte]
        target[...] = _joined(digits, plane.bits)
    return packed.reshape(codes.shape[:-1] + (-1,))


def _joined(digits: np.ndarray, bits: int) -> np.ndarray:
    """Neighbouring digits as bytes, in the low bits of the result; ``digits`` is overwritten.

    The digits of one byte are read as one little-endian number and folded onto its lowest byte.
    """
    if bits == 1:
        return np.packbits(digits, bitorder="little")
    if bits == 2:
        joined = digits.view("<u4")
        joined |= joined >> np.uint32(6)
        joined |= joined >> np.uint32(12)
        return joined.astype(np.uint8)
    joined = digits.view("<u2")
    joined |= joined >> np.uint16(4)
    return joined.astype(np.uint8)


def unpack(packed: Tuple[np.ndarray, ...], num_bits: int, count: int) -> np.ndarray:
    """The inverse of ``pack`` for a last axis of ``count`` codes; int8."""
    total = None
    for plane, stored in zip(planes(num_bits), packed):
        digits = table(plane)[stored].reshape(stored.shape[:-1] + (-1,))[..., :count]
        total = digits if total is None else total + digits
    assert total is not None
    return total.astype(np.int8)


def pack_bits(codes: np.ndarray, num_bits: int) -> np.ndarray:
    """Pack int8 codes of any shape -> uint8 [count/8 rounded up, num_bits]; zeros fill the end."""
    flat = codes.reshape(-1).view(np.uint8)
    packed = np.empty((-(-flat.size // 8), num_bits), np.uint8)
    for begin in range(0, flat.size, BLOCK_ELEMENTS):
        block = flat[begin : begin + BLOCK_ELEMENTS]
        rows = packed[begin // 8 : -(-(begin + block.size) // 8)]
        for bit in range(num_bits):
            digits = block >> np.uint8(bit) & np.uint8(1)
            rows[:, bit] = np.packbits(digits, bitorder="little")
    return packed


def bit_weights(num_bits: int) -> np.ndarray:
    """What the bits of a code count: 1, 2, 4, ..., -2^(num_bits-1); float32 [num_bits]."""
    weights = np.exp2(np.arange(num_bits)).astype(np.float32)
    weights[-1] *= -1
    return weights


def table(plane: Plane) -> np.ndarray:
    """What each byte of a plane means: float32 [256, per_byte]."""
    byte = np.arange(256)[:, None] >> (plane.bits * np.arange(plane.per_byte))
    digit = byte & ((1 << plane.bits) - 1)
    return (digit * (1 << plane.shift) + plane.offset).astype(np.float32)


def packed_nbytes(count: int, num_bits: int) -> int:
    """Bytes of ``count`` codes of ``num_bits`` (8: one byte each)."""
    if num_bits == 8:
        return count
    return sum(plane.nbytes(count) for plane in planes(num_bits))
