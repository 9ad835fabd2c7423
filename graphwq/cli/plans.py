"""Reading the plan that a command was given."""

from __future__ import annotations

from pathlib import Path

from graphwq.cli.about import about
from graphwq.errors import InputError
from graphwq.graphdef.mapping import read_file
from graphwq.rewrite.plan import Plan


def read_plan(path: Path) -> Plan:
    """The plan in a file.

    Raises:
        InputError: no such file, or no plan.
    """
    with about(path):
        try:
            return Plan.loads(str(read_file(path), "utf-8"))
        except UnicodeDecodeError as error:
            raise InputError("not a plan: it is no UTF-8 text") from error
