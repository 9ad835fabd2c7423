"""Choosing one of several widths for each weight: the least cost within a budget of sizes.

    minimize    sum_l cost[l][c_l]        subject to    sum_l size[l][c_l] <= budget

This is the multiple-choice knapsack problem. Two steps:

    greedy   start from the smallest choices; walk up the convex hulls of all weights together, the
             step that saves most cost per size first, leaving out steps that do not fit. With a
             Lagrange multiplier this is the optimum at every budget where no step is left out, and
             the multiplier of the first step that does not fit bounds every other solution.
    exact    partial choices, weight by weight (dynamic programming over the pairs of size and cost
             that no other pair beats), without those that the bound shows to lead nowhere. Where
             too many are left, the greedy answer stands; ``bound`` says what it may miss.

Sources: Sinha and Zoltners, "The multiple-choice knapsack problem" (1979), for the hulls; Pisinger,
"A minimal algorithm for the multiple-choice knapsack problem" (1995), for the pruning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np

#: Partial choices that are kept at most while looking for the exact optimum.
MOST_STATES = 1 << 14
#: Costs whose difference is below this part of the total are equal.
_EQUAL = 1e-12


@dataclass(frozen=True)
class Allocation:
    """One choice for each weight.

    Attributes:
        choices: the number of the choice, by weight.
        size: their sizes together, at most the budget.
        cost: their costs together.
        bound: no allocation within the budget costs less.
        exact: none costs less than this one.
    """

    choices: Tuple[int, ...]
    size: int
    cost: float
    bound: float
    exact: bool


@dataclass(frozen=True)
class _Step:
    """From one corner of a weight's hull to the next: more size, less cost."""

    weight: int
    choice: int
    size: int
    gain: float

    @property
    def rate(self) -> float:
        return self.gain / self.size


def allocate(
    sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], budget: int
) -> Optional[Allocation]:
    """Choose for every weight.

    Of choices that cost the same, the smaller one is taken, then the one that is listed first.

    Args:
        sizes: whole numbers >= 0, [weights][choices].
        costs: same lengths, >= 0; infinite where a choice is not possible.
        budget: for the sum of sizes.

    Returns:
        None where even the smallest choices are over the budget.

    Raises:
        ValueError: a weight without a possible choice.
    """
    options = [_undominated(own, other) for own, other in zip(sizes, costs)]
    if any(not own for own in options):
        raise ValueError("a weight has no possible choice")
    smallest = sum(own[0][0] for own in options)
    if smallest > budget:
        return None
    hulls = [_hull(own) for own in options]
    greedy, bound = _greedy(options, hulls, budget)
    found, complete = greedy, _cost(options, greedy) <= bound * (1 + _EQUAL)
    if not complete:
        better = _search(options, hulls, budget, _cost(options, greedy))
        complete = better is not None
        found = better or greedy
    cost = _cost(options, found)
    return Allocation(
        tuple(options[weight][place][2] for weight, place in enumerate(found)),
        sum(options[weight][place][0] for weight, place in enumerate(found)),
        cost,
        cost if complete else bound,
        complete,
    )


#: (size, cost, number of the choice), sizes rising and costs falling.
_Options = List[Tuple[int, float, int]]


def _undominated(sizes: Sequence[int], costs: Sequence[float]) -> _Options:
    """The choices that no other one beats in both size and cost."""
    ordered = sorted(zip(sizes, costs, range(len(sizes))))
    kept: _Options = []
    for size, cost, number in ordered:
        if np.isfinite(cost) and (not kept or cost < kept[-1][1]):
            kept.append((int(size), float(cost), number))
    return kept


def _hull(options: _Options) -> List[int]:
    """Places of the choices on the lower convex hull of cost over size."""
    hull: List[int] = []
    for place, (size, cost, _) in enumerate(options):
        while len(hull) > 1:
            first, middle = options[hull[-2]], options[hull[-1]]
            if (first[1] - middle[1]) * (size - middle[0]) > (middle[1] - cost) * (
                middle[0] - first[0]
            ):
                break
            hull.pop()
        hull.append(place)
    return hull


def _steps(options: Sequence[_Options], hulls: Sequence[List[int]]) -> List[_Step]:
    """All steps, the one that saves most per size first."""
    steps = []
    for weight, (own, hull) in enumerate(zip(options, hulls)):
        for low, high in zip(hull, hull[1:]):
            size, gain = own[high][0] - own[low][0], own[low][1] - own[high][1]
            steps.append(_Step(weight, high, size, gain))
    return sorted(steps, key=lambda step: (-step.rate, step.size, step.weight, step.choice))


