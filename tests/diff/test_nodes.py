"""graphwq/diff/nodes.py: two nodes of one name, compared by meaning."""

from __future__ import annotations

import math
import struct
from typing import List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, encode
from tensorboard.compat.proto.node_def_pb2 import NodeDef

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.nodes import added, compare_nodes, removed
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const, new_node
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import delimited


def node_of(proto: NodeDef) -> Node:
    """The node as it comes out of a file."""
    return Graph.parse(delimited(1, proto.SerializeToString(deterministic=True))).nodes[0]


def const(value: np.ndarray, name: str = "w") -> Node:
    b = GraphBuilder()
    b.const(name, value)
    return b.graph().nodes[0]


def one(old: Node, new: Node, scope: str = "") -> Change:
    found = compare_nodes(scope, old, new)
    assert len(found) == 1, found
    return found[0]


def kinds(found: Tuple[Change, ...]) -> List[str]:
    return [change.kind.value for change in found]


CONV = ("y", "Conv2D", ("x", "w"))


def conv(**attrs: object) -> Node:
    encoded = {key: encode(value) for key, value in attrs.items()}
    return new_node(*CONV, encoded)


def test_equal_nodes_have_no_difference() -> None:
    """The same bytes are no change, whatever they hold."""
    assert compare_nodes("", conv(padding="SAME"), conv(padding="SAME")) == ()
    nan = const(np.array([np.nan, 1], np.float32))
    assert compare_nodes("", nan, const(np.array([np.nan, 1], np.float32))) == ()


def test_another_op() -> None:
    """An op that changed computes something else."""
    change = one(new_node("y", "Relu", ("x",)), new_node("y", "Relu6", ("x",)))
    assert (change.kind, change.severity) == (Kind.OP_CHANGED, Severity.NUMERIC)
    assert change.message == "Relu became Relu6"


def test_an_attribute() -> None:
    """A changed attribute names its values; a private one is benign."""
    change = one(conv(padding="SAME"), conv(padding="VALID"))
    assert (change.kind, change.severity) == (Kind.ATTR_CHANGED, Severity.NUMERIC)
    assert change.message == "padding of Conv2D: 'SAME' -> 'VALID'"
    assert change.detail["attr"] == "padding"
    assert one(conv(_note="a"), conv(_note="b")).severity is Severity.BENIGN
    assert one(conv(_note="a"), conv()).message == "_note of Conv2D: 'a' -> nothing"


def test_order_of_attributes_on_the_wire_is_benign() -> None:
    """Attributes in another order are the same node in other bytes."""
    plain = conv(padding="SAME", data_format="NCHW")
    raw = bytes(plain.to_bytes())
    entries = [raw[begin:end] for begin, end in _attr_spans(raw)]
    assert len(entries) == 2
    head = raw[: _attr_spans(raw)[0][0]]
    swapped = Graph.parse(delimited(1, head + entries[1] + entries[0])).nodes[0]
    change = one(plain, swapped)
    assert (change.kind, change.severity) == (Kind.ENCODING_CHANGED, Severity.BENIGN)


def _attr_spans(raw: bytes) -> List[Tuple[int, int]]:
    from graphwq.graphdef.wire import fields

    return [(begin, end) for number, _, begin, _, end in fields(raw) if number == 5]


def test_a_default_that_is_written_out_is_benign() -> None:
    """data_format NHWC is Conv2D's default: written or not, the node means the same."""
    change = one(conv(padding="SAME"), conv(padding="SAME", data_format="NHWC"))
    assert change.kind is Kind.ENCODING_CHANGED
    other = one(conv(padding="SAME"), conv(padding="SAME", data_format="NCHW"))
    assert (other.kind, other.severity) == (Kind.ATTR_CHANGED, Severity.NUMERIC)
    assert other.detail["old"] == "'NHWC'"


