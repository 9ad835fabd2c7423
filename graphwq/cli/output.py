"""Tables, progress bars and JSON: what all commands print with."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

from graphwq import text
from graphwq.survey.sites import Reason, Skip

#: Characters of a cell in a line of a file.
MAX_CELL = 300
#: Constants that nobody would take for a weight: counted, not listed.
_ORDINARY = {Reason.SCALAR.value, Reason.NOT_A_WEIGHT.value, Reason.EMPTY.value}


def print_json(data: Any) -> None:
    """Write data to stdout as JSON."""
    json.dump(data, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout; a column whose name ends in ``>`` is aligned to the right.

    A terminal gets a table that folds to its width; a file or a pipe gets one line per row, in
    which cells of more than MAX_CELL characters are shortened.
    """
    cells = [[text.printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_folded(title, columns, cells)
    else:
        short = [[text.shortened(cell, MAX_CELL) for cell in row] for row in cells]
        print(plain_table(title, columns, short))


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text whose columns are as wide as their widest cell; it ends in an empty line."""
    names = [column.rstrip(">") for column in columns]
    widths = [max(map(len, column)) for column in zip(names, *rows)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column.endswith(">") else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns)
        ]
        return (" " + "   ".join(padded)).rstrip()

    rule = " " + "-" * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([title, "", line(names), rule, *map(line, rows), ""])


def _print_folded(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            Text(column.rstrip(">")), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def print_skips(skips: Sequence[Skip]) -> None:
    """Write what was left as it is: the surprising ones one by one, the others as counts."""
    listed = [skip for skip in skips if skip.reason not in _ORDINARY]
    if listed:
        rows = [(text.name(skip.node), skip.reason, text.one_line(skip.detail)) for skip in listed]
        print_table("left as they are", ("node", "reason", "detail"), rows)
    counts = Counter(skip.reason for skip in skips if skip.reason in _ORDINARY)
    if counts:
        parts = [f"{count} {reason}" for reason, count in sorted(counts.items())]
        print(f"other float constants, no weights: {', '.join(parts)}")


@contextmanager
def progress(label: str) -> Iterator[Optional[Callable[[int, int, str], None]]]:
    """A progress bar on stderr; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def step(done: int, total: int, _weight: str) -> None:
            bar.update(task, completed=done, total=total)

        yield step


def names(values: Sequence[int]) -> str:
    """Axes for a table."""
    return ",".join(str(value) for value in values) or "-"