def _greedy(
    options: Sequence[_Options], hulls: Sequence[List[int]], budget: int
) -> Tuple[List[int], float]:
    """(places, a cost that nothing is below)."""
    places = [hull[0] for hull in hulls]
    left = budget - sum(own[place][0] for own, place in zip(options, places))
    bound = cost = sum(own[place][1] for own, place in zip(options, places))
    ended, bounded = set(), False
    for step in _steps(options, hulls):
        if step.weight in ended:
            continue
        if step.size > left:
            if not bounded:
                bound, bounded = max(cost - step.rate * left, 0.0), True
            ended.add(step.weight)
            continue
        places[step.weight] = step.choice
        left -= step.size
        cost -= step.gain
    if not bounded:
        bound = sum(own[place][1] for own, place in zip(options, places))
    return places, bound


def _cost(options: Sequence[_Options], places: Sequence[int]) -> float:
    return float(sum(own[place][1] for own, place in zip(options, places)))


def _search(
    options: Sequence[_Options], hulls: Sequence[List[int]], budget: int, known: float
) -> Optional[List[int]]:
    """The places of an optimum; None where it would take too many states.

    Weights are taken in order of falling largest size, so that the choices that matter come first.
    """
    order = sorted(range(len(options)), key=lambda one: (-options[one][-1][0], one))
    sizes, costs = np.zeros(1, np.int64), np.zeros(1)
    history: List[Tuple[np.ndarray, np.ndarray]] = []
    limit = known * (1 + _EQUAL)
    rest = _Rest(options, hulls, order)
    for number, weight in enumerate(order):
        own = options[weight]
        count = len(sizes)
        new_sizes = np.concatenate([sizes + choice[0] for choice in own])
        new_costs = np.concatenate([costs + choice[1] for choice in own])
        parents = np.tile(np.arange(count), len(own))
        places = np.repeat(np.arange(len(own)), count)
        keep = rest.least(number + 1, budget - new_sizes) + new_costs <= limit
        new_sizes, new_costs = new_sizes[keep], new_costs[keep]
        parents, places = parents[keep], places[keep]
        front = _front(new_sizes, new_costs)
        if len(front) > MOST_STATES:
            return None
        sizes, costs = new_sizes[front], new_costs[front]
        history.append((parents[front], places[front]))
    if not len(sizes):
        return None
    at = int(len(costs) - 1)  # the largest size has the least cost
    found = [0] * len(options)
    for weight, (parents, places) in zip(reversed(order), reversed(history)):
        found[weight] = int(places[at])
        at = int(parents[at])
    return found


def _front(sizes: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Indices of the pairs that no other pair beats, sizes rising and costs falling."""
    order = np.lexsort((costs, sizes))
    least = np.minimum.accumulate(costs[order])
    first = np.concatenate([[True], costs[order][1:] < least[:-1]]) if len(order) else order > 0
    return order[first]


class _Rest:
    """The least cost of the weights that are still to come, as a function of what is left.

    Args:
        options, hulls: of all weights.
        order: in which the weights are taken.
    """

    def __init__(
        self, options: Sequence[_Options], hulls: Sequence[List[int]], order: Sequence[int]
    ) -> None:
        steps = _steps(options, hulls)
        turn = {weight: number for number, weight in enumerate(order)}
        self._turns = np.array([turn[step.weight] for step in steps], np.int64)
        self._sizes = np.array([step.size for step in steps], np.int64)
        self._gains = np.array([step.gain for step in steps])
        self._smallest = _from_the_end([options[weight][0][0] for weight in order])
        self._dearest = _from_the_end([options[weight][0][1] for weight in order])

    def least(self, number: int, left: np.ndarray) -> np.ndarray:
        """After ``number`` weights, for each budget; infinite where it is too small."""
        coming = self._turns >= number
        sizes = self._smallest[number] + np.concatenate([[0], np.cumsum(self._sizes[coming])])
        costs = self._dearest[number] - np.concatenate([[0.0], np.cumsum(self._gains[coming])])
        return np.where(left < sizes[0], np.inf, np.interp(left, sizes, costs))


def _from_the_end(values: Sequence[float]) -> List[float]:
    """For each place the sum of what stands there and behind it; 0 at the end."""
    sums: List[float] = [0]
    for value in reversed(values):
        sums.append(sums[-1] + value)
    return sums[::-1]
