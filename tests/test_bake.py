"""The bake form: the same constants, their values on the grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, dense, encode, random_weight
from hypothesis import given
from hypothesis import strategies as st
from rewriting import (
    BITS,
    GRANULARITIES,
    assert_only_edits_changed,
    assert_same_bits,
    examples,
    node,
    value,
)
from test_dequant import small

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const
from graphwq.graphdef.source import to_text


@pytest.mark.parametrize("bits", [8, 3])
def test_golden(golden: Any, bits: int) -> None:
    """The nodes after baking, as text."""
    result = graphwq.quantize(small(), bits, "bake", keep_larger=True)
    golden(f"storage/bake_{bits}.pbtxt", to_text(result.graph))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_only_the_values_change(bits: int, granularity: str) -> None:
    """No node is added or renamed, the Const keeps dtype and shape and holds code * scale."""
    graph = dense(100, 70)
    result = graphwq.quantize(graph, bits, "bake", granularity=granularity, group_size=30)
    assert [item.name for item in result.graph.nodes] == [item.name for item in graph.nodes]
    assert [item.op for item in result.graph.nodes] == [item.op for item in graph.nodes]
    assert len(result.edits) == 1
    assert_only_edits_changed(graph, result)
    assert_same_bits(value(result.graph, "w"), result.quantized["w"].dequantize())
    assert len(result.graph.to_bytes()) <= len(graph.to_bytes())


def test_attributes_device_and_control_inputs_stay() -> None:
    """Whatever stands on the Const beside its value stands on the baked one."""
    b = GraphBuilder()
    b.op("gate", "NoOp", [])
    data = random_weight((64, 64))
    attrs = {"_class": encode(b"loc:@w"), "_output_shapes": encode([1])}
    b.add(new_const("w", 1, data.shape, data, ("^gate",), attrs, "/device:CPU:0"))
    b.matmul("y", b.placeholder("x", [-1, 64]), "w")
    old = node(b.graph(), "w")
    new = node(graphwq.quantize(b.graph(), 8, "bake").graph, "w")
    assert (new.inputs, new.device, new.op) == (("^gate",), "/device:CPU:0", "Const")
    for key, content in old.attr_bytes().items():
        if key != "value":
            assert bytes(new.attr_bytes()[key]) == bytes(content), key
    assert set(new.attr_bytes()) == set(old.attr_bytes())


def test_a_list_of_values_becomes_content() -> None:
    """A weight written as a list of float_val is baked as well."""
    from graphwq.graphdef.protos import GraphDef

    data = random_weight((64, 64))
    proto = GraphDef.FromString(dense(64, 64).to_bytes())
    tensor = next(item for item in proto.node if item.name == "w").attr["value"].tensor
    tensor.ClearField("tensor_content")
    tensor.float_val.extend(data.ravel().tolist())
    listed = Graph.parse(proto.SerializeToString(deterministic=True))
    one = graphwq.quantize(listed, 4, "bake").graph
    two = graphwq.quantize(dense(64, 64), 4, "bake").graph
    assert_same_bits(value(one, "w"), value(two, "w"))


def _network(data: np.ndarray) -> Graph:
    b = GraphBuilder()
    kind = dtypes.FROM_NUMPY[data.dtype]
    x = b.placeholder("x", [-1, data.shape[0]], kind)
    b.op("y", "MatMul", [x, b.const("w", data)], T=("type", kind))
    return b.graph()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bits", BITS)
def test_baking_twice_changes_nothing(dtype: Any, bits: int) -> None:
    """Law: what is on its grid stays bit for bit, for half and double weights as well."""
    for granularity in GRANULARITIES:
        options = {"granularity": granularity, "group_size": 24}
        data = random_weight((64, 64), bits, dtype)
        first = graphwq.quantize(_network(data), bits, "bake", **options)
        assert first.modified
        second = graphwq.quantize(first.graph, bits, "bake", **options)
        assert not second.modified, granularity
        assert not second.weights[0].changed
        assert second.graph.to_bytes() == first.graph.to_bytes()


@examples(200)
@given(
    st.sampled_from(BITS),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.lists(st.floats(-6e4, 6e4, width=16), min_size=12, max_size=12),
)
def test_baking_twice_changes_nothing_for_any_values(bits: int, dtype: Any, data: Any) -> None:
    """The same for values of every magnitude, ties and zeros included."""
    graph = _network(np.array(data, dtype).reshape(4, 3))
    first = graphwq.quantize(graph, bits, "bake", keep_larger=True)
    second = graphwq.quantize(first.graph, bits, "bake", keep_larger=True)
    assert not second.modified


@pytest.mark.parametrize("scale_bits", [*range(13, 17), 24])
def test_baking_twice_changes_nothing_for_short_scales(scale_bits: int) -> None:
    """The same for scales of fewer bits: the scale of a baked weight is found again.

    With 17..23 bits code * scale would be rounded and absmax / T could lie one float32 step above
    the scale; with fewer than 10 the largest code would not be T. So those lengths are refused.
    """
    for bits in BITS:
        for seed in range(3):
            graph = _network(random_weight((16, 64), seed))
            options = {"keep_larger": True, "scale_bits": scale_bits}
            first = graphwq.quantize(graph, bits, "bake", **options)
            assert not graphwq.quantize(first.graph, bits, "bake", **options).modified, bits


def test_negative_zeros_agree_with_dequant() -> None:
    """Law: a baked weight is bit for bit the dequantized one, also where it held -0.0 on its grid.

    Tools that compute round(w / s) * s leave -0.0 behind, so such weights are common.
    """
    data = np.rint(random_weight((64, 64), std=40.0)).clip(-127, 127)
    data[0] = 127.0
    data[data == 0] = -0.0
    assert np.signbit(data[data == 0]).all()
    graph = _network(data.astype(np.float32))
    baked = graphwq.quantize(graph, 8, "bake").graph
    dequantized = graphwq.quantize(graph, 8, "dequant").graph
    assert_same_bits(value(baked, "w"), value(dequantized, "w"))


def test_zeros_stay_zeros() -> None:
    """A pruned model keeps its sparsity, at every width."""
    data = random_weight((64, 64))
    data[np.random.RandomState(1).rand(64, 64) < 0.8] = 0
    for bits in BITS:
        baked = value(graphwq.quantize(_network(data), bits, "bake").graph, "w")
        assert not baked[data == 0].any()
