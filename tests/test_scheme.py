"""quant/scheme.py: schemes, granularities and quantized tensors as plain data."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import granularities, schemes

from graphwq.errors import InputError
from graphwq.quant.scheme import (
    PerChannel,
    PerGroup,
    PerTensor,
    QuantizedTensor,
    QuantScheme,
    check_num_bits,
    granularity_from_json,
    granularity_to_json,
    group_index,
    max_code,
)


@pytest.mark.parametrize(
    ("bits", "top"), [(2, 1), (3, 3), (4, 7), (5, 15), (6, 31), (7, 63), (8, 127)]
)
def test_the_largest_code_of_each_width(bits: int, top: int) -> None:
    """T = 2^(b-1) - 1."""
    assert max_code(bits) == top
    assert QuantScheme(bits).max_code == top


@pytest.mark.parametrize("bits", [2, 8, np.int64(4), np.uint8(3)])
def test_widths_that_are_allowed(bits: Any) -> None:
    """Whole numbers from 2 to 8, numpy's too."""
    check_num_bits(bits)
    assert QuantScheme(bits).num_bits == bits


@pytest.mark.parametrize("bits", [1, 9, 0, -8, 4.0, "4", None, True, np.float32(4), [4]])
def test_widths_that_are_not(bits: Any) -> None:
    """Everything else is refused with the value in the message."""
    with pytest.raises(InputError, match="bits must be a whole number from 2 to 8, not "):
        check_num_bits(bits)
    with pytest.raises(InputError):
        QuantScheme(bits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"symmetric": False}, "only symmetric"),
        ({"narrow_range": False}, "only symmetric, narrow-range"),
        ({"method": "magic"}, "there is no method 'magic'"),
        ({"scale_bits": 9}, "scale_bits must be .*, not 9"),
        ({"scale_bits": 17}, "scale_bits must be .*, not 17"),
        ({"scale_bits": 25}, "scale_bits must be .*, not 25"),
    ],
)
def test_schemes_that_do_not_exist(arguments: Any, message: str) -> None:
    """What is not implemented is refused at once, not when a weight is reached."""
    with pytest.raises(InputError, match=message):
        QuantScheme(**arguments)


def test_the_defaults() -> None:
    """Eight bits, one scale, symmetric, narrow, a float32 scale as it is."""
    scheme = QuantScheme()
    assert (scheme.num_bits, scheme.granularity) == (8, PerTensor())
    assert (scheme.symmetric, scheme.narrow_range, scheme.scale_bits) == (True, True, 24)


@given(schemes(4))
def test_schemes_are_values(scheme: QuantScheme) -> None:
    """Equal where all parts are, hashable, frozen."""
    twin = QuantScheme(scheme.num_bits, scheme.granularity, scale_bits=scheme.scale_bits)
    assert twin == scheme
    assert hash(twin) == hash(scheme)
    assert dataclasses.replace(scheme, num_bits=2 + (scheme.num_bits - 1) % 7) != scheme
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.num_bits = 3  # type: ignore[misc]


@given(st.integers(1, 5).flatmap(granularities))
def test_granularities_survive_json(granularity: Any) -> None:
    """Through text and back, the same granularity."""
    text = json.dumps(granularity_to_json(granularity))
    assert granularity_from_json(json.loads(text)) == granularity


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        "per_tensor",
        [],
        {},
        {"kind": "per_row"},
        {"kind": "per_channel"},
        {"kind": "per_channel", "axes": 3},
        {"kind": "per_channel", "axes": ["x"]},
        {"kind": "per_group", "axes": [1], "axis": 0},
        {"kind": "per_channel", "axes": [1.5]},
        {"kind": "per_channel", "axes": [True]},
        {"kind": "per_channel", "axes": [1, 1]},
        {"kind": "per_group", "axes": [1], "axis": None, "group_size": 2},
        {"kind": "per_group", "axes": [1], "axis": 0, "group_size": 0},
    ],
    ids=repr,
)
def test_json_that_is_no_granularity(data: Any) -> None:
    """A hand-edited plan with a mistake is an InputError that shows it."""
    with pytest.raises(InputError, match="not a (granularity|whole number)"):
        granularity_from_json(data)


