"""Mixed precision: a width for each weight, so that the errors are least within a target.

What counts against the target:

    dequant       bytes of the file: codes, scales, added nodes, decoding tables. An average of b
                  bits allows what b bits for every weight would take (a fraction lies between the
                  two whole widths), so a mixed file is never the larger one.
    bake,         bits of the codes; such files are as large as float ones.
    fake_quant

Weights that a rule names have the width that it says, on both sides of that comparison.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.quant.allocate import allocate
from graphwq.quant.scheme import MAX_BITS
from graphwq.rewrite.cost import table_nbytes
from graphwq.rewrite.mixture import WEIGHTS, Mixture
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import PLANES, Plan, PlanItem
from graphwq.rewrite.target import BITS, FLOAT_BITS, SHARE, Target
from graphwq.rewrite.weigh import WIDTHS
from graphwq.rewrite.widths import Carried, Widths
from graphwq.survey.sites import Survey, WeightSite
from graphwq.survey.view import View

#: Each width has decoding tables of its own, which weights share. So the widths that may occur
#: together are chosen from a short list; 8 bits, which needs none, and float always may.
_MENUS = (
    (2, 3, 4, 5, 6, 7),
    (2, 3, 4, 6),
    (2, 4, 6),
    (3, 4, 5),
    (2, 4),
    (3, 5),
    *((bits,) for bits in range(2, 8)),
    (),
)
#: Where the tables of all widths are a smaller part of the file, they are not looked at.
_DEAR_TABLES = 0.01
#: How often a plan that turns out too large is made smaller.
_TRIES = 12
#: How often the limit is moved by what was measured.
_SEARCHES = 4
#: Room that is not worth another search, as a part of what is allowed.
_SLACK = 0.001


def plan_mixed(
    graph: Graph, view: View, survey: Survey, options: Options, digest: Optional[str]
) -> Plan:
    """Plan widths for ``options.target``; see ``planning.plan_surveyed``.

    Raises:
        InputError: the target cannot be reached, or there is nothing to choose.
        QuantizationError: a weight holds NaN or Inf.
    """
    target = options.target
    assert target is not None
    return Mixer(graph, view, survey, options).plan(target, digest)


def _order(found: Carried) -> Tuple[float, int]:
    return found.error, found.nbytes


class Mixer:
    """The choices of one graph.

    Attributes:
        cost: what ``errors`` are, one of ``mixture.COSTS``.

    Raises:
        InputError: a pattern of the options matches no weight.
        QuantizationError: a weight holds NaN or Inf.
    """

    def __init__(self, graph: Graph, view: View, survey: Survey, options: Options) -> None:
        self._widths = Widths(graph, view, survey, options)
        self.cost = WEIGHTS

    def by(self, errors: Mapping[str, Sequence[float]], cost: str) -> Mixer:
        """The same choices with another table of costs."""
        other = copy(self)
        other._widths, other.cost = self._widths.by(errors), cost
        return other

    @property
    def errors(self) -> Mapping[str, Sequence[float]]:
        """By weight, at each of WIDTHS."""
        return self._widths.errors

    @property
    def free(self) -> Dict[str, int]:
        """How many values each weight has whose width is chosen."""
        return {one.site.weight: one.site.size for one in self._widths.free}

    @property
    def sites(self) -> Dict[str, Tuple[WeightSite, PlanItem]]:
        """The free weights, each with an item."""
        return {one.site.weight: (one.site, one.items[0]) for one in self._widths.free}

    def plan(self, target: Target, digest: Optional[str]) -> Plan:
        """The plan for a target.

        Raises:
            InputError: it cannot be reached, or there is nothing to choose.
        """
        if not self._widths.free:
            raise InputError(
                f"there is no weight whose width could be chosen to reach {target}: graphwq "
                "inspect shows the weights and why others are none"
            )
        found = self._by_size(target) if self._widths.in_bytes else self._by_bits(target)
        return self._finished(found, target, digest)

    def plan_uniform(self, target: Target, digest: Optional[str]) -> Optional[Plan]:
        """The plan of ``--bits`` with the largest width for all that is within a target."""
        if target.kind == BITS:
            found = self._widths.plain(min(int(target.value), MAX_BITS))
            return self._finished(found, target, digest)
        fitting = (self._widths.plain(bits) for bits in reversed(WIDTHS))
        allowed = self._allowed(target)
        best = next((one for one in fitting if one.nbytes <= allowed), None)
        return None if best is None else self._finished(best, target, digest)

    def uniform(self, num_bits: int) -> Tuple[Plan, int, float]:
        """One width for all free weights, as ``--bits`` gives it.

        Returns:
            (plan, bytes of the file, the errors of the weights together).
        """
        found = self._widths.plain(num_bits)
        return self._widths.plan(found, None), found.nbytes, found.error

    def _finished(self, found: Carried, target: Target, digest: Optional[str]) -> Plan:
        uniform = None
        if target.kind == BITS and target.value == int(target.value) <= MAX_BITS:
            uniform = self._all(int(target.value))
        rows = self._widths.rows(found.widths)
        mixture = Mixture(target, self.cost, found.nbytes, uniform, rows)
        return replace(self._widths.plan(found, digest), mixture=mixture)

    def _by_bits(self, target: Target) -> Carried:
        """The best within an average of bits."""
        free = self._widths.free
        sizes = [[one.site.size * bits for bits in (*WIDTHS, one.float_bits)] for one in free]
        budget = math.floor(target.value * sum(one.site.size for one in free) + 1e-6)
        widths = self._allocated(sizes, budget, WIDTHS)
        assert widths is not None
        return self._widths.measured(self._widths.carried(widths))

    def _by_size(self, target: Target) -> Carried:
        """The best within a number of bytes.

        What weights share, and what a changed consumer takes, is known only when it is written: so
        the limit of the search is moved by what was measured.
        """
        allowed, whole = self._allowed(target), self._widths.graph_nbytes
        start = self._start(target)
        best = self._widths.measured(start)
        if best.nbytes > allowed:
            raise InputError(
                f"{target} cannot be reached: the smallest file that the weights allow has "
                f"{best.nbytes} bytes ({100 * best.nbytes / whole:.1f} % of {whole})"
            )
        limit = allowed + start.nbytes - best.nbytes
        tables = sum(table_nbytes(bits, PLANES) for bits in WIDTHS if bits < MAX_BITS)
        menus = _MENUS if tables > _DEAR_TABLES * allowed else _MENUS[:1]
        tried: Set[int] = set()
        while limit not in tried and len(tried) < _SEARCHES:
            tried.add(limit)
            fitting = {one.widths: one for menu in menus for one in self._within(limit, menu)}
            excess = []
            for found in sorted(fitting.values(), key=_order):
                measured = self._widths.measured(found)
                excess.append(measured.nbytes - allowed)
                if excess[-1] <= 0:
                    best = min(best, measured, key=_order)
                    break
            if not excess or -_SLACK * allowed < excess[0] <= 0:
                break
            limit -= excess[0]
        return best

    def _start(self, target: Target) -> Carried:
        """A plan that is as small as an average asks for, or as small as can be."""
        if target.kind == BITS:
            return self._widths.same(min(int(target.value), MAX_BITS))
        found = []
        for menu in _MENUS:
            widths: List[Optional[int]] = []
            for one in self._widths.free:
                prices = {
                    bits: price
                    for bits, price in zip(WIDTHS, one.prices)
                    if bits in (*menu, MAX_BITS)
                }
                least = min(prices, key=lambda bits: (prices[bits], bits))
                widths.append(least if prices[least] < one.site.nbytes else None)
            found.append(self._widths.carried(widths))
        return min(found, key=lambda one: one.nbytes)

    def _allowed(self, target: Target) -> int:
        """Bytes that the file may have.

        Raises:
            InputError: as many as it has.
        """
        whole = self._widths.graph_nbytes
        if target.kind != BITS:
            allowed = int(target.value * whole if target.kind == SHARE else target.value)
            if allowed >= whole:
                raise InputError(
                    f"the graph has {whole} bytes as it is, which is within {target} already: ask "
                    "for less"
                )
            return allowed
        low = int(target.value)
        if low >= MAX_BITS:
            ends = [(MAX_BITS, self._all(MAX_BITS)), (FLOAT_BITS, self._all(None))]
        else:
            ends = [(low, self._all(low)), (low + 1, self._all(low + 1))]
        (first, below), (last, above) = ends
        return below + math.floor((above - below) * (target.value - first) / (last - first))

    def _all(self, width: Optional[int]) -> int:
        """Bytes of the file with one width for all."""
        return self._widths.measured(self._widths.same(width)).nbytes

    def _within(self, limit: int, menu: Sequence[int]) -> Iterator[Carried]:
        """The best with the widths of a menu, if anything fits."""
        free = self._widths.free
        sizes = [[*one.prices, one.site.nbytes] for one in free]
        budget = limit - self._widths.rest
        for _ in range(_TRIES):
            widths = self._allocated(sizes, budget, (*menu, MAX_BITS))
            if widths is None:
                return
            found = self._widths.carried(widths)
            if found.nbytes <= limit:
                yield found
                return
            budget -= found.nbytes - limit

    def _allocated(
        self, sizes: Sequence[Sequence[int]], budget: int, menu: Sequence[int]
    ) -> Optional[Tuple[Optional[int], ...]]:
        costs = []
        for one in self._widths.free:
            errors = self.errors[one.site.weight]
            own = [
                float(error) if bits in menu else math.inf for bits, error in zip(WIDTHS, errors)
            ]
            costs.append([*own, 0.0])
        found = allocate(sizes, costs, budget)
        if found is None:
            return None
        return tuple(WIDTHS[place] if place < len(WIDTHS) else None for place in found.choices)
