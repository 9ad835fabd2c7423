"""Embedding tables: integer rows are gathered first and only those are dequantized."""

from __future__ import annotations

from typing import Any, Dict, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import (
    BITS,
    CASES,
    assert_only_edits_changed,
    assert_same_bits,
    assert_second_run_does_nothing,
    folding_limit,
    gather,
    node,
    ops,
    tied,
    upstream,
    value,
)

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, attr_of_type
from graphwq.graphdef.source import to_text
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Rows, Whole
from graphwq.rewrite.planning import make_plan
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.evaluate import evaluate
from graphwq.survey.view import build

_GATHERS = ["gather", "gather_v2", "gather_int64", "gather_rank3", "gather_vector", "gather_half",
            "gather_double"]  # fmt: skip


def _quantized(case: Any, bits: int, **options: Any) -> RewriteResult:
    with folding_limit(case.limit):
        return graphwq.quantize(case.graph, bits, keep_larger=True, **options)


def _fed(graph: Graph, feeds: Dict[str, np.ndarray]) -> Graph:
    """The graph with its placeholders as constants, so that graphwq's evaluator can run it."""
    from graphwq.graphdef.newnode import new_const
    from graphwq.rewrite.edits import ReplaceNode, apply

    edits = []
    for name, data in feeds.items():
        kind = dtypes.FROM_NUMPY[data.dtype]
        edits.append(ReplaceNode("", new_const(name[:-2], kind, data.shape, data)))
    return apply(graph, edits)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", _GATHERS)
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_rows_are_the_rows_of_the_weight(name: str, bits: int, granularity: str) -> None:
    """Law: what is gathered is bit for bit the rows of the baked table, and of its dtype."""
    case = CASES[name]()
    result = _quantized(case, bits, granularity=granularity)
    assert isinstance(result.weights[0].item.form, Rows)
    assert_only_edits_changed(case.graph, result)
    baked = value(_quantized(case, bits, storage="bake", granularity=granularity).graph, "w")
    ids = case.feeds["ids:0"]
    found = _evaluated(_fed(result.graph, case.feeds), "y", ids)
    assert_same_bits(found, np.take(baked, ids, 0))
    assert_same_bits(value(result.graph, "w"), baked)


def _evaluated(graph: Graph, name: str, ids: np.ndarray) -> np.ndarray:
    """``Shape`` is not among the evaluator's ops: the shape of the ids is put in its place."""
    from graphwq.graphdef.newnode import new_const
    from graphwq.rewrite.edits import ReplaceNode, apply

    shape = np.array(ids.shape, np.int32)
    edits = [
        ReplaceNode("", new_const(item.name, dtypes.DT_INT32, shape.shape, shape))
        for item in graph.nodes
        if item.op == "Shape"
    ]
    found = evaluate(build(apply(graph, edits)).main, name)
    assert found is not None
    return found


def _reads_table(graph: Graph, name: str) -> Tuple[int, ...]:
    """Element counts of what the decode of ``name`` multiplies, without the shared tables."""
    return tuple(
        item.size
        for above in upstream(graph, name).values()
        for item in [above.tensor() if above.op == "Const" else None]
        if item is not None and item.dtype in (dtypes.DT_INT8, dtypes.DT_UINT8)
    )


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_only_gathered_rows_are_dequantized(bits: int) -> None:
    """Integers are gathered: no Mul, Cast or Gather of the whole table stands before the result."""
    case = gather()
    result = _quantized(case, bits)
    assert _reads_table(result.graph, "y")
    ids = case.feeds["ids:0"]
    above = upstream(result.graph, "y")
    gathers = [
        item
        for item in above.values()
        if item.op in ("Gather", "GatherV2") and node(result.graph, item.inputs[1]).name == "ids"
    ]
    kinds = {attr_of_type(item, "Tparams") for item in gathers}
    assert kinds == {dtypes.DT_INT8 if bits == 8 else dtypes.DT_UINT8, dtypes.DT_FLOAT}
    assert "w" not in above
    fed = _fed(result.graph, case.feeds)
    for item in above.values():
        if item.op in ("Mul", "Cast", "Add", "Reshape") and _depends_on_ids(result.graph, item):
            found = _evaluated(fed, item.name, ids)
            assert found.size <= ids.size * 16, item.name


