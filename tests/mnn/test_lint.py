"""Lint's verdicts: every reason on a graph of its own, without the converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import folding_limit

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.mnn import feeds, layout
from graphwq.mnn.lint import Layer
from graphwq.mnn.prepare import prepare
from graphwq.mnn.report import lint_graph
from graphwq.mnn.stored import as_floats
from graphwq.mnn.verdict import Fate, Refusal, check_arithmetic
from graphwq.quant.scheme import QuantScheme, max_code
from graphwq.rewrite.options import Options

from .layers import (
    OUT,
    conv,
    converted,
    depthwise,
    graph_of,
    lint_of,
    matmul,
    norm,
    relu,
    transposed,
)


def _one(build: Any, **options: Any) -> Layer:
    (layer,) = lint_of(graph_of(build), **options)
    return layer


def test_a_quantized_layer() -> None:
    """All that lint says of a layer, and the codes and scales in MNN's layout."""
    graph = graph_of(lambda b: relu(b, conv(b)))
    (layer,) = lint_of(graph, bits=4)
    assert layer.is_quantized
    assert (layer.weights, layer.node, layer.op, layer.name) == (("w",), "c", "Conv2D", "c")
    assert (layer.num_bits, layer.block_size, layer.size) == (4, 0, 3 * 3 * 8 * OUT)
    assert layer.grouping == f"{OUT} output channels"
    tensor = graphwq.quantize(graph, 4, keep_larger=True).quantized["w"]
    assert layer.codes is not None
    assert np.array_equal(layer.codes[5].reshape(8, 3, 3)[2, 1], tensor.codes[1, :, 2, 5])
    assert np.array_equal(layer.scale, tensor.scale.reshape(-1))
    data = layer.to_json()
    assert data["fate"] == "quantized"
    assert data["bytes"] == layer.nbytes


def _function(b: GraphBuilder) -> None:
    body = GraphBuilder()
    w = body.const("w", random_weight((8, OUT)))
    body.matmul("m", "a", f"{w}:output:0")
    b.function("f", [("a", 1)], body, [("r", "m:product:0", 1)])
    b.call("call", "f", [b.placeholder("x", [1, 8])])


def _gather(b: GraphBuilder) -> None:
    table = b.const("w", random_weight((50, 8)))
    relu(b, b.gather("g", table, b.placeholder("ids", [3], 3)))


def _left(b: GraphBuilder) -> None:
    relu(b, b.matmul("c", b.const("w", random_weight((OUT, 8))), b.placeholder("x", [8, 2])))


def _shared(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((8, OUT)))
    for index in range(5):
        relu(b, b.matmul(f"c{index}", b.placeholder(f"x{index}", [1, 8]), w), f"y{index}")


def _folded(b: GraphBuilder) -> None:
    x = b.const("x", random_weight((1, 8)))
    relu(b, b.matmul("c", x, b.const("w", random_weight((8, OUT)))))


@pytest.mark.parametrize(
    ("build", "fate", "said"),
    [
        (_function, Fate.FUNCTION, "function f"),
        (_gather, Fate.OP, "Gather"),
        (_left, Fate.LEFT_OPERAND, "second input"),
        (_shared, Fate.SHARED, "5 ops use it"),
        (_folded, Fate.FOLDED, "computes it away"),
        (lambda b: relu(b, depthwise(b, 2)), Fate.DEPTHWISE_MULTIPLIER, "2 outputs per channel"),
        (lambda b: relu(b, transposed(b)), Fate.TRANSPOSED_GROUPING, "pieces of memory"),
    ],
)
def test_reasons_of_the_graph(build: Any, fate: Fate, said: str) -> None:
    """What MNN cannot quantize, with the reason; it counts with four bytes per weight."""
    layers = lint_of(graph_of(build))
    assert layers
    for layer in layers:
        assert layer.fate is fate
        assert said in layer.detail
        assert (layer.num_bits, layer.codes, layer.scale, layer.grouping) == (0, None, None, "-")
        assert layer.nbytes == 4 * layer.size


