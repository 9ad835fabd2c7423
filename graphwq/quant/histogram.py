"""How the values of a weight lie, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

import numpy as np

BINS = 64


@dataclass(frozen=True)
class Histogram:
    """Two histograms over the same bins of equal width.

    Attributes:
        low, high: the range, symmetric around 0.
        before, after: counts per bin.
    """

    low: float
    high: float
    before: Tuple[int, ...]
    after: Tuple[int, ...]

    def to_json(self) -> Dict[str, Any]:
        """The histograms as JSON data."""
        return {
            "low": self.low,
            "high": self.high,
            "before": list(self.before),
            "after": list(self.after),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Histogram:
        """The inverse of ``to_json``.

        Raises:
            ValueError: there are no bins, or not as many on both sides.
        """
        before, after = tuple(data["before"]), tuple(data["after"])
        if not before or len(before) != len(after):
            raise ValueError(f"histograms of {len(before)} and {len(after)} bins")
        return cls(data["low"], data["high"], before, after)


def histogram(before: np.ndarray, after: np.ndarray, bins: int = BINS) -> Histogram:
    """Count finite values of two float arrays in ``bins`` bins over their common range."""
    kept = [array[np.isfinite(array)].astype(np.float64) for array in (before, after)]
    largest = max((float(np.abs(array).max()) for array in kept if array.size), default=0.0)
    edge = largest if largest > 0.0 else 1.0
    counts = [np.histogram(array, bins, (-edge, edge))[0] for array in kept]
    return Histogram(-edge, edge, *(tuple(int(count) for count in item) for item in counts))
