"""graphdef/node.py: a NodeDef as a value over its raw bytes."""

from __future__ import annotations

import dataclasses
from typing import Any, Tuple

import google.protobuf
import numpy as np
import pytest
from hypothesis import given
from strategies import field, node_defs
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import (
    attr_bool,
    attr_int,
    attr_string,
    attr_type,
    new_const,
    new_node,
)
from graphwq.graphdef.node import (
    CONTROL,
    Node,
    TensorRef,
    attr_of_bool,
    attr_of_int,
    attr_of_type,
    parse_node,
    private_attrs,
)
from graphwq.graphdef.protos import AttrValue
from graphwq.graphdef.wire import WireError


def _node(data: bytes) -> Node:
    return parse_node(memoryview(data), 0, len(data), 0)


def _from_proto(proto: NodeDef) -> Node:
    return _node(proto.SerializeToString())


# ------------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x", TensorRef("x", 0)),
        ("x:0", TensorRef("x", 0)),
        ("x:12", TensorRef("x", 12)),
        ("^x", TensorRef("x", CONTROL)),
        ("scope/x:1", TensorRef("scope/x", 1)),
        ("x:output:0", TensorRef("x", 0, "output")),
        ("x:z:3", TensorRef("x", 3, "z")),
        ("x:output", TensorRef("x", 0, "output")),
        ("", TensorRef("", 0)),
        ("^", TensorRef("", CONTROL)),
        ("x:", TensorRef("x", 0)),
    ],
)
def test_inputs_as_written(text: str, expected: TensorRef) -> None:
    """Name, port, control mark, and the output's name that function bodies write."""
    assert TensorRef.parse(text) == expected


@pytest.mark.parametrize("text", ["x:\u00b2", "x:out:\u0b66\u00b3"])
def test_an_input_whose_port_is_no_plain_number(text: str) -> None:
    """Digits that ``int`` cannot read (a superscript) are no crash (law 9)."""
    try:
        parsed = TensorRef.parse(text)
    except InputError:
        return
    assert parsed.node == "x"


# -------------------------------------------------------------------------------------- reading


def test_the_fields_of_a_node() -> None:
    """Name, op, inputs in order, device."""
    node = _from_proto(NodeDef(name="y", op="MatMul", input=["x", "w:1", "^c"], device="/gpu:0"))
    assert (node.name, node.op, node.device) == ("y", "MatMul", "/gpu:0")
    assert node.inputs == ("x", "w:1", "^c")
    assert node.data_inputs == ("x", "w:1")
    assert node.control_inputs == ("^c",)


@given(node_defs())
def test_reading_agrees_with_protobuf(data: bytes) -> None:
    """Odd order, repeated and unknown fields: the node means what protobuf says it means."""
    node, proto = _node(data), NodeDef.FromString(data)
    assert (node.name, node.op, node.device) == (proto.name, proto.op, proto.device)
    assert list(node.inputs) == list(proto.input)
    assert bytes(node.to_bytes()) == data
    assert node.nbytes == len(data)
    assert sorted(node.attr_bytes()) == sorted(proto.attr)
    for key in proto.attr:
        assert node.attr(key) == proto.attr[key]


def test_a_node_inside_a_buffer() -> None:
    """Only the given range is read; ``frame`` is the whole field, ``raw`` the message."""
    body = NodeDef(name="a", op="NoOp").SerializeToString()
    data = b"\xff\xff" + field(1, body, 2) + b"\xff"
    begin = len(data) - 1 - len(body)
    node = parse_node(memoryview(data), begin, begin + len(body), 2)
    assert bytes(node.raw) == body
    assert node.frame is not None
    assert bytes(node.frame) == data[2:-1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x01\xff", "a node's name at byte 2 is not UTF-8"),
        (b"\x12\x01\xff", "a node's op"),
        (b"\x1a\x01\xff", "a node's input"),
        (b"\x22\x01\xff", "a node's device"),
        (b"\x0a\x05ab", "claims to end"),
    ],
)
def test_bytes_that_are_no_node(data: bytes, message: str) -> None:
    """Each damage has a message that names the part."""
    with pytest.raises(WireError, match=message):
        _node(data)


def test_nodes_are_frozen() -> None:
    """A node is a value."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        _node(b"\x0a\x01a").name = "b"  # type: ignore[misc]


# ----------------------------------------------------------------------------------- attributes


def _entry(key: bytes, value: bytes) -> bytes:
    return field(5, field(1, key) + field(2, value))


def test_of_an_attribute_given_twice_the_last_counts() -> None:
    """protobuf's rule for map entries."""
    data = _entry(b"k", attr_int(1)) + _entry(b"k", attr_int(2))
    assert NodeDef.FromString(data).attr["k"].i == 2
    assert attr_of_int(_node(data), "k", 0) == 2


