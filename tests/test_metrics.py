"""quant/metrics.py and the error that quantizing reports: planted errors, computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from reference import sqnr_db as exact_sqnr_db
from strategies import weights_and_schemes

from graphwq.quant.metrics import WeightError, sqnr_db
from graphwq.quant.quantize import quantize_with_error
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantScheme


def test_a_planted_error_by_hand() -> None:
    """Law 10: signal 3^2 + 4^2 = 25, error 0.05^2 = 0.0025: 40 dB."""
    assert sqnr_db(25.0, 0.0025) == pytest.approx(40.0, abs=1e-12)
    assert WeightError(25.0, 0.0025, 0.05).sqnr_db == pytest.approx(40.0, abs=1e-12)


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(1.0, 1.0, 0.0), (1.0, 10.0, -10.0), (1000.0, 1.0, 30.0), (2.0, 1.0, 10 * math.log10(2))],
)
def test_decibels(signal: float, noise: float, expected: float) -> None:
    """Ten times the logarithm of the ratio of the powers."""
    assert sqnr_db(signal, noise) == pytest.approx(expected, abs=1e-12)


def test_no_error_is_infinite() -> None:
    """Also where there is no signal: nothing was lost."""
    assert sqnr_db(1.0, 0.0) == math.inf
    assert sqnr_db(0.0, 0.0) == math.inf


def test_an_error_without_a_signal_is_minus_infinite() -> None:
    """No division by zero, no small number that stands in for it."""
    assert sqnr_db(0.0, 1.0) == -math.inf


def test_the_error_of_a_weight_by_hand() -> None:
    """Two bits, absmax 4: codes 1 0 -1 1 for 4, 1, -3, 2.5; errors 0, 1, 1, 1.5."""
    weight = np.array([4, 1, -3, 2.5], np.float32)
    quantized, error = quantize_with_error(weight, QuantScheme(2))
    assert quantized.codes.tolist() == [1, 0, -1, 1]
    assert error.sum_squares == 16 + 1 + 9 + 6.25
    assert error.sum_squared_errors == 0 + 1 + 1 + 2.25
    assert error.max_abs_error == 1.5
    assert error.sqnr_db == pytest.approx(10 * math.log10(32.25 / 4.25), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "granularity", [PerTensor(), PerChannel((1,)), PerGroup((1,), 0, 2)], ids=repr
)
def test_no_error_is_seen_as_none(dtype: Any, granularity: Any) -> None:
    """Weights on the grid have no error at all, not a small one."""
    codes = np.array([[127, -5], [3, 127], [-127, 0], [1, -127], [127, 127]])
    weight = (codes * 0.25).astype(dtype)
    quantized, error = quantize_with_error(weight, QuantScheme(8, granularity))
    assert quantized.codes.tolist() == codes.tolist()
    assert (error.sum_squared_errors, error.max_abs_error) == (0.0, 0.0)
    assert error.sqnr_db == math.inf


def test_zeros_have_no_error() -> None:
    """All zero: no signal and no error."""
    _, error = quantize_with_error(np.zeros((3, 2), np.float32), QuantScheme(4))
    assert error == WeightError(0.0, 0.0, 0.0)
    assert error.sqnr_db == math.inf


@given(weights_and_schemes(edges=False))
def test_the_error_is_that_of_the_values(pair: Any) -> None:
    """Weight minus what is stored for it (in its own dtype), to float32 accuracy."""
    weight, scheme = pair
    quantized, error = quantize_with_error(weight, scheme)
    wide = weight.astype(np.float64)
    missed = wide - quantized.dequantize().astype(weight.dtype).astype(np.float64)
    assert error.sum_squares == pytest.approx(float((wide**2).sum()), rel=1e-5)
    assert error.max_abs_error == pytest.approx(float(np.abs(missed).max()), rel=1e-6, abs=0)
    assert error.sum_squared_errors == pytest.approx(float((missed**2).sum()), rel=1e-5, abs=0)


def test_sqnr_of_random_weights_against_exact_sums() -> None:
    """The reported decibels agree with exact fractions to a hundredth, at every width."""
    weight = (np.random.RandomState(0).randn(40, 6) * 0.1).astype(np.float32)
    for bits in range(2, 9):
        quantized, error = quantize_with_error(weight, QuantScheme(bits, PerChannel((1,))))
        exact = exact_sqnr_db(weight.reshape(-1), quantized.dequantize().reshape(-1))
        assert error.sqnr_db == pytest.approx(exact, abs=0.01)


def test_baked_double_weights_have_no_error() -> None:
    """A double that holds float32(code) * scale is reproduced exactly, and reported so."""
    codes = np.arange(-127, 128)
    weight = (codes.astype(np.float32) * np.float32(0.1)).astype(np.float64)
    quantized, error = quantize_with_error(weight, QuantScheme(8))
    assert np.array_equal(quantized.dequantize().astype(np.float64), weight)
    assert error.max_abs_error == 0.0
    assert error.sqnr_db == math.inf


@pytest.mark.parametrize("factor", [1e-30, 1e-15, 1e-8, 1e8, 1e15, 1e25, 1e30])
def test_magnitudes_whose_squares_leave_float32(factor: float) -> None:
    """Squares are not lost at either end of the range: the decibels stay the same."""
    weight = np.random.RandomState(1).randn(50, 20).astype(np.float32)
    plain = quantize_with_error(weight, QuantScheme(4))[1]
    scaled = quantize_with_error(weight * np.float32(factor), QuantScheme(4))[1]
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db, abs=0.01)
    assert scaled.max_abs_error == pytest.approx(plain.max_abs_error * factor, rel=1e-3)


def test_a_large_weight_is_summed_accurately() -> None:
    """A million squares in float32 blocks: the sum is right to a part in a hundred thousand."""
    weight = (np.random.RandomState(2).rand(1000, 1000) + 0.5).astype(np.float32)
    _, error = quantize_with_error(weight, QuantScheme(3))
    exact = float((weight.astype(np.float64) ** 2).sum())
    assert error.sum_squares == pytest.approx(exact, rel=1e-5)
