"""``graphwq report``: a saved report for people, on the terminal, as Markdown or as HTML."""

from __future__ import annotations

import argparse
from pathlib import Path

from graphwq import __version__, text
from graphwq.cli import output
from graphwq.cli.about import about
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.graphdef.mapping import read_file
from graphwq.verify import summary
from graphwq.verify.render import tables
from graphwq.verify.report import Report

#: Exit status where the verdict is FAILED.
FINDINGS = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "saved", metavar="REPORT.json", type=Path, help="what graphwq verify --report wrote"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    configure_pages(parser)


def configure_pages(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that name pages to write."""
    parser.add_argument("--html", metavar="OUT.html", type=Path, help="write one HTML page")
    parser.add_argument("--markdown", metavar="OUT.md", type=Path, help="write Markdown")
    parser.add_argument("--force", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> int:
    """Show one report; the exit status is its verdict."""
    for path in (arguments.html, arguments.markdown):
        if path is not None:
            check_output(path, (arguments.saved,), arguments.force)
    with about(arguments.saved):
        try:
            report = Report.loads(str(read_file(arguments.saved), "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError("not a report: it is no UTF-8 text") from error
    write_pages(arguments, report)
    show(arguments, report)
    return 0 if report.passed else FINDINGS


def write_pages(arguments: argparse.Namespace, report: Report) -> None:
    """Write the pages that the arguments name."""
    if arguments.markdown is not None:
        from graphwq.verify.render.markdown import to_markdown

        _write(arguments.markdown, to_markdown(report), arguments.force)
    if arguments.html is not None:
        from graphwq.verify.render.html import to_html

        _write(arguments.html, to_html(report, __version__), arguments.force)


def _write(path: Path, content: str, force: bool) -> None:
    write_atomically(path, (content.encode("utf-8", "backslashreplace"),), force)


def show(arguments: argparse.Namespace, report: Report) -> None:
    """Print the report: verdict, what was compared, problems, tables."""
    if arguments.json:
        output.print_json(report.to_json())
        return
    print(summary.title(report))
    for line in summary.sentences(report):
        print(f"  {line}")
    print()
    problems = summary.problem_lines(report)
    if problems:
        print("what is wrong")
        for line in problems:
            print(f"  {line}")
        print()
    for title, (columns, rows) in (
        ("outputs", tables.outputs(report)),
        ("error per layer", tables.layers(report)),
        ("weights", tables.weights(report)),
    ):
        if rows:
            names = [name + (">" if right else "") for name, right in columns]
            shown = [[text.name(cell) for cell in row] for row in rows]
            output.print_table(title, names, shown)
