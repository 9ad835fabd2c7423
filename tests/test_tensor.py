"""graphdef/tensor.py: every way in which a TensorProto can hold its values."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import UNKNOWN_FIELDS, shapes

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.protos import TensorProto, TensorShapeProto
from graphwq.graphdef.tensor import (
    Tensor,
    encode_header,
    encode_shape,
    parse_shape,
    parse_tensor,
)
from graphwq.graphdef.wire import WireError


def _proto(dtype: int, shape: Sequence[int], **lists: Any) -> TensorProto:
    proto = TensorProto(dtype=dtype)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    for name, values in lists.items():
        if name == "tensor_content":
            proto.tensor_content = values
        else:
            getattr(proto, name).extend(values)
    return proto


def _tensor(dtype: int, shape: Sequence[int], **lists: Any) -> Tensor:
    return parse_tensor(memoryview(_proto(dtype, shape, **lists).SerializeToString()))


def _bits(values: np.ndarray) -> List[int]:
    return [int(value) for value in values.view(np.uint16)]


_HALVES = np.array([1.5, -0.0, 6e-8, 65504.0], np.float16)
_INT_TYPES = (
    dtypes.DT_INT8,
    dtypes.DT_UINT8,
    dtypes.DT_INT16,
    dtypes.DT_UINT16,
    dtypes.DT_INT32,
    dtypes.DT_QINT8,
    dtypes.DT_QUINT8,
    dtypes.DT_QINT16,
    dtypes.DT_QUINT16,
    dtypes.DT_QINT32,
)

#: dtype, the list field, what the list holds, what the array must hold
_LISTS: List[Tuple[int, str, List[Any], np.ndarray]] = [
    (dtypes.DT_FLOAT, "float_val", [1.5, -0.0, 1e-45], np.array([1.5, -0.0, 1e-45], "f4")),
    (dtypes.DT_DOUBLE, "double_val", [0.1, -1e300], np.array([0.1, -1e300], "f8")),
    (dtypes.DT_HALF, "half_val", _bits(_HALVES), _HALVES),
    (dtypes.DT_BFLOAT16, "half_val", [0x3F80, 0x8000], np.array([0x3F80, 0x8000], "u2")),
    (dtypes.DT_INT64, "int64_val", [-(2**63), 2**63 - 1], np.array([-(2**63), 2**63 - 1], "i8")),
    (dtypes.DT_UINT64, "uint64_val", [0, 2**64 - 1], np.array([0, 2**64 - 1], "u8")),
    (dtypes.DT_UINT32, "uint32_val", [0, 2**32 - 1], np.array([0, 2**32 - 1], "u4")),
    (dtypes.DT_BOOL, "bool_val", [True, False], np.array([True, False])),
    (dtypes.DT_COMPLEX64, "scomplex_val", [1, 2, 3, -4], np.array([1 + 2j, 3 - 4j], "c8")),
    (dtypes.DT_COMPLEX128, "dcomplex_val", [0.1, 2, 3, -4], np.array([0.1 + 2j, 3 - 4j], "c16")),
    *[
        (code, "int_val", [3, 127, 0], np.array([3, 127, 0], dtypes.NUMPY[code]))
        for code in _INT_TYPES
    ],
]
_LIST_IDS = [dtypes.dtype_name(row[0]) for row in _LISTS]


def _same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal in type, shape and every bit (so -0.0 is not 0.0)."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("dtype", "field", "listed", "expected"), _LISTS, ids=_LIST_IDS)
def test_a_list_that_fills_the_shape(
    dtype: int, field: str, listed: List[Any], expected: np.ndarray
) -> None:
    """Each dtype is read from its own typed list, bit for bit."""
    tensor = _tensor(dtype, expected.shape, **{field: listed})
    assert tensor.content is None
    assert tensor.has_values
    _same(tensor.numpy(), expected)


@pytest.mark.parametrize(("dtype", "field", "listed", "expected"), _LISTS, ids=_LIST_IDS)
def test_the_last_value_of_a_list_repeats(
    dtype: int, field: str, listed: List[Any], expected: np.ndarray
) -> None:
    """A list that is too short goes on with its last value (Tensor::FromProto), row by row."""
    shape = (2, len(expected))
    filled = np.concatenate([expected, np.repeat(expected[-1:], len(expected))]).reshape(shape)
    _same(_tensor(dtype, shape, **{field: listed}).numpy(), filled)


@pytest.mark.parametrize(("dtype", "field", "listed", "expected"), _LISTS, ids=_LIST_IDS)
def test_a_single_value_fills_the_shape(
    dtype: int, field: str, listed: List[Any], expected: np.ndarray
) -> None:
    """A splat: one listed value stands for all elements."""
    per_value = 2 if "complex" in field else 1
    tensor = _tensor(dtype, (3, 2), **{field: listed[:per_value]})
    _same(tensor.numpy(), np.broadcast_to(expected[:1], (3, 2)).copy())


@pytest.mark.parametrize(("dtype", "field", "listed", "expected"), _LISTS, ids=_LIST_IDS)
def test_tensor_content(dtype: int, field: str, listed: List[Any], expected: np.ndarray) -> None:
    """Raw little-endian bytes are read for every dtype that has a fixed size."""
    tensor = _tensor(dtype, (1, len(expected)), tensor_content=expected.tobytes())
    _same(tensor.numpy(), expected.reshape(1, -1))


@pytest.mark.parametrize("dtype", sorted(dtypes.NUMPY))
def test_no_values_at_all_are_zeros_and_are_told_apart(dtype: int) -> None:
    """TensorFlow reads zeros where nothing is listed; ``has_values`` says that nothing was."""
    tensor = _tensor(dtype, (2, 3))
    assert not tensor.has_values
    _same(tensor.numpy(), np.zeros((2, 3), dtypes.NUMPY[dtype]))


def test_a_field_that_nobody_knows_is_no_value() -> None:
    """Unknown fields do not make a tensor without values one with values."""
    data = _proto(dtypes.DT_FLOAT, (2,)).SerializeToString() + UNKNOWN_FIELDS[2]
    assert not parse_tensor(memoryview(data)).has_values


@pytest.mark.parametrize("dtype", sorted(dtypes.NUMPY))
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (0, 5)])
def test_a_shape_of_size_zero(dtype: int, shape: Tuple[int, ...]) -> None:
    """An empty tensor is read as one, and lacks no values."""
    tensor = _tensor(dtype, shape)
    assert tensor.size == 0
    assert tensor.has_values
    _same(tensor.numpy(), np.zeros(shape, dtypes.NUMPY[dtype]))


def test_a_scalar() -> None:
    """No dimensions: one element, shape ()."""
    tensor = _tensor(dtypes.DT_FLOAT, (), float_val=[2.5])
    assert tensor.size == 1
    _same(tensor.numpy(), np.array(2.5, np.float32))
    _same(_tensor(dtypes.DT_INT32, (), int_val=[-7]).numpy(), np.array(-7, np.int32))


def test_small_integers_are_stored_as_int32_and_wrap_like_a_cast() -> None:
    """int_val holds int32; int8 and uint8 take its low byte, as TensorFlow's cast does."""
    assert _tensor(dtypes.DT_INT8, (3,), int_val=[-1, -128, 200]).numpy().tolist() == [
        -1,
        -128,
        -56,
    ]
    assert _tensor(dtypes.DT_UINT8, (2,), int_val=[255, -1]).numpy().tolist() == [255, 255]