@pytest.mark.parametrize("values", [[2.0], [2.0, 3.0]])
def test_a_list_that_repeats_its_last_value(values: List[float]) -> None:
    """A typed list whose last value repeats equals the content it stands for."""
    proto = NodeDef(name="w", op="Const")
    proto.attr["dtype"].type = 1
    proto.attr["value"].tensor.dtype = 1
    proto.attr["value"].tensor.tensor_shape.dim.add().size = 4
    proto.attr["value"].tensor.float_val.extend(values)
    filled = np.array((values + [values[-1]] * 4)[:4], np.float32)
    assert one(node_of(proto), const(filled)).kind is Kind.ENCODING_CHANGED
    filled[3] += 1
    change = one(node_of(proto), const(filled))
    assert change.kind is Kind.VALUE_CHANGED
    assert change.detail["values"]["changed"] == 1


def test_nan_of_other_bits_is_nan() -> None:
    """NaN equals NaN, whatever its payload; Inf does not equal NaN."""
    first = np.frombuffer(struct.pack("<2I", 0x7FC00000, 0x3F800000), np.float32)
    second = np.frombuffer(struct.pack("<2I", 0xFFC00001, 0x3F800000), np.float32)
    assert one(const(first), const(second)).kind is Kind.ENCODING_CHANGED
    change = one(const(first), const(np.array([np.inf, 1], np.float32)))
    assert change.kind is Kind.VALUE_CHANGED
    a, b = NodeDef(name="n", op="Op"), NodeDef(name="n", op="Op")
    a.attr["x"].f = math.nan
    b.attr["x"].f = -math.nan
    assert all(
        item.kind is Kind.ENCODING_CHANGED for item in compare_nodes("", node_of(a), node_of(b))
    )


def test_values_speak() -> None:
    """A changed constant states SQNR, largest difference and share, computed by hand."""
    old = np.ones(2000, np.float32)
    new = old.copy()
    new[:20] += np.float32(0.5)
    change = one(const(old), const(new))
    assert change.severity is Severity.NUMERIC
    numbers = change.detail["values"]
    assert numbers["sqnr_db"] == pytest.approx(10 * math.log10(2000 / (20 * 0.25)))
    assert numbers["max_abs_difference"] == 0.5
    assert numbers["fraction_changed"] == 0.01
    assert "SQNR 26.0 dB, max difference 0.5, 1 % of 2000 values changed" in change.message


def test_the_grid_is_named() -> None:
    """Values that were put on a grid say which."""
    old = np.random.RandomState(0).randn(64, 8).astype(np.float32)
    scale = np.abs(old).max(0) / np.float32(7)
    new = (np.rint(old / scale) * scale).astype(np.float32)
    change = one(const(old), const(new))
    assert change.detail["grid"]["num_bits"] == 4
    assert change.message.endswith("now on a symmetric 4-bit grid per axis 1")
    assert "grid" not in one(const(new), const(old)).detail


def test_small_constants_are_shown() -> None:
    """A shape that changed shows both values."""
    change = one(const(np.array([1, 28], np.int32)), const(np.array([1, 32], np.int32)))
    assert "[1, 28] -> [1, 32]" in change.message


def test_type_and_shape_of_a_constant() -> None:
    """Another dtype or shape is named as such."""
    old = np.arange(6, dtype=np.float32)
    half = one(const(old), const(old.astype(np.float16)))
    assert (half.kind, half.severity) == (Kind.DTYPE_CHANGED, Severity.NUMERIC)
    assert half.message.startswith("float32 [6] -> float16 [6]")
    shaped = one(const(old), const(old.reshape(2, 3)))
    assert shaped.kind is Kind.SHAPE_CHANGED
    assert "float32 [6] -> float32 [2,3]" in shaped.message


def test_placeholders_are_the_interface() -> None:
    """Another dtype or shape of a placeholder breaks who feeds it."""
    a, b, c = (GraphBuilder() for _ in range(3))
    a.placeholder("x", [-1, 4])
    b.placeholder("x", [-1, 5])
    c.placeholder("x", [-1, 4], dtype=3)
    first, shape, dtype = (item.graph().nodes[0] for item in (a, b, c))
    change = one(first, shape)
    assert (change.kind, change.severity) == (Kind.SHAPE_CHANGED, Severity.BREAKING)
    assert change.message == "shape of the placeholder: [?,4] -> [?,5]"
    change = one(first, dtype)
    assert (change.kind, change.severity) == (Kind.DTYPE_CHANGED, Severity.BREAKING)


