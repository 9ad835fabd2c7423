"""From a graph and what was made of it back to the plan, and to what that plan makes.

The codes and scales are read from the candidate itself, and the rewrite is done again with them. A
node of the candidate that is not what comes out of that was changed by something else, whatever
method chose the codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.quant.audit import Audit, audit
from graphwq.quant.method import quantize_by_method
from graphwq.quant.scheme import ABSMAX, QuantizedTensor
from graphwq.quant.shift import Shift, read_shift, step_of
from graphwq.rewrite.parallel import in_order
from graphwq.rewrite.plan import Plan, PlanItem
from graphwq.rewrite.readback import Found, read_back
from graphwq.rewrite.run import Given, RewriteResult, rebuild
from graphwq.survey.bias import bias_of
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Reason, Skip, Source, Survey, WeightSite
from graphwq.survey.view import View, build


@dataclass(frozen=True)
class RecoveredWeight:
    """A weight of the reference as the candidate holds it.

    Attributes:
        site: the weight in the reference.
        item: how it is stored; of a plan that was given the plan's own item.
        quantized: codes and scale.
        audit: of the codes against the reference's values.
        shift: what the bias that ``item`` names was changed by; None where none was.
        uncorrected: the bias that a given plan corrects and the candidate does not; "" for none.
    """

    site: WeightSite
    item: PlanItem
    quantized: QuantizedTensor
    audit: Audit
    shift: Optional[Shift] = None
    uncorrected: str = ""


@dataclass(frozen=True)
class Recovered:
    """What a candidate was made by.

    Attributes:
        plan: its items are the weights that were found quantized.
        weights: them, in the plan's order.
        missing: the items of a given plan that the candidate does not hold.
        rebuilt: the rewrite of the reference by ``plan`` with the candidate's codes.
        given: the plan was given; a recovered one does not know the methods.
    """

    plan: Plan
    weights: Tuple[RecoveredWeight, ...]
    missing: Tuple[PlanItem, ...]
    rebuilt: RewriteResult
    given: bool

    @property
    def touched(self) -> Dict[Tuple[str, str], str]:
        """(scope, node) of every node that the plan adds or replaces -> the weight it is for.

        Nodes that several weights share are said to be for the first of them.
        """
        found: Dict[Tuple[str, str], str] = {}
        edits = iter(self.rebuilt.edits)
        for weight, count in zip(self.rebuilt.weights, self.rebuilt.edit_counts):
            for _ in range(count):
                edit = next(edits)
                found.setdefault((edit.scope, edit.node.name), weight.item.weight)
        return found


def recover(reference: Graph, candidate: Graph, plan: Optional[Plan] = None) -> Recovered:
    """Recover the plan of a candidate.

    Args:
        reference: the graph before.
        candidate: the graph after.
        plan: the plan by which the candidate is said to be made; without it, it is found.

    Raises:
        InputError: a graph is broken, or the plan is for another reference.
    """
    view = build(reference)
    view.check()
    return recover_surveyed(reference, view, locate_in(view), build(candidate), plan)


def recover_surveyed(
    reference: Graph, view: View, survey: Survey, candidate: View, plan: Optional[Plan] = None
) -> Recovered:
    """Recover the plan of a candidate where the views are there; see ``recover``."""
    bound_to = None if plan is None else plan.graph_digest
    if bound_to is not None and bound_to != reference.digest:
        raise InputError(
            f"the plan was made for another graph (its digest is {bound_to[:12]}..., "
            f"the reference's {reference.digest[:12]}...): give the plan of this reference"
        )
    work = _work(survey, plan)
    found: List[RecoveredWeight] = []
    given: Dict[str, Given] = {}
    missing: List[PlanItem] = []
    taken = {""}

    def read(pair: Tuple[WeightSite, Optional[PlanItem]]) -> Optional[Tuple[Found, Audit]]:
        site, item = pair
        stored = read_back(view, candidate, site, item)
        if stored is None:
            return None
        return stored, audit(view.tensor(site).numpy(), stored.quantized)

    for (site, item), result in zip(work, in_order(read, work)):
        if result is None:
            if item is not None:
                missing.append(item)
            continue
        stored, checked = result
        bias, shift = _shift(view, candidate, site, item, stored.quantized)
        bias = "" if bias in taken else bias
        taken.add(bias)
        wanted = "" if item is None or bias else item.bias
        one = replace(stored.item, bias=bias)
        shift = shift if bias else None
        found.append(RecoveredWeight(site, one, stored.quantized, checked, shift, wanted))
        given[site.weight] = Given(stored.quantized, checked.error, stored.prefix, shift)
    made = _plan(survey, found, plan)
    rebuilt = rebuild(reference, view, survey.sites, made, given)
    return Recovered(made, tuple(found), tuple(missing), rebuilt, plan is not None)


def _shift(
    view: View,
    candidate: View,
    site: WeightSite,
    item: Optional[PlanItem],
    quantized: QuantizedTensor,
) -> Tuple[str, Optional[Shift]]:
    """(constant, what it was changed by) of a bias that took a mean error; ("", None) for none."""
    place = bias_of(view.main, site)
    if place is None or (item is not None and item.bias != place.constant):
        return "", None
    nodes = view.main.nodes[place.constant], candidate.main.nodes.get(place.constant)
    if nodes[1] is None or nodes[1].op != "Const":
        return "", None
    try:
        old, new = nodes[0].tensor(), nodes[1].tensor()
    except InputError:  # damaged: the structure layer says so
        return "", None
    if old is None or new is None or (old.shape, old.dtype) != (new.shape, new.dtype):
        return "", None
    shift = read_shift(old.numpy(), new.numpy(), step_of(quantized))
    return ("", None) if shift is None else (place.constant, shift)


def by_method(view: View, weight: RecoveredWeight, method: str) -> QuantizedTensor:
    """What a method that needs no data makes of the reference's values, on the recovered scheme.

    Raises:
        QuantizationError: the weight holds NaN or Inf.
    """
    scheme = replace(weight.quantized.scheme, method=method)
    return quantize_by_method(view.tensor(weight.site).numpy(), scheme)[0]


def absmax(view: View, weight: RecoveredWeight) -> QuantizedTensor:
    """``by_method`` for rounding to nearest under the absmax scale."""
    return by_method(view, weight, ABSMAX)


def _work(survey: Survey, plan: Optional[Plan]) -> List[Tuple[WeightSite, Optional[PlanItem]]]:
    """The weights to look for, with what the plan says of them."""
    if plan is None:
        return [(site, None) for site in survey.sites if site.source is Source.CONST]
    sites = {site.weight: site for site in survey.sites if site.source is Source.CONST}
    for item in plan.items:
        if item.weight not in sites:
            raise InputError(
                f"the plan names {item.weight!r}, which is no constant weight of the reference: "
                "give the plan of this reference"
            )
    return [(sites[item.weight], item) for item in plan.items]


def _plan(survey: Survey, found: Sequence[RecoveredWeight], plan: Optional[Plan]) -> Plan:
    items = tuple(weight.item for weight in found)
    if plan is not None:
        return replace(plan, items=items)
    named = {item.weight for item in items}
    kept = tuple(
        Skip(site.weight, Reason.KEPT_FLOAT.value, "the candidate holds it as it was")
        for site in survey.sites
        if site.weight not in named
    )
    return Plan(None, items, survey.skips + kept)
