"""The change of a bias: found again bit for bit, and told from other changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphwq.quant.scheme import PerChannel, QuantizedTensor, QuantScheme
from graphwq.quant.shift import Shift, read_shift, shift_of, step_of

_SIZES = st.floats(1e-6, 1e6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), _SIZES, _SIZES, _SIZES)
def test_what_is_written_is_read(
    seed: int, count: int, bias: float, wanted: float, step: float
) -> None:
    """Whatever the sizes: applied to float32 and read back, it gives the same constant."""
    random = np.random.RandomState(seed)
    old = (bias * random.randn(count)).astype(np.float32)
    shift = shift_of(wanted * random.randn(count), step)
    assert shift is not None
    assert np.abs(shift.codes).max() <= 256
    new = shift.apply(old)
    assert new.dtype == np.float32
    found = read_shift(old, new, step)
    if new.tobytes() == old.tobytes():
        assert found is None
    else:
        assert found is not None
        assert found.apply(old).tobytes() == new.tobytes()


def test_the_value_is_the_one_that_was_wanted() -> None:
    """Within half a unit: the largest value on 128..256 units, by hand."""
    shift = shift_of(np.array([1.0, -0.5, 0.0, 0.001]), 0.75)
    assert shift is not None
    unit = 0.75 * 2.0**shift.exponent
    assert 128 <= 1.0 / unit <= 256
    assert list(shift.codes) == [round(1 / unit), -round(0.5 / unit), 0, round(0.001 / unit)]
    assert shift.values == pytest.approx([1.0, -0.5, 0.0, 0.001], abs=unit / 2)
    assert shift.largest == abs(shift.values[0])
    assert Shift(np.array([3, -4]), 0.5, 1).apply(np.array([1.0, 1.0])).tolist() == [4.0, -3.0]


def test_another_change_is_no_shift() -> None:
    """Random changes of biases, of one value or of all: hardly one passes."""
    random = np.random.RandomState(0)
    passed = 0
    for number in range(4000):
        old = random.randn(16).astype(np.float32)
        new = old.copy()
        if number % 2:
            new[number % 16] += np.float32(random.uniform(-1, 1))
        else:
            new += random.uniform(-1, 1, 16).astype(np.float32)
        passed += read_shift(old, new, float(random.uniform(0.1, 1))) is not None
    assert passed <= 4


@pytest.mark.parametrize(
    "wanted", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0], [], [5e-324, 0.0]]
)
def test_nothing_or_nonsense_is_no_shift(wanted: list) -> None:
    """Zeros, NaN, infinities, no value at all, what a unit cannot express."""
    assert shift_of(np.array(wanted), 1e-10) is None
    assert shift_of(np.ones(2), 0.0) is None
    assert shift_of(np.ones(2), math.inf) is None


def test_codes_have_a_limit() -> None:
    """Nine bits and a sign are one too many: 301 units of 2^-9 are no shift, 256 are."""
    old = np.zeros(2, np.float32)
    for code, found in ((301, False), (511, False), (256, True), (300, True)):
        new = np.array([code * 2.0**-9, 4 * 2.0**-9], np.float32)
        assert (read_shift(old, new, 1.0) is not None) is found


def test_other_shapes_and_types_are_no_shift() -> None:
    """Only constants of one dtype and shape are compared; equal ones were not changed."""
    old = np.ones(4, np.float32)
    for new in (np.ones(4), np.ones((2, 2), np.float32), old, old * np.float32("nan")):
        assert read_shift(old, new, 1.0) is None


def test_the_step_is_the_largest_value() -> None:
    """It comes from the values, so a scale of a channel of zeros does not matter."""
    codes = np.array([[7, 0], [-3, 0]], np.int8)
    scale = np.array([[0.5, 99.0]], np.float32)
    assert step_of(QuantizedTensor(codes, scale, QuantScheme(4, PerChannel((1,))))) == 3.5
