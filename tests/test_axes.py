"""Axes carried through the ops that move a weight about, against numpy itself."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from axis_oracle import Labels, check_claims, unjustified_losses
from hypothesis import given
from hypothesis import strategies as st

from graphwq.survey import axes
from graphwq.survey.axes import AxisMap

Shape = Tuple[int, ...]
#: (what, arguments): one step of a chain.
Step = Tuple[str, Any]


def follow(shape: Shape, *steps: Step) -> Optional[AxisMap]:
    """The map after the steps."""
    current: Optional[AxisMap] = axes.start(shape)
    for name, argument in steps:
        assert current is not None
        operation = getattr(axes, name)
        current = operation(current, *(argument if name == "resize" else (argument,)))
    return current


def move(labels: Labels, step: Step) -> Labels:
    """The same step by numpy."""
    name, argument = step
    if name == "insert":
        return labels.apply(lambda array: np.expand_dims(array, argument))
    if name == "remove":
        return labels.apply(lambda array: np.squeeze(array, tuple(argument)))
    if name == "permute":
        return labels.apply(lambda array: array.transpose(argument))
    if name == "reshape":
        return labels.apply(lambda array: array.reshape(argument))
    axis, size = argument
    cut = labels.apply(lambda array: array)
    if size < labels.shape[axis]:
        cut.mix(axis)
    return cut.apply(lambda array: np.take(array, range(size), axis))


# -------------------------------------------------------------------------------------- by hand


def test_the_weight_itself() -> None:
    """At the start every axis is itself; none kept, none claimed."""
    current = axes.start((3, 3, 16, 32))
    assert current.shape == (3, 3, 16, 32)
    assert [current.kept([axis]) for axis in range(4)] == [(0,), (1,), (2,), (3,)]
    assert current.kept([]) == ()
    assert current.kept([3, 1]) == (1, 3)


CASES: List[Tuple[str, Shape, List[Step], Shape, List[Optional[Shape]]]] = [
    # name, shape, steps, shape behind, claim for each single axis
    ("conv1d", (5, 8, 4), [("insert", 0)], (1, 5, 8, 4), [(), (0,), (1,), (2,)]),
    ("insert at the end", (2, 3), [("insert", -1)], (2, 3, 1), [(0,), (1,), ()]),
    ("insert before the end", (2, 3), [("insert", -2)], (2, 1, 3), [(0,), (), (1,)]),
    ("squeeze", (1, 1, 4, 5), [("remove", (0, 1))], (4, 5), [(2,), (3,)]),
    ("squeeze from the end", (1, 4, 1), [("remove", (-1,))], (1, 4), [(), (1,)]),
    ("transpose", (2, 3, 4), [("permute", (2, 0, 1))], (4, 2, 3), [(2,), (0,), (1,)]),
    ("transpose twice", (2, 3), [("permute", (1, 0))] * 2, (2, 3), [(0,), (1,)]),
    ("resize", (4, 6), [("resize", (1, 2))], (4, 2), [(0,), (1,)]),
    ("resize from the end", (4, 6), [("resize", (-1, 2))], (4, 2), [(0,), (1,)]),
    ("same shape", (4, 6), [("reshape", (4, 6))], (4, 6), [(0,), (1,)]),
    ("a hole", (4, 6), [("reshape", (4, -1))], (4, 6), [(0,), (1,)]),
    ("merge all", (4, 6), [("reshape", (-1,))], (24,), [(0, 1)]),
    ("merge the first", (3, 3, 8, 16), [("reshape", (-1, 16))], (72, 16), [(0, 1, 2), (3,)]),
    ("merge the last", (3, 4, 5), [("reshape", (3, 20))], (3, 20), [(0,), (1, 2)]),
    ("ones out", (1, 1, 8, 4), [("reshape", (8, 4))], (8, 4), [(2,), (3,)]),
    ("ones in", (8, 4), [("reshape", (1, 1, 8, 4))], (1, 1, 8, 4), [(), (), (0,), (1,)]),
    ("ones moved", (8, 1, 4), [("reshape", (8, 4, 1))], (8, 4, 1), [(0,), (2,), ()]),
    ("ones only", (1, 1), [("reshape", (1,))], (1,), [()]),
    ("split", (12, 5), [("reshape", (3, 4, 5))], (3, 4, 5), [None, None, (1,)]),
    ("split, other axis kept", (5, 12), [("reshape", (5, 3, 4))], (5, 3, 4), [(0,), None, None]),
    ("split with a one", (6,), [("reshape", (2, 1, 3))], (2, 1, 3), [None, (), None]),
    ("not aligned", (4, 6), [("reshape", (8, 3))], (8, 3), [None, None]),
    ("not aligned inside", (2, 4, 6, 5), [("reshape", (2, 8, 3, 5))], (2, 8, 3, 5),
     [(0,), None, None, (3,)]),
    ("split and merged", (12, 5), [("reshape", (3, 4, 5)), ("reshape", (12, 5))], (12, 5),
     [(0,), (1,)]),
    ("split, shuffled, merged", (6, 5),
     [("reshape", (2, 3, 5)), ("permute", (1, 0, 2)), ("reshape", (6, 5))], (6, 5), [(0,), (1,)]),
    ("merged with another", (6, 5), [("reshape", (2, 3, 5)), ("permute", (2, 0, 1)),
     ("reshape", (30,))], (30,), [(0, 1)]),
    ("two splits", (6, 4), [("reshape", (2, 3, 2, 2))], (2, 3, 2, 2), [None] * 4),
]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "steps", "behind", "claims"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_a_chain_by_hand(
    shape: Shape, steps: List[Step], behind: Shape, claims: List[Optional[Shape]]
) -> None:
    """What each axis of the tensor holds, worked out by hand; axes of size 1 hold nothing."""
    current = follow(shape, *steps)
    assert current is not None
    assert current.shape == behind
    found = [current.kept([axis]) for axis in range(len(behind))]
    longer = [
        claim and tuple(axis for axis in claim if shape[axis] > 1 and behind[place] > 1)
        for place, claim in enumerate(found)
    ]
    assert longer == claims


def test_all_parts_of_a_split_axis_are_the_axis() -> None:
    """Keeping both halves of a split axis keeps the axis; one half alone keeps nothing usable."""
    current = follow((12, 5), ("reshape", (3, 4, 5)))
    assert current is not None
    assert current.kept([0, 1]) == (0,)
    assert current.kept([0, 1, 2]) == (0, 1)
    assert current.kept([0, 2]) is None
    assert current.kept([2]) == (1,)


def test_parts_of_two_splits_do_not_complete_each_other() -> None:
    """One part of each of two split axes is two incomplete axes."""
    current = follow((6, 6), ("reshape", (2, 3, 2, 3)))
    assert current is not None
    assert current.kept([0, 3]) is None
    assert current.kept([0, 1]) == (0,)
    assert current.kept([2, 3]) == (1,)


def test_parts_of_one_axis_split_twice_do_not_complete_each_other() -> None:
    """An axis split as 2x3 and later as 3x2 has parts of two reshapes; they do not mix."""
    current = follow((6, 6), ("reshape", (2, 3, 6)), ("reshape", (6, 6)), ("reshape", (3, 2, 2, 3)))
    if current is None:
        return  # given up altogether: no wrong claim either
    assert current.kept([0]) is None
    assert current.kept([0, 2]) is None
    assert current.kept([0, 1]) == (0,)


def test_merging_a_part_with_a_stranger_loses_the_axes() -> None:
    """Half of an axis cannot be told apart from what it is merged with."""
    current = follow((6, 5), ("reshape", (2, 3, 5)))
    assert current is not None
    merged = axes.reshape(current, (2, 15))
    assert merged is None or merged.kept([1]) is None
    whole = axes.reshape(current, (6, 5))
    assert whole is not None
    assert whole.kept([0]) == (0,)


def test_merging_and_unmerging_gives_the_axes_back() -> None:
    """Flatten and unflatten is nothing at all: no axis is split, so none may be lost."""
    current = follow((3, 3, 16, 32), ("reshape", (-1,)), ("reshape", (3, 3, 16, 32)))
    assert current is not None
    assert [current.kept([axis]) for axis in range(4)] == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("shape", "step"),
    [
        ((2, 3), ("insert", 3)),
        ((2, 3), ("insert", -4)),
        ((2, 3), ("remove", (2,))),
        ((2, 3), ("remove", (-3,))),
        ((2, 3), ("permute", (0, 0))),
        ((2, 3), ("permute", (0,))),
        ((2, 3), ("permute", (0, 1, 2))),
        ((2, 3), ("permute", (0, 2))),
        ((2, 3), ("resize", (2, 1))),
        ((2, 3), ("reshape", (5,))),
        ((2, 3), ("reshape", (4, -1))),
        ((2, 3), ("reshape", (-1, -1))),
        ((2, 3), ("reshape", (2, 3, 2))),
        ((2, 3), ("reshape", ())),
        ((2, 3), ("reshape", (0,))),
        ((2, 3), ("reshape", (0, -1))),
        ((2, 3), ("reshape", (-2, 3, -1))),
    ],
)
def test_what_no_tensor_can_do_gives_no_map(shape: Shape, step: Step) -> None:
    """Axes out of range and sizes that do not fit are None, never a guess or a crash."""
    assert follow(shape, step) is None


def test_an_unknown_length_is_not_reshaped() -> None:
    """Behind a concatenation lengths are unknown: a reshape there could mean anything."""
    once = follow((2, 4, 6), ("resize", (0, -1)))
    assert once is not None
    assert axes.reshape(once, (-1, 6)) is None
    twice = axes.resize(once, 1, -1)
    assert twice is not None
    assert axes.reshape(twice, (-1, 6)) is None
    assert axes.reshape(twice, (6,)) is None


def test_a_reshape_that_does_not_line_up_spares_the_axes_that_do() -> None:
    """(4, 6, 5) -> (3, 8, 5) mixes the first two axes; the last one is what it was."""
    current = follow((4, 6, 5), ("reshape", (3, 8, 5)))
    assert current is not None
    assert current.kept([2]) == (2,)
    assert current.kept([0, 1]) == (0, 1)
    assert current.kept([0]) is None


def test_kept_takes_axes_in_any_order_and_gives_them_sorted() -> None:
    """Claims are compared and used as tuples, so their order is fixed."""
    current = follow((2, 3, 4), ("permute", (2, 1, 0)))
    assert current is not None
    assert current.kept([0, 1]) == current.kept([1, 0]) == (1, 2)


# ----------------------------------------------------------------------------------- property


def _factorizations(draw: st.DrawFn, total: int) -> Shape:
    """Some shape of that many elements."""
    shape: List[int] = []
    while total > 1 and len(shape) < 4:
        factors = [size for size in range(1, total + 1) if total % size == 0]
        shape.append(draw(st.sampled_from(factors)))
        total //= shape[-1]
    shape.insert(draw(st.integers(0, len(shape))), total)
    return tuple(shape)


_KINDS = ["reshape", "permute", "insert", "remove", "resize"]


@st.composite
def chains(draw: st.DrawFn) -> Tuple[Shape, List[Step]]:
    """A small weight and one to five operations that numpy can do."""
    weight = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    shape, steps = weight, []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(
            st.sampled_from(["reshape", "reshape", "permute", "insert", "remove", "resize"])
        )
        step: Step
        if kind == "reshape":
            step = (kind, _factorizations(draw, int(np.prod(shape))))
        elif kind == "permute":
            order = draw(st.permutations(range(len(shape))))
            step = (kind, tuple(order))
        elif kind == "insert" and len(shape) < 5:
            step = (kind, draw(st.integers(-len(shape) - 1, len(shape))))
        elif kind == "remove" and 1 in shape and len(shape) > 1:
            ones = [axis for axis, size in enumerate(shape) if size == 1]
            gone = draw(st.lists(st.sampled_from(ones), min_size=1, unique=True))
            gone = gone[: len(shape) - 1]
            step = (kind, tuple(axis - draw(st.sampled_from([0, len(shape)])) for axis in gone))
        elif kind == "resize" and shape:
            axis = draw(st.integers(0, len(shape) - 1))
            step = (kind, (axis, draw(st.integers(1, shape[axis]))))
        else:
            continue
        steps.append(step)
        shape = move(Labels(shape), step).shape
    return weight, steps


def _walk(weight: Shape, steps: Sequence[Step]) -> List[Tuple[Optional[AxisMap], Labels]]:
    """Map and truth after every step, up to the first step behind which there is no map."""
    found: List[Tuple[Optional[AxisMap], Labels]] = [(axes.start(weight), Labels(weight))]
    for step in steps:
        current, labels = found[-1]
        assert current is not None
        name, argument = step
        result = getattr(axes, name)(current, *(argument if name == "resize" else (argument,)))
        found.append((result, move(labels, step)))
        if result is None:
            break
    return found


@given(chains())
def test_no_claim_is_wrong_and_none_forgets_an_axis(chain: Tuple[Shape, List[Step]]) -> None:
    """Group the elements by the kept axes: exactly the claimed axes are constant in each group.

    (Axes of which a slice has left one index only are constant anyway.)
    """
    for current, labels in _walk(*chain):
        if current is not None:
            assert current.shape == labels.shape
            check_claims(current, labels)


@given(chains())
def test_axes_are_given_up_only_where_one_was_split(chain: Tuple[Shape, List[Step]]) -> None:
    """None, instead of a claim, only where a reshape has really cut an axis into parts."""
    for current, labels in _walk(*chain):
        assert unjustified_losses(current, labels) == []
