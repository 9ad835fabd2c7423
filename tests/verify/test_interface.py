"""The interface of a graph: placeholders, and the outputs that are found by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Set

import numpy as np
import pytest
from builders import GraphBuilder, dense

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import attr_type
from graphwq.graphdef.node import CONTROL
from graphwq.survey.view import build
from graphwq.verify import sinks
from graphwq.verify.interface import (
    find_interface,
    missing_placeholders,
    needed_nodes,
    placeholders,
    tensor_name,
)

INT32, BOOL, STRING = dtypes.DT_INT32, dtypes.DT_BOOL, dtypes.DT_STRING


def _outputs(b: GraphBuilder) -> Set[str]:
    return set(find_interface(b.graph()).tensors)


def _reasons(b: GraphBuilder) -> Dict[str, str]:
    return {sink.node: sink.reason for sink in find_interface(b.graph()).sinks}


def test_placeholders_with_dtypes_and_shapes() -> None:
    """Unknown dimensions are -1, an unknown rank None, defaults are known."""
    b = GraphBuilder()
    b.placeholder("x", [-1, 224, 224, 3])
    b.placeholder("any", None)
    b.placeholder("flag", [], BOOL)
    default = b.const("value", np.ones(3, np.float32))
    b.op("d", "PlaceholderWithDefault", [default], dtype=("type", 1))
    found = {item.name: item for item in placeholders(b.graph())}
    assert found["x"].shape == (-1, 224, 224, 3)
    assert found["x"].tensor == "x:0"
    assert found["any"].shape is None
    assert (found["flag"].shape, found["flag"].dtype) == ((), BOOL)
    assert found["d"].has_default
    assert not found["x"].has_default
    assert json.loads(json.dumps(found["x"].to_json())) == {
        "name": "x",
        "op": "Placeholder",
        "dtype": "float32",
        "shape": [-1, 224, 224, 3],
        "has_default": False,
    }


@pytest.mark.parametrize(("producer", "shape"), [(23, None), (24, ())])
def test_an_old_placeholder_without_dimensions_has_any_rank(producer: int, shape: Any) -> None:
    """Before producer 24 an empty shape meant that none was given."""
    b = GraphBuilder()
    b.placeholder("x", [])
    assert placeholders(b.graph(producer))[0].shape == shape


def test_what_nobody_reads_is_an_output() -> None:
    """Of several ops at the end each is one, and what others read is none."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4])
    y = b.op("y", "Relu", [x])
    b.op("a", "Sub", [y, x])
    b.op("b", "Mul", [y, x])
    assert _outputs(b) == {"a:0", "b:0"}


def test_every_port_is_an_output() -> None:
    """A Split at the end gives as many tensors as it has parts; a TopKV2 two."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 6])
    b.op("parts", "Split", [b.const("axis", 1), x], num_split=3)
    b.op("top", "TopKV2", [x, b.const("k", 2)])
    assert _outputs(b) == {"parts:0", "parts:1", "parts:2", "top:0", "top:1"}


def test_mere_ends_are_no_outputs() -> None:
    """Each with its reason: nothing disappears without a word."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4])
    b.op("y", "Relu", [x])
    b.op("summary", "ScalarSummary", [b.const("tag", 1), x])
    b.op("check", "Assert", [x])
    b.const("left", np.ones(4, np.float32))
    b.op("left/read", "Identity", [b.const("other", np.ones(4, np.float32))])
    b.placeholder("nobody", [3])
    b.op("waited", "Abs", [x])
    b.op("init", "NoOp", ["^waited"])
    b.op("shape", "Shape", [x])
    v = b.variable("v", [4])
    b.op("assign", "Assign", [v, b.const("zero", np.zeros(4, np.float32))])
    assert _outputs(b) == {"y:0"}
    reasons = _reasons(b)
    assert reasons["waited"] == sinks.WAITED
    assert reasons["left/read"] == sinks.CONSTANT
    assert set(reasons) == {
        "summary", "check", "left", "left/read", "nobody", "waited", "init", "shape", "assign",
    }  # fmt: skip
    assert all(reasons.values())