def _depends_on_ids(graph: Graph, item: Node) -> bool:
    return "ids" in upstream(graph, item.name)


@pytest.mark.parametrize("bits", range(2, 8))
@pytest.mark.parametrize("length", [1, 3, 4, 5, 7, 8, 9, 15, 16, 17])
def test_rows_of_any_length(bits: int, length: int) -> None:
    """Rows are packed one by one, so rows that do not fill their last byte stay apart."""
    case = gather(row=(length,))
    with folding_limit(10):
        result = graphwq.quantize(case.graph, bits, keep_larger=True)
    assert isinstance(result.weights[0].item.form, Rows)
    ids = case.feeds["ids:0"]
    baked = result.quantized["w"].dequantize()
    assert_same_bits(_evaluated(_fed(result.graph, case.feeds), "y", ids), np.take(baked, ids, 0))
    assert_same_bits(value(result.graph, "w"), baked)
    with folding_limit(10):
        assert_second_run_does_nothing(result, bits=bits, keep_larger=True)


def test_an_empty_batch() -> None:
    """No ids at all give no rows, of the right shape."""
    for bits in (8, 3):
        case = gather(row=(5,), ids_shape=(0,))
        result = _quantized(case, bits)
        found = _evaluated(_fed(result.graph, case.feeds), "y", case.feeds["ids:0"])
        assert found.shape == (0, 5)


@pytest.mark.parametrize("bits", [8, 4, 3])
def test_tied_embeddings(bits: int) -> None:
    """A table that is gathered and multiplied: gathered by rows, multiplied in pieces under the
    limit, both with the values of the baked table."""
    case = tied()
    result = _quantized(case, bits)
    form = result.weights[0].item.form
    assert isinstance(form, Rows)
    assert len(form.sizes) > 1
    baked = value(_quantized(case, bits, storage="bake").graph, "w")
    joint = node(result.graph, "y")
    assert joint.op == "ConcatV2"
    parts = [value(result.graph, node(result.graph, name).inputs[1]) for name in joint.inputs[:-1]]
    assert_same_bits(np.concatenate(parts), baked)
    assert all(part.nbytes < case.limit for part in parts)
    assert_same_bits(value(result.graph, "w/read"), baked)
    ids = case.feeds["ids:0"]
    assert_same_bits(_evaluated(_fed(result.graph, case.feeds), "row", ids), np.take(baked, ids, 0))
    with folding_limit(case.limit):
        assert_second_run_does_nothing(result, bits=bits, keep_larger=True)


def test_tied_embeddings_store_their_codes_once() -> None:
    """The pieces are slices of the one table of codes: nothing is stored twice."""
    for bits in (8, 4):
        result = _quantized(tied(), bits)
        stored = [
            item.tensor()
            for item in result.graph.nodes
            if item.op == "Const" and attr_of_type(item, "dtype") in dtypes.EIGHT_BIT
        ]
        assert sum(item.size for item in stored if item is not None) <= 50 * 13 * bits // 8 + 50


@pytest.mark.parametrize("granularity", ["tensor", "group"])
def test_other_scales(granularity: str) -> None:
    """One scale for the table works by rows; scales per group do not, and the table stays whole."""
    case = gather(row=(16,))
    result = _quantized(case, 4, granularity=granularity, group_size=4)
    form = result.weights[0].item.form
    assert isinstance(form, Rows if granularity == "tensor" else Whole)
    assert_same_bits(value(result.graph, "w"), result.quantized["w"].dequantize())


