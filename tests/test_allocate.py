"""Allocation: within the budget, as good as trying everything, the same every time."""

from __future__ import annotations

import itertools
from typing import List, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphwq.quant import allocate as module
from graphwq.quant.allocate import allocate

_Problem = Tuple[List[List[int]], List[List[float]], int]


@st.composite
def _problems(draw: st.DrawFn, most: int = 5) -> _Problem:  # type: ignore[name-defined]
    count = draw(st.integers(1, most))
    sizes, costs = [], []
    for _ in range(count):
        width = draw(st.integers(1, 4))
        sizes.append(draw(st.lists(st.integers(0, 30), min_size=width, max_size=width)))
        values = st.one_of(st.integers(0, 40).map(float), st.just(np.inf))
        own = draw(st.lists(values, min_size=width, max_size=width))
        own[draw(st.integers(0, width - 1))] = float(draw(st.integers(0, 40)))
        costs.append(own)
    return sizes, costs, draw(st.integers(0, 30 * count))


def _best(sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], budget: int) -> float:
    """The least cost, by trying everything; infinite where nothing fits."""
    least = np.inf
    for choice in itertools.product(*(range(len(own)) for own in sizes)):
        if sum(own[place] for own, place in zip(sizes, choice)) <= budget:
            least = min(least, sum(own[place] for own, place in zip(costs, choice)))
    return least


@given(_problems())
def test_as_good_as_trying_everything(problem: _Problem) -> None:
    """Law: never over the budget, never worse than the best, None only where nothing fits."""
    sizes, costs, budget = problem
    found = allocate(sizes, costs, budget)
    best = _best(sizes, costs, budget)
    if found is None:
        assert best == np.inf
        return
    assert found.size == sum(own[place] for own, place in zip(sizes, found.choices)) <= budget
    assert found.cost == sum(own[place] for own, place in zip(costs, found.choices))
    assert found.exact
    assert found.cost == best == found.bound


@given(_problems(), st.integers(0, 40))
def test_a_larger_budget_never_costs_more(problem: _Problem, more: int) -> None:
    """Law: monotone in the budget."""
    sizes, costs, budget = problem
    one, two = allocate(sizes, costs, budget), allocate(sizes, costs, budget + more)
    if one is not None:
        assert two is not None
        assert two.cost <= one.cost


@given(_problems(12))
def test_the_greedy_answer_is_within_its_bound(problem: _Problem) -> None:
    """Law: without the exact search: in the budget, monotone, its bound below the optimum."""
    sizes, costs, budget = problem
    exact = allocate(sizes, costs, budget)
    found: List[Optional[module.Allocation]] = []
    limit, module.MOST_STATES = module.MOST_STATES, -1
    try:
        for number in range(4):
            found.append(allocate(sizes, costs, budget + 7 * number))
    finally:
        module.MOST_STATES = limit
    if exact is None:
        assert found[0] is None
        return
    greedy = found[0]
    assert greedy is not None
    assert greedy.size <= budget
    assert greedy.bound <= exact.cost + 1e-9
    assert exact.cost <= greedy.cost + 1e-9
    largest = max((max(own) - min(own) for own in map(_finite, costs)), default=0.0)
    assert greedy.cost - greedy.bound <= largest + 1e-9
    assert not greedy.exact or greedy.cost == pytest.approx(exact.cost)
    for one, two in zip(found, found[1:]):
        assert one is not None
        assert two is not None
        assert two.cost <= one.cost + 1e-9


def _finite(values: Sequence[float]) -> List[float]:
    return [value for value in values if np.isfinite(value)]


def test_ties_go_to_the_smaller_and_to_the_first() -> None:
    """Equal costs: the smaller choice; equal in both: the one that stands first."""
    found = allocate([[5, 3, 3], [4, 4]], [[1.0, 1.0, 1.0], [2.0, 2.0]], 100)
    assert found is not None
    assert found.choices == (1, 0)
    assert found.size == 7


def test_equal_weights_are_told_apart_by_their_order() -> None:
    """Three weights of the same table, room for one step: always the same one."""
    table = ([[1, 2]] * 3, [[4.0, 1.0]] * 3, 4)
    found = {allocate(*table).choices for _ in range(3)}  # type: ignore[union-attr]
    assert len(found) == 1
    assert sum(found.pop()) == 1


def test_a_large_problem_is_solved_exactly_and_soon() -> None:
    """160 weights of 8 widths, costs that fall by a factor of 4 a bit: the real shape."""
    random = np.random.RandomState(0)
    counts = np.exp(random.uniform(4, 12, 160)).astype(int)
    scale = np.exp(random.randn(160))
    bits = np.array([2, 3, 4, 5, 6, 7, 8, 32])
    sizes = [[int(count * width) for width in bits] for count in counts]
    costs = [[float(own * 4.0**-width) if width < 32 else 0.0 for width in bits] for own in scale]
    budget = int(counts.sum() * 4)
    found = allocate(sizes, costs, budget)
    uniform = sum(own[2] for own in costs)
    assert found is not None
    assert found.size <= budget
    assert found.cost < 0.7 * uniform
    assert found.cost - found.bound <= 1e-4 * found.cost


def test_a_weight_without_a_choice_is_an_error() -> None:
    """All its choices are impossible: the caller's mistake."""
    with pytest.raises(ValueError, match="no possible choice"):
        allocate([[1]], [[np.inf]], 5)


def test_nothing_to_choose() -> None:
    """No weights: nothing is chosen, at no cost."""
    found = allocate([], [], 0)
    assert found is not None
    assert (found.choices, found.size, found.cost, found.exact) == ((), 0, 0.0, True)
