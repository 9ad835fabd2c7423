"""Reading stored forms back: what was written is read, and nothing is mistaken for it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from hypothesis import assume, given
from hypothesis import strategies as st

from graphwq.api import quantize
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import GraphDef
from graphwq.quant.scheme import PerGroup, PerTensor, QuantizedTensor
from graphwq.rewrite import split
from graphwq.rewrite.decode import StoredWeight, decode, stored_weights
from graphwq.rewrite.plan import BAKE, Rows, Split, Whole
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.view import build

BITS = range(2, 9)


def stored_in(graph: Graph) -> Dict[str, StoredWeight]:
    """The stored weights of a graph, read from its bytes, by name; none may occur twice."""
    found = stored_weights(build(Graph.parse(graph.to_bytes())))
    assert len({item.weight for item in found}) == len(found)
    return {item.weight: item for item in found}


def kept(quantized: QuantizedTensor) -> Tuple[int, ...]:
    """The axes along which a scale varies."""
    granularity = quantized.scheme.granularity
    axes = () if isinstance(granularity, PerTensor) else granularity.axes
    if isinstance(granularity, PerGroup):
        axes = tuple(sorted((*axes, granularity.axis)))
    return tuple(axis for axis in axes if quantized.codes.shape[axis] > 1)


def assert_read_back(result: RewriteResult) -> Dict[str, StoredWeight]:
    """Exactly the weights of the plan are found, code for code and scale for scale."""
    stored = stored_in(result.graph)
    assert set(stored) == set(result.quantized)
    for weight in result.weights:
        name, item = weight.item.weight, stored[weight.item.weight]
        quantized = result.quantized[name]
        shape = quantized.codes.shape
        assert item.storage == weight.item.storage
        assert item.codes.dtype == np.int8
        assert item.scale.dtype == np.float32
        np.testing.assert_array_equal(item.codes, quantized.codes)
        full = np.broadcast_to(quantized.scale_for(0, shape[0]), shape)
        np.testing.assert_array_equal(np.broadcast_to(item.scale, shape), full)
        assert item.values().tobytes() == quantized.dequantize().tobytes()
        assert item.axes == kept(quantized)
        largest = int(np.abs(quantized.codes.astype(int)).max())
        needed = next(bits for bits in BITS if largest <= 2 ** (bits - 1) - 1)
        assert item.num_bits == needed
        assert (
            0
            < item.nbytes
            <= sum(edit.node.nbytes for edit in result.edits if edit.node.op == "Const")
        )
    return stored


# -------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("storage", ["dequant", "fake_quant"])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_codes_and_scales_come_back(bits: int, storage: str, granularity: str) -> None:
    """For each width, form and granularity; a weight of 35 x 7, which fills no byte evenly."""
    result = quantize(dense(35, 7), bits, storage, granularity=granularity, keep_larger=True)
    stored = assert_read_back(result)
    assert stored["w"].num_bits == bits


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group_size", [16, 10, 1, 34])
def test_groups_come_back(bits: int, group_size: int) -> None:
    """Groups of inputs, with a ragged tail (35 = 3 * 10 + 5) and without."""
    result = quantize(
        dense(35, 7), bits, granularity="group", group_size=group_size, keep_larger=True
    )
    stored = assert_read_back(result)
    assert stored["w"].axes == (0, 1)


@pytest.mark.parametrize("bits", BITS)
def test_fake_quant_on_the_values_comes_back(bits: int) -> None:
    """With scales of 16 bits the op stands on the weights themselves: they are stored quantized."""
    result = quantize(dense(35, 7), bits, "fake_quant", scale_bits=16, keep_larger=True)
    stored = stored_in(result.graph)
    assert set(stored) == {"w"}
    assert stored["w"].num_bits == bits
    assert stored["w"].values().tobytes() == result.quantized["w"].dequantize().tobytes()


@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 1, 5, 8), (3, 3, 5, 1), (5, 5, 1, 3)])
@pytest.mark.parametrize("bits", [2, 3, 7, 8])
@pytest.mark.parametrize("storage", ["dequant", "fake_quant"])
def test_convolutions_come_back(shape: Tuple[int, ...], bits: int, storage: str) -> None:
    """Four axes, axes of size 1 among them."""
    assert_read_back(quantize(convolution(shape), bits, storage, keep_larger=True))


def _typed(dtype: Any, scope: str = "") -> Graph:
    """x -> MatMul(w) in half, float or double, in the main graph or in a function."""
    kind = dtypes.FROM_NUMPY[np.dtype(dtype)]
    b = GraphBuilder()
    inner = GraphBuilder() if scope else b
    inner.const("w", random_weight((35, 7), dtype=dtype))
    output = ":output:0" if scope else ""
    inner.op("read", "Identity", [f"w{output}"], T=("type", kind))
    x = "x" if scope else b.placeholder("x", [1, 35], kind)
    inner.op("y", "MatMul", [x, f"read{output}"], T=("type", kind))
    if scope:
        b.function(scope, [("x", kind)], inner, [("y", "y:product:0", kind)])
        x = b.placeholder("input", [1, 35], kind)
        b.call("call", scope, [x], types=[kind], results=[kind])
    return b.graph()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scope", ["", "layer"])
@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("storage", ["dequant", "fake_quant"])
def test_other_widths_and_functions(dtype: Any, scope: str, bits: int, storage: str) -> None:
    """Half and double end in a Cast, function bodies in an Identity: both are seen through."""
    result = quantize(_typed(dtype, scope), bits, storage, keep_larger=True)
    assert set(assert_read_back(result)) == {f"{scope}:w" if scope else "w"}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("scope", ["", "layer"])
def test_groups_in_other_widths_and_functions(dtype: Any, scope: str) -> None:
    """The Gather that repeats group scales is seen through as well."""
    options = {"granularity": "group", "group_size": 10, "keep_larger": True}
    assert_read_back(quantize(_typed(dtype, scope), 4, **options))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_weight_in_pieces(
    bits: int, granularity: str, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces are put together again; they are not reported as weights of their own."""
    monkeypatch.setattr(split, "FOLDING_LIMIT", 600)
    options = {"granularity": granularity, "group_size": 10, "keep_larger": True}
    result = quantize(_typed(dtype), bits, **options)
    form = result.weights[0].item.form
    assert isinstance(form, Split)
    assert len(form.sizes) > 1
    assert_read_back(result)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("width", [16, 13])
