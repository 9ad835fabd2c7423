"""Laws 5 and 6: what every quantized weight keeps, and equality with a slow reference.

Each test states one property for all weights and schemes; the edge cases by name are in
``strategies.EDGES``.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Optional, Tuple
from unittest import mock

import numpy as np
import pytest
import reference
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import EDGES, FLOATS, SCALE_BITS, gaussian, shapes, weights, weights_and_schemes

from graphwq.errors import QuantizationError
from graphwq.quant import blocks
from graphwq.quant.quantize import kept_axes, quantize, quantize_with_error
from graphwq.quant.scheme import (
    PerChannel,
    PerGroup,
    PerTensor,
    QuantizedTensor,
    QuantScheme,
    max_code,
)

Pair = Tuple[np.ndarray, QuantScheme]


def _quantized(weight: np.ndarray, scheme: QuantScheme) -> QuantizedTensor:
    """Quantize; a magnitude whose scale overflows float32 is not what the laws speak of."""
    try:
        with np.errstate(all="ignore"):
            return quantize(weight, scheme)
    except QuantizationError:
        assume(False)
        raise


def _scales(quantized: QuantizedTensor) -> np.ndarray:
    """The scale of every single weight."""
    rows = quantized.scale_for(0, quantized.codes.shape[0])
    return np.broadcast_to(rows, quantized.codes.shape)


# ---------------------------------------------------------------------------------------- law 6


def _reference(weight: np.ndarray, scheme: QuantScheme) -> reference.Reference:
    granularity = scheme.granularity
    axes = () if isinstance(granularity, PerTensor) else granularity.axes
    grouped = isinstance(granularity, PerGroup)
    group_axis: Optional[int] = granularity.axis if grouped else None  # type: ignore[union-attr]
    group_size = granularity.group_size if grouped else 1  # type: ignore[union-attr]
    return reference.quantize(
        weight, scheme.num_bits, axes, group_axis, group_size, scheme.scale_bits
    )


def _scale_index(key: Tuple[int, ...], scheme: QuantScheme, rank: int) -> Tuple[int, ...]:
    """Where the scale of the reference's group ``key`` stands in the scale array."""
    index = [0] * rank
    for axis, place in zip(kept_axes(scheme.granularity, rank), key):
        index[axis] = place
    if isinstance(scheme.granularity, PerGroup):
        index[scheme.granularity.axis] = key[-1]
    return tuple(index)


def _compare(weight: np.ndarray, scheme: QuantScheme) -> None:
    """Bit for bit; on failure the worst group is shown."""
    try:
        expected = _reference(weight, scheme)
    except reference.OutOfRangeError:
        with np.errstate(all="ignore"), pytest.raises(QuantizationError):
            quantize(weight, scheme)
        return
    with np.errstate(all="ignore"):
        actual = quantize(weight, scheme)
    values = actual.dequantize()
    worst = ""
    most = 0.0
    assert actual.scale.size == len(expected.scales)
    for key, scale in expected.scales.items():
        index = _scale_index(key, scheme, weight.ndim)
        found = actual.scale[index]
        members = _scale_members(weight.shape, scheme, index)
        codes = (actual.codes[members], expected.codes[members])
        same = (
            Fraction(float(found)) == scale
            and np.array_equal(*codes)
            and values[members].tobytes() == (expected.values[members] + 0.0).tobytes()
        )
        off = 1.0 + float(np.abs(codes[0].astype(int) - codes[1]).max())
        if not same and off > most:
            most = off
            worst = (
                f"{scheme}, {weight.dtype} {list(weight.shape)}, worst group {key}:\n"
                f"  weights   {weight[members].tolist()}\n"
                f"  codes     {codes[0].tolist()}\n"
                f"  reference {codes[1].tolist()}\n"
                f"  scale     {float(found)!r}, reference {float(scale)!r}"
            )
    assert not worst, worst


