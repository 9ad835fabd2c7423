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
from dataclasses import dataclass, replace
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.dtypes import NUMPY
from graphwq.graphdef.graph import Graph
from graphwq.quant.allocate import allocate
from graphwq.quant.scheme import MAX_BITS
from graphwq.rewrite.cost import Prices, table_nbytes
from graphwq.rewrite.mixture import WEIGHTS, Choice, MixedWeight, Mixture
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import DEQUANT, PLANES, Plan, PlanItem
from graphwq.rewrite.planner import Fate, as_plan, check_patterns, fate_of, rule_for, settle
from graphwq.rewrite.target import BITS, FLOAT_BITS, SHARE, Target
from graphwq.rewrite.weigh import WIDTHS, file_nbytes, weight_errors
from graphwq.survey.sites import Reason, Skip, Survey, WeightSite
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
_FLOAT_DETAIL = "the target leaves it float"


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


@dataclass(frozen=True)
class _Free:
    """A weight whose width is free, with its item and price at each of WIDTHS."""

    site: WeightSite
    items: Tuple[PlanItem, ...]
    prices: Tuple[int, ...]

    @property
    def float_bits(self) -> int:
        return 8 * NUMPY[self.site.dtype].itemsize


@dataclass(frozen=True)
class _Found:
    """One allocation, carried through the planner."""

    widths: Tuple[Optional[int], ...]
    fates: Tuple[Fate, ...]
    nbytes: int
    error: float


def _order(found: _Found) -> Tuple[float, int]:
    return found.error, found.nbytes


