"""graphwq/diff/explain.py: a quantization explains its own changes and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import STORAGES

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
from graphwq.diff.compare import diff_graphs
from graphwq.diff.document import document
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph


def quantized(old: Graph, bits: int, storage: str = "dequant") -> Graph:
    return Graph.parse(graphwq.quantize(old, bits, storage).graph.to_bytes())


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_a_quantization_is_one_line_a_weight(bits: int, storage: str) -> None:
    """Every storage form: one explained line per weight, nothing else."""
    old = model()
    found = diff_graphs(old, quantized(old, bits, storage))
    assert [item.kind.value for item in found.changes] == ["weight_quantized"] * 3
    assert [item.path for item in found.changes] == [
        "conv1/weights",
        "conv2/weights",
        "head/weights",
    ]
    for change in found.changes:
        assert change.explained_by == change.path
        assert change.detail["num_bits"] == bits
        assert change.detail["storage"] == storage
        assert f"{bits} bits" in change.message


def test_the_numbers_of_a_weight() -> None:
    """SQNR and largest difference are those of the values, computed here."""
    old = model()
    result = graphwq.quantize(old, 4)
    (change,) = find(
        diff_graphs(old, quantized(old, 4)).changes, "weight_quantized", "head/weights"
    )
    weight = random_weight((1024, 10), 5).astype(np.float64)
    error = weight - result.quantized["head/weights"].dequantize()
    sqnr = 10 * np.log10((weight**2).sum() / (error**2).sum())
    assert change.detail["sqnr_db"] == pytest.approx(sqnr, abs=1e-6)
    assert change.detail["max_abs_error"] == pytest.approx(np.abs(error).max(), rel=1e-6)
    assert f"SQNR {sqnr:.1f} dB" in change.message
    assert change.message.startswith("float32 [1024,10] -> 4 bits per output channel, dequant")


@pytest.mark.parametrize("name", ["bias", "edge", "padding", "op", "function", "device", "output"])
@pytest.mark.parametrize("prefix", ["", "import/"])
def test_an_edit_beside_a_quantization_is_unexplained(name: str, prefix: str) -> None:
    """Quantized, edited (and renamed): the edit stands out, first and unexplained."""
    planted = PLANTED[name]
    old = model()
    new = edited(quantized(old, 8), planted.apply)
    new = prefixed(new, prefix) if prefix else new
    comparison = diff_graphs(old, new)
    diff = document(comparison, "old", "new")
    assert diff.plan == "recovered"
    assert len(diff.weights) == 3
    assert all(item.explained_by for item in diff.weights)
    unexplained = [item for item in diff.unexplained if item.kind.value != "scope_renamed"]
    found = find(unexplained, planted.kind, planted.path)
    assert len(found) == 1, [(item.kind.value, item.path, item.message) for item in unexplained]
    assert len(unexplained) <= 2
    first = diff.changes[: len(diff.unexplained)]
    assert all(item.explained_by is None for item in first)


def test_a_node_that_the_plan_would_make_otherwise_is_unexplained() -> None:
    """A dequantize node with another op is not explained by the weight that it belongs to."""
    old = model()
    new = quantized(old, 8)

    def other(proto: Any) -> None:
        node_of(proto, "conv1/weights").op = "Maximum"

    diff = document(diff_graphs(old, edited(new, other)), "old", "new")
    assert "conv1/weights" not in [item.path for item in diff.weights]
    assert find(diff.unexplained, "op_changed", "conv1/weights")


def test_a_code_that_rounding_does_not_give_is_told() -> None:
    """Without a plan the line of the weight says how many codes are others."""
    old = model()
    new = quantized(old, 8)
    codes, _ = stored_constants(new)

    def one_more(values: np.ndarray) -> None:
        values[7] += 1 if values[7] < 127 else -1

    changes = diff_graphs(old, edited(new, with_values(codes, one_more))).changes
    (change,) = find(changes, "weight_quantized", "conv1/weights")
    assert "1 code other than rounding to nearest gives" in change.message


def test_with_the_plan_such_a_code_is_a_change_of_its_own() -> None:
    """With --plan: the plan's method does not give this code, and that is unexplained."""
    old = model()
    plan = graphwq.plan(old, 8)
    new = quantized(old, 8)
    assert document(diff_graphs(old, new, plan), "a", "b").unexplained == ()
    codes, _ = stored_constants(new)

    def one_more(values: np.ndarray) -> None:
        values[7] += 1 if values[7] < 127 else -1

    changed = edited(new, with_values(codes, one_more))
    diff = document(diff_graphs(old, changed, plan), "a", "b")
    assert diff.plan == "given"
    (change,) = diff.unexplained
    assert (change.kind.value, change.path) == ("plan_not_followed", "conv1/weights")
    assert "1 code other" in change.message