def _scale_members(
    shape: Tuple[int, ...], scheme: QuantScheme, index: Tuple[int, ...]
) -> Tuple[Any, ...]:
    """The slice of the weight that shares the scale at ``index``."""
    kept = kept_axes(scheme.granularity, len(shape))
    members = [slice(index[axis], index[axis] + 1) if axis in kept else slice(None)
               for axis in range(len(shape))]  # fmt: skip
    if isinstance(scheme.granularity, PerGroup):
        size, place = scheme.granularity.group_size, index[scheme.granularity.axis]
        members[scheme.granularity.axis] = slice(place * size, (place + 1) * size)
    return tuple(members)


@given(weights_and_schemes(scale_bits=SCALE_BITS))
def test_equals_the_reference(pair: Pair) -> None:
    """Law 6: codes, scales and values are those of exact fractions, bit for bit."""
    _compare(*pair)


@pytest.mark.parametrize("name", sorted(EDGES))
@pytest.mark.parametrize("dtype", FLOATS)
def test_edge_cases_equal_the_reference(name: str, dtype: Any) -> None:
    """Law 6 for every edge case by name, every width and every granularity."""
    weight = EDGES[name]((5, 3), dtype)
    for bits in range(2, 9):
        for granularity in (
            PerTensor(),
            PerChannel((1,)),
            PerChannel((0, 1)),
            PerGroup((1,), 0, 2),
        ):
            for scale_bits in (24, 16):
                _compare(weight, QuantScheme(bits, granularity, scale_bits=scale_bits))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("dtype", FLOATS)
def test_many_weights_equal_the_reference(bits: int, dtype: Any) -> None:
    """Law 6 for a thousand Gaussian weights per width and type."""
    _compare(gaussian((8, 5, 25), dtype, bits), QuantScheme(bits, PerChannel((1,))))


@given(weights_and_schemes(max_side=12), st.integers(1, 40))
def test_the_block_size_does_not_matter(pair: Pair, elements: int) -> None:
    """The pieces in which an array is walked have no influence on codes, scale and the maximum."""
    weight, scheme = pair
    whole = _quantized(weight, scheme)
    error = quantize_with_error(weight, scheme)[1]
    with mock.patch.object(blocks, "BLOCK_ELEMENTS", elements):
        pieces, error_of_pieces = quantize_with_error(weight, scheme)
    assert np.array_equal(pieces.codes, whole.codes)
    assert np.array_equal(pieces.scale, whole.scale)
    assert error_of_pieces.max_abs_error == error.max_abs_error
    assert error_of_pieces.sum_squared_errors == pytest.approx(
        error.sum_squared_errors, rel=1e-4, abs=0
    )
    assert error_of_pieces.sum_squares == pytest.approx(error.sum_squares, rel=1e-4, abs=0)


# ---------------------------------------------------------------------------------------- law 5


@given(weights_and_schemes(scale_bits=SCALE_BITS))
def test_codes_are_in_range(pair: Pair) -> None:
    """-T..T, never -T-1; scales are positive normal float32."""
    weight, scheme = pair
    quantized = _quantized(weight, scheme)
    assert np.abs(quantized.codes.astype(int)).max() <= max_code(scheme.num_bits)
    assert quantized.codes.dtype == np.int8
    assert quantized.scale.dtype == np.float32
    assert (quantized.scale >= np.finfo(np.float32).tiny).all()
    assert np.isfinite(quantized.dequantize()).all()


@given(weights_and_schemes(scale_bits=SCALE_BITS))
def test_no_value_moves_by_more_than_half_a_step(pair: Pair) -> None:
    """Law 5: |w - w'| <= scale/2, but for the last bit of the larger of the two (float32)."""
    weight, scheme = pair
    quantized = _quantized(weight, scheme)
    wide, value = weight.astype(np.float64), quantized.dequantize().astype(np.float64)
    ulp = np.spacing(np.maximum(np.abs(wide), np.abs(value)).astype(np.float32))
    assert (np.abs(wide - value) <= _scales(quantized).astype(np.float64) / 2 + ulp).all()