@pytest.mark.parametrize(
    ("data", "key", "value"),
    [
        (field(5, field(2, b"\x18\x05") + field(1, b"k")), "k", b"\x18\x05"),
        (field(5, field(1, b"k")), "k", b""),
        (field(5, field(2, b"\x18\x05")), "", b"\x18\x05"),
        (field(5, b""), "", b""),
        (field(5, field(1, b"k") + b"\xc2\x3e\x01x" + field(2, b"\x18\x05")), "k", b"\x18\x05"),
    ],
    ids=["value_first", "no_value", "no_key", "empty", "unknown_field"],
)
def test_unusual_map_entries(data: bytes, key: str, value: bytes) -> None:
    """Any order, missing key or value, unknown fields: read as protobuf reads them.

    Of an entry with an unknown field protobuf 4 and later make no entry at all; the protobuf of
    TensorFlow 1.15, which is what counts, reads it.
    """
    node = _node(data)
    assert {name: bytes(content) for name, content in node.attr_bytes().items()} == {key: value}
    if key in NodeDef.FromString(data).attr:
        assert node.attr(key) == NodeDef.FromString(data).attr[key]
    else:
        assert int(google.protobuf.__version__.split(".")[0]) >= 4


def test_an_attribute_that_is_not_there() -> None:
    """None, not an empty value."""
    node = _node(_entry(b"k", attr_int(1)))
    assert node.attr("other") is None
    assert node.tensor("other") is None
    assert node.tensor("k") is None
    assert attr_of_int(node, "other", 7) == 7
    assert attr_of_bool(node, "other") is False
    assert attr_of_type(node, "other") == 0


def test_a_damaged_attribute_names_its_node() -> None:
    """An AttrValue that protobuf cannot read is an InputError with both names."""
    node = _node(field(1, b"conv") + _entry(b"k", b"\x0a\x05ab"))
    with pytest.raises(InputError, match="attribute 'k' of node 'conv' cannot be parsed"):
        node.attr("k")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_attribute_that_ends_in_the_middle() -> None:
    """An end-group tag stops protobuf's parser with no more than a warning: refused here."""
    node = _node(_entry(b"k", attr_int(5) + b"\x0c" + attr_int(7)))
    with pytest.raises(InputError):
        node.attr("k")


def test_an_attribute_name_that_is_not_text() -> None:
    """Attribute names are UTF-8."""
    with pytest.raises(WireError, match="an attribute's name"):
        _node(_entry(b"\xff", b"")).attr_bytes()


def test_attribute_values_of_every_kind() -> None:
    """What the small encoders write is what protobuf reads."""
    assert AttrValue.FromString(attr_int(-3)).i == -3
    assert AttrValue.FromString(attr_int(2**62)).i == 2**62
    assert AttrValue.FromString(attr_bool(True)).b is True
    assert AttrValue.FromString(attr_bool(False)).WhichOneof("value") == "b"
    assert AttrValue.FromString(attr_string(b"\xff\x00")).s == b"\xff\x00"
    assert AttrValue.FromString(attr_type(dtypes.DT_HALF)).type == dtypes.DT_HALF


def test_reading_attributes_of_every_kind() -> None:
    """The typed readers give plain Python values; a reference type is its value type."""
    attrs = {"i": attr_int(-3), "b": attr_bool(True), "t": attr_type(101), "f": attr_bool(False)}
    node = new_node("n", "Op", (), attrs)
    assert attr_of_int(node, "i", 0) == -3
    assert attr_of_bool(node, "b") is True
    assert attr_of_bool(node, "f") is False
    assert attr_of_type(node, "t") == dtypes.DT_FLOAT
    assert attr_of_type(node, "i") == 0


@pytest.mark.parametrize(
    "value",
    [
        attr_type(dtypes.DT_INT32) + attr_type(dtypes.DT_FLOAT),
        attr_type(dtypes.DT_FLOAT) + attr_int(5),
        b"\x30\x81\x80\x00",
    ],
    ids=["twice", "replaced_by_another_kind", "padded"],
)
def test_types_are_read_as_protobuf_reads_them(value: bytes) -> None:
    """Of a value written twice the last counts, also for the quick reader of types."""
    node = new_node("n", "Op", (), {"T": value})
    assert attr_of_type(node, "T") == AttrValue.FromString(value).type


def test_private_attributes() -> None:
    """Those whose name starts with an underscore, and no others."""
    attrs = {"_class": attr_string(b"loc:@x"), "T": attr_type(1), "_output_shapes": b""}
    found = private_attrs(new_node("n", "Op", (), attrs))
    assert {key: bytes(value) for key, value in found.items()} == {
        "_class": attr_string(b"loc:@x"),
        "_output_shapes": b"",
    }


# --------------------------------------------------------------------------------------- making


