"""A diff as a comment on a pull request: Markdown that stays under GitHub's limit."""

from __future__ import annotations

import html
from typing import List

from graphwq.diff import words
from graphwq.diff.change import Severity
from graphwq.diff.document import Diff
from graphwq.diff.rows import Row, Section, sections
from graphwq.text import name, one_line, plural, size

#: GitHub takes 65,536 characters.
LIMIT = 60_000
_TAIL = 400

#: Marks that Markdown, or GitHub's links to people and issues, would act on.
_LINKS = (("@", "&#64;&#8288;"), ("://", "&#58;//"), ("www.", "www&#46;"))
_ACTIVE = "\\`*_[]#|~$"


def render(diff: Diff, summary: bool = False) -> str:
    """The diff as Markdown of fewer than 60,000 characters, with a count of what was left out."""
    lines = [f"### {_code(words.title(diff))}", ""]
    said = [*words.quantization(diff), words.verdict(diff)]
    lines += [f"**{plain(said[0])}**  ", *(f"{plain(line)}  " for line in said[1:]), ""]
    lines += _table(diff)
    text = "\n".join(lines) + "\n"
    if summary:
        return text
    parts = sections(diff)
    room = LIMIT - len(text) - _TAIL * (len(parts) + 1)
    for index, section in enumerate(parts):
        share = room // (len(parts) - index)
        block = _section(section, share)
        room -= len(block)
        text += block
    return text


def _table(diff: Diff) -> List[str]:
    counts = " | ".join(str(diff.count(severity)) for severity in Severity)
    columns = ["", *(severity.value for severity in Severity)]
    unexplained = ""
    if diff.plan is not None:
        columns.append("unexplained")
        unexplained = f" | {len(diff.unexplained)}"
    columns += ["size", "nodes"]
    sizes = f"{size(diff.old.nbytes)} → {size(diff.new.nbytes)}"
    nodes = f"{diff.old.nodes} → {diff.new.nodes}"
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        f"| changes | {counts}{unexplained} | {sizes} | {nodes} |",
        "",
    ]


def _section(section: Section, room: int) -> str:
    opened = " open" if section.severity is Severity.BREAKING or section.explained is False else ""
    head = f"<details{opened}><summary>{section.heading} ({section.changes})</summary>\n\n"
    head += "| where | what |\n|---|---|\n"
    used, rows, left = len(head), [], section.changes
    for row in section.rows:
        line = _row(row)
        if used + len(line) > room:
            break
        used += len(line)
        left -= row.changes
        rows.append(line)
    more = f"\n… and {plural(left, 'change')} more\n" if left else ""
    return f"{head}{''.join(rows)}{more}\n</details>\n\n"


def _row(row: Row) -> str:
    why = f"<br>because {plain(row.reason)}" if row.severity is Severity.BREAKING else ""
    where = _code(name(row.label)) if row.label else "graph"
    return f"| {where} | {plain(one_line(row.message, 400))}{why} |\n"


def plain(text: str) -> str:
    """Text in which nothing is Markdown, HTML, or a mention of somebody."""
    inert = "".join(_inert(char) for char in one_line(text, 1000))
    for link, dead in _LINKS:
        inert = inert.replace(link, dead)
    return inert


def _inert(char: str) -> str:
    if char in _ACTIVE:
        return f"&#{ord(char)};"
    return html.escape(char)


def _code(text: str) -> str:
    return f"<code>{plain(text)}</code>"
