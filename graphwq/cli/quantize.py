"""``graphwq quantize``: a frozen graph in, the same graph with quantized weights out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from graphwq import api, text
from graphwq.cli import calibrated, mixture, options, output, sources
from graphwq.cli.about import about
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.run import Progress, RewriteResult, WeightResult, Written, draft, write

if TYPE_CHECKING:
    from graphwq.calibration import Calibrated

Result = Union[RewriteResult, Written]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("graph", metavar="IN", type=Path, help=sources.HELP)
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="write the new graph here"
    )
    parser.add_argument("--plan", metavar="PLAN.json", type=Path, help="carry out this plan")
    parser.add_argument(
        "--save-plan", metavar="PLAN.json", type=Path, help="also write what was done as a plan"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options.configure(parser)
    calibrated.configure(parser)
    sources.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Quantize one graph."""
    inputs = [arguments.graph] + ([arguments.plan] if arguments.plan else [])
    inputs += calibrated.files(arguments)
    plan = options.read_plan(arguments)
    wishes = options.from_arguments(arguments)
    check_output(arguments.output, inputs, arguments.force)
    measured = calibrated.wanted(arguments, plan)
    if arguments.save_plan is not None:
        check_output(arguments.save_plan, (*inputs, arguments.output), arguments.force)
    opened = sources.load(arguments, output=arguments.output)
    graph = opened.graph
    made: Optional[Calibrated] = None
    result: Result
    with output.progress("quantizing") as step:
        if calibrated.measures_costs(arguments):
            with about(arguments.graph):
                plan = calibrated.plan_measured(arguments, graph, wishes, None, step)
        if measured:
            with about(arguments.graph):
                made = calibrated.run(arguments, graph, wishes, plan, step)
            result = made.result
            after = made.result.save(arguments.output, arguments.force)
        else:
            result = _quantize(arguments, graph, wishes, plan, step)
            after = result.nbytes
    if arguments.save_plan is not None:
        items = tuple(weight.item for weight in result.weights)
        plan_of = Plan(None, items, result.skips, mixture=result.mixture)
        final = replace(made.plan if made is not None else plan_of, graph_digest=graph.digest)
        write_atomically(arguments.save_plan, (final.dumps().encode(),), arguments.force)
    before = sources.size_of(arguments.graph, opened)
    if arguments.json:
        data = _to_json(arguments, result, before, after)
        output.print_json({**data, **made.to_json()} if made is not None else data)
    else:
        _print(arguments, result, before, after)
        calibrated.show(made)
    return 0


def _quantize(
    arguments: argparse.Namespace,
    graph: Graph,
    wishes: Options,
    plan: Optional[Plan],
    step: Optional[Progress],
) -> Written:
    """Quantize straight into the file."""
    with about(arguments.graph, arguments.output):
        if plan is None:
            drafted = api.draft_with(graph, wishes)
        else:
            drafted = draft(graph, api.with_storage(plan, arguments.storage))
        return write(drafted, arguments.output, arguments.force, step)


def _to_json(
    arguments: argparse.Namespace, result: Result, before: int, after: int
) -> Dict[str, Any]:
    return {
        "input": str(arguments.graph),
        "output": str(arguments.output),
        "bytes_before": before,
        "bytes_after": after,
        "shared_bytes": result.shared_bytes,
        "modified": result.modified,
        "weights": [weight.to_json() for weight in result.weights],
        "skips": [skip.to_json() for skip in result.skips],
    }


def _print(arguments: argparse.Namespace, result: Result, before: int, after: int) -> None:
    if result.weights:
        columns = ("weight", "bits>", "storage", "SQNR dB>", "max error>", "before>", "after>")
        rows = [_row(weight) for weight in result.weights]
        output.print_table(f"{text.plural(len(rows), 'weight')} quantized", columns, rows)
    else:
        print("nothing to quantize: the output is a copy of the input")
    output.print_skips(result.skips)
    mixture.show(result.mixture)
    if result.weights and not result.modified:
        print("every weight was on its grid already: the output is a copy of the input")
    print(
        f"{text.one_line(str(arguments.graph))} {text.size(before)} -> "
        f"{text.one_line(str(arguments.output))} {text.size(after)} "
        f"({text.ratio(after, before)})"
    )


def _row(weight: WeightResult) -> tuple:
    return (
        text.name(weight.item.weight),
        str(weight.item.scheme.num_bits),
        weight.item.storage,
        text.decibel(weight.error.sqnr_db),
        f"{weight.error.max_abs_error:.3g}",
        text.size(weight.bytes_before),
        text.size(weight.bytes_after),
    )
