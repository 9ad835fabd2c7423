"""The part of ``graphwq quantize`` that runs the graph: methods that look at what layers see."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

from graphwq import text
from graphwq.cli import options, output
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.quant.scheme import GPTQ
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.run import Progress

if TYPE_CHECKING:
    from graphwq.calibration import Calibrated

_SYNTHETIC = "synthetic"
_SAMPLES = 8
#: Weights that are named for one reason; the rest is counted.
_NAMED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of calibration."""
    group = parser.add_argument_group("calibration, for --method gptq and auto")
    group.add_argument(
        "--calibration",
        metavar="FEEDS.npz",
        help="inputs by tensor name (x:0), or 'synthetic': noise made from --seed (default)",
    )
    group.add_argument(
        "--samples", type=int, metavar="N", help=f"synthetic inputs (default {_SAMPLES})"
    )
    group.add_argument("--seed", type=int, metavar="N", help="of synthetic inputs (default 0)")


def wanted(arguments: argparse.Namespace, plan: Optional[Plan]) -> bool:
    """Whether the graph has to be run.

    Raises:
        InputError: an option of calibration without a method that uses it, or a wrong number.
    """
    method = arguments.method
    needed = method in (GPTQ, options.AUTO)
    if plan is not None:
        needed = any(item.scheme.method == GPTQ for item in plan.items)
    for name in ("calibration", "samples", "seed"):
        if getattr(arguments, name) is not None and not needed:
            raise InputError(f"--{name} has no effect without --method gptq or auto")
    if arguments.samples is not None and arguments.samples < 1:
        raise InputError(f"--samples must be at least 1, not {arguments.samples}")
    if arguments.seed is not None and arguments.seed < 0:
        raise InputError(f"--seed cannot be negative ({arguments.seed})")
    return needed


def run(
    arguments: argparse.Namespace,
    graph: Graph,
    wishes: Options,
    plan: Optional[Plan],
    step: Optional[Progress],
) -> Calibrated:
    """Quantize by running the graph."""
    from graphwq import calibration

    source = None if arguments.calibration in (None, _SYNTHETIC) else Path(arguments.calibration)
    seed = 0 if arguments.seed is None else arguments.seed
    samples = arguments.samples or _SAMPLES
    if plan is not None:
        return calibration.carry_out_plan(
            graph, plan, arguments.storage, source, seed, samples, step
        )
    auto = arguments.method == options.AUTO
    return calibration.quantize_calibrated(graph, wishes, source, seed, samples, auto, step)


def show(made: Calibrated) -> None:
    """Print what calibration did, and the weights that fell back, by reason."""
    told = made.plan.calibration
    if told is not None:
        print(f"calibrated on {text.plural(told.samples, 'input')} ({told.origin})")
    for note in made.notes:
        print(text.one_line(note))
    reasons: Dict[str, List[str]] = {}
    for outcome in made.outcomes:
        if outcome.reason:
            reasons.setdefault(f"{outcome.method}: {outcome.reason}", []).append(outcome.weight)
    rows = []
    for reason, weights in reasons.items():
        named = ", ".join(text.name(weight) for weight in weights[:_NAMED])
        more = f" and {len(weights) - _NAMED} more" if len(weights) > _NAMED else ""
        rows.append((str(len(weights)), text.one_line(reason), named + more))
    if rows:
        output.print_table("not calibrated", ("weights>", "method and reason", "names"), rows)
