"""quant/scale.py: scales that the MNN converter derives again, and scales with few bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import OutOfRangeError, fl32, fl64, round_up, scale_of

from graphwq.quant.scale import absmax_scale, project_scale, round_up_mantissa
from graphwq.quant.scheme import max_code

BITS = range(2, 9)
TINY = np.finfo(np.float32).tiny
LARGEST = np.finfo(np.float32).max
#: Together some millions of random numbers over the seven widths.
_COUNT = 500_000


def _random_scales(seed: int, count: int = _COUNT) -> np.ndarray:
    """Positive float32 with random mantissas and exponents, all of them normal."""
    rng = np.random.RandomState(seed)
    bits = rng.randint(30 << 23, 240 << 23, count, dtype=np.int64)
    return bits.astype(np.uint32).view(np.float32)


def _significant_bits(values: np.ndarray) -> int:
    """The most bits of mantissa that any of the (normal) values needs."""
    fraction = values.view(np.uint32) & np.uint32(0x7FFFFF)
    low = np.bitwise_or.reduce(fraction) | np.uint32(0x800000)
    return 24 - int(low & -low.astype(np.int64)).bit_length() + 1


@pytest.mark.parametrize("bits", BITS)
def test_one_projection_gives_a_fixed_point(bits: int) -> None:
    """fl(fl(T*s)/T) == s for every projected scale: the MNN converter finds the scale again."""
    projected = project_scale(_random_scales(bits), bits)
    top = np.float32(max_code(bits))
    assert projected.dtype == np.float32
    assert np.array_equal((projected * top) / top, projected)


def test_not_every_scale_is_a_fixed_point() -> None:
    """The projection is needed: for T=3 about one random scale in seven moves."""
    scales = _random_scales(0)
    moved = np.count_nonzero(project_scale(scales, 3) != scales) / len(scales)
    assert 0.1 < moved < 0.2


@pytest.mark.parametrize("bits", BITS)
def test_the_projection_moves_a_scale_by_one_ulp_at_most(bits: int) -> None:
    """Projecting costs no accuracy."""
    scales = _random_scales(bits + 10, 100_000)
    moved = np.abs(project_scale(scales, bits).astype(np.float64) - scales)
    assert (moved <= np.spacing(scales)).all()


@pytest.mark.parametrize("bits", BITS)
def test_absmax_over_t_is_a_fixed_point_as_it_is(bits: int) -> None:
    """fl(absmax/T) of a float32 absmax is already one, so ``absmax_scale`` is exactly that."""
    absmax = _random_scales(bits + 20)
    top = np.float32(max_code(bits))
    scale = absmax_scale(absmax, bits)
    assert np.array_equal(scale, absmax / top)
    assert np.array_equal((scale * top) / top, scale)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scale_bits", [24, 16, 12])
def test_scales_of_double_weights_are_fixed_points(bits: int, scale_bits: int) -> None:
    """A double absmax is rounded on the way; the scale that comes out survives MNN all the same."""
    absmax = np.random.RandomState(bits).lognormal(0, 20, 200_000)
    scale = absmax_scale(absmax, bits, scale_bits)
    assert scale.dtype == np.float32
    assert np.array_equal(project_scale(scale, bits), scale)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scale_bits", [16, 10])
def test_sixteen_bits_make_every_product_exact(bits: int, scale_bits: int) -> None:
    """code * scale in float32 equals the real product for every code: no rounding anywhere."""
    scale = absmax_scale(_random_scales(bits + 30, 20_000), bits, scale_bits)
    for code in range(-max_code(bits), max_code(bits) + 1):
        product = np.float32(code) * scale
        assert np.array_equal(product.astype(np.float64), float(code) * scale.astype(np.float64))


@pytest.mark.parametrize("scale_bits", range(13, 17))
def test_scales_have_the_bits_that_were_asked_for(scale_bits: int) -> None:
    """No result has more significant bits than ``scale_bits``, the projection included."""
    for bits in BITS:
        scale = absmax_scale(_random_scales(bits + scale_bits, 50_000), bits, scale_bits)
        assert _significant_bits(scale) <= scale_bits, f"{bits} bits"


@pytest.mark.parametrize("scale_bits", [10, 12, 16])
def test_fewer_bits_round_up(scale_bits: int) -> None:
    """The scale never gets smaller, so no weight is clipped; and at most by its last bit larger."""
    full = absmax_scale(_random_scales(1, 100_000), 8)
    short = absmax_scale(_random_scales(1, 100_000), 8, scale_bits).astype(np.float64)
    assert (short >= full).all()
    assert (short <= full * (1 + 2.0 ** (1 - scale_bits))).all()


def test_rounding_up_by_hand() -> None:
    """1 + 2^-23 with 8 bits is 1 + 2^-7; what has few bits stays; a carry reaches the exponent."""
    values = np.array([1 + 2.0**-23, 1.5, 2 - 2.0**-23, 0.0], np.float32)
    assert round_up_mantissa(values, 8).tolist() == [1 + 2.0**-7, 1.5, 2.0, 0.0]


@given(st.floats(float(TINY), 2.0**126, width=32), st.integers(8, 23))
def test_rounding_up_is_the_smallest_short_number_above(value: float, bits: int) -> None:
    """Against exact fractions."""
    rounded = float(round_up_mantissa(np.array([value], np.float32), bits)[0])
    assert Fraction(rounded) == round_up(Fraction(value), bits)


# ---------------------------------------------------------------------------------------- edges


def test_a_group_of_zeros_gets_scale_one() -> None:
    """No division by zero, and all its codes are 0."""
    for dtype in (np.float32, np.float64):
        assert absmax_scale(np.zeros(2, dtype), 8).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bits", BITS)
def test_the_smallest_scale_is_a_normal_number(bits: int) -> None:
    """From absmax = T * 2^-126 on the scale is absmax / T, below it is 1."""
    limit = np.float32(TINY) * np.float32(max_code(bits))
    below = np.nextafter(limit, np.float32(0))
    assert absmax_scale(np.array([limit]), bits).tolist() == [float(TINY)]
    scale = float(absmax_scale(np.array([below]), bits)[0])
    assert scale == 1.0 or (bits > 2 and scale == float(TINY))
    assert absmax_scale(np.array([limit / 2]), bits).tolist() == [1.0]


def test_magnitudes_beyond_float32_are_not_finite() -> None:
    """Inf, or a double that no float32 scale can express, does not become a wrong scale."""
    with np.errstate(all="ignore"):
        assert np.isinf(absmax_scale(np.array([np.inf], np.float32), 8)).all()
        assert np.isinf(absmax_scale(np.array([1e300]), 8)).all()


@pytest.mark.parametrize("scale_bits", [24, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_does_not_become_a_scale(dtype: type, scale_bits: int) -> None:
    """A group that holds a NaN has no scale; 1 would turn it into zeros in silence."""
    all_ones = np.array([0x7FFFFFFF], np.uint32).view(np.float32).astype(dtype)
    for absmax in (np.array([np.nan], dtype), all_ones):
        with np.errstate(all="ignore"):
            assert not np.isfinite(absmax_scale(absmax, 8, scale_bits)).any()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scale_bits", [24, 16, 10])
def test_the_largest_floats(bits: int, scale_bits: int) -> None:
    """A finite scale has finite values at +-T; one that has not is not finite."""
    with np.errstate(all="ignore"):
        absmax = np.array([LARGEST, np.nextafter(LARGEST, np.float32(0)), LARGEST / 2])
        scale = absmax_scale(absmax.astype(np.float32), bits, scale_bits)
        values = scale * np.float32(max_code(bits))
    assert np.array_equal(np.isfinite(scale), np.isfinite(values))
    assert np.isfinite(scale[2])


@given(st.floats(0, float(LARGEST), width=32), st.integers(2, 8), st.sampled_from([24, 16, 12, 10]))
def test_the_scale_is_that_of_the_equation(absmax: float, bits: int, scale_bits: int) -> None:
    """Against exact fractions, over all positive floats."""
    try:
        expected = float(scale_of(Fraction(absmax), bits, fl32, scale_bits))
    except OutOfRangeError:
        expected = np.inf
    with np.errstate(all="ignore"):
        scale = absmax_scale(np.array([absmax], np.float32), bits, scale_bits)
    assert scale.tolist() == [expected]


@given(st.floats(0, 1e39), st.integers(2, 8), st.sampled_from([24, 16]))
def test_the_scale_of_a_double_is_that_of_the_equation(
    absmax: float, bits: int, scale_bits: int
) -> None:
    """Divided in double, then rounded to float32."""
    try:
        expected = float(scale_of(Fraction(absmax), bits, fl64, scale_bits))
    except OutOfRangeError:
        expected = np.inf
    with np.errstate(all="ignore"):
        scale = absmax_scale(np.array([absmax]), bits, scale_bits)
    assert scale.tolist() == [expected]


def test_any_shape() -> None:
    """The scale has the shape of the magnitudes."""
    absmax = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    scale = absmax_scale(absmax, 4)
    assert scale.shape == (1, 3, 2)
    assert scale.reshape(-1)[0] == 1.0
    assert np.array_equal(scale.reshape(-1)[1:], absmax.reshape(-1)[1:] / np.float32(7))
