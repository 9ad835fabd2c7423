"""The fewest weights to keep at a higher width so that the outputs reach an SQNR.

The weights are ranked by what each alone does to the outputs. The shortest prefix of that order
that reaches the limit is found by bisection; then members are dropped from its end as long as the
limit holds. Every trial is a real run of all samples, the answer is the last one that held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.quant.metrics import sqnr_db
from graphwq.quant.quantize import quantize
from graphwq.quant.scheme import PerChannel, PerTensor, QuantScheme
from graphwq.survey.sites import WeightSite
from graphwq.verify import tally
from graphwq.verify.feeds import Feeds, Sample
from graphwq.verify.lab import Lab, Values
from graphwq.verify.outputs import Progress
from graphwq.verify.tally import Difference

FLOAT, EIGHT_BIT = "float", "8"
#: Trials, each a run of all samples.
MAX_EVALUATIONS = 200
#: Bytes of outputs of the reference that are kept from trial to trial.
_HELD_BYTES = 64 << 20


@dataclass(frozen=True)
class KeepResult:
    """What to keep.

    Attributes:
        weights: their names, the one that does most first.
        at: ``float``, or ``8`` bits.
        min_sqnr: dB that were asked for.
        sums: (sum x^2, sum (x-y)^2) of the worst output with these weights kept.
        reached: whether that is enough; where not, ``weights`` are all there are.
        evaluations: how many sets were tried.
    """

    weights: Tuple[str, ...]
    at: str
    min_sqnr: float
    sums: Tuple[float, float]
    reached: bool
    evaluations: int

    @property
    def sqnr_db(self) -> float:
        """The SQNR of the worst output with these weights kept; infinite where nothing differs."""
        return sqnr_db(*self.sums)

    def to_json(self) -> Dict[str, Any]:
        """The result as JSON data; ``sqnr_db`` is null where infinite."""
        found = self.sqnr_db
        return {
            "weights": list(self.weights),
            "at": self.at,
            "min_sqnr": self.min_sqnr,
            "sum_squares": self.sums[0],
            "sum_squared_errors": self.sums[1],
            "sqnr_db": found if math.isfinite(found) else None,
            "reached": self.reached,
            "evaluations": self.evaluations,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KeepResult:
        """The inverse of ``to_json``.

        Raises:
            ValueError: a sum of squares is negative.
        """
        sums = (data["sum_squares"], data["sum_squared_errors"])
        if min(sums) < 0:
            raise ValueError(f"sums of squares are {sums}")
        return cls(
            tuple(data["weights"]),
            data["at"],
            data["min_sqnr"],
            sums,
            data["reached"],
            data["evaluations"],
        )


@dataclass(frozen=True)
class _Trial:
    """The worst output of one run; ``ok`` where the limit holds."""

    ok: bool
    sums: Tuple[float, float]


def fewest_to_keep(
    lab: Lab,
    sites: Sequence[WeightSite],
    changed: Values,
    noise: Mapping[str, float],
    tensors: Sequence[str],
    feeds: Feeds,
    min_sqnr: float,
    at: str = FLOAT,
    max_evaluations: int = MAX_EVALUATIONS,
    progress: Optional[Progress] = None,
) -> KeepResult:
    """Find the fewest weights to keep so that every float output reaches ``min_sqnr``.

    Args:
        lab: the reference.
        sites: its weights.
        changed: the candidate's values of the weights that it changed.
        noise: what each of them alone does to the outputs, see ``WeightEffect.noise``.
        tensors: the outputs of the graph.
        feeds: the samples.
        min_sqnr: dB.
        at: ``float``, or ``8``: the weights are kept at 8 bits per channel.
        max_evaluations: a bound on the trials.
        progress: called with (done, at most, what).

    Returns:
        a set that was run and held. That no smaller one does is not shown: there are too many.

    Raises:
        InputError: another ``at``, or a graph without float outputs.
    """
    if at not in (FLOAT, EIGHT_BIT):
        raise InputError(f"weights can be kept at 'float' or '8', not {at!r}")
    ranked = sorted(changed, key=lambda name: (-noise.get(name, 0.0), name))
    kept = _kept_values(lab, sites, changed, at)
    trials = _Trials(lab, changed, kept, tensors, feeds, min_sqnr, max_evaluations, progress)
    everything = trials.of(ranked)
    if not everything.ok:
        return KeepResult(tuple(ranked), at, min_sqnr, everything.sums, False, trials.count)
    chosen = _shortest_prefix(trials, ranked)
    chosen = _without_needless(trials, chosen)
    return KeepResult(tuple(chosen), at, min_sqnr, trials.of(chosen).sums, True, trials.count)


def _shortest_prefix(trials: _Trials, ranked: List[str]) -> List[str]:
    """Bisection; the whole of ``ranked`` is known to hold."""
    low, high = 0, len(ranked)
    while low < high and not trials.exhausted:
        middle = (low + high) // 2
        if trials.of(ranked[:middle]).ok:
            high = middle
        else:
            low = middle + 1
    return ranked[:high]


def _without_needless(trials: _Trials, chosen: List[str]) -> List[str]:
    """Drop what is not needed, the least harmful first: halves, quarters, ... single members."""
    size = max(1, len(chosen) // 2)
    while chosen and not trials.exhausted:
        end = len(chosen)
        while end > 0 and not trials.exhausted:
            begin = max(0, end - size)
            fewer = chosen[:begin] + chosen[end:]
            if trials.of(fewer).ok:
                chosen = fewer
            end = begin
        if size == 1:
            break
        size //= 2
    return chosen


def _kept_values(
    lab: Lab, sites: Sequence[WeightSite], changed: Values, at: str
) -> Dict[str, np.ndarray]:
    """The values of the weights when they are kept."""
    kept: Dict[str, np.ndarray] = {}
    for site in sites:
        if site.weight not in changed:
            continue
        floats = lab.floats(site.weight)
        if at == EIGHT_BIT:
            axes = site.kept_axes
            scheme = QuantScheme(8, PerChannel(axes) if axes else PerTensor())
            floats = quantize(floats, scheme).dequantize().astype(floats.dtype)
        kept[site.weight] = floats
    return kept


class _Trials:
    """Runs with a set of weights kept; each set is run once."""

    def __init__(
        self,
        lab: Lab,
        changed: Values,
        kept: Values,
        tensors: Sequence[str],
        feeds: Feeds,
        min_sqnr: float,
        limit: int,
        progress: Optional[Progress],
    ) -> None:
        self._lab, self._changed, self._kept = lab, changed, kept
        self._tensors, self._feeds, self._limit = tensors, feeds, limit
        self._min_sqnr, self._progress = min_sqnr, progress
        self._known: Dict[FrozenSet[str], _Trial] = {}
        self._floats: Dict[int, Values] = {}
        self._held = 0

    @property
    def count(self) -> int:
        """How many sets have been run."""
        return len(self._known)

    @property
    def exhausted(self) -> bool:
        """Whether no more sets may be run."""
        return self.count >= self._limit

    def of(self, names: Sequence[str]) -> _Trial:
        """The trial of a set."""
        key = frozenset(names)
        if key not in self._known:
            self._known[key] = self._run(key)
            if self._progress is not None:
                self._progress(self.count, self._limit, f"keeping {len(key)} weights")
        return self._known[key]

    def _expected(self, number: int, sample: Sample) -> Values:
        """The outputs of the reference, kept as long as they are small."""
        known = self._floats.get(number)
        if known is not None:
            return known
        found = self._lab.run(self._tensors, sample, {})
        size = sum(np.asarray(item).nbytes for item in found.values())
        if self._held + size <= _HELD_BYTES:
            self._held += size
            self._floats[number] = found
        return found

    def _run(self, names: FrozenSet[str]) -> _Trial:
        values = {
            name: self._kept[name] if name in names else array
            for name, array in self._changed.items()
        }
        sums: Dict[str, Difference] = {}
        for number, sample in enumerate(self._feeds.samples):
            floats = self._expected(number, sample)
            found = self._lab.run(self._tensors, sample, values)
            for name in self._tensors:
                x, y = np.asarray(floats[name]), np.asarray(found[name])
                if x.dtype.kind not in "fc":
                    continue
                if x.shape != y.shape:
                    return _Trial(False, (0.0, 1.0))
                sums[name] = tally.add(sums.get(name) or tally.start(name, x), x, y)
        return _worst(list(sums.values()), self._min_sqnr)


def _worst(found: Sequence[Difference], min_sqnr: float) -> _Trial:
    known = [item for item in found if item.finite]
    if not known:
        raise InputError("the graph has no float output by which weights could be chosen")
    worst = min(known, key=lambda item: sqnr_db(item.sum_squares, item.sum_squared_errors))
    sums = (worst.sum_squares, worst.sum_squared_errors)
    broken = any(item.nonfinite_new for item in found)
    return _Trial(not broken and sqnr_db(*sums) >= min_sqnr, sums)
