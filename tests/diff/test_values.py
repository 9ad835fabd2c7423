"""graphwq/diff/values.py, order.py, histogram.py, listing.py: numbers and words, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from hypothesis import given
from hypothesis import strategies as st

from diff.planting import PLANTED, edited, model
from graphwq.diff import values
from graphwq.diff.histogram import histogram
from graphwq.diff.listing import listing
from graphwq.diff.order import moved, order_change
from graphwq.diff.values import compare_arrays
from graphwq.quant.grid import Grid


def test_the_numbers_by_hand() -> None:
    """(3, 4) against (3, 5): one of two values, SQNR 10 log10(25 / 1)."""
    found = compare_arrays(np.array([3.0, 4.0]), np.array([3.0, 5.0]))
    assert (found.elements, found.changed, found.max_abs_difference) == (2, 1, 1.0)
    assert found.sqnr_db == pytest.approx(10 * math.log10(25))
    assert found.fraction_changed == 0.5


def test_nan_and_infinity() -> None:
    """NaN equals NaN; a value that became NaN is changed and counts in no sum."""
    nan, inf = np.nan, np.inf
    old = np.array([nan, 1, 2, inf, nan], np.float32)
    new = np.array([nan, nan, 2, -inf, 3], np.float32)
    found = compare_arrays(old, new)
    assert found.changed == 3
    assert (found.nonfinite_old, found.nonfinite_new) == (3, 3)
    assert (found.sum_squares, found.sum_squared_errors) == (4.0, 0.0)
    assert found.to_json()["sqnr_db"] is None


def test_the_sign_of_zero_counts() -> None:
    """0.0 is not -0.0, and is named as that."""
    found = compare_arrays(np.zeros(3, np.float32), np.array([0, -0.0, 0], np.float32))
    assert found.changed == 1
    assert found.describe() == "the sign of 1 zero flipped"


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers in one block and in many."""
    old, new = random_weight((1000,), 1), random_weight((1000,), 2)
    new[::3] = old[::3]
    whole = compare_arrays(old, new)
    monkeypatch.setattr(values, "_BLOCK", 64)
    parts = compare_arrays(old, new)
    assert parts.changed == whole.changed == np.count_nonzero(old != new)
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db)
    assert parts.max_abs_difference == whole.max_abs_difference
    data = bytes(range(256)) * 1000
    assert values.same_bytes(data, bytes(data))
    assert not values.same_bytes(data, data[:-1] + b"x")


def test_one_value_that_fills_a_shape_costs_nothing() -> None:
    """Two splats of 10^12 elements are compared by their one value."""
    old = np.broadcast_to(np.float32(1), (10**6, 10**6))
    found = compare_arrays(old, np.broadcast_to(np.float32(2), (10**6, 10**6)))
    assert (found.elements, found.changed) == (10**12, 10**12)
    assert found.sqnr_db == 0.0
    assert compare_arrays(old, old).changed == 0
    filled = compare_arrays(np.broadcast_to(np.float32(1), (2, 2)), np.array([[1, 1], [1, 3]]))
    assert filled.changed == 1


def test_grids_in_words() -> None:
    """Symmetric and affine, per tensor, axis and axes."""
    said = values.describe_grid
    assert said(Grid(4, (3,), exact=True)) == "on a symmetric 4-bit grid per axis 3"
    assert said(Grid(8, (), exact=False, symmetric=False)) == "on an affine 8-bit grid"
    assert said(Grid(2, (2, 3), exact=True)).endswith("per axes 2,3")


@given(st.permutations(list(range(12))))
def test_moved_is_the_fewest(positions: list) -> None:
    """Without the moved ones the rest ascends, and no smaller set would do."""
    gone = set(moved(positions))
    rest = [item for index, item in enumerate(positions) if index not in gone]
    assert rest == sorted(rest)
    longest = [1] * len(positions)
    for index, item in enumerate(positions):
        for before in range(index):
            if positions[before] < item:
                longest[index] = max(longest[index], longest[before] + 1)
    assert len(rest) == max(longest)


def test_order_in_words() -> None:
    """One node that moved is named; nothing is said where none did."""
    change = order_change("", ["a", "b", "c"], ["b", "c", "a"])
    assert change is not None
    assert change.message == "1 node moved in the file: a"
    assert change.path == "a"
    assert order_change("f", ["a", "b"], ["a", "b"]) is None


def test_histograms() -> None:
    """All values are in the bars; without a range there is none."""
    old, new = np.linspace(-1, 1, 1000), np.repeat([-1.0, 0.0, 1.0], 100)
    found = histogram(old, new)
    assert found is not None
    assert (found.low, found.high, found.levels_new) == (-1.0, 1.0, 3)
    assert max(found.old + found.new) == 1.0
    assert sum(height > 0 for height in found.new) == 3
    assert histogram(np.zeros(5), np.zeros(5)) is None
    assert histogram(np.full(5, np.nan), np.ones(5)) is None


def test_the_listing() -> None:
    """One line a node; defaults and private attributes are left out, constants summed up."""
    lines = list(listing(model()))
    assert lines[0] == "x = Placeholder() dtype=float32 shape=[?,8,8,3]"
    assert "conv1/Relu = Relu(conv1/BiasAdd) T=float32" in lines
    assert "flat/shape = Const() int32 [2] [-1, 1024]" in lines
    assert "function double(a)" in lines
    assert "  twice = Add(a, a) T=float32" in lines
    assert lines[-1] == "  return result:activations:0"
    constant = next(line for line in lines if line.startswith("head/weights"))
    assert constant.startswith("head/weights = Const() float32 [1024,10] -0.")


@pytest.mark.parametrize("name", sorted(set(PLANTED) - {"versions"}))
def test_the_listing_shows_every_edit(name: str) -> None:
    """git's line diff of the listings sees whatever is not a version."""
    old = model()
    assert list(listing(old)) != list(listing(edited(old, PLANTED[name].apply)))


def test_the_listing_is_printable() -> None:
    """Whatever is in a name, its line is one printable line of bounded length."""
    b = GraphBuilder()
    b.op("\x1b[31m\n" + "x" * 10**6, "Relu\x07", ["\r"], device="\x1b", k="\x1b" * 500)
    for line in listing(b.graph()):
        assert line.isprintable()
        assert len(line) < 2000
