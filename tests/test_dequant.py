"""The dequant form: integer constants and arithmetic that is exact."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from hypothesis import given
from hypothesis import strategies as st
from rewriting import (
    BITS,
    assert_only_edits_changed,
    assert_same_bits,
    examples,
    function_graph,
    node,
    ops,
    upstream,
    value,
)

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import attr_of_type
from graphwq.graphdef.source import to_text
from graphwq.quant.packing import packed_nbytes


def small() -> Graph:
    """x -> MatMul(w) -> y with w [3, 5] of plain numbers: the picture in the README."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 3])
    w = b.const("w", (np.arange(15, dtype=np.float32).reshape(3, 5) - 7) / 4)
    b.matmul("y", x, w)
    return b.graph()


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_golden(golden: Any, bits: int) -> None:
    """The nodes before and after, as text; a change of the form is a change of these files."""
    golden("storage/before.pbtxt", to_text(small()))
    result = graphwq.quantize(small(), bits, keep_larger=True)
    golden(f"storage/dequant_{bits}.pbtxt", to_text(result.graph))


def test_golden_bits(golden: Any) -> None:
    """Three bits of a multiple of eight weights: one constant, of whose bytes each holds a bit."""
    result = graphwq.quantize(dense(4, 6), 3, keep_larger=True)
    golden("storage/dequant_bits_3.pbtxt", to_text(result.graph))


def test_golden_group(golden: Any) -> None:
    """Scales per group of two input channels, the last group of one."""
    result = graphwq.quantize(small(), 8, keep_larger=True, granularity="group", group_size=2)
    golden("storage/dequant_group.pbtxt", to_text(result.graph))


def test_eight_bits_is_three_nodes() -> None:
    """int8 Const -> Cast -> Mul(scale), and the Mul has the weight's name."""
    result = graphwq.quantize(dense(64, 32))
    above = upstream(result.graph, "w")
    assert sorted(item.op for item in above.values()) == ["Cast", "Const", "Const", "Mul"]
    assert node(result.graph, "w").op == "Mul"
    kinds = {attr_of_type(item, "dtype") for item in above.values() if item.op == "Const"}
    assert kinds == {dtypes.DT_INT8, dtypes.DT_FLOAT}


@pytest.mark.parametrize("bits", range(2, 8))
def test_packed_codes_cost_their_bits(bits: int) -> None:
    """Law: the uint8 constants hold num_bits per weight, to the byte; no int8 and no wide table."""
    result = graphwq.quantize(dense(101, 33), bits, keep_larger=True)
    stored = [item for item in upstream(result.graph, "w").values() if item.op == "Const"]
    sizes = {dtypes.DT_UINT8: 0, dtypes.DT_FLOAT: 0, dtypes.DT_INT32: 0}
    for item in stored:
        tensor = item.tensor()
        assert tensor is not None
        sizes[tensor.dtype] += tensor.numpy().nbytes
    in_rows = -(-101 * 33 // 8) * bits  # eight codes are so many bytes
    in_planes = packed_nbytes(101 * 33, bits)
    assert sizes[dtypes.DT_UINT8] == (in_planes if bits in (2, 4) else in_rows)
    assert sizes[dtypes.DT_FLOAT] <= 33 * 4 + 200
    assert sizes[dtypes.DT_INT32] <= 64


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17])
def test_ragged_sizes(bits: int, count: int) -> None:
    """A number of weights that does not fill the last byte decodes to exactly its codes."""
    for shape in ((count, 1), (1, count), (count, 3)):
        graph = dense(*shape)
        result = graphwq.quantize(graph, bits, keep_larger=True)
        if not result.weights:
            assert result.skips
            continue
        assert_same_bits(value(result.graph, "w"), result.quantized["w"].dequantize())


