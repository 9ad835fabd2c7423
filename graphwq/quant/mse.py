"""The scale with the least squared error under rounding to nearest, exactly.

For one group of values w with T = 2^(num_bits-1) - 1:

    minimize over s > 0    sum (w - s * clip(round(w / s), -T, T))^2

As s falls, a code |q| steps from k to k+1 at s = |w| / (k + 1/2). Between two such points the codes
are constant; with A = sum |w||q| and B = sum q^2 the error is sum w^2 - 2 s A + s^2 B, least at
s = A / B. So all intervals are visited in order with running A and B, and the best one is taken.
(Derived here; "OMSE" is the usual name of the criterion: Choukroun et al., arXiv:1902.06822.)

Only scales under which the largest value has code T are looked at, s < absmax / (T - 1/2): the MNN
converter derives its scale from that value. And only those above the scale where the error of the
clipped values alone is larger than the best error of a coarse search: this changes nothing about
the result and leaves a few points per value instead of T.
"""

from __future__ import annotations

import numpy as np

from graphwq.quant.scheme import FLOAT32_BITS, max_code
from graphwq.quant.snap import largest_scale, nearest, snap_scale

_COARSE = np.linspace(1.0, 0.05, 39)


def mse_scales(groups: np.ndarray, num_bits: int, scale_bits: int = FLOAT32_BITS) -> np.ndarray:
    """Scales for the rows of ``groups``.

    Args:
        groups: float [groups, values], finite.
        num_bits: 2..8.
        scale_bits: significant bits of a scale.

    Returns:
        float32 [groups], fixed points of the MNN map; 1 for a group of zeros.
    """
    scale = np.array([best_scale(row, num_bits, scale_bits) for row in groups], np.float64)
    return snap_scale(scale.reshape(len(groups)), num_bits, scale_bits)


def best_scale(values: np.ndarray, num_bits: int, scale_bits: int = FLOAT32_BITS) -> float:
    """The scale for one group, in float64; 0 for a group of zeros."""
    magnitude = np.abs(values.astype(np.float64))
    magnitude = np.sort(magnitude[magnitude > 0])[::-1]
    if not len(magnitude):
        return 0.0
    unit = float(magnitude[0])
    magnitude = magnitude / unit  # the squares of tiny values stay in range
    high = float(largest_scale(np.ones(1), num_bits, scale_bits)[0])
    low = _lower_bound(magnitude, high, num_bits)
    return unit * _sweep(magnitude, low, high, num_bits)


def _lower_bound(magnitude: np.ndarray, high: float, num_bits: int) -> float:
    """A scale below which the clipped values alone cost more than a scale that is known."""
    scale = high * _COARSE
    top = max_code(num_bits)
    first = np.cumsum(magnitude)
    second = np.cumsum(np.square(magnitude))
    clipped = len(magnitude) - np.searchsorted(magnitude[::-1], top * scale, side="right")
    limit = top * scale
    edge = clipped - 1
    clip_error = np.where(
        clipped > 0,
        second[edge] - 2 * limit * first[edge] + np.square(limit) * clipped,
        0.0,
    )
    best = np.inf
    for step, floor in zip(scale, clip_error):
        if floor > best:
            return float(step)
        error = np.square(magnitude - step * nearest(magnitude, step, num_bits)).sum()
        best = min(best, float(error))
    return 0.0


def _sweep(magnitude: np.ndarray, low: float, high: float, num_bits: int) -> float:
    """The best scale in [low, high]."""
    top = max_code(num_bits)
    start = nearest(magnitude, high, num_bits)
    end = nearest(magnitude, low, num_bits) if low > 0 else np.full(len(magnitude), float(top))
    steps = (end - start).astype(np.int64)
    owner = np.repeat(np.arange(len(magnitude)), steps)
    first = np.repeat(np.cumsum(steps) - steps, steps)
    code = start[owner] + (np.arange(len(owner)) - first)
    points = magnitude[owner] / (code + 0.5)
    order = np.argsort(-points, kind="stable")
    points = points[order]
    linear = float((magnitude * start).sum()) + np.concatenate(
        [[0.0], np.cumsum(magnitude[owner][order])]
    )
    quadratic = float(np.square(start).sum()) + np.concatenate(
        [[0.0], np.cumsum(2 * code[order] + 1)]
    )
    upper = np.concatenate([[high], np.minimum(points, high)])
    lower = np.concatenate([np.minimum(points, high), [low]])
    scale = np.clip(linear / quadratic, lower, upper)
    error = np.square(scale) * quadratic - 2 * scale * linear
    return float(scale[int(error.argmin())])