def test_a_table_of_rows(
    bits: int, granularity: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table's own name stands for the whole table; what is gathered by ids is no weight."""
    monkeypatch.setattr(split, "FOLDING_LIMIT", 1000)
    b = GraphBuilder()
    table = b.const("table", random_weight((50, width)))
    b.gather("rows", table, b.placeholder("ids", [3], dtypes.DT_INT32))
    result = quantize(b.graph(), bits, granularity=granularity, keep_larger=True)
    assert result.weights[0].item.form == Rows()
    assert_read_back(result)


@pytest.mark.parametrize("bits", [3, 8])
def test_a_tied_table_is_one_weight(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces that the other consumers use are parts of the table, not further weights."""
    monkeypatch.setattr(split, "FOLDING_LIMIT", 1000)
    b = GraphBuilder()
    table = b.const("table", random_weight((50, 13)))
    rows = b.gather("rows", table, b.placeholder("ids", [3], dtypes.DT_INT32))
    b.matmul("logits", rows, table, tb=True)
    result = quantize(b.graph(), bits, keep_larger=True)
    form = result.weights[0].item.form
    assert isinstance(form, Rows)
    assert len(form.sizes) > 1
    assert_read_back(result)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_lookup_of_constant_rows_is_no_weight(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a table at constant positions are read from the table, not stored beside it."""
    monkeypatch.setattr(split, "FOLDING_LIMIT", 1000)
    b = GraphBuilder()
    table = b.const("table", random_weight((50, 16)))
    b.gather("first", table, b.const("positions", np.arange(5, dtype=np.int32)))
    assert_read_back(quantize(b.graph(), bits, keep_larger=True))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_that_the_model_itself_joins(axis: int, bits: int) -> None:
    """A ConcatV2 of the model's own stays what it was: its pieces are the stored weights."""
    b = GraphBuilder()
    names = [b.const(name, random_weight((8, 8), seed)) for seed, name in enumerate("uvw")]
    both = b.op("both", "ConcatV2", [*names, b.const("axis", axis)], N=3)
    b.op("y", "BatchMatMulV2", [b.placeholder("x"), both])
    stored = assert_read_back(quantize(b.graph(), bits, keep_larger=True))
    assert set(stored) == {"u", "v", "w"}


def test_a_weight_of_zeros() -> None:
    """All codes are 0: two bits hold them, and the values are zeros."""
    b = GraphBuilder()
    w = b.const("w", np.zeros((35, 7), np.float32))
    b.matmul("y", b.placeholder("x", [1, 35]), w)
    stored = assert_read_back(quantize(b.graph(), 8, keep_larger=True))
    assert stored["w"].num_bits == 2
    assert not stored["w"].values().any()


def test_several_weights_in_file_order() -> None:
    """Main graph first, then functions, each in the order of the file."""
    b, body = GraphBuilder(), GraphBuilder()
    for name in ("z", "a"):
        b.matmul(f"y_{name}", b.placeholder(f"x_{name}"), b.const(name, random_weight((64, 8))))
    body.const("w", random_weight((64, 8)))
    body.op("y", "MatMul", ["x", "w:output:0"])
    b.function("f", [("x", dtypes.DT_FLOAT)], body)
    result = quantize(b.graph(), 8, keep_larger=True)
    assert [item.weight for item in stored_weights(build(result.graph))] == ["z", "a", "f:w"]


def test_a_baked_graph_stores_floats() -> None:
    """bake has no integers to read back."""
    result = quantize(dense(), 4, BAKE)
    assert stored_in(result.graph) == {}


def test_the_bytes_are_those_of_codes_and_scale() -> None:
    """What the constants of one weight take in the file; shared tables are not counted."""
    result = quantize(dense(64, 32), 8)
    nodes = {node.name: node for node in result.graph.nodes}
    (item,) = stored_weights(build(result.graph))
    constants = [node for node in nodes.values() if node.op == "Const"]
    assert item.nbytes == sum(node.nbytes for node in constants)
    assert isinstance(result.weights[0].item.form, Whole)
    assert item.to_json() == {
        "weight": "w",
        "storage": "dequant",
        "num_bits": 8,
        "axes": [1],
        "shape": [64, 32],
        "bytes": item.nbytes,
    }


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
    st.integers(2, 8),
    st.sampled_from(["channel", "tensor", "group"]),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_any_weight_comes_back(
    shape: Tuple[int, ...], bits: int, granularity: str, group_size: int, seed: int
) -> None:
    """Whatever the shape: what was stored is what is read.

    (Codes of which each has a scale of its own look like any product of two constants.)
    """
    b = GraphBuilder()
    w = b.const("w", random_weight(shape, seed))
    b.op("y", "BatchMatMulV2", [b.placeholder("x"), w])
    options = {"granularity": granularity, "group_size": group_size, "keep_larger": True}
    result = quantize(b.graph(), bits, **options)
    assume(result.quantized["w"].scale.size < int(np.prod(shape)))
    assert_read_back(result)


# ------------------------------------------------------------------------------- other tools


def _stored(b: GraphBuilder, root: str) -> Any:
    view = build(b.graph()).main
    return decode(view, view.nodes[root])


def test_a_form_of_another_tool() -> None:
    """int8 Const -> Cast -> Mul(scale), however it is named."""
    b = GraphBuilder()
    codes = np.array([[-7, 0, 3], [5, 7, -1]], np.int8)
    value = b.cast("anything", b.const("numbers", codes), dtypes.DT_INT8, dtypes.DT_FLOAT)
    b.op("kernel", "Mul", [value, b.const("steps", np.float32([[0.5, 0.25, 2.0]]))])
    item = _stored(b, "kernel")
    assert (item.weight, item.storage, item.num_bits, item.axes) == ("kernel", "dequant", 4, (1,))
    np.testing.assert_array_equal(item.codes, codes)


def test_a_scale_without_leading_axes() -> None:
    """A scale [4] of codes [3, 4] is one per column, as broadcasting says."""
    b = GraphBuilder()
    b.op("w", "Mul", [_cast_codes(b), b.const("scale", np.float32([1, 2, 3, 4]))])
    item = _stored(b, "w")
    assert item.scale.tolist() == [[1, 2, 3, 4]]
    assert item.axes == (1,)


def test_unsigned_codes_with_a_zero_point() -> None:
    """uint8 -> Cast -> Sub(128) -> Mul(scale) is read as signed codes."""
    b = GraphBuilder()
    codes = np.array([[1, 128, 255]], np.uint8)
    value = b.cast("value", b.const("codes", codes), dtypes.DT_UINT8, dtypes.DT_FLOAT)
    value = b.op("centred", "Sub", [value, b.const("zero", np.float32(128))])
    b.op("w", "Mul", [value, b.const("scale", np.float32([[0.5]]))])
    item = _stored(b, "w")
    np.testing.assert_array_equal(item.codes, [[-127, 0, 127]])
    assert (item.num_bits, item.axes) == (8, ())


Make = Callable[[GraphBuilder], Sequence[str]]


def _cast_codes(b: GraphBuilder, values: Any = None, dtype: Any = np.int8) -> str:
    codes = np.arange(-6, 6).reshape(3, 4).astype(dtype) if values is None else values
    kind = dtypes.FROM_NUMPY[np.dtype(codes.dtype)]
    return b.cast("value", b.const("codes", codes), kind, dtypes.DT_FLOAT)


def _scale(b: GraphBuilder, shape: Tuple[int, ...] = (1, 4), dtype: Any = np.float32) -> str:
    return b.const("scale", (np.abs(random_weight(shape)) + 1).astype(dtype))


MISTAKABLE: Dict[str, Make] = {
    "two float constants": lambda b: [b.const("a", random_weight((3, 4))), _scale(b)],
    "int32 codes": lambda b: [_cast_codes(b, dtype=np.int32), _scale(b)],
    "a fed scale": lambda b: [_cast_codes(b), b.placeholder("s")],
    "fed codes": lambda b: [b.cast("v", b.placeholder("c", None, dtypes.DT_INT8), 6, 1), _scale(b)],
    "codes and something fed": lambda b: [
        b.op("sum", "Add", [_cast_codes(b), b.placeholder("x")]), _scale(b)],
    "a double scale": lambda b: [_cast_codes(b), _scale(b, dtype=np.float64)],
    "a scale of higher rank": lambda b: [_cast_codes(b), _scale(b, (1, 1, 4))],
    "a scale that does not fit": lambda b: [_cast_codes(b), _scale(b, (2, 4))],
    "a scale that widens": lambda b: [_cast_codes(b, np.ones((1, 4), np.int8)), _scale(b, (3, 4))],
    "no whole numbers": lambda b: [
        b.op("half", "Mul", [_cast_codes(b), b.const("f", np.float32(0.5))]), _scale(b)],
    "codes out of range": lambda b: [
        b.op("far", "Add", [_cast_codes(b), b.const("f", np.float32(200))]), _scale(b)],
    "-128 among the codes": lambda b: [
        _cast_codes(b, np.array([[-128, 0, 1, 2]], np.int8)), _scale(b)],
    "NaN among the codes": lambda b: [
        b.op("nan", "Mul", [_cast_codes(b), b.const("f", np.float32(np.nan))]), _scale(b)],
    "one input": lambda b: [_cast_codes(b)],
    "nothing": lambda b: [],
    "a dangling input": lambda b: [_cast_codes(b), "gone"],
    "a cycle": lambda b: ["root", _scale(b)],
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKABLE)
def test_what_is_no_stored_weight(name: str) -> None:
    """A product that looks like one and is none."""
    b = GraphBuilder()
    b.op("root", "Mul", MISTAKABLE[name](b))
    assert _stored(b, "root") is None


@pytest.mark.parametrize("axis", [np.int32(-1), np.int32(5), np.int32([0, 1]), np.float32(0)])
def test_joining_along_odd_axes(axis: Any) -> None:
    """A ConcatV2 of stored weights along any axis, or none: no crash, and scales that fit."""
    b = GraphBuilder()
    pieces = []
    for number in range(2):
        codes = b.const(f"codes{number}", np.array([[1, 2], [3, -4]], np.int8))
        value = b.cast(f"value{number}", codes, dtypes.DT_INT8, dtypes.DT_FLOAT)
        scale = b.const(f"scale{number}", np.float32([[0.5, 0.25]]))
        pieces.append(b.op(f"w{number}", "Mul", [value, scale]))
    b.op("both", "ConcatV2", [*pieces, b.const("axis", np.asarray(axis))], N=2)
    stored = stored_weights(build(b.graph()))
    found = {item.weight for item in stored}
    assert found >= {"w0", "w1"} or found == {"both"}
    for item in stored:
        assert item.scale.ndim == item.codes.ndim
        assert item.values().shape == item.codes.shape


def test_joining_what_does_not_fit() -> None:
    """Pieces of different rank or length: no weight, no crash."""
    b = GraphBuilder()
    pieces: List[str] = []
    for number, shape in enumerate([(2, 3), (2, 5), (2, 3, 1)]):
        codes = b.const(f"codes{number}", np.ones(shape, np.int8))
        value = b.cast(f"value{number}", codes, dtypes.DT_INT8, dtypes.DT_FLOAT)
        scale = b.const(f"scale{number}", np.ones((1,) * len(shape), np.float32))
        pieces.append(b.op(f"w{number}", "Mul", [value, scale]))
    b.const("axis", 0)
    for number, chosen in enumerate([pieces[:2], pieces[1:], [], ["axis"]]):
        b.op(f"both{number}", "ConcatV2", [*chosen, "axis"])
    assert {item.weight for item in stored_weights(build(b.graph()))} == {"w0", "w1", "w2"}


def test_strings_that_are_gathered_are_no_codes() -> None:
    """A string table read at int8 positions: no weight, no crash."""
    proto = GraphDef()
    node = proto.node.add(name="words", op="Const")
    node.attr["dtype"].type = dtypes.DT_STRING
    node.attr["value"].tensor.dtype = dtypes.DT_STRING
    node.attr["value"].tensor.tensor_shape.dim.add().size = 2
    node.attr["value"].tensor.string_val.extend([b"a", b"b"])
    b = GraphBuilder()
    b.op("word", "Gather", ["words", b.const("ids", np.array([0, 1], np.int8))])
    b.op("root", "Mul", ["word", b.const("scale", np.float32([0.5]))])
    view = build(Graph.parse(b.to_bytes() + proto.SerializeToString()))
    assert stored_weights(view) == ()


def test_an_empty_graph_stores_nothing() -> None:
    """And is no error."""
    assert stored_weights(build(Graph.parse(b""))) == ()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1)])
