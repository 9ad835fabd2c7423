"""graphwq/diff/compare.py: planted edits are found, also when everything is renamed at once."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from builders import GraphBuilder, dense, random_weight

import graphwq
from diff.planting import (
    PLANTED,
    edited,
    find,
    model,
    node_of,
    prefixed,
    stored_constants,
    with_values,
)
from graphwq.diff.change import Change, Severity
from graphwq.diff.compare import diff_graphs
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph


def told(change: Change) -> str:
    return f"{change.kind.value} {change.path} {change.severity.value}: {change.message}"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_edit_is_found(name: str) -> None:
    """Kind, path and severity of each edit; nothing else is reported beside it."""
    planted = PLANTED[name]
    old = model()
    changes = diff_graphs(old, edited(old, planted.apply)).changes
    found = find(changes, planted.kind, planted.path)
    assert len(found) == 1, [told(item) for item in changes]
    assert found[0].severity.value == planted.severity
    assert planted.said in found[0].message
    assert found[0].reason
    others = [item for item in changes if item is not found[0]]
    if name == "placeholder":
        assert [item.kind.value for item in others] == ["input_rewired"]
    elif name == "edge":
        assert [item for item in others if item.kind.value != "input_rewired"] == []
    else:
        assert others == [], [told(item) for item in others]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_edit_is_found_under_a_prefix(name: str) -> None:
    """The same edit in a graph that was imported under a prefix: one rename and the edit."""
    planted = PLANTED[name]
    old = model()
    new = prefixed(edited(old, planted.apply))
    changes = diff_graphs(old, new).changes
    path = "import/mask" if name == "placeholder" else planted.path
    found = find(changes, planted.kind, path)
    assert len(found) == 1, [told(item) for item in changes]
    assert found[0].severity.value == planted.severity
    assert planted.said in found[0].message
    renames = find(changes, "scope_renamed")
    assert len(renames) == 1
    assert "got the prefix import/" in renames[0].message
    assert renames[0].severity is Severity.BREAKING  # x is fed under another name
    allowed = {planted.kind, "scope_renamed"} | (
        {"input_rewired"} if name == "placeholder" else set()
    )
    assert {item.kind.value for item in changes} <= allowed, [told(item) for item in changes]


def test_an_empty_diff() -> None:
    """A graph has no difference to itself, nor to a copy of its bytes."""
    old = model()
    assert diff_graphs(old, old).changes == ()
    assert diff_graphs(old, Graph.parse(old.to_bytes())).changes == ()


def test_one_renamed_node() -> None:
    """One line says that a node has another name; who uses it has not changed."""
    old = model()

    def rename(proto) -> None:  # type: ignore[no-untyped-def]
        node_of(proto, "conv2/Relu").name = "conv2/Activation"
        node_of(proto, "sum").input[1] = "conv2/Activation"

    changes = diff_graphs(old, edited(old, rename)).changes
    assert [told(item) for item in changes] == [
        "node_renamed conv2/Relu benign: renamed to conv2/Activation"
    ]


def test_a_renamed_output_is_breaking() -> None:
    """Who fetches by name must follow."""
    old = model()

    def rename(proto) -> None:  # type: ignore[no-untyped-def]
        node_of(proto, "probabilities").name = "softmax"

    (change,) = diff_graphs(old, edited(old, rename)).changes
    assert told(change) == "node_renamed probabilities breaking: renamed to softmax"
    assert change.reason == "whoever feeds or fetches probabilities must follow"


def test_a_scope_rename_is_one_line() -> None:
    """conv2/ -> block/conv/ with all that is in it."""
    old = model()

    def rename(proto) -> None:  # type: ignore[no-untyped-def]
        for node in proto.node:
            node.name = node.name.replace("conv2/", "block/conv/")
            for index, item in enumerate(node.input):
                node.input[index] = item.replace("conv2/", "block/conv/")

    (change,) = diff_graphs(old, edited(old, rename)).changes
    assert told(change) == "scope_renamed conv2/ benign: 6 nodes: conv2/ is called block/conv/"


def chain(count: int, first: int = 0, skip: int = -1) -> Graph:
    """Layers with TensorFlow's numbered names; ``skip`` is left out and the rest renumbered."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 8, 8, 4])
    number = first
    for layer in range(count):
        if layer == skip:
            continue
        suffix = f"_{number}" if number else ""
        w = b.const(f"weights{suffix}", random_weight((1, 1, 4, 4), layer))
        x = b.conv(f"Conv2D{suffix}", x, w)
        x = b.op(f"Relu{suffix}", "Relu", [x])
        number += 1
    b.op("out", "Identity", [x])
    return b.graph()


def test_renumbered_nodes_are_renames() -> None:
    """A layer in the middle is gone, the rest renumbered: one layer removed, the rest renamed."""
    changes = diff_graphs(chain(8), chain(8, skip=3)).changes
    removed = {item.path for item in find(changes, "node_removed")}
    assert removed == {"weights_3", "Conv2D_3", "Relu_3"}
    assert not find(changes, "value_changed")
    assert not find(changes, "node_added")
    renamed = {item.path: item.detail["new"] for item in find(changes, "node_renamed")}
    assert renamed["weights_4"] == "weights_3"
    assert renamed["Conv2D_7"] == "Conv2D_6"
    assert len(renamed) == 12
    (rewired,) = find(changes, "input_rewired")
    assert rewired.path == "Conv2D_4"
    assert rewired.detail["old"] == "Relu_3"
    assert rewired.message == "input 0 comes from Relu_2 instead of Relu_3 (removed)"


