"""Sizes and predicted errors for a series of targets, without writing a file.

For every average of bits the plan is made that ``--target-bits`` makes, for every whole width the
one that ``--bits`` makes. Sizes are those of the files that they give, to the byte.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.quant.scheme import MAX_BITS, MIN_BITS
from graphwq.rewrite.mixed import Mixer
from graphwq.rewrite.mixture import COSTS
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import DEQUANT, Plan
from graphwq.rewrite.target import FLOAT_BITS, target_bits
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build

FORMAT = "graphwq-tradeoff"
VERSION = 1
#: Averages that are looked at.
TARGETS = tuple(half / 2 for half in range(2 * MIN_BITS, 2 * MAX_BITS + 1))
#: dB of a plan without any error.
EXACT_DB = 100.0
#: Called with (done, total, what) after each plan.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Point:
    """One plan.

    Attributes:
        target: bits that were asked for, on average or for all.
        nbytes: of the file in the ``dequant`` form.
        average_bits: of the weights whose width is free; one that stays float counts as 32.
        error: the costs of these weights together, see ``TradeOff.cost``.
    """

    target: float
    nbytes: int
    average_bits: float
    error: float

    @property
    def decibel(self) -> float:
        """The error as an SQNR in dB, at most EXACT_DB."""
        return min(-10 * math.log10(self.error), EXACT_DB) if self.error > 0 else EXACT_DB

    def to_json(self) -> Dict[str, Any]:
        """The point as JSON data."""
        return {
            "target_bits": self.target,
            "bytes": self.nbytes,
            "average_bits": round(self.average_bits, 6),
            "error": self.error,
        }


@dataclass(frozen=True)
class TradeOff:
    """Size against error for one graph.

    Attributes:
        graph_digest: sha256 of the graph.
        nbytes: of the graph as it is.
        cost: what the errors are, one of ``mixture.COSTS``.
        method: by which the codes are chosen.
        mixed: widths chosen for each weight, by rising target.
        uniform: one width for all, by rising width.
    """

    graph_digest: str
    nbytes: int
    cost: str
    method: str
    mixed: Tuple[Point, ...]
    uniform: Tuple[Point, ...]

    def to_json(self) -> Dict[str, Any]:
        """The trade-off as JSON data."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "graph_digest": self.graph_digest,
            "bytes": self.nbytes,
            "method": self.method,
            "cost": COSTS[self.cost],
            "mixed": [point.to_json() for point in self.mixed],
            "uniform": [point.to_json() for point in self.uniform],
        }


def measure(
    graph: Graph,
    options: Options,
    targets: Sequence[float] = TARGETS,
    progress: Optional[Progress] = None,
) -> TradeOff:
    """Plan for each target.

    Args:
        graph: to be quantized.
        options: what the user wants, without a target; ``bits`` is not used.
        targets: averages of bits, rising.
        progress: called after each plan.

    Raises:
        InputError: a broken graph, a pattern or option that is wrong, nothing to choose.
        QuantizationError: a weight holds NaN or Inf.
    """
    if options.storage != DEQUANT:
        raise InputError(
            f"the storage {options.storage} does not make the file smaller, so there are no sizes "
            "to compare: use dequant"
        )
    view = build(graph)
    view.check()
    mixer = Mixer(graph, view, locate_in(view), options)
    widths = range(MIN_BITS, MAX_BITS + 1)
    total = len(targets) + len(widths)
    mixed: List[Point] = []
    uniform: List[Point] = []
    for value in targets:
        made = mixer.plan(target_bits(value), None).mixture
        assert made is not None
        mixed.append(Point(float(value), made.nbytes, made.average_bits, made.error))
        if progress is not None:
            progress(len(mixed), total, f"{value:g} bits on average")
    for bits in widths:
        plan, nbytes, error = mixer.uniform(bits)
        average = _average(plan, mixer)
        uniform.append(Point(float(bits), nbytes, average, error))
        if progress is not None:
            progress(len(mixed) + len(uniform), total, f"{bits} bits for all")
    return TradeOff(
        graph.digest, graph.nbytes, mixer.cost, options.method, tuple(mixed), tuple(uniform)
    )


def _average(plan: Plan, mixer: Mixer) -> float:
    """Bits per value of the weights whose width is free."""
    bits = {item.weight: item.scheme.num_bits for item in plan.items}
    total = sum(mixer.free.values())
    return sum(n * bits.get(weight, FLOAT_BITS) for weight, n in mixer.free.items()) / total