@pytest.mark.parametrize("outputs", [1, OUT])
def test_transposed_convolution(outputs: int) -> None:
    """One output channel is one piece of memory: then MNN's grouping is the plan's."""
    layer = _one(lambda b: relu(b, transposed(b, outputs)))
    assert layer.is_quantized == (outputs == 1)


def test_transposed_convolution_on_one_grid() -> None:
    """One scale for all, and the largest code in each of MNN's pieces: that arrives as well."""
    weight = random_weight((3, 3, 4, 8))
    pieces = weight.transpose(3, 2, 0, 1).reshape(4, -1).copy()
    pieces[:, 3] = np.abs(pieces).max()
    weight = pieces.reshape(8, 4, 3, 3).transpose(2, 3, 1, 0)

    def build(b: GraphBuilder) -> None:
        x = b.placeholder("x", [1, 8, 8, 8])
        size = b.const("size", [1, 16, 16, 4])
        w = b.const("w", np.ascontiguousarray(weight))
        relu(b, b.op("c", "Conv2DBackpropInput", [size, w, x], strides=[1, 2, 2, 1],
                     padding="SAME"))  # fmt: skip

    assert _one(build, granularity="tensor").is_quantized
    assert _one(build).fate is Fate.TRANSPOSED_GROUPING


def _scaled_norm(scale: float, gamma: Any) -> Any:
    def build(b: GraphBuilder) -> None:
        x = b.placeholder("x", [1, 8, 8, 8])
        w = random_weight((3, 3, 8, OUT))
        w[..., 3] *= np.float32(scale)
        relu(b, norm(b, "n", b.conv("c", x, b.const("w", w)), gamma))

    return build


def test_tiny_scales() -> None:
    """MNN stores zeros where a scale is not above 1e-6, before or after batch-norm folding."""
    ones = np.ones(OUT, np.float32)
    assert _one(_scaled_norm(1, ones)).is_quantized
    layer = _one(_scaled_norm(1e-4, ones))
    assert layer.fate is Fate.TINY_SCALE
    assert "channel 3" in layer.detail
    gamma = ones.copy()
    gamma[7] = 1e-5
    layer = _one(_scaled_norm(1, gamma))
    assert layer.fate is Fate.TINY_SCALE
    assert "channel 7" in layer.detail
    assert "after batch-norm folding" in layer.detail
    assert layer.name == "c"


def test_a_dead_channel_is_no_obstacle() -> None:
    """Zeros are zeros to MNN too, also where batch norm makes them."""
    gamma = np.ones(OUT, np.float32)
    gamma[7] = 0
    layer = _one(_scaled_norm(0, gamma))
    assert layer.is_quantized
    assert layer.codes is not None
    assert not layer.codes[3].any()
    assert not layer.codes[7].any()
    assert layer.codes[4].any()


def test_negative_gamma_turns_the_codes_round() -> None:
    """A negative factor changes the sign of the codes and of nothing else."""
    gamma = np.ones(OUT, np.float32)
    plain = _one(_scaled_norm(1, gamma))
    gamma[5] = -1
    turned = _one(_scaled_norm(1, gamma))
    assert plain.codes is not None
    assert turned.codes is not None
    assert np.array_equal(turned.codes[5], -plain.codes[5])
    assert np.array_equal(turned.codes[6], plain.codes[6])
    assert np.array_equal(turned.scale, plain.scale)


@pytest.mark.parametrize(
    ("channels", "size", "fate", "block"),
    [(64, 16, Fate.QUANTIZED, 16), (64, 32, Fate.QUANTIZED, 32), (64, 64, Fate.QUANTIZED, 0)]
    + [(64, 8, Fate.GROUP_SIZE, 0), (64, 48, Fate.GROUP_SIZE, 0), (48, 24, Fate.GROUP_SIZE, 0)],
)
def test_groups(channels: int, size: int, fate: Fate, block: int) -> None:
    """Groups are MNN's blocks where they are multiples of 16 that divide the input channels."""
    layer = _one(
        lambda b: relu(b, conv(b, (3, 3, channels, OUT), channels)),
        granularity="group",
        group_size=size,
    )
    assert (layer.fate, layer.block_size) == (fate, block)
    if block:
        assert layer.grouping == f"{OUT * channels // size} blocks of {size} input channels"


