"""The fake_quant form: TensorFlow's FakeQuant ops, with exactly the values of the other forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from rewriting import (
    BITS,
    assert_only_edits_changed,
    assert_same_bits,
    function_graph,
    node,
    upstream,
    value,
)
from test_dequant import small

import graphwq
from graphwq.errors import GraphWQError, InputError, QuantizationError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import attr_of_bool, attr_of_int
from graphwq.graphdef.source import to_text
from graphwq.quant.scheme import PerGroup, max_code


@pytest.mark.parametrize("scale_bits", [24, 16])
def test_golden(golden: Any, scale_bits: int) -> None:
    """The nodes with the op on the codes (full scales) and on the weight (16-bit scales)."""
    result = graphwq.quantize(small(), 4, "fake_quant", keep_larger=True, scale_bits=scale_bits)
    golden(f"storage/fake_quant_{scale_bits}.pbtxt", to_text(result.graph))


def _depthwise() -> Graph:
    b = GraphBuilder()
    x = b.placeholder("x", [1, 8, 8, 6])
    w = b.const("w", random_weight((3, 3, 6, 4)))
    b.op("y", "DepthwiseConv2dNative", [x, w], strides=[1, 1, 1, 1], padding="SAME")
    return b.graph()


def _left() -> Graph:
    b = GraphBuilder()
    w = b.const("w", random_weight((40, 24)))
    b.matmul("y", w, b.placeholder("x", [24, 2]))
    return b.graph()


def _batched() -> Graph:
    """BatchMatMul: batch and column axes are kept, the one between them is summed over."""
    b = GraphBuilder()
    x, w = b.placeholder("x", [3, 2, 8]), b.const("w", random_weight((3, 8, 5)))
    b.op("y", "BatchMatMulV2", [x, w], adj_x=False, adj_y=False)
    return b.graph()


_GRAPHS = {
    "dense": lambda: dense(40, 24),
    "left": _left,
    "convolution": lambda: convolution((3, 3, 5, 8)),
    "depthwise": _depthwise,
    "batched": _batched,
}


@pytest.mark.parametrize("name", sorted(_GRAPHS))
@pytest.mark.parametrize("scale_bits", [24, 16, 13])
def test_the_values_are_those_of_bake(name: str, scale_bits: int) -> None:
    """Law: fake_quant == bake == dequant bit for bit, at every width and length of scale."""
    graph = _GRAPHS[name]()
    for bits in BITS:
        for granularity in ("channel", "tensor"):
            options = {"keep_larger": True, "scale_bits": scale_bits, "granularity": granularity}
            results = {
                storage: graphwq.quantize(graph, bits, storage, **options)
                for storage in ("fake_quant", "bake", "dequant")
            }
            baked = value(results["bake"].graph, "w")
            assert_same_bits(
                value(results["fake_quant"].graph, "w"), baked, f"{bits} {granularity}"
            )
            assert_same_bits(value(results["dequant"].graph, "w"), baked, f"{bits} {granularity}")
            assert_only_edits_changed(graph, results["fake_quant"])


@pytest.mark.parametrize("scale_bits", [24, 16])
def test_the_op_says_the_width(scale_bits: int) -> None:
    """num_bits and narrow_range stand on the op, with the limits +-T on its grid."""
    for bits in BITS:
        result = graphwq.quantize(
            dense(40, 24), bits, "fake_quant", keep_larger=True, scale_bits=scale_bits
        )
        (fake,) = [
            item for item in upstream(result.graph, "w").values() if item.op.startswith("FakeQuant")
        ]
        assert attr_of_int(fake, "num_bits", 0) == bits
        assert attr_of_bool(fake, "narrow_range")
        low, high = (value(result.graph, name) for name in fake.data_inputs[1:])
        assert np.array_equal(low, -high)
        scale = np.float32(1) if scale_bits == 24 else result.quantized["w"].scale.reshape(-1)
        assert np.array_equal(high, scale * np.float32(max_code(bits)))


def test_sixteen_bit_scales_stand_on_the_weight() -> None:
    """With scales of 16 bits the op takes the float weight itself, per channel, as tools expect."""
    result = graphwq.quantize(dense(64, 32), 8, "fake_quant", scale_bits=16)
    above = upstream(result.graph, "w")
    (fake,) = [item for item in above.values() if item.op.startswith("FakeQuant")]
    assert fake.op == "FakeQuantWithMinMaxVarsPerChannel"
    baked = value(graphwq.quantize(dense(64, 32), 8, "bake", scale_bits=16).graph, "w")
    assert_same_bits(value(result.graph, fake.data_inputs[0]), baked)
    scale = result.quantized["w"].scale.view(np.uint32)
    assert not (scale & 0xFF).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double(dtype: Any) -> None:
    """Half and double weights end in a Cast and hold what bake holds."""
    b = GraphBuilder()
    kind = dtypes.FROM_NUMPY[np.dtype(dtype)]
    x, w = b.placeholder("x", [-1, 64], kind), b.const("w", random_weight((64, 64), dtype=dtype))
    b.op("y", "MatMul", [x, w], T=("type", kind))
    for scale_bits in (24, 16):
        for bits in (8, 3):
            fake, baked = (
                graphwq.quantize(b.graph(), bits, storage, scale_bits=scale_bits).graph
                for storage in ("fake_quant", "bake")
            )
            assert node(fake, "w").op == "Cast"
            assert_same_bits(value(fake, "w"), value(baked, "w"))


@pytest.mark.parametrize("scale_bits", [24, 16])
def test_function_bodies(scale_bits: int) -> None:
    """A weight in a function body."""
    graph = function_graph()
    result = graphwq.quantize(graph, 4, "fake_quant", keep_larger=True, scale_bits=scale_bits)
    assert_same_bits(value(result.graph, "dense:w"), result.quantized["dense:w"].dequantize())
    assert_only_edits_changed(graph, result)


def test_groups_are_refused() -> None:
    """No FakeQuant op has a scale per group: refused when planning and when carrying out."""
    graph = dense(64, 64)
    with pytest.raises(InputError, match="per group"):
        graphwq.quantize(graph, 8, "fake_quant", granularity="group")
    plan = graphwq.plan(graph, 8, granularity="group", group_size=16)
    assert isinstance(plan.items[0].scheme.granularity, PerGroup)
    with pytest.raises(GraphWQError, match="per group") as caught:
        graphwq.quantize(graph, storage="fake_quant", plan=plan)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_range_beyond_float32(granularity: str) -> None:
    """The op computes max - min: with 2e38 that is Inf, and every weight of the channel NaN."""
    values = random_weight((64, 32))
    values[3, 5] = 2e38
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [1, 64]), b.const("w", values))
    with pytest.raises(QuantizationError, match="magnitudes above 1.7e38"):
        graphwq.quantize(b.graph(), 8, "fake_quant", scale_bits=16, granularity=granularity)
    for scale_bits, largest in ((24, 2e38), (16, 1.6e38)):
        values[3, 5] = largest
        b = GraphBuilder()
        b.matmul("y", b.placeholder("x", [1, 64]), b.const("w", values))
        options = {"scale_bits": scale_bits, "granularity": granularity}
        result = graphwq.quantize(b.graph(), 8, "fake_quant", **options)
        assert np.isfinite(value(result.graph, "w")).all()