@pytest.mark.parametrize(
    ("shape", "listed", "expected"),
    [
        ((2,), [b"a", b"\xff\x00"], [b"a", b"\xff\x00"]),
        ((3,), [b"a", b"b"], [b"a", b"b", b"b"]),
        ((2, 2), [b"x"], [[b"x", b"x"], [b"x", b"x"]]),
        ((2,), [], [b"", b""]),
        ((0,), [], []),
        ((), [b"s"], b"s"),
    ],
)
def test_strings(shape: Tuple[int, ...], listed: List[bytes], expected: Any) -> None:
    """Strings are bytes; the last one repeats, and nothing listed means empty strings."""
    array = _tensor(dtypes.DT_STRING, shape, string_val=listed).numpy()
    assert array.dtype == object
    assert array.shape == shape
    assert array.tolist() == expected


def test_too_many_strings() -> None:
    """More strings than the shape holds: the file is damaged."""
    with pytest.raises(InputError, match="string tensor of 1 elements lists 2"):
        _tensor(dtypes.DT_STRING, (1,), string_val=[b"a", b"b"]).numpy()


@pytest.mark.parametrize(("dtype", "field", "listed", "expected"), _LISTS, ids=_LIST_IDS)
def test_more_values_than_the_shape_holds(
    dtype: int, field: str, listed: List[Any], expected: np.ndarray
) -> None:
    """Values that have no place are not dropped silently."""
    with pytest.raises(InputError, match="1 would fill it: the file is damaged"):
        _tensor(dtype, (1,), **{field: listed}).numpy()


