"""Carrying out a plan: to a new graph in memory, or straight to a file."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Generator, List, Mapping, Optional, Sequence, Tuple, Union

from graphwq.errors import InputError, InvariantError
from graphwq.graphdef.graph import MAIN, Function, Graph, Library
from graphwq.graphdef.later import Later
from graphwq.graphdef.node import Node
from graphwq.graphdef.source import save
from graphwq.quant.metrics import WeightError
from graphwq.quant.scheme import QuantizedTensor
from graphwq.quant.shift import Shift
from graphwq.rewrite.draft import Draft, DraftedWeight, Drafter, applied
from graphwq.rewrite.draft import Given as Given
from graphwq.rewrite.edits import Edit
from graphwq.rewrite.mixture import Mixture
from graphwq.rewrite.parallel import in_order
from graphwq.rewrite.plan import Plan, PlanItem
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Skip, WeightSite
from graphwq.survey.view import View, build

#: Called with (done, total, weight) after each weight.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class WeightResult:
    """What became of one weight.

    Attributes:
        item: what the plan said.
        error: of the quantized values against the original ones.
        bytes_before, bytes_after: in the file, scales and added nodes included, shared decoding
            tables not.
        changed: False where the weight was already what the plan asks for.
        shift: what the bias of the layer was changed by; None where it was not.
    """

    item: PlanItem
    error: WeightError
    bytes_before: int
    bytes_after: int
    changed: bool
    shift: Optional[Shift] = None

    def to_json(self) -> Dict[str, Any]:
        """The result as JSON data; ``sqnr_db`` is null where there is no error at all."""
        sqnr = self.error.sqnr_db
        corrected = {}
        if self.shift is not None:
            corrected = {"bias": self.item.bias, "bias_shift": self.shift.largest}
        return {
            "weight": self.item.weight,
            "num_bits": self.item.scheme.num_bits,
            "storage": self.item.storage,
            "sqnr_db": sqnr if math.isfinite(sqnr) else None,
            "max_abs_error": self.error.max_abs_error,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            **corrected,
        }


@dataclass(frozen=True)
class RewriteResult:
    """The outcome of a rewrite.

    Attributes:
        graph: the new graph.
        edits: what changed, as data.
        weights: what became of each weight of the plan, in its order.
        quantized: codes and scales by weight; empty where they were not to be kept.
        skips: what was left as it is, with reasons.
        modified: False where nothing changed; then ``graph`` is the original.
        shared_bytes: bytes of the decoding tables that several weights share.
        edit_counts: how many of ``edits`` are for each of ``weights``.
        mixture: what the widths were chosen by, where a target asked for it.
    """

    graph: Graph
    edits: Tuple[Edit, ...]
    weights: Tuple[WeightResult, ...]
    quantized: Dict[str, QuantizedTensor]
    skips: Tuple[Skip, ...]
    modified: bool
    shared_bytes: int
    edit_counts: Tuple[int, ...]
    mixture: Optional[Mixture] = None

    def save(self, path: Union[str, Path], force: bool = False) -> int:
        """Write the new graph atomically; return the number of bytes.

        Raises:
            InputError: the file exists and ``force`` is not set, or it cannot be written.
        """
        return save(self.graph, path, force)


@dataclass(frozen=True)
class Written:
    """What a rewrite that went straight to a file did; see ``RewriteResult``.

    Attributes:
        nbytes: of the file.
    """

    weights: Tuple[WeightResult, ...]
    skips: Tuple[Skip, ...]
    modified: bool
    shared_bytes: int
    nbytes: int
    mixture: Optional[Mixture] = None


def draft(graph: Graph, plan: Plan, keep_codes: bool = False) -> Draft:
    """Make the nodes of a plan, without their values; for ``keep_codes`` see ``rewrite``.

    Raises:
        InputError: the plan is for another graph or does not fit this one.
    """
    if plan.graph_digest is not None and plan.graph_digest != graph.digest:
        raise InputError(
            "the plan was made for another graph (its digest is "
            f"{plan.graph_digest[:12]}..., this graph's {graph.digest[:12]}...): make a new plan"
        )
    view = build(graph)
    view.check()
    return draft_surveyed(graph, view, locate_in(view).sites, plan, keep_codes)


def draft_surveyed(
    graph: Graph,
    view: View,
    sites: Sequence[WeightSite],
    plan: Plan,
    keep_codes: bool = False,
    given: Optional[Mapping[str, Given]] = None,
) -> Draft:
    """``draft`` where the graph is already surveyed; ``given`` has codes that are there already."""
    drafter = Drafter(graph, view, {site.weight: site for site in sites}, given)
    return drafter.draft(plan, keep_codes)


def rewrite(
    graph: Graph, plan: Plan, progress: Optional[Progress] = None, keep_codes: bool = True
) -> RewriteResult:
    """Carry out a plan; ``keep_codes`` keeps the codes a second time, beside the new graph.

    Raises:
        InputError: the plan is for another graph or does not fit this one.
        QuantizationError: a weight holds NaN or Inf.
    """
    return _filled(draft(graph, plan, keep_codes), progress, keep_codes)


def rewrite_surveyed(
    graph: Graph,
    view: View,
    sites: Sequence[WeightSite],
    plan: Plan,
    progress: Optional[Progress] = None,
    keep_codes: bool = True,
) -> RewriteResult:
    """Carry out a plan on a graph that is already surveyed; see ``rewrite``."""
    return _filled(draft_surveyed(graph, view, sites, plan, keep_codes), progress, keep_codes)


def rebuild(
    graph: Graph,
    view: View,
    sites: Sequence[WeightSite],
    plan: Plan,
    given: Mapping[str, Given],
) -> RewriteResult:
    """Carry out a plan with codes that come from elsewhere; ``given`` has them by weight.

    Raises:
        InputError: the plan does not fit this graph.
    """
    return _filled(draft_surveyed(graph, view, sites, plan, True, given), None, True)


def write(
    drafted: Draft, path: Union[str, Path], force: bool = False, progress: Optional[Progress] = None
) -> Written:
    """Compute the values of a draft and write them as they come; a draft is written once.

    Only a few weights are in memory at a time, whatever the size of the graph. The file appears
    when it is complete.

    Raises:
        InputError: the file exists and ``force`` is not set, or it cannot be written.
        QuantizationError: a weight holds NaN or Inf.
    """
    graph = applied(drafted.graph, drafted.edits)
    with closing(_run_on_demand(drafted, progress)) as running:
        for weight in drafted.weights:
            weight.job.wait = partial(_run_until, weight, running)
        nbytes = save(graph, path, force)
        for _ in running:
            pass
    results = tuple(map(_result, drafted.weights))
    modified = any(weight.changed for weight in results)
    return Written(results, drafted.skips, modified, drafted.shared_bytes, nbytes, drafted.mixture)


Running = Generator[DraftedWeight, None, None]


def _run_on_demand(drafted: Draft, progress: Optional[Progress]) -> Running:
    """Run the jobs in the order in which the file needs them, a few ahead."""
    order = _file_order(drafted.graph)
    weights = sorted(drafted.weights, key=lambda one: order[one.site.scope, one.site.node])
    for number, weight in enumerate(in_order(_run, weights, _held), 1):
        if progress is not None:
            progress(number, len(weights), weight.item.weight)
        yield weight


def _run_until(wanted: DraftedWeight, running: Running) -> None:
    if not any(weight is wanted for weight in running):
        raise InvariantError(f"the values of {wanted.item.weight!r} are wanted out of turn")


def _run(weight: DraftedWeight, keep_codes: bool = False) -> DraftedWeight:
    if weight.edits:
        weight.job.run(keep_codes)
    return weight


def _held(weight: DraftedWeight) -> int:
    """Bytes that the values of a weight take: codes, and what is made of them."""
    return weight.site.size + weight.bytes_after


def _file_order(graph: Graph) -> Dict[Tuple[str, str], int]:
    """The place of each node among the nodes of all scopes, as they are written."""
    order: Dict[Tuple[str, str], int] = {}
    for item in graph.layout:
        if isinstance(item, Node):
            order[MAIN, item.name] = len(order)
        elif isinstance(item, Library):
            for function in item.layout:
                if isinstance(function, Function):
                    for node in function.nodes:
                        order[function.name, node.name] = len(order)
    return order


def _filled(drafted: Draft, progress: Optional[Progress], keep_codes: bool) -> RewriteResult:
    """Compute all values and keep them in memory."""
    edits: List[Edit] = []
    quantized: Dict[str, QuantizedTensor] = {}
    running = in_order(partial(_run, keep_codes=keep_codes), drafted.weights, _held)
    for number, weight in enumerate(running, 1):
        edits.extend(map(_with_values, weight.edits))
        if keep_codes:
            assert weight.job.quantized is not None
            quantized[weight.item.weight] = weight.job.quantized
        if progress is not None:
            progress(number, len(drafted.weights), weight.item.weight)
    return RewriteResult(
        applied(drafted.graph, edits),
        tuple(edits),
        tuple(map(_result, drafted.weights)),
        quantized,
        drafted.skips,
        bool(edits),
        drafted.shared_bytes,
        tuple(len(weight.edits) for weight in drafted.weights),
        drafted.mixture,
    )


def _with_values(edit: Edit) -> Edit:
    payload = edit.node.payload
    if not isinstance(payload, Later):
        return edit
    return replace(edit, node=replace(edit.node, payload=payload.read()))


def _result(weight: DraftedWeight) -> WeightResult:
    assert weight.job.error is not None
    return WeightResult(
        weight.item,
        weight.job.error,
        weight.bytes_before,
        weight.bytes_after,
        bool(weight.edits),
        weight.shift,
    )
