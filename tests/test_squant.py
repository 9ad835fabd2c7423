"""SQuant against a scalar version, and the sums that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_methods import squant_slow

from graphwq.quant.scheme import max_code
from graphwq.quant.squant import squant


def _weight(seed: int, shape: tuple, zeros: float = 0.0) -> np.ndarray:
    random = np.random.RandomState(seed)
    values = random.randn(*shape)
    values[random.uniform(size=shape) < zeros] = 0.0
    return values


def _scale(values: np.ndarray, bits: int) -> np.ndarray:
    absmax = np.abs(values).reshape(len(values), -1).max(1)
    return np.where(absmax > 0, absmax, 1.0).astype(np.float32) / np.float32(max_code(bits))


@given(
    seed=st.integers(0, 2**32 - 1),
    kernel=st.sampled_from([1, 4, 9]),
    inputs=st.integers(1, 8),
    bits=st.sampled_from([2, 3, 4, 8]),
    zeros=st.sampled_from([0.0, 0.5]),
)
def test_equals_the_scalar_version(
    seed: int, kernel: int, inputs: int, bits: int, zeros: float
) -> None:
    """Every code is the one that the stages E, K and C give value by value."""
    values = _weight(seed, (3, kernel, inputs), zeros)
    scale = _scale(values, bits)
    codes = squant(values, scale, bits)
    for own, channel, step in zip(codes, values, scale):
        assert np.array_equal(own, squant_slow(channel, float(step), max_code(bits)))


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_sums_are_bounded(bits: int) -> None:
    """Each error is at most 1, each kernel sums to at most 1, each channel to at most 1/2."""
    values = _weight(3, (16, 9, 32))
    scale = _scale(values, bits)
    error = squant(values, scale, bits) - values / scale[:, None, None]
    assert np.abs(error).max() <= 1 + 1e-6
    assert np.abs(error.sum(1)).max() <= 1 + 1e-5
    assert np.abs(error.sum((1, 2))).max() <= 0.5 + 1e-4


def test_zeros_stay_zero_and_the_top_is_reached() -> None:
    """A pruned weight keeps its zeros; every channel keeps a code T or -T."""
    values = _weight(5, (20, 9, 8), zeros=0.7)
    for bits in range(2, 9):
        codes = squant(values, _scale(values, bits), bits)
        assert not codes[values == 0].any()
        assert (np.abs(codes).reshape(20, -1).max(1) == max_code(bits)).all()


def test_sums_are_smaller_than_after_rounding() -> None:
    """What it is for: with inputs that are alike, the output error falls far more than fourfold."""
    values = _weight(7, (32, 9, 64))
    scale = _scale(values, 4)
    plain = np.rint(values / scale[:, None, None]) - values / scale[:, None, None]
    squared = squant(values, scale, 4) - values / scale[:, None, None]
    assert np.square(squared.sum((1, 2))).sum() * 16 < np.square(plain.sum((1, 2))).sum()
