"""A diff for the terminal."""

from __future__ import annotations

from typing import Iterator, List

from graphwq.diff import words
from graphwq.diff.change import Severity
from graphwq.diff.document import Diff
from graphwq.diff.rows import Row, Section, sections
from graphwq.text import name, one_line, plural

#: So many rows of a section are printed.
_ROWS = 200
_LABEL = 44
_COLOURS = {Severity.BREAKING: "31", Severity.NUMERIC: "33", Severity.BENIGN: "2"}


def render(diff: Diff, colour: bool = False, summary: bool = False) -> str:
    """The diff as lines of printable text.

    Args:
        diff: the diff.
        colour: with the escape sequences of a terminal.
        summary: only what is above the lists.
    """
    lines = [_bold(words.title(diff), colour), f"  {words.sizes(diff)}"]
    lines += [f"  {line}" for line in words.quantization(diff)]
    lines.append(f"  {words.verdict(diff)}")
    if not summary and diff.old.nodes and diff.new.nodes:
        for section in sections(diff):
            lines += ["", *_section(section, colour)]
    return "\n".join(lines) + "\n"


def _section(section: Section, colour: bool) -> Iterator[str]:
    heading = f"{section.heading} ({section.changes})"
    yield _paint(heading, section.severity, colour)
    shown = section.rows[:_ROWS]
    width = min(_LABEL, max(len(name(row.label)) for row in shown))
    for row in shown:
        yield from _row(row, width)
    more = sum(row.changes for row in section.rows[_ROWS:])
    if more:
        yield f"  ... and {plural(more, 'change')} more (all of them: --format json)"


def _row(row: Row, width: int) -> List[str]:
    label = name(row.label)
    lines = [f"  {label:{width}}  {one_line(row.message)}" if label else f"  {row.message}"]
    if len(label) > width:
        lines = [f"  {label}", f"  {'':{width}}  {one_line(row.message)}"]
    if row.severity is Severity.BREAKING:
        lines.append(f"  {'':{width}}  because {one_line(row.reason)}")
    return lines


def _bold(text: str, colour: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour else text


def _paint(text: str, severity: Severity, colour: bool) -> str:
    return f"\x1b[1;{_COLOURS[severity]}m{text}\x1b[0m" if colour else text