@pytest.mark.parametrize(
    ("dtype", "field"),
    [(dtypes.DT_COMPLEX64, "scomplex_val"), (dtypes.DT_COMPLEX128, "dcomplex_val")],
)
@pytest.mark.parametrize("count", [1, 3])
def test_half_a_complex_number(dtype: int, field: str, count: int) -> None:
    """An odd number of parts is a damaged file, not a crash (law 9)."""
    with pytest.raises(InputError):
        _tensor(dtype, (2,), **{field: [1.0] * count}).numpy()


@pytest.mark.parametrize("dtype", [0, dtypes.DT_RESOURCE, dtypes.DT_VARIANT, 99])
def test_types_without_values(dtype: int) -> None:
    """What numpy has no type for is an InputError that names it."""
    with pytest.raises(InputError, match=f"a tensor of {dtypes.dtype_name(dtype)} cannot be read"):
        _tensor(dtype, (1,)).numpy()


# ------------------------------------------------------------------------------------ bad shapes


@pytest.mark.parametrize("shape", [(-1,), (2, -1), (-(2**63),)])
def test_a_negative_dimension(shape: Tuple[int, ...]) -> None:
    """A constant has a full shape."""
    with pytest.raises(InputError, match="must have a full shape"):
        _tensor(dtypes.DT_FLOAT, shape)


def test_an_unknown_rank() -> None:
    """A constant has a full shape."""
    proto = TensorProto(dtype=dtypes.DT_FLOAT)
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(InputError, match="must have a full shape, this one declares None"):
        parse_tensor(memoryview(proto.SerializeToString()))


@pytest.mark.parametrize("shape", [(2**62, 2), (2**40, 2**40), (2**32, 2**31)])
@pytest.mark.parametrize("dtype", [dtypes.DT_FLOAT, dtypes.DT_BOOL, dtypes.DT_STRING])
def test_more_elements_than_can_be_counted(shape: Tuple[int, ...], dtype: int) -> None:
    """A shape beyond any memory is refused while cutting, before anything is made."""
    with pytest.raises(InputError, match="larger than any machine's memory"):
        _tensor(dtype, shape)


def test_a_huge_splat_costs_no_memory() -> None:
    """One value for 2^36 elements: a view of that value."""
    array = _tensor(dtypes.DT_FLOAT, (2**18, 2**18), float_val=[0.5]).numpy()
    assert array.shape == (2**18, 2**18)
    assert array.strides == (0, 0)
    assert array[2**18 - 1, 17] == np.float32(0.5)


@pytest.mark.parametrize(
    ("dtype", "shape", "lists"),
    [
        (dtypes.DT_FLOAT, (2**62,), {}),
        (dtypes.DT_FLOAT, (2**62,), {"float_val": [1.0]}),
        (dtypes.DT_FLOAT, (2**38,), {"float_val": [1.0, 2.0]}),
        (dtypes.DT_DOUBLE, (2**37,), {"double_val": [1.0, 2.0]}),
        (dtypes.DT_STRING, (2**40,), {"string_val": [b"a"]}),
        (dtypes.DT_FLOAT, (0, 2**62, 4), {}),
        (dtypes.DT_FLOAT, (1,) * 40, {"float_val": [1.0]}),
        (dtypes.DT_FLOAT, (1,) * 40, {"tensor_content": b"\0\0\0\0"}),
    ],
    ids=["zeros", "splat", "two", "two_double", "string", "empty", "rank_40", "rank_40_content"],
)
def test_shapes_that_numpy_cannot_hold(dtype: int, shape: Tuple[int, ...], lists: Any) -> None:
    """A shape that no array can have is an InputError, not a ValueError or MemoryError (law 9)."""
    with pytest.raises(InputError):
        _tensor(dtype, shape, **lists).numpy()


