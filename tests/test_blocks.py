"""quant/blocks.py: cutting an array into pieces, and what the pieces must not change."""

from __future__ import annotations

from typing import List, Tuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphwq.quant import blocks
from graphwq.quant.blocks import merge_axes, row_ranges


@pytest.mark.parametrize(
    ("shape", "kept", "flat", "scale"),
    [
        ((3, 3, 64, 128), (3,), (576, 128), (1, 128)),
        ((3, 3, 64, 128), (), (73728,), (1,)),
        ((3, 3, 64, 128), (0, 1, 2, 3), (73728,), (73728,)),
        ((3, 3, 8, 2), (2, 3), (9, 16), (1, 16)),
        ((3, 3, 8, 2), (2,), (9, 8, 2), (1, 8, 1)),
        ((3, 3, 8, 2), (0, 2), (3, 3, 8, 2), (3, 1, 8, 1)),
        ((10, 4), (0,), (10, 4), (10, 1)),
        ((1, 1, 6, 4), (3,), (6, 4), (1, 4)),
        ((5, 1, 4), (1,), (20,), (1,)),
        ((5, 1, 4), (0, 2), (20,), (20,)),
        ((1, 1), (1,), (1,), (1,)),
        ((1,), (), (1,), (1,)),
        ((), (), (1,), (1,)),
    ],
)
def test_axes_are_merged(
    shape: Tuple[int, ...], kept: Tuple[int, ...], flat: Tuple[int, ...], scale: Tuple[int, ...]
) -> None:
    """Neighbours that are both kept or both reduced become one axis, axes of size 1 vanish."""
    assert merge_axes(shape, kept) == (flat, scale)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 31))
def test_merging_does_not_change_what_is_reduced(shape: List[int], mask: int) -> None:
    """The maximum over the merged axes is the maximum over the axes: no channel gets mixed up."""
    kept = tuple(axis for axis in range(len(shape)) if mask >> axis & 1)
    values = np.random.RandomState(mask).permutation(int(np.prod(shape))).reshape(shape)
    flat_shape, flat_scale = merge_axes(tuple(shape), kept)
    assert int(np.prod(flat_shape)) == values.size
    flat = values.reshape(flat_shape)
    reduced = tuple(axis for axis, size in enumerate(flat_scale) if size == 1)
    expected = values.max(tuple(axis for axis in range(len(shape)) if axis not in kept))
    assert flat.max(reduced).reshape(-1).tolist() == expected.reshape(-1).tolist()


@pytest.mark.parametrize("elements", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("shape", [(1,), (100,), (10, 3), (3, 1000), (2, 3, 5), (17, 1, 1)])
def test_ranges_cover_every_row_once(shape: Tuple[int, ...], elements: int) -> None:
    """In order, without gap or overlap, none empty, none larger than asked but for a single row."""
    with mock.patch.object(blocks, "BLOCK_ELEMENTS", elements):
        ranges = list(row_ranges(shape))
    assert [row for begin, end in ranges for row in range(begin, end)] == list(range(shape[0]))
    row = int(np.prod(shape[1:]))
    assert all(end - begin == 1 or (end - begin) * row <= elements for begin, end in ranges)


def test_an_array_that_fits_is_one_piece() -> None:
    """Nothing is cut that need not be."""
    assert list(row_ranges((100, 10))) == [(0, 100)]


def test_pieces_are_as_long_as_they_may_be() -> None:
    """25 rows of 10 in pieces of 100 elements: ten, ten, five."""
    with mock.patch.object(blocks, "BLOCK_ELEMENTS", 100):
        assert list(row_ranges((25, 10))) == [(0, 10), (10, 20), (20, 25)]
