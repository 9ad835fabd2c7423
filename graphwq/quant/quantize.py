"""A weight to codes and scales: round to nearest on a symmetric grid.

    T = 2^(num_bits-1) - 1
    scale = absmax / T                             per tensor, channel or group
    codes = clip(round_half_even(w / scale), -T, T)

Source of the formula: mnncompress.tensorflow.weight_quantizer, without its epsilon (see scale.py).
float32 and half weights are computed in float32, double weights in float64. The array is walked in
pieces that stay in the cache; the result does not depend on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Tuple

import numpy as np

from graphwq.errors import QuantizationError
from graphwq.quant import scratch
from graphwq.quant.blocks import Shape, merge_axes, row_ranges
from graphwq.quant.metrics import WeightError
from graphwq.quant.scale import absmax_scale
from graphwq.quant.scheme import (
    Granularity,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantizedTensor,
    QuantScheme,
)

_FEW = 4
#: Outside of these magnitudes the squares of float32 errors leave the range of float32.
_SAFE_MAGNITUDES = (1e-12, 1e15)


def quantize(weight: np.ndarray, scheme: QuantScheme) -> QuantizedTensor:
    """Quantize ``weight`` (float16, float32 or float64, any shape without an axis of size 0).

    Raises:
        QuantizationError: the weight holds NaN or Inf, is empty, or its magnitude is beyond what a
            float32 scale can express.
    """
    return quantize_with_error(weight, scheme)[0]


def quantize_with_error(
    weight: np.ndarray, scheme: QuantScheme
) -> Tuple[QuantizedTensor, WeightError]:
    """Quantize and measure the error in one walk over the weight; see ``quantize``."""
    if weight.size == 0:
        raise QuantizationError("the weight is empty: there is nothing to quantize")
    if isinstance(scheme.granularity, PerGroup):
        return _quantize_groups(weight, scheme, scheme.granularity)
    kept = kept_axes(scheme.granularity, weight.ndim)
    flat_shape, flat_scale = merge_axes(weight.shape, kept)
    flat = scratch.aligned(weight.reshape(flat_shape))
    absmax = _absmax(flat, flat_scale)
    scale = absmax_scale(absmax, scheme.num_bits, scheme.scale_bits)
    _check_finite(scale)
    limit = scheme.max_code if _clips(absmax, scale, scheme.max_code) else None
    codes, error = _codes(flat, scale, limit, _error_dtype(absmax))
    shape = scale_shape(weight.shape, scheme.granularity)
    return QuantizedTensor(codes.reshape(weight.shape), scale.reshape(shape), scheme), error


def kept_axes(granularity: Granularity, rank: int) -> Shape:
    """The axes along which the scale varies, sorted, all within ``rank``."""
    axes = () if isinstance(granularity, PerTensor) else granularity.axes
    if any(not 0 <= axis < rank for axis in axes):
        raise QuantizationError(f"axes {list(axes)} do not fit a weight of rank {rank}")
    return tuple(sorted(axes))


def scale_shape(shape: Shape, granularity: Granularity) -> Shape:
    """The shape of the scale of a weight of ``shape``."""
    kept = kept_axes(granularity, len(shape))
    sizes = [size if axis in kept else 1 for axis, size in enumerate(shape)]
    if isinstance(granularity, PerGroup):
        _check_groups(shape, granularity, kept)
        sizes[granularity.axis] = -(-shape[granularity.axis] // granularity.group_size)
    return tuple(sizes)


def _check_groups(shape: Shape, granularity: PerGroup, kept: Shape) -> None:
    axis, size = granularity.axis, granularity.group_size
    if not 0 <= axis < len(shape) or axis in kept or size < 1:
        raise QuantizationError(
            f"groups of {size} along axis {axis} do not fit a weight of shape {list(shape)}"
        )


def some_channels(weight: np.ndarray, granularity: Granularity) -> Optional[np.ndarray]:
    """A few channels, whose codes and scale do not depend on the others; None where all do."""
    kept = kept_axes(granularity, weight.ndim)
    if not kept or weight.shape[kept[-1]] <= _FEW:
        return None
    return weight[(slice(None),) * kept[-1] + (slice(_FEW),)]


def _work_dtype(weight: np.ndarray) -> np.dtype:
    return np.dtype(np.float64 if weight.dtype == np.float64 else np.float32)


def _absmax(weight: np.ndarray, shape: Shape) -> np.ndarray:
    """Largest magnitude per group; NaN where a group holds a NaN."""
    dtype = _work_dtype(weight)
    reduced = tuple(axis for axis, size in enumerate(shape) if size == 1)
    result = np.zeros(shape, dtype)
    for begin, end in row_ranges(weight.shape):
        block = scratch.aligned(weight[begin:end])
        size = np.abs(block, out=scratch.take("ratio", block.shape, dtype), dtype=dtype)
        largest = np.maximum.reduce(size, axis=reduced, keepdims=True) if reduced else size
        part = _rows(result, begin, end)
        np.maximum(part, largest, out=part)
    return result


def _rows(scale: np.ndarray, begin: int, end: int) -> np.ndarray:
    """The part of a (broadcastable) scale that belongs to rows ``begin:end`` of the weight."""
    return scale[begin:end] if scale.shape[0] > 1 else scale


def _check_finite(scale: np.ndarray) -> None:
    bad = int(np.count_nonzero(~np.isfinite(scale)))
    if bad and scale.size == 1:
        raise QuantizationError("it holds NaN, Inf or magnitudes beyond float32")
    if bad:
        raise QuantizationError(
            f"NaN, Inf or magnitudes beyond float32 in {bad} of {scale.size} of its channels"
        )


def _clips(absmax: np.ndarray, scale: np.ndarray, top: int) -> bool:
    """Whether a code would leave -T..T, which only a scale that was rounded down brings about.

    Exact: division and rounding are monotone and symmetric, so the largest magnitude of a group
    gives its largest code.
    """
    return bool(np.rint(np.divide(absmax, scale, dtype=absmax.dtype)).max() > top)


def _error_dtype(absmax: np.ndarray) -> np.dtype:
    largest = float(absmax.max())
    safe = largest == 0.0 or _SAFE_MAGNITUDES[0] < largest < _SAFE_MAGNITUDES[1]
    return absmax.dtype if safe else np.dtype(np.float64)


def _codes(
    weight: np.ndarray, scale: np.ndarray, limit: Optional[int], error_dtype: np.dtype
) -> Tuple[np.ndarray, WeightError]:
    """The codes, clipped to ``limit`` where there is one, and the error of the whole."""
    dtype = _work_dtype(weight)
    codes = scratch.lasting(weight.shape)
    signal = noise = worst = 0.0
    for begin, end in row_ranges(weight.shape):
        block, step = scratch.aligned(weight[begin:end]), _rows(scale, begin, end)
        ratio = scratch.take("ratio", block.shape, dtype)
        error = scratch.take("error", block.shape, error_dtype)
        np.divide(block, step, out=ratio, dtype=dtype)
        np.rint(ratio, out=ratio)
        if limit is not None:
            np.clip(ratio, dtype.type(-limit), dtype.type(limit), out=ratio)
        np.copyto(codes[begin:end], ratio, casting="unsafe")
        stored = _values(ratio, step, weight.dtype)
        np.subtract(stored, block, out=error, dtype=error_dtype)
        np.square(error, out=error)
        worst = max(worst, _root_of_largest(error, stored, block))
        noise += _sum(error)
        signal += _sum(np.square(block, out=error, dtype=error_dtype))
    return codes, WeightError(signal, noise, worst)


def _values(codes: np.ndarray, step: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What will be stored: float32(code) * scale in float32, in the weight's own dtype."""
    if dtype == np.dtype(np.float32):
        return np.multiply(codes, step, out=codes)
    return np.multiply(codes.astype(np.float32), step).astype(dtype)


