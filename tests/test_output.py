"""cli/output.py: tables for files and for terminals."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from graphwq.cli.output import MAX_CELL, plain_table, print_table

COLUMNS = ("name", "bytes>")
ROWS = [("a", "1.0 kB"), ("a/longer/name", "512 B")]


def test_a_plain_table() -> None:
    """Columns as wide as their widest cell, numbers to the right, no blanks at the end."""
    assert plain_table("2 things", COLUMNS, ROWS).split("\n") == [
        "2 things",
        "",
        " name             bytes",
        " ----------------------",
        " a               1.0 kB",
        " a/longer/name    512 B",
        "",
    ]


def test_a_plain_table_without_rows() -> None:
    """The headings alone."""
    lines = plain_table("none", COLUMNS, []).split("\n")
    assert lines[2:] == [" name   bytes", " ------------", ""]


def test_a_row_in_a_file_is_one_line(capsys: Any) -> None:
    """A long cell is shortened; what would control a terminal is escaped."""
    print_table("one", COLUMNS, [("x" * 5000 + "\x1b[2J\n", "1 B")])
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 7
    assert lines[5:] == ["", ""]
    assert len(lines[4]) == len(lines[3]) <= MAX_CELL + 10
    assert lines[4].endswith("x\\x1b[2J\\n     1 B")


def test_a_table_on_a_terminal_fits_it(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that is too long goes on in the next line, whole; names are no markup."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table("[b]one[/b]", COLUMNS, [("[red]" + "x" * 90, "1 B")])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, out.split("\n"))) <= 40
    assert out.count("x") == 90
    assert "[red]" in out
    assert "[b]one[/b]" in out


def test_a_file_needs_no_rich(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that goes to a file must not pay for the import of rich."""
    monkeypatch.setitem(sys.modules, "rich", None)
    print_table("2 things", COLUMNS, ROWS)
    assert "a/longer/name" in capsys.readouterr().out
