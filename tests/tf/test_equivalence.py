"""Law 4 where it counts: TensorFlow computes the same weights from every storage form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import (
    BITS,
    CASES,
    GRANULARITIES,
    NO_CPU_KERNEL,
    NOT_FETCHABLE,
    STORAGES,
    assert_same_bits,
    folding_limit,
    function_graph,
)

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.quant.packing import planes, table
from graphwq.rewrite import builder, split
from graphwq.rewrite.plan import Plan, Rule, Split, Whole
from graphwq.tf1.load import every_op, tensorflow
from graphwq.tf1.session import Runner

pytestmark = pytest.mark.tf

_FIXTURES = ("digits_cnn", "digits_mlp", "digits_lstm", "digits_embedding")


def _run(
    graph: Graph, outputs: Sequence[str], feeds: Any = None, optimize: bool = False
) -> Dict[str, np.ndarray]:
    with Runner(graph, optimize) as runner:
        return runner.run(outputs, feeds)


def _zoo() -> Graph:
    """Weights of many shapes, ragged against bytes and groups, half and double, and zeros."""
    b = GraphBuilder()

    def dense(name: str, shape: Tuple[int, int], dtype: Any = np.float32, **how: Any) -> None:
        kind = dtypes.FROM_NUMPY[np.dtype(dtype)]
        data = random_weight(shape, len(b.nodes), dtype, **how)
        x = b.placeholder(f"{name}/x", [-1, shape[0]], kind)
        b.op(f"{name}/y", "MatMul", [x, b.const(name, data)], T=("type", kind))

    for shape in ((1, 1), (3, 5), (7, 9), (13, 4), (24, 33), (65, 17)):
        dense(f"w{shape[0]}x{shape[1]}", shape)
    dense("half", (31, 7), np.float16)
    dense("double", (31, 7), np.float64)
    dense("large", (8, 8), std=1e30)
    dense("tiny", (8, 8), std=1e-30)
    pruned = random_weight((16, 16), 5)
    pruned[np.abs(pruned) < 0.1] = 0
    b.matmul("pruned/y", b.placeholder("pruned/x", [-1, 16]), b.const("pruned", pruned))
    images = b.placeholder("images", [1, 8, 8, 7])
    b.conv("conv/y", images, b.const("conv", random_weight((3, 3, 7, 5), 6)))
    filters = b.const("depthwise", random_weight((3, 3, 7, 3), 7))
    strides = [1, 1, 1, 1]
    b.op("depthwise/y", "DepthwiseConv2dNative", [images, filters], strides=strides, padding="SAME")
    batch = b.placeholder("batch", [2, 3, 6])
    right = b.const("batched", random_weight((2, 6, 5), 8))
    b.op("batched/y", "BatchMatMulV2", [batch, right])
    return b.graph()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", BITS)
def test_weights_are_the_same_bits(bits: int, granularity: str) -> None:
    """Law 4: TensorFlow, its optimizers off, makes bit for bit the weights that graphwq computed,
    from dequant, bake and fake_quant alike."""
    options: Dict[str, Any] = {"granularity": granularity, "group_size": 5, "keep_larger": True}
    graph = _zoo()
    weights = [site.weight for site in graphwq.locate(graph).sites]
    names = [f"{name}:0" for name in weights]
    assert len(names) == 14
    for storage in STORAGES if granularity != "group" else STORAGES[:2]:
        result = graphwq.quantize(graph, bits, storage, **options)
        assert [weight.item.weight for weight in result.weights] == weights
        found = _run(result.graph, names)
        for name, quantized in result.quantized.items():
            expected = quantized.dequantize().astype(found[f"{name}:0"].dtype)
            assert_same_bits(found[f"{name}:0"], expected, f"{storage} {name}")


@pytest.mark.parametrize("scale_bits", [16, 13])
def test_short_scales_are_the_same_bits(scale_bits: int) -> None:
    """FakeQuant ops on the weights themselves, where every product code * scale is exact."""
    graph = _zoo()
    for bits in (8, 5, 2):
        for granularity in ("channel", "tensor"):
            options = {"granularity": granularity, "keep_larger": True, "scale_bits": scale_bits}
            result = graphwq.quantize(graph, bits, "fake_quant", **options)
            found = _run(result.graph, [f"{name}:0" for name in result.quantized])
            for name, quantized in result.quantized.items():
                expected = quantized.dequantize().astype(found[f"{name}:0"].dtype)
                assert_same_bits(found[f"{name}:0"], expected, f"{bits} {granularity} {name}")


@pytest.mark.parametrize("bits", [8, 6, 3])
def test_optimized_weights_are_the_same_bits(bits: int) -> None:
    """Folding computes with the same kernels: with the optimizers on the weights are the same."""
    graph = _zoo()
    for storage in STORAGES:
        result = graphwq.quantize(graph, bits, storage, keep_larger=True)
        found = _run(result.graph, [f"{name}:0" for name in result.quantized], optimize=True)
        for name, quantized in result.quantized.items():
            expected = quantized.dequantize().astype(found[f"{name}:0"].dtype)
            assert_same_bits(found[f"{name}:0"], expected, f"{storage} {name}")


def test_the_tables_are_the_tables() -> None:
    """Every decoding table that TensorFlow computes is packing.table, bit for bit."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 96])
    for bits in range(2, 8):
        b.matmul(f"y{bits}", x, b.const(f"w{bits}", random_weight((96, 96), bits)))
    found: Dict[Any, np.ndarray] = {}
    for wanted in ((2, 3), (4, 5), (6, 7)):
        rules = tuple(Rule(f"w{bits}", bits) for bits in wanted)
        include = tuple(f"w{bits}" for bits in wanted)
        plan = graphwq.plan(b.graph(), rules=rules, include=include, keep_larger=True)
        items = tuple(replace(item, layout="planes") for item in plan.items)
        result = graphwq.quantize(b.graph(), plan=replace(plan, items=items))
        tables = {
            node.inputs[0]: None
            for node in result.graph.nodes
            if node.op == "Gather" and node.inputs[0].startswith("q/")
        }
        values = _run(result.graph, [f"{name}:0" for name in tables])
        found.update({value.tobytes(): value for value in values.values()})
    for bits in range(2, 8):
        for plane in planes(bits):
            assert table(plane).tobytes() in found, (bits, plane)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_function_bodies(dtype: Any) -> None:
    """A weight in a function body: all forms give its bits, and the function its output."""
    graph = function_graph(dtype)
    x = random_weight((2, 24), 3, dtype, std=1.0)
    kind = np.dtype(dtype)
    for bits in BITS:
        plan = graphwq.plan(graph, bits, keep_larger=True)
        outputs = []
        for storage in STORAGES:
            result = graphwq.quantize(graph, plan=plan, storage=storage)
            found = _run(result.graph, ["w_out:0", "y:0"], {"x:0": x})
            expected = result.quantized["dense:w"].dequantize().astype(kind)
            assert_same_bits(found["w_out:0"], expected, f"{storage} {bits}")
            outputs.append(found["y:0"])
        assert_same_bits(outputs[0], outputs[1])
        assert_same_bits(outputs[0], outputs[2])


