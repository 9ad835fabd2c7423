"""A trade-off as CSV and as an SVG picture; the same data give the same bytes."""

from __future__ import annotations

import csv
import io
import math
import pkgutil
from dataclasses import dataclass
from typing import List, Sequence, Tuple

from graphwq import text
from graphwq.rewrite.mixture import COSTS
from graphwq.tradeoff.measure import EXACT_DB, Point, TradeOff

_WIDTH, _HEIGHT = 720.0, 440.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 696.0, 64.0, 384.0
_TICKS = 6
#: A label nearer than this to the one before is left out.
_LABEL_ROOM = 15.0
_COLUMNS = ("plan", "target_bits", "bytes", "share", "average_bits", "error", "sqnr_db")


def to_csv(trade: TradeOff) -> str:
    """One line per plan, mixed ones first; the share is that of the bytes of the graph."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, points in (("mixed", trade.mixed), ("uniform", trade.uniform)):
        for one in points:
            share = f"{one.nbytes / trade.nbytes:.6f}"
            average, error = f"{one.average_bits:.6f}", f"{one.error:.9g}"
            row = (name, f"{one.target:g}", one.nbytes, share, average, error)
            writer.writerow([*row, f"{one.decibel:.3f}"])
    return out.getvalue()


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: str
    label: str


@dataclass(frozen=True)
class Mark:
    """A plan in the picture.

    Attributes:
        x, y: where.
        label: bits, or "" where there is no room.
        title: what a pointer on it is told.
    """

    x: str
    y: str
    label: str
    title: str


class _Axis:
    """Numbers to places, with round ticks."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        low, high = min(values), max(values)
        room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        self._low, self._high = low - room, high + room
        self._begin, self._end = begin, end

    def place(self, value: float) -> float:
        """Where a number stands."""
        part = (value - self._low) / (self._high - self._low)
        return self._begin + part * (self._end - self._begin)

    def ticks(self) -> List[float]:
        """At most so many round numbers within the axis."""
        rough = (self._high - self._low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(step for step in (1, 2, 5, 10) if step * power >= rough) * power
        first = math.ceil(self._low / step)
        return [step * number for number in range(first, math.floor(self._high / step) + 1)]


def to_svg(trade: TradeOff, name: str) -> str:
    """A picture: the size of the file to the right, the predicted SQNR upwards.

    Args:
        trade: see ``measure``.
        name: of the graph, for the title.
    """
    import jinja2

    points = (*trade.mixed, *trade.uniform)
    sizes = _Axis([float(one.nbytes) for one in points], _LEFT, _RIGHT)
    levels = _Axis([one.decibel for one in points], _BOTTOM, _TOP)
    source = pkgutil.get_data("graphwq.tradeoff", "picture.svg.j2")
    assert source is not None
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source.decode("utf-8")).render(
        width=_WIDTH,
        height=_HEIGHT,
        box=(_LEFT, _RIGHT, _TOP, _BOTTOM),
        title=text.one_line(name, 60),
        subtitle=f"{trade.method}; float file {text.size(trade.nbytes)}",
        cost=COSTS[trade.cost],
        bottom=[
            Tick(f"{sizes.place(at):.2f}", text.size(round(at))) for at in sizes.ticks() if at >= 0
        ],
        left=[Tick(f"{levels.place(at):.2f}", f"{at:g}") for at in levels.ticks()],
        mixed=_marks(trade, trade.mixed, sizes, levels, ("mixed for", "on average")),
        uniform=_marks(trade, trade.uniform, sizes, levels, ("", "for all")),
    )


def _marks(
    trade: TradeOff,
    points: Sequence[Point],
    sizes: _Axis,
    levels: _Axis,
    words: Tuple[str, str],
) -> List[Mark]:
    marks: List[Mark] = []
    last = -math.inf, -math.inf
    for one in points:
        x, y = sizes.place(one.nbytes), levels.place(one.decibel)
        there = abs(x - last[0]) < _LABEL_ROOM and abs(y - last[1]) < _LABEL_ROOM
        label = "" if there else f"{one.target:g}"
        if not there:
            last = x, y
        said = f"{words[0]} {one.target:g} bits {words[1]}".strip()
        title = (
            f"{said}: {text.size(one.nbytes)} ({text.ratio(one.nbytes, trade.nbytes)}), "
            f"predicted SQNR {decibel(one)} dB"
        )
        marks.append(Mark(f"{x:.2f}", f"{y:.2f}", label, title))
    return marks


def decibel(point: Point) -> str:
    """The predicted SQNR for a reader."""
    return "exact" if point.decibel >= EXACT_DB else f"{point.decibel:.1f}"
