"""Choosing the scale: absmax, in a form that the MNN converter reproduces.

``scale = absmax / T`` with T = 2^(num_bits-1) - 1, the formula of mnncompress' WeightQuantizer
without its epsilon (the converter adds none). The converter derives its scale anew from the
largest value it sees, ``fl(fl(T * s) / T)``; a scale that this maps to itself survives conversion.
One application of the map gives such a scale, and ``fl(absmax / T)`` of a float32 absmax is one
already.
"""

from __future__ import annotations

import numpy as np

from graphwq.quant.scheme import FLOAT32_BITS, max_code

#: A scale below the smallest normal float32 would lose bits in every product.
_SMALLEST = float(np.finfo(np.float32).tiny)


def absmax_scale(absmax: np.ndarray, num_bits: int, scale_bits: int = FLOAT32_BITS) -> np.ndarray:
    """Scales for the given largest magnitudes.

    Args:
        absmax: float32 or float64, any shape, finite.
        num_bits: 2..8.
        scale_bits: significant bits of the result; fewer than 24 rounds up.

    Returns:
        float32 of the same shape, > 0. A group of zeros, or one too small for a normal float32
        scale, gets scale 1: all its codes are 0. A magnitude beyond float32 gives Inf, NaN NaN.
    """
    top = max_code(num_bits)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = (absmax / absmax.dtype.type(top)).astype(np.float32)
        if scale_bits < FLOAT32_BITS:
            scale = round_up_mantissa(scale, scale_bits)
        scale = project_scale(scale, num_bits)
        tiny = scale < _SMALLEST  # not true of NaN, which must stay what it is
    return np.where(tiny, np.float32(1.0), scale).astype(np.float32, copy=False)


def project_scale(scale: np.ndarray, num_bits: int) -> np.ndarray:
    """fl(fl(T * s) / T) in float32: the nearest scale that the MNN converter derives again."""
    top = np.float32(max_code(num_bits))
    return (scale.astype(np.float32, copy=False) * top) / top


def round_up_mantissa(scale: np.ndarray, significant_bits: int) -> np.ndarray:
    """Round positive float32 values up to ``significant_bits`` bits; NaN and Inf stay."""
    drop = FLOAT32_BITS - significant_bits
    bits = scale.view(np.uint32)
    mask = np.uint32((1 << drop) - 1)
    return np.where(np.isfinite(scale), ((bits + mask) & ~mask).view(np.float32), scale)
