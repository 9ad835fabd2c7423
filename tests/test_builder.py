"""The builder: names, sizes, and what new nodes inherit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, encode, random_weight
from rewriting import STORAGES

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_type, new_const
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import delimited
from graphwq.rewrite.builder import Builder, Place
from graphwq.rewrite.names import Names, number_of


def _place(scope: str = "", device: str = "", control: Any = ()) -> Place:
    return Place(scope, "w", device, tuple(control), {})


def test_names_in_the_main_graph_and_in_a_function() -> None:
    """The main graph says ``name``, a function body ``name:output:0`` with the op's own output."""
    main, body = Builder(_place(), "q0"), Builder(_place("f"), "q0")
    assert main.ints("a", 1) == "q0/a"
    assert body.ints("a", 1) == "q0/a:output:0"
    assert body.cast("c", "v", 6, 1) == "q0/c:y:0"
    assert body.binary("m", "Mul", "a", "b") == "q0/m:z:0"
    assert body.binary("d", "FloorMod", "a", "b") == "q0/d:z:0"
    assert body.gather("g", "t", "i", 1, 3) == "q0/g:output:0"
    assert body.reshape("r", "v", "s", 1) == "q0/r:output:0"
    assert body.slice("s", "v", [0], [1]) == "q0/s:output:0"
    assert body.nodes[0].name == "q0/a"


def test_place_of_a_node() -> None:
    """Device, control inputs and private attributes of the replaced node are taken over."""
    attrs = {"_class": encode(b"loc:@w"), "_output_shapes": encode([1])}
    node = new_const("w", 1, (2,), np.ones(2, np.float32), ("^a", "^b"), attrs, "/device:CPU:0")
    place = Place.of("f", node)
    assert (place.scope, place.name, place.device) == ("f", "w", "/device:CPU:0")
    assert place.control == ("^a", "^b")
    assert {key: bytes(item) for key, item in place.attrs.items()} == attrs


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("bits", [8, 3])
def test_device_control_and_private_attributes_survive(storage: str, bits: int) -> None:
    """Every new node is on the weight's device; every new Const keeps its control inputs.

    A Const inside a branch or a loop is tied to it by them: without them it would leave the frame.
    """
    b = GraphBuilder()
    b.op("gate", "NoOp", [])
    x = b.placeholder("x", [-1, 96])
    attrs = {"_class": encode(b"loc:@kernel")}
    data = random_weight((96, 96))
    w = b.add(new_const("w", 1, data.shape, data, ("^gate",), attrs, "/device:CPU:0"))
    b.matmul("y", x, w)
    result = graphwq.quantize(b.graph(), bits, storage)
    for edit in result.edits:
        node = edit.node
        assert node.device == "/device:CPU:0"
        if node.op == "Const" or node.name == "w":
            assert node.control_inputs == ("^gate",), node.name
        else:
            assert node.data_inputs, f"{node.name} is tied to nothing"
    final = next(edit.node for edit in result.edits if edit.node.name == "w")
    assert bytes(final.attr_bytes()["_class"]) == attrs["_class"]


def test_hollow_constants_have_the_size_of_full_ones() -> None:
    """A constant without data counts the same bytes as one with data."""
    for dtype, shape in (
        (dtypes.DT_INT8, (3, 5)),
        (dtypes.DT_FLOAT, (70,)),
        (dtypes.DT_UINT8, (0,)),
    ):
        data = np.zeros(shape, dtypes.NUMPY[dtype])
        full, hollow = Builder(_place(), "q0"), Builder(_place(), "q0")
        full.const("c", dtype, shape, data)
        hollow.const("c", dtype, shape, None)
        assert full.nbytes == hollow.nbytes


def test_nbytes_is_what_the_file_grows_by() -> None:
    """nbytes is the serialized size, but for the length of a field: at most 4 bytes a node."""
    builder = Builder(_place(control=("^a",)), "q0")
    builder.ints("a", [1, 2, 3])
    builder.floats("b", np.ones((40, 50), np.float32))
    builder.binary("c", "Mul", "a", "b")
    real = sum(len(delimited(1, bytes(node.to_bytes()))) for node in builder.nodes)
    assert real <= builder.nbytes <= real + 4 * len(builder.nodes)


