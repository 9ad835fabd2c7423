"""Two graphs on the same feeds: what their outputs have in common, and what not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError, UnsupportedError
from graphwq.verify import tally
from graphwq.verify.feeds import Feeds, Sample
from graphwq.verify.problem import Problem
from graphwq.verify.runner import Runner
from graphwq.verify.tally import Difference

#: Called with (done, total, what) after each sample.
Progress = Callable[[int, int, str], None]
#: Called with the outputs of the reference and of the candidate for each sample.
Observer = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], None]
#: The outputs of the reference for a sample, by its number.
Expected = Callable[[int, Sample], Dict[str, np.ndarray]]

LAYER = "outputs"
#: How often a sample is run before a difference counts as one where no bit may differ: TensorFlow's
#: AddN adds into whichever input's buffer is free first, so even on one thread the order of a sum
#: depends on scheduling.
TRIES = 5


@dataclass(frozen=True)
class Limits:
    """What an output must reach; None asks for nothing.

    Attributes:
        min_sqnr: dB, for every float output.
        max_abs: the largest |x - y|, for every output of numbers.
    """

    min_sqnr: Optional[float] = None
    max_abs: Optional[float] = None

    def __post_init__(self) -> None:
        for name, value in (("min_sqnr", self.min_sqnr), ("max_abs", self.max_abs)):
            if value is not None and not math.isfinite(value):
                raise InputError(f"{name} must be a number, not {value!r}")
        if self.max_abs is not None and self.max_abs < 0:
            raise InputError(f"max_abs must not be negative: {self.max_abs!r}")

    def to_json(self) -> Dict[str, Optional[float]]:
        """The limits as JSON data."""
        return {"min_sqnr": self.min_sqnr, "max_abs": self.max_abs}


@dataclass(frozen=True)
class OutputsResult:
    """What the comparison of outputs gave.

    Attributes:
        outputs: one entry for each output that both graphs have.
        samples: how many the feeds hold.
        feeds: what they are, see ``Feeds.to_json``.
        limits: what was asked for.
        must_be_exact: no bit may differ.
        repeatable: whether the reference gave the same bits twice; None where it was not tried.
        notes: what is worth saying and no fault.
        problems: why the candidate does not pass.
    """

    outputs: Tuple[Difference, ...]
    samples: int
    feeds: Mapping[str, Any]
    limits: Limits
    must_be_exact: bool
    repeatable: Optional[bool]
    notes: Tuple[str, ...]
    problems: Tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong; never where nothing was compared."""
        return not self.problems and any(output.elements for output in self.outputs)

    @property
    def exact(self) -> bool:
        """Whether something was compared and no bit of any output differs."""
        found = [output.exact for output in self.outputs if output.elements]
        return bool(found) and all(found)

    @property
    def worst_sqnr_db(self) -> Optional[float]:
        """The smallest SQNR of the float outputs; None where there is none."""
        known = [output.sqnr_db for output in self.outputs]
        return min((value for value in known if value is not None), default=None)

    def to_json(self) -> Dict[str, Any]:
        """The result as JSON data."""
        return {
            "passed": self.passed,
            "exact": self.exact,
            "outputs": [output.to_json() for output in self.outputs],
            "samples": self.samples,
            "feeds": dict(self.feeds),
            "limits": self.limits.to_json(),
            "must_be_exact": self.must_be_exact,
            "repeatable": self.repeatable,
            "notes": list(self.notes),
            "problems": [problem.to_json() for problem in self.problems],
        }

    @classmethod
    def from_json(cls, data: Any) -> OutputsResult:
        """The inverse of ``to_json``.

        Raises:
            InputError: not such data.
        """
        try:
            return cls(
                tuple(Difference.from_json(item) for item in data["outputs"]),
                data["samples"],
                dict(data["feeds"]),
                Limits(data["limits"]["min_sqnr"], data["limits"]["max_abs"]),
                data["must_be_exact"],
                data["repeatable"],
                tuple(data["notes"]),
                tuple(Problem.from_json(item) for item in data["problems"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a result about outputs: {data!r:.200}") from error


def compare_outputs(
    reference: Runner,
    candidate: Runner,
    tensors: Sequence[str],
    feeds: Feeds,
    limits: Limits = Limits(),
    exact: bool = False,
    progress: Optional[Progress] = None,
    observe: Optional[Observer] = None,
) -> OutputsResult:
    """Run two graphs on the same samples, one at a time, and compare what they give.

    Without limits the numbers are reported; what fails all the same: an output that the candidate
    does not have, a candidate that cannot be run, another dtype or shape, a NaN or Inf that is not
    one in the reference, nothing (finite) to compare.

    Args:
        reference, candidate: the graphs. With ``exact`` they are to be run with TensorFlow's graph
            optimizers off and on one thread.
        tensors: the outputs (``node:port``) of the reference.
        feeds: the samples.
        limits: what the outputs must reach.
        exact: no bit may differ. A sample that differs is run again, up to five times.
        progress: called after each sample.
        observe: called with the outputs of each sample that were compared.

    Raises:
        InputError: the reference cannot be run on the feeds.
    """
    again: List[bool] = []

    def expected(number: int, sample: Sample) -> Dict[str, np.ndarray]:
        first = reference.run(tensors, sample)
        if number == 0:
            second = reference.run(tensors, sample)
            again.append(all(same_bits(first[name], second[name]) for name in tensors))
        return first

    comparison = Comparison(candidate, tensors, limits, exact, observe)
    comparison.run(expected, feeds, progress, TRIES if exact else 1)
    return comparison.result(feeds, again[0] if again else None)


def same_bits(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two arrays are equal in dtype, shape and every bit (a NaN equals a NaN)."""
    return one.dtype == two.dtype and one.shape == two.shape and not tally.differing(one, two)


class Comparison:
    """One candidate held against expected outputs."""

    def __init__(
        self,
        candidate: Runner,
        tensors: Sequence[str],
        limits: Limits,
        exact: bool,
        observe: Optional[Observer] = None,
    ) -> None:
        self._observe = observe
        self._candidate = candidate
        self._limits = limits
        self._exact = exact
        self._problems: Dict[Tuple[str, str], Problem] = {}
        self._notes: Dict[str, None] = {}
        self._totals: Dict[str, Difference] = {}
        self._tensors = [name for name in dict.fromkeys(tensors) if self._has(name)]

    def run(
        self, expected: Expected, feeds: Feeds, progress: Optional[Progress], tries: int
    ) -> None:
        """Compare all samples; stops where the candidate cannot be run."""
        total = len(feeds.samples)
        for number, sample in enumerate(feeds.samples):
            if not self._tensors:
                return
            wanted = expected(number, sample)
            found = self._fetch(sample)
            if found is None:
                return
            for _ in range(1, tries):
                if all(same_bits(wanted[name], found[name]) for name in self._tensors):
                    break
                wanted, found = expected(number, sample), self._fetch(sample) or found
            for name in self._tensors:
                self._add(name, wanted[name], found[name], number)
            if self._observe is not None:
                self._observe(wanted, found)
            if progress is not None:
                progress(number + 1, total, "outputs")

    def result(self, feeds: Feeds, repeatable: Optional[bool]) -> OutputsResult:
        """The verdict."""
        if repeatable is False:
            self._notes[
                "the reference does not agree with itself when it is run twice (random ops, or "
                "sums whose order is not fixed): differences may come from there"
            ] = None
        for difference in self._totals.values():
            self._judge(difference)
        if not any(difference.finite for difference in self._totals.values()):
            self._fail("nothing_compared", "", "nothing was compared")
        return OutputsResult(
            tuple(self._totals.values()),
            len(feeds.samples),
            feeds.to_json(),
            self._limits,
            self._exact,
            repeatable,
            tuple(self._notes),
            tuple(self._problems.values()),
        )

    def _has(self, name: str) -> bool:
        try:
            self._candidate.declared(name)
        except InputError:
            self._fail("missing_output", name, "the candidate has no such tensor")
            return False
        return True

    def _fetch(self, sample: Sample) -> Optional[Dict[str, np.ndarray]]:
        try:
            return self._candidate.run(self._tensors, sample)
        except (InputError, UnsupportedError) as error:
            self._fail("cannot_run", "", f"the candidate cannot be run on the feeds: {error}")
            return None

    def _fail(self, kind: str, where: str, message: str) -> None:
        self._problems.setdefault((kind, where), Problem(LAYER, kind, where, message))

    def _add(self, name: str, wanted: np.ndarray, found: np.ndarray, number: int) -> None:
        wanted, found = np.asarray(wanted), np.asarray(found)
        if wanted.dtype != found.dtype:
            texts = tally.dtype_text(wanted), tally.dtype_text(found)
            self._fail("dtype", name, f"it is {texts[0]} in the reference and {texts[1]} here")
            return
        if wanted.shape != found.shape:
            shapes = f"{list(wanted.shape)} in the reference and {list(found.shape)}"
            self._fail("shape", name, f"sample {number} gives the shape {shapes} here")
            return
        total = self._totals.get(name) or tally.start(name, wanted)
        self._totals[name] = tally.add(total, wanted, found)

    def _judge(self, found: Difference) -> None:
        name = found.tensor
        if found.nonfinite_new:
            text = f"{found.nonfinite_new} of {found.elements} values are NaN or Inf"
            self._fail("non_finite", name, f"{text}, which they are not in the reference")
        elif found.nonfinite_same < max(found.nonfinite_reference, found.nonfinite_candidate):
            text = f"{found.nonfinite_reference} values are NaN or Inf in the reference"
            self._fail("non_finite", name, f"{text}, and not the same ones here")
        elif found.nonfinite_same:
            text = f"{name}: {found.nonfinite_same} of {found.elements} values are NaN or Inf"
            self._notes[f"{text} in both graphs and not compared"] = None
        if not found.elements:
            self._notes[f"{name}: it is empty in both graphs"] = None
        elif not found.finite:
            self._fail("nothing_compared", name, "it holds not one finite value to be compared")
        self._hold(found)

    def _hold(self, found: Difference) -> None:
        """The limits."""
        if self._exact and found.differing:
            text = f"{found.differing} of {found.elements} values differ in their bits"
            self._fail("not_exact", found.tensor, text)
        sqnr, wanted = found.sqnr_db, self._limits.min_sqnr
        if wanted is not None and sqnr is not None and sqnr < wanted:
            self._fail(
                "sqnr", found.tensor, f"its SQNR is {sqnr:.2f} dB, {wanted:g} dB is asked for"
            )
        top = self._limits.max_abs
        if top is not None and found.max_abs_error > top:
            text = f"its largest error is {found.max_abs_error:.6g}, {top:g} is allowed"
            self._fail("max_abs", found.tensor, text)
