"""Holding codes against the float weight: counts as a slow loop counts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from rewriting import examples
from strategies import weights_and_schemes

from graphwq.errors import QuantizationError
from graphwq.quant.audit import audit, deviation
from graphwq.quant.quantize import quantize, quantize_with_error
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantizedTensor, QuantScheme


@given(weights_and_schemes())
@examples(300)
def test_what_rounding_gives_passes(pair: Any) -> None:
    """Codes of the quantizer are within half a step, zeros are kept, nothing is out of range."""
    weight, scheme = pair
    try:
        quantized, error = quantize_with_error(weight, scheme)
    except QuantizationError:
        return
    found = audit(weight, quantized)
    assert found.beyond_half_step == found.moved_zeros == found.out_of_range == 0
    assert found.non_finite == 0
    assert found.levels == len(np.unique(quantized.codes))
    assert found.saturated == int((np.abs(quantized.codes.astype(int)) == scheme.max_code).sum())
    np.testing.assert_allclose(found.error.sum_squares, error.sum_squares, rtol=1e-5, atol=1e-70)
    np.testing.assert_allclose(found.error.max_abs_error, error.max_abs_error, rtol=1e-5)
    assert deviation(quantized, quantize(weight, scheme)).codes == 0


@given(weights_and_schemes(dtypes=(np.float32, np.float64), edges=False))
@examples(200)
def test_one_code_that_is_off_by_one_is_found(pair: Any) -> None:
    """Exactly one value is beyond half a step, and it is the one that was moved."""
    weight, scheme = pair
    quantized = quantize(weight, scheme)
    place = int(weight.size * 0.37)
    codes = quantized.codes.copy()
    ratio = (
        weight.astype(np.float64)
        / np.broadcast_to(quantized.scale_for(0, len(codes.reshape(-1))), weight.shape)
    ).reshape(-1)[place]
    code = int(codes.reshape(-1)[place])
    away = -1 if ratio >= code else 1
    codes.reshape(-1)[place] = code + (away if abs(code + away) <= 127 else -away)
    found = audit(weight, replace(quantized, codes=codes))
    assert found.beyond_half_step == 1
    assert found.worst == place
    assert 0.5 < found.worst_steps <= 1.5 + 1e-3
    different = deviation(quantized, replace(quantized, codes=codes))
    assert (different.codes, different.first_code, different.scales) == (1, place, 0)


def test_counts_by_hand() -> None:
    """Two zeros, one of them moved; codes beyond T; NaN and Inf counted and not summed."""
    weight = np.array([[0.0, 0.0, 2.0], [-3.0, np.nan, np.inf]], np.float32)
    codes = np.array([[0, 1, 2], [-4, 0, 3]], np.int8)
    scheme = QuantScheme(3, PerTensor())
    found = audit(weight, QuantizedTensor(codes, np.ones((1, 1), np.float32), scheme))
    assert found.moved_zeros == 1
    assert found.out_of_range == 1
    assert found.saturated == 1
    assert found.levels == 5
    assert found.non_finite == 2
    assert found.different == 4  # a moved zero, -4 for -3, and the two that are no numbers
    assert found.error.sum_squares == 13.0
    assert found.error.sum_squared_errors == 2.0
    assert found.error.max_abs_error == 1.0
    assert found.worst_steps == 1.0


def test_the_scale_of_a_group_of_zeros_means_nothing() -> None:
    """Scales differ only where a code is not 0; per channel and per group."""
    codes = np.array([[0, 5, 1], [0, 5, 1], [0, 0, 1], [0, 0, 1]], np.int8)
    for granularity, scale in (
        (PerChannel((1,)), np.ones((1, 3), np.float32)),
        (PerGroup((1,), 0, 2), np.ones((2, 3), np.float32)),
    ):
        scheme = QuantScheme(8, granularity)
        left = QuantizedTensor(codes, scale, scheme)
        other = scale.copy()
        other[:, 0] = 7
        other[-1, 1] = 2
        other[0, 2] = 3
        found = deviation(left, QuantizedTensor(codes, other, scheme))
        # per channel: columns 1 and 2; per group: [1, 1] is a group of zeros, [0, 2] is not
        assert found.scales == (2 if granularity == PerChannel((1,)) else 1)
        assert found.first_scale == (1 if granularity == PerChannel((1,)) else 2)


def test_scalars() -> None:
    """A weight without axes is a weight of one value."""
    weight = np.float32(0.3).reshape(())
    scheme = QuantScheme(8, PerTensor())
    found = audit(weight, quantize(weight, scheme))
    assert found.levels == found.saturated == 1