def test_inputs() -> None:
    """A rewired input names its slot; x and x:0 are the same; control inputs have no order."""
    change = one(new_node("y", "Add", ("a", "b")), new_node("y", "Add", ("a", "c:1")))
    assert (change.kind, change.severity) == (Kind.INPUT_REWIRED, Severity.NUMERIC)
    assert change.detail == {"slot": 1, "old": "b", "new": "c:1"}
    assert change.message == "input 1 comes from c:1 instead of b"
    assert (
        one(new_node("y", "Relu", ("a",)), new_node("y", "Relu", ("a:0",))).severity
        is Severity.BENIGN
    )
    old = new_node("y", "NoOp", ("^a", "^b"))
    assert one(old, new_node("y", "NoOp", ("^b", "^a"))).kind is Kind.ENCODING_CHANGED
    change = one(old, new_node("y", "NoOp", ("^b", "^c")))
    assert change.kind is Kind.CONTROL_INPUT_CHANGED
    assert (change.detail["added"], change.detail["removed"]) == (["c"], ["a"])
    longer = compare_nodes("", new_node("y", "AddN", ("a",)), new_node("y", "AddN", ("a", "b")))
    assert [item.message for item in longer] == ["has a new input 1 from b"]
    shorter = compare_nodes("", new_node("y", "AddN", ("a", "b")), new_node("y", "AddN", ("a",)))
    assert [item.message for item in shorter] == ["lost its input 1 from b"]


def test_device_and_debug_info_are_benign() -> None:
    """Where a node runs and where it came from change no result."""
    change = one(new_node("y", "Relu", ("x",)), new_node("y", "Relu", ("x",), device="/cpu:0"))
    assert (change.kind, change.severity) == (Kind.DEVICE_CHANGED, Severity.BENIGN)
    plain = new_node("y", "Relu", ("x",))
    noted = Graph.parse(delimited(1, bytes(plain.to_bytes()) + delimited(6, b"\x0a\x01a"))).nodes[0]
    change = one(plain, noted)
    assert (change.kind, change.severity) == (Kind.DEBUG_INFO_CHANGED, Severity.BENIGN)


def test_paths_in_functions() -> None:
    """A node of a function body is called function:node."""
    assert one(new_node("y", "Relu", ("x",)), new_node("y", "Elu", ("x",)), "f").path == "f:y"


def test_hostile_names_stay_in_one_line() -> None:
    """Messages hold no control characters and do not grow with a name."""
    evil = "\x1b[31m\n" + "x" * 1_000_000
    change = one(new_node("y", "Relu", ("a",)), new_node("y", "Relu", (evil,)))
    assert change.message.isprintable()
    assert len(change.message) < 400


def test_added_and_removed() -> None:
    """A new node says what it is; constants and identities compute nothing by themselves."""
    change = added("", const(np.zeros((2, 3), np.float32)))
    assert (change.kind, change.severity) == (Kind.NODE_ADDED, Severity.BENIGN)
    assert change.message.startswith("new Const float32 [2,3]")
    change = removed("", new_node("y", "AddN", tuple("abcde")))
    assert (change.kind, change.severity) == (Kind.NODE_REMOVED, Severity.NUMERIC)
    assert change.message == "removed AddN(a, b, c, and 2 inputs more)"


def test_changes_survive_json() -> None:
    """from_json reads what to_json wrote."""
    import json

    change = one(conv(padding="SAME"), conv(padding="VALID"))
    assert Change.from_json(json.loads(json.dumps(change.to_json(), allow_nan=False))) == change


def test_an_unreadable_constant_is_still_compared() -> None:
    """A tensor that cannot be read equals its own bytes only."""
    broken = new_node("w", "Const", (), {"dtype": b"\x30\x01", "value": b"\x42\x02\x08\x01"})
    other = new_node(
        "w", "Const", (), {"dtype": b"\x30\x01", "value": b"\x42\x05\x08\x01\x22\x01\x00"}
    )
    assert compare_nodes("", broken, broken) == ()
    found = compare_nodes("", broken, other)
    assert kinds(found) == ["value_changed"]
    good = new_const("w", 1, (1,), np.ones(1, np.float32))
    assert kinds(compare_nodes("", good, other)) == ["value_changed"]
