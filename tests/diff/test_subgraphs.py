"""Constants that NEW decodes from others: one line each, whoever made them."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from laws.test_diff_patch import law

from graphwq.diff import render_text, words
from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.compare import Comparison, diff_graphs
from graphwq.diff.document import document
from graphwq.graphdef.graph import Graph

W = random_weight((16, 8), 1)
V = random_weight((16, 8), 2)
LOW, HIGH = np.float32(W.min()), np.float32(W.max())
STEP = np.float32((HIGH - LOW) / 255)
CODES = np.rint((W - LOW) / STEP).astype(np.uint8)

Build = Callable[[GraphBuilder, str], str]


def two_layers(first: Build, second: Build) -> Graph:
    """Two products whose weights are made by functions of (builder, name)."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 16])
    parts = []
    for number, build in enumerate((first, second)):
        parts.append(b.matmul(f"m{number}", x, build(b, f"w{number}")))
    b.op("y", "Add", parts)
    return b.graph()


def plain(b: GraphBuilder, name: str) -> str:
    return b.const(name, W if name == "w0" else V)


def decoded(b: GraphBuilder, name: str, root: str = "", high: float = float(HIGH)) -> str:
    """(codes - zero) * step, in other words than graphwq's."""
    codes = b.cast(f"{name}/cast", b.const(f"{name}/codes", CODES), 4, 1)
    step = b.op(
        f"{name}/step",
        "RealDiv",
        [b.const(f"{name}/range", np.float32(high - LOW)), b.const(f"{name}/n", np.float32(255))],
    )
    scaled = b.op(f"{name}/scaled", "Mul", [codes, step])
    return b.op(root or name, "AddV2", [scaled, b.const(f"{name}/low", LOW)])


def only(comparison: Comparison) -> Change:
    (change,) = comparison.changes
    return change


def test_one_line_a_weight() -> None:
    """Eight new nodes are one change with the grid, the error and the bytes."""
    new = two_layers(decoded, plain)
    change = only(law(two_layers(plain, plain), new))
    assert (change.kind, change.path) == (Kind.CONSTANT_DECODED, "w0")
    assert change.severity is Severity.NUMERIC
    error = W.astype(np.float64) - (CODES.astype(np.float32) * STEP + LOW)
    sqnr = 10 * np.log10(np.square(W.astype(np.float64)).sum() / np.square(error).sum())
    assert change.detail["values"]["sqnr_db"] == pytest.approx(sqnr, abs=0.01)
    assert change.detail["nodes_added"] == 8
    assert set(change.detail["nodes"]) == {n.name for n in new.nodes if n.name.startswith("w0")}
    assert change.detail["stored"] == "uint8"
    spoken = "float32 [16,8] -> uint8 through RealDiv, Cast, Mul, AddV2, "
    assert change.message.startswith(spoken), change.message
    assert f"SQNR {sqnr:.1f} dB" in change.message


def test_the_root_may_have_another_name() -> None:
    """The constant is gone, its user reads the subgraph: still one line, no rewired input."""
    made = two_layers(lambda b, name: decoded(b, name, "other/name"), plain)
    change = only(law(two_layers(plain, plain), made))
    assert (change.path, change.detail["node"]) == ("w0", "other/name")


def test_other_values_are_other_values() -> None:
    """What is nowhere near the old constant stays in full: op changed, nodes added."""
    new = two_layers(lambda b, name: decoded(b, name, high=float(HIGH) * 9), plain)
    kinds = {item.kind for item in law(two_layers(plain, plain), new).changes}
    assert Kind.CONSTANT_DECODED not in kinds
    assert {Kind.OP_CHANGED, Kind.NODE_ADDED} <= kinds


