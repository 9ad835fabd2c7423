"""Moments without inputs, held against the same moments of many random numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphwq.quant.moments import CORRELATION, Moments, clipped, hessian, joined, total

_MEAN = np.array([-3.0, -0.7, 0.0, 0.4, 2.5, 7.0, 1.5, -1.0])
_SPREAD = np.array([1.0, 0.5, 2.0, 3.0, 0.2, 4.0, 0.0, 0.0])
_BEFORE = Moments(_MEAN, np.square(_SPREAD))


@pytest.mark.parametrize("top", [math.inf, 6.0, 1.0])
def test_behind_a_relu(top: float) -> None:
    """Mean and variance of a million normal numbers, cut off."""
    drawn = np.random.RandomState(0).standard_normal((1_000_000, 1)) * _SPREAD + _MEAN
    cut = np.clip(drawn, 0.0, top)
    made = clipped(_BEFORE, top)
    assert made.mean == pytest.approx(cut.mean(0), abs=0.01)
    assert made.variance == pytest.approx(cut.var(0), rel=0.02, abs=0.002)


def test_of_a_steady_channel_nothing_varies() -> None:
    """A scale of 0: the number itself, cut off; no NaN."""
    made = clipped(Moments(np.array([-1.0, 2.0, 9.0]), np.zeros(3)), 6.0)
    assert made.mean.tolist() == [0.0, 2.0, 6.0]
    assert made.variance.tolist() == [0.0, 0.0, 0.0]


def test_sums_and_joins() -> None:
    """Means and variances add up; channels follow each other."""
    one, other = (
        Moments(np.array([1.0, 2.0]), np.array([3.0, 4.0])),
        Moments(np.ones(2), np.ones(2)),
    )
    assert total([one, other]).mean.tolist() == [2.0, 3.0]
    assert total([one, other]).variance.tolist() == [4.0, 5.0]
    assert joined([one, other]).mean.tolist() == [1.0, 2.0, 1.0, 1.0]
    assert joined([one, other]).variance.tolist() == [3.0, 4.0, 1.0, 1.0]


@pytest.mark.parametrize("centred", [False, True])
def test_hessian_of_drawn_vectors(centred: bool) -> None:
    """E[x x^T] of vectors of 2 places x 3 channels, where places of one channel go together."""
    moments = Moments(np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.25, 4.0]))
    random = np.random.RandomState(1)
    common, own = random.standard_normal((400_000, 1, 3)), random.standard_normal((400_000, 2, 3))
    drawn = math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * own
    drawn = drawn * np.sqrt(moments.variance) + (0 if centred else moments.mean)
    rows = drawn.reshape(-1, 6)
    channel, place = np.array([[0, 1, 2, 0, 1, 2]]), np.array([[0, 0, 0, 1, 1, 1]])
    (made,) = hessian(moments, channel, place, centred)
    assert made == pytest.approx(rows.T @ rows / len(rows), abs=0.03)
    assert np.linalg.eigvalsh(made).min() > 0


def test_hessian_with_a_dead_channel_can_be_factored() -> None:
    """A channel that never varies still weighs something."""
    moments = Moments(np.zeros(2), np.array([1.0, 0.0]))
    (made,) = hessian(moments, np.array([[0, 1]]), np.array([[0, 0]]))
    assert np.linalg.eigvalsh(made).min() > 0
