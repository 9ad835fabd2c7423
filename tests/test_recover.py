"""A plan is recovered from what was made by it, to the byte, whatever the form."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from hypothesis import given
from rewriting import (
    COMBINATIONS,
    double_matmul,
    examples,
    folding_limit,
    function_graph,
    gather,
    half_matmul,
    in_while_loop,
    matmul,
    shared,
)
from strategies import weights_and_schemes

import graphwq
from graphwq.errors import InputError, QuantizationError
from graphwq.graphdef.dtypes import DT_HALF
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const, new_node
from graphwq.quant.audit import deviation
from graphwq.quant.quantize import quantize
from graphwq.quant.regrid import codes_of
from graphwq.quant.scheme import PerChannel, PerTensor, QuantizedTensor, QuantScheme
from graphwq.rewrite.readback import read_back
from graphwq.rewrite.recover import Recovered, absmax, recover
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.locate import locate
from graphwq.survey.view import build

_FIXTURES = ("digits_cnn", "digits_mlp", "digits_lstm", "digits_embedding")


def _read_again(graph: Graph) -> Graph:
    return Graph.parse(graph.to_bytes())


def _assert_recovered(
    reference: Graph, result: RewriteResult, plan: Optional[graphwq.Plan] = None
) -> Recovered:
    """The plan made anew gives the candidate's bytes; codes and scales are what absmax gives."""
    candidate = _read_again(result.graph)
    found = recover(reference, candidate, plan)
    assert found.rebuilt.graph.to_bytes() == candidate.to_bytes()
    changed = {weight.item.weight for weight in result.weights if weight.changed}
    named = {item.weight for item in found.plan.items}
    assert changed <= named
    assert named == changed or plan is not None
    assert not found.missing
    view = build(reference)
    for weight in found.weights:
        made = result.quantized[weight.site.weight]
        assert weight.quantized.dequantize().tobytes() == made.dequantize().tobytes()
        different = deviation(absmax(view, weight), weight.quantized)
        assert (different.codes, different.scales) == (0, 0)
        assert weight.audit.beyond_half_step == weight.audit.moved_zeros == 0
        assert weight.audit.out_of_range == weight.audit.non_finite == 0
    named_edits = {(edit.scope, edit.node.name) for edit in result.edits}
    assert set(found.touched) == named_edits
    return found


@pytest.mark.parametrize(("bits", "storage", "granularity"), COMBINATIONS)
@pytest.mark.parametrize("name", _FIXTURES)
def test_every_form_of_real_networks_is_recovered(
    name: str, bits: int, storage: str, granularity: str, fixtures: Path
) -> None:
    """Without a plan, the plan is found and the rewrite done again gives the same bytes."""
    graph = graphwq.load(fixtures / f"{name}.pb")
    _assert_recovered(graph, graphwq.quantize(graph, bits, storage, granularity=granularity))


