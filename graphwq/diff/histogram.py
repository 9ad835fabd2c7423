"""The values of a weight before and after, as bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np

_BINS = 48
_MOST_VALUES = 1 << 18


@dataclass(frozen=True)
class Histogram:
    """Two histograms over one range.

    Attributes:
        low, high: the range.
        old, new: heights 0..1 of the bars, the tallest of both being 1.
        levels_old, levels_new: how many different values there are.
    """

    low: float
    high: float
    old: Tuple[float, ...]
    new: Tuple[float, ...]
    levels_old: int
    levels_new: int


def histogram(old: np.ndarray, new: np.ndarray) -> Optional[Histogram]:
    """The histograms of two arrays, of samples where they are large; None without finite values."""
    before, after = _sample(old), _sample(new)
    if not before.size or not after.size:
        return None
    low = float(min(before.min(), after.min()))
    high = float(max(before.max(), after.max()))
    if not low < high:
        return None
    counts = [np.histogram(part, _BINS, (low, high))[0] / part.size for part in (before, after)]
    top = max(float(part.max()) for part in counts)
    heights = [tuple(float(item) / top for item in part) for part in counts]
    return Histogram(
        low, high, heights[0], heights[1], len(np.unique(before)), len(np.unique(after))
    )


def _sample(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // _MOST_VALUES)].astype(np.float64)
    return flat[np.isfinite(flat)]
