"""The weights layer: what the quantizer made passes, what was tampered with is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

import numpy as np
import pytest
from builders import dense, random_weight
from rewriting import function_graph

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const
from graphwq.graphdef.node import Node
from graphwq.quant.metrics import sqnr_db
from graphwq.rewrite.recover import recover_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.verify.weights import WORST, WeightsResult, check_weights


def weights_of(
    reference: Graph, candidate: Graph, plan: Optional[graphwq.Plan] = None
) -> WeightsResult:
    """The weights layer of two graphs."""
    view, other = build(reference), build(Graph.parse(candidate.to_bytes()))
    survey = locate_in(view)
    recovered = recover_surveyed(reference, view, survey, other, plan)
    return check_weights(view, survey.sites, other, recovered)


def changed(graph: Graph, name: str, change: Callable[[np.ndarray], None]) -> Graph:
    """The graph with the values of one constant changed in place."""
    found = [
        (scope.name, node) for scope in graph.scopes for node in scope.nodes if node.name == name
    ]
    ((scope, node),) = found
    return graph.edited({scope: {name: [with_values(node, change)]}})


def with_values(node: Node, change: Callable[[np.ndarray], None]) -> Node:
    """The constant with its values changed."""
    tensor = node.tensor()
    assert tensor is not None
    values = tensor.numpy().copy()
    change(values)
    return new_const(node.name, tensor.dtype, tensor.shape, values, node.inputs)


def _kinds(result: WeightsResult) -> list:
    return [(problem.kind, problem.where) for problem in result.problems]


@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_what_quantize_made_passes(bits: int, storage: str, fixtures: Path) -> None:
    """Every weight is checked; its numbers are those that quantize printed."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    made = graphwq.quantize(graph, bits, storage)
    result = weights_of(graph, made.graph)
    assert result.passed
    assert [item.weight for item in result.weights] == [w.item.weight for w in made.weights]
    for item, weight in zip(result.weights, made.weights):
        assert item.num_bits == bits
        assert item.error.sqnr_db == pytest.approx(weight.error.sqnr_db, abs=1e-3)
        assert item.error.max_abs_error == pytest.approx(weight.error.max_abs_error, rel=1e-5)
        assert (item.bytes_before, item.bytes_after) == (weight.bytes_before, weight.bytes_after)
        assert 1 < item.levels <= 2**bits - 1
        assert item.saturated >= item.shape[-1] or "depthwise" in item.weight
    assert WeightsResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def _up(values: np.ndarray) -> None:
    flat = values.reshape(-1)
    place = int(np.flatnonzero(np.abs(flat) < 100)[17])
    flat[place] += 1


@pytest.mark.parametrize("name", ["plain", "function"])
def test_one_code_off_by_one(name: str) -> None:
    """Named with its place, what it is and what it should be."""
    graph = dense(64, 50) if name == "plain" else function_graph(shape=(64, 64))
    made = graphwq.quantize(graph, 8)
    codes = next(edit.node.name for edit in made.edits if edit.node.tensor() is not None)
    tampered = changed(made.graph, codes, _up)
    result = weights_of(graph, tampered)
    (problem,) = result.problems
    assert problem.kind == "code_differs"
    assert problem.where == made.weights[0].item.weight
    place = int(np.flatnonzero(np.abs(made.quantized[problem.where].codes.reshape(-1)) < 100)[17])
    was = int(made.quantized[problem.where].codes.reshape(-1)[place])
    shape = made.quantized[problem.where].codes.shape
    where = [int(axis) for axis in np.unravel_index(place, shape)]
    assert f"the code at {where} is {was + 1}, absmax gives {was}" in problem.message
    assert f"(1 of {shape[0] * shape[1]} differ)" in problem.message


def test_one_baked_code_off_by_one() -> None:
    """The same where the codes are only to be seen in the values."""
    graph = dense(64, 50)
    made = graphwq.quantize(graph, 4, "bake")
    scale = made.quantized["w"].scale
    codes = made.quantized["w"].codes
    row = int(np.flatnonzero(np.abs(codes[:, 3]) < 5)[0])

    def up(values: np.ndarray) -> None:
        values[row, 3] = np.float32(codes[row, 3] + 1) * scale[0, 3]

    result = weights_of(graph, changed(made.graph, "w", up))
    assert _kinds(result) == [("code_differs", "w")]


def test_the_scale_of_one_channel() -> None:
    """A scale that is one unit in the last place away is found."""
    graph = dense(64, 50)
    made = graphwq.quantize(graph, 8)
    name = next(edit.node.name for edit in made.edits if _is_scale(edit.node, (50,)))

    def next_up(values: np.ndarray) -> None:
        values[7] = np.nextafter(values[7], np.float32(9))

    result = weights_of(graph, changed(made.graph, name, next_up))
    assert _kinds(result) == [("scale_differs", "w")]
    assert "the scale at [0, 7]" in result.problems[0].message
    assert "(1 of 50 differ)" in result.problems[0].message


