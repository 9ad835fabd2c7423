"""quant/grid.py: is a float array already on a grid, of how many bits, along which axes?"""

from __future__ import annotations

from typing import Any, Tuple
from unittest import mock

import numpy as np
import pytest
from builders import random_weight

from graphwq.quant import blocks
from graphwq.quant.grid import Grid, detect, may_be_on_grid
from graphwq.quant.quantize import quantize
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantScheme

WIDTHS = range(2, 9)


def _baked(
    shape: Tuple[int, ...], bits: int, axes: Tuple[int, ...], seed: int = 0, scale_bits: int = 24
) -> np.ndarray:
    granularity = PerChannel(axes) if axes else PerTensor()
    scheme = QuantScheme(bits, granularity, scale_bits=scale_bits)
    return quantize(random_weight(shape, seed), scheme).dequantize()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 32), ()),
        ((64, 32), (1,)),
        ((64, 32), (0,)),
        ((3, 3, 16, 8), (3,)),
        ((3, 3, 16, 8), ()),
        ((3, 3, 16, 4), (2, 3)),
        ((4, 5, 6, 7), (1,)),
        ((1, 1, 64, 16), (3,)),
        ((1000,), ()),
    ],
)
@pytest.mark.parametrize("scale_bits", [24, 16])
def test_baked_weights_are_found(
    shape: Tuple[int, ...], axes: Tuple[int, ...], bits: int, scale_bits: int
) -> None:
    """Width and axes of what ``bake`` writes, exact to the bit; a coarser grid comes first."""
    weight = _baked(shape, bits, axes, bits, scale_bits)
    assert detect(weight, [axes]) == Grid(bits, axes, True)


@pytest.mark.parametrize("bits", WIDTHS)
def test_one_scale_is_found_although_channels_are_asked_for(bits: int) -> None:
    """A per-tensor grid is one for every channel too; the coarser answer is given."""
    assert detect(_baked((64, 32), bits, ()), [(1,), (0,)]) == Grid(bits, (), True)


def test_axes_are_tried_in_order() -> None:
    """The first of the asked axes that fits is named; those that do not fit are passed by."""
    weight = _baked((64, 32), 4, (1,))
    assert detect(weight, [(0,), (1,)]) == Grid(4, (1,), True)
    assert detect(weight, [(0, 1), (1,)]) == Grid(4, (1,), True)
    assert detect(weight, [(0,)]) is None
    assert detect(weight, []) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_gaussian_weights_are_on_no_grid(dtype: Any, seed: int) -> None:
    """Float weights are not taken for quantized ones, whatever the shape and axes."""
    for shape, axes in [
        ((64, 32), (1,)),
        ((3, 3, 4, 8), (3,)),
        ((9, 50), (1,)),
        ((3, 300), (1,)),
        ((2, 500), (1,)),
        ((1000,), (0,)),
        ((5, 5, 1, 6), (2, 3)),
    ]:
        weight = random_weight(shape, seed, dtype)
        assert detect(weight, [axes, (0,)]) is None, (shape, axes)


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_more_than_eight_bits_are_no_grid(bits: int) -> None:
    """A grid of 9 bits and more is not one of ours."""
    top = (1 << (bits - 1)) - 1
    codes = np.random.RandomState(bits).randint(-top, top + 1, (200, 20))
    codes[0] = top
    assert detect((codes * 0.01).astype(np.float32), [(1,)]) is None


@pytest.mark.parametrize(
    "values",
    [
        [],
        [0.5],
        [0.5, 0.25],
        [0.1, 0.2, 0.3],
        [1.0, -1.0],
        [0.0, 0.0],
        [0.013, 0.7],
        [1.0, 2.0, 3.0, 4.0],
    ],
    ids=repr,
)
def test_tiny_arrays_prove_nothing(values: Any) -> None:
    """A few numbers fit some grid or other; that is no evidence."""
    weight = np.array(values, np.float32)
    assert detect(weight, [(0,)]) is None
    assert detect(weight.reshape(-1, 1), [(0,), (1,)]) is None


def test_zeros_are_no_grid() -> None:
    """An array of zeros was not quantized by anybody."""
    assert detect(np.zeros((64, 32), np.float32), [(1,)]) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(bad: float) -> None:
    """NaN and Inf are on no grid, and asking is no error."""
    weight = _baked((64, 32), 4, ())
    weight[3, 4] = bad
    assert detect(weight, [(1,)]) is None


def test_one_value_off_the_grid() -> None:
    """A single value between two steps is enough to say no, wherever it stands."""
    for place in [(0, 0), (63, 31), (40, 17), (200, 3), (299, 31)]:
        weight = _baked((300, 32), 4, (1,))
        scale = np.abs(weight).max(0)[place[1]] / 7
        weight[place] = np.float32((2**0.5 - 1) * scale)
        assert detect(weight, [(1,)]) is None


