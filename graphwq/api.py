"""The functions of the package: plan and quantize, from a path or a graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Union

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import load
from graphwq.rewrite.draft import Draft
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.planning import make_plan, plan_surveyed
from graphwq.rewrite.run import (
    Progress,
    RewriteResult,
    draft_surveyed,
    rewrite,
    rewrite_surveyed,
)
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build

GraphOrPath = Union[Graph, str, Path]


def plan(graph: GraphOrPath, bits: int = 8, storage: str = "dequant", **options: Any) -> Plan:
    """Decide what is to be done with every weight of a graph.

    Args:
        graph: a graph, or a path: whatever ``graphwq.load`` reads without further arguments.
        bits: 2..8.
        storage: ``dequant`` (integer constants, small file), ``bake`` (float constants on the grid)
            or ``fake_quant``.
        options: the other attributes of ``graphwq.rewrite.options.Options``.

    Raises:
        InputError: a broken graph or a wrong option.
    """
    return make_plan(_graph(graph), Options(bits=bits, storage=storage, **options))


def quantize(
    graph: GraphOrPath,
    bits: int = 8,
    storage: Optional[str] = None,
    plan: Optional[Plan] = None,
    progress: Optional[Progress] = None,
    keep_codes: bool = True,
    **options: Any,
) -> RewriteResult:
    """Quantize the weights of a graph.

    Args:
        graph: a graph, or a path: whatever ``graphwq.load`` reads without further arguments.
        bits: 2..8.
        storage: see ``plan``; ``dequant`` unless given. With a plan it overrides the plan's.
        plan: a plan for this graph; then ``bits`` and ``options`` are not used.
        progress: called with (done, total, weight) after each weight.
        keep_codes: keep the codes in the result's ``quantized``, beside the new graph.
        options: as for ``plan``.

    Returns:
        the result; ``.save(path)`` writes it.

    Raises:
        InputError: a broken graph, a wrong option, a plan for another graph.
        QuantizationError: a weight holds NaN or Inf.
    """
    graph = _graph(graph)
    if plan is not None:
        return rewrite(graph, with_storage(plan, storage), progress, keep_codes)
    wishes = Options(bits=bits, storage=storage or "dequant", **options)
    return quantize_with(graph, wishes, progress, keep_codes)


def quantize_with(
    graph: Graph,
    options: Options,
    progress: Optional[Progress] = None,
    keep_codes: bool = True,
) -> RewriteResult:
    """Quantize a graph in one go, surveying it once; see ``quantize``."""
    view = build(graph)
    view.check()
    survey = locate_in(view)
    made = plan_surveyed(graph, view, survey, options, None)
    return rewrite_surveyed(graph, view, survey.sites, made, progress, keep_codes)


def draft_with(graph: Graph, options: Options) -> Draft:
    """Like ``quantize_with``; the values are computed when ``rewrite.run.write`` writes them."""
    view = build(graph)
    view.check()
    survey = locate_in(view)
    made = plan_surveyed(graph, view, survey, options, None)
    return draft_surveyed(graph, view, survey.sites, made)


def with_storage(plan: Plan, storage: Optional[str]) -> Plan:
    """The same plan with another storage form for every weight; None changes nothing."""
    if storage is None:
        return plan
    Options(storage=storage)
    return replace(plan, items=tuple(replace(item, storage=storage) for item in plan.items))


def _graph(graph: GraphOrPath) -> Graph:
    return graph if isinstance(graph, Graph) else load(graph)
