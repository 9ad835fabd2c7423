"""im2col against loops, the Gram matrix against exact sums."""

from __future__ import annotations

from typing import Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphwq.calibrate.gram import gram
from graphwq.calibrate.patches import rows_of, same_pads, windows


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pads"),
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 3, 2, 1, (1, 1)),
        (4, 3, 2, 1, (0, 1)),
        (7, 3, 1, 2, (2, 2)),
        (6, 1, 2, 1, (0, 0)),
        (8, 2, 3, 1, (0, 0)),
        (2, 5, 1, 1, (2, 2)),
    ],
)
def test_same_padding(
    size: int, kernel: int, stride: int, dilation: int, pads: Tuple[int, int]
) -> None:
    """What TensorFlow pads with SAME: the odd pixel comes behind."""
    assert same_pads((size,), (kernel,), (stride,), (dilation,)) == (pads,)


@given(seed=st.integers(0, 2**32 - 1))
def test_windows_are_what_loops_cut(seed: int) -> None:
    """Every window holds the values that an index computation finds, zeros in the padding."""
    random = np.random.RandomState(seed)
    sizes, kernel = random.randint(3, 8, 2), tuple(random.randint(1, 4, 2))
    strides, dilations = tuple(random.randint(1, 3, 2)), tuple(random.randint(1, 3, 2))
    pads = tuple((int(a), int(b)) for a, b in random.randint(0, 3, (2, 2)))
    value = random.randn(2, *sizes, 3)
    padded = np.pad(value, ((0, 0), *pads, (0, 0)))
    view = windows(value, kernel, strides, dilations, pads)
    for place in np.ndindex(*view.shape[:5]):
        sample, row, column, down, across = place
        y = row * strides[0] + down * dilations[0]
        x = column * strides[1] + across * dilations[1]
        assert np.array_equal(view[place], padded[sample, y, x])
    reach = [(taps - 1) * gap + 1 for taps, gap in zip(kernel, dilations)]
    for axis in (0, 1):
        count = (padded.shape[1 + axis] - reach[axis]) // strides[axis] + 1
        assert view.shape[1 + axis] == max(0, count)


def test_a_kernel_that_does_not_fit_has_no_windows() -> None:
    """No window, no error, nothing read beyond the array."""
    assert windows(np.zeros((1, 2, 2, 1)), (3, 3), (1, 1), (1, 1), ((0, 0), (0, 0))).size == 0


def test_at_most_so_many_windows() -> None:
    """Evenly spread, without repetition, the same every time."""
    view = windows(np.arange(100.0).reshape(1, 10, 10, 1), (1, 1), (1, 1), (1, 1), ((0, 0),) * 2)
    assert rows_of(view, 2, 1000).reshape(-1).tolist() == list(range(100))
    some = rows_of(view, 2, 7).reshape(-1)
    assert len(set(some)) == 7
    assert some.min() < 15
    assert some.max() > 85


def test_gram_is_exact_and_close() -> None:
    """The same bits in any order of the rows, within 2^-17 of the true product."""
    random = np.random.RandomState(0)
    rows = (random.randn(2, 5000, 20) * 10.0 ** random.uniform(-3, 3, 20)).astype(np.float32)
    others = random.randn(2, 5000, 6).astype(np.float32)
    found = gram(rows, others)
    mixed = random.permutation(5000)
    assert np.array_equal(gram(rows[:, mixed], others[:, mixed]), found)
    true = np.einsum("bpi,bpj->bij", rows.astype(np.float64), others.astype(np.float64))
    bound = 5000 * np.abs(rows).max() * np.abs(others).max() * 2.0**-17
    assert np.abs(found - true).max() < bound
    square = gram(rows, rows)
    assert np.array_equal(square, square.swapaxes(1, 2))


def test_gram_of_nothing_and_of_zeros() -> None:
    """Zeros, not NaN."""
    assert not gram(np.zeros((1, 4, 3)), np.zeros((1, 4, 3))).any()
    assert gram(np.zeros((1, 0, 3)), np.zeros((1, 0, 3))).shape == (1, 3, 3)


def test_gram_of_one_input_for_all_problems() -> None:
    """The phases of a transposed convolution share their vectors: worked out once, as if apart."""
    random = np.random.RandomState(4)
    rows, others = random.standard_normal((2, 1, 50, 6))
    wide, wider = (np.broadcast_to(one, (5, 50, 6)) for one in (rows, others))
    assert np.array_equal(gram(wide, wider), gram(wide.copy(), wider.copy()))
    assert np.array_equal(gram(wide, wide), gram(wide.copy(), wide.copy()))
    assert np.array_equal(gram(wide, wider.copy()), gram(wide.copy(), wider.copy()))
