"""The structure layer: what the plan explains passes, every other change is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from builders import dense
from rewriting import function_graph

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_bool, attr_type, new_node
from graphwq.graphdef.node import Node
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.source import to_text
from graphwq.rewrite.recover import recover_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.verify.structure import StructureResult, check_structure
from verify.test_weights import changed


def structure_of(
    reference: Graph, candidate: Graph, plan: Optional[graphwq.Plan] = None
) -> StructureResult:
    """The structure layer of two graphs."""
    candidate = Graph.parse(candidate.to_bytes())
    view, other = build(reference), build(candidate)
    recovered = recover_surveyed(reference, view, locate_in(view), other, plan)
    return check_structure(reference, candidate, other, recovered)


def _with(graph: Graph, name: str, **changes: object) -> Graph:
    """The graph with inputs, name or attributes of one node of any scope changed."""
    ((scope, node),) = [
        (scope.name, node) for scope in graph.scopes for node in scope.nodes if node.name == name
    ]
    attrs = {key: bytes(value) for key, value in node.attr_bytes().items()}
    attrs.update(changes.get("attrs", {}))  # type: ignore[call-overload]
    new = new_node(
        str(changes.get("called", node.name)),
        str(changes.get("op", node.op)),
        tuple(changes.get("inputs", node.inputs)),  # type: ignore[arg-type]
        attrs,
        node.device,
    )
    return graph.edited({scope: {name: [new]}})


@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
@pytest.mark.parametrize("bits", [8, 3])
def test_what_quantize_made_is_explained(bits: int, storage: str, fixtures: Path) -> None:
    """No change is left over, and every edit is counted for its weight."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    made = graphwq.quantize(graph, bits, storage)
    result = structure_of(graph, made.graph)
    assert result.passed
    assert result.changes == ()
    assert not result.identical
    assert sum(result.explained.values()) == len(made.edits)
    assert set(result.explained) == {item.item.weight for item in made.weights}
    assert result.compared == len(made.graph.nodes)
    assert StructureResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_the_same_file_is_identical(fixtures: Path) -> None:
    """A graph against itself passes: its nodes were compared."""
    graph = graphwq.load(fixtures / "digits_lstm.pb")
    result = structure_of(graph, graph)
    assert result.passed
    assert result.identical
    assert not result.explained


def test_another_spelling_is_no_problem(fixtures: Path) -> None:
    """Serialized anew by protobuf, or through text: reported as benign, and passed."""
    graph = graphwq.load(fixtures / "digits_mlp.pb")
    made = graphwq.quantize(graph, 8).graph
    again = Graph.parse(GraphDef.FromString(made.to_bytes()).SerializeToString())
    result = structure_of(graph, again)
    assert result.passed
    assert {change.severity.value for change in result.changes} <= {"benign"}
    from google.protobuf import text_format

    text = text_format.Parse(to_text(made), GraphDef()).SerializeToString(deterministic=True)
    assert structure_of(graph, Graph.parse(text)).passed


def test_the_float_graph_written_anew_passes(fixtures: Path) -> None:
    """The law read -> write, through another library."""
    graph = graphwq.load(fixtures / "digits_mlp.pb")
    again = Graph.parse(GraphDef.FromString(graph.to_bytes()).SerializeToString())
    assert structure_of(graph, again).passed


def _first(graph: Graph, op: str) -> Node:
    return next(node for node in graph.nodes if node.op == op)


def _bias(graph: Graph) -> Graph:
    node = _first(graph, "BiasAdd")
    inputs = {node.name: node for node in graph.nodes}
    read = inputs[node.inputs[1]]
    const = read if read.op == "Const" else inputs[read.inputs[0]]

    def edit(values: np.ndarray) -> None:
        values.reshape(-1)[0] += 1

    return changed(graph, const.name, edit)


def _rewired(graph: Graph) -> Graph:
    node = _first(graph, "Relu")
    other = next(item for item in graph.nodes if item.op == "Placeholder")
    return _with(graph, node.name, inputs=[other.name])


def _flipped(graph: Graph) -> Graph:
    node = _first(graph, "MatMul")
    return _with(graph, node.name, attrs={"transpose_a": attr_bool(True)})


def _renamed(graph: Graph) -> Graph:
    return _with(graph, _first(graph, "Softmax").name, called="another_name")


def _double(graph: Graph) -> Graph:
    return _with(graph, _first(graph, "Placeholder").name, attrs={"dtype": attr_type(2)})


_FAULTS: Dict[str, Tuple[Callable[[Graph], Graph], List[str]]] = {
    "a bias was edited": (_bias, ["value_changed"]),
    "an edge was rewired": (_rewired, ["input_rewired"]),
    "an attribute was flipped": (_flipped, ["attr_changed"]),
    "a node was renamed": (_renamed, ["output_added", "output_removed"]),
    "a placeholder has another dtype": (_double, ["dtype_changed"]),
}


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])
@pytest.mark.parametrize("fault", sorted(_FAULTS))
def test_planted_faults(fault: str, quantized: bool, fixtures: Path) -> None:
    """Each is found by its kind and by the name of the node, among all that the plan explains."""
    graph = graphwq.load(fixtures / "digits_mlp.pb")
    plant, kinds = _FAULTS[fault]
    candidate = graphwq.quantize(graph, 4).graph if quantized else graph
    before = {node.name: bytes(node.to_bytes()) for node in candidate.nodes}
    tampered = plant(candidate)
    after = {node.name: bytes(node.to_bytes()) for node in tampered.nodes}
    different = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    result = structure_of(graph, tampered)
    assert not result.passed
    assert sorted({problem.kind for problem in result.problems}) == kinds
    assert {problem.where for problem in result.problems} == different


def test_a_function_body_that_was_altered() -> None:
    """Named as function:node."""
    graph = function_graph(shape=(64, 64))
    body = graph.functions[0]
    node = next(item for item in body.nodes if item.op not in ("Const", "Identity"))
    candidate = _with(graphwq.quantize(graph, 8).graph, node.name, op="Sub")
    result = structure_of(graph, candidate)
    assert [(problem.kind, problem.where) for problem in result.problems] == [
        ("op_changed", f"{body.name}:{node.name}")
    ]


def test_a_candidate_that_no_runtime_loads() -> None:
    """Its broken invariants are problems, not a crash."""
    graph = dense(64, 50)
    candidate = _with(graph, "y", inputs=["x", "missing"])
    kinds = {problem.kind for problem in structure_of(graph, candidate).problems}
    assert kinds == {"invalid", "input_rewired"}


def test_an_empty_candidate_compares_nothing() -> None:
    """Nothing compared is never a pass."""
    empty = Graph(())
    result = structure_of(empty, empty)
    assert not result.passed
    assert [problem.kind for problem in result.problems] == ["nothing_compared"]