@pytest.mark.mnn
@pytest.mark.parametrize(
    ("channels", "size", "rows"),
    [(64, 16, 4 * OUT), (64, 48, OUT), (64, 8, OUT), (48, 24, OUT), (48, 16, 3 * OUT)],
)
def test_the_converter_cuts_these_blocks(
    channels: int, size: int, rows: int, tmp_path: Path
) -> None:
    """The real converter cuts rows exactly where ``is_block`` says so."""
    graph = graph_of(lambda b: relu(b, conv(b, (3, 3, channels, OUT), channels)))
    options = ["--weightQuantBits=4", "--weightQuantAsymmetric=0", f"--weightQuantBlock={size}"]
    (layer,) = converted(graph, tmp_path, options).layers
    assert layer.quantized is not None
    assert len(layer.quantized.scale) == rows
    assert layout.is_block(size, channels) == (rows > OUT)


def test_one_scale_for_all_is_not_mnns_grid() -> None:
    """A scale per tensor: most channels lack the largest code, and MNN would take another scale."""
    layer = _one(lambda b: relu(b, conv(b)), granularity="tensor", bits=4)
    assert layer.fate is Fate.GRID
    assert "largest code" in layer.detail


def _joined(b: GraphBuilder) -> None:
    parts = [b.const(f"w{index}", random_weight((4, OUT), index)) for index in range(2)]
    w = b.op("w", "ConcatV2", [*parts, b.const("axis", 0)], N=2)
    relu(b, b.matmul("c", b.placeholder("x", [1, 8]), w))


def _side_by_side(b: GraphBuilder) -> None:
    parts = [b.const(f"w{index}", random_weight((8, 8), index)) for index in range(2)]
    w = b.op("w", "ConcatV2", [*parts, b.const("axis", 1)], N=2)
    relu(b, b.matmul("c", b.placeholder("x", [1, 8]), w))


def test_weights_that_are_joined() -> None:
    """Side by side two weights fit one layer, row by row they would share scales."""
    layer = _one(_side_by_side)
    assert layer.is_quantized
    assert layer.weights == ("w0", "w1")
    assert _one(_joined).fate is Fate.SEVERAL_SCALES
    rule = (graphwq.Rule("w1", 4),)
    assert _one(_side_by_side, rules=rule).fate is Fate.SEVERAL_SCALES
    rule = (graphwq.Rule("w1", None),)
    assert _one(_side_by_side, rules=rule).fate is Fate.PLANNED_FLOAT


def test_mixed_bits() -> None:
    """Each layer has the bits of its rule; what a rule keeps float has no codes."""

    def build(b: GraphBuilder) -> None:
        for index in range(3):
            x = b.placeholder(f"x{index}", [1, 8])
            w = b.const(f"w{index}", random_weight((8, OUT), index))
            relu(b, b.matmul(f"c{index}", x, w), f"y{index}")

    rules = (graphwq.Rule("w1", 4), graphwq.Rule("w2", None))
    layers = lint_of(graph_of(build), rules=rules)
    assert [layer.num_bits for layer in layers] == [8, 4, 0]
    assert layers[2].fate is Fate.PLANNED_FLOAT
    prepared = prepare(graph_of(build), options=Options(rules=rules))
    names = [f"c{index}__matmul_converted" for index in range(3)]
    assert [record.op_name for record in prepared.records()] == names[:2]
    kept = prepared.records(keep_float=True)
    assert [(record.op_name, record.num_bits) for record in kept] == list(zip(names, [8, 4, 0]))


@pytest.mark.parametrize("storage", ["bake", "dequant"])
@pytest.mark.parametrize("bits", [8, 3])
def test_an_input_that_is_quantized_already(storage: str, bits: int) -> None:
    """A graph that graphwq quantized gives the layers of the graph that it was made from."""
    graph = graph_of(lambda b: relu(b, conv(b, (3, 3, 32, OUT), 32)))
    quantized = graphwq.quantize(graph, bits, storage, keep_larger=True).graph
    (before,), (after,) = lint_of(graph, bits=bits), lint_of(quantized, bits=bits)
    assert (after.name, after.weights, after.num_bits) == ("c", ("w",), bits)
    assert np.array_equal(before.codes, after.codes)
    assert np.array_equal(before.scale, after.scale)


