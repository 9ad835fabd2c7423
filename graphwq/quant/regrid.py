"""From values that lie on a symmetric grid back to their codes and scales."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, Optional, Tuple

import numpy as np

from graphwq.quant.grid import as_groups
from graphwq.quant.quantize import kept_axes, scale_shape
from graphwq.quant.scheme import PerChannel, PerGroup, QuantizedTensor, QuantScheme

#: Values of a group on which a scale is tried before all of them.
_PROBE = 64

_Pair = Tuple[np.ndarray, np.ndarray]


def codes_of(
    values: np.ndarray, scheme: QuantScheme, at_top: bool = False
) -> Optional[QuantizedTensor]:
    """Codes and scales whose ``float32(code) * scale`` is ``values``, bit for bit.

    Args:
        values: float32 or float64, finite, any shape without an axis of size 0.
        scheme: granularity and number of bits; ``method`` and ``scale_bits`` are not looked at.
        at_top: only if the largest code of every group is T.

    Returns:
        the quantized tensor, or None where the values lie on no such grid. The largest code of
        each group is the largest one possible. The scale of a group of zeros is 1.
    """
    if not isinstance(scheme.granularity, PerGroup):
        found = _per_channel(values, scheme, at_top)
        return None if found is None else QuantizedTensor(*found, scheme)
    axis, size = scheme.granularity.axis, scheme.granularity.group_size
    inner = replace(scheme, granularity=PerChannel(scheme.granularity.axes))
    parts = []
    for begin in range(0, values.shape[axis], size):
        index = [slice(None)] * values.ndim
        index[axis] = slice(begin, begin + size)
        part = _per_channel(np.ascontiguousarray(values[tuple(index)]), inner, at_top)
        if part is None:
            return None
        parts.append(part)
    codes = np.concatenate([part for part, _ in parts], axis)
    return QuantizedTensor(codes, np.concatenate([part for _, part in parts], axis), scheme)


def _per_channel(values: np.ndarray, scheme: QuantScheme, at_top: bool) -> Optional[_Pair]:
    kept = kept_axes(scheme.granularity, values.ndim)
    groups = as_groups(values, kept)
    scale = np.ones(len(groups), np.float32)
    codes = np.zeros(groups.shape, np.int8)
    absmax = np.abs(groups).max(1)
    if not np.isfinite(absmax).all():
        return None
    pending = np.flatnonzero(absmax)
    for guess in _guesses(absmax, scheme.max_code, at_top):
        if not len(pending):
            break
        likely = pending[_exact(groups[pending, :_PROBE], guess[pending])[1]]
        if len(likely) == len(groups):  # nearly always, at the first guess
            near, exact = _exact(groups, guess)
        else:
            near, exact = _exact(groups[likely], guess[likely])
        found = likely[exact]
        scale[found] = guess[found]
        codes[found] = near[exact]
        pending = np.setdiff1d(pending, found, assume_unique=True)
    if len(pending):
        return None
    return as_weight(codes, values.shape, kept), scale.reshape(
        scale_shape(values.shape, scheme.granularity)
    )


def _exact(groups: np.ndarray, step: np.ndarray) -> _Pair:
    """The nearest codes of each group, and whether they give its values bit for bit."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        near = np.rint(groups / step[:, None]).astype(np.float32, copy=False)
        exact = (near * step[:, None] == groups).all(1) & (step > 0)
        return near.astype(np.int8), exact


def _guesses(absmax: np.ndarray, top: int, at_top: bool) -> Iterator[np.ndarray]:
    """Scales under which the largest value has code ``top`` (then ``top`` - 1, ... 1).

    The quotient may miss the scale by one unit in the last place on either side.
    """
    for code in (top,) if at_top else range(top, 0, -1):
        middle = (absmax / absmax.dtype.type(code)).astype(np.float32)
        yield middle
        yield np.nextafter(middle, np.float32(np.inf))
        yield np.nextafter(middle, np.float32(0))


def as_weight(groups: np.ndarray, shape: Tuple[int, ...], kept: Tuple[int, ...]) -> np.ndarray:
    """[groups, values of a group] back to the shape of the weight; the inverse of as_groups."""
    rest = tuple(axis for axis in range(len(shape)) if axis not in kept)
    order = kept + rest
    moved = groups.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(moved.transpose([order.index(axis) for axis in range(len(shape))]))
