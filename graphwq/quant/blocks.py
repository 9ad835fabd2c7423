"""Cutting an array into pieces that fit the cache, so that the passes over a weight stay in it."""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import Iterator, List, Tuple

#: Elements in one piece: with float32 input, float32 scratch and int8 output about half of a
#: 1 MiB second-level cache.
BLOCK_ELEMENTS = 65536

Shape = Tuple[int, ...]


def merge_axes(shape: Shape, kept: Shape) -> Tuple[Shape, Shape]:
    """Shapes of weight and scale with as few axes as possible, for walking along axis 0.

    Neighbouring axes that are both kept or both reduced become one and axes of size 1 vanish, so
    the pieces below are about equally long whatever the layout: (3, 3, 64, 128) kept (3,) ->
    (576, 128) and (1, 128).
    """
    flat: List[int] = []
    scale: List[int] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        is_kept = axis in kept
        if flat and (scale[-1] > 1) == is_kept:
            flat[-1] *= size
            scale[-1] *= size if is_kept else 1
        else:
            flat.append(size)
            scale.append(size if is_kept else 1)
    return (tuple(flat), tuple(scale)) if flat else ((1,), (1,))


def row_ranges(shape: Shape) -> Iterator[Tuple[int, int]]:
    """Ranges of axis 0 that hold about BLOCK_ELEMENTS each (at least one row)."""
    row = max(1, reduce(mul, shape[1:], 1))
    step = max(1, BLOCK_ELEMENTS // row)
    for begin in range(0, shape[0], step):
        yield begin, min(begin + step, shape[0])
