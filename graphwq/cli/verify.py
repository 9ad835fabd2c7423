"""``graphwq verify``: is the candidate what its plan makes of the reference, and what is lost?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from graphwq import verification
from graphwq.cli import output, report, sources
from graphwq.cli.about import about
from graphwq.cli.plans import read_plan
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import load
from graphwq.verify.report import Report

_RUNNING = (
    "Needs TensorFlow. Running a graph executes its ops: where an output needs one that reaches "
    "files, the network or Python, the graph is not run unless --allow-unsafe-ops is given."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "reference", metavar="REFERENCE", type=Path, help=f"the graph before: {sources.HELP}"
    )
    candidate = parser.add_argument(
        "candidate", metavar="CANDIDATE", type=Path, help="the graph that was made of it"
    )
    candidate.required = False  # with --golden there is no reference before it
    parser.add_argument("--plan", metavar="PLAN.json", type=Path, help="the plan it was made by")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--exact",
        action="store_true",
        help="fail where a weight or output differs by a bit (for bake against dequant)",
    )
    parser.add_argument(
        "--static",
        action="store_true",
        help="compare structure and weights only: run nothing, needs no TensorFlow",
    )
    parser.epilog = "exit status: 0 passed, 1 failed, 2 bad input"
    _configure_run(parser.add_argument_group("running both graphs", _RUNNING))
    sources.configure(parser, outputs=False)
    pages = parser.add_argument_group("reports")
    pages.add_argument("--report", metavar="OUT.json", type=Path, help="write it as JSON")
    report.configure_pages(pages)


def _configure_run(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--inputs",
        metavar="FEEDS.npz",
        type=Path,
        help="arrays by tensor name (input:0), one or many samples; without it inputs are made up",
    )
    group.add_argument(
        "--labels",
        metavar="LABELS.npz",
        type=Path,
        help="the right class of every sample (an array 'labels' among the inputs will do)",
    )
    group.add_argument(
        "--outputs",
        metavar="A:0,B:0",
        help="compare these tensors (default: all that nothing in the graph uses)",
    )
    group.add_argument(
        "--min-sqnr", metavar="DB", type=_number, help="fail where an output has a lower SQNR"
    )
    group.add_argument(
        "--max-abs", metavar="X", type=_number, help="fail where an output is further off"
    )
    group.add_argument(
        "--seed", metavar="N", type=_whole, default=0, help="seed of made-up inputs (default 0)"
    )
    group.add_argument(
        "--samples",
        metavar="N",
        type=_whole,
        default=4,
        help="how many inputs are made up (default 4)",
    )
    group.add_argument(
        "--golden",
        metavar="GOLDEN.npz",
        type=Path,
        help="compare with saved outputs; then the CANDIDATE is the only graph",
    )
    group.add_argument(
        "--save-golden",
        metavar="OUT.npz",
        type=Path,
        help="save the outputs of the reference (for --exact later: with --exact)",
    )
    group.add_argument(
        "--layers", action="store_true", help="find where the error comes from, weight by weight"
    )
    group.add_argument(
        "--keep",
        choices=("float", "8"),
        help="find the fewest weights to keep float, or at 8 bits, to reach --min-sqnr",
    )
    group.add_argument(
        "--allow-unsafe-ops",
        action="store_true",
        help="run them all the same; only for graphs that you trust like a program",
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify one candidate; the exit status is the verdict."""
    _check(arguments)
    made = _with_golden(arguments) if arguments.golden else _with_reference(arguments)
    if arguments.report is not None:
        write_atomically(arguments.report, (made.dumps().encode(),), arguments.force)
    report.write_pages(arguments, made)
    report.show(arguments, made)
    return 0 if made.passed else report.FINDINGS


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what does not go together before anything is read.

    Raises:
        InputError: a graph too many or too few, --golden with what needs a reference, or an output
            that must not be written.
    """
    if (arguments.candidate is None) == (arguments.golden is None):
        raise InputError(
            "give REFERENCE and CANDIDATE, or --golden GOLDEN.npz and CANDIDATE "
            "(see graphwq verify --help)"
        )
    if arguments.golden is not None and (arguments.plan or arguments.static):
        raise InputError("--golden compares outputs alone: leave out --plan and --static")
    read = [arguments.reference, arguments.candidate, arguments.plan, arguments.inputs]
    inputs = [path for path in [*read, arguments.labels, arguments.golden] if path is not None]
    pages = (arguments.report, arguments.html, arguments.markdown)
    for path in (*pages, arguments.save_golden):
        if path is not None:
            check_output(path, inputs, arguments.force)


def _with_reference(arguments: argparse.Namespace) -> Report:
    plan = None if arguments.plan is None else read_plan(arguments.plan)
    reference, candidate = _reference(arguments), load(arguments.candidate)
    with about(arguments.candidate), output.progress("verifying") as step:
        return verification.verify(
            reference,
            candidate,
            inputs=arguments.inputs,
            plan=plan,
            static=arguments.static,
            names=(str(arguments.reference), str(arguments.candidate)),
            seed=arguments.seed,
            samples=arguments.samples,
            save_golden=arguments.save_golden,
            force=arguments.force,
            progress=step,
            **_wishes(arguments),
        )


def _reference(arguments: argparse.Namespace) -> Graph:
    """The reference; one that has to be frozen first is pruned to the outputs that are compared."""
    is_frozen = arguments.reference.is_file() and arguments.checkpoint is None
    is_frozen = is_frozen and arguments.reference.suffix != ".meta"
    wanted = argparse.Namespace(**vars(arguments))
    wanted.outputs = None if is_frozen else arguments.outputs
    return sources.load(wanted, arguments.reference).graph


def _with_golden(arguments: argparse.Namespace) -> Report:
    if arguments.save_golden is not None or arguments.inputs is not None:
        raise InputError("--golden holds inputs and outputs: leave out --inputs and --save-golden")
    path = arguments.reference
    candidate = load(path)
    with about(path), output.progress("verifying") as step:
        return verification.verify_golden(
            arguments.golden, candidate, name=str(path), progress=step, **_wishes(arguments)
        )


def _wishes(arguments: argparse.Namespace) -> Dict[str, Any]:
    """What both kinds of run understand (or refuse with a reason)."""
    return {
        "exact": arguments.exact,
        "min_sqnr": arguments.min_sqnr,
        "max_abs": arguments.max_abs,
        "labels": arguments.labels,
        "outputs": _listed(arguments.outputs),
        "layers": arguments.layers,
        "keep": arguments.keep,
        "allow_unsafe_ops": arguments.allow_unsafe_ops,
    }


def _listed(value: Optional[str]) -> Tuple[str, ...]:
    if value is None:
        return ()
    names = tuple(item.strip() for item in value.split(",") if item.strip())
    if not names:
        raise InputError("--outputs names no tensor: write --outputs logits:0")
    return names


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number") from error


def _whole(value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number") from error