def _is_scale(node: Node, shape: tuple) -> bool:
    tensor = node.tensor()
    return tensor is not None and tensor.shape == shape


def test_a_planted_error_has_the_sqnr_computed_by_hand() -> None:
    """All codes +1 in one channel of ones: signal 50 * 64, noise 64 * scale^2."""
    weight = np.ones((64, 50), np.float32)
    weight[0] = 127.0
    graph = dense(64, 50).edited({"": {"w": [new_const("w", 1, (64, 50), weight)]}})
    made = graphwq.quantize(graph, 8)
    assert weights_of(graph, made.graph).weights[0].error.sum_squared_errors == 0.0
    codes = next(edit.node.name for edit in made.edits if _is_scale(edit.node, (64, 50)))

    def shift(values: np.ndarray) -> None:
        values[1:, 3] += 1

    result = weights_of(graph, changed(made.graph, codes, shift))
    signal = 50 * (127.0**2 + 63)
    assert result.weights[0].error.sqnr_db == pytest.approx(sqnr_db(signal, 63.0), abs=1e-12)
    assert "(63 of 3200 differ)" in result.problems[0].message


def test_a_pruned_weight_that_is_pruned_no_more() -> None:
    """A zero of the reference whose code is not zero is named as such."""
    weight = random_weight((64, 50))
    weight[5, 6] = 0.0
    graph = dense(64, 50).edited({"": {"w": [new_const("w", 1, (64, 50), weight)]}})
    made = graphwq.quantize(graph, 8)
    codes = next(edit.node.name for edit in made.edits if _is_scale(edit.node, (64, 50)))

    def revive(values: np.ndarray) -> None:
        values[5, 6] = 1

    result = weights_of(graph, changed(made.graph, codes, revive))
    assert _kinds(result) == [("zero_lost", "w"), ("code_differs", "w")]


def test_values_on_no_grid() -> None:
    """A weight that was changed and not quantized."""
    graph = dense(64, 50)

    def noise(values: np.ndarray) -> None:
        values[...] += random_weight((64, 50), seed=5)

    assert _kinds(weights_of(graph, changed(graph, "w", noise))) == [("off_grid", "w")]


def test_what_the_plan_asks_for_and_the_candidate_has_not() -> None:
    """Kept float, or something else; a narrower width than the codes need is out of range."""
    graph = dense(64, 50)
    plan = graphwq.plan(graph, 4)
    assert _kinds(weights_of(graph, graph, plan)) == [("not_done", "w")]
    eight = graphwq.quantize(graph, 8).graph
    assert _kinds(weights_of(graph, eight, plan)) == [("not_done", "w")]
    assert weights_of(graph, graph).unchanged == ("w",)


def test_another_method_needs_its_plan() -> None:
    """Codes of another method fail against absmax; with a plan that names it they may be any."""
    graph = dense(64, 50)
    made = graphwq.quantize(graph, 8)
    codes = next(edit.node.name for edit in made.edits if _is_scale(edit.node, (64, 50)))
    tampered = changed(made.graph, codes, _up)
    plan = graphwq.plan(graph, 8)
    (item,) = plan.items
    other = replace(plan, items=(replace(item, scheme=replace(item.scheme, method="gptq")),))
    assert _kinds(weights_of(graph, tampered, plan)) == [("code_differs", "w")]
    assert weights_of(graph, tampered, other).passed


def test_histograms_are_of_the_worst_weights(fixtures: Path) -> None:
    """At most WORST of them, and they count every value."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    result = weights_of(graph, graphwq.quantize(graph, 2).graph)
    shown = [item for item in result.weights if item.histogram is not None]
    assert 0 < len(shown) <= WORST
    for item in shown:
        assert item.histogram is not None
        assert sum(item.histogram.before) == sum(item.histogram.after) == item.elements
        assert sum(count > 0 for count in item.histogram.before) > 3
    order = [item.error.sqnr_db for item in result.worst(99)]
    assert order == sorted(order)


@pytest.mark.parametrize("storage", ["dequant", "bake"])
@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("method", ["absmax", "mse", "squant"])
def test_the_method_is_found(method: str, bits: int, storage: str, fixtures: Path) -> None:
    """Without a plan, too, every code is held against the method that chose it; with the plan of
    another method it fails.
    """
    graph = graphwq.load(fixtures / "digits_mlp.pb")
    made = graphwq.quantize(graph, bits, storage, method=method)
    result = weights_of(graph, made.graph)
    assert result.problems == ()
    assert len(result.weights) == len(made.weights)
    assert method in {item.method for item in result.weights}
    plan = graphwq.plan(graph, bits, storage, method=method)
    assert weights_of(graph, made.graph, plan).passed
    other = graphwq.plan(graph, bits, storage, method="absmax" if method != "absmax" else "mse")
    assert not weights_of(graph, made.graph, other).passed
