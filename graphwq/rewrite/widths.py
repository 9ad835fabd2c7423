"""What a width for each weight comes to: carried through the planner, its bytes and its errors."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import List, Mapping, Optional, Sequence, Tuple

from graphwq.graphdef.dtypes import NUMPY
from graphwq.graphdef.graph import Graph
from graphwq.quant.scheme import MAX_BITS
from graphwq.rewrite.cost import Prices, table_nbytes
from graphwq.rewrite.mixture import Choice, MixedWeight
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import DEQUANT, Plan, PlanItem
from graphwq.rewrite.planner import Fate, as_plan, check_patterns, fate_of, rule_for, settle
from graphwq.rewrite.weigh import WIDTHS, file_nbytes, weight_errors
from graphwq.survey.sites import Reason, Skip, Survey, WeightSite
from graphwq.survey.view import View

_FLOAT_DETAIL = "the target leaves it float"


@dataclass(frozen=True)
class Free:
    """A weight whose width is free.

    Attributes:
        site: the weight.
        items, prices: the item of a plan and its bytes in the file, at each of WIDTHS.
    """

    site: WeightSite
    items: Tuple[PlanItem, ...]
    prices: Tuple[int, ...]

    @property
    def float_bits(self) -> int:
        """Bits of one of its float values."""
        return 8 * NUMPY[self.site.dtype].itemsize


@dataclass(frozen=True)
class Carried:
    """Widths that went through the planner.

    Attributes:
        widths: of the free weights, in their order; None is float.
        fates: of all weights.
        nbytes: of the file.
        error: the errors of the free weights together.
    """

    widths: Tuple[Optional[int], ...]
    fates: Tuple[Fate, ...]
    nbytes: int
    error: float


class Widths:
    """The weights of one graph whose widths may be chosen.

    Attributes:
        free: those weights.
        errors: by weight, at each of WIDTHS.
        in_bytes: whether the width of a weight decides how large the file is.
        rest: bytes of the file without the free weights.

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
        sites = [site for site in survey.sites if self._is_free(site)]
        self.in_bytes = options.storage == DEQUANT
        self.free = [one for one in map(self._priced, sites) if one is not None]
        self.errors: Mapping[str, Sequence[float]] = weight_errors(
            view, [(one.site, one.items[0]) for one in self.free]
        )
        self.rest = self.same(None).nbytes - sum(one.site.nbytes for one in self.free)

    def _is_free(self, site: WeightSite) -> bool:
        named = rule_for(site, self._options) is not None
        return isinstance(self._fates[site.weight], PlanItem) and not named

    def _priced(self, site: WeightSite) -> Optional[Free]:
        items = []
        for bits in WIDTHS:
            item = fate_of(self._view, site, self._options, bits)
            assert isinstance(item, PlanItem)
            items.append(item)
        prices = tuple(self._prices.of(site, item) for item in items)
        smaller = self._options.keep_larger or min(prices) < site.nbytes
        return Free(site, tuple(items), prices) if smaller else None

    def by(self, errors: Mapping[str, Sequence[float]]) -> Widths:
        """The same weights with another table of errors."""
        other = copy(self)
        other.errors = dict(errors)
        return other

    @property
    def graph_nbytes(self) -> int:
        """Bytes of the file as it is."""
        return self._graph.nbytes

    def carried(self, widths: Sequence[Optional[int]]) -> Carried:
        """A width for each free weight through the planner: forms, layouts, what is not smaller.

        Its bytes are predicted, for the dequant form.
        """
        chosen = {one.site.weight: (one, width) for one, width in zip(self.free, widths)}
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
        if self.in_bytes:
            settled = [self._widened(fate) for fate in settled]
        by_name = {
            site.weight: fate.scheme.num_bits if isinstance(fate, PlanItem) else None
            for site, fate in zip(self._survey.sites, settled)
        }
        final = tuple(by_name[one.site.weight] for one in self.free)
        return Carried(final, tuple(settled), self._predicted(settled), self._error(final))

    def same(self, width: Optional[int]) -> Carried:
        """One width for all free weights; see ``carried``."""
        return self.carried([width] * len(self.free))

    def plain(self, num_bits: int) -> Carried:
        """One width for all free weights as ``--bits`` gives it; its bytes are measured."""
        at = WIDTHS.index(num_bits)
        own = {one.site.weight: one.items[at] for one in self.free}
        fates = [own.get(site.weight, self._fates[site.weight]) for site in self._survey.sites]
        settled = settle(self._prices, self._survey.sites, fates, self._options)
        done = {fate.weight for fate in settled if isinstance(fate, PlanItem)}
        widths = tuple(num_bits if one.site.weight in done else None for one in self.free)
        return self.measured(Carried(widths, tuple(settled), 0, self._error(widths)))

    def measured(self, carried: Carried) -> Carried:
        """The same with the bytes that the file will really have."""
        plan = self.plan(carried, None)
        nbytes = file_nbytes(self._graph, self._view, self._survey.sites, plan)
        return replace(carried, nbytes=nbytes)

    def plan(self, carried: Carried, digest: Optional[str]) -> Plan:
        """What was carried as a plan."""
        return as_plan(self._survey, carried.fates, digest)

    def rows(self, widths: Sequence[Optional[int]]) -> Tuple[MixedWeight, ...]:
        """What each free weight could have had, and what it got."""
        return tuple(self._row(one, width) for one, width in zip(self.free, widths))

    def _row(self, one: Free, width: Optional[int]) -> MixedWeight:
        choices = [
            Choice(bits, price, float(error))
            for bits, price, error in zip(WIDTHS, one.prices, self.errors[one.site.weight])
        ]
        choices.append(Choice(None, one.site.nbytes, 0.0))
        return MixedWeight(one.site.weight, one.site.size, tuple(choices), width)

    def _error(self, widths: Sequence[Optional[int]]) -> float:
        return sum(
            float(self.errors[one.site.weight][WIDTHS.index(width)])
            for one, width in zip(self.free, widths)
            if width is not None
        )

    def _widened(self, fate: Fate) -> Fate:
        """Codes that are stored as int8 anyway may use all of it, where that is better."""
        if not isinstance(fate, PlanItem) or fate.weight not in self.errors:
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