def test_what_is_fed_is_no_constant() -> None:
    """A subgraph that depends on a placeholder is not folded, however it looks."""

    def fed(b: GraphBuilder, name: str) -> str:
        scale = b.placeholder(f"{name}/scale", [])
        return b.op(name, "Mul", [b.const(f"{name}/v", W), scale])

    kinds = {item.kind for item in law(two_layers(plain, plain), two_layers(fed, plain)).changes}
    assert Kind.CONSTANT_DECODED not in kinds
    assert Kind.PLACEHOLDER_ADDED in kinds


def test_nodes_that_something_else_uses_are_shown() -> None:
    """A new node behind the codes that feeds another new node is no mere decoding."""

    def leaking(b: GraphBuilder, name: str) -> str:
        root = decoded(b, name)
        b.op("leak", "Relu", [f"{name}/cast"])
        return root

    changes = law(two_layers(plain, plain), two_layers(leaking, plain)).changes
    by_path = {item.path: item.kind for item in changes}
    assert by_path["w0"] is Kind.CONSTANT_DECODED
    assert by_path["leak"] is Kind.OUTPUT_ADDED
    assert by_path["w0/cast"] is Kind.NODE_ADDED
    assert by_path["w0/codes"] is Kind.NODE_ADDED
    assert "w0/scaled" not in by_path


def test_shared_nodes_are_counted_once() -> None:
    """Two weights that share a constant: two lines, the shared bytes belong to the first."""

    def sharing(b: GraphBuilder, name: str) -> str:
        value = W if name == "w0" else V
        scale = np.float32(np.abs(V).max() / 127)
        if name == "w0":
            b.const("shared", scale)
        codes = b.const(f"{name}/codes", np.rint(value / scale).clip(-127, 127).astype(np.int16))
        return b.op(name, "Mul", [b.cast(f"{name}/cast", codes, 5, 1), "shared"])

    changes = law(two_layers(plain, plain), two_layers(sharing, sharing)).changes
    assert [item.kind for item in changes] == [Kind.CONSTANT_DECODED] * 2
    assert ["shared" in item.detail["nodes"] for item in changes] == [True, False]


def test_the_same_values_are_benign() -> None:
    """A float constant behind a reshape has the old values: nothing computes otherwise."""

    def flat(b: GraphBuilder, name: str) -> str:
        value = b.const(f"{name}/flat", W.reshape(-1))
        return b.op(name, "Reshape", [value, b.const(f"{name}/shape", np.array([16, 8], np.int32))])

    change = only(law(two_layers(plain, plain), two_layers(flat, plain)))
    assert (change.kind, change.severity) == (Kind.CONSTANT_DECODED, Severity.BENIGN)
    assert "the same values" in change.message


def test_the_head_line_sums_it_up() -> None:
    """The reader sees it before the list."""
    old, new = two_layers(plain, plain), two_layers(decoded, plain)
    diff = document(diff_graphs(old, new), "a", "b")
    (line,) = words.quantization(diff)
    assert line.startswith("1 constant is decoded from uint8 now: ")
    assert line in render_text.render(diff)


def test_what_waits_for_something_else_is_shown() -> None:
    """A new control input is a change: on the root beside the line, on an inner node in full."""

    def waiting(b: GraphBuilder, name: str) -> str:
        codes = b.const(f"{name}/codes", CODES, control=["x"])
        wide = b.op(
            f"{name}/wide", "Mul", [b.cast(f"{name}/cast", codes, 4, 1), b.const("s", STEP)]
        )
        return b.op(name, "AddV2", [wide, b.const(f"{name}/low", LOW)])

    kinds = {
        item.kind for item in law(two_layers(plain, plain), two_layers(waiting, plain)).changes
    }
    assert Kind.CONSTANT_DECODED not in kinds
    assert Kind.NODE_ADDED in kinds

    def late(b: GraphBuilder, name: str) -> str:
        return b.op(name, "Neg", [b.const(f"{name}/negative", -W), "^x"])

    changes = law(two_layers(plain, plain), two_layers(late, plain)).changes
    assert {item.kind for item in changes if item.path == "w0"} == {
        Kind.CONSTANT_DECODED,
        Kind.CONTROL_INPUT_CHANGED,
    }


