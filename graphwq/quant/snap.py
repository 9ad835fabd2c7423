"""Making scales that survive the MNN converter.

The converter derives a scale anew from the largest value of a group: fl(fl(T * s) / T). It finds
the same scale where s is a fixed point of that map and the group holds a code T or -T (for the
second, see ``top.py``). Whatever scale a method chooses ends here.
"""

from __future__ import annotations

from typing import Union

import numpy as np

from graphwq.quant.scale import project_scale, round_up_mantissa
from graphwq.quant.scheme import FLOAT32_BITS, max_code

_SMALLEST = float(np.finfo(np.float32).tiny)


def snap_scale(scale: np.ndarray, num_bits: int, scale_bits: int = FLOAT32_BITS) -> np.ndarray:
    """The float32 fixed point beside each scale (float64, any shape, finite).

    A scale below the smallest normal float32 becomes 1, as in ``absmax_scale``: all codes of such
    a group are 0.
    """
    single = scale.astype(np.float32)
    if scale_bits < FLOAT32_BITS:
        single = round_up_mantissa(single, scale_bits)
    single = project_scale(single, num_bits)
    return np.where(single >= _SMALLEST, single, np.float32(1.0)).astype(np.float32, copy=False)


def largest_scale(absmax: np.ndarray, num_bits: int, scale_bits: int = FLOAT32_BITS) -> np.ndarray:
    """The largest scale under which ``absmax`` (float64) still rounds to T, after snapping.

    Rounding to nearest gives T where absmax / s > T - 1/2; a little less leaves room for the
    roundings of ``snap_scale``.
    """
    room = 2.0**-20 if scale_bits == FLOAT32_BITS else 2.0 ** (2 - scale_bits)
    return absmax / (max_code(num_bits) - 0.5) * (1.0 - room)


def nearest(values: np.ndarray, scale: Union[np.ndarray, float], num_bits: int) -> np.ndarray:
    """clip(round_half_even(values / scale), -T, T) as float64; ``scale`` broadcasts."""
    top = max_code(num_bits)
    codes: np.ndarray = np.rint(values / scale)
    return np.clip(codes, -top, top, out=codes)