def _close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    largest = float(np.abs(expected).max()) if expected.size else 0.0
    assert largest > 0
    worst = float(np.abs(found.astype(np.float64) - expected).max())
    assert worst <= relative * largest


_ROUNDING = {np.dtype(np.float16): 2e-3, np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-14}


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("name", sorted(set(CASES) - set(NO_CPU_KERNEL)))
def test_pieces_and_rows_compute_the_same(name: str, bits: int, optimize: bool) -> None:
    """A graph with its weight in pieces gives the outputs of the baked, uncut graph.

    Gathered rows and the weight itself bit for bit; sums only up to rounding, because a cut along
    the channels may make the multiplication choose another order of additions.
    """
    case = CASES[name]()
    with folding_limit(case.limit):
        plan = graphwq.plan(case.graph, bits, keep_larger=True)
        assert case.form in ("any", *(type(item.form).__name__.lower() for item in plan.items))
        cut = graphwq.quantize(case.graph, plan=plan).graph
        baked = graphwq.quantize(case.graph, plan=plan, storage="bake").graph
    outputs = list(case.outputs)
    if name not in NOT_FETCHABLE:
        outputs += [f"{item.weight}:0" for item in plan.items]
    found = _run(cut, outputs, case.feeds, optimize)
    expected = _run(baked, outputs, case.feeds, optimize=False)
    for output in outputs:
        if output == "y:0" and not (name.startswith("gather") and "loop" not in name):
            _close(found[output], expected[output], _ROUNDING[expected[output].dtype])
        else:
            assert_same_bits(found[output], expected[output], output)


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", _FIXTURES)
def test_real_networks(name: str, storage: str, bits: int, fixtures: Path) -> None:
    """The trained networks: all forms agree with bake bit for bit, optimizers off, and up to
    float32 rounding with them on."""
    graph = graphwq.load(fixtures / f"{name}.pb")
    with np.load(fixtures / f"{name}_test.npz", allow_pickle=False) as data:
        feeds = {"input:0": data["input:0"][:8]}
    plan = graphwq.plan(graph, bits)
    outputs = ["logits:0", "softmax:0"]
    expected = _run(graphwq.quantize(graph, plan=plan, storage="bake").graph, outputs, feeds)
    result = graphwq.quantize(graph, plan=plan, storage=storage).graph
    found = _run(result, outputs, feeds)
    for output in outputs:
        assert_same_bits(found[output], expected[output], output)
    optimized = _run(result, outputs, feeds, optimize=True)
    for output in outputs:
        _close(optimized[output], expected[output], 1e-5)


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("name", ["digits_cnn", "digits_lstm", "digits_embedding"])
def test_real_networks_in_pieces(name: str, bits: int, fixtures: Path) -> None:
    """The trained networks with a folding limit so low that nearly every weight is cut."""
    graph = graphwq.load(fixtures / f"{name}.pb")
    with np.load(fixtures / f"{name}_test.npz", allow_pickle=False) as data:
        feeds = {"input:0": data["input:0"][:8]}
    with folding_limit(4000):
        plan = graphwq.plan(graph, bits)
        cut = graphwq.quantize(graph, plan=plan)
        baked = graphwq.quantize(graph, plan=plan, storage="bake").graph
    assert any(not isinstance(item.form, Whole) for item in plan.items)
    expected = _run(baked, ["logits:0"], feeds)["logits:0"]
    for optimize in (False, True):
        _close(_run(cut.graph, ["logits:0"], feeds, optimize)["logits:0"], expected, 1e-5)


