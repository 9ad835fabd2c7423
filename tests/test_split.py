"""Large weights in pieces: TensorFlow folds only what is under its limit.

The limit is 10 MiB; the tests set it to a few kilobytes so that small weights have to be cut.
"""

from __future__ import annotations

import re
from typing import Any, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder
from rewriting import (
    CASES,
    Case,
    assert_only_edits_changed,
    assert_same_bits,
    assert_second_run_does_nothing,
    folding_limit,
    node,
    ops,
    upstream,
    value,
)

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, TensorRef, attr_of_type
from graphwq.graphdef.source import to_text
from graphwq.quant.scheme import PerChannel, QuantScheme
from graphwq.rewrite import split
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Split, Whole
from graphwq.rewrite.planning import make_plan
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.evaluate import evaluate
from graphwq.survey.view import build

_BITS = [8, 3]
_SPLIT = sorted(
    name for name in CASES if CASES[name]().form == "split" and name != "product_of_weights"
)


def _quantized(case: Case, bits: int = 8, **options: Any) -> RewriteResult:
    with folding_limit(case.limit):
        return graphwq.quantize(case.graph, bits, keep_larger=True, **options)


def _form(result: RewriteResult) -> Split:
    form = result.weights[0].item.form
    assert isinstance(form, Split)
    return form


def _joined(graph: Graph, name: str) -> List[Node]:
    """The producers of the ConcatV2 called ``name``, its axis left out."""
    joint = node(graph, name)
    assert joint.op == "ConcatV2", joint.op
    return [node(graph, TensorRef.parse(item).node) for item in joint.data_inputs[:-1]]


def test_the_limit_is_tensorflows() -> None:
    """kMaxConstantSize of TensorFlow 1.15's constant folding is 10 MiB."""
    assert split.FOLDING_LIMIT == 10 * 1024 * 1024


@pytest.mark.parametrize("bits", _BITS)
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_case_keeps_the_laws(name: str, bits: int) -> None:
    """Law 2 and 3 under the limit: untouched nodes keep their bytes, a second run finds nothing,
    and the weight's own name is worth what bake would store."""
    case = CASES[name]()
    result = _quantized(case, bits)
    assert result.modified
    assert_only_edits_changed(case.graph, result)
    for weight, quantized in result.quantized.items():
        kind = node(case.graph, weight).tensor()
        assert kind is not None
        expected = quantized.dequantize().astype(dtypes.NUMPY[kind.dtype])
        assert_same_bits(value(result.graph, weight), expected, weight)
    with folding_limit(case.limit):
        assert_second_run_does_nothing(result, bits=bits, keep_larger=True)


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_form_of_every_case(name: str) -> None:
    """What can be cut is cut, what can be gathered is gathered, and the others stay whole."""
    case = CASES[name]()
    with folding_limit(case.limit):
        plan = make_plan(case.graph, Options(keep_larger=True))
    kinds = {type(item.form).__name__.lower() for item in plan.items}
    assert case.form in ("any", *kinds)
    assert all(isinstance(item.form, Whole) for item in graphwq.plan(case.graph).items)


@pytest.mark.parametrize("bits", _BITS)
@pytest.mark.parametrize("name", _SPLIT)
def test_every_piece_is_under_the_limit(name: str, bits: int) -> None:
    """No constant that TensorFlow would fold for a consumer is as large as the limit."""
    case = CASES[name]()
    result = _quantized(case, bits)
    form = _form(result)
    pieces = [item for item in result.graph.nodes if item.name.endswith("/value")]
    pieces = [item for item in pieces if item.op in ("Mul", "Cast")]
    assert len(pieces) == len(form.sizes) > 1
    for item in pieces:
        for above in upstream(result.graph, item.name).values():
            if re.match(
                r"q[0-9a-z]+/", above.name
            ):  # the small tables that all weights share aside
                assert value(result.graph, above.name).nbytes < case.limit, above.name


@pytest.mark.parametrize("bits", _BITS)
@pytest.mark.parametrize("name", _SPLIT)
def test_the_pieces_make_the_weight(name: str, bits: int) -> None:
    """Joined along their axis, the pieces are the weight of the bake form, bit for bit."""
    case = CASES[name]()
    result = _quantized(case, bits)
    form = _form(result)
    parts = [value(result.graph, item.name) for item in _joined(result.graph, "w")]
    assert [part.shape[form.axis] for part in parts] == list(form.sizes)
    baked = value(_quantized(case, bits, storage="bake").graph, "w")
    assert_same_bits(np.concatenate(parts, form.axis), baked)