def test_a_weight_with_as_many_scales_as_values(bits: int, shape: Tuple[int, ...]) -> None:
    """One row, all of it positive: no mask over a weight, its scales are positive as well."""
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [1, shape[0]]), b.const("w", np.abs(random_weight(shape)) + 1))
    assert_read_back(quantize(b.graph(), bits, keep_larger=True))


def test_a_mask_is_no_weight() -> None:
    """Bytes of zeros and ones, times something that is zero in places."""
    b = GraphBuilder()
    mask = b.cast("mask", b.const("ones", np.array([[1, 0, 1]], np.int8)), dtypes.DT_INT8, 1)
    b.op("root", "Mul", [mask, b.const("floats", np.float32([[0.5, 0, 2]]))])
    assert _stored(b, "root") is None


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("scope", ["", "layer"])
def test_half_weights_with_scales_of_sixteen_bits(bits: int, scope: str) -> None:
    """The scale is read before the final Cast, in which it would be rounded."""
    options = {"scale_bits": 16, "keep_larger": True}
    assert_read_back(quantize(_typed(np.float16, scope), bits, "fake_quant", **options))


def test_joining_one_piece_again_and_again() -> None:
    """No weight is cut into pieces of which two are the same: a small file would be a large one."""
    b = GraphBuilder()
    piece = b.op("w", "Mul", [_cast_codes(b), _scale(b)])
    b.matmul("y", b.placeholder("x", [1, 3]), piece)
    b.op("both", "ConcatV2", [piece, piece, b.const("axis", 0)], N=2)
    assert {item.weight for item in stored_weights(build(b.graph()))} == {"w"}
