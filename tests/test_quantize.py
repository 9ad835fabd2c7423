"""quant/quantize.py: a weight to codes and scales, case by case. The laws are in laws/."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import pytest
from builders import random_weight
from strategies import EDGES

from graphwq.errors import InputError, QuantizationError
from graphwq.quant.quantize import kept_axes, quantize, quantize_with_error, scale_shape
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantScheme

GRANULARITIES = [PerTensor(), PerChannel((1,)), PerGroup((1,), 0, 2)]


def test_by_hand() -> None:
    """Four bits, absmax 7: the scale is 1, halves go to the even code."""
    weight = np.array([7, 0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -7], np.float32)
    quantized = quantize(weight, QuantScheme(4))
    assert quantized.codes.tolist() == [7, 0, 2, 2, 0, -2, 0, -7]
    assert quantized.codes.dtype == np.int8
    assert quantized.scale.tolist() == [1.0]
    assert quantized.scale.dtype == np.float32
    assert quantized.zero_point == 0


def test_each_channel_by_hand() -> None:
    """Columns with absmax 7, 14 and 0."""
    weight = np.array([[7, 14, 0], [3, 3, 0], [-1, -14, 0]], np.float32)
    quantized = quantize(weight, QuantScheme(4, PerChannel((1,))))
    assert quantized.scale.tolist() == [[1, 2, 1]]
    assert quantized.codes.tolist() == [[7, 7, 0], [3, 2, 0], [-1, -7, 0]]


def test_each_group_by_hand() -> None:
    """Five rows in groups of two: the last group is one row."""
    weight = np.array([[7, 1], [1, 7], [14, 3], [2, 14], [21, 28]], np.float32)
    quantized = quantize(weight, QuantScheme(4, PerGroup((1,), 0, 2)))
    assert quantized.scale.tolist() == [[1, 1], [2, 2], [3, 4]]
    assert quantized.codes.tolist() == [[7, 1], [1, 7], [7, 2], [1, 7], [7, 7]]
    assert quantized.dequantize()[4].tolist() == [21, 28]


def test_groups_without_channels() -> None:
    """One scale per group over all other axes."""
    weight = np.array([[7, 1, 14], [1, 7, 2]], np.float32)
    quantized = quantize(weight, QuantScheme(4, PerGroup((), 1, 2)))
    assert quantized.scale.tolist() == [[1, 2]]
    assert quantized.codes.tolist() == [[7, 1, 7], [1, 7, 1]]


@pytest.mark.parametrize(
    ("granularity", "expected"),
    [
        (PerTensor(), (1, 1, 1, 1)),
        (PerChannel((3,)), (1, 1, 1, 6)),
        (PerChannel((2, 3)), (1, 1, 5, 6)),
        (PerChannel((3, 2)), (1, 1, 5, 6)),
        (PerChannel(()), (1, 1, 1, 1)),
        (PerGroup((3,), 2, 2), (1, 1, 3, 6)),
        (PerGroup((3,), 2, 5), (1, 1, 1, 6)),
        (PerGroup((3,), 2, 100), (1, 1, 1, 6)),
        (PerGroup((3,), 0, 1), (3, 1, 1, 6)),
        (PerGroup((), 3, 4), (1, 1, 1, 2)),
    ],
    ids=repr,
)
def test_the_shape_of_the_scale(granularity: Any, expected: Tuple[int, ...]) -> None:
    """Rank of the weight, 1 on reduced axes, the number of groups on the grouped one."""
    weight = random_weight((3, 4, 5, 6))
    assert scale_shape(weight.shape, granularity) == expected
    quantized = quantize(weight, QuantScheme(8, granularity))
    assert quantized.scale.shape == expected
    assert quantized.codes.shape == weight.shape
    assert (quantized.scale > 0).all()
    assert quantized.scheme == QuantScheme(8, granularity)


def test_kept_axes() -> None:
    """Sorted, within the rank; none per tensor."""
    assert kept_axes(PerTensor(), 3) == ()
    assert kept_axes(PerChannel((2, 0)), 3) == (0, 2)
    assert kept_axes(PerGroup((1,), 0, 2), 2) == (1,)


@pytest.mark.parametrize(
    "granularity",
    [
        PerChannel((2,)),
        PerChannel((-1,)),
        PerGroup((5,), 0, 2),
        PerGroup((1,), 2, 2),
        PerGroup((1,), -1, 2),
        PerGroup((1,), 1, 2),
        PerGroup((1,), 0, 0),
        PerGroup((1,), 0, -3),
    ],
    ids=repr,
)
def test_axes_that_do_not_fit(granularity: Any) -> None:
    """Axes beyond the rank, groups along a kept axis, groups of nothing: refused, not guessed."""
    with pytest.raises(QuantizationError, match="fit a weight of"):
        quantize(random_weight((4, 3)), QuantScheme(8, granularity))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scale_bits", [24, 16])
def test_weights_that_are_not_finite(
    bad: float, granularity: Any, dtype: Any, scale_bits: int
) -> None:
    """NaN or Inf anywhere is an error; it never becomes a code."""
    for place in [(0, 0), (2, 1), (4, 3)]:
        weight = random_weight((5, 4), 0, dtype)
        weight[place] = bad
        with pytest.raises(QuantizationError, match="NaN, Inf"), np.errstate(all="ignore"):
            quantize(weight, QuantScheme(8, granularity, scale_bits=scale_bits))


def test_the_message_counts_the_bad_channels() -> None:
    """How many channels are bad, of how many."""
    weight = random_weight((5, 4))
    weight[0, 1] = weight[2, 1] = weight[3, 3] = np.inf
    with pytest.raises(QuantizationError, match="in 2 of 4 of its channels"):
        quantize(weight, QuantScheme(8, PerChannel((1,))))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2, 2)])
@pytest.mark.parametrize("granularity", [PerTensor(), PerGroup((), 0, 2)], ids=repr)
def test_empty_weights(shape: Tuple[int, ...], granularity: Any) -> None:
    """There is nothing to quantize, and that is said."""
    with pytest.raises(QuantizationError, match="the weight is empty"):
        quantize(np.zeros(shape, np.float32), QuantScheme(8, granularity))


def test_doubles_beyond_float32() -> None:
    """A scale that float32 cannot express is an error."""
    with pytest.raises(QuantizationError, match="magnitudes beyond float32"), np.errstate(
        all="ignore"
    ):
        quantize(np.array([1e300, 1.0]), QuantScheme(8))


@pytest.mark.parametrize("name", sorted(EDGES))
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=repr)
@pytest.mark.parametrize("bits", [2, 8])
def test_edge_cases_have_finite_values(name: str, granularity: Any, bits: int) -> None:
    """Every named edge case gives codes in range and finite values, without a warning."""
    weight = EDGES[name]((5, 4), np.float32)
    with np.errstate(all="raise", under="ignore"):
        quantized = quantize(weight, QuantScheme(bits, granularity))
    assert np.abs(quantized.codes.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert np.isfinite(quantized.dequantize()).all()
    assert (quantized.scale >= np.finfo(np.float32).tiny).all()


def test_one_element() -> None:
    """The largest magnitude always gets the largest code."""
    for value in (3.0, -3.0, 1e-30, 1e30):
        quantized = quantize(np.array([[value]], np.float32), QuantScheme(3))
        assert quantized.codes.tolist() == [[3 if value > 0 else -3]]


def test_a_scalar() -> None:
    """Rank 0 is a weight like any other: codes, scale and value are of rank 0."""
    quantized = quantize(np.array(-2.5, np.float32), QuantScheme(4))
    assert quantized.codes.shape == quantized.scale.shape == ()
    assert quantized.codes.tolist() == -7
    assert quantized.dequantize().tolist() == pytest.approx(-2.5)


def test_values_too_small_for_a_scale() -> None:
    """A channel of subnormals becomes zeros, its neighbour is not touched by that."""
    weight = np.array([[1e-40, 1.0], [-1e-41, 0.5]], np.float32)
    quantized = quantize(weight, QuantScheme(8, PerChannel((1,))))
    assert quantized.codes.tolist() == [[0, 127], [0, 64]]
    assert quantized.scale[0, 0] == 1.0


def test_half_weights_are_computed_in_float32() -> None:
    """The same numbers as float16 and float32 give the same codes and scales."""
    half = random_weight((50, 7), 3, np.float16)
    for granularity in GRANULARITIES:
        scheme = QuantScheme(6, granularity)
        low, high = quantize(half, scheme), quantize(half.astype(np.float32), scheme)
        assert np.array_equal(low.codes, high.codes)
        assert np.array_equal(low.scale, high.scale)


@pytest.mark.parametrize("scale_bits", [*range(13, 17), 24])
@pytest.mark.parametrize("value", [65504.0, 65440.0, 0.9995])
def test_half_weights_do_not_grow(value: float, scale_bits: int) -> None:
    """A short scale is rounded up: what is stored as half must be the largest weight all the same.

    Otherwise it grows with every run (law 3), in the end to Inf. A scheme with a scale that is too
    short for that may be refused.
    """
    weight = np.array([value, value / 2], np.float16)
    try:
        scheme = QuantScheme(8, scale_bits=scale_bits)
    except InputError:
        return
    stored = quantize(weight, scheme).dequantize().astype(np.float16)
    assert stored[0] == weight[0]
    assert quantize(stored, scheme).dequantize().astype(np.float16).tolist() == stored.tolist()


def test_double_weights_are_computed_in_double() -> None:
    """A value just below a half step in double is not rounded up by way of float32."""
    weight = np.array([7.0, 2.5 - 1e-12, 2.5 + 1e-12, 3.5 - 1e-12])
    assert quantize(weight, QuantScheme(4)).codes.tolist() == [7, 2, 3, 3]


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=repr)
def test_the_layout_in_memory_does_not_matter(granularity: Any) -> None:
    """Transposed, strided, big-endian and read-only arrays are the same weights."""
    weight = random_weight((6, 4), 5)
    scheme = QuantScheme(5, granularity)
    expected = quantize(weight, scheme)
    wide = np.zeros((6, 8), np.float32)
    wide[:, ::2] = weight
    frozen = weight.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(weight), wide[:, ::2], weight.astype(">f4"), frozen):
        quantized = quantize(same, scheme)
        assert np.array_equal(quantized.codes, expected.codes)
        assert np.array_equal(quantized.scale, expected.scale)


def test_a_broadcast_array() -> None:
    """A constant that repeats one value in the file costs no special care."""
    weight = np.broadcast_to(np.float32(0.3), (5, 4))
    quantized = quantize(weight, QuantScheme(8))
    assert quantized.codes.tolist() == [[127] * 4] * 5


def test_the_weight_is_not_changed() -> None:
    """Arrays are values."""
    weight = random_weight((6, 4), 5)
    before = weight.copy()
    quantize(weight, QuantScheme(4, PerChannel((1,))))
    assert np.array_equal(weight, before)


def test_quantize_is_quantize_with_error_without_the_error() -> None:
    """One computation, two names."""
    weight = random_weight((6, 4), 5)
    for granularity in GRANULARITIES:
        scheme = QuantScheme(4, granularity)
        quantized, error = quantize_with_error(weight, scheme)
        assert np.array_equal(quantize(weight, scheme).codes, quantized.codes)
        assert error.max_abs_error > 0


def test_a_weight_of_several_blocks() -> None:
    """More elements than a block: codes and scale are those of the equation everywhere."""
    weight = random_weight((1100, 300), 6)
    quantized = quantize(weight, QuantScheme(8, PerChannel((1,))))
    scale = np.abs(weight).max(0) / np.float32(127)
    assert np.array_equal(quantized.scale[0], scale)
    assert np.array_equal(quantized.codes, np.rint(weight / scale).astype(np.int8))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel((1,))], ids=repr)
def test_codes_are_clipped_where_a_scale_is_too_small(
    dtype: Any, negative: bool, granularity: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single value of a single channel that would leave the grid ends on its edge.

    At half a step over the edge rounding goes to the even code, which is outside.
    """
    weight = np.ones((6, 3), dtype)
    weight[4, 1] = -7.5 if negative else 7.5
    monkeypatch.setattr(
        "graphwq.quant.quantize.absmax_scale",
        lambda absmax, bits, scale_bits: np.ones(absmax.shape, np.float32),
    )
    quantized, error = quantize_with_error(weight, QuantScheme(4, granularity))
    assert quantized.codes[4, 1] == (-7 if negative else 7)
    assert np.count_nonzero(quantized.codes == 1) == weight.size - 1
    assert error.max_abs_error == 0.5


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_a_double_whose_scale_rounds_down_is_not_clipped(bits: int) -> None:
    """The largest value lies above T * scale by less than half a step: its code is T."""
    top = 2 ** (bits - 1) - 1
    weight = np.array([top * (1 + 2.0**-26), -top * (1 + 2.0**-26), 0.5])
    quantized, error = quantize_with_error(weight, QuantScheme(bits))
    assert quantized.scale.tolist() == [1.0]
    assert quantized.codes.tolist() == [top, -top, 0]
    assert error.max_abs_error == 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("magnitude", [3e-12, 1e-6, 1.0, 3e4])