@pytest.mark.parametrize(
    ("size", "group_size", "expected"),
    [
        (5, 2, [0, 0, 1, 1, 2]),
        (4, 2, [0, 0, 1, 1]),
        (3, 7, [0, 0, 0]),
        (3, 1, [0, 1, 2]),
        (0, 2, []),
    ],
)
def test_the_group_of_each_index(size: int, group_size: int, expected: Any) -> None:
    """Groups are runs of ``group_size`` indices; the last one may be shorter."""
    index = group_index(size, group_size)
    assert index.tolist() == expected
    assert index.dtype == np.int32


# --------------------------------------------------------------------------------- dequantizing


def _quantized(codes: Any, scale: Any, granularity: Any) -> QuantizedTensor:
    return QuantizedTensor(
        np.array(codes, np.int8), np.array(scale, np.float32), QuantScheme(8, granularity)
    )


def test_values_are_codes_times_scale() -> None:
    """One scale, and one per column."""
    codes = [[1, -2, 3], [0, 127, -127]]
    tensor = _quantized(codes, [[0.5]], PerTensor())
    assert tensor.dequantize().tolist() == [[0.5, -1, 1.5], [0, 63.5, -63.5]]
    channel = _quantized(codes, [[0.5, 2, 4]], PerChannel((1,)))
    assert channel.dequantize().tolist() == [[0.5, -4, 12], [0, 254, -508]]
    assert channel.dequantize().dtype == np.float32


def test_values_are_one_float32_product() -> None:
    """float32(code) * scale, rounded once: what every storage form computes."""
    scale = np.float32(0.1)
    values = _quantized([[3, 7, 127]], [[scale]], PerTensor()).dequantize()
    assert values.tolist() == [[float(np.float32(code) * scale) for code in (3, 7, 127)]]
    assert float(values[0, 0]) != 3 * float(scale)


def test_values_of_groups_with_an_odd_tail() -> None:
    """Axis 0 in groups of two: rows 0-1, 2-3 and 4 have scales of their own."""
    tensor = _quantized(np.ones((5, 2)), [[1, 2], [3, 4], [5, 6]], PerGroup((1,), 0, 2))
    assert tensor.dequantize().tolist() == [[1, 2], [1, 2], [3, 4], [3, 4], [5, 6]]


def test_values_of_groups_along_the_last_axis() -> None:
    """The grouped axis may come after the kept one."""
    tensor = _quantized(np.ones((2, 5)), [[1, 2, 3], [4, 5, 6]], PerGroup((0,), 1, 2))
    assert tensor.dequantize().tolist() == [[1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]


def test_a_scalar_has_a_value_too() -> None:
    """Rank 0: no axis to walk along."""
    assert _quantized(3, 0.5, PerTensor()).dequantize().tolist() == 1.5


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [
        (PerTensor(), (1, 1)),
        (PerChannel((0,)), (6, 1)),
        (PerChannel((1,)), (1, 4)),
        (PerGroup((1,), 0, 4), (2, 4)),
        (PerGroup((0,), 1, 3), (6, 2)),
    ],
    ids=repr,
)
def test_the_scale_of_some_rows(granularity: Any, shape: Any) -> None:
    """``scale_for`` gives what these rows of the weight are multiplied with."""
    rng = np.random.RandomState(0)
    tensor = _quantized(rng.randint(-127, 128, (6, 4)), rng.rand(*shape) + 0.5, granularity)
    whole = tensor.dequantize()
    for begin, end in [(0, 6), (0, 1), (2, 5), (5, 6)]:
        part = tensor.codes[begin:end].astype(np.float32) * tensor.scale_for(begin, end)
        assert part.tolist() == whole[begin:end].tolist()
