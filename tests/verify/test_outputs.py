"""The outputs layer on arrays, without TensorFlow: numbers by hand, and what must never pass."""

from __future__ import annotations

import json
import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.verify import tally
from graphwq.verify.feeds import FILE, Feeds
from graphwq.verify.outputs import Limits, OutputsResult, compare_outputs
from graphwq.verify.tally import Difference

Arrays = Dict[str, Any]


class Fake:
    """A runner that gives arrays: one dict a run, the last one for ever."""

    def __init__(self, *runs: Arrays, error: str = "") -> None:
        self._runs, self._error, self.count = list(runs), error, 0

    def run(
        self, outputs: Sequence[str], feeds: Optional[Mapping[str, np.ndarray]] = None
    ) -> Dict[str, np.ndarray]:
        if self._error:
            raise InputError(self._error)
        arrays = self._runs[min(self.count, len(self._runs) - 1)]
        self.count += 1
        return {name: np.asarray(arrays[name]) for name in outputs}

    def declared(self, tensor: str) -> Tuple[int, Optional[Tuple[int, ...]]]:
        if tensor not in self._runs[0]:
            raise InputError(f"no {tensor}")
        return dtypes.DT_FLOAT, None

    def output_count(self, node: str) -> int:
        return 1


def _feeds(count: int = 1) -> Feeds:
    return Feeds(tuple({"x:0": np.asarray(index)} for index in range(count)), FILE)


def _compare(one: Any, two: Any, samples: int = 1, **options: Any) -> OutputsResult:
    one = one if isinstance(one, dict) else {"y:0": one}
    two = two if isinstance(two, dict) else {"y:0": two}
    found = compare_outputs(Fake(one), Fake(two), list(one), _feeds(samples), **options)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert OutputsResult.from_json(json.loads(text)) == found, "the JSON form loses nothing"
    return found


def _kinds(found: OutputsResult) -> List[str]:
    return [problem.kind for problem in found.problems]


def _f(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32)


def test_the_numbers_by_hand() -> None:
    """x = 3, 4; y = 3, 5: SQNR 10 log10(25 / 1), cosine 29 / (5 sqrt 34), error 1."""
    (found,) = _compare(_f(3, 4), _f(3, 5)).outputs
    assert found.sum_squares == 25
    assert found.sum_squared_errors == 1
    assert found.sqnr_db == pytest.approx(13.9794, abs=1e-4)
    assert found.cosine == pytest.approx(29 / (5 * math.sqrt(34)))
    assert found.max_abs_error == 1
    assert found.largest == 4
    assert (found.differing, found.elements, found.exact) == (1, 2, False)
    assert found.argmax_agreement == 1


def test_a_planted_error_of_known_size() -> None:
    """Noise of a hundredth of the signal gives 40 dB, over samples as over one."""
    x = np.random.RandomState(0).randn(100).astype(np.float64)
    found = _compare(x, x * 1.01, samples=5)
    assert found.outputs[0].sqnr_db == pytest.approx(40, abs=1e-9)
    assert found.outputs[0].samples == 5
    assert found.outputs[0].elements == 500
    assert found.worst_sqnr_db == found.outputs[0].sqnr_db


def test_equal_outputs_are_exact() -> None:
    """An infinite SQNR is null in JSON, beside ``exact``."""
    found = _compare(_f(1, 2), _f(1, 2))
    assert found.passed
    assert found.exact
    assert found.outputs[0].sqnr_db == math.inf
    data = found.to_json()["outputs"][0]
    assert data["sqnr_db"] is None
    assert data["exact"] is True


def test_without_limits_an_error_is_reported() -> None:
    """However large; with limits it fails by name."""
    one, two = _f(1, 1), _f(1, -100)
    assert _compare(one, two).passed
    assert _kinds(_compare(one, two, limits=Limits(min_sqnr=0))) == ["sqnr"]
    assert _kinds(_compare(one, two, limits=Limits(max_abs=100))) == ["max_abs"]
    assert _compare(one, two, limits=Limits(max_abs=101)).passed
    assert _compare(_f(3, 4), _f(3, 5), limits=Limits(min_sqnr=13.97)).passed
    assert not _compare(_f(3, 4), _f(3, 5), limits=Limits(min_sqnr=13.98)).passed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_becomes_not_finite_fails(bad: float) -> None:
    """One NaN or Inf in the candidate is enough; the rest is compared."""
    found = _compare(_f(1, 2, 3), _f(1, bad, 3))
    assert _kinds(found) == ["non_finite"]
    assert "1 of 3" in found.problems[0].message
    assert found.problems[0].where == "y:0"
    assert found.outputs[0].finite == 2
    assert found.outputs[0].sum_squares == 10


def test_nan_in_both_is_said_and_not_compared() -> None:
    """At the same place it is no fault, and no part of the sums."""
    found = _compare(_f(1, math.nan, math.inf), _f(2, math.nan, math.inf))
    assert found.passed
    assert "2 of 3" in found.notes[0]
    assert found.outputs[0].sum_squared_errors == 1
    assert found.outputs[0].differing == 1


