"""``graphwq diff``: what changed between two graphs, for people, machines and pull requests."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import List, Optional, Sequence

from graphwq.cli import sources
from graphwq.cli.about import about
from graphwq.diff import render_markdown, render_text
from graphwq.diff.change import Kind, Severity
from graphwq.diff.compare import Comparison, check, diff_graphs
from graphwq.diff.document import Diff, document, loads
from graphwq.diff.patch import applied
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import read_file
from graphwq.graphdef.opening import Opened, open_source
from graphwq.graphdef.source import save
from graphwq.rewrite.plan import Plan

FORMATS = ("text", "markdown", "json", "html")
_FAIL_ON = {"breaking": Severity.BREAKING, "numeric": Severity.NUMERIC, "any": Severity.BENIGN}
_SUFFIXES = {".md": "markdown", ".json": "json", ".html": "html"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("old", metavar="OLD", type=Path, help=sources.HELP)
    parser.add_argument("new", metavar="NEW", type=Path, nargs="?", help="the graph to compare")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="text unless given, or what the name after -o says (.md, .json, .html)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="write it here")
    parser.add_argument("--force", action="store_true", help="replace an existing file")
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument(
        "--plan",
        metavar="PLAN.json",
        type=Path,
        help="the plan by which NEW was quantized; without it, it is recovered from NEW",
    )
    parser.add_argument(
        "--summary", action="store_true", help="only the verdict; in JSON: without the patch"
    )
    parser.add_argument(
        "--ignore",
        metavar="KIND",
        nargs="+",
        action="append",
        default=[],
        help=f"leave out changes of these kinds: {', '.join(kind.value for kind in Kind)}",
    )
    parser.add_argument(
        "--fail-on",
        choices=tuple(_FAIL_ON),
        default="any",
        help="the least severity that makes the exit status 1 (default: any)",
    )
    parser.add_argument(
        "--fail-on-unexplained",
        action="store_true",
        help="exit status 1 only where a change of that severity is explained by no plan",
    )
    parser.add_argument(
        "--apply",
        metavar="DIFF.json",
        type=Path,
        help="apply a diff (--format json) to OLD and write the graph that it makes to -o",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compare two graphs, or apply a diff to one."""
    if arguments.apply is not None:
        return _apply(arguments)
    if arguments.new is None:
        raise InputError("diff needs two graphs: graphwq diff OLD NEW (see graphwq diff --help)")
    ignored = _kinds(arguments.ignore)
    form = _format(arguments)
    if arguments.output is not None:
        check_output(arguments.output, (arguments.old, arguments.new), arguments.force)
    plan = None if arguments.plan is None else read_plan(arguments.plan)
    with_patch = form == "json" and not arguments.summary
    comparison = compare(arguments.old, arguments.new, plan)
    diff = document(comparison, str(arguments.old), str(arguments.new), with_patch)
    diff = diff.without(ignored)
    terminal = arguments.output is None and sys.stdout.isatty()
    text = rendered(diff, comparison, form, terminal and colours(), arguments.summary)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        write_atomically(arguments.output, (text.encode("utf-8"),), arguments.force)
    return _status(diff, _FAIL_ON[arguments.fail_on], arguments.fail_on_unexplained)


def compare(old: Path, new: Path, plan: Optional[Plan] = None) -> Comparison:
    """Read two graphs and compare them; /dev/null (git's missing side) is an empty graph."""
    before, after = read_side(old), read_side(new)
    with about(new if str(old) == os.devnull else old):
        signatures = (before.signatures, after.signatures)
        return diff_graphs(before.graph, after.graph, plan, signatures)


def read_side(path: Path) -> Opened:
    """A graph in which all nodes have names of their own; that of /dev/null has no nodes."""
    if str(path) == os.devnull:
        return Opened(Graph(()), ())
    opened = open_source(path)
    with about(path):
        check(opened.graph)
    return opened


def read_plan(path: Path) -> Plan:
    """A plan from its file.

    Raises:
        InputError: it cannot be read, or is no plan.
    """
    with about(path):
        return Plan.loads(_text(path))


def _text(path: Path) -> str:
    try:
        return str(read_file(path), "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: give a JSON file") from error


def rendered(
    diff: Diff, comparison: Comparison, form: str, colour: bool = False, summary: bool = False
) -> str:
    """The diff in one of the formats."""
    if form == "markdown":
        return render_markdown.render(diff, summary)
    if form == "json":
        return json.dumps(diff.to_json(), indent=1, allow_nan=False) + "\n"
    if form == "html":
        from graphwq.diff import render_html

        return render_html.render(diff, comparison)
    return render_text.render(diff, colour, summary)


def colours() -> bool:
    """Whether the user wants colours (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _format(arguments: argparse.Namespace) -> str:
    if arguments.json:
        if arguments.format not in (None, "json"):
            raise InputError(f"--json and --format {arguments.format} exclude each other")
        return "json"
    if arguments.format is not None:
        return str(arguments.format)
    return _SUFFIXES.get(arguments.output.suffix, "text") if arguments.output else "text"


def _kinds(groups: Sequence[Sequence[str]]) -> List[Kind]:
    known = {kind.value: kind for kind in Kind}
    found: List[Kind] = []
    for group in groups:
        for word in group:
            if word not in known:
                from difflib import get_close_matches

                near = get_close_matches(word, known, 1)
                hint = f"; is {near[0]} meant?" if near else ""
                raise InputError(
                    f"--ignore: there is no kind {word!r}{hint} (see graphwq diff --help)"
                )
            found.append(known[word])
    return found


def _status(diff: Diff, severity: Severity, unexplained: bool) -> int:
    found = diff.at_least(severity)
    if unexplained:
        found = tuple(change for change in found if change.explained_by is None)
    return 1 if found else 0


def _apply(arguments: argparse.Namespace) -> int:
    if arguments.new is not None:
        raise InputError("--apply takes one graph: graphwq diff OLD --apply DIFF.json -o NEW.pb")
    if arguments.output is None:
        raise InputError("--apply needs -o NEW.pb to write the graph to")
    check_output(arguments.output, (arguments.old, arguments.apply), arguments.force)
    with about(arguments.apply):
        data = loads(_text(arguments.apply))
    with about(arguments.apply):
        graph = applied(read_side(arguments.old).graph, data)
    save(graph, arguments.output, arguments.force)
    return 0