def test_final_carries_the_name_and_the_private_attributes() -> None:
    """The last node has the original name, the control inputs, and its own attributes on top."""
    builder = Builder(Place("", "w", "/cpu:0", ("^a",), {"_class": b"\x12\x01x"}), "q0")
    builder.final("Mul", ("p", "q"), T=attr_type(1))
    (node,) = builder.nodes
    assert (node.name, node.op, node.inputs, node.device) == (
        "w",
        "Mul",
        ("p", "q", "^a"),
        "/cpu:0",
    )
    assert sorted(node.attr_bytes()) == ["T", "_class"]


@pytest.mark.parametrize(
    ("op", "attrs", "dtype"),
    [
        ("Mul", {"T": attr_type(1)}, 1),
        ("Cast", {"SrcT": attr_type(1), "DstT": attr_type(19)}, 19),
    ],
)
def test_final_in_a_function_keeps_the_output_name(op: str, attrs: Any, dtype: int) -> None:
    """Consumers in a body ask for ``w:output:0``; where the op's output is no "output", an Identity
    of the right type stands behind it."""
    builder = Builder(_place("f"), "q0")
    builder.final(op, ("p",), **attrs)
    value, node = builder.nodes
    assert (value.name, value.op) == ("q0/value", op)
    assert node.name == "w"
    assert node.op == "Identity"
    assert bytes(node.attr_bytes()["T"]) == attr_type(dtype)
    assert node.inputs[0].startswith("q0/value:")


def _graph(*node_names: str) -> Graph:
    b = GraphBuilder()
    for name in node_names:
        b.op(name, "NoOp", [])
    return b.graph()


@pytest.mark.parametrize(
    ("taken", "root", "first", "second"),
    [
        ((), "q", "q0", "q1"),
        (("w", "q00", "queue/q0/x"), "q", "q0", "q1"),
        (("q0",), "q", "q1", "q2"),
        (("q0/x", "q1/y"), "q", "q2", "q3"),
        (("q",), "q_", "q_0", "q_1"),
        (("q/a", "q_/b"), "q__", "q__0", "q__1"),
        (("q-1/x", "q_1/x"), "q_", "q_0", "q_2"),
    ],
)
def test_new_names_are_free(taken: Any, root: str, first: str, second: str) -> None:
    """A prefix is given out only where no name of the graph begins with it."""
    fresh = Names(_graph(*taken))
    assert (fresh.root, fresh.prefix(), fresh.prefix()) == (root, first, second)


def test_prefixes_have_numbers() -> None:
    """36 of one character, then of two; the number can be read from any name."""
    fresh = Names(_graph("q_"))
    prefixes = [fresh.prefix() for _ in range(1300)]
    assert prefixes[9:11] + prefixes[35:38] == ["q9", "qa", "qz", "q10", "q11"]
    assert [number_of(f"{prefix}/c") for prefix in prefixes] == list(range(1300))
    assert [number_of(name) for name in ("q/4", "w/c", "q-1/4", "q1", "x/q1/c")] == [None] * 5
    fresh.go_on_from(10)
    assert fresh.prefix() == "qa"


def test_new_names_are_free_in_functions_too() -> None:
    """Names of function nodes and arguments count as taken."""
    from rewriting import function_graph

    graph = function_graph()
    data = graph.to_bytes().replace(b"w/read", b"q0/xyz")
    assert Names(Graph.parse(data)).prefix() == "q1"


def test_partly_quantized_graphs_do_not_clash() -> None:
    """A second run on other weights finds free names beside those of the first."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 96])
    h = b.matmul("h", x, b.const("a", random_weight((96, 96), 1)))
    b.matmul("y", h, b.const("b", random_weight((96, 96), 2)))
    first = graphwq.quantize(b.graph(), 4, include=("a",)).graph
    second = graphwq.quantize(first, 4).graph
    third = graphwq.quantize(second, 4)
    assert not third.modified
    names = [node.name for node in second.nodes]
    assert len(set(names)) == len(names)
    assert {"a", "b"} <= {node.name for node in second.nodes if node.op == "Mul"}


def test_builder_collects_nodes_in_order() -> None:
    """A node comes after the nodes that it uses."""
    builder = Builder(_place(), "q0")
    builder.slice("part", "v", [0], [2])
    known = {"v"}
    for node in builder.nodes:
        assert isinstance(node, Node)
        assert set(node.data_inputs) <= known
        known.add(node.name)
