"""graphdef/graph.py: a GraphDef as nodes, functions and other fields over one buffer."""

from __future__ import annotations

import hashlib
from typing import Tuple

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense
from hypothesis import given
from hypothesis import strategies as st
from strategies import UNKNOWN_FIELDS, field, graph_bytes
from tensorboard.compat.proto.function_pb2 import FunctionDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Function, Graph, Library
from graphwq.graphdef.newnode import new_const, new_node
from graphwq.graphdef.protos import GraphDef


def _noop(name: str) -> bytes:
    return NodeDef(name=name, op="NoOp").SerializeToString()


def _function(name: str, arguments: Tuple[str, ...], *body: str) -> bytes:
    proto = FunctionDef()
    proto.signature.name = name
    for argument in arguments:
        proto.signature.input_arg.add(name=argument, type=1)
    for node in body:
        proto.node_def.add(name=node, op="NoOp")
    return proto.SerializeToString()


def _with_functions() -> bytes:
    """Two libraries, a gradient, unknown fields on every level, padded lengths."""
    first = field(1, _function("f", ("a", "b"), "f1", "f2") + UNKNOWN_FIELDS[2], 2)
    first += field(2, b"\x0a\x01f\x12\x01g") + UNKNOWN_FIELDS[0]
    second = field(1, _function("g", (), "g1"))
    return b"".join(
        [
            field(1, _noop("m1"), 1),
            field(2, first, 1),
            b"\x18\x80\x00",
            field(1, _noop("m2")),
            UNKNOWN_FIELDS[3],
            field(2, second),
            field(4, b"\x08\x86\x01"),
        ]
    )


# --------------------------------------------------------------------------------------- reading


@given(graph_bytes())
def test_reading_agrees_with_protobuf(data: bytes) -> None:
    """Nodes, functions, arguments and bodies are those that protobuf finds, in the same order."""
    graph, proto = Graph.parse(data), GraphDef.FromString(data)
    assert [(node.name, node.op) for node in graph.nodes] == [
        (node.name, node.op) for node in proto.node
    ]
    assert [function.name for function in graph.functions] == [
        function.signature.name for function in proto.library.function
    ]
    for function, expected in zip(graph.functions, proto.library.function):
        names = [argument.name for argument in expected.signature.input_arg]
        assert list(function.arguments) == names
        assert [node.name for node in function.nodes] == [node.name for node in expected.node_def]


def test_the_parts_of_a_graph() -> None:
    """Nodes, functions of all libraries, scopes, and the other fields as written."""
    graph = Graph.parse(_with_functions())
    assert [node.name for node in graph.nodes] == ["m1", "m2"]
    assert [function.name for function in graph.functions] == ["f", "g"]
    assert [(scope.name, scope.arguments) for scope in graph.scopes] == [
        ("", ()),
        ("f", ("a", "b")),
        ("g", ()),
    ]
    assert [[node.name for node in scope.nodes] for scope in graph.scopes] == [
        ["m1", "m2"],
        ["f1", "f2"],
        ["g1"],
    ]
    assert [bytes(item) for item in graph.extra] == [
        b"\x18\x80\x00",
        UNKNOWN_FIELDS[3],
        field(4, b"\x08\x86\x01"),
    ]


def test_the_empty_graph() -> None:
    """No bytes are a graph without nodes (the file reader refuses them, see test_source)."""
    graph = Graph.parse(b"")
    assert graph.nodes == ()
    assert graph.functions == ()
    assert graph.to_bytes() == b""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08\x01", "field 1 at byte 0 is not what a GraphDef has there"),
        (b"\x10\x01", "field 2 at byte 0"),
        (field(1, b"\x12\x01a"), "the node at byte 0 has no name"),
        (field(1, b"\x0a\x01a"), "the node at byte 0 has no op"),
        (field(1, b""), "has no name"),
        (field(4, b"") + field(1, b"\x0a\x01a"), "the node at byte 2 has no op"),
        (field(1, b"\x0a\x09a"), "claims to end"),
        (field(2, field(1, b"\x0a\x05a")), "claims to end"),
        (field(2, field(1, field(1, field(1, b"\xff")))), "a function's name"),
        (
            field(2, field(1, field(1, field(2, field(1, b"\xff"))))),
            "an argument's name",
        ),
        (b"hello world, this is no graph", "wire type"),
    ],
)
def test_bytes_that_are_no_graph(data: bytes, message: str) -> None:
    """Each way of being no GraphDef has its message."""
    with pytest.raises(InputError, match=message):
        Graph.parse(data)