@pytest.mark.parametrize(
    ("one", "two"),
    [(math.nan, 1), (math.inf, 1), (math.nan, math.inf), (math.inf, -math.inf), (math.inf, 1e38)],
)
def test_not_the_same_nan_or_inf_fails(one: float, two: float) -> None:
    """Also where the candidate is the finite one: the graphs do not do the same."""
    assert _kinds(_compare(_f(1, one), _f(1, two))) == ["non_finite"]


def test_nothing_compared_is_never_a_pass() -> None:
    """No outputs, no samples, empty arrays, NaN everywhere."""
    assert _kinds(_compare({}, {})) == ["nothing_compared"]
    assert _kinds(_compare(_f(1), _f(1), samples=0)) == ["nothing_compared"]
    assert _kinds(_compare(_f(), _f())) == ["nothing_compared"]
    nan = _f(math.nan, math.nan)
    assert _kinds(_compare(nan, nan)) == ["nothing_compared", "nothing_compared"]
    assert not _compare(nan, nan, exact=True).passed
    half = _compare({"a:0": nan, "b:0": _f(1)}, {"a:0": nan, "b:0": _f(1)})
    assert [(p.kind, p.where) for p in half.problems] == [("nothing_compared", "a:0")]


def test_an_empty_output_beside_others_is_said() -> None:
    """A detector may find nothing; what else it gives is compared."""
    found = _compare({"a:0": _f(), "b:0": _f(1)}, {"a:0": _f(), "b:0": _f(1)})
    assert found.passed
    assert found.exact
    assert "a:0" in found.notes[0]


def test_dtype_and_shape() -> None:
    """Another dtype or shape fails by name."""
    assert _kinds(_compare(_f(1), np.asarray([1.0]))) == ["dtype", "nothing_compared"]
    found = _compare(_f(1, 2), _f(1))
    assert _kinds(found) == ["shape", "nothing_compared"]
    assert "[2]" in found.problems[0].message
    assert "[1]" in found.problems[0].message


def test_an_output_that_the_candidate_does_not_have() -> None:
    """It fails by name; the other outputs are compared."""
    found = _compare({"a:0": _f(1), "b:0": _f(2)}, {"b:0": _f(2)})
    assert [(p.kind, p.where) for p in found.problems] == [("missing_output", "a:0")]
    assert [item.tensor for item in found.outputs] == ["b:0"]


def test_graphs_that_cannot_be_run() -> None:
    """A candidate that fails is a finding; a reference that fails is wrong input."""
    one = Fake({"y:0": _f(1)})
    broken = Fake({"y:0": _f(1)}, error="no such kernel")
    found = compare_outputs(one, broken, ["y:0"], _feeds())
    assert _kinds(found) == ["cannot_run", "nothing_compared"]
    assert "no such kernel" in found.problems[0].message
    with pytest.raises(InputError, match="no such kernel"):
        compare_outputs(broken, one, ["y:0"], _feeds())


@pytest.mark.parametrize(
    ("one", "two", "differing", "worst"),
    [
        (np.asarray([1, 2, 3]), np.asarray([1, 2, 7]), 1, 4.0),
        (np.asarray([True, False]), np.asarray([True, True]), 1, 1.0),
        (np.asarray([0, 255], np.uint8), np.asarray([255, 0], np.uint8), 2, 255.0),
        (np.asarray([b"a", b"b"], object), np.asarray([b"a", b"c"], object), 1, 0.0),
        (np.asarray(b"a", object), np.asarray(b"b", object), 1, 0.0),
    ],
)
def test_whole_numbers_and_strings(
    one: np.ndarray, two: np.ndarray, differing: int, worst: float
) -> None:
    """Mismatches are counted and reported; ``exact`` makes them a fault."""
    found = _compare(one, two)
    assert found.passed
    assert found.outputs[0].differing == differing
    assert found.outputs[0].max_abs_error == worst
    assert found.outputs[0].sqnr_db is None
    assert _kinds(_compare(one, two, exact=True)) == ["not_exact"]
    assert _compare(one, one, exact=True).exact
    strict = Limits(min_sqnr=100, max_abs=worst)
    assert _compare(one, two, limits=strict).passed, "SQNR is a limit for floats"


def test_argmax_agreement() -> None:
    """Rows along the last axis, those with NaN left out; no axis, no agreement."""
    one = np.asarray([[1, 2, 3], [3, 2, 1], [1, 5, 1], [math.nan, 1, 2]], np.float32)
    two = np.asarray([[1, 2, 9], [1, 2, 3], [1, 5, 1], [math.nan, 1, 2]], np.float32)
    (found,) = _compare(one, two).outputs
    assert (found.argmax_rows, found.argmax_agree) == (3, 2)
    assert found.argmax_agreement == pytest.approx(2 / 3)
    for shape in ((), (3, 1), (0, 4)):
        other = _compare({"a:0": np.ones(shape, np.float32), "b:0": _f(1)},
                         {"a:0": np.ones(shape, np.float32), "b:0": _f(1)})  # fmt: skip
        assert other.outputs[0].argmax_agreement is None


