"""A report as Markdown, for pull requests: verdict first, tables after, long ones cut."""

from __future__ import annotations

from typing import Iterator, List, Sequence, Tuple

from graphwq import text
from graphwq.verify import summary
from graphwq.verify.render import tables
from graphwq.verify.render.escape import code, markdown
from graphwq.verify.report import Report

#: Rows of a table; a comment on a pull request may have 65536 characters.
MAX_ROWS = 50

Columns = Sequence[Tuple[str, bool]]


def to_markdown(report: Report) -> str:
    """The report."""
    parts = [
        f"## {summary.verdict(report)}: {_name(report)}",
        "",
        *_table([("layer", False), ("", False), ("", False)], _summary(report)),
    ]
    if report.notes:
        parts += [f"- {markdown(note, 1000)}" for note in report.notes] + [""]
    parts += _section("What is wrong", tables.PROBLEMS, tables.problems(report))
    columns, rows = tables.outputs(report)
    parts += _section("Outputs", columns, rows)
    columns, rows = tables.layers(report)
    parts += _section("Error per layer", columns, rows)
    columns, rows = tables.weights(report)
    parts += _section("Weights", columns, rows)
    parts += _section("Unexplained changes", tables.CHANGES, tables.changes(report))
    return "\n".join(parts).rstrip() + "\n"


def _name(report: Report) -> str:
    before = "golden data" if report.reference is None else code(report.reference.name)
    return f"{before} → {code(report.candidate.name)}"


def _summary(report: Report) -> List[Sequence[str]]:
    return [(layer, state, line) for layer, state, line in summary.lines(report)]


def _section(title: str, columns: Columns, rows: Sequence[Sequence[str]]) -> List[str]:
    if not rows:
        return []
    lines = [f"### {title}", "", *_table(columns, rows[:MAX_ROWS])]
    if len(rows) > MAX_ROWS:
        lines += [f"and {text.plural(len(rows) - MAX_ROWS, 'more row')}", ""]
    return lines


def _table(columns: Columns, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(title for title, _ in columns) + " |"
    yield "|" + "|".join("---:" if right else "---" for _, right in columns) + "|"
    for row in rows:
        yield "| " + " | ".join(_cell(cell, 300) for cell in row) + " |"
    yield ""


def _cell(value: str, limit: int) -> str:
    return markdown(value, limit) if value else " "