def test_nothing_is_copied() -> None:
    """Nodes and chunks are slices of the buffer they were read from."""
    data = convolution().to_bytes()
    graph = Graph.parse(data)
    whole = np.frombuffer(data, np.uint8)
    for chunk in graph.chunks():
        assert np.shares_memory(np.frombuffer(chunk, np.uint8), whole)
    for node in graph.nodes:
        assert np.shares_memory(np.frombuffer(node.raw, np.uint8), whole)


# --------------------------------------------------------------------------------------- writing


def test_chunks_digest_and_size_are_those_of_the_bytes() -> None:
    """Four ways to ask for the same bytes."""
    data = _with_functions()
    graph = Graph.parse(data)
    assert b"".join(graph.chunks()) == graph.to_bytes() == data
    assert graph.digest == hashlib.sha256(data).hexdigest()
    assert graph.nbytes == len(data)


def test_the_digest_of_an_edited_graph_is_that_of_its_bytes() -> None:
    """The digest follows the edits, payloads included."""
    values = np.arange(6, dtype=np.float32)
    new = new_const("w", dtypes.DT_FLOAT, (6,), values)
    graph = dense().edited({"": {"w": [new]}})
    assert graph.digest == hashlib.sha256(graph.to_bytes()).hexdigest()
    assert graph.digest != dense().digest
    assert graph.nbytes == len(graph.to_bytes())


def test_a_new_constant_is_written_with_its_values() -> None:
    """The values, which a new node keeps apart, follow its header in the file."""
    values = np.arange(5000, dtype=np.float32)
    new = new_const("w", dtypes.DT_FLOAT, (5000,), values)
    node = GraphDef.FromString(dense().edited({"": {"w": [new]}}).to_bytes()).node[1]
    assert node.name == "w"
    assert node.attr["value"].tensor.tensor_content == values.tobytes()


def test_the_bytes_may_come_from_a_bytearray_or_a_view() -> None:
    """Any buffer will do."""
    data = _with_functions()
    assert Graph.parse(memoryview(data)).to_bytes() == data
    assert Graph.parse(bytearray(data)).to_bytes() == data


# --------------------------------------------------------------------------------------- editing


def test_no_edits_change_nothing() -> None:
    """An empty set of edits gives the same bytes."""
    data = _with_functions()
    assert Graph.parse(data).edited({}).to_bytes() == data
    assert Graph.parse(data).edited({"": {}, "f": {}, "nothing": {}}).to_bytes() == data


def test_replacing_a_node_leaves_the_rest_as_it_was() -> None:
    """Only the field of the node changes; the fields around it are the same bytes."""
    data = _with_functions()
    new = new_node("m2", "Identity", ("m1",))
    edited = Graph.parse(data).edited({"": {"m2": [new]}})
    assert edited.to_bytes() == data.replace(field(1, _noop("m2")), field(1, bytes(new.to_bytes())))


def test_one_node_becomes_several_where_it_stood() -> None:
    """The new nodes stand in the old one's place, in order; a kept node keeps its bytes."""
    graph = Graph.parse(_with_functions())
    old = graph.nodes[0]
    edited = graph.edited({"": {"m1": [new_node("a", "NoOp"), old, new_node("b", "NoOp")]}})
    assert [node.name for node in Graph.parse(edited.to_bytes()).nodes] == ["a", "m1", "b", "m2"]
    assert edited.nodes[1] is old


def test_removing_a_node() -> None:
    """No node in its place: the field is gone, and nothing else."""
    data = _with_functions()
    edited = Graph.parse(data).edited({"": {"m1": []}})
    assert edited.to_bytes() == data[len(field(1, _noop("m1"), 1)) :]


def test_editing_a_function_body() -> None:
    """Lengths around the body are made anew; everything inside but the node stays."""
    data = _with_functions()
    new = new_node("f1", "Identity", ("a",))
    edited = Graph.parse(data).edited({"f": {"f1": [new, new_node("extra", "NoOp")]}})
    again = Graph.parse(edited.to_bytes())
    assert [node.name for node in again.functions[0].nodes] == ["f1", "extra", "f2"]
    assert again.functions[0].nodes[0].op == "Identity"
    assert again.functions[0].arguments == ("a", "b")
    body = _function("f", ("a", "b"), "f1", "f2") + UNKNOWN_FIELDS[2]
    body = body.replace(
        field(3, _noop("f1")),
        field(3, bytes(new.to_bytes())) + field(3, _noop("extra")),
    )
    expected = field(1, body) + field(2, b"\x0a\x01f\x12\x01g") + UNKNOWN_FIELDS[0]
    start = data.index(b"\x18\x80\x00")
    assert edited.to_bytes() == field(1, _noop("m1"), 1) + field(2, expected) + data[start:]
    assert GraphDef.FromString(edited.to_bytes()).library.gradient[0].gradient_func == "g"


