"""Functions that were renamed are one line each, and their callers do not count as changed."""

from __future__ import annotations

from typing import Any, Dict

from builders import GraphBuilder
from laws.test_diff_patch import law

import graphwq
from diff.planting import edited, model, prefixed
from graphwq.diff.change import Severity
from graphwq.diff.compare import diff_graphs
from graphwq.diff.function_names import renamed_functions, with_function_names
from graphwq.graphdef.graph import Graph


def library(inner: str, outer: str, op: str = "Relu", twin: str = "") -> Graph:
    """A function that calls another one, perhaps with a twin, and is called itself."""
    b = GraphBuilder()
    x = b.placeholder("x", [1])
    for name in filter(None, (inner, twin)):
        body = GraphBuilder()
        body.op("r", op, ["v"])
        b.function(name, [("v", 1)], body, [("o", "r:activations:0", 1)])
    body = GraphBuilder()
    body.op("c", inner, ["v"])
    b.function(outer, [("v", 1)], body, [("o", "c:o:0", 1)])
    b.call("called", outer, [x])
    return b.graph()


def told(old: Graph, new: Graph) -> Dict[str, str]:
    return {item.path: item.kind.value for item in law(old, new).changes}


def test_a_rename_is_one_line() -> None:
    """The body is the same: nothing removed, nothing added, no caller changed."""
    old, new = library("f", "g"), library("f", "h_42")
    (change,) = law(old, new).changes
    assert (change.kind.value, change.path, change.severity) == (
        "function_renamed",
        "g",
        Severity.BENIGN,
    )
    assert change.message == "function of 1 node renamed to h_42, body unchanged"
    assert change.detail == {"old": "g", "new": "h_42", "nodes": 1}
    law(new, old)


def test_functions_that_call_renamed_functions() -> None:
    """Both were renamed, the one calls the other: two lines."""
    assert told(library("f", "g"), library("f2", "g2")) == {
        "f": "function_renamed",
        "g": "function_renamed",
    }


def test_another_body_is_another_function() -> None:
    """A function whose body changed as well is removed and added; so is what calls it."""
    kinds = told(library("f", "g"), library("f2", "g", op="Tanh"))
    assert kinds["f"] == "function_removed"
    assert kinds["f2"] == "function_added"
    assert kinds["g:c"] == "op_changed"


def test_names_that_are_swapped_are_no_rename() -> None:
    """Both names are there on both sides: what changed is what they are."""
    assert renamed_functions(library("f", "g"), library("g", "f")) == {}


def test_twins_are_paired() -> None:
    """Two functions of one body: each of them is paired once."""
    old, new = library("a", "g", twin="b"), library("c", "g", twin="d")
    assert renamed_functions(old, new) == {"a": "c", "b": "d"}
    assert set(told(old, new).values()) == {"function_renamed"}
    fewer = library("c", "g")
    assert renamed_functions(old, fewer) == {"a": "c"}
    assert told(old, fewer)["b"] == "function_removed"


def test_a_function_that_calls_itself() -> None:
    """Its own name in its body does not keep it from being found."""
    graphs = []
    for name in ("f", "g"):
        b = GraphBuilder()
        body = GraphBuilder()
        body.op("again", name, ["v"])
        b.function(name, [("v", 1)], body, [("o", "again:o:0", 1)])
        b.call("called", name, [b.placeholder("x", [1])])
        graphs.append(b.graph())
    assert told(*graphs) == {"f": "function_renamed"}


def test_every_mention_follows() -> None:
    """Ops, attributes, lists of functions, attributes of functions in attributes, gradients."""

    def mention(proto: Any) -> None:
        node = proto.node.add(name="map", op="MapDefun")
        node.attr["f"].func.name = "double"
        node.attr["f"].func.attr["inner"].func.name = "double"
        node.attr["fs"].list.func.add(name="double")
        node.attr["fs"].list.func.add(name="other")
        node.attr["text"].s = b"double"
        proto.library.gradient.add(function_name="double", gradient_func="double_grad")

    old = edited(model(), mention)
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    made = GraphDef.FromString(with_function_names(old, {"double": "twice"}).to_bytes())
    node = made.node[-1]
    assert node.attr["f"].func.name == "twice"
    assert node.attr["f"].func.attr["inner"].func.name == "twice"
    assert [item.name for item in node.attr["fs"].list.func] == ["twice", "other"]
    assert node.attr["text"].s == b"double"
    gradient = made.library.gradient[0]
    assert (gradient.function_name, gradient.gradient_func) == ("twice", "double_grad")
    assert made.library.function[0].signature.name == "twice"
    back = with_function_names(Graph.parse(made.SerializeToString()), {"twice": "double"})
    assert set(told(old, back).values()) <= {"encoding_changed"}  # the proto wrote it anew
    assert with_function_names(old, {}) is old


def test_a_quantization_is_explained_under_other_function_names() -> None:
    """The functions were renamed, the nodes got a prefix, the weights are quantized: all of it."""
    old = model()
    plan = graphwq.plan(old, bits=4)
    made = graphwq.quantize(old, plan=plan).graph
    new = prefixed(with_function_names(made, {"double": "double_7"}))
    for how in (None, plan):
        changes = diff_graphs(old, new, how).changes
        left = [item for item in changes if item.explained_by is None]
        assert {item.kind.value for item in left} == {"function_renamed", "scope_renamed"}
    law(old, new)