def _executed(graph: Graph, outputs: Sequence[str], feeds: Dict[str, np.ndarray]) -> List[Any]:
    """The nodes that TensorFlow executes after its optimizers have run."""
    tf = tensorflow()
    with Runner(graph, optimize=True) as runner:
        options = tf.RunOptions(output_partition_graphs=True)
        metadata = tf.RunMetadata()
        runner._session.run(list(outputs), feeds, options=options, run_metadata=metadata)
    nodes = [node for part in metadata.partition_graphs for node in part.node]
    assert nodes
    return nodes


#: What decoding is made of; none of it may be left at run time.
_DECODING = {"Cast", "Gather", "GatherV2", "Mul", "FloorMod", "Floor", "Range", "Reshape", "Slice"}
_DECODING |= {"FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel", "ExpandDims", "Add"}


def _decoding_left(nodes: List[Any]) -> List[str]:
    return sorted(f"{node.op} {node.name}" for node in nodes if node.op in _DECODING)


@pytest.mark.parametrize("storage", ["dequant", "fake_quant"])
@pytest.mark.parametrize("bits", BITS)
def test_tensorflow_folds_the_decoding(bits: int, storage: str) -> None:
    """With its optimizers on, TensorFlow executes a plain MatMul: the decoding ran once, before.

    Seen in the graph that is executed, not in times; ragged sizes included.
    """
    for shape in ((256, 256), (101, 33)):
        b = GraphBuilder()
        x = b.placeholder("x", [2, shape[0]])
        b.matmul("y", x, b.op("w/read", "Identity", [b.const("w", random_weight(shape))]))
        for granularity in GRANULARITIES if storage == "dequant" else GRANULARITIES[:2]:
            options = {"granularity": granularity, "group_size": 30, "keep_larger": True}
            result = graphwq.quantize(b.graph(), bits, storage, **options)
            nodes = _executed(result.graph, ["y:0"], {"x:0": np.ones((2, shape[0]), np.float32)})
            assert "MatMul" in {node.op for node in nodes}
            assert _decoding_left(nodes) == []


def test_tensorflow_folds_convolutions_loops_and_halves() -> None:
    """The same for a convolution, a weight in a while loop, half and double weights."""
    for name in ("conv2d", "conv2d_transposed", "conv3d", "while_loop", "double", "half", "branch"):
        case = CASES[name]()
        for bits in (8, 3):
            result = graphwq.quantize(case.graph, bits, keep_larger=True)
            nodes = _executed(result.graph, case.outputs[:1], case.feeds)
            left = [item for item in _decoding_left(nodes) if "add_i" not in item]
            assert left == [], name


