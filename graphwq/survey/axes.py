"""Carrying the axes of a weight through the ops that move it about.

An ``AxisMap`` says for every axis of a tensor which digits of the weight's indices it counts: an
``Atom`` stands for an axis of the weight, for a part of one (a reshape has split it), or for
several that can no longer be told apart (a slice of a merged axis). All functions return a new map,
or None where the channels are lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple

#: The length of an axis that is not followed.
UNKNOWN = -1


@dataclass(frozen=True)
class Atom:
    """A run of indices that belongs to some axes of the weight (none: an axis that was put in)."""

    axes: FrozenSet[int]
    size: int


Origin = Tuple[Atom, ...]


@dataclass(frozen=True)
class AxisMap:
    """A tensor on the way from a weight to its consumer.

    Attributes:
        shape: of the tensor.
        origins: per axis of the tensor its atoms, the slowest first.
    """

    shape: Tuple[int, ...]
    origins: Tuple[Origin, ...]

    def kept(self, axes: Iterable[int]) -> Optional[Tuple[int, ...]]:
        """The axes of the weight that lie in ``axes`` of this tensor.

        None where ``axes`` holds only a part of an axis of the weight: then no scale along the
        weight's axes is constant over what the consumer sums up.
        """
        chosen = set(axes)
        inside: Set[int] = set()
        outside: Set[int] = set()
        for axis, origin in enumerate(self.origins):
            for atom in origin:
                if axis in chosen:
                    inside |= atom.axes
                elif atom.size != 1:
                    outside |= atom.axes
        return None if inside & outside else tuple(sorted(inside))


def start(shape: Sequence[int]) -> AxisMap:
    """The map of the weight itself."""
    origins = tuple((Atom(frozenset((axis,)), size),) for axis, size in enumerate(shape))
    return AxisMap(tuple(shape), origins)


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
        current.origins[:place] + ((),) + current.origins[place:],
    )


def remove(current: AxisMap, axes: Sequence[int]) -> Optional[AxisMap]:
    """Squeeze, or taking one index: the axes vanish."""
    rank = len(current.shape)
    gone = {_normal(axis, rank) for axis in axes}
    if None in gone:
        return None
    return _select(current, [axis for axis in range(rank) if axis not in gone])


def permute(current: AxisMap, perm: Sequence[int]) -> Optional[AxisMap]:
    """Transpose."""
    rank = len(current.shape)
    order = [_normal(axis, rank) for axis in perm]
    places = [axis for axis in order if axis is not None]
    if len(places) != len(order) or sorted(places) != list(range(rank)):
        return None
    return _select(current, places)


def _select(current: AxisMap, axes: Sequence[int]) -> AxisMap:
    return AxisMap(
        tuple(current.shape[axis] for axis in axes),
        tuple(current.origins[axis] for axis in axes),
    )


def resize(current: AxisMap, axis: int, size: int) -> Optional[AxisMap]:
    """Split, slice or concatenation: one axis has another length."""
    place = _normal(axis, len(current.shape))
    if place is None:
        return None
    if size == current.shape[place]:
        return current
    origin = resized(current.origins[place], size)
    return AxisMap(
        current.shape[:place] + (size,) + current.shape[place + 1 :],
        current.origins[:place] + (origin,) + current.origins[place + 1 :],
    )


def resized(origin: Origin, size: int) -> Origin:
    """The atoms of an axis of which only some indices are left, or to which some were added."""
    return (Atom(frozenset(axis for atom in origin for axis in atom.axes), size),)


def reshape(current: AxisMap, target: Sequence[int]) -> Optional[AxisMap]:
    """Reshape: the atoms in their order are dealt out to the new axes, split where they must be.

    Where old and new axes do not line up, their atoms can no longer be told apart.
    """
    shape = _complete(target, current.shape)
    if shape is None or shape == current.shape:
        return None if shape is None else current
    supply = [atom for origin in reversed(current.origins) for atom in reversed(origin)]
    origins: List[Origin] = []
    while len(origins) < len(shape):
        taken = _deal(supply, shape[len(origins)])
        if taken is None:
            origins.extend(_deal_mixed(supply, shape[len(origins) :]))
        else:
            origins.append(taken)
    return AxisMap(shape, tuple(origins))


def _deal(supply: List[Atom], size: int) -> Optional[Origin]:
    """Take the atoms of an axis of ``size`` off the supply; nothing and None where they mix."""
    if size == 1:
        return (supply.pop(),) if supply and supply[-1].size == 1 else ()
    before = list(supply)
    taken: List[Atom] = []
    while size > 1:
        atom = supply.pop()
        if atom.size == 1:
            continue  # an axis of one index says nothing
        if size % atom.size and atom.size % size:
            supply[:] = before
            return None
        part = min(size, atom.size)
        taken.append(Atom(atom.axes, part))
        if atom.size > part:
            supply.append(Atom(atom.axes, atom.size // part))
        size //= part
    return tuple(taken)


def _deal_mixed(supply: List[Atom], shape: Sequence[int]) -> List[Origin]:
    """The origins of as many axes as it takes until old and new axes line up again."""
    axes: FrozenSet[int] = frozenset()
    old = 1
    new = shape[0]
    count = 1
    while old != new:
        if old < new:
            atom = supply.pop()
            axes |= atom.axes
            old *= atom.size
        else:
            new *= shape[count]
            count += 1
    return [(Atom(axes, size),) for size in shape[:count]]


def _complete(target: Sequence[int], shape: Sequence[int]) -> Optional[Tuple[int, ...]]:
    """Fill in a -1; None where the sizes do not match, are 0 or are not known."""
    if any(size < 1 for size in shape):
        return None
    total = _product(shape)
    known = _product(size for size in target if size != -1)
    holes = sum(size == -1 for size in target)
    if known <= 0 or holes > 1 or total % known or any(size < -1 for size in target):
        return None
    if not holes and known != total:
        return None
    return tuple(total // known if size == -1 else int(size) for size in target)


def _product(sizes: Iterable[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
