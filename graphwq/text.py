"""Text for people. Names in a graph are hostile input: nothing in them may control a terminal."""

from __future__ import annotations

import math
from typing import Optional

MAX_NAME = 100


def printable(text: str) -> str:
    """The text with everything that is not printable as an escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def one_line(text: str, limit: int = 1000) -> str:
    """The text in one printable line, shortened in the middle."""
    return shortened(printable(" ".join(text.split())), limit)


def name(text: str) -> str:
    """A node's name for a table."""
    return shortened(printable(text), MAX_NAME)


def shortened(text: str, limit: int) -> str:
    """The text, its middle left out where it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def size(count: int) -> str:
    """A number of bytes for people: 512 B, 3.1 kB, 200.0 MB (powers of 1000)."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000 or unit == "MB":
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def decibel(value: float) -> str:
    """An SQNR for people."""
    if math.isinf(value):
        return "exact" if value > 0 else "-inf"
    return f"{value:.1f}"


def ratio(after: int, before: int) -> str:
    """After / before in per cent."""
    return f"{100.0 * after / before:.1f} %" if before else "-"


def shape(dims: tuple[int, ...] | list[int]) -> str:
    """3x3x64x128."""
    return "x".join(str(dim) for dim in dims) or "scalar"


def plural(count: int, noun: str, many: Optional[str] = None) -> str:
    """1 weight, 2 weights."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"