def test_exact_looks_at_bits() -> None:
    """-0.0 is not 0.0; a NaN is a NaN whatever its bits."""
    assert _kinds(_compare(_f(0.0, 1), _f(-0.0, 1), exact=True)) == ["not_exact"]
    quiet = np.asarray([0x7FC00000, 0x3F800000], np.uint32).view(np.float32)
    other = np.asarray([0x7FC00001, 0x3F800000], np.uint32).view(np.float32)
    assert _compare(quiet, other, exact=True).exact
    assert _compare(np.asarray([1 + 2j]), np.asarray([1 + 3j])).outputs[0].differing == 1


def test_exact_tries_again() -> None:
    """A sum whose order depends on scheduling may differ now and then: five tries, no more."""
    one, two = {"y:0": _f(1)}, {"y:0": _f(2)}
    lucky = compare_outputs(Fake(one), Fake(two, two, two, two, one), ["y:0"], _feeds(), exact=True)
    assert lucky.exact
    assert lucky.passed
    late = Fake(two, two, two, two, two, one)
    assert _kinds(compare_outputs(Fake(one), late, ["y:0"], _feeds(), exact=True)) == ["not_exact"]


def test_a_reference_that_does_not_agree_with_itself() -> None:
    """It is said; without the word every difference would be blamed on the candidate."""
    restless = Fake({"y:0": _f(1)}, {"y:0": _f(2)})
    found = compare_outputs(restless, Fake({"y:0": _f(1)}), ["y:0"], _feeds())
    assert found.repeatable is False
    assert "does not agree with itself" in found.notes[0]
    assert _compare(_f(1), _f(1)).repeatable is True


def test_progress_after_every_sample() -> None:
    """(done, total, what)."""
    seen: List[Tuple[int, int, str]] = []
    call: Callable[[int, int, str], None] = lambda *step: seen.append(step)  # noqa: E731
    _compare(_f(1), _f(1), samples=3, progress=call)
    assert [step[:2] for step in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("limits", [{"min_sqnr": math.nan}, {"max_abs": -1}, {"max_abs": math.inf}])
def test_limits_that_are_none(limits: Dict[str, float]) -> None:
    """A limit that cannot fail is refused."""
    with pytest.raises(InputError):
        Limits(**limits)


def test_magnitudes_beyond_their_squares() -> None:
    """1e160 has no square in float64: an error, not an infinite sum."""
    with pytest.raises(InputError, match="magnitudes above"):
        _compare(np.asarray([1e160]), np.asarray([1e160]))


@pytest.mark.parametrize("data", [None, {}, {"outputs": 3}, [], {"outputs": [{}]}])
def test_damaged_json(data: Any) -> None:
    """An InputError, not a KeyError."""
    with pytest.raises(InputError):
        OutputsResult.from_json(data)
    with pytest.raises(InputError):
        Difference.from_json(data)


_VALUES = st.one_of(
    st.floats(-1e3, 1e3, width=32), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0])
)


@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
def test_against_a_slow_reference(data: st.DataObject, shape: Tuple[int, ...]) -> None:
    """All numbers against plain Python over single values, two samples added up."""
    arrays = [data.draw(hnp.arrays(np.float32, shape, elements=_VALUES)) for _ in range(4)]
    found = tally.start("y:0", arrays[0])
    for x, y in (arrays[:2], arrays[2:]):
        found = tally.add(found, x, y)
    pairs = [(float(a), float(b)) for x, y in (arrays[:2], arrays[2:])
             for a, b in zip(x.reshape(-1), y.reshape(-1))]  # fmt: skip
    both = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    assert found.elements == len(pairs)
    assert found.finite == len(both)
    assert found.sum_squares == pytest.approx(math.fsum(a * a for a, _ in both))
    assert found.candidate_sum_squares == pytest.approx(math.fsum(b * b for _, b in both))
    assert found.sum_products == pytest.approx(math.fsum(a * b for a, b in both), abs=1e-6)
    errors = [abs(a - b) for a, b in both]
    assert found.sum_squared_errors == pytest.approx(math.fsum(e * e for e in errors))
    assert found.max_abs_error == max(errors, default=0.0)
    assert found.largest == max((abs(a) for a, _ in both), default=0.0)
    assert found.nonfinite_reference == sum(not math.isfinite(a) for a, _ in pairs)
    assert found.nonfinite_candidate == sum(not math.isfinite(b) for _, b in pairs)
    assert found.nonfinite_new == sum(math.isfinite(a) and not math.isfinite(b) for a, b in pairs)
    assert found.nonfinite_same == sum(
        not math.isfinite(a) and (a == b or (a != a and b != b)) for a, b in pairs
    )
    assert found.differing == sum(
        np.float32(a).tobytes() != np.float32(b).tobytes() and not (a != a and b != b)
        for a, b in pairs
    )