def test_a_damaged_subgraph_is_no_reason_to_stop() -> None:
    """Constants that do not fit together are left as they are: changes in full."""

    def broken(b: GraphBuilder, name: str) -> str:
        return b.op(name, "Mul", [b.const(f"{name}/a", W), b.const(f"{name}/b", V[:3, :3])])

    changes = law(two_layers(plain, plain), two_layers(broken, plain)).changes
    assert Kind.OP_CHANGED in {item.kind for item in changes}


@pytest.mark.tf
@pytest.mark.parametrize("renamed", [False, True])
def test_the_graph_transform_tool(renamed: bool) -> None:
    """quantize_weights of TensorFlow 1.15: one line a weight, nothing numeric besides."""
    tf = pytest.importorskip("tensorflow")
    tools = pytest.importorskip("tensorflow.tools.graph_transforms")
    from conftest import ROOT

    import graphwq
    from diff.planting import prefixed

    old = graphwq.load(ROOT / "fixtures" / "digits_cnn.pb")
    proto = tf.compat.v1.GraphDef.FromString(old.to_bytes())
    made = tools.TransformGraph(proto, [], ["softmax"], ["quantize_weights"])
    new = Graph.parse(made.SerializeToString())
    changes = law(old, prefixed(new) if renamed else new).changes
    grave = [item for item in changes if item.severity is Severity.NUMERIC]
    assert {item.path: item.kind for item in grave} == dict.fromkeys(
        ["pointwise/kernel", "conv2/kernel", "output/kernel"], Kind.CONSTANT_DECODED
    )
    for item in grave:
        assert item.detail["stored"] == "quint8"
        assert item.detail["nodes_added"] == 4
        assert item.detail["grid"]["num_bits"] == 8
        assert 38 < item.detail["values"]["sqnr_db"] < 46
        assert item.detail["new_bytes"] < 0.35 * item.detail["old_bytes"]


@pytest.mark.tf
def test_dequantize_is_what_tensorflow_computes() -> None:
    """Every mode and type of Dequantize, against the kernel."""
    tf = pytest.importorskip("tensorflow")
    from graphwq.survey.evaluate import evaluate
    from graphwq.survey.view import build

    cases: List[Tuple[str, str, Any]] = [
        (mode, kind, limits)
        for mode in ("MIN_COMBINED", "MIN_FIRST", "SCALED")
        for kind in ("qint8", "quint8", "qint16", "quint16")
        for limits in ((-1.7, 2.3), (0.0, 3.1), (-0.4, 0.0), (0.25, 0.25), (-3.0, 1.0))
        if not (mode == "SCALED" and kind == "quint16" and limits[1] == 0)
    ]
    ran: Dict[str, int] = {}
    for mode, kind, (low, high) in cases:
        with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
            dtype = getattr(tf, kind)
            base = {"qint8": np.int8, "quint8": np.uint8, "qint16": np.int16, "quint16": np.uint16}
            info = np.iinfo(base[kind])
            values = np.linspace(info.min, info.max, 97).astype(base[kind])
            codes = tf.bitcast(tf.constant(values), dtype)
            made = tf.quantization.dequantize(codes, low, high, mode=mode, name="y")
            try:
                wanted = session.run(made)
            except tf.errors.InvalidArgumentError:
                continue
            data = graph.as_graph_def().SerializeToString()
        view = build(Graph.parse(data)).main
        source = view.nodes["y"].data_inputs[0]
        found = evaluate(view, "y", {source: values})
        assert found is not None
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6, err_msg=f"{mode} {kind}")
        ran[mode] = ran.get(mode, 0) + 1
    assert set(ran) == {"MIN_COMBINED", "MIN_FIRST", "SCALED"}
