"""The mean of a layer's output error, measured, for a bias that can take it.

    e = mean over samples and positions of (y_quantized - y_float)

with everything before the layer quantized and corrected. Taking it from the bias leaves the error
without a mean (Nagel et al., arXiv:1906.04721, section 4.2, there from batch-norm statistics or
data; here measured). What is the mean of a few samples need not be that of others: so the mean of
one half has to make the error of the other half smaller, or nothing is changed.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from graphwq.calibrate.activations import FLOAT, QUANTIZED, Activations
from graphwq.errors import UnsupportedError
from graphwq.quant.shift import Shift, shift_of
from graphwq.survey.bias import BiasPlace
from graphwq.survey.view import ScopeView


def correction(
    view: ScopeView, place: BiasPlace, activations: Activations, samples: int, step: float
) -> Tuple[Shift, np.ndarray]:
    """What a bias has to take.

    Args:
        view: the main scope.
        place: the bias, see ``survey.bias``.
        activations: both states, the layer's weight set in the quantized one.
        samples: how many of them, from the first on, are looked at.
        step: of the shift.

    Returns:
        the shift, and the bias as it is.

    Raises:
        InputError: TensorFlow cannot run the graph so far.
        UnsupportedError: the bias stays as it is; the message says why.
    """
    tensor = view.nodes[place.constant].tensor()
    assert tensor is not None
    old = tensor.numpy()
    errors = _errors(place, activations)[:samples]
    means = [_mean(place, half) for half in _halves(errors)]
    if len(means) == 2 and _gain(means[0], means[1]) <= 0:
        raise UnsupportedError("the halves of the samples do not agree on the mean error")
    shift = shift_of(place.sign * _mean(place, errors), step)
    if shift is None or shift.apply(old).tobytes() == old.tobytes():
        raise UnsupportedError("the error has no mean")
    return shift, old


def _errors(place: BiasPlace, activations: Activations) -> List[np.ndarray]:
    """The error of each sample, float64."""
    found = []
    states: List[List[Dict[str, np.ndarray]]] = [
        activations.fetch([place.tensor], state) for state in (QUANTIZED, FLOAT)
    ]
    for after, before in zip(*states):
        new, was = after[place.tensor], before[place.tensor]
        if new.shape != was.shape or new.dtype.kind != "f" or not new.size:
            raise UnsupportedError("the layer's output has another shape than in the float graph")
        error = new.astype(np.float64) - was
        if not np.isfinite(error).all():
            raise UnsupportedError("the layer's output is NaN or Inf")
        found.append(error)
    return found


def _halves(errors: List[np.ndarray]) -> List[List[np.ndarray]]:
    """Two halves of the samples, of the rows of one sample, or one where there is one row."""
    if len(errors) > 1:
        middle = (len(errors) + 1) // 2
        return [errors[:middle], errors[middle:]]
    (only,) = errors
    if only.ndim < 2 or len(only) < 2:
        return [errors]
    return [[only[: len(only) // 2]], [only[len(only) // 2 :]]]


def _mean(place: BiasPlace, errors: List[np.ndarray]) -> np.ndarray:
    """The mean over samples, each of which counts the same."""
    means = [place.mean(error) for error in errors]
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means):
        raise UnsupportedError("the bias does not fit the layer's output")
    return np.asarray(np.mean(known, 0))


def _gain(one: np.ndarray, other: np.ndarray) -> float:
    """By how much each mean would make the square of the other one smaller, both together."""
    before = np.square(one).sum() + np.square(other).sum()
    return float(before - 2 * np.square(one - other).sum())
