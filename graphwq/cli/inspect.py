"""``graphwq inspect``: the weights of a graph and what is known of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from graphwq import text
from graphwq.cli import output, sources
from graphwq.cli.about import about
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import release
from graphwq.quant.grid import Grid, detect
from graphwq.rewrite.decode import StoredWeight, stored_weights
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Source, Survey, WeightSite
from graphwq.survey.view import View, build


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("graph", metavar="IN", type=Path, help=sources.HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    sources.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Inspect one graph."""
    graph = sources.load(arguments).graph
    with about(arguments.graph):
        view = build(graph)
        problems = view.problems()
        survey = locate_in(view)
        grids = {site.weight: _grid(view, site) for site in survey.sites}
        stored = stored_weights(view)
    for problem in problems:
        print(f"graphwq: warning: {text.one_line(problem)}", file=sys.stderr)
    if arguments.json:
        output.print_json(_to_json(arguments.graph, graph, survey, grids, stored, problems))
    else:
        _print(arguments.graph, graph, survey, grids, stored)
    return 0


def _grid(view: View, site: WeightSite) -> Optional[Grid]:
    if site.source is not Source.CONST:
        return None
    tensor = view.scopes[site.scope].nodes[site.node].tensor()
    if tensor is None or tensor.size > 4 * site.nbytes:
        return None
    kept = {consumer.kept_axes: None for consumer in site.consumers}
    grid = detect(tensor.numpy(), kept)
    if tensor.content is not None:
        release(tensor.content)
    return grid


def _to_json(
    path: Path,
    graph: Graph,
    survey: Survey,
    grids: Dict[str, Optional[Grid]],
    stored: Tuple[StoredWeight, ...],
    problems: List[str],
) -> Dict[str, Any]:
    def with_grid(site: WeightSite) -> Dict[str, Any]:
        grid = grids[site.weight]
        return {**site.to_json(), "grid": None if grid is None else grid.to_json()}

    return {
        "input": str(path),
        "bytes": graph.nbytes,
        "nodes": sum(len(scope.nodes) for scope in graph.scopes),
        "functions": len(graph.functions),
        "sites": [with_grid(site) for site in survey.sites],
        "quantized": [item.to_json() for item in stored],
        "skips": [skip.to_json() for skip in survey.skips],
        "problems": problems,
    }


def _print(
    path: Path,
    graph: Graph,
    survey: Survey,
    grids: Dict[str, Optional[Grid]],
    stored: Tuple[StoredWeight, ...],
) -> None:
    nodes = sum(len(scope.nodes) for scope in graph.scopes)
    print(f"{text.one_line(str(path))}: {text.size(graph.nbytes)}, {text.plural(nodes, 'node')}")
    if survey.sites:
        rows = [_row(site, grids[site.weight]) for site in survey.sites]
        columns = ("weight", "shape", "dtype", "used by", "channels", "bytes>", "grid")
        output.print_table(text.plural(len(rows), "weight"), columns, rows)
    if stored:
        found = [
            (
                text.name(item.weight),
                text.shape(item.codes.shape),
                f"{item.num_bits} bit",
                item.storage,
                output.names(item.axes),
                text.size(item.nbytes),
            )
            for item in stored
        ]
        headings = ("weight", "shape", "bits", "storage", "scale axes", "bytes>")
        output.print_table(f"{len(found)} stored quantized", headings, found)
    output.print_skips(survey.skips)
    _verdict(survey, grids, stored)


def _row(site: WeightSite, grid: Optional[Grid]) -> Tuple[str, ...]:
    ops = {f"{consumer.op}[{consumer.slot}]": None for consumer in site.consumers}
    used = ", ".join(ops) + (f" x{len(site.consumers)}" if len(site.consumers) > 1 else "")
    via = " <- ".join(reversed(site.path))
    return (
        text.name(site.weight),
        text.shape(site.shape),
        site.to_json()["dtype"],
        used + (f" <- {via}" if via else ""),
        output.names(site.kept_axes),
        text.size(site.nbytes),
        _describe(grid),
    )


def _describe(grid: Optional[Grid]) -> str:
    if grid is None:
        return "float"
    along = f" per axis {output.names(grid.axes)}" if grid.axes else " per tensor"
    return f"{grid.num_bits} bit{along}{'' if grid.symmetric else ', affine'}"


def _verdict(
    survey: Survey, grids: Dict[str, Optional[Grid]], stored: Tuple[StoredWeight, ...]
) -> None:
    on_grid = sum(grid is not None for grid in grids.values())
    total = len(survey.sites) + len(stored)
    if not total:
        print("no weight was found in this graph")
    elif on_grid + len(stored) == 0:
        print("not quantized: every weight is plain float")
    else:
        print(
            f"quantized: {len(stored)} of {text.plural(total, 'weight')} as integers, "
            f"{on_grid} as floats on a grid"
        )
