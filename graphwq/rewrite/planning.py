"""From a graph and what is wanted to a plan: one width for all weights, or a mixture."""

from __future__ import annotations

from typing import Optional

from graphwq.graphdef.graph import Graph
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.planner import plan_survey
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Survey
from graphwq.survey.view import View, build


def make_plan(graph: Graph, options: Options, digest: bool = True) -> Plan:
    """Plan the quantization of a graph.

    Args:
        graph: to be quantized.
        options: what the user wants.
        digest: bind the plan to the graph by its sha256; without it the plan is only for use in
            this process.

    Raises:
        InputError: a broken graph, or a pattern that matches no weight.
    """
    view = build(graph)
    view.check()
    return plan_surveyed(graph, view, locate_in(view), options, graph.digest if digest else None)


def plan_surveyed(
    graph: Graph, view: View, survey: Survey, options: Options, digest: Optional[str]
) -> Plan:
    """Plan the quantization of a graph that is already surveyed; see ``make_plan``."""
    if options.target is None:
        return plan_survey(view, survey, options, digest)
    from graphwq.rewrite.mixed import plan_mixed  # rarely wanted, and slow to import

    return plan_mixed(graph, view, survey, options, digest)
