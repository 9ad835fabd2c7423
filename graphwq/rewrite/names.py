"""Names for new nodes: short (they stand in the file for the node and for each use) and free.

The first part of a name says whose node it is, the rest what it is:

    q0/, q1/, ... qz/, q10/, ...   of one weight (or of one consumer of a cut weight)
        c   the codes (c1, c2: of the lower bit planes)     i   the codes as indices, int32
        d   what the table says of them                     f   the codes as floats, weight's shape
        a   the sum of the bit planes so far                s   the scale
    q/                             shared: ``q/4`` is a table, ``q/a`` a shape, see tables.py
"""

from __future__ import annotations

import re
from typing import Optional

from graphwq.graphdef.graph import Graph

_ROOT = "q"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PREFIX = re.compile(r"q_*([0-9a-z]{1,4})/")


class Names:
    """Hands out prefixes ``q0``, ``q1``, ... with which no name of the graph begins.

    Attributes:
        root: begins the names of what weights share; no name of the graph begins with ``root/``
            or ``root-``.
    """

    def __init__(self, graph: Graph) -> None:
        names = {node.name for scope in graph.scopes for node in scope.nodes}
        names.update(argument for scope in graph.scopes for argument in scope.arguments)
        self._taken = {re.split("[/-]", name, maxsplit=1)[0] for name in names}
        self.root = _ROOT
        while self.root in self._taken:
            self.root += "_"
        self._next = 0

    def prefix(self) -> str:
        """A new prefix."""
        while True:
            found = self.root + base36(self._next)
            self._next += 1
            if found not in self._taken:
                return found

    def go_on_from(self, number: int) -> None:
        """Let the next prefix have this number, or the next one that is free."""
        self._next = number


def base36(number: int) -> str:
    """0..9, a..z, 10, ..."""
    text = ""
    while number or not text:
        number, digit = divmod(number, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text


def number_of(name: str) -> Optional[int]:
    """The number of the prefix with which a name begins, None where it has none."""
    found = _PREFIX.match(name)
    return int(found.group(1), len(_DIGITS)) if found else None
