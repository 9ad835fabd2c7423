"""Cutting an array into pieces that fit the cache, so that the passes over a weight stay in it."""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import Iterator, List, Tuple

#: Elements in one piece. Large enough that two threads seldom wait for each other's turn to run
#: Python, small enough that the pieces of all passes stay in the last cache (measured: 2.9 ms per
#: million values on one thread at any size from 65536 up, 1.8 ms on two from 262144 up).
BLOCK_ELEMENTS = 262144

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
