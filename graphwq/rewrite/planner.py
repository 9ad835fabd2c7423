"""What becomes of each weight: every decision is taken here, none while rewriting."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Dict, List, Optional, Sequence, Set, Tuple, Union

from graphwq.errors import InputError
from graphwq.graphdef.spelling import close
from graphwq.quant.scheme import (
    Granularity,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantScheme,
)
from graphwq.rewrite import dequant, rows, split
from graphwq.rewrite.cost import Prices, table_nbytes
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import (
    BITS,
    PLANES,
    Form,
    Plan,
    PlanItem,
    Rule,
    Split,
    Whole,
)
from graphwq.survey.bias import bias_of
from graphwq.survey.sites import Reason, Skip, Source, Survey, WeightSite
from graphwq.survey.view import View

#: A constant whose file holds fewer than one byte for so many elements repeats a single value.
_LARGEST_EXPANSION = 4


#: What becomes of a weight.
Fate = Union[PlanItem, Skip]


def plan_survey(view: View, survey: Survey, options: Options, digest: Optional[str]) -> Plan:
    """Plan with the same width for all weights that no rule names."""
    check_patterns(survey, options)
    fates = [fate_of(view, site, options) for site in survey.sites]
    return as_plan(survey, settle(Prices(view), survey.sites, fates, options), digest)


def settle(
    prices: Prices, sites: Sequence[WeightSite], fates: Sequence[Fate], options: Options
) -> List[Fate]:
    """What depends on more than one weight, or on what it costs."""
    settled = _one_bias_each(_one_cut_each(sites, fates))
    if options.keep_larger:
        return settled
    return _drop_larger(prices, sites, _drop_costly_tables(prices, sites, settled))


def as_plan(survey: Survey, fates: Sequence[Fate], digest: Optional[str]) -> Plan:
    """The plan of what becomes of every site."""
    items = tuple(fate for fate in fates if isinstance(fate, PlanItem))
    skips = survey.skips + tuple(fate for fate in fates if isinstance(fate, Skip))
    return Plan(digest, items, skips)


def _matches(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def check_patterns(survey: Survey, options: Options) -> None:
    """Refuse a pattern that matches nothing.

    Raises:
        InputError: the option, the pattern, and what may have been meant.
    """
    weights = [site.weight for site in survey.sites]
    ops = sorted({consumer.op for site in survey.sites for consumer in site.consumers})
    wanted = [("--include", pattern) for pattern in options.include]
    wanted += [("--exclude", pattern) for pattern in options.exclude]
    wanted += [("--rule", rule.pattern) for rule in options.rules]
    for option, pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise InputError(
                f"{option} {pattern!r} matches no weight{_why(pattern, survey, weights)}; "
                "graphwq inspect lists the names"
            )
    for pattern in options.ops + tuple(rule.op for rule in options.rules):
        if not any(fnmatchcase(op, pattern) for op in ops):
            raise InputError(
                f"no weight is used by an op {pattern!r}; the ops are: {', '.join(ops) or 'none'}"
            )


def _why(pattern: str, survey: Survey, weights: Sequence[str]) -> str:
    for skip in survey.skips:
        if fnmatchcase(skip.node, pattern):
            return f" ({skip.node} is skipped: {skip.reason})"
    near = close(pattern, weights, 1)
    return f" (is {near[0]!r} meant?)" if near else ""


def fate_of(
    view: View, site: WeightSite, options: Options, bits_if_free: Optional[int] = None
) -> Fate:
    """What becomes of a weight, looked at by itself.

    ``bits_if_free`` stands for ``options.bits`` where no rule names the weight.
    """
    if site.source is not Source.CONST:
        detail = "a variable: its values are in a checkpoint, not in this file"
        return Skip(site.weight, Reason.NO_VALUE.value, detail)
    ops = [consumer.op for consumer in site.consumers]
    for name, excluded in (
        ("--include", options.include and not _matches(options.include, [site.weight])),
        ("--exclude", _matches(options.exclude, [site.weight])),
        ("--ops", options.ops and not _matches(options.ops, ops)),
    ):
        if excluded:
            return Skip(site.weight, Reason.EXCLUDED.value, f"left out by {name}")
    rule = rule_for(site, options)
    bits = (bits_if_free or options.bits) if rule is None else rule.num_bits
    if bits is None:
        return Skip(site.weight, Reason.KEPT_FLOAT.value, "a rule keeps it float")
    if site.size > _LARGEST_EXPANSION * site.nbytes:
        detail = f"{site.size} elements in {site.nbytes} bytes: one value repeated, small as it is"
        return Skip(site.weight, Reason.NOT_SMALLER.value, detail)
    if site.size < options.min_elements:
        detail = f"{site.size} elements, the minimum is {options.min_elements}"
        return Skip(site.weight, Reason.TOO_SMALL.value, detail)
    scheme = QuantScheme(
        bits, _granularity(site, options), method=options.method, scale_bits=options.scale_bits
    )
    form = form_of(view, site, scheme)
    layout = BITS if isinstance(form, Whole) and dequant.prefers_bits(site, bits) else PLANES
    place = bias_of(view.main, site) if options.correct_bias else None
    bias = "" if place is None else place.constant
    return PlanItem(site.weight, options.storage, scheme, bits, form, layout, bias)


def rule_for(site: WeightSite, options: Options) -> Optional[Rule]:
    """The rule that says the width of a weight: the last one that matches."""
    ops = [consumer.op for consumer in site.consumers]
    for rule in reversed(options.rules):
        if fnmatchcase(site.weight, rule.pattern) and _matches([rule.op], ops):
            return rule
    return None


def _granularity(site: WeightSite, options: Options) -> Granularity:
    if options.granularity == "tensor" or not site.kept_axes:
        return PerTensor()
    if options.granularity == "group":
        reduced = [axis for axis in range(len(site.shape)) if axis not in site.kept_axes]
        if reduced and site.shape[reduced[-1]] > options.group_size:
            return PerGroup(site.kept_axes, reduced[-1], options.group_size)
    return PerChannel(site.kept_axes)


def form_of(view: View, site: WeightSite, scheme: QuantScheme) -> Form:
    """One piece, unless it is too large for TensorFlow to fold and can be cut."""
    scope = view.scopes[site.scope]
    form = rows.choose(scope, site, scheme) or split.choose(scope, site)
    along = scheme.granularity.axis if isinstance(scheme.granularity, PerGroup) else None
    if form is None or (isinstance(form, Split) and form.axis == along):
        return Whole()
    return form


def _one_cut_each(sites: Sequence[WeightSite], fates: Sequence[Fate]) -> List[Fate]:
    """A consumer of two large weights is cut for the first of them only."""
    result: List[Fate] = []
    cut: Set[str] = set()
    for site, fate in zip(sites, fates):
        if isinstance(fate, PlanItem) and not isinstance(fate.form, Whole):
            consumers = {consumer.node for consumer in site.consumers}
            if consumers & cut:
                fate = replace(fate, form=Whole())
            cut |= consumers
        result.append(fate)
    return result


def _one_bias_each(fates: Sequence[Fate]) -> List[Fate]:
    """A bias takes the error of one weight."""
    result: List[Fate] = []
    taken = {""}
    for fate in fates:
        if isinstance(fate, PlanItem) and fate.bias:
            fate = replace(fate, bias="" if fate.bias in taken else fate.bias)
            taken.add(fate.bias)
        result.append(fate)
    return result


def _drop_costly_tables(
    prices: Prices, sites: Sequence[WeightSite], fates: Sequence[Fate]
) -> List[Fate]:
    """Store codes as int8 where packing them would save less than it costs.

    Packing adds nodes to each weight and once the tables of the width.
    """
    result = list(fates)
    gains: Dict[Tuple[int, str], int] = {}
    members: Dict[Tuple[int, str], List[int]] = {}
    for index, (site, fate) in enumerate(zip(sites, fates)):
        if isinstance(fate, Skip) or fate.stored_bits == 8:
            continue
        whole = replace(fate, stored_bits=8, layout=PLANES)
        gain = prices.of(site, whole) - prices.of(site, fate)
        if gain <= 0:
            result[index] = whole
            continue
        packing = fate.stored_bits, fate.layout
        gains[packing] = gains.get(packing, 0) + gain
        members.setdefault(packing, []).append(index)
    for packing, gain in gains.items():
        if gain <= table_nbytes(*packing):
            for index in members[packing]:
                fate = result[index]
                assert isinstance(fate, PlanItem)
                result[index] = replace(fate, stored_bits=8, layout=PLANES)
    return result


def _drop_larger(prices: Prices, sites: Sequence[WeightSite], fates: Sequence[Fate]) -> List[Fate]:
    """Skip weights that would take as much or more room than they do.

    The rule is the same for every storage form, so that the forms of one graph hold the same
    weights and can be compared.
    """
    result: List[Fate] = []
    for site, fate in zip(sites, fates):
        if isinstance(fate, PlanItem):
            after = prices.of(site, fate)
            if after >= site.nbytes:
                detail = f"{site.nbytes} bytes as it is, {after} as integers with their scales"
                fate = Skip(site.weight, Reason.NOT_SMALLER.value, detail)
        result.append(fate)
    return result
