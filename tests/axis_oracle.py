"""Brute force on axes: every element of a weight carries its index, numpy moves it about.

``Labels`` holds, per axis of the weight, an array with the index of each element along that axis.
After any numpy operation the arrays say, for every place of the tensor, which element of the weight
stands there. What a group of places has in common is then plain to see.
"""

from __future__ import annotations

from itertools import chain, combinations
from typing import Callable, Iterator, List, Optional, Set, Tuple

import numpy as np

from graphwq.survey.axes import AxisMap


class Labels:
    """The indices of a weight's elements, wherever numpy has put them."""

    def __init__(self, shape: Tuple[int, ...]) -> None:
        self.arrays: List[np.ndarray] = list(np.indices(shape))
        self.source = tuple(shape)
        #: Axes of the weight that a reshape has split at some time, or that can no longer be told.
        self.split: Set[int] = set()

    @property
    def shape(self) -> Tuple[int, ...]:
        """Shape of the tensor."""
        return self.arrays[0].shape

    def apply(self, operation: Callable[[np.ndarray], np.ndarray]) -> Labels:
        """The labels after a numpy operation."""
        result = Labels.__new__(Labels)
        result.arrays = [np.asarray(operation(array)) for array in self.arrays]
        result.source = self.source
        result.split = set(self.split)
        for axis, array in enumerate(result.arrays):
            if sum(_varies(array, place) for place in range(array.ndim)) > 1:
                result.split.add(axis)
        return result

    def mix(self, place: int) -> None:
        """Note that an axis is cut on which several axes of the weight lie: they cannot be told."""
        on_it = {axis for axis, array in enumerate(self.arrays) if _varies(array, place)}
        if len(on_it) > 1:
            self.split |= on_it

    def constant(self, kept: Tuple[int, ...]) -> Set[int]:
        """The axes of the weight whose index is the same within each group of ``kept`` places."""
        reduced = tuple(axis for axis in range(len(self.shape)) if axis not in kept)
        found = set()
        for axis, array in enumerate(self.arrays):
            spread = array.max(reduced) - array.min(reduced) if reduced else np.zeros(1)
            if not np.any(spread):
                found.add(axis)
        return found

    def trivial(self) -> Set[int]:
        """The axes of the weight of which only one index is left in the tensor."""
        return {axis for axis, array in enumerate(self.arrays) if array.min() == array.max()}


def _varies(array: np.ndarray, place: int) -> bool:
    return bool(np.any(array.max(place) != array.min(place)))


def subsets(rank: int) -> Iterator[Tuple[int, ...]]:
    """Every choice of axes."""
    return chain.from_iterable(combinations(range(rank), size) for size in range(rank + 1))


def check_claims(current: AxisMap, labels: Labels) -> None:
    """Every claim of the map is right and complete, for every choice of kept axes."""
    assert len(current.origins) == len(labels.shape)
    for kept in subsets(len(labels.shape)):
        claim = current.kept(kept)
        if claim is None:
            continue
        assert list(claim) == sorted(set(claim))
        constant = labels.constant(kept)
        assert set(claim) <= constant, f"keeping {kept}: {claim} claimed, but {constant} is true"
        forgotten = constant - set(claim) - labels.trivial()
        assert not forgotten, f"keeping {kept}: {forgotten} forgotten in {claim}"


def unjustified_losses(current: Optional[AxisMap], labels: Labels) -> List[Tuple[int, ...]]:
    """The choices for which the map gives up although nothing was ever split; [()] for no map."""
    if labels.split:
        return []
    if current is None:
        return [()]
    return [kept for kept in subsets(len(labels.shape)) if current.kept(kept) is None]