@pytest.mark.parametrize(
    ("content", "shape", "message"),
    [
        (b"\0" * 7, (2,), r"tensor_content has 7 bytes, float32 \[2\] needs 8"),
        (b"\0" * 12, (2,), r"has 12 bytes, float32 \[2\] needs 8"),
        (b"\0" * 4, (0,), r"has 4 bytes, float32 \[0\] needs 0"),
    ],
)
def test_content_of_the_wrong_length(content: bytes, shape: Tuple[int, ...], message: str) -> None:
    """Bytes that do not fill the shape exactly are refused, with both lengths in the message."""
    with pytest.raises(InputError, match=message):
        _tensor(dtypes.DT_FLOAT, shape, tensor_content=content)


@pytest.mark.parametrize(
    "data", [b"\xff\xff", b"\x12\x05ab", b"\x0a", b"\x12\x03\x12\x05a"], ids=repr
)
def test_bytes_that_are_no_tensor(data: bytes) -> None:
    """Damage in the message itself is an InputError."""
    with pytest.raises(InputError):
        parse_tensor(memoryview(data))


def test_a_damaged_list_is_found_when_it_is_read() -> None:
    """A packed float list of three bytes is no list of floats."""
    data = encode_header(dtypes.DT_FLOAT, (2,), 0) + b"\x2a\x03abc"
    with pytest.raises(WireError, match="cannot be parsed"):
        parse_tensor(memoryview(data)).numpy()


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x03\x08\x01" + b"\x2d\0\0\x80\x3f",
        b"\x08\x01" + b"\x12\x04\x12\x02\x08\x02" * 2 + b"\x2d\0\0\x80\x3f",
        b"\x08\x01" + b"\x22\x04\0\0\x80\x3f" + b"\x22\x00",
        b"\x08\x01" + b"\x12\x06\x12\x04\x08\x02\x08\x03" + b"\x2d\0\0\x80\x3f",
    ],
    ids=["dtype_twice", "shape_in_two_pieces", "content_taken_back", "size_twice"],
)
def test_fields_written_twice(data: bytes) -> None:
    """Such a message means what protobuf says (last value, merged message), or it is refused."""
    proto = TensorProto.FromString(data)
    try:
        tensor = parse_tensor(memoryview(data))
    except InputError:
        return
    assert tensor.dtype == proto.dtype
    assert tensor.shape == tuple(dim.size for dim in proto.tensor_shape.dim)
    assert bytes(tensor.content or b"") == proto.tensor_content


# ------------------------------------------------------------------------------------- no copies


def test_content_is_viewed_in_place_and_read_only() -> None:
    """``numpy()`` of tensor_content shares the memory of the file and cannot change it."""
    data = _proto(dtypes.DT_FLOAT, (2,), tensor_content=b"\0\0\x80\x3f" * 2).SerializeToString()
    array = parse_tensor(memoryview(data)).numpy()
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


@pytest.mark.parametrize("listed", [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0]])
def test_arrays_from_lists_are_read_only(listed: List[float]) -> None:
    """Arrays are values, wherever they come from."""
    array = _tensor(dtypes.DT_FLOAT, (3,), float_val=listed).numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5


def test_raw_is_the_message() -> None:
    """The bytes of the TensorProto stay at hand, unchanged."""
    data = _proto(dtypes.DT_FLOAT, (2,), float_val=[1, 2]).SerializeToString() + b"\xc2\x3e\x01x"
    assert bytes(parse_tensor(memoryview(data)).raw) == data


