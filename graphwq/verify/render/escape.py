"""Names of nodes are hostile input: nothing in them may be Markdown."""

from __future__ import annotations

import re

from graphwq import text

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&@:$])")


def markdown(value: str, limit: int = text.MAX_NAME) -> str:
    """A text in one line that shows as it is, in tables too."""
    return _SPECIAL.sub(r"\\\1", text.one_line(value, limit))


def code(value: str, limit: int = text.MAX_NAME) -> str:
    """A name as inline code; backticks and pipes in it cannot end the code or the table cell."""
    shown = text.one_line(value, limit).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{space}{shown}{space}{fence}"
