"""A slow quantizer in exact fractions, written from the equation alone. It imports no graphwq.

    T = 2^(num_bits-1) - 1
    scale = fl32(absmax / T), rounded up to scale_bits, then fl32(fl32(T * scale) / T);
            1 where that is no normal float32
    code = clip(round_half_even(fl(w / scale)), -T, T)
    value = fl32(code * scale)

``fl32`` rounds to float32, ``fl`` to the type that is computed in: float64 for float64 weights,
float32 for all others. Every group of weights that share a scale is one Python list.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

Index = Tuple[int, ...]
Rounding = Callable[[Fraction], Fraction]

_LARGEST32 = Fraction(float(np.finfo(np.float32).max))
_NORMAL32 = Fraction(2) ** -126


class OutOfRangeError(Exception):
    """The scale is beyond float32."""


def _exponent(value: Fraction) -> int:
    """e such that 2^e <= |value| < 2^(e+1)."""
    value = abs(value)
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def round_to(value: Fraction, bits: int, smallest_exponent: int) -> Fraction:
    """The nearest number of ``bits`` significant bits, half to even, with gradual underflow."""
    if value == 0:
        return Fraction(0)
    quantum = Fraction(2) ** max(_exponent(value) - bits + 1, smallest_exponent)
    return round(value / quantum) * quantum


def fl32(value: Fraction) -> Fraction:
    """Round to float32."""
    result = round_to(value, 24, -149)
    if abs(result) > _LARGEST32:
        raise OutOfRangeError(float(value))
    return result


def fl64(value: Fraction) -> Fraction:
    """Round to float64."""
    return round_to(value, 53, -1074)


def round_up(value: Fraction, bits: int) -> Fraction:
    """The smallest float32 of ``bits`` significant bits that is not below ``value`` > 0.

    Below the normal numbers the bits at the low end of a float32 are what is missing.
    """
    quantum = Fraction(2) ** max(_exponent(value) - bits + 1, -126 - bits + 1)
    return -(-value // quantum) * quantum


def scale_of(absmax: Fraction, num_bits: int, work: Rounding, scale_bits: int = 24) -> Fraction:
    """The scale of a group."""
    top = 2 ** (num_bits - 1) - 1
    scale = fl32(work(absmax / top))
    if scale_bits < 24 and scale > 0:
        scale = round_up(scale, scale_bits)
    scale = fl32(fl32(top * scale) / top)
    return scale if scale >= _NORMAL32 else Fraction(1)


@dataclass(frozen=True)
class Reference:
    """Codes and values, shape of the weight; the scale of each group by its key."""

    codes: np.ndarray
    values: np.ndarray
    scales: Dict[Index, Fraction]


def quantize(
    weight: np.ndarray,
    num_bits: int,
    axes: Sequence[int] = (),
    group_axis: Optional[int] = None,
    group_size: int = 1,
    scale_bits: int = 24,
) -> Reference:
    """Per tensor (no axes), per channel (axes) or per group (group_axis too).

    The key of a group is the index along ``axes``, then the number of the group.
    """
    top = 2 ** (num_bits - 1) - 1
    work = fl64 if weight.dtype == np.float64 else fl32
    groups: Dict[Index, List[Index]] = {}
    for index in np.ndindex(*weight.shape):
        key = tuple(index[axis] for axis in sorted(axes))
        if group_axis is not None:
            key += (index[group_axis] // group_size,)
        groups.setdefault(key, []).append(index)
    codes = np.zeros(weight.shape, np.int8)
    values = np.zeros(weight.shape, np.float32)
    scales: Dict[Index, Fraction] = {}
    for key, indices in groups.items():
        exact = [Fraction(float(weight[index])) for index in indices]
        scale = scale_of(max(abs(value) for value in exact), num_bits, work, scale_bits)
        scales[key] = scale
        for index, value in zip(indices, exact):
            code = max(-top, min(top, round(work(value / scale))))
            codes[index] = code
            values[index] = np.float32(float(fl32(code * scale)))
    return Reference(codes, values, scales)


def sqnr_db(weight: Sequence[float], value: Sequence[float]) -> float:
    """10 * log10(sum x^2 / sum (x - x')^2), summed exactly."""
    from math import log10

    pairs = [(Fraction(float(x)), Fraction(float(y))) for x, y in zip(weight, value)]
    signal = sum(x * x for x, _ in pairs)
    noise = sum((x - y) * (x - y) for x, y in pairs)
    return 10 * log10(signal / noise)
