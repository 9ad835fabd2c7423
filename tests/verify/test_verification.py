"""graphwq.verify as a whole, with TensorFlow: planted faults in their layers, and accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from builders import GraphBuilder, dense, random_weight

import graphwq
from graphwq.errors import InputError, MissingDependencyError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import AttrValue
from graphwq.testing import assert_equivalent
from graphwq.verify.report import Report
from verify.test_structure import _with
from verify.test_weights import changed

pytestmark = pytest.mark.tf


def _failed(report: Report) -> Dict[str, set]:
    found: Dict[str, set] = {}
    for problem in report.problems:
        found.setdefault(problem.layer, set()).add(problem.kind)
    return found


@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
def test_a_quantized_network_with_labels(storage: str, fixtures: Path) -> None:
    """All layers pass; the accuracy is that of counting by hand."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    made = graphwq.quantize(graph, 4, storage).graph
    report = graphwq.verify(graph, made, inputs=fixtures / "digits_cnn_test.npz")
    assert report
    assert report.accuracy is not None
    assert report.accuracy.samples == 450
    assert report.accuracy.reference == pytest.approx(0.9933, abs=1e-4)
    assert report.accuracy.candidate == pytest.approx(0.9733, abs=1e-4)
    assert report.outputs is not None
    (output,) = report.outputs.outputs
    assert output.tensor == "softmax:0"
    assert Report.loads(report.dumps()) == report


def test_exact_in_every_layer(fixtures: Path) -> None:
    """bake against dequant, and a graph against itself: not a bit differs."""
    for name in ("digits_cnn", "digits_lstm", "digits_embedding"):
        graph = graphwq.load(fixtures / f"{name}.pb")
        baked, stored = (graphwq.quantize(graph, 4, form).graph for form in ("bake", "dequant"))
        report = graphwq.verify(baked, stored, exact=True)
        assert report, report.problems
        assert report.outputs is not None
        assert report.outputs.exact
        assert graphwq.verify(graph, Graph.parse(graph.to_bytes()), exact=True)
        assert not graphwq.verify(graph, stored, exact=True)