@given(weights_and_schemes())
def test_zeros_stay_zero(pair: Pair) -> None:
    """Law 5: a pruned model keeps its sparsity; 0.0 and -0.0 become code 0 and value 0."""
    weight, scheme = pair
    weight = weight.copy()
    weight.reshape(-1)[::2] = 0.0
    weight.reshape(-1)[::4] = -0.0
    quantized = _quantized(weight, scheme)
    zero = weight == 0
    assert (quantized.codes[zero] == 0).all()
    assert (quantized.dequantize()[zero] == 0).all()


@given(weights_and_schemes())
def test_quantizing_the_values_again_changes_nothing(pair: Pair) -> None:
    """Law 3 on arrays: same codes, same scale, so the same values, forever."""
    weight, scheme = pair
    once = _quantized(weight, scheme)
    twice = quantize(once.dequantize(), scheme)
    assert np.array_equal(twice.codes, once.codes)
    assert np.array_equal(twice.scale, once.scale)
    assert twice.dequantize().tobytes() == once.dequantize().tobytes()


@given(weights_and_schemes(scale_bits=SCALE_BITS))
def test_quantizing_what_is_stored_again_changes_nothing(pair: Pair) -> None:
    """Law 3 for ``bake``: values in the weight's own dtype (half, double) are a fixed point."""
    weight, scheme = pair
    once = _quantized(weight, scheme)
    with np.errstate(over="ignore"):
        stored = once.dequantize().astype(weight.dtype)
    twice = _quantized(stored, scheme)
    assert np.array_equal(twice.codes, once.codes)
    assert twice.dequantize().astype(weight.dtype).tobytes() == stored.tobytes()


@given(weights_and_schemes(scale_bits=SCALE_BITS))
def test_the_largest_code_is_used(pair: Pair) -> None:
    """Each group has a code +-T, or nothing but zeros: MNN derives the scale from it."""
    weight, scheme = pair
    quantized = _quantized(weight, scheme)
    for index in np.ndindex(*quantized.scale.shape):
        group = quantized.codes[_scale_members(weight.shape, scheme, index)].astype(int)
        assert np.abs(group).max() in (0, max_code(scheme.num_bits))
        if not group.any():
            assert quantized.scale[index] == 1.0


@given(weights_and_schemes())
def test_larger_weights_have_larger_codes(pair: Pair) -> None:
    """Monotone: within a group the order of the weights is kept."""
    weight, scheme = pair
    quantized = _quantized(weight, scheme)
    for index in np.ndindex(*quantized.scale.shape):
        members = _scale_members(weight.shape, scheme, index)
        order = np.argsort(weight[members].reshape(-1), kind="stable")
        assert (np.diff(quantized.codes[members].reshape(-1)[order].astype(int)) >= 0).all()


@given(weights_and_schemes())
def test_the_grid_is_symmetric(pair: Pair) -> None:
    """Quantizing -w gives the opposite codes and the same scale."""
    weight, scheme = pair
    positive, negative = _quantized(weight, scheme), _quantized(-weight, scheme)
    assert np.array_equal(negative.codes, -positive.codes)
    assert np.array_equal(negative.scale, positive.scale)


@given(weights_and_schemes(dtypes=(np.float32, np.float64), edges=False), st.integers(-40, 40))
def test_scaling_by_a_power_of_two_scales_the_scale(pair: Pair, power: int) -> None:
    """w * 2^k: the same codes, scale * 2^k."""
    weight, scheme = pair
    factor = weight.dtype.type(2.0**power)
    plain, scaled = _quantized(weight, scheme), _quantized(weight * factor, scheme)
    assert np.array_equal(scaled.codes, plain.codes)
    nonzero = [
        bool(plain.codes[_scale_members(weight.shape, scheme, index)].any())
        for index in np.ndindex(*plain.scale.shape)
    ]
    expected = np.where(nonzero, plain.scale.reshape(-1) * np.float32(factor), np.float32(1))
    assert np.array_equal(scaled.scale.reshape(-1), expected)