def test_fake_quant_is_no_storage_for_mnn() -> None:
    """MNN has no FakeQuant op."""
    with pytest.raises(InputError, match="fake_quant"):
        prepare(graph_of(lambda b: relu(b, matmul(b))), storage="fake_quant")


def test_the_uuid_depends_on_graph_and_plan() -> None:
    """The same graph and plan give the same model id, another width another one."""
    graph = graph_of(lambda b: relu(b, matmul(b)))
    ids = [prepare(graph, options=Options(bits=bits)).uuid for bits in (8, 8, 4)]
    assert ids[0] == ids[1] != ids[2]


def _values() -> List[Tuple[int, np.ndarray]]:
    random = np.random.RandomState(0)
    return [(bits, random.randn(20, 50).astype(np.float32)) for bits in range(2, 9)]


@pytest.mark.parametrize(("bits", "values"), _values())
def test_encode_is_the_converters_arithmetic(bits: int, values: np.ndarray) -> None:
    """Beside a scalar version written from the description, halves and tiny rows included."""
    top = max_code(bits)
    values[0] = 0
    values[1] *= np.float32(1e-7)
    values[2, 0], values[2, 1:] = top, np.float32(0.49999997)
    values[3, 0], values[3, 1:10], values[3, 10:20] = top, 0.5, -0.5
    codes, scale = layout.encode(values, bits)
    for row, found, step in zip(values, codes, scale):
        expected = np.float32(max(abs(float(value)) for value in row)) / np.float32(top)
        assert step == expected
        for value, code in zip(row, found):
            if step <= np.float32(1e-6):
                assert code == 0
                continue
            ratio = float(np.float32(value / step))
            away = int(abs(ratio) + 0.5) * (1 if ratio >= 0 else -1)
            assert code == min(max(away, -top - 1), top)


def test_rows_of_an_empty_survey() -> None:
    """A graph without weights has no layers."""
    b = GraphBuilder()
    relu(b, b.placeholder("x", [1]))
    graph: Graph = b.graph()
    assert lint_of(graph) == []


def test_rows() -> None:
    """MNN's layout, element by element: output channel first, then input channel, height, width."""
    w = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    found = layout.rows("Conv2D", w).reshape(5, 4, 2, 3)
    assert all(found[o, i, h, x] == w[h, x, i, o] for h, x, i, o in np.ndindex(*w.shape))
    found = layout.rows("Conv2DBackpropInput", w)  # memory is [in, out, h, w]
    assert found.shape == (4, 30)
    assert all(
        found.reshape(5, 4, 2, 3)[i, o, h, x] == w[h, x, o, i]
        for h, x, o, i in np.ndindex(*w.shape)
    )
    single = w[..., :1]
    found = layout.rows("DepthwiseConv2dNative", single).reshape(4, 2, 3)
    assert all(found[c, h, x] == single[h, x, c, 0] for h, x, c, _ in np.ndindex(*single.shape))
    matrix = w.reshape(6, 20)
    assert np.array_equal(layout.rows("MatMul", matrix), matrix.T)
    assert np.array_equal(layout.rows("MatMul", matrix, transposed=True), matrix)
    blocks = layout.blocked(layout.rows("Conv2D", w), 4, 2)
    assert blocks.shape == (10, 12)
    assert np.array_equal(blocks[3], layout.rows("Conv2D", w)[1, 12:])


def test_a_scale_that_is_no_fixed_point() -> None:
    """All codes may be equal where MNN would derive a neighbouring float as the scale."""
    scheme = QuantScheme(3)
    top = np.float32(scheme.max_code)
    steps = np.linspace(0.1, 0.2, 1000).astype(np.float32)
    moved = steps[steps * top / top != steps][:1]
    fixed = steps[steps * top / top == steps][:1]
    codes = np.array([[3, -1, 0, 2]], np.float32)
    assert np.array_equal(layout.encode(codes * moved[:, None], 3)[0], codes)
    with pytest.raises(Refusal, match="would derive the scale") as caught:
        check_arithmetic(codes, moved, scheme, None, "MatMul")
    assert caught.value.fate is Fate.GRID
    check_arithmetic(codes, fixed, scheme, None, "MatMul")