def test_tables_under_the_limit_stay_whole() -> None:
    """A small table is folded by TensorFlow: it takes the form with the fewest nodes."""
    case = gather()
    result = graphwq.quantize(case.graph, 8, keep_larger=True)
    assert isinstance(result.weights[0].item.form, Whole)
    assert ops(result.graph)["y"] == "GatherV2"


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("bits", [8, 3])
def test_a_single_id_gives_a_single_row(granularity: str, bits: int) -> None:
    """A scalar id gives a row without a leading axis, whatever the scale."""
    case = gather(row=(5,), ids_shape=())
    result = _quantized(case, bits, granularity=granularity)
    found = _evaluated(_fed(result.graph, case.feeds), "y", case.feeds["ids:0"])
    assert found.shape == (5,)


def test_two_gathers_share_one_table() -> None:
    """Each consumer gathers for itself from the same codes."""
    b = GraphBuilder()
    w = b.const("w", random_weight((50, 13)))
    for number in range(2):
        ids = b.placeholder(f"ids{number}", [3], dtypes.DT_INT32)
        types = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": ("type", dtypes.DT_INT32)}
        b.op(f"y{number}", "Gather", [w, ids], **types)
    with folding_limit(500):
        result = graphwq.quantize(b.graph(), 4, keep_larger=True)
    tables = [
        [name for name, item in upstream(result.graph, f"y{number}").items() if _is_codes(item)]
        for number in range(2)
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 1
    assert_only_edits_changed(b.graph(), result)


def _is_codes(item: Node) -> bool:
    return item.op == "Const" and attr_of_type(item, "dtype") == dtypes.DT_UINT8


def test_gathers_with_batch_dims_are_left_alone() -> None:
    """GatherV2 with batch_dims takes no rows of a table; it is never rewritten as one."""
    b = GraphBuilder()
    w = b.const("w", random_weight((50, 13)))
    ids, axis = b.placeholder("ids", [50, 2], dtypes.DT_INT32), b.const("axis", 1)
    int32 = ("type", dtypes.DT_INT32)
    types = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": int32, "Taxis": int32}
    b.op("y", "GatherV2", [w, ids, axis], batch_dims=1, **types)
    with folding_limit(500):
        plan = make_plan(b.graph(), Options(keep_larger=True))
        result = graphwq.quantize(b.graph(), plan=plan)
    assert not any(isinstance(item.form, Rows) for item in plan.items)
    assert ops(result.graph)["y"] == "GatherV2"


def test_control_inputs_and_device_of_a_gather_stay() -> None:
    """The node that carries the Gather's name keeps device, control inputs, private attrs."""
    b = GraphBuilder()
    b.op("gate", "NoOp", [])
    w, ids = b.const("w", random_weight((50, 13))), b.placeholder("ids", [3], dtypes.DT_INT32)
    types = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": ("type", dtypes.DT_INT32)}
    b.op("y", "Gather", [w, ids, "^gate"], device="/device:CPU:0", _class=b"loc:@w", **types)
    for bits in (8, 3):
        with folding_limit(500):
            result = graphwq.quantize(b.graph(), bits, keep_larger=True)
        final = node(result.graph, "y")
        assert final.op == "Mul"
        assert final.control_inputs == ("^gate",)
        assert final.device == "/device:CPU:0"
        assert "_class" in final.attr_bytes()


def test_golden(golden: Any) -> None:
    """A table of five rows of three, 8 bits and 4 bits, as text."""
    b = GraphBuilder()
    w = b.const("w", (np.arange(15, dtype=np.float32).reshape(5, 3) - 7) / 4)
    ids, axis = b.placeholder("ids", [-1], dtypes.DT_INT32), b.const("axis", 0)
    int32 = ("type", dtypes.DT_INT32)
    types = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": int32, "Taxis": int32}
    b.op("y", "GatherV2", [w, ids, axis], **types)
    for bits in (8, 4):
        with folding_limit(40):
            result = graphwq.quantize(b.graph(), bits, keep_larger=True)
        golden(f"storage/rows_{bits}.pbtxt", to_text(result.graph))