@pytest.mark.parametrize(
    ("name", "consumer", "slot", "axis", "result_axis"),
    [
        ("matmul", "y", 1, 1, 1),
        ("matmul_tb", "y", 1, 0, 1),
        ("matmul_x_transposed", "y", 1, 1, 1),
        ("matmul_left", "y", 0, 0, 0),
        ("matmul_left_ta", "y", 0, 1, 0),
        ("matmul_left_ta_x_tb", "y", 0, 1, 0),
        ("conv2d", "y", 1, 3, 3),
        ("conv2d_nchw", "y", 1, 3, 1),
        ("conv2d_dilated", "y", 1, 3, 3),
        ("conv2d_transposed", "y", 1, 2, 3),
        ("conv2d_transposed_nchw", "y", 1, 2, 1),
        ("conv3d", "y", 1, 4, 4),
        ("identity", "y", 1, 1, 1),
        ("half", "y", 1, 1, 1),
        ("while_loop", "product", 1, 1, 1),
    ],
)
def test_consumers_are_repeated(
    name: str, consumer: str, slot: int, axis: int, result_axis: int
) -> None:
    """One op per piece with the attributes and other inputs of the original, then a ConcatV2."""
    case = CASES[name]()
    result = _quantized(case)
    assert _form(result).axis == axis
    old = node(case.graph, consumer)
    parts = _joined(result.graph, consumer)
    assert len(parts) == len(_form(result).sizes)
    for part in parts:
        assert part.op == old.op
        assert {key: bytes(item) for key, item in part.attr_bytes().items()} == {
            key: bytes(item) for key, item in old.attr_bytes().items()
        }
        others = [item for index, item in enumerate(part.inputs) if index != slot]
        expected = [item for index, item in enumerate(old.inputs) if index != slot]
        if old.op == "Conv2DBackpropInput":
            others, expected = others[1:], expected[1:]
        assert others == expected
    joint = node(result.graph, consumer)
    assert int(value(result.graph, joint.data_inputs[-1])) == result_axis
    weight = node(case.graph, "w").tensor()
    assert weight is not None
    assert attr_of_type(joint, "T") == weight.dtype


def test_the_frame_of_a_loop_is_entered_once_a_piece() -> None:
    """Each piece has an Enter of its own with the attributes of the old one."""
    for name in ("while_loop", "while_loop_no_read"):
        case = CASES[name]()
        result = _quantized(case)
        old = node(case.graph, "enter_w")
        for part in _joined(result.graph, "product"):
            enter = node(result.graph, part.inputs[1])
            assert enter.op == "Enter"
            assert {key: bytes(item) for key, item in enter.attr_bytes().items()} == {
                key: bytes(item) for key, item in old.attr_bytes().items()
            }
            assert node(result.graph, enter.inputs[0]).op == "Mul"


def test_shared_consumers_share_the_pieces() -> None:
    """Two consumers of one weight along one axis use the same pieces."""
    result = _quantized(CASES["shared"]())
    first = {part.inputs[1] for part in _joined(result.graph, "first")}
    second = {part.inputs[1] for part in _joined(result.graph, "second")}
    assert first == second
    assert len(first) == 2


def test_transposed_convolutions_ask_for_their_channels() -> None:
    """The input_sizes of each piece are the old ones with the channels of the piece."""
    for name, whole, place in (
        ("conv2d_transposed", [1, 6, 6, 41], 3),
        ("conv2d_transposed_nchw", [1, 41, 6, 6], 1),
    ):
        result = _quantized(CASES[name]())
        view = build(result.graph).main
        for part, size in zip(_joined(result.graph, "y"), _form(result).sizes):
            expected = list(whole)
            expected[place] = size
            sizes = evaluate(view, part.inputs[0])
            assert sizes is not None
            assert sizes.tolist() == expected


def test_a_cast_on_the_way_is_kept() -> None:
    """A half weight that is cast before its MatMul: the pieces have the type that MatMul wants."""
    case = CASES["cast"]()
    result = _quantized(case)
    if ops(result.graph)["y"] != "ConcatV2":
        return
    for part in _joined(result.graph, "y"):
        above = node(result.graph, part.inputs[1])
        kind = attr_of_type(above, "DstT") if above.op == "Cast" else attr_of_type(above, "T")
        assert kind == attr_of_type(part, "T") == dtypes.DT_FLOAT


def test_a_reversal_on_the_way_is_kept() -> None:
    """A slice that turns the weight round is no mere passing on: it must not be left out."""
    case = CASES["reversal"]()
    result = _quantized(case)
    if ops(result.graph)["y"] != "ConcatV2":
        return
    parts = [value(result.graph, part.inputs[1]) for part in _joined(result.graph, "y")]
    axis = _form(result).axis
    whole = value(result.graph, "w")[::-1]
    assert_same_bits(np.concatenate(parts, axis), np.ascontiguousarray(whole))


def test_a_product_of_two_weights_is_possible() -> None:
    """MatMul of two large weights: at most one of them cuts the op, and the graph is right."""
    case = CASES["product_of_weights"]()
    result = _quantized(case)
    assert {weight.item.weight for weight in result.weights} == {"a", "w"}
    assert_only_edits_changed(case.graph, result)