def test_the_largest_error_is_exact(dtype: Any, magnitude: float) -> None:
    """Not a rounded root of a rounded square: |stored - w| in the arithmetic of the error."""
    if dtype is np.float16 and magnitude < 1e-3:
        pytest.skip("half has hardly any such values")
    weight = (random_weight((300, 40), 9) * magnitude).astype(dtype)
    quantized, error = quantize_with_error(weight, QuantScheme(8, PerChannel((1,))))
    stored = (quantized.codes.astype(np.float32) * quantized.scale).astype(dtype)
    work = np.float64 if dtype is np.float64 else np.float32
    assert error.max_abs_error == float(np.abs(stored.astype(work) - weight.astype(work)).max()) > 0


def test_the_largest_error_is_exact_where_its_square_underflows() -> None:
    """One channel has no error, the other one of 1e-21, whose square has lost its digits."""
    weight = random_weight((300, 2), 9) * np.float32(1e-18)
    weight[:, 0] = np.float32(2e-12)
    quantized, error = quantize_with_error(weight, QuantScheme(8, PerChannel((1,))))
    exact = float(np.abs(quantized.codes.astype(np.float32) * quantized.scale - weight).max())
    assert 0 < exact < 1e-19
    assert error.max_abs_error == exact != float(np.sqrt(np.square(np.float32(exact))))