@examples(60)
@given(
    st.lists(st.integers(1, 7), min_size=2, max_size=2),
    st.sampled_from(BITS),
    st.sampled_from(["channel", "tensor", "group"]),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(0, 2**31),
    st.integers(1, 4),
)
def test_decoding_is_exact(
    shape: Any, bits: int, granularity: str, dtype: Any, seed: int, group: int
) -> None:
    """Law: the arithmetic computes float32(code) * scale bit for bit, for every shape and width."""
    b = GraphBuilder()
    w = b.const("w", random_weight(tuple(shape), seed, dtype, std=float(1 + seed % 1000)))
    kind = dtypes.FROM_NUMPY[np.dtype(dtype)]
    x = b.placeholder("x", [-1, shape[0]], kind)
    b.op("y", "MatMul", [x, w], T=("type", kind), transpose_a=False, transpose_b=False)
    result = graphwq.quantize(
        b.graph(), bits, keep_larger=True, granularity=granularity, group_size=group
    )
    for name, quantized in result.quantized.items():
        expected = quantized.dequantize().astype(dtype)
        assert_same_bits(value(result.graph, name), expected, name)


@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (1, 1, 5, 7), (5, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_convolutions(shape: Tuple[int, int, int, int], granularity: str) -> None:
    """Filters of rank 4 at all widths; groups of five input channels have a ragged tail."""
    graph = convolution(shape)
    for bits in BITS:
        result = graphwq.quantize(
            graph, bits, keep_larger=True, granularity=granularity, group_size=5
        )
        assert_same_bits(value(result.graph, "w"), result.quantized["w"].dequantize())
        assert_only_edits_changed(graph, result)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double_end_in_a_cast(dtype: Any) -> None:
    """The node of the weight's name has the weight's type; the arithmetic before it is float32."""
    b = GraphBuilder()
    kind = dtypes.FROM_NUMPY[np.dtype(dtype)]
    x = b.placeholder("x", [-1, 64], kind)
    w = b.const("w", random_weight((64, 64), dtype=dtype))
    b.op("y", "MatMul", [x, w], T=("type", kind), transpose_a=False, transpose_b=False)
    for bits in (8, 3):
        result = graphwq.quantize(b.graph(), bits)
        final = node(result.graph, "w")
        assert final.op == "Cast"
        assert attr_of_type(final, "DstT") == kind
        expected = result.quantized["w"].dequantize().astype(dtype)
        assert_same_bits(value(result.graph, "w"), expected)


@pytest.mark.parametrize("bits", BITS)
def test_function_bodies(bits: int) -> None:
    """In a body the weight's output keeps its name ``w:output:0`` and its value."""
    graph = function_graph()
    result = graphwq.quantize(graph, bits, keep_larger=True)
    assert [weight.item.weight for weight in result.weights] == ["dense:w"]
    assert_same_bits(value(result.graph, "dense:w"), result.quantized["dense:w"].dequantize())
    assert_only_edits_changed(graph, result)
    body = next(scope for scope in result.graph.scopes if scope.name == "dense")
    final = next(item for item in body.nodes if item.name == "w")
    assert final.op == "Identity"
    for item in body.nodes:
        for name in item.data_inputs:
            assert name in body.arguments or name.count(":") == 2, (item.name, name)


def test_weights_of_one_value() -> None:
    """All zeros decode to zeros, a constant channel to itself within its grid."""
    b = GraphBuilder()
    data = np.zeros((64, 64), np.float32)
    data[:, 1] = 0.3
    data[:, 2] = -0.3
    x = b.placeholder("x", [-1, 64])
    b.matmul("y", x, b.const("w", data))
    for bits in BITS:
        decoded = value(graphwq.quantize(b.graph(), bits, keep_larger=True).graph, "w")
        assert not decoded[:, 0].any()
        assert not np.signbit(decoded[:, 3:]).any()
        assert np.allclose(decoded[:, 1:3], data[:, 1:3], rtol=1e-6, atol=0)


def test_consumers_do_not_change() -> None:
    """Nothing but the weight's own node is replaced; its readers keep their bytes."""
    graph = dense(64, 64)
    result = graphwq.quantize(graph, 4)
    assert_only_edits_changed(graph, result)
    replaced = [edit.node.name for edit in result.edits if type(edit).__name__ == "ReplaceNode"]
    assert replaced == ["w"]
    assert ops(result.graph)["w/read"] == "Identity"
