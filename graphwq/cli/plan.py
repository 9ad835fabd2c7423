"""``graphwq plan``: every decision, written down before anything is done."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Tuple

from graphwq import text
from graphwq.cli import calibrated, mixture, options, output, sources, tradeoff
from graphwq.cli.about import about
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.rewrite.plan import Plan, PlanItem, Rows, Split
from graphwq.rewrite.planning import make_plan


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("graph", metavar="IN", type=Path, help=sources.HELP)
    parser.add_argument(
        "-o", "--output", metavar="PLAN.json", type=Path, help="write the plan here"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    options.configure(parser)
    calibrated.configure(parser)
    tradeoff.configure(parser)
    sources.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make one plan."""
    if arguments.method == options.AUTO:
        raise InputError(
            "--method auto decides by running the graph: use graphwq quantize --method auto "
            "--save-plan PLAN.json"
        )
    tradeoff.check(arguments)
    if arguments.sweep:
        return tradeoff.run(arguments)
    wishes = options.from_arguments(arguments)
    _check(arguments)
    if arguments.output is not None:
        inputs = (arguments.graph, *calibrated.files(arguments))
        check_output(arguments.output, inputs, arguments.force)
    graph = sources.load(arguments, output=arguments.output).graph
    with about(arguments.graph), output.progress("measuring") as step:
        if calibrated.measures_costs(arguments):
            plan = calibrated.plan_measured(arguments, graph, wishes, graph.digest, step)
        else:
            plan = make_plan(graph, wishes)
    if arguments.output is not None:
        write_atomically(arguments.output, (plan.dumps().encode(),), arguments.force)
    if arguments.json:
        output.print_json(plan.to_json())
        return 0
    _print(plan)
    if arguments.output is not None:
        print(f"wrote {text.one_line(str(arguments.output))}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse inputs that nothing is measured on: codes are chosen by ``quantize``."""
    for name in ("calibration", "samples", "seed"):
        if getattr(arguments, name) is not None and not calibrated.measures_costs(arguments):
            raise InputError(
                f"--{name} has no effect on a plan without --target-bits or --target-size and "
                "--calibration: give it to graphwq quantize"
            )


def _print(plan: Plan) -> None:
    if plan.items:
        columns = ("weight", "bits>", "storage", "scale", "form")
        title = f"{text.plural(len(plan.items), 'weight')} to quantize"
        output.print_table(title, columns, [_row(item) for item in plan.items])
    else:
        print("nothing to quantize in this graph")
    output.print_skips(plan.skips)
    mixture.show(plan.mixture, table=True)


def _row(item: PlanItem) -> Tuple[str, ...]:
    granularity = item.to_json()["granularity"]
    scale = granularity["kind"].replace("_", " ")
    if "axes" in granularity:
        scale += f" {output.names(granularity['axes'])}"
    if "group_size" in granularity:
        scale += f" of {granularity['group_size']} along {granularity['axis']}"
    form = "-"
    if item.storage == "dequant":
        form = "int8" if item.stored_bits == 8 else f"packed {item.stored_bits} bit"
        if isinstance(item.form, Split):
            form += f" in {len(item.form.sizes)} pieces"
        elif isinstance(item.form, Rows):
            form += " by rows"
    return text.name(item.weight), str(item.scheme.num_bits), item.storage, scale, form
