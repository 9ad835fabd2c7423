"""The name under which the commands know ``graphwq.text``."""

from __future__ import annotations

from graphwq.text import (
    MAX_NAME,
    decibel,
    name,
    one_line,
    plural,
    printable,
    ratio,
    shape,
    shortened,
    size,
)

__all__ = [
    "MAX_NAME",
    "decibel",
    "name",
    "one_line",
    "plural",
    "printable",
    "ratio",
    "shape",
    "shortened",
    "size",
]