def test_another_order_is_one_benign_change() -> None:
    """Shuffled nodes: no change but that they moved."""
    old = model()

    def shuffle(proto) -> None:  # type: ignore[no-untyped-def]
        nodes = list(proto.node)
        random.Random(0).shuffle(nodes)
        copies = [
            type(node).FromString(node.SerializeToString(deterministic=True)) for node in nodes
        ]
        del proto.node[:]
        proto.node.extend(copies)

    (change,) = diff_graphs(old, edited(old, shuffle)).changes
    assert (change.kind.value, change.severity) == ("node_moved", Severity.BENIGN)
    assert "moved in the file" in change.message


def test_swapped_arguments_swap_added_and_removed() -> None:
    """What is added one way is removed the other way."""
    old, new = chain(5), chain(6)
    forth, back = diff_graphs(old, new).changes, diff_graphs(new, old).changes
    assert {item.path for item in find(forth, "node_added")} == {
        item.path for item in find(back, "node_removed")
    }


def test_weights_that_changed_places_are_value_changes() -> None:
    """Two weights with swapped values keep their names: what a person would say."""
    old = model()

    def swap(proto) -> None:  # type: ignore[no-untyped-def]
        a, b = node_of(proto, "conv1/bias"), node_of(proto, "conv2/bias")
        first = a.attr["value"].tensor.tensor_content
        a.attr["value"].tensor.tensor_content = b.attr["value"].tensor.tensor_content
        b.attr["value"].tensor.tensor_content = first

    changes = diff_graphs(old, edited(old, swap)).changes
    assert [item.kind.value for item in changes] == ["value_changed", "value_changed"]


def test_edits_of_a_quantized_graph(fixtures: Path) -> None:
    """One code, one scale: found by name in the graph that holds them."""
    old = graphwq.quantize(graphwq.load(fixtures / "digits_cnn.pb"), 8).graph
    old = edited(old, lambda proto: None)  # as this protobuf writes it
    codes, scale = stored_constants(old)

    def one_more(values: np.ndarray) -> None:
        values[5] += 1 if values[5] < 127 else -1

    (change,) = diff_graphs(old, edited(old, with_values(codes, one_more))).changes
    assert (change.kind.value, change.path) == ("value_changed", codes)
    assert "1 of 288 values changed" in change.message

    def larger(values: np.ndarray) -> None:
        values[2] *= 2

    (change,) = diff_graphs(old, edited(old, with_values(scale, larger))).changes
    assert (change.kind.value, change.path) == ("value_changed", scale)


def test_two_nodes_of_one_name_are_refused() -> None:
    """A broken graph is an error that says so."""
    old = dense()
    twice = Graph.parse(old.to_bytes() + old.to_bytes())
    with pytest.raises(InputError, match="two nodes are named"):
        diff_graphs(old, twice)


def test_the_same_graph_in_other_bytes() -> None:
    """A field that stands elsewhere: benign, but not silence."""
    old = model()
    pieces = list(old.layout)
    extra = [item for item in pieces if isinstance(item, memoryview)]
    rest = [item for item in pieces if not isinstance(item, memoryview)]
    new = Graph.parse(Graph(tuple(extra + rest)).to_bytes())
    (change,) = diff_graphs(old, new).changes
    assert (change.kind.value, change.severity) == ("encoding_changed", Severity.BENIGN)


def test_unknown_fields_are_compared() -> None:
    """A top-level field that graphwq does not know is a change."""
    old = model()
    new = Graph.parse(old.to_bytes() + b"\xfa\x01\x01x")
    (change,) = diff_graphs(old, new).changes
    assert change.kind.value == "field_changed"


def test_functions_added_and_removed() -> None:
    """Functions of other names and other bodies are other functions."""
    a, b = GraphBuilder(), GraphBuilder()
    for builder, name, op in ((a, "f", "Relu"), (b, "g", "Relu6")):
        builder.placeholder("x", [1])
        body = GraphBuilder()
        body.op("r", op, ["v"])
        builder.function(name, [("v", 1)], body, [("o", "r:activations:0", 1)])
    changes = diff_graphs(a.graph(), b.graph()).changes
    assert [told(item) for item in changes] == [
        "function_removed f numeric: removed function of 1 node",
        "function_added g numeric: new function of 1 node",
    ]


def test_outputs_that_swapped_their_ops_keep_their_names() -> None:
    """Nothing uses an output: its name says which it is, not its op."""
    graphs = []
    for first, second, seed in (("Sigmoid", "Tanh", 1), ("Tanh", "Sigmoid", 2)):
        b = GraphBuilder()
        value = b.const("value", random_weight((9,), seed))
        b.op("a", first, [value])
        b.op("b", second, [value])
        graphs.append(b.graph())
    kinds = sorted(item.kind.value for item in diff_graphs(*graphs).changes)
    assert kinds == ["op_changed", "op_changed", "value_changed"]
