"""Holding a quantized weight against the float one: is every code where rounding puts it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from graphwq.quant.blocks import row_ranges
from graphwq.quant.metrics import WeightError
from graphwq.quant.scheme import PerGroup, QuantizedTensor

#: The roundings of w / scale and of code * scale in float32, in steps (codes are at most 127).
_SLACK = 2.0**-16


@dataclass(frozen=True)
class Audit:
    """What a walk over a weight and its codes found.

    Attributes:
        error: of float32(code) * scale against the weight.
        beyond_half_step: values further than scale / 2 from their code's value.
        worst: flat index of the value that is furthest away, in steps.
        worst_steps: how far that is, in steps.
        moved_zeros: zeros whose code is not 0.
        saturated: codes that are -T or T.
        levels: how many different codes occur.
        out_of_range: codes beyond -T..T.
        non_finite: values of the weight that are NaN or Inf.
        different: values that are not exactly those of their codes.
    """

    error: WeightError
    beyond_half_step: int
    worst: int
    worst_steps: float
    moved_zeros: int
    saturated: int
    levels: int
    out_of_range: int
    non_finite: int
    different: int


def audit(weight: np.ndarray, quantized: QuantizedTensor) -> Audit:
    """Compare a weight (float16, float32 or float64) with its codes, in bounded memory."""
    codes, top = quantized.codes, quantized.scheme.max_code
    if not weight.ndim:
        weight, codes = weight.reshape(1), codes.reshape(1)
        quantized = QuantizedTensor(codes, quantized.scale.reshape(1), quantized.scheme)
    signal = noise = largest = worst_steps = 0.0
    beyond = zeros = not_finite = different = worst = 0
    row = max(1, codes[:1].size)
    for begin, end in row_ranges(codes.shape):
        block, code = weight[begin:end].astype(np.float64), codes[begin:end]
        scale = quantized.scale_for(begin, end)
        value = (code.astype(np.float32) * scale).astype(weight.dtype).astype(np.float64)
        finite = np.isfinite(block)
        missing = int(finite.size - np.count_nonzero(finite))
        zero = block == 0.0
        if missing:
            not_finite += missing
            block, value = np.where(finite, block, 0.0), np.where(finite, value, 0.0)
        distance = np.abs(block - value)
        different += int(np.count_nonzero(distance)) + missing
        steps = distance / scale
        place = int(steps.argmax())
        if float(steps.reshape(-1)[place]) > worst_steps:
            worst_steps, worst = float(steps.reshape(-1)[place]), begin * row + place
        beyond += int(np.count_nonzero(steps > 0.5 + _slack(weight.dtype, top)))
        largest = max(largest, float(distance.max()))
        signal += float(np.square(block).sum())
        noise += float(np.square(distance).sum())
        zeros += int(np.count_nonzero(code[zero]))
    counts = np.bincount(codes.reshape(-1).astype(np.int16) + 128, minlength=256)
    beyond_top = int(counts.sum() - counts[128 - top : 129 + top].sum())
    return Audit(
        WeightError(signal, noise, largest),
        beyond,
        worst,
        worst_steps,
        zeros,
        int(counts[128 - top] + counts[128 + top]),
        int(np.count_nonzero(counts)),
        beyond_top,
        not_finite,
        different,
    )


def _slack(dtype: np.dtype, top: int) -> float:
    """Half values are themselves rounded to 11 bits: up to ``top`` * 2^-11 steps."""
    return top * 2.0**-11 if dtype == np.dtype(np.float16) else _SLACK


@dataclass(frozen=True)
class Deviation:
    """Where two quantizations of one weight differ.

    Attributes:
        codes, scales: how many of them differ.
        first_code, first_scale: flat index of the first one; None where there is none.
    """

    codes: int
    scales: int
    first_code: Optional[int]
    first_scale: Optional[int]


def deviation(left: QuantizedTensor, right: QuantizedTensor) -> Deviation:
    """Compare codes and scales of the same shapes, bit for bit.

    The scale of a group whose codes are all 0 means nothing and may be any.
    """
    codes = (left.codes != right.codes).reshape(-1)
    scales = left.scale != right.scale
    if scales.any():
        scales = scales & _used(left)
    return Deviation(
        int(np.count_nonzero(codes)),
        int(np.count_nonzero(scales)),
        int(codes.argmax()) if codes.any() else None,
        int(scales.reshape(-1).argmax()) if scales.any() else None,
    )


def _used(quantized: QuantizedTensor) -> np.ndarray:
    """Which scales have a code that is not 0; shape of the scale."""
    used = quantized.codes != 0
    granularity = quantized.scheme.granularity
    if isinstance(granularity, PerGroup):
        starts = np.arange(0, used.shape[granularity.axis], granularity.group_size)
        used = np.logical_or.reduceat(used, starts, axis=granularity.axis)
    reduced = tuple(
        axis
        for axis, size in enumerate(quantized.scale.shape)
        if size == 1 and used.shape[axis] > 1
    )
    return used.any(axis=reduced, keepdims=True) if reduced else used