def test_tensorflow_folds_the_pieces_of_a_large_weight() -> None:
    """A weight of 16 MiB: in pieces it is folded, in one piece (hence the pieces) it is not."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 2048])
    b.matmul("y", x, b.const("w", random_weight((2048, 2048))))
    feeds = {"x:0": np.ones((1, 2048), np.float32)}
    for bits in (8, 4):
        plan = graphwq.plan(b.graph(), bits)
        form = plan.items[0].form
        assert isinstance(form, Split)
        assert form.axis == 1
        nodes = _executed(graphwq.quantize(b.graph(), plan=plan).graph, ["y:0"], feeds)
        assert _decoding_left(nodes) == []
        assert [node.op for node in nodes].count("MatMul") == len(form.sizes) > 1
        items = tuple(replace(item, form=Whole()) for item in plan.items)
        whole = Plan(plan.graph_digest, items, plan.skips)
        nodes = _executed(graphwq.quantize(b.graph(), plan=whole).graph, ["y:0"], feeds)
        assert _decoding_left(nodes) != []


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_a_large_table_is_never_dequantized(bits: int) -> None:
    """A table of 12 MiB: TensorFlow gathers integers and never makes the float table."""
    rows, width = 20_000, 157
    b = GraphBuilder()
    w = b.const("w", random_weight((rows, width)))
    ids, axis = b.placeholder("ids", [3], dtypes.DT_INT32), b.const("axis", 0)
    int32 = ("type", dtypes.DT_INT32)
    types = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": int32, "Taxis": int32}
    b.op("y", "GatherV2", [w, ids, axis], **types)
    result = graphwq.quantize(b.graph(), bits)
    feeds = {"ids:0": np.array([0, 17, rows - 1], np.int32)}
    nodes = _executed(result.graph, ["y:0"], feeds)
    assert "w" not in {node.name for node in nodes}
    largest = 0
    for node in nodes:
        if node.op == "Const":
            tensor = node.attr["value"].tensor
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            if tensor.dtype == dtypes.DT_FLOAT:
                largest = max(largest, int(np.prod(shape)))
    assert 0 < largest <= max(rows, 256 * 8)
    found = _run(result.graph, ["y:0"], feeds)["y:0"]
    expected = result.quantized["w"].dequantize()[feeds["ids:0"]]
    assert_same_bits(found, expected)


def test_output_names_are_those_of_the_op_definitions() -> None:
    """In function bodies inputs name the output of an op: checked against TensorFlow's registry."""
    known = every_op(tensorflow())
    made = {"Const", "Identity", "Add", "Cast", "ConcatV2", "ExpandDims", "Floor", "FloorMod"}
    made |= {"Gather", "GatherV2", "Mul", "Range", "Reshape", "Shape", "Slice", "Transpose"}
    made |= {"FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"}
    for op in sorted(made | set(builder._OUTPUT)):
        assert known[op].output_arg[0].name == builder._OUTPUT.get(op, builder._DEFAULT_OUTPUT), op


def test_every_op_is_as_old_as_the_graph_needs() -> None:
    """Attributes that are left out have a default in TensorFlow's registry: nothing is guessed."""
    known = every_op(tensorflow())
    for name in ("matmul", "conv2d_transposed", "tied", "gather_rank3", "half"):
        case = CASES[name]()
        with folding_limit(case.limit):
            for bits in (8, 3):
                result = graphwq.quantize(case.graph, bits, keep_larger=True)
                for edit in result.edits:
                    present = set(edit.node.attr_bytes())
                    for attr in known[edit.node.op].attr:
                        assert attr.name in present or attr.HasField("default_value"), edit.node
                    extra = present - {attr.name for attr in known[edit.node.op].attr}
                    assert all(key.startswith("_") for key in extra)


def test_the_limit_is_tensorflows() -> None:
    """TensorFlow folds a result just under the limit and not one at it: the constant is right."""
    assert split.FOLDING_LIMIT == 10 * 1024 * 1024
    for columns, folded in ((1279, True), (1280 + 64, False)):
        b = GraphBuilder()
        x = b.placeholder("x", [1, 2048])
        b.matmul("y", x, b.const("w", random_weight((2048, columns))))
        plan = graphwq.plan(b.graph())
        items = tuple(replace(item, form=Whole()) for item in plan.items)
        result = graphwq.quantize(b.graph(), plan=Plan(plan.graph_digest, items, plan.skips))
        nodes = _executed(result.graph, ["y:0"], {"x:0": np.ones((1, 2048), np.float32)})
        assert (_decoding_left(nodes) == []) is folded