def test_loops_and_branches() -> None:
    """Ends of loop variables and of branches are outputs only where there is nothing better."""
    b = GraphBuilder()
    x = b.placeholder("x", [4])
    flag = b.placeholder("flag", [], BOOL)
    b.op("switch", "Switch", [x, flag])
    b.op("taken", "Relu", ["switch:1"])
    enter = b.op("enter", "Enter", [x])
    b.op("exit", "Exit", [enter])
    assert _outputs(b) == {"taken:0", "exit:0"}
    b.op("y", "Tanh", [x])
    assert _outputs(b) == {"y:0"}
    assert _reasons(b) == {"taken": sinks.CONDITIONAL, "exit": sinks.LOOP_END}


def test_without_inputs_constants_will_do() -> None:
    """A graph that computes with constants alone has outputs too."""
    b = GraphBuilder()
    b.op("y", "Relu", [b.const("c", np.ones(3, np.float32))])
    assert _outputs(b) == {"y:0"}


def test_names_of_tensors() -> None:
    """A node stands for its first output; near misses are offered."""
    view = build(dense()).main
    assert tensor_name(view, "y") == tensor_name(view, "y:0") == "y:0"
    assert tensor_name(view, "y:1") == "y:1"
    with pytest.raises(InputError, match="no output 'w/raed'; is 'w/read'"):
        tensor_name(view, "w/raed", "output")
    for wrong in ("y:", "y:a", "y:-1", "y:²"):
        with pytest.raises(InputError, match="no name of a tensor"):
            tensor_name(view, wrong)


def test_what_runs_for_an_output() -> None:
    """A feed cuts off what is upstream of it, port by port; control edges count."""
    b = GraphBuilder()
    text = b.placeholder("wav", [], STRING)
    b.op("decoded", "DecodeWav", [text])
    b.op("late", "Identity", ["decoded:1", "^guard"])
    b.op("guard", "NoOp", [])
    b.op("y", "Relu", ["decoded"])
    view, declared = build(b.graph()).main, placeholders(b.graph())
    assert needed_nodes(view, ["y:0"]) == {"y", "decoded", "wav"}
    assert needed_nodes(view, ["y:0"], {"decoded:0"}) == {"y"}
    assert "guard" in needed_nodes(view, ["late:0"], {"decoded:1"})
    assert [p.name for p in missing_placeholders(view, declared, ["y:0"])] == ["wav"]
    assert missing_placeholders(view, declared, ["y:0"], {"decoded:0"}) == ()
    fed = {"decoded:0"}
    assert [p.name for p in missing_placeholders(view, declared, ["late:0"], fed)] == ["wav"]


def test_a_default_is_not_missing() -> None:
    """Placeholders with a default need no feed."""
    b = GraphBuilder()
    default = b.const("value", np.ones(3, np.float32))
    b.op("d", "PlaceholderWithDefault", [default], dtype=attr_type(1))
    b.op("y", "Relu", ["d"])
    view = build(b.graph()).main
    assert missing_placeholders(view, placeholders(b.graph()), ["y:0"]) == ()


@pytest.mark.corpus
def test_outputs_of_real_graphs(entry: Dict[str, Any], corpus: Path) -> None:
    """The outputs that people named are found, except those that other nodes of the graph read."""
    graph = graphwq.load(corpus / entry["file"])
    view = build(graph)
    if any(scope.dangling for scope in view.scopes.values()):
        return
    found = find_interface(graph, view)
    assert sorted(p.name for p in found.placeholders) == sorted(
        item[0] for item in entry["placeholders"]
    )
    assert found.outputs
    for name in set(entry.get("outputs") or ()) - set(found.tensors):
        uses = view.main.uses(name.partition(":")[0])
        assert any(use.slot != CONTROL for use in uses), name