def test_one_channel_off_the_grid() -> None:
    """Also where the channel is none of the few that are looked at first."""
    for channel in range(32):
        weight = _baked((64, 32), 5, (1,))
        weight[:, channel] = random_weight((64,), channel)
        assert detect(weight, [(1,)]) is None


def test_values_that_are_nearly_on_the_grid() -> None:
    """Other roundings of the product (codes / inverse scale) are a grid that is not exact."""
    codes = np.random.RandomState(0).randint(-7, 8, (64, 32)).astype(np.float32)
    codes[0] = 7
    weight = codes / np.float32(30.7)
    found = detect(weight, [(1,)])
    assert found is not None
    assert (found.num_bits, found.axes) == (4, ())
    again = quantize(weight, QuantScheme(4)).dequantize()
    assert found.exact == bool(np.array_equal(again, weight))


def test_a_grid_whose_largest_code_is_not_used() -> None:
    """Codes up to 5 need four bits, although 7 does not occur."""
    codes = np.random.RandomState(0).randint(-5, 6, (100, 20)).astype(np.float32)
    found = detect(codes * np.float32(0.125), [])
    assert found == Grid(4, (), True)


def test_channels_of_zeros_among_others() -> None:
    """Pruned channels fit the grid of the rest."""
    weight = _baked((64, 32), 4, (1,))
    weight[:, 5] = 0
    weight[:, 0] = 0
    assert detect(weight, [(1,)]) == Grid(4, (1,), True)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype: Any) -> None:
    """Exactly representable grids are found in half and double weights as well."""
    codes = np.random.RandomState(0).randint(-7, 8, (64, 32))
    codes[0] = 7
    assert detect((codes * 0.25).astype(dtype), [(1,)]) == Grid(4, (), True)


def test_a_baked_double_weight_is_exact() -> None:
    """The float32 values of a grid, stored as double, are still these values."""
    weight = _baked((64, 32), 8, (1,)).astype(np.float64)
    assert detect(weight, [(1,)]) == Grid(8, (1,), True)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(("low", "high"), [(-0.3137, 0.7071), (0.5113, 0.9377), (-3.0713, -1.1391)])
def test_affine_grids(bits: int, low: float, high: float) -> None:
    """min + k * step, as the Graph Transform Tool's ``round_weights`` leaves it."""
    steps = (1 << bits) - 1
    codes = np.random.RandomState(bits).randint(0, steps + 1, (64, 32))
    codes[0, 0], codes[0, 1], codes[0, 2] = 0, 1, steps
    weight = (low + codes * ((high - low) / steps)).astype(np.float32)
    assert detect(weight, [(1,)]) == Grid(bits, (), exact=False, symmetric=False)


def test_one_value_off_an_affine_grid() -> None:
    """A value between two steps makes it no grid."""
    codes = np.random.RandomState(0).randint(0, 256, (64, 32))
    weight = (-0.3137 + codes * 0.004).astype(np.float32)
    assert detect(weight, []) is not None
    weight[50, 3] += np.float32(0.0013)
    assert detect(weight, []) is None


def test_grids_do_not_depend_on_the_block_size() -> None:
    """Found and not found alike, whatever the pieces the array is walked in."""
    baked = _baked((64, 32), 5, (1,))
    off = baked.copy()
    off[63, 31] = np.float32(np.abs(off[:, 31]).max() * 0.0707)
    for elements in (1, 7, 100, 1 << 20):
        with mock.patch.object(blocks, "BLOCK_ELEMENTS", elements):
            assert detect(baked, [(1,)]) == Grid(5, (1,), True)
            assert detect(off, [(1,)]) is None


def test_grids_as_json() -> None:
    """Plain data."""
    assert Grid(4, (2, 3), False).to_json() == {
        "num_bits": 4,
        "axes": [2, 3],
        "exact": False,
        "symmetric": True,
    }


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize(
    ("shape", "axes"), [((64, 32), ()), ((64, 32), (1,)), ((3, 3, 16, 8), (3,))]
)
def test_the_quick_look_misses_no_grid(
    bits: int, shape: Tuple[int, ...], axes: Tuple[int, ...]
) -> None:
    """What was put on a grid is never turned away, with few values and with groups too."""
    last = (len(shape) - 1,)
    assert may_be_on_grid(_baked(shape, bits, axes), [last])
    assert may_be_on_grid(_baked((2, 2), bits, ()), [(1,)])
    grouped = quantize(random_weight((256, 8)), QuantScheme(bits, PerGroup((1,), 0, 32)))
    assert may_be_on_grid(grouped.dequantize(), [(1,)])


def test_the_quick_look_turns_floats_away() -> None:
    """Trained weights lie on no grid; nor do NaN and nothing."""
    for seed in range(50):
        assert not may_be_on_grid(random_weight((3, 3, 8, 16), seed), [(3,), (2, 3)])
    assert not may_be_on_grid(np.full((4, 4), np.nan, np.float32), [(1,)])
    assert not may_be_on_grid(np.zeros((0, 4), np.float32), [(1,)])