def test_content_comes_before_a_list() -> None:
    """With both present tensor_content wins, as in TensorFlow."""
    content = np.array([5, 6], np.float32)
    tensor = _tensor(dtypes.DT_FLOAT, (2,), tensor_content=content.tobytes(), float_val=[1, 2])
    _same(tensor.numpy(), content)


def test_empty_content_is_no_content() -> None:
    """tensor_content of length 0, written out, leaves the list in charge."""
    data = _proto(dtypes.DT_FLOAT, (2,), float_val=[1, 2]).SerializeToString() + b"\x22\x00"
    _same(parse_tensor(memoryview(data)).numpy(), np.array([1, 2], np.float32))


def test_unpacked_lists_are_read() -> None:
    """Old writers put one tag before each value."""
    data = encode_header(dtypes.DT_FLOAT, (3,), 0) + b"\x2d\0\0\x80\x3f" + b"\x2d\0\0\0\x40"
    tensor = parse_tensor(memoryview(data))
    assert tensor.has_values
    _same(tensor.numpy(), np.array([1, 2, 2], np.float32))


# ------------------------------------------------------------------------------------ properties


@given(hnp.arrays(np.float32, shapes(), elements=st.floats(width=32, allow_nan=False)))
def test_encoding_and_reading_are_inverse(values: np.ndarray) -> None:
    """``encode_header`` and the bytes of the array make a tensor that reads back bit for bit."""
    data = encode_header(dtypes.DT_FLOAT, values.shape, values.nbytes) + values.tobytes()
    _same(parse_tensor(memoryview(data)).numpy(), values)
    parsed = TensorProto.FromString(data)
    assert parsed.tensor_content == values.tobytes()
    assert [dim.size for dim in parsed.tensor_shape.dim] == list(values.shape)


def test_a_header_without_content() -> None:
    """No bytes to follow: no tensor_content field at all."""
    parsed = TensorProto.FromString(encode_header(dtypes.DT_FLOAT, (0, 3), 0))
    assert parsed == _proto(dtypes.DT_FLOAT, (0, 3))


@given(st.lists(st.integers(-1, 2**40), max_size=6).map(tuple))
def test_shapes_are_those_of_protobuf(shape: Tuple[int, ...]) -> None:
    """Encoding gives protobuf's meaning, and reading inverts it, -1 (unknown) included."""
    data = encode_shape(shape)
    assert tuple(dim.size for dim in TensorShapeProto.FromString(data).dim) == shape
    assert parse_shape(data) == shape


def test_shapes_with_names_and_missing_sizes() -> None:
    """A dimension without a size is 0 (proto3), its name is ignored."""
    proto = TensorShapeProto()
    proto.dim.add(size=3, name="batch")
    proto.dim.add()
    assert parse_shape(proto.SerializeToString()) == (3, 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ()),
        (b"\x18\x00", ()),
        (b"\x18\x01", None),
        (b"\x18\x80\x00", ()),
        (b"\x18\x81\x00", None),
        (b"\x18\x80\x01", None),
    ],
    ids=["nothing", "false", "true", "padded_false", "padded_true", "128"],
)
def test_unknown_rank_is_a_number_that_is_not_zero(data: bytes, expected: Any) -> None:
    """A truth value is read like protobuf reads it, in however many bytes it is written."""
    assert TensorShapeProto.FromString(data).unknown_rank == (expected is None)
    assert parse_shape(data) == expected


def test_dtype_names() -> None:
    """Plain names, the value type for a reference type, the number for what is unknown."""
    assert dtypes.dtype_name(dtypes.DT_FLOAT) == "float32"
    assert dtypes.dtype_name(dtypes.DT_HALF + dtypes.REF_OFFSET) == "float16"
    assert dtypes.dtype_name(77) == "DataType 77"


@pytest.mark.parametrize("code", sorted(dtypes.FROM_NUMPY.values()))
def test_numpy_types_go_both_ways(code: int) -> None:
    """FROM_NUMPY inverts NUMPY, and neither depends on the machine's byte order."""
    assert dtypes.FROM_NUMPY[dtypes.NUMPY[code]] == code
    assert dtypes.NUMPY[code].byteorder in "<|=?"
