"""``graphwq plan --sweep``: what smaller files cost, as a table, JSON, CSV and a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Tuple

from graphwq import text
from graphwq.cli import options, output, sources
from graphwq.cli.about import about
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.rewrite.mixture import COSTS
from graphwq.tradeoff.measure import Point, TradeOff, measure
from graphwq.tradeoff.render import decibel, to_csv, to_svg


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of a sweep."""
    group = parser.add_argument_group("trade-off of size and error")
    group.add_argument(
        "--sweep",
        action="store_true",
        help="instead of one plan: sizes and predicted errors for 2, 2.5 ... 8 bits on average, "
        "and beside them for 2 ... 8 bits for all weights",
    )
    group.add_argument("--csv", metavar="FILE.csv", type=Path, help="also write them as CSV")
    group.add_argument("--svg", metavar="FILE.svg", type=Path, help="also draw them")


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        InputError: what has no effect with ``--sweep``, or without it.
    """
    if not arguments.sweep:
        for name in ("csv", "svg"):
            if getattr(arguments, name) is not None:
                raise InputError(f"--{name} has no effect without --sweep")
        return
    for name in ("output", "bits", "target_bits", "target_size", "calibration"):
        if getattr(arguments, name) is not None:
            said = "--" + name.replace("_", "-")
            raise InputError(f"{said} has no effect with --sweep, which looks at every size")


def run(arguments: argparse.Namespace) -> int:
    """Measure and show."""
    wishes = options.from_arguments(arguments)
    written: List[Path] = []
    for path in (arguments.csv, arguments.svg):
        if path is not None:
            check_output(path, (arguments.graph, *written), arguments.force)
            written.append(path)
    graph = sources.load(arguments).graph
    with about(arguments.graph), output.progress("planning") as step:
        trade = measure(graph, wishes, progress=step)
    if arguments.csv is not None:
        write_atomically(arguments.csv, (to_csv(trade).encode(),), arguments.force)
    if arguments.svg is not None:
        picture = to_svg(trade, arguments.graph.name)
        write_atomically(arguments.svg, (picture.encode(),), arguments.force)
    if arguments.json:
        output.print_json(trade.to_json())
        return 0
    _print(trade)
    for path in written:
        print(f"wrote {text.one_line(str(path))}")
    return 0


def _print(trade: TradeOff) -> None:
    columns = ("bits>", "mixed>", "of float>", "chosen>", "dB>", "uniform>", "of float>", "dB>")
    beside = {point.target: point for point in trade.uniform}
    rows = []
    for point in trade.mixed:
        other = beside.get(point.target)
        row = [f"{point.target:g}", *_cells(trade, point), decibel(point)]
        row.insert(3, f"{point.average_bits:.2f}")
        rows.append((*row, *(("", "", "") if other is None else _uniform(trade, other))))
    title = f"sizes and predicted SQNR by {trade.method}, float file {text.size(trade.nbytes)}"
    output.print_table(title, columns, rows)
    print(f"predicted from: {COSTS[trade.cost]}, added up over the weights")


def _uniform(trade: TradeOff, point: Point) -> Tuple[str, ...]:
    return (*_cells(trade, point), decibel(point))


def _cells(trade: TradeOff, point: Point) -> Tuple[str, str]:
    return text.size(point.nbytes), text.ratio(point.nbytes, trade.nbytes)
