"""Means and variances of activations without any input, and the Hessian that follows from them.

A batch norm's output is taken to be normal in each channel, with the offset as mean and the scale
as standard deviation (DFQ: Nagel et al., arXiv:1906.04721). Behind a ReLU, cut off at ``top``,

    E[y]   = m (F(b) - F(a)) + s (f(a) - f(b)) + top (1 - F(b)),    a = -m / s,  b = (top - m) / s
    E[y^2] = (m^2 + s^2) (F(b) - F(a)) + s (m f(a) - (m + top) f(b)) + top^2 (1 - F(b))

with f and F density and distribution of the standard normal. What a layer sees is then weighed by

    H_ij = m_i m_j + [same channel] v_i ([same place] + correlation [another place])

for columns i and j of one vector: channels are independent, places of one channel are alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import numpy as np

#: Of two neighbouring places of one channel; 1/2 is what photographs and their features have about.
CORRELATION = 0.5
#: A channel that always gives the same number, as part of the largest variance.
_LEAST = 1e-9


@dataclass(frozen=True)
class Moments:
    """What is known of an activation.

    Attributes:
        mean, variance: float64 [channels].
    """

    mean: np.ndarray
    variance: np.ndarray


def total(parts: Sequence[Moments]) -> Moments:
    """Of a sum of activations that have nothing to do with each other."""
    means, variances = [part.mean for part in parts], [part.variance for part in parts]
    return Moments(np.sum(means, 0), np.sum(variances, 0))


def joined(parts: Sequence[Moments]) -> Moments:
    """Of activations that are put one behind the other along their channels."""
    return Moments(
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.variance for part in parts]),
    )


def clipped(before: Moments, top: float = math.inf) -> Moments:
    """Behind a ReLU, or a ReLU that is cut off at ``top``; before it the values are normal."""
    mean, spread = before.mean, np.sqrt(before.variance)
    steady = spread <= 0
    spread = np.where(steady, 1.0, spread)
    low, high = -mean / spread, (top - mean) / spread
    inside = _distribution(high) - _distribution(low)
    above = 1.0 - _distribution(high)
    first = mean * inside + spread * (_density(low) - _density(high))
    second = (np.square(mean) + np.square(spread)) * inside + spread * mean * _density(low)
    if math.isfinite(top):
        first = first + top * above
        second = second - spread * (mean + top) * _density(high) + top * top * above
    first = np.where(steady, np.clip(mean, 0.0, top), first)
    variance = np.where(steady, 0.0, second - np.square(first))
    return Moments(first, np.maximum(variance, 0.0))


def _density(value: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.square(value) / 2) / math.sqrt(2 * math.pi))


def _distribution(value: np.ndarray) -> np.ndarray:
    flat = [math.erf(one / math.sqrt(2)) for one in value.reshape(-1)]
    return (1.0 + np.reshape(flat, value.shape)) / 2


def hessian(
    moments: Moments,
    channel: np.ndarray,
    place: np.ndarray,
    centred: bool = False,
    correlation: float = CORRELATION,
) -> np.ndarray:
    """E[x x^T] of the vectors that a layer sees.

    Args:
        moments: of the activation.
        channel, place: int [problems, n], where each number of a vector comes from.
        centred: leave out the means, which what follows takes off again.
        correlation: of two places of one channel.

    Returns:
        float64 [problems, n, n].
    """
    least = _LEAST * moments.variance.max(initial=0.0)
    mean, variance = moments.mean[channel], np.maximum(moments.variance, least)[channel]
    alike = channel[:, :, None] == channel[:, None, :]
    same = place[:, :, None] == place[:, None, :]
    result = np.where(alike, np.where(same, 1.0, correlation), 0.0) * variance[:, :, None]
    return result if centred else result + mean[:, :, None] * mean[:, None, :]
