"""The exact scale against a search over many scales, and what MNN asks of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_methods import best_scale_by_search, rounded_error

from graphwq.quant.mse import best_scale, mse_scales
from graphwq.quant.scale import project_scale
from graphwq.quant.scheme import max_code
from graphwq.quant.snap import largest_scale


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 20), power=st.floats(1, 6))
def test_no_scale_of_a_fine_grid_is_better(bits: int, seed: int, size: int, power: float) -> None:
    """The scale is a global minimum: none of 400 others has less error, heavy tails included."""
    random = np.random.RandomState(seed)
    values = np.sign(random.randn(size)) * np.abs(random.randn(size)) ** power
    top = max_code(bits)
    limit = float(largest_scale(np.abs(values).max(keepdims=True), bits)[0])
    found = rounded_error(values, best_scale(values, bits), top)
    assert found <= best_scale_by_search(values, top, limit, 400) * (1 + 1e-9) + 1e-30


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_largest_value_has_the_largest_code(bits: int) -> None:
    """MNN derives the scale from the largest value: its code must be T, its scale a fixed point."""
    random = np.random.RandomState(bits)
    groups = (random.standard_t(2, (200, 50)) * 10.0 ** random.uniform(-20, 20, (200, 1))).astype(
        np.float32
    )
    scale = mse_scales(groups, bits)
    codes = np.clip(np.rint(groups / scale[:, None]), -max_code(bits), max_code(bits))
    assert (np.abs(codes).max(1) == max_code(bits)).all()
    assert np.array_equal(project_scale(scale, bits), scale)


@pytest.mark.parametrize("scale_bits", [13, 16])
def test_short_scales(scale_bits: int) -> None:
    """With few significant bits the scale has them, and the largest code stays T."""
    groups = np.random.RandomState(1).standard_t(3, (300, 40)).astype(np.float32)
    for bits in (2, 4, 8):
        scale = mse_scales(groups, bits, scale_bits)
        assert not (scale.view(np.uint32) & ((1 << (24 - scale_bits)) - 1)).any()
        codes = np.rint(groups / scale[:, None])
        assert (np.abs(codes).max(1) >= max_code(bits)).all()


def test_zeros_and_tiny_groups_have_scale_one() -> None:
    """A group that no normal float32 scale can express keeps code 0 under scale 1."""
    groups = np.array([[0, 0], [1e-44, -1e-44]], np.float32)
    assert (mse_scales(groups, 4) == 1).all()


def test_three_levels_for_a_normal_source() -> None:
    """Max (1960): the best three levels for normal values leave a distortion of 0.19, 7.2 dB."""
    groups = np.random.RandomState(0).randn(64, 576)
    scale = mse_scales(groups, 2)[:, None]
    error = np.square(groups - scale * np.clip(np.rint(groups / scale), -1, 1)).sum()
    assert 10 * np.log10(np.square(groups).sum() / error) == pytest.approx(7.2, abs=0.05)