def test_a_weight_that_the_plan_names_and_new_does_not_hold() -> None:
    """What the plan promises and NEW leaves out is unexplained."""
    old = model()
    plan = graphwq.plan(old, 4)
    fewer = replace(plan, items=plan.items[:2])
    new = Graph.parse(graphwq.quantize(old, plan=fewer).graph.to_bytes())
    diff = document(diff_graphs(old, new, plan), "a", "b")
    (change,) = diff.unexplained
    assert (change.kind.value, change.path) == ("plan_not_followed", "head/weights")
    assert len(diff.weights) == 2


def test_the_plan_works_under_a_prefix() -> None:
    """The plan names the weights of OLD, NEW calls them otherwise."""
    old = model()
    plan = graphwq.plan(old, 4)
    new = prefixed(quantized(old, 4))
    diff = document(diff_graphs(old, new, plan), "a", "b")
    assert [item.path for item in diff.weights] == [
        "conv1/weights",
        "conv2/weights",
        "head/weights",
    ]
    assert [item.kind.value for item in diff.unexplained] == ["scope_renamed"]


def test_a_plan_of_another_graph_is_refused() -> None:
    """The digest of the plan must be that of OLD."""
    old = model()
    other = graphwq.plan(edited(old, PLANTED["bias"].apply), 4)
    if other.graph_digest is None:
        other = replace(other, graph_digest="0" * 64)
    new = quantized(old, 4)
    with pytest.raises(InputError, match="made for another graph"):
        diff_graphs(old, new, other)
    item = replace(graphwq.plan(old, 4).items[0], weight="nobody")
    wrong = replace(other, graph_digest=None, items=(item,))
    with pytest.raises(InputError, match="names 'nobody'"):
        diff_graphs(old, old, wrong)


def test_no_plan_no_explanation() -> None:
    """Float values that changed are no quantization."""
    old = model()
    diff = document(diff_graphs(old, edited(old, PLANTED["bias"].apply)), "a", "b")
    assert diff.plan is None
    assert diff.to_json()["totals"]["unexplained"] is None


def test_a_broken_graph_is_still_compared() -> None:
    """Where OLD cannot be surveyed, nothing is explained, and the changes are told all the same."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 64])
    b.matmul("y", x, b.const("w", random_weight((64, 64))))
    b.op("z", "Relu", ["missing"])
    old = b.graph()
    new = edited(old, with_values("w", lambda values: np.copyto(values, np.rint(values))))
    diff = document(diff_graphs(old, new), "a", "b")
    assert diff.plan is None
    assert [item.kind.value for item in diff.changes] == ["value_changed"]


def test_fixtures_at_every_width(fixtures: Path) -> None:
    """Real trained networks, with recurrence and an embedding: nothing is unexplained."""
    for path in sorted(fixtures.glob("*.pb")):
        old = graphwq.load(path)
        for bits in range(2, 9):
            for storage in STORAGES:
                diff = document(diff_graphs(old, quantized(old, bits, storage)), "a", "b")
                assert diff.unexplained == (), (path.name, bits, storage, diff.unexplained[:3])
                assert diff.weights


def test_a_scale_per_group_is_recognized() -> None:
    """Baked with a scale per group, in a network that has no other sign of quantization."""
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [1, 256]), b.const("w", random_weight((256, 64))))
    old = b.graph()
    result = graphwq.quantize(old, 4, "bake", granularity="group", group_size=32)
    (change,) = diff_graphs(old, Graph.parse(result.graph.to_bytes())).changes
    assert change.explained_by == "w"
    assert "per group of 32 along axis 0" in change.message


@pytest.mark.parametrize("method", ["mse", "squant"])
def test_other_methods(method: str) -> None:
    """Codes of another method are explained, with the plan and without; a wrong plan is found."""
    old = model()
    new = Graph.parse(graphwq.quantize(old, 4, method=method).graph.to_bytes())
    plan = graphwq.plan(old, 4, method=method)
    for given in (None, plan):
        diff = document(diff_graphs(old, new, given), "a", "b")
        assert diff.unexplained == ()
    wrong = document(diff_graphs(old, new, graphwq.plan(old, 4)), "a", "b")
    assert {item.kind.value for item in wrong.unexplained} == {"plan_not_followed"}


def test_a_scale_that_was_doubled_is_told() -> None:
    """One channel of a quantized weight that has twice its scale."""
    old = model()
    new = quantized(old, 8)
    _, scale = stored_constants(new)

    def larger(values: np.ndarray) -> None:
        values[2] *= 2

    changes = diff_graphs(old, edited(new, with_values(scale, larger))).changes
    (change,) = find(changes, "weight_quantized", "conv1/weights")
    assert "1 scale other than rounding to nearest gives" in change.message


def test_what_the_plan_does_not_do_to_its_own_node_is_unexplained() -> None:
    """A control input on the node that carries a weight's name: the weight does not explain it."""
    old = model()

    def wait(proto: Any) -> None:
        node_of(proto, "conv1/weights").input.append("^conv1/bias")

    diff = document(diff_graphs(old, edited(quantized(old, 8), wait)), "old", "new")
    assert find(diff.unexplained, "control_input_changed", "conv1/weights")