def _small() -> Graph:
    """x -> MatMul(w) -> BiasAdd(b) -> Relu."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 64])
    w = b.const("w", random_weight((64, 50)))
    bias = b.const("b", np.linspace(-1, 1, 50).astype(np.float32))
    b.op("z", "BiasAdd", [b.matmul("y", x, w), bias])
    b.op("out", "Relu", ["z"])
    return b.graph()


def _nan(values: np.ndarray) -> None:
    values[3] = np.nan


def _off(values: np.ndarray) -> None:
    values[3] += 1000


def _code(values: np.ndarray) -> None:
    values.reshape(-1)[int(np.flatnonzero(np.abs(values.reshape(-1)) < 100)[0])] += 1


def test_planted_faults_fall_in_their_layers() -> None:
    """A NaN is found by the outputs as well; a single code by the weights alone."""
    graph = _small()
    made = graphwq.quantize(graph, 8)
    codes = next(e.node.name for e in made.edits if e.node.op == "Const" and e.node.name != "w")
    cases: Dict[str, Any] = {
        "nan": (changed(made.graph, "b", _nan), {"structure", "outputs"}),
        "bias": (changed(made.graph, "b", _off), {"structure"}),
        "code": (changed(made.graph, codes, _code), {"weights"}),
        "rewired": (_with(made.graph, "out", inputs=["y"]), {"structure"}),
    }
    for name, (candidate, layers) in cases.items():
        report = graphwq.verify(graph, candidate)
        assert set(_failed(report)) == layers, name
    nan = graphwq.verify(graph, cases["nan"][0])
    assert _failed(nan)["outputs"] == {"non_finite"}
    limited = graphwq.verify(graph, cases["bias"][0], max_abs=10.0)
    assert _failed(limited)["outputs"] == {"max_abs"}
    below = graphwq.verify(graph, made.graph, min_sqnr=90.0)
    assert _failed(below) == {"outputs": {"sqnr"}}


def test_a_planted_error_has_the_sqnr_computed_by_hand() -> None:
    """y = x @ 1 + bias; the bias of one of two outputs is 0.5 off: 10 log10(signal / noise)."""
    b = GraphBuilder()
    x = b.placeholder("x", [4, 2])
    w = b.const("w", np.ones((2, 2), np.float32))
    bias = b.const("b", np.zeros(2, np.float32))
    b.op("z", "BiasAdd", [b.matmul("y", x, w), bias])
    graph = b.graph()

    def shift(values: np.ndarray) -> None:
        values[1] = 0.5

    feed = np.arange(8, dtype=np.float32).reshape(4, 2)
    report = graphwq.verify(graph, changed(graph, "b", shift), inputs={"x": feed})
    sums = feed.sum(1)
    expected = 10 * np.log10(2 * (sums**2).sum() / (4 * 0.25))
    assert report.outputs is not None
    assert report.outputs.worst_sqnr_db == pytest.approx(expected, abs=1e-9)


def test_a_candidate_that_cannot_run_fails() -> None:
    """An op that TensorFlow does not know in the candidate: the outputs layer fails and says so."""
    graph = _small()
    candidate = _with(graphwq.quantize(graph, 8).graph, "out", op="NoSuchOp")
    report = graphwq.verify(graph, candidate)
    assert _failed(report)["outputs"] == {"cannot_run"}
    assert "NoSuchOp" in next(p.message for p in report.problems if p.kind == "cannot_run")


def test_a_reference_that_cannot_run_leaves_the_static_verdict() -> None:
    """Said in a note; an error where something was asked that only a run answers."""
    graph = _with(_small(), "out", op="NoSuchOp")
    made = graphwq.quantize(graph, 8).graph
    report = graphwq.verify(graph, made)
    assert report
    assert report.outputs is None
    assert any("NoSuchOp" in note and "not compared" in note for note in report.notes)
    with pytest.raises(UnsupportedError, match="NoSuchOp"):
        graphwq.verify(graph, made, min_sqnr=10.0)


def _string(value: str) -> AttrValue:
    attr = AttrValue()
    attr.tensor.dtype = dtypes.DT_STRING
    attr.tensor.tensor_shape.SetInParent()
    attr.tensor.string_val.append(value.encode())
    return attr


def test_unsafe_ops_are_not_run(tmp_path: Path) -> None:
    """A graph that writes a file is only run where that is allowed; the static verdict stays."""
    target = tmp_path / "written"
    b = GraphBuilder()
    x, w = b.placeholder("x", [2, 64]), b.const("w", random_weight((64, 50)))
    string = ("type", dtypes.DT_STRING)
    path = b.op("path", "Const", [], dtype=string, value=_string(str(target)))
    text = b.op("text", "Const", [], dtype=string, value=_string("hello"))
    b.op("write", "WriteFile", [path, text])
    b.op("out", "Relu", [b.matmul("y", x, w), "^write"])
    graph = b.graph()
    made = graphwq.quantize(graph, 8).graph
    report = graphwq.verify(graph, made)
    assert report
    assert report.outputs is None
    assert any("WriteFile 'write'" in note for note in report.notes)
    with pytest.raises(InputError, match="WriteFile 'write'"):
        graphwq.verify(graph, made, min_sqnr=10.0)
    assert not target.exists()
    assert graphwq.verify(graph, made, allow_unsafe_ops=True).outputs is not None
    assert target.read_text() == "hello"


def test_bad_feeds_and_outputs() -> None:
    """Wrong names (near misses are offered), shapes, dtypes, missing feeds, unknown outputs."""
    graph = _small()
    made = graphwq.quantize(graph, 8).graph
    good = np.ones((3, 64), np.float32)
    for inputs, words in (
        ({"xx:0": good}, "x:0"),
        ({"x:0": good[:, :5]}, "shape"),
        ({"x:0": np.array([["a"]])}, "x:0"),
        ({"w:0": random_weight((64, 50))}, "leave out 'x:0'"),
        ({}, "leave out 'x:0'"),
    ):
        with pytest.raises(InputError, match=words):
            graphwq.verify(graph, made, inputs=inputs)
    with pytest.raises(InputError, match="no output 'outt'.*'out'"):
        graphwq.verify(graph, made, outputs=("outt",))
    with pytest.raises(InputError, match="static"):
        graphwq.verify(graph, made, static=True, min_sqnr=3.0)


def test_labels_that_do_not_fit() -> None:
    """Too few, too many, no whole numbers, and no output that holds scores."""
    graph = _small()
    made = graphwq.quantize(graph, 8).graph
    inputs = {"x": np.ones((3, 64), np.float32)}
    for labels, words in (
        (np.zeros(2, int), "2 labels"),
        (np.zeros(5, int), "5 labels for 3 rows"),
        (np.zeros(3), "whole numbers"),
    ):
        with pytest.raises(InputError, match=words):
            graphwq.verify(graph, made, inputs=inputs, labels=labels)
    report = graphwq.verify(graph, made, inputs={**inputs, "labels": np.zeros(3, int)})
    assert report.accuracy is not None
    assert report.accuracy.samples == 3


def test_layers_and_what_to_keep(fixtures: Path) -> None:
    """Every op is looked at; the set that is found really reaches the limit, and a rule of quantize
    carries it out.
    """
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    made = graphwq.quantize(graph, 4).graph
    feeds = fixtures / "digits_cnn_test.npz"
    report = graphwq.verify(graph, made, inputs=feeds, min_sqnr=25.0, keep="8")
    assert not report
    layers = report.layers
    assert layers is not None
    assert [item.weight for item in layers.nodes] == [
        "conv1/kernel", "depthwise/kernel", "pointwise/kernel", "conv2/kernel", "output/kernel"
    ]  # fmt: skip
    first = layers.nodes[0]
    assert first.accumulated[0].sqnr_db == pytest.approx(first.isolated[0].sqnr_db, abs=1e-3)
    last = layers.nodes[-1]
    assert last.accumulated[0].sqnr_db < last.isolated[0].sqnr_db
    assert layers.keep is not None
    assert layers.keep.reached
    rules = tuple(graphwq.Rule(weight, 8) for weight in layers.keep.weights)
    mended = graphwq.quantize(graph, 4, rules=rules).graph
    again = graphwq.verify(graph, mended, inputs=feeds, min_sqnr=25.0)
    assert again
    assert again.outputs is not None
    assert again.outputs.worst_sqnr_db == pytest.approx(layers.keep.sqnr_db, abs=0.05)
    assert Report.loads(report.dumps()) == report
    with pytest.raises(InputError, match="which SQNR"):
        graphwq.verify(graph, made, inputs=feeds, keep="float")


def test_assert_equivalent() -> None:
    """Passes quietly, and fails with the names of what is wrong."""
    graph = _small()
    made = graphwq.quantize(graph, 8).graph
    assert assert_equivalent(graph, made, min_sqnr=20.0).passed
    with pytest.raises(AssertionError, match=r"FAILED: reference -> candidate(.|\n)*b: float32"):
        assert_equivalent(graph, changed(made, "b", _off))


def test_without_tensorflow_the_static_verdict_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note says that nothing was run; asking for a run names the extra to install."""

    def missing(*_args: Any) -> None:
        raise MissingDependencyError("running a graph needs TensorFlow: install graphwq[tf]")

    monkeypatch.setattr("graphwq.verification.Runner", missing)
    graph = dense(64, 50)
    made = graphwq.quantize(graph, 8).graph
    report = graphwq.verify(graph, made)
    assert report
    assert any("install graphwq[tf]" in note for note in report.notes)
    with pytest.raises(MissingDependencyError):
        graphwq.verify(graph, made, min_sqnr=10.0)