# ------------------------------------------------------------------------ between granularities


@given(weights_and_schemes())
def test_every_group_is_quantized_as_if_it_were_alone(pair: Pair) -> None:
    """Per channel and per group equal per tensor on each slice: no scale leaks to a neighbour."""
    weight, scheme = pair
    quantized = _quantized(weight, scheme)
    alone = QuantScheme(scheme.num_bits, PerTensor(), scale_bits=scheme.scale_bits)
    for index in np.ndindex(*quantized.scale.shape):
        members = _scale_members(weight.shape, scheme, index)
        single = quantize(weight[members], alone)
        assert np.array_equal(single.codes, quantized.codes[members])
        assert single.scale.reshape(()) == quantized.scale[index]


@given(weights(), st.integers(2, 8), st.integers(0, 3), st.integers(0, 2**31 - 1))
def test_permuting_channels_permutes(weight: np.ndarray, bits: int, axis: int, seed: int) -> None:
    """The order of the channels has no influence on any of them."""
    axis %= weight.ndim
    scheme = QuantScheme(bits, PerChannel((axis,)))
    order = np.random.RandomState(seed).permutation(weight.shape[axis])
    quantized = _quantized(weight, scheme)
    permuted = quantize(np.take(weight, order, axis), scheme)
    assert np.array_equal(permuted.codes, np.take(quantized.codes, order, axis))
    assert np.array_equal(permuted.scale, np.take(quantized.scale, order, axis))


@given(weights(max_rank=4), st.integers(2, 8), st.integers(0, 15), st.permutations(range(4)))
def test_transposing_transposes(weight: np.ndarray, bits: int, mask: int, order: Any) -> None:
    """The layout of the weight has no influence either: the axes may stand in any order."""
    order = [axis for axis in order if axis < weight.ndim]
    axes = tuple(axis for axis in range(weight.ndim) if mask >> axis & 1)
    moved = tuple(order.index(axis) for axis in axes)
    quantized = _quantized(weight, QuantScheme(bits, PerChannel(axes)))
    transposed = quantize(weight.transpose(order), QuantScheme(bits, PerChannel(moved)))
    assert np.array_equal(transposed.codes, quantized.codes.transpose(order))
    assert np.array_equal(transposed.scale, quantized.scale.transpose(order))


@given(weights(), st.integers(2, 8))
def test_special_cases_of_granularities(weight: np.ndarray, bits: int) -> None:
    """No kept axes, and groups of the whole axis, are per tensor; groups of one are per channel."""
    tensor = _quantized(weight, QuantScheme(bits, PerTensor()))
    size = weight.shape[0]
    for same in (PerChannel(()), PerGroup((), 0, size), PerGroup((), 0, size + 3)):
        other = quantize(weight, QuantScheme(bits, same))
        assert np.array_equal(other.codes, tensor.codes)
        assert np.array_equal(other.scale, tensor.scale)
    channel = quantize(weight, QuantScheme(bits, PerChannel((0,))))
    single = quantize(weight, QuantScheme(bits, PerGroup((), 0, 1)))
    assert np.array_equal(channel.codes, single.codes)
    assert np.array_equal(channel.scale, single.scale)


@given(shapes(4, 6), st.integers(2, 8), st.integers(0, 2**31 - 1))
def test_more_bits_are_never_much_worse(shape: Tuple[int, ...], bits: int, seed: int) -> None:
    """Eight bits beat any width on the largest error, and the bound shrinks with every bit."""
    weight = gaussian(shape, np.float32, seed)
    _, error = quantize_with_error(weight, QuantScheme(bits))
    bound = float(np.abs(weight).max()) / max_code(bits) / 2
    assert error.max_abs_error <= bound * (1 + 1e-5)
