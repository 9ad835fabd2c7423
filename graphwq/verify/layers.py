"""Where the error comes from: each op that uses a changed weight, and each weight by itself.

Two questions are answered for every op: how far its output is off with everything changed
(*accumulated*, the candidate against the reference), and how far with this weight changed alone and
all others float (*isolated*). And for every weight: what it alone does to the graph's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import CONTROL
from graphwq.survey.sites import Consumer, WeightSite, qualified
from graphwq.survey.view import View
from graphwq.verify import sinks, tally
from graphwq.verify.feeds import Feeds, Sample
from graphwq.verify.interface import needed_nodes
from graphwq.verify.keep import KeepResult
from graphwq.verify.lab import Lab, chunked
from graphwq.verify.outputs import Progress
from graphwq.verify.problem import NODES, Problem
from graphwq.verify.runner import Runner
from graphwq.verify.tally import Difference

#: Bytes of fetched tensors that are held at once, of one graph and one sample.
BUDGET = 64 << 20
#: What a tensor of unknown shape is taken to need until it has been seen.
_UNKNOWN_BYTES = 8 << 20

FUNCTION = "it is inside a function"
UNUSED = "the outputs do not depend on it"
NOT_FLOAT = "its result is no number"


@dataclass(frozen=True)
class NodeError:
    """An op that uses a changed weight.

    Attributes:
        weight: the changed weight.
        node, op: the op; ``function:node`` in a function.
        reason: why its output cannot be looked at; "" where it can.
        accumulated: reference against candidate; None where the candidate has no such tensor.
        isolated: reference against the reference with this weight changed alone.
    """

    weight: str
    node: str
    op: str
    reason: str
    accumulated: Tuple[Difference, ...] = ()
    isolated: Tuple[Difference, ...] = ()

    def to_json(self) -> Dict[str, Any]:
        """The error as JSON data."""
        return {
            "weight": self.weight,
            "node": self.node,
            "op": self.op,
            "reason": self.reason,
            "accumulated": [item.to_json() for item in self.accumulated],
            "isolated": [item.to_json() for item in self.isolated],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NodeError:
        """The inverse of ``to_json``."""
        return cls(
            data["weight"],
            data["node"],
            data["op"],
            data["reason"],
            tuple(Difference.from_json(item) for item in data["accumulated"]),
            tuple(Difference.from_json(item) for item in data["isolated"]),
        )


@dataclass(frozen=True)
class WeightEffect:
    """What a weight, changed alone, does to the outputs of the graph."""

    weight: str
    outputs: Tuple[Difference, ...]

    @property
    def noise(self) -> float:
        """The largest sum (x-y)^2 / sum x^2 of the float outputs; infinite for noise on nothing."""
        return max((noise_ratio(item) for item in self.outputs if item.is_float), default=0.0)

    @property
    def sqnr_db(self) -> Optional[float]:
        """The smallest SQNR of the float outputs; None where there is none."""
        known = [item.sqnr_db for item in self.outputs]
        return min((value for value in known if value is not None), default=None)

    def to_json(self) -> Dict[str, Any]:
        """The effect as JSON data."""
        return {"weight": self.weight, "outputs": [item.to_json() for item in self.outputs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WeightEffect:
        """The inverse of ``to_json``."""
        return cls(data["weight"], tuple(Difference.from_json(item) for item in data["outputs"]))


@dataclass(frozen=True)
class LayersResult:
    """The layers layer.

    Attributes:
        nodes: one for each changed weight and op that uses it, in the order of the graph.
        effects: one for each changed weight, in that order.
        keep: the weights to keep, where that was asked for.
        samples: how many the feeds hold.
        notes: what is worth saying and no fault.
        problems: ops whose output becomes NaN or Inf.
    """

    nodes: Tuple[NodeError, ...]
    effects: Tuple[WeightEffect, ...]
    keep: Optional[KeepResult]
    samples: int
    notes: Tuple[str, ...]
    problems: Tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong. (Where no weight is changed there is nothing to look at.)"""
        return not self.problems

    def worst(self, count: int) -> Tuple[WeightEffect, ...]:
        """The weights that alone do the most to the outputs."""
        return tuple(sorted(self.effects, key=lambda item: -item.noise)[:count])

    def to_json(self) -> Dict[str, Any]:
        """The layer as JSON data."""
        return {
            "passed": self.passed,
            "nodes": [item.to_json() for item in self.nodes],
            "effects": [item.to_json() for item in self.effects],
            "keep": None if self.keep is None else self.keep.to_json(),
            "samples": self.samples,
            "notes": list(self.notes),
            "problems": [item.to_json() for item in self.problems],
        }

    @classmethod
    def from_json(cls, data: Any) -> LayersResult:
        """The inverse of ``to_json``.

        Raises:
            InputError: not such data.
        """
        try:
            return cls(
                tuple(NodeError.from_json(item) for item in data["nodes"]),
                tuple(WeightEffect.from_json(item) for item in data["effects"]),
                None if data["keep"] is None else KeepResult.from_json(data["keep"]),
                data["samples"],
                tuple(data["notes"]),
                tuple(Problem.from_json(item) for item in data["problems"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a result about layers: {data!r:.200}") from error


def noise_ratio(found: Difference) -> float:
    """Sum (x-y)^2 / sum x^2; infinite where NaN or Inf came in, or there is noise on nothing."""
    if found.nonfinite_new:
        return float("inf")
    if not found.sum_squared_errors:
        return 0.0
    return found.sum_squared_errors / found.sum_squares if found.sum_squares else float("inf")


@dataclass(frozen=True)
class _Job:
    """A changed weight with the tensors of its ops that can be fetched."""

    site: WeightSite
    tensors: Tuple[Tuple[str, ...], ...]
    reasons: Tuple[str, ...]

    @property
    def fetched(self) -> Tuple[str, ...]:
        return tuple(name for names in self.tensors for name in names)


def find_errors(
    lab: Lab,
    view: View,
    sites: Sequence[WeightSite],
    changed: Mapping[str, np.ndarray],
    candidate: Runner,
    tensors: Sequence[str],
    feeds: Feeds,
    budget: int = BUDGET,
    progress: Optional[Progress] = None,
) -> LayersResult:
    """Measure every op that uses a changed weight, and every changed weight by itself.

    Args:
        lab: the reference.
        view: of the reference.
        sites: its weights.
        changed: the candidate's values of the weights that it changed.
        candidate: the candidate, run without graph optimizers.
        tensors: the outputs of the graph.
        feeds: the samples; one is run at a time.
        budget: bytes of tensors that are held at once, of one graph and one sample.
        progress: called with (done, total, weight).

    Raises:
        InputError: the reference cannot be run on the feeds.
    """
    jobs = _jobs(lab.runner, view, [s for s in sites if s.weight in changed], tensors, feeds)
    sums = _Sums()
    sizes = [sum(_nbytes(lab.runner, name) for name in job.fetched) for job in jobs]
    total, done = len(jobs) * len(feeds.samples), 0
    for begin, end in chunked(sizes, budget):
        chunk = jobs[begin:end]
        names = list(dict.fromkeys(name for job in chunk for name in job.fetched))
        there = [name for name in names if _has(candidate, name)]
        for sample in feeds.samples:
            floats = lab.run([*names, *tensors], sample, {})
            _accumulate(sums, candidate, there, floats, sample)
            for job in chunk:
                weight = job.site.weight
                alone = lab.run([*job.fetched, *tensors], sample, {weight: changed[weight]})
                for name in job.fetched:
                    sums.add("isolated", weight, name, floats[name], alone[name])
                for name in tensors:
                    sums.add("output", weight, name, floats[name], alone[name])
                done += 1
                if progress is not None:
                    progress(done, total, weight)
    return _result(sums, jobs, tensors, feeds)


def _accumulate(
    sums: _Sums,
    candidate: Runner,
    names: Sequence[str],
    floats: Mapping[str, np.ndarray],
    sample: Sample,
) -> None:
    if not names:
        return
    try:
        found = candidate.run(names, sample)
    except (InputError, UnsupportedError) as error:
        sums.notes[f"the candidate cannot be run for the errors of its ops: {error}"] = None
        return
    for name in names:
        sums.add("accumulated", "", name, floats[name], found[name])


class _Sums:
    """Differences by kind, weight and tensor."""

    def __init__(self) -> None:
        self.found: Dict[Tuple[str, str, str], Difference] = {}
        self.notes: Dict[str, None] = {}

    def add(self, kind: str, weight: str, name: str, x: np.ndarray, y: np.ndarray) -> None:
        x, y = np.asarray(x), np.asarray(y)
        if x.dtype != y.dtype or x.shape != y.shape:
            self.notes[f"{name}: another dtype or shape than in the reference"] = None
            return
        key = (kind, weight, name)
        self.found[key] = tally.add(self.found.get(key) or tally.start(name, x), x, y)

    def take(self, kind: str, weight: str, names: Sequence[str]) -> Tuple[Difference, ...]:
        keys = [(kind, weight, name) for name in names]
        return tuple(self.found[key] for key in keys if key in self.found)


def _result(
    sums: _Sums, jobs: Sequence[_Job], tensors: Sequence[str], feeds: Feeds
) -> LayersResult:
    nodes: List[NodeError] = []
    problems: Dict[str, Problem] = {}
    for job in jobs:
        weight = job.site.weight
        for consumer, names, reason in zip(job.site.consumers, job.tensors, job.reasons):
            found = NodeError(
                weight,
                qualified(consumer.scope, consumer.node),
                consumer.op,
                reason,
                sums.take("accumulated", "", names),
                sums.take("isolated", weight, names),
            )
            nodes.append(found)
            for item in (*found.accumulated, *found.isolated):
                if item.nonfinite_new:
                    text = f"{item.nonfinite_new} values become NaN or Inf"
                    problem = Problem(NODES, "non_finite", item.tensor, text)
                    problems.setdefault(item.tensor, problem)
    effects = tuple(
        WeightEffect(job.site.weight, sums.take("output", job.site.weight, tensors)) for job in jobs
    )
    notes = tuple(sums.notes)
    if not jobs:
        notes += ("no weight is changed: there is no error to look for",)
    samples = len(feeds.samples)
    return LayersResult(tuple(nodes), effects, None, samples, notes, tuple(problems.values()))


def _jobs(
    runner: Runner,
    view: View,
    sites: Sequence[WeightSite],
    tensors: Sequence[str],
    feeds: Feeds,
) -> List[_Job]:
    loops, branches = sinks.inside_loops(view.main), sinks.inside_branches(view.main)
    needed = needed_nodes(view.main, tensors, frozenset(feeds.tensors))

    def reason(consumer: Consumer, names: Sequence[str]) -> str:
        if consumer.scope:
            return FUNCTION
        if consumer.node in loops:
            return sinks.LOOP
        if consumer.node in branches:
            return sinks.CONDITIONAL
        if consumer.node not in needed:
            return UNUSED
        return "" if names else NOT_FLOAT

    jobs = []
    for site in sites:
        every = [tuple(_results(runner, view, item)) for item in site.consumers]
        reasons = tuple(reason(item, names) for item, names in zip(site.consumers, every))
        kept = tuple(() if why else names for names, why in zip(every, reasons))
        jobs.append(_Job(site, kept, reasons))
    return jobs


def _results(runner: Runner, view: View, consumer: Consumer) -> Iterator[str]:
    """The tensors of an op that other ops read (of the last op the first), of numbers only."""
    if consumer.scope:
        return
    ports = {use.port for use in view.main.uses(consumer.node) if use.slot != CONTROL}
    for port in sorted(ports) or (0,):
        name = f"{consumer.node}:{port}"
        try:
            dtype = runner.declared(name)[0]
        except InputError:
            continue
        if dtype in dtypes.NUMPY:
            yield name


def _nbytes(runner: Runner, name: str) -> int:
    dtype, shape = runner.declared(name)
    if shape is None:
        return _UNKNOWN_BYTES
    count = 1
    for size in shape:
        count *= size if size >= 0 else 1
    known = count * dtypes.NUMPY[dtype].itemsize
    return known if all(size >= 0 for size in shape[1:]) else max(known, _UNKNOWN_BYTES)


def _has(runner: Runner, name: str) -> bool:
    try:
        runner.declared(name)
    except InputError:
        return False
    return True