def _root_of_largest(squares: np.ndarray, stored: np.ndarray, block: np.ndarray) -> float:
    """The largest |stored - block|, exactly, in one pass over the rounded squares.

    In binary arithmetic the root of a rounded square is the magnitude itself unless the square
    leaves the normal range (S. Boldo, Stupid is as stupid does: taking the square root of the
    square of a floating-point number, 2015); there the errors are looked at once more.
    """
    largest = squares.max()
    if largest >= np.finfo(squares.dtype).tiny:
        return float(np.sqrt(largest))
    return float(np.abs(np.subtract(stored, block, dtype=squares.dtype)).max())


def _sum(values: np.ndarray) -> float:
    """Sum in float64 of the sums along axis 0, which are quick and do not depend on threads."""
    return float(np.add.reduce(np.add.reduce(values, axis=0), axis=None, dtype=np.float64))


def _quantize_groups(
    weight: np.ndarray, scheme: QuantScheme, granularity: PerGroup
) -> Tuple[QuantizedTensor, WeightError]:
    """Group by group along the axis: each slice is an ordinary per-channel quantization."""
    axis, size = granularity.axis, granularity.group_size
    kept = kept_axes(granularity, weight.ndim)
    _check_groups(weight.shape, granularity, kept)
    inner = replace(scheme, granularity=PerChannel(kept))
    parts = []
    for begin in range(0, weight.shape[axis], size):
        index = [slice(None)] * weight.ndim
        index[axis] = slice(begin, begin + size)
        parts.append(quantize_with_error(np.ascontiguousarray(weight[tuple(index)]), inner))
    codes = np.concatenate([part.codes for part, _ in parts], axis)
    scale = np.concatenate([part.scale for part, _ in parts], axis)
    errors = [error for _, error in parts]
    total = WeightError(
        sum(error.sum_squares for error in errors),
        sum(error.sum_squared_errors for error in errors),
        max(error.max_abs_error for error in errors),
    )
    return QuantizedTensor(codes, scale, scheme), total