def test_groups_along_the_cut_stay_whole() -> None:
    """Groups run along the summed axis; a weight cut across it keeps its groups."""
    for name in ("matmul", "matmul_left", "conv2d"):
        case = CASES[name]()
        result = _quantized(case, 4, granularity="group", group_size=5)
        form = result.weights[0].item.form
        assert isinstance(form, Split)
        expected = result.quantized["w"].dequantize()
        assert_same_bits(value(result.graph, "w"), expected)
        parts = [value(result.graph, item.name) for item in _joined(result.graph, "w")]
        assert_same_bits(np.concatenate(parts, form.axis), expected)


def test_one_scale_for_all_pieces() -> None:
    """Per tensor, every piece has the one scale of the whole weight."""
    for name in ("matmul", "conv2d", "matmul_left"):
        result = _quantized(CASES[name](), 4, granularity="tensor")
        assert result.quantized["w"].scale.size == 1
        assert_same_bits(value(result.graph, "w"), result.quantized["w"].dequantize())


@pytest.mark.parametrize("storage", ["bake", "fake_quant"])
def test_other_forms_are_not_cut(storage: str) -> None:
    """bake has nothing to fold; fake_quant is for tools that want to see one op."""
    result = _quantized(CASES["matmul"](), storage=storage)
    assert ops(result.graph)["y"] == "MatMul"


def _matmul(shape: Tuple[int, int]) -> Graph:
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [-1, shape[0]]), b.const("w", np.ones(shape, np.float32)))
    return b.graph()


def _pointwise(shape: Tuple[int, int]) -> Graph:
    b = GraphBuilder()
    w = b.const("w", np.ones((1, 1, *shape), np.float32))
    b.conv("y", b.placeholder("x", [1, 4, 4, shape[0]]), w)
    return b.graph()


def _sizes(graph: Graph, limit: int = split.FOLDING_LIMIT) -> List[int]:
    with folding_limit(limit):
        item = make_plan(graph, Options(keep_larger=True)).items[0]
    return list(item.form.sizes) if isinstance(item.form, Split) else []


@pytest.mark.parametrize(
    ("channels", "limit", "expected"),
    [
        (100, 4001, []),
        (100, 4000, [64, 36]),
        (60, 2400, [30, 30]),
        (61, 2400, [31, 30]),
        (100, 41, [1] * 100),
        (100, 40, []),
        (1000, 30000, [512, 488]),
        (130, 3000, [65, 65]),
    ],
)
def test_piece_sizes(channels: int, limit: int, expected: List[int]) -> None:
    """As few pieces as the limit allows, about equally long, in multiples of 64 where that fits."""
    assert _sizes(_pointwise((10, channels)), limit) == expected


@pytest.mark.parametrize("make", [_matmul, _pointwise])
def test_pieces_fill_the_weight(make: Any) -> None:
    """Whatever limit and size: the pieces are under the limit and make up all channels."""
    for limit in (500, 1000, 3333, 5000):
        for channels in (64, 65, 127, 200):
            sizes = _sizes(make((10, channels)), limit)
            assert sum(sizes) == (channels if channels * 40 >= limit else 0)
            assert all(0 < size * 40 < limit for size in sizes)


@pytest.mark.parametrize("make", [_matmul, _pointwise])
@pytest.mark.parametrize(
    ("size", "cut"), [(1024, False), (1619, False), (1620, True), (2048, True)]
)
def test_real_sizes(make: Any, size: int, cut: bool) -> None:
    """With TensorFlow's own limit: from 1620 x 1620 floats on a weight is cut, not before."""
    sizes = _sizes(make((size, size)))
    assert bool(sizes) is cut
    assert sum(sizes) == (size if cut else 0)
    assert all(0 < channels * size * 4 < 10 * 1024 * 1024 for channels in sizes)


def test_pieces_are_slices() -> None:
    """The pieces of a weight make up the whole, each with its own part of the scale."""
    from graphwq.quant.quantize import quantize

    weight = np.arange(60, dtype=np.float32).reshape(5, 12)
    whole = quantize(weight, QuantScheme(8, PerChannel((1,))))
    for axis, sizes in ((1, (5, 5, 2)), (0, (4, 1))):
        begins = np.cumsum((0, *sizes))
        parts = [split.piece(whole, axis, int(b), size) for b, size in zip(begins, sizes)]
        codes = np.concatenate([part.codes for part in parts], axis)
        assert np.array_equal(codes, whole.codes)
        for part in parts:
            assert np.shares_memory(part.codes, whole.codes)
            assert part.scale.shape == ((1, part.codes.shape[1]) if axis == 1 else (1, 12))


def test_golden(golden: Any) -> None:
    """A MatMul in two pieces, as text."""
    b = GraphBuilder()
    data = (np.arange(18, dtype=np.float32).reshape(3, 6) - 8) / 4
    b.matmul("y", b.placeholder("x", [-1, 3]), b.op("w/read", "Identity", [b.const("w", data)]))
    with folding_limit(50):
        result = graphwq.quantize(b.graph(), 8, keep_larger=True)
    golden("storage/split.pbtxt", to_text(result.graph))
