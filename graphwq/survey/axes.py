"""Carrying the axes of a weight through the ops that move it about.

An ``AxisMap`` says for every axis of a tensor which axes of the weight it holds: none (an axis of
size 1 that was put in), one, several (merged by a reshape), or a ``Part`` of one (split by a
reshape). All functions return a new map, or None where the axes can no longer be told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple, Union


@dataclass(frozen=True)
class Part:
    """One of ``parts`` axes that together are the axes ``origin`` of the weight.

    ``token`` tells the reshape apart, ``index`` is the place among its parts.
    """

    origin: FrozenSet[int]
    token: int
    index: int
    parts: int


Origin = Union[FrozenSet[int], Part]


@dataclass(frozen=True)
class AxisMap:
    """A tensor on the way from a weight to its consumer.

    Attributes:
        shape: of the tensor.
        origins: per axis of the tensor where it comes from.
        splits: how many reshapes have split an axis so far.
    """

    shape: Tuple[int, ...]
    origins: Tuple[Origin, ...]
    splits: int = 0

    def kept(self, axes: Iterable[int]) -> Optional[Tuple[int, ...]]:
        """The axes of the weight that lie in ``axes`` of this tensor.

        None where ``axes`` holds only some of the parts of a split axis: then no scale along the
        weight's axes is constant over what the consumer sums up.
        """
        result: Set[int] = set()
        parts: Dict[Tuple[int, int, FrozenSet[int]], Set[int]] = {}
        for axis in axes:
            origin = self.origins[axis]
            if isinstance(origin, Part):
                parts.setdefault((origin.token, origin.parts, origin.origin), set()).add(
                    origin.index
                )
            else:
                result |= origin
        for (_, count, origin_axes), seen in parts.items():
            if len(seen) < count:
                return None
            result |= origin_axes
        return tuple(sorted(result))


def start(shape: Sequence[int]) -> AxisMap:
    """The map of the weight itself."""
    return AxisMap(tuple(shape), tuple(frozenset((axis,)) for axis in range(len(shape))))


def _normal(axis: int, rank: int) -> Optional[int]:
    axis = axis + rank if axis < 0 else axis
    return axis if 0 <= axis < rank else None


def insert(current: AxisMap, axis: int) -> Optional[AxisMap]:
    """ExpandDims: a new axis of size 1 at ``axis`` (negative counts from the end)."""
    place = _normal(axis, len(current.shape) + 1)
    if place is None:
        return None
    return AxisMap(
        current.shape[:place] + (1,) + current.shape[place:],
        current.origins[:place] + (frozenset(),) + current.origins[place:],
        current.splits,
    )


def remove(current: AxisMap, axes: Sequence[int]) -> Optional[AxisMap]:
    """Squeeze, or taking one index: the axes vanish."""
    rank = len(current.shape)
    gone = {_normal(axis, rank) for axis in axes}
    if None in gone:
        return None
    left = [axis for axis in range(rank) if axis not in gone]
    return _select(current, left)


def permute(current: AxisMap, perm: Sequence[int]) -> Optional[AxisMap]:
    """Transpose."""
    rank = len(current.shape)
    order = [_normal(axis, rank) for axis in perm]
    if sorted(axis for axis in order if axis is not None) != list(range(rank)):
        return None
    return _select(current, [axis for axis in order if axis is not None])


def _select(current: AxisMap, axes: Sequence[int]) -> AxisMap:
    return AxisMap(
        tuple(current.shape[axis] for axis in axes),
        tuple(current.origins[axis] for axis in axes),
        current.splits,
    )


def resize(current: AxisMap, axis: int, size: int) -> Optional[AxisMap]:
    """Split, slice or concatenation: the same axes, one of another length."""
    place = _normal(axis, len(current.shape))
    if place is None:
        return None
    shape = current.shape[:place] + (size,) + current.shape[place + 1 :]
    return AxisMap(shape, current.origins, current.splits)


def reshape(current: AxisMap, target: Sequence[int]) -> Optional[AxisMap]:
    """Reshape: both shapes are cut into the smallest runs of axes of equal product."""
    shape = _complete(target, current.shape)
    if shape is None:
        return None
    if shape == current.shape:
        return current
    origins: List[Origin] = []
    splits = current.splits
    for old_run, new_run in _runs(current.shape, shape):
        old = [axis for axis in old_run if current.shape[axis] != 1]
        new = [axis for axis in new_run if shape[axis] != 1]
        if len(old) <= 1 and len(new) <= 1:
            moved = [current.origins[axis] for axis in old] or [frozenset()]
        else:
            merged = _merge([current.origins[axis] for axis in old])
            if merged is None:
                return None
            if len(new) == 1:
                moved = [merged]
            else:
                splits += 1
                moved = [Part(merged, splits, index, len(new)) for index in range(len(new))]
        supply = iter(moved)
        for axis in new_run:
            origins.append(next(supply, frozenset()) if shape[axis] != 1 else frozenset())
    return AxisMap(shape, tuple(origins), splits)


def _merge(origins: Sequence[Origin]) -> Optional[FrozenSet[int]]:
    """The axes of a run that is merged; None where it holds only a part of a split axis."""
    result = AxisMap((1,) * len(origins), tuple(origins)).kept(range(len(origins)))
    return None if result is None else frozenset(result)


def _complete(target: Sequence[int], shape: Sequence[int]) -> Optional[Tuple[int, ...]]:
    """Fill in a -1; None where the sizes do not match, are 0 or are not known (-1)."""
    if any(size < 1 for size in shape):
        return None
    total = _product(shape)
    known = _product(size for size in target if size != -1)
    holes = sum(size == -1 for size in target)
    if known <= 0 or holes > 1 or total % known:
        return None
    if not holes and known != total:
        return None
    return tuple(total // known if size == -1 else int(size) for size in target)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


def _runs(old: Tuple[int, ...], new: Tuple[int, ...]) -> Iterable[Tuple[List[int], List[int]]]:
    """Pairs of runs of axes with equal product, as short as can be."""
    left = right = 0
    while left < len(old) or right < len(new):
        old_run, new_run = [], []
        old_size = new_size = 1
        if left < len(old):
            old_run.append(left)
            old_size = old[left]
            left += 1
        if right < len(new):
            new_run.append(right)
            new_size = new[right]
            right += 1
        while old_size != new_size:
            if old_size < new_size:
                old_run.append(left)
                old_size *= old[left]
                left += 1
            else:
                new_run.append(right)
                new_size *= new[right]
                right += 1
        yield old_run, new_run