def test_the_same_name_in_two_scopes() -> None:
    """An edit of the main graph does not touch a function's node of that name, nor vice versa."""
    data = field(1, _noop("n")) + field(2, field(1, _function("f", (), "n")))
    new = new_node("n", "Identity")
    main = Graph.parse(data).edited({"": {"n": [new]}})
    assert (main.nodes[0].op, main.functions[0].nodes[0].op) == ("Identity", "NoOp")
    body = Graph.parse(data).edited({"f": {"n": [new]}})
    assert (body.nodes[0].op, body.functions[0].nodes[0].op) == ("NoOp", "Identity")
    for graph in (main, body):
        assert GraphDef.FromString(graph.to_bytes()).node[0].op == graph.nodes[0].op


def test_functions_that_are_not_edited_are_the_same_objects() -> None:
    """Edits copy no function they do not touch."""
    graph = Graph.parse(_with_functions())
    edited = graph.edited({"g": {"g1": []}})
    assert edited.functions[0] is graph.functions[0]
    assert edited.functions[1] != graph.functions[1]
    assert edited.functions[1].nodes == ()


def test_editing_twice() -> None:
    """An edited graph can be edited again; the second edit sees the first one's nodes."""
    graph = Graph.parse(_with_functions()).edited({"f": {"f1": [new_node("z", "NoOp")]}})
    graph = graph.edited({"f": {"z": [new_node("zz", "NoOp")]}, "": {"m1": []}})
    again = Graph.parse(graph.to_bytes())
    assert [node.name for node in again.functions[0].nodes] == ["zz", "f2"]
    assert [node.name for node in again.nodes] == ["m2"]


def test_a_node_moved_between_main_graph_and_function() -> None:
    """A node keeps its content where it is put, although its field number is another there."""
    graph = Graph.parse(_with_functions())
    body, main = graph.functions[0].nodes[0], graph.nodes[0]
    edited = graph.edited({"": {"m1": [main, body]}, "g": {"g1": [main]}})
    again = Graph.parse(edited.to_bytes())
    assert [node.name for node in again.nodes] == ["m1", "f1", "m2"]
    assert [node.name for node in again.functions[1].nodes] == ["m1"]


def test_the_graph_before_the_edit_is_unchanged() -> None:
    """Graphs are values."""
    data = _with_functions()
    graph = Graph.parse(data)
    graph.edited({"": {"m1": []}, "f": {"f1": []}})
    assert graph.to_bytes() == data


@given(graph_bytes(), st.integers(0, 2**31 - 1))
def test_edits_touch_what_they_name_and_nothing_else(data: bytes, seed: int) -> None:
    """Law 2 on the level of bytes: every node that no edit names keeps its bytes and its place."""
    graph = Graph.parse(data)
    names = sorted({node.name for node in graph.nodes})
    if not names:
        return
    chosen = names[seed % len(names)]
    new = new_node(chosen, "Replaced", ("x",))
    edited = Graph.parse(graph.edited({"": {chosen: [new]}}).to_bytes())
    assert len(edited.layout) == len(graph.layout)
    for before, after in zip(graph.layout, edited.layout):
        if getattr(before, "name", None) == chosen:
            assert bytes(after.raw) == bytes(new.to_bytes())  # type: ignore[union-attr]
        elif isinstance(before, Library):
            assert after.frame == before.frame  # type: ignore[union-attr]
        elif isinstance(before, memoryview):
            assert after == before
        else:
            assert after.frame == before.frame


def test_large_functions_are_framed_with_long_lengths() -> None:
    """A body of more than 127 and 16383 bytes: the lengths around it grow."""
    for count in (3, 40, 5000):
        values = np.arange(count, dtype=np.float32)
        data = field(2, field(1, _function("f", (), "c")))
        new = new_const("c", dtypes.DT_FLOAT, (count,), values)
        edited = Graph.parse(data).edited({"f": {"c": [new]}}).to_bytes()
        node = GraphDef.FromString(edited).library.function[0].node_def[0]
        assert node.attr["value"].tensor.tensor_content == values.tobytes()


def test_builders_and_graph_agree() -> None:
    """The helper of the tests makes graphs that protobuf reads the same way."""
    b = GraphBuilder()
    b.const("w", np.ones((2, 3), np.float32))
    b.op("y", "Identity", ["w"])
    proto = GraphDef.FromString(b.to_bytes())
    assert [node.name for node in proto.node] == ["w", "y"]
    assert proto.versions.producer == 134
    assert b.graph().to_bytes() == b.to_bytes()


def test_a_function_is_a_value_with_its_nodes() -> None:
    """``Function.nodes`` are the nodes among its fields, in file order."""
    function = Graph.parse(_with_functions()).functions[0]
    assert isinstance(function, Function)
    assert [node.name for node in function.nodes] == ["f1", "f2"]
    assert len(function.layout) == 4
