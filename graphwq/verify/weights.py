"""The weights layer: every rewritten weight, read from the candidate, against the reference.

No TensorFlow: codes and scales are decoded from the file, values computed as float32(code) * scale.
A weight passes where its codes and scales are what its method makes of the reference's values. For
methods that look at the weight alone that is decided bit for bit, and without a plan the method is
found; of others only the range of the codes and the zeros can be held against them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.graphdef.dtypes import dtype_name
from graphwq.quant.audit import Deviation, deviation
from graphwq.quant.histogram import Histogram, histogram
from graphwq.quant.metrics import WeightError
from graphwq.quant.scheme import DATA_FREE, QuantizedTensor, granularity_to_json
from graphwq.rewrite.parallel import in_order
from graphwq.rewrite.recover import Recovered, RecoveredWeight, by_method
from graphwq.survey.sites import Source, WeightSite
from graphwq.survey.view import View
from graphwq.verify.problem import WEIGHTS, Problem

#: Histograms are kept of this many weights, those of the lowest SQNR.
WORST = 8


@dataclass(frozen=True)
class WeightCheck:
    """One rewritten weight.

    Attributes:
        weight, dtype, shape: as in the reference.
        storage: ``dequant``, ``bake`` or ``fake_quant``.
        num_bits: width of the grid.
        method: by which scale and codes were chosen; "" where none is known that gives them.
        granularity: which values share a scale, as in a plan.
        error: of the decoded values against the reference's.
        worst_steps: distance of the worst value from its float, in steps of the scale.
        elements, saturated, levels: values, codes that are -T or T, different codes that occur.
        bytes_before, bytes_after: in the file, added nodes included, shared tables not.
        ops: the ops that use the weight.
        histogram: of the values before and after, for the worst weights.
        bias: the constant that took the mean of the layer's output error; "" for none.
        bias_shift: the largest change of its values.
    """

    weight: str
    dtype: str
    shape: Tuple[int, ...]
    storage: str
    num_bits: int
    method: str
    granularity: Mapping[str, Any]
    error: WeightError
    worst_steps: float
    elements: int
    saturated: int
    levels: int
    bytes_before: int
    bytes_after: int
    ops: Tuple[str, ...]
    histogram: Optional[Histogram] = None
    bias: str = ""
    bias_shift: float = 0.0

    def to_json(self) -> Dict[str, Any]:
        """The check as JSON data."""
        return {
            "weight": self.weight,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "storage": self.storage,
            "num_bits": self.num_bits,
            "method": self.method,
            "granularity": dict(self.granularity),
            **self.error.to_json(),
            "worst_steps": self.worst_steps,
            "elements": self.elements,
            "saturated": self.saturated,
            "levels": self.levels,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "ops": list(self.ops),
            "histogram": None if self.histogram is None else self.histogram.to_json(),
            **({"bias": self.bias, "bias_shift": self.bias_shift} if self.bias else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WeightCheck:
        """The inverse of ``to_json``.

        Raises:
            ValueError: a weight without elements.
        """
        if not data["elements"]:
            raise ValueError(f"{data['weight']!r:.100} has no elements")
        shown = data["histogram"]
        return cls(
            data["weight"],
            data["dtype"],
            tuple(data["shape"]),
            data["storage"],
            data["num_bits"],
            data["method"],
            data["granularity"],
            WeightError.from_json(data),
            data["worst_steps"],
            data["elements"],
            data["saturated"],
            data["levels"],
            data["bytes_before"],
            data["bytes_after"],
            tuple(data["ops"]),
            None if shown is None else Histogram.from_json(shown),
            data.get("bias", ""),
            data.get("bias_shift", 0.0),
        )


@dataclass(frozen=True)
class WeightsResult:
    """The weights layer.

    Attributes:
        weights: every rewritten weight, in the order of the graph.
        unchanged: names of the weights that the candidate holds as they were.
        problems: what is wrong.
    """

    weights: Tuple[WeightCheck, ...]
    unchanged: Tuple[str, ...]
    problems: Tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        """Whether every rewritten weight is what its method makes of the reference."""
        return not self.problems

    def worst(self, count: int) -> Tuple[WeightCheck, ...]:
        """The weights of the lowest SQNR."""
        return tuple(sorted(self.weights, key=lambda item: item.error.sqnr_db)[:count])

    def to_json(self) -> Dict[str, Any]:
        """The layer as JSON data."""
        return {
            "passed": self.passed,
            "weights": [item.to_json() for item in self.weights],
            "unchanged": list(self.unchanged),
            "problems": [item.to_json() for item in self.problems],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WeightsResult:
        """The inverse of ``to_json``."""
        return cls(
            tuple(WeightCheck.from_json(item) for item in data["weights"]),
            tuple(data["unchanged"]),
            tuple(Problem.from_json(item) for item in data["problems"]),
        )


def check_weights(
    reference: View,
    sites: Sequence[WeightSite],
    candidate: View,
    recovered: Recovered,
    exact: bool = False,
) -> WeightsResult:
    """Check every weight of the reference in the candidate.

    Args:
        reference, candidate: the graphs.
        sites: the weights of the reference.
        recovered: what the candidate was made by.
        exact: the reference's values are on their grids already; the candidate's must be the same,
            bit for bit, whatever the codes.
    """
    sizes = {
        item.item.weight: (item.bytes_before, item.bytes_after)
        for item in recovered.rebuilt.weights
    }

    def check(found: RecoveredWeight) -> Tuple[WeightCheck, List[Problem]]:
        size = sizes[found.site.weight]
        if exact:
            return _check(found, size, ""), list(_inexact(found))
        method, wrong = _by_method(reference, found, recovered.given)
        return _check(found, size, method), [*_problems(found), *wrong]

    checks: List[WeightCheck] = []
    problems: List[Problem] = []
    for one, wrong in in_order(check, recovered.weights):
        checks.append(one)
        problems.extend(wrong)
    named = {item.weight for item in checks}
    others = [site for site in sites if site.weight not in named and site.source is Source.CONST]
    changed = {site.weight for site in others if not _same(reference, candidate, site)}
    for item in recovered.missing:
        problems.append(
            Problem(WEIGHTS, "not_done", item.weight, _not_done(item.weight in changed))
        )
    missing = {item.weight for item in recovered.missing}
    problems.extend(
        Problem(WEIGHTS, "off_grid", site.weight, _OFF_GRID)
        for site in others
        if site.weight in changed - missing
    )
    unchanged = tuple(site.weight for site in others if site.weight not in changed)
    return WeightsResult(_with_histograms(reference, recovered, checks), unchanged, tuple(problems))


_OFF_GRID = "its values were changed, and they lie on no quantization grid of 2 to 8 bits"


def _not_done(changed: bool) -> str:
    if changed:
        return "the plan quantizes it; the candidate holds something else in its place"
    return "the plan quantizes it; the candidate holds it as it was"


def _same(reference: View, candidate: View, site: WeightSite) -> bool:
    old = reference.scopes[site.scope].nodes[site.node]
    scope = candidate.scopes.get(site.scope)
    new = None if scope is None else scope.nodes.get(site.node)
    if new is None or new.op != old.op:
        return False
    if old.to_bytes() == new.to_bytes():
        return True
    before, after = old.tensor(), new.tensor()
    if before is None or after is None:
        return before is after
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        return False
    return before.numpy().tobytes() == after.numpy().tobytes()


def _check(found: RecoveredWeight, sizes: Tuple[int, int], method: str) -> WeightCheck:
    site, audit = found.site, found.audit
    return WeightCheck(
        site.weight,
        dtype_name(site.dtype),
        site.shape,
        found.item.storage,
        found.item.scheme.num_bits,
        method,
        granularity_to_json(found.item.scheme.granularity),
        audit.error,
        audit.worst_steps,
        site.size,
        audit.saturated,
        audit.levels,
        *sizes,
        tuple(dict.fromkeys(consumer.op for consumer in site.consumers)),
        None,
        found.item.bias,
        0.0 if found.shift is None else found.shift.largest,
    )


def _inexact(found: RecoveredWeight) -> Iterator[Problem]:
    error = found.audit.error
    if found.shift is not None:
        message = f"{found.item.bias!r} was changed by up to {found.shift.largest:.3g}"
        yield Problem(WEIGHTS, "not_exact", found.site.weight, message)
    if error.sum_squared_errors or found.audit.non_finite:
        message = (
            f"its values are not the reference's: the largest difference is "
            f"{error.max_abs_error:.3g}, in {found.audit.different} of {found.site.size} values"
        )
        yield Problem(WEIGHTS, "not_exact", found.site.weight, message)


def _problems(found: RecoveredWeight) -> Iterator[Problem]:
    weight, audit = found.site.weight, found.audit
    if audit.non_finite:
        message = f"{audit.non_finite} values of the reference are NaN or Inf, which no code is"
        yield Problem(WEIGHTS, "non_finite", weight, message)
    if audit.out_of_range:
        top = found.quantized.scheme.max_code
        message = f"{audit.out_of_range} codes are beyond {-top}..{top}"
        yield Problem(WEIGHTS, "out_of_range", weight, message)
    if audit.moved_zeros:
        message = f"{audit.moved_zeros} zeros of the reference are zeros no more"
        yield Problem(WEIGHTS, "zero_lost", weight, message)
    if found.uncorrected:
        message = f"the plan corrects {found.uncorrected!r}; the candidate's is no correction of it"
        yield Problem(WEIGHTS, "bias_not_corrected", weight, message)


def _by_method(
    reference: View, found: RecoveredWeight, given: bool
) -> Tuple[str, Tuple[Problem, ...]]:
    """The method of a weight, and what is not as it makes it."""
    said = found.item.scheme.method
    if said not in DATA_FREE or found.audit.non_finite:
        return said, ()
    expected = by_method(reference, found, said)
    if _is(expected, found):
        return said, ()
    if not given:
        for method in DATA_FREE:
            if method != said and _is(by_method(reference, found, method), found):
                return method, ()
    return said if given else "", tuple(_deviations(expected, found, said))


def _is(expected: QuantizedTensor, found: RecoveredWeight) -> bool:
    different = deviation(expected, found.quantized)
    return not (different.codes or different.scales)


def _deviations(
    expected: QuantizedTensor, found: RecoveredWeight, method: str
) -> Iterator[Problem]:
    weight, audit = found.site.weight, found.audit
    different = deviation(expected, found.quantized)
    if different.scales:
        message = _scale_message(expected, found.quantized, different, method)
        yield Problem(WEIGHTS, "scale_differs", weight, message)
    if different.codes:
        message = _code_message(expected, found.quantized, different, method)
        if audit.beyond_half_step:
            message += f", the worst value is {audit.worst_steps:.3g} steps off"
        yield Problem(WEIGHTS, "code_differs", weight, message)


def _scale_message(
    expected: QuantizedTensor, got: QuantizedTensor, different: Deviation, method: str
) -> str:
    place = different.first_scale or 0
    where = _place(expected.scale, place)
    return (
        f"the scale at {where} is {got.scale.reshape(-1)[place]:.9g}, {method} gives "
        f"{expected.scale.reshape(-1)[place]:.9g} ({different.scales} of {expected.scale.size} "
        "differ); if another method chose it, give its plan"
    )


def _code_message(
    expected: QuantizedTensor, got: QuantizedTensor, different: Deviation, method: str
) -> str:
    place = different.first_code or 0
    where = _place(expected.codes, place)
    return (
        f"the code at {where} is {got.codes.reshape(-1)[place]}, {method} gives "
        f"{expected.codes.reshape(-1)[place]} ({different.codes} of {expected.codes.size} differ)"
    )


def _place(array: np.ndarray, index: int) -> str:
    return str([int(axis) for axis in np.unravel_index(index, array.shape)])


def _with_histograms(
    reference: View, recovered: Recovered, checks: Sequence[WeightCheck]
) -> Tuple[WeightCheck, ...]:
    """The checks, with histograms for the worst of them."""
    worst = {item.weight for item in WeightsResult(tuple(checks), (), ()).worst(WORST)}
    found = {item.site.weight: item for item in recovered.weights}

    def filled(check: WeightCheck) -> WeightCheck:
        if check.weight not in worst:
            return check
        weight = found[check.weight]
        before = reference.tensor(weight.site).numpy()
        return replace(check, histogram=histogram(before, weight.quantized.dequantize()))

    return tuple(filled(check) for check in checks)
