"""The part of ``quantize`` and ``mnn`` that runs the graph: methods that need what layers see."""

from __future__ import annotations

import argparse
import sys
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
    from graphwq.calibration import Calibrated, Wishes

_SYNTHETIC = "synthetic"
_STORED = "bn"
_NO_FILES = (None, _SYNTHETIC, _STORED)
_SAMPLES = 8
#: Weights that are named for one reason; the rest is counted.
_NAMED = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of calibration."""
    group = parser.add_argument_group(
        "calibration, for --method gptq and auto, --correct-bias, --target-bits and --target-size"
    )
    group.add_argument(
        "--calibration",
        metavar="FEEDS.npz",
        help="inputs by tensor name (x:0); 'synthetic': pictures and noise made from --seed "
        "(default); 'bn': none, layers are weighed by what batch norms say of them",
    )
    group.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help=f"synthetic inputs (default {_SAMPLES}); so many pictures are also made up beside a "
        "file of fewer than 32 images, with 0 none",
    )
    group.add_argument("--seed", type=int, metavar="N", help="of synthetic inputs (default 0)")


def wanted(arguments: argparse.Namespace, plan: Optional[Plan]) -> bool:
    """Whether the graph has to be run.

    Raises:
        InputError: an option of calibration without a method that uses it, or a wrong number.
    """
    needed = arguments.method in (GPTQ, options.AUTO) or arguments.correct_bias
    if plan is not None:
        needed = any(item.scheme.method == GPTQ or item.bias for item in plan.items)
    if arguments.correct_bias and arguments.calibration in _NO_FILES:
        raise InputError(
            "--correct-bias needs real inputs, for made-up ones have other means: give "
            "--calibration FEEDS.npz"
        )
    for name in ("calibration", "samples", "seed"):
        if getattr(arguments, name) is not None and not (needed or measures_costs(arguments)):
            raise InputError(
                f"--{name} has no effect without --method gptq or auto, --correct-bias or a target"
            )
    least = 1 if arguments.calibration in _NO_FILES else 0
    if arguments.samples is not None and arguments.samples < least:
        raise InputError(f"--samples must be at least {least}, not {arguments.samples}")
    if arguments.seed is not None and arguments.seed < 0:
        raise InputError(f"--seed cannot be negative ({arguments.seed})")
    return needed


def measures_costs(arguments: argparse.Namespace) -> bool:
    """Whether widths are chosen by what they cost the outputs: a target, and inputs for it."""
    return options.has_target(arguments) and arguments.calibration not in (None, _STORED)


def plan_measured(
    arguments: argparse.Namespace,
    graph: Graph,
    asked: Options,
    digest: Optional[str],
    step: Optional[Progress],
) -> Plan:
    """Choose widths by running the graph; says so where that cannot be done."""
    from graphwq import allocation

    plan, reason = allocation.plan_measured(graph, asked, wishes(arguments), digest, step)
    if reason:
        said = f"note: widths were chosen by the weights' values alone: {reason}"
        print(text.one_line(said), file=sys.stderr)
    return plan


def run(
    arguments: argparse.Namespace,
    graph: Graph,
    asked: Options,
    plan: Optional[Plan],
    step: Optional[Progress],
) -> Calibrated:
    """Quantize by running the graph."""
    from graphwq import calibration

    how = wishes(arguments)
    if plan is not None:
        return calibration.carry_out_plan(
            graph, plan, arguments.storage, how.source, how.seed, how.samples, step, how.auto
        )
    return calibration.quantize_calibrated(
        graph, asked, how.source, how.seed, how.samples, how.auto, step
    )


def wishes(arguments: argparse.Namespace) -> Wishes:
    """How the arguments want the graph to be calibrated."""
    from graphwq.calibration import Wishes

    return Wishes(
        arguments.calibration,
        0 if arguments.seed is None else arguments.seed,
        _SAMPLES if arguments.samples is None else arguments.samples,
        arguments.method == options.AUTO,
    )


def files(arguments: argparse.Namespace) -> List[Path]:
    """The file of calibration inputs, where one is given: it must not be written over."""
    name = arguments.calibration
    return [] if name in _NO_FILES else [Path(name)]


def show(made: Optional[Calibrated]) -> None:
    """Print what calibration did, if there was one, and the weights that fell back, by reason."""
    if made is None:
        return
    told = made.plan.calibration
    if told is not None and told.origin == _STORED:
        print("weighed by what batch norms say of the layers; nothing was run")
    elif told is not None:
        beside = f" and {told.made_up} made up beside them" if told.made_up else ""
        print(f"calibrated on {text.plural(told.samples, 'input')} ({told.origin}){beside}")
    for note in made.notes:
        print(text.one_line(note))
    _show_biases(made)
    reasons: Dict[str, List[str]] = {}
    for outcome in made.outcomes:
        if outcome.reason:
            reasons.setdefault(f"{outcome.method}: {outcome.reason}", []).append(outcome.weight)
    _print_reasons("not calibrated", "method and reason", reasons)


def _show_biases(made: Calibrated) -> None:
    """Print which biases took a mean error, by how much, and why others did not."""
    rows = [
        (text.name(one.item.weight), text.name(one.item.bias), f"{one.shift.largest:.3g}")
        for one in made.result.weights
        if one.shift is not None
    ]
    if rows:
        columns = ("weight", "bias or moving mean", "changed by at most>")
        output.print_table(f"{text.plural(len(rows), 'bias', 'biases')} corrected", columns, rows)
    reasons: Dict[str, List[str]] = {}
    for outcome in made.outcomes:
        if outcome.bias:
            reasons.setdefault(outcome.bias, []).append(outcome.weight)
    _print_reasons("biases left as they are", "reason", reasons)


def _print_reasons(title: str, heading: str, reasons: Dict[str, List[str]]) -> None:
    rows = []
    for reason, weights in reasons.items():
        named = ", ".join(text.name(weight) for weight in weights[:_NAMED])
        more = f" and {len(weights) - _NAMED} more" if len(weights) > _NAMED else ""
        rows.append((str(len(weights)), text.one_line(reason), named + more))
    if rows:
        output.print_table(title, ("weights>", heading, "names"), rows)
