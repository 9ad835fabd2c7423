"""Is a float array already on a quantization grid, of how many bits, along which axes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, Optional, Tuple

import numpy as np

from graphwq.quant.blocks import merge_axes
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import MAX_BITS, MIN_BITS, PerChannel, PerTensor, max_code

#: Channels looked at before the whole array: nearly every float array fails on these.
_PROBE_CHANNELS = 4
_PROBE_VALUES = 64
#: A value may miss its grid point by this part of the largest one (a few float32 roundings).
_TOLERANCE = 2.0**-21


@dataclass(frozen=True)
class Grid:
    """A grid that all values of an array lie on.

    Attributes:
        num_bits: the smallest width that holds all codes.
        axes: along which the scale varies; () for one scale.
        exact: every value is float32(code) * float32(scale), bit for bit.
    """

    num_bits: int
    axes: Tuple[int, ...]
    exact: bool

    def to_json(self) -> Dict[str, Any]:
        """The grid as JSON data."""
        return {"num_bits": self.num_bits, "axes": list(self.axes), "exact": self.exact}


def detect(weight: np.ndarray, kept: Iterable[Tuple[int, ...]]) -> Optional[Grid]:
    """Find the coarsest symmetric grid with a point at 0 that holds all values, or None.

    Tries one scale for all, then one per index of each of ``kept``. In each group the step is
    absmax / k for the smallest k in 1..127 that works. Arrays of so few values that any would do
    are none.
    """
    if weight.size < 2 or not np.isfinite(weight).all():
        return None
    for axes in [(), *kept]:
        found = _on_grid(weight, tuple(axes))
        if found is not None:
            return found
    return None


def _on_grid(weight: np.ndarray, axes: Tuple[int, ...]) -> Optional[Grid]:
    groups = _as_groups(weight, axes)
    if groups.shape[1] < 2:
        return None
    step = max(1, groups.shape[0] // _PROBE_CHANNELS)
    if _steps(groups[::step, :_PROBE_VALUES], groups[::step]) is None:
        return None
    tops = _steps(groups, groups)
    if tops is None:
        return None
    largest = int(tops.max())
    if largest == 0:
        return None
    bits = next(bits for bits in range(MIN_BITS, MAX_BITS + 1) if largest <= max_code(bits))
    if groups.shape[1] <= 2 * max_code(bits) and groups.size <= 4 * max_code(bits):
        return None  # so few values that any would do
    absmax = np.abs(groups).max(1, keepdims=True).astype(np.float32)
    scale = np.where(tops[:, None] > 0, absmax / np.maximum(tops[:, None], 1), 1).astype(np.float32)
    values = np.rint(groups / scale).astype(np.float32) * scale
    return Grid(bits, axes, bool(np.array_equal(values.astype(weight.dtype), groups)))


def _as_groups(weight: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """[groups, values of a group]."""
    shape = scale_shape(weight.shape, PerChannel(axes) if axes else PerTensor())
    flat_shape, flat_scale = merge_axes(weight.shape, axes)
    kept = [axis for axis, size in enumerate(flat_scale) if size > 1]
    rest = [axis for axis in range(len(flat_shape)) if axis not in kept]
    groups = int(np.prod(shape, dtype=np.int64))
    return weight.reshape(flat_shape).transpose(kept + rest).reshape(groups, -1)


def _steps(values: np.ndarray, whole: np.ndarray) -> Optional[np.ndarray]:
    """Per group the smallest k such that all values are multiples of absmax / k; 0 for zeros."""
    absmax = np.abs(whole).max(1, keepdims=True).astype(np.float64)
    ratio = np.divide(values, absmax, out=np.zeros(values.shape), where=absmax > 0)
    result = np.zeros(len(values), np.int64)
    open_groups = np.flatnonzero(absmax[:, 0] > 0)
    for k in range(1, max_code(MAX_BITS) + 1):
        if not len(open_groups):
            break
        scaled = ratio[open_groups] * k
        fits = (np.abs(scaled - np.rint(scaled)) <= k * _TOLERANCE).all(1)
        result[open_groups[fits]] = k
        open_groups = open_groups[~fits]
    return None if len(open_groups) else result