def test_a_new_node_is_the_proto_one_would_write() -> None:
    """All fields arrive; no device field where there is no device."""
    attrs = {"T": attr_type(1), "N": attr_int(2)}
    proto = NodeDef(name="n", op="Op", input=["a", "^b"], device="/cpu:0")
    proto.attr["T"].type = 1
    proto.attr["N"].i = 2
    node = new_node("n", "Op", ("a", "^b"), attrs, "/cpu:0")
    assert NodeDef.FromString(bytes(node.to_bytes())) == proto
    assert (node.name, node.op, node.inputs, node.device) == ("n", "Op", ("a", "^b"), "/cpu:0")
    assert node.frame is None
    assert b"/cpu" not in bytes(new_node("n", "Op").to_bytes())


def test_attributes_are_written_in_the_order_of_their_names() -> None:
    """The bytes do not depend on the order of the dictionary (law 8)."""
    forward = new_node("n", "Op", (), {"a": attr_int(1), "b": attr_int(2), "c": attr_int(3)})
    backward = new_node("n", "Op", (), {"c": attr_int(3), "b": attr_int(2), "a": attr_int(1)})
    assert forward.to_bytes() == backward.to_bytes()
    assert list(forward.attr_bytes()) == ["a", "b", "c"]


@pytest.mark.parametrize("dtype", sorted(dtypes.FROM_NUMPY.values()))
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (200,)])
def test_a_new_constant_reads_back(dtype: int, shape: Tuple[int, ...]) -> None:
    """Type, shape and every byte of the values; nbytes is the length of what is written."""
    count = int(np.prod(shape))
    values = (np.arange(count) % 2).astype(dtypes.NUMPY[dtype]).reshape(shape)
    node = new_const("c", dtype, shape, values, ("^x",), {"_z": attr_int(1)}, "/cpu:0")
    data = bytes(node.to_bytes())
    assert node.nbytes == len(data)
    proto = NodeDef.FromString(data)
    assert (proto.name, proto.op, list(proto.input)) == ("c", "Const", ["^x"])
    assert proto.device == "/cpu:0"
    assert proto.attr["dtype"].type == proto.attr["value"].tensor.dtype == dtype
    assert proto.attr["_z"].i == 1
    for source in (node, _node(data)):
        tensor = source.tensor()
        assert tensor is not None
        assert tensor.shape == shape
        assert tensor.numpy().dtype == values.dtype
        assert tensor.numpy().tobytes() == values.tobytes()


def test_the_values_of_a_new_constant_are_not_copied() -> None:
    """A big array goes to the file from where it is."""
    values = np.ones((100, 100), np.float32)
    node = new_const("c", dtypes.DT_FLOAT, values.shape, values)
    assert node.payload is not None
    assert np.shares_memory(np.frombuffer(node.payload, np.uint8), values)


def test_a_constant_from_a_transposed_or_big_endian_array() -> None:
    """Values are written in C order, little endian, whatever the array's layout."""
    values = np.arange(6, dtype=">f4").reshape(2, 3).T
    tensor = new_const("c", dtypes.DT_FLOAT, (3, 2), values).tensor()
    assert tensor is not None
    assert tensor.numpy().tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_constant_without_values_has_the_size_without_them() -> None:
    """``data=None`` gives the node whose size is known before its values are."""
    values = np.ones(300, np.float32)
    without = new_const("c", dtypes.DT_FLOAT, (300,))
    full = new_const("c", dtypes.DT_FLOAT, (300,), values)
    assert without.payload is None
    assert without.nbytes + values.nbytes == full.nbytes
    assert bytes(full.to_bytes()) == bytes(without.raw) + values.tobytes()


def test_data_that_does_not_fit_the_shape() -> None:
    """Our own mistake is a ValueError that names the node."""
    with pytest.raises(ValueError, match="c: 8 bytes of data for a shape of 12 bytes"):
        new_const("c", dtypes.DT_FLOAT, (3,), np.ones(2, np.float32))


def test_a_tensor_that_contradicts_itself_names_its_constant() -> None:
    """The message says which constant is damaged."""
    proto = NodeDef(name="conv1/weights", op="Const")
    tensor: Any = proto.attr["value"].tensor
    tensor.dtype = 1
    tensor.tensor_shape.dim.add().size = 3
    tensor.tensor_content = b"\0\0\0\0"
    with pytest.raises(InputError, match="constant 'conv1/weights': tensor_content has 4 bytes"):
        _from_proto(proto).tensor()


def test_long_names_and_large_payloads_need_longer_lengths() -> None:
    """Lengths of 128 and more take more than one byte, on every level of the message."""
    for count in (20, 30, 31, 32, 4095, 4096, 70000):
        values = np.arange(count, dtype=np.float32)
        node = new_const("n" * 200, dtypes.DT_FLOAT, (count,), values, ("^" + "i" * 300,))
        proto = NodeDef.FromString(bytes(node.to_bytes()))
        assert proto.name == "n" * 200
        assert proto.attr["value"].tensor.tensor_content == values.tobytes()