class Mixer:
    """The choices of one graph.

    Attributes:
        free: how many values each weight has whose width is chosen.
        errors: by weight, at each of WIDTHS.
        cost: what they are, one of ``mixture.COSTS``.

    Raises:
        InputError: a pattern of the options matches no weight.
        QuantizationError: a weight holds NaN or Inf.
    """

    def __init__(self, graph: Graph, view: View, survey: Survey, options: Options) -> None:
        check_patterns(survey, options)
        self._graph, self._view, self._survey = graph, view, survey
        self._options = options
        self._prices = Prices(view)
        self._fates = {site.weight: fate_of(view, site, options) for site in survey.sites}
        free = [site for site in survey.sites if self._is_free(site)]
        self._free = [one for one in map(self._priced, free) if one is not None]
        self.free = {one.site.weight: one.site.size for one in self._free}
        self.errors = weight_errors(view, [(one.site, one.items[0]) for one in self._free])
        self.cost = WEIGHTS
        floats = self._same(None).nbytes
        self._rest = floats - sum(one.site.nbytes for one in self._free)

    def _is_free(self, site: WeightSite) -> bool:
        named = rule_for(site, self._options) is not None
        return isinstance(self._fates[site.weight], PlanItem) and not named

    def _priced(self, site: WeightSite) -> Optional[_Free]:
        items = []
        for bits in WIDTHS:
            item = fate_of(self._view, site, self._options, bits)
            assert isinstance(item, PlanItem)
            items.append(item)
        prices = tuple(self._prices.of(site, item) for item in items)
        smaller = self._options.keep_larger or min(prices) < site.nbytes
        return _Free(site, tuple(items), prices) if smaller else None

    def by(self, errors: Mapping[str, Sequence[float]], cost: str) -> Mixer:
        """The same choices with another table of costs."""
        other = copy(self)
        other.errors, other.cost = dict(errors), cost
        return other

    @property
    def sites(self) -> Dict[str, Tuple[WeightSite, PlanItem]]:
        """The free weights, each with an item."""
        return {one.site.weight: (one.site, one.items[0]) for one in self._free}

    def plan(self, target: Target, digest: Optional[str]) -> Plan:
        """The plan for a target.

        Raises:
            InputError: it cannot be reached, or there is nothing to choose.
        """
        if not self._free:
            raise InputError(
                f"there is no weight whose width could be chosen to reach {target}: graphwq "
                "inspect shows the weights and why others are none"
            )
        found = self._by_size(target) if self._in_bytes else self._by_bits(target)
        return self._finished(found, target, digest)

    def plan_uniform(self, target: Target, digest: Optional[str]) -> Optional[Plan]:
        """The plan of ``--bits`` with the largest width for all that is within a target."""
        if target.kind == BITS:
            return self._finished(self._plain(min(int(target.value), MAX_BITS)), target, digest)
        fitting = (self._plain(bits) for bits in reversed(WIDTHS))
        allowed = self._allowed(target)
        found = next((one for one in fitting if one.nbytes <= allowed), None)
        return None if found is None else self._finished(found, target, digest)

    def _finished(self, found: _Found, target: Target, digest: Optional[str]) -> Plan:
        uniform = self._uniform(target)
        beside = None if uniform is None else self._measured(uniform)
        weights = tuple(self._row(one, width) for one, width in zip(self._free, found.widths))
        mixture = Mixture(target, self.cost, found.nbytes, beside, weights)
        return replace(as_plan(self._survey, found.fates, digest), mixture=mixture)

    def uniform(self, num_bits: int) -> Tuple[Plan, int, float]:
        """One width for all free weights, as ``--bits`` gives it.

        Returns:
            (plan, bytes of the file, the errors of the weights together).
        """
        found = self._plain(num_bits)
        return as_plan(self._survey, found.fates, None), found.nbytes, found.error

    def _plain(self, num_bits: int) -> _Found:
        at = WIDTHS.index(num_bits)
        own = {one.site.weight: one.items[at] for one in self._free}
        fates = [own.get(site.weight, self._fates[site.weight]) for site in self._survey.sites]
        settled = settle(self._prices, self._survey.sites, fates, self._options)
        done = {fate.weight for fate in settled if isinstance(fate, PlanItem)}
        widths = tuple(num_bits if weight in done else None for weight in self.free)
        error = sum(float(self.errors[weight][at]) for weight in self.free if weight in done)
        found = _Found(widths, tuple(settled), 0, error)
        return replace(found, nbytes=self._measured(found))

    @property
    def _in_bytes(self) -> bool:
        return self._options.storage == DEQUANT

    def _row(self, one: _Free, width: Optional[int]) -> MixedWeight:
        choices = [
            Choice(bits, price, float(error))
            for bits, price, error in zip(WIDTHS, one.prices, self.errors[one.site.weight])
        ]
        choices.append(Choice(None, one.site.nbytes, 0.0))
        return MixedWeight(one.site.weight, one.site.size, tuple(choices), width)

    def _carried(self, widths: Sequence[Optional[int]]) -> _Found:
        """Widths through the planner: forms, layouts, and what is not smaller."""
        chosen = {one.site.weight: (one, width) for one, width in zip(self._free, widths)}
        fates: List[Fate] = []
        for site in self._survey.sites:
            if site.weight not in chosen:
                fates.append(self._fates[site.weight])
                continue
            one, width = chosen[site.weight]
            if width is None:
                fates.append(Skip(site.weight, Reason.KEPT_FLOAT.value, _FLOAT_DETAIL))
            else:
                fates.append(one.items[WIDTHS.index(width)])
        settled = settle(self._prices, self._survey.sites, fates, self._options)
        if self._in_bytes:
            settled = [self._widened(fate, chosen) for fate in settled]
        by_name = {
            site.weight: fate.scheme.num_bits if isinstance(fate, PlanItem) else None
            for site, fate in zip(self._survey.sites, settled)
        }
        final = tuple(by_name[weight] for weight in self.free)
        error = sum(
            float(self.errors[weight][WIDTHS.index(width)])
            for weight, width in zip(self.free, final)
            if width is not None
        )
        return _Found(final, tuple(settled), self._predicted(settled), error)

    def _same(self, width: Optional[int]) -> _Found:
        """One width for all."""
        return self._carried([width] * len(self._free))

    def _widened(self, fate: Fate, chosen: Dict[str, Tuple[_Free, Optional[int]]]) -> Fate:
        """Codes that are stored as int8 anyway may use all of it, where that is better."""
        if not isinstance(fate, PlanItem) or fate.weight not in chosen:
            return fate
        if fate.stored_bits < MAX_BITS or fate.scheme.num_bits == MAX_BITS:
            return fate
        errors = self.errors[fate.weight]
        if errors[-1] >= errors[WIDTHS.index(fate.scheme.num_bits)]:
            return fate
        return replace(fate, scheme=replace(fate.scheme, num_bits=MAX_BITS))

    def _predicted(self, fates: Sequence[Fate]) -> int:
        """Bytes of the file in the dequant form."""
        total = self._graph.nbytes
        packings = set()
        for site, fate in zip(self._survey.sites, fates):
            if isinstance(fate, PlanItem):
                total += self._prices.of(site, fate) - site.nbytes
                if fate.stored_bits < MAX_BITS:
                    packings.add((fate.stored_bits, fate.layout))
        return total + sum(table_nbytes(*packing) for packing in packings)

    def _measured(self, found: _Found) -> int:
        plan = as_plan(self._survey, found.fates, None)
        return file_nbytes(self._graph, self._view, self._survey.sites, plan)

    def _uniform(self, target: Target) -> Optional[_Found]:
        """One width for all, where the target is one."""
        whole = target.kind == BITS and target.value == int(target.value) <= MAX_BITS
        return self._same(int(target.value)) if whole else None

    def _by_bits(self, target: Target) -> _Found:
        """The best within an average of bits."""
        sizes = [[one.site.size * bits for bits in (*WIDTHS, one.float_bits)] for one in self._free]
        budget = math.floor(target.value * sum(one.site.size for one in self._free) + 1e-6)
        widths = self._allocated(sizes, budget, WIDTHS)
        assert widths is not None
        return self._carried(widths)

    def _by_size(self, target: Target) -> _Found:
        """The best within a number of bytes.

        What weights share, and what a changed consumer takes, is known only when it is written: so
        the limit of the search is moved by what was measured.
        """
        allowed = self._allowed(target)
        start = self._start(target)
        best = replace(start, nbytes=self._measured(start))
        if best.nbytes > allowed:
            raise InputError(
                f"{target} cannot be reached: the smallest file that the weights allow has "
                f"{best.nbytes} bytes ({100 * best.nbytes / self._graph.nbytes:.1f} % of "
                f"{self._graph.nbytes})"
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
                measured = replace(found, nbytes=self._measured(found))
                excess.append(measured.nbytes - allowed)
                if excess[-1] <= 0:
                    best = min(best, measured, key=_order)
                    break
            if not excess or -_SLACK * allowed < excess[0] <= 0:
                break
            limit -= excess[0]
        return best

    def _start(self, target: Target) -> _Found:
        """A plan that is as small as an average asks for, or as small as can be."""
        if target.kind == BITS:
            return self._same(min(int(target.value), MAX_BITS))
        found = []
        for menu in _MENUS:
            widths: List[Optional[int]] = []
            for one in self._free:
                prices = {
                    bits: price
                    for bits, price in zip(WIDTHS, one.prices)
                    if bits in (*menu, MAX_BITS)
                }
                least = min(prices, key=lambda bits: (prices[bits], bits))
                widths.append(least if prices[least] < one.site.nbytes else None)
            found.append(self._carried(widths))
        return min(found, key=lambda one: one.nbytes)

    def _allowed(self, target: Target) -> int:
        """Bytes that the file may have.

        Raises:
            InputError: as many as it has.
        """
        whole = self._graph.nbytes
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
        return self._measured(self._same(width))

    def _within(self, limit: int, menu: Sequence[int]) -> Iterator[_Found]:
        """The best with the widths of a menu, if anything fits."""
        sizes = [[*one.prices, one.site.nbytes] for one in self._free]
        budget = limit - self._rest
        for _ in range(_TRIES):
            widths = self._allocated(sizes, budget, (*menu, MAX_BITS))
            if widths is None:
                return
            found = self._carried(widths)
            if found.nbytes <= limit:
                yield found
                return
            budget -= found.nbytes - limit

    def _allocated(
        self, sizes: Sequence[Sequence[int]], budget: int, menu: Sequence[int]
    ) -> Optional[Tuple[Optional[int], ...]]:
        costs = []
        for one in self._free:
            errors = self.errors[one.site.weight]
            own = [
                float(error) if bits in menu else math.inf for bits, error in zip(WIDTHS, errors)
            ]
            costs.append([*own, 0.0])
        found = allocate(sizes, costs, budget)
        if found is None:
            return None
        return tuple(WIDTHS[place] if place < len(WIDTHS) else None for place in found.choices)