def test_a_grouped_convolution() -> None:
    """Its layers hold the output channels one after the other, each with its own part of a norm."""
    gamma = np.linspace(0.5, 2, OUT).astype(np.float32)
    graph = graph_of(lambda b: relu(b, norm(b, "n", conv(b, (3, 3, 4, OUT)), gamma)))
    first, second = lint_of(graph)
    assert (first.name, second.name) == ("c__group__0", "c__group__1")
    tensor = graphwq.quantize(graph, keep_larger=True).quantized["w"]
    codes = layout.rows("Conv2D", tensor.codes)
    assert first.codes is not None
    assert np.array_equal(np.concatenate([first.codes, second.codes]), codes)
    scales = tensor.scale.reshape(-1)
    assert first.factor is not None
    assert second.factor is not None
    factor = np.concatenate([first.factor, second.factor])
    assert np.array_equal(np.concatenate([first.scale, second.scale]), scales * factor)
    assert first.size == second.size == tensor.codes.size // 2


@pytest.mark.parametrize("storage", ["dequant", "fake_quant"])
def test_nothing_is_left_of_a_stored_form(storage: str) -> None:
    """The graph with floats again has the nodes of the original, decoding tables are gone."""
    graph = graph_of(lambda b: relu(b, conv(b, (3, 3, 32, OUT), 32)))
    result = graphwq.quantize(graph, 4, storage, keep_larger=True)
    found = as_floats(result.graph)
    assert [(node.name, node.op) for node in found.nodes] == [
        (node.name, node.op) for node in graph.nodes
    ]
    assert as_floats(graph) is graph


def test_large_weights_stay_in_one_piece() -> None:
    """For TensorFlow a large weight is cut along with its consumer; MNN gets the op as it was."""
    graph = graph_of(lambda b: relu(b, matmul(b, (64, 64))))
    with folding_limit(4096):
        cut = graphwq.quantize(graph, 8).graph
        prepared = prepare(graph, storage="dequant")
    assert "ConcatV2" in {node.op for node in cut.nodes}
    assert "ConcatV2" not in {node.op for node in prepared.result.graph.nodes}
    assert [layer.name for layer in prepared.layers] == ["c__matmul_converted"]


def test_defaults_are_fed() -> None:
    """MNN takes a PlaceholderWithDefault for an input: it gets its default, or what is fed."""
    b = GraphBuilder()
    default = b.const("k", [1.0, 2.0])
    relu(b, b.op("p", "PlaceholderWithDefault", [default], dtype=("type", 1)))
    graph = b.graph()
    assert feeds.with_defaults(graph, {})["p:0"].tolist() == [1.0, 2.0]
    given = {"p:0": np.zeros(2, np.float32)}
    assert feeds.with_defaults(graph, given)["p:0"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [0, 3, 14, 77, 2**31])
def test_a_type_that_no_weight_has(dtype: int) -> None:
    """The T of a Mul that nobody could run: the weight is a float one for MNN, nothing breaks."""
    b = GraphBuilder()
    codes = b.const("codes", np.arange(-8, 8, dtype=np.int8).reshape(4, 4))
    value = b.cast("value", codes, dtypes.DT_INT8, dtypes.DT_FLOAT)
    scale = b.const("scale", np.full((1, 4), 0.5, np.float32))
    b.op("w", "Mul", [value, scale], T=("type", dtype))
    b.matmul("y", b.placeholder("x", [1, 4]), "w")
    (found,) = [node for node in as_floats(b.graph()).nodes if node.name == "w"]
    tensor = found.tensor()
    assert tensor is not None
    assert tensor.numpy().tolist() == (np.arange(-8, 8).reshape(4, 4) * 0.5).tolist()
    lint_graph(prepare(b.graph()), use_converter=False)
