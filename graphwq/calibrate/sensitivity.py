"""What each weight's error costs the outputs of the graph: measured, one weight at a time.

    error(l, b) = mean over outputs and samples of |y' - y|^2 / |y|^2

where y' are the outputs with weight l alone at b bits, fed in place of the constant. Where layers'
errors are small and have nothing to do with each other they add up at the outputs, so the sum over
the weights is a measure of the error of a mixed plan; unlike the errors of the values alone
(``rewrite.weigh``) it knows which layers the outputs depend on, and which of them amplify.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.graphdef.dtypes import NUMPY
from graphwq.quant.scheme import MSE, data_free
from graphwq.rewrite.codes import quantize_weight
from graphwq.rewrite.plan import PlanItem
from graphwq.rewrite.weigh import WIDTHS
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View
from graphwq.verify.feeds import Sample
from graphwq.verify.runner import Runner

#: An output that is no longer finite counts as so many times its signal.
_LOST = 1e4
#: Runs of the graph at most; where all widths would take more, fewer are measured.
_RUNS = 4000
_FEW = (2, 4, 6)

Errors = Mapping[str, Sequence[float]]
Values = Callable[[WeightSite, PlanItem], np.ndarray]


def relative_error(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> Optional[float]:
    """Mean of |y' - y|^2 / |y|^2 over the float outputs; None where none says anything."""
    found = []
    for name, old in before.items():
        old = np.asarray(old)
        if old.dtype.kind != "f" or not np.isfinite(old).all() or not old.any():
            continue
        new = np.asarray(after[name], np.float64)
        signal = float(np.square(old, dtype=np.float64).sum())
        noise = float(np.square(new - old).sum()) if new.shape == old.shape else math.inf
        found.append(min(noise / signal, _LOST) if math.isfinite(noise) else _LOST)
    return float(np.mean(found)) if found else None


def quantized_values(view: View) -> Values:
    """A function that gives a weight's values by an item, in the dtype of the weight.

    A method that needs a calibration is stood for by the best scale for the values.
    """

    def values(site: WeightSite, item: PlanItem) -> np.ndarray:
        scheme = data_free(item.scheme, MSE)
        made = quantize_weight(item.weight, view.tensor(site).numpy(), scheme)[0]
        return np.asarray(made.dequantize().astype(NUMPY[site.dtype]))

    return values


def output_errors(
    runner: Runner,
    view: View,
    work: Mapping[str, Tuple[WeightSite, PlanItem]],
    known: Errors,
    tensors: Sequence[str],
    samples: Sequence[Sample],
    progress: Optional[Callable[[int, int, str], None]] = None,
) -> Optional[Errors]:
    """The errors of the outputs at each of WIDTHS, by weight.

    Args:
        runner: the float graph in a session.
        view: of it.
        work: the weights, each with an item of any width.
        known: their errors by value.
        tensors: the outputs.
        samples: inputs, each a run of its own.
        progress: called with (done, total, weight).

    Returns:
        None where no output says anything. A weight in a function, which cannot be fed, has the
        errors of its values, times what others cost more than theirs.

    Raises:
        InputError: TensorFlow cannot run the graph.
    """
    before = [runner.run(tensors, sample) for sample in samples]
    values = quantized_values(view)
    runs = len(work) * len(samples)
    widths = WIDTHS if runs * len(WIDTHS) <= _RUNS else _FEW
    table: Dict[str, Sequence[float]] = {}
    others: List[str] = []
    for number, (weight, (site, item)) in enumerate(work.items(), 1):
        if site.scope:
            others.append(weight)
            continue
        measured: Dict[int, float] = {}
        for bits in widths:
            fed = {
                f"{site.node}:0": values(
                    site, replace(item, scheme=replace(item.scheme, num_bits=bits))
                )
            }
            errors = [
                relative_error(old, runner.run(tensors, {**sample, **fed}))
                for old, sample in zip(before, samples)
            ]
            said = [error for error in errors if error is not None]
            if not said:
                return None
            measured[bits] = float(np.mean(said))
        table[weight] = between(measured, known[weight])
        if progress is not None:
            progress(number, len(work), weight)
    gain = typical_gain(table, known)
    for weight in others:
        table[weight] = [gain * error for error in known[weight]]
    return table


def between(measured: Mapping[int, float], known: Sequence[float]) -> List[float]:
    """Errors at all of WIDTHS from those at some.

    What the outputs lose for each unit of error of the values changes slowly with the width: it is
    interpolated on a logarithmic scale. A wider weight never has the larger error.
    """
    spots = [bits for bits in sorted(measured) if measured[bits] > 0 and known[bits - 2] > 0]
    found: List[float] = []
    for bits, error in zip(WIDTHS, known):
        if bits in measured:
            found.append(measured[bits])
        elif not spots:
            found.append(0.0)
        else:
            gains = [math.log(measured[spot] / known[spot - 2]) for spot in spots]
            found.append(error * math.exp(float(np.interp(bits, spots, gains))))
    return [float(value) for value in np.maximum.accumulate(found[::-1])[::-1]]


def typical_gain(table: Errors, known: Errors) -> float:
    """What an error of the values costs the outputs in the median, over weights and widths."""
    ratios = [
        cost / error
        for weight, costs in table.items()
        for cost, error in zip(costs, known[weight])
        if error > 0 and cost > 0
    ]
    return float(np.median(ratios)) if ratios else 1.0


def blended(table: Errors, known: Errors, part: float) -> Errors:
    """Errors of the outputs, and a part of those of the values in the same unit.

    A few samples do not excite everything: a weight that did nothing for them is not free.
    """
    gain = part * typical_gain(table, known)
    return {
        weight: [cost + gain * error for cost, error in zip(costs, known[weight])]
        for weight, costs in table.items()
    }