@pytest.mark.parametrize("scale_bits", [16, 13])
@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
def test_short_scales_are_recovered(storage: str, scale_bits: int, fixtures: Path) -> None:
    """Scales of fewer significant bits are told from full ones."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    _assert_recovered(graph, graphwq.quantize(graph, 4, storage, scale_bits=scale_bits))


_GRAPHS = {
    "dense": lambda: dense(64, 50),
    "convolution": lambda: convolution((3, 3, 7, 9)),
    "function": lambda: function_graph(shape=(64, 64)),
    "half function": lambda: function_graph(np.float16, (64, 64)),
    "half": lambda: half_matmul().graph,
    "double": lambda: double_matmul().graph,
}


@pytest.mark.parametrize(("bits", "storage", "granularity"), COMBINATIONS)
@pytest.mark.parametrize("name", sorted(_GRAPHS))
def test_all_dtypes_and_scopes_are_recovered(
    name: str, bits: int, storage: str, granularity: str
) -> None:
    """Half and double weights and function bodies, small weights included; groups of any size
    with the plan.
    """
    graph = _GRAPHS[name]()
    options = {"granularity": granularity, "group_size": 9, "keep_larger": True}
    plan = graphwq.plan(graph, bits, storage, **options)
    result = graphwq.quantize(graph, plan=plan)
    _assert_recovered(graph, result, plan)
    if granularity != "group":
        _assert_recovered(graph, result)


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize(
    "case",
    [matmul(1, False), shared(True), in_while_loop(), gather(), gather((3, 5)), gather(v2=False)],
    ids=["matmul", "shared", "loop", "rows", "rows2", "rows1"],
)
def test_cut_weights_and_tables_are_recovered(case: Any, bits: int) -> None:
    """Weights in pieces and tables gathered by rows, with their consumers."""
    with folding_limit(case.limit):
        result = graphwq.quantize(case.graph, bits, keep_larger=True)
        found = _assert_recovered(case.graph, result)
    assert [item.form for item in found.plan.items] == [w.item.form for w in result.weights]


def test_mixed_widths_and_floats(fixtures: Path) -> None:
    """Each weight has its own width; weights that were kept float are skips of the plan."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    rules = (graphwq.Rule("conv2/*", 3), graphwq.Rule("output/*", None))
    result = graphwq.quantize(graph, 8, rules=rules)
    found = _assert_recovered(graph, result)
    bits = {item.weight: item.scheme.num_bits for item in found.plan.items}
    assert bits["conv2/kernel"] == 3
    assert bits["conv1/kernel"] == 8
    assert "output/kernel" in {skip.node for skip in found.plan.skips}


def test_the_graph_itself_has_an_empty_plan(fixtures: Path) -> None:
    """Nothing was done: no items, no edits."""
    graph = graphwq.load(fixtures / "digits_mlp.pb")
    found = recover(graph, _read_again(graph))
    assert found.plan.items == ()
    assert not found.rebuilt.modified


def test_a_plan_that_was_not_carried_out(fixtures: Path) -> None:
    """Items of a given plan that the candidate does not hold are named."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    plan = graphwq.plan(graph, 8)
    part = replace(plan, items=plan.items[1:])
    candidate = _read_again(graphwq.quantize(graph, plan=part).graph)
    found = recover(graph, candidate, plan)
    assert found.missing == plan.items[:1]
    wrong_storage = graphwq.quantize(graph, 8, "bake").graph
    assert recover(graph, _read_again(wrong_storage), plan).missing == plan.items


def test_plans_of_other_graphs_are_refused(fixtures: Path) -> None:
    """By digest, and by the names of the weights."""
    graph, other = (graphwq.load(fixtures / f"{name}.pb") for name in _FIXTURES[:2])
    plan = graphwq.plan(other, 8)
    with pytest.raises(InputError, match="another graph"):
        recover(graph, graph, plan)
    with pytest.raises(InputError, match="no constant weight"):
        recover(graph, graph, replace(plan, graph_digest=None))


def _baked(graph: Graph, values: Dict[str, np.ndarray]) -> Graph:
    nodes = {name: [new_const(name, 1, array.shape, array)] for name, array in values.items()}
    return graph.edited({"": nodes})


def test_another_method_is_recovered_from_the_values() -> None:
    """Baked values on a grid that is not absmax: the codes are found, and that they differ."""
    graph = dense(64, 50)
    weight = next(node for node in graph.nodes if node.name == "w").tensor().numpy()
    scale = (np.abs(weight).max(0, keepdims=True) / np.float32(9.5)).astype(np.float32)
    codes = np.clip(np.rint(weight / scale), -7, 7).astype(np.int8)
    scheme = QuantScheme(4, PerChannel((1,)))
    found = recover(graph, _baked(graph, {"w": QuantizedTensor(codes, scale, scheme).dequantize()}))
    (only,) = found.weights
    assert only.item.scheme.num_bits == 4
    np.testing.assert_array_equal(only.quantized.codes, codes)
    assert deviation(absmax(build(graph), only), only.quantized).scales == 50


def test_values_on_no_grid_are_not_recovered() -> None:
    """A weight that was simply changed is no quantized one."""
    graph = dense(64, 50)
    noise = random_weight((64, 50), seed=99)
    assert recover(graph, _baked(graph, {"w": noise})).weights == ()
    broken = noise.copy()
    broken[3, 4] = np.nan
    assert recover(graph, _baked(graph, {"w": broken})).weights == ()


def test_weights_that_are_gone_or_of_another_shape() -> None:
    """No crash and no guess where the candidate has something else under the name."""
    graph = dense(64, 50)
    assert recover(graph, graph.edited({"": {"w": ()}})).weights == ()
    other = _baked(graph, {"w": random_weight((64, 49))})
    assert recover(graph, other).weights == ()
    placeholder = graph.edited({"": {"w": [new_node("w", "Placeholder")]}})
    assert recover(graph, placeholder).weights == ()


def test_group_scales_of_a_positive_table_are_no_mask() -> None:
    """Regression: a one-hot table per group has as many repeated scales as codes."""
    b = GraphBuilder()
    w = b.const("w", np.eye(65, dtype=np.float32))
    ids = b.placeholder("ids", [3], 3)
    b.op("y", "Gather", [w, ids], Tparams=("type", 1), Tindices=("type", 3))
    graph = b.graph()
    result = graphwq.quantize(graph, 6, granularity="group")
    assert len(_assert_recovered(graph, result).weights) == 1


@given(weights_and_schemes(dtypes=(np.float32, np.float64)))
@examples(200)
def test_codes_of_is_the_inverse_of_baking(pair: Any) -> None:
    """Values made by ``quantize`` give values of the same bits again, for every scheme."""
    weight, scheme = pair
    try:
        made = quantize(weight, scheme)
    except QuantizationError:
        return
    values = made.dequantize()
    found = codes_of(values, scheme)
    assert found is not None
    assert (found.dequantize() == values).all()
    assert np.abs(found.codes.astype(int)).max() <= scheme.max_code
    assert found.scale.shape == made.scale.shape


def test_codes_of_refuses_what_is_on_no_grid() -> None:
    """One value between two codes is enough."""
    scheme = QuantScheme(4, PerTensor())
    values = np.array([7.0, -3.0, 1.0, 0.0], np.float32)
    assert codes_of(values, scheme) is not None
    assert codes_of(values + np.array([0, 0, 0, 0.25], np.float32), scheme) is None
    assert codes_of(values[1:], scheme) is not None
    assert codes_of(values[1:], scheme, at_top=True) is None  # the largest code would be 3


@pytest.mark.parametrize("method", ["absmax", "mse", "squant"])
@pytest.mark.parametrize("scale_bits", [24, 16, 13])
@pytest.mark.parametrize("storage", ["bake", "dequant", "fake_quant"])
def test_half_weights_of_every_method(method: str, scale_bits: int, storage: str) -> None:
    """Baked half values do not tell their scale: with the plan it is that of the plan's method."""
    b = GraphBuilder()
    w = b.const("w", random_weight((16, 8), dtype=np.float16))
    b.op("y", "MatMul", [b.placeholder("x", [1, 16], DT_HALF), w], T=("type", DT_HALF))
    for bits, granularity in itertools.product((2, 4, 6), ("channel", "tensor")):
        options = {"method": method, "scale_bits": scale_bits, "granularity": granularity}
        result = graphwq.quantize(b.graph(), bits, storage, keep_larger=True, **options)
        (site,) = locate(b.graph()).sites
        found = read_back(build(b.graph()), build(result.graph), site, result.weights[0].item)
        assert found is not None, (bits, granularity)
        np.testing.assert_array_equal(found.quantized.codes, result.quantized["w"].codes)
        np.testing.assert_array_equal(found.quantized.scale, result.quantized["w"].scale)
