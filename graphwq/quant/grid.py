"""Is a float array already on a quantization grid, of how many bits, along which axes?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any, Dict, Iterable, Optional, Tuple, Union

import numpy as np

from graphwq.quant.blocks import merge_axes, row_ranges
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import MAX_BITS, MIN_BITS, PerChannel, PerTensor, max_code

#: Channels looked at before the whole array: nearly every float array fails on these.
_PROBE_CHANNELS = 4
_PROBE_VALUES = 64
_NEIGHBOURS = 4
#: A value may miss its grid point by this part of the largest one (a few float32 roundings).
_TOLERANCE = 2.0**-21


@dataclass(frozen=True)
class Grid:
    """A grid that all values of an array lie on.

    Attributes:
        num_bits: the smallest width that holds all codes.
        axes: along which the scale varies; () for one scale.
        exact: every value is float32(code) * float32(scale), bit for bit.
        symmetric: 0 is a grid point and the codes lie around it; else the grid is min + code * step
            (the Graph Transform Tool's ``round_weights``).
    """

    num_bits: int
    axes: Tuple[int, ...]
    exact: bool
    symmetric: bool = True

    def to_json(self) -> Dict[str, Any]:
        """The grid as JSON data."""
        return {
            "num_bits": self.num_bits,
            "axes": list(self.axes),
            "exact": self.exact,
            "symmetric": self.symmetric,
        }


def detect(weight: np.ndarray, kept: Iterable[Tuple[int, ...]]) -> Optional[Grid]:
    """Find the coarsest grid that holds all values, or None.

    First symmetric grids: one scale for all, then one per index of each of ``kept``. In each group
    the step is absmax / k for the smallest k in 1..127 that works. Arrays of so few values that any
    would do are none. Then one affine grid of up to 256 steps for the whole array.
    """
    if weight.size < 2 or not np.isfinite(weight).all():
        return None
    for axes in [(), *kept]:
        found = on_grid(weight, tuple(axes))
        if found is not None:
            return found
    return _affine(weight)


def may_be_on_grid(weight: np.ndarray, kept: Iterable[Tuple[int, ...]]) -> bool:
    """A quick look for a symmetric grid: False only where there is none.

    It looks at a few neighbouring values, which share their scale also where there is one per
    group. Unlike ``detect`` it does not refuse values so few that chance could have put them there.
    """
    if not weight.size or not np.isfinite(weight).all():
        return False
    for axes in [(), *kept]:
        groups = as_groups(weight, tuple(axes))
        some = slice(None, None, max(1, groups.shape[0] // _PROBE_CHANNELS))
        few = groups[some, :_NEIGHBOURS]
        if _has_steps(few, np.abs(few).max(1).astype(np.float64)):
            return True
    return False


def on_grid(weight: np.ndarray, axes: Tuple[int, ...]) -> Optional[Grid]:
    """Find the coarsest symmetric grid with one scale per index of ``axes``, or None."""
    groups = as_groups(weight, axes)
    if groups.shape[1] < 2:
        return None
    absmax = np.abs(groups).max(1).astype(np.float64)
    some = slice(None, None, max(1, groups.shape[0] // _PROBE_CHANNELS))
    if not _has_steps(groups[some, :_PROBE_VALUES], absmax[some]):
        return None
    tops = _steps(groups[:, :_PROBE_VALUES], absmax, 1)
    if tops is not None:
        tops = _steps(groups, absmax, tops)
    if tops is None or not tops.any():
        return None
    largest = int(tops.max())
    bits = next(bits for bits in range(MIN_BITS, MAX_BITS + 1) if largest <= max_code(bits))
    if groups.shape[1] <= 2 * max_code(bits) and groups.size <= 4 * max_code(bits):
        return None  # so few values that any would do
    return Grid(bits, axes, _is_exact(groups, absmax, tops))


def _affine(weight: np.ndarray) -> Optional[Grid]:
    """One grid min + k * step, 0 <= k <= 2^bits, for the whole array."""
    flat = weight.reshape(-1)
    most = 1 << MAX_BITS
    if len(np.unique(flat[: 16 * most])) > most + 1:
        return None
    points = np.unique(flat).astype(np.float64)
    if not 3 <= len(points) <= most + 1:
        return None
    offsets = points - points[0]
    count = np.rint(offsets[-1] / np.diff(points).min())
    if count > most or weight.size <= 4 * count:
        return None
    codes = offsets * (count / offsets[-1])
    if (np.abs(codes - np.rint(codes)) > count * _TOLERANCE * 16).any():
        return None
    bits = next(bits for bits in range(MIN_BITS, MAX_BITS + 1) if count <= 1 << bits)
    return Grid(bits, (), exact=False, symmetric=False)


def as_groups(weight: np.ndarray, axes: Tuple[int, ...]) -> np.ndarray:
    """[groups, values of a group]."""
    shape = scale_shape(weight.shape, PerChannel(axes) if axes else PerTensor())
    flat_shape, flat_scale = merge_axes(weight.shape, axes)
    kept = [axis for axis, size in enumerate(flat_scale) if size > 1]
    rest = [axis for axis in range(len(flat_shape)) if axis not in kept]
    groups = reduce(mul, shape, 1)
    return weight.reshape(flat_shape).transpose(kept + rest).reshape(groups, -1)


def _has_steps(values: np.ndarray, absmax: np.ndarray) -> bool:
    """Whether ``_steps`` finds something; for few values, all k at once."""
    counts = np.arange(1, max_code(MAX_BITS) + 1)
    for row, top in zip(values, absmax):
        if top == 0:
            continue
        ratio = row[None, :] / (top / counts)[:, None]
        misses = (np.abs(ratio - np.rint(ratio)) > counts[:, None] * _TOLERANCE).any(1)
        if misses.all():
            return False
    return True


def _steps(
    values: np.ndarray, absmax: np.ndarray, first: Union[int, np.ndarray]
) -> Optional[np.ndarray]:
    """Per group the smallest k >= ``first`` such that all values are multiples of absmax / k.

    0 for a group of zeros; None where a group has no such k up to 127.
    """
    tops = np.broadcast_to(np.asarray(first, np.int64), absmax.shape).copy()
    tops[absmax == 0] = 0
    for begin, end in row_ranges(values.shape):
        part = tops[begin:end]
        pending = np.flatnonzero(part)
        while len(pending):
            ratio = (
                values[begin:end][pending] / (absmax[begin:end][pending] / part[pending])[:, None]
            )
            misses = (np.abs(ratio - np.rint(ratio)) > part[pending][:, None] * _TOLERANCE).any(1)
            pending = pending[misses]
            part[pending] += 1
            if len(pending) and part[pending].max() > max_code(MAX_BITS):
                return None
    return tops


def _is_exact(groups: np.ndarray, absmax: np.ndarray, tops: np.ndarray) -> bool:
    """Whether every value is float32(code) * float32(scale), bit for bit."""
    single = absmax.astype(np.float32)
    scale = np.where(tops > 0, single / np.maximum(tops, 1).astype(np.float32), np.float32(1))
    for begin, end in row_ranges(groups.shape):
        part, step = groups[begin:end], scale[begin:end, None]
        values = np.rint(part / step).astype(np.float32) * step
        if not np.array_equal(values.astype(groups.dtype), part):
            return False
    return True
