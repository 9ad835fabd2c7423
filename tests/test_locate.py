"""Finding weights: every way from a constant or variable to an op, and what is none."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from hypothesis import given
from hypothesis import strategies as st

from graphwq.api import quantize
from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_type, new_node
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.source import load
from graphwq.graphdef.wire import delimited
from graphwq.survey.locate import locate
from graphwq.survey.sites import Consumer, Source, Survey, WeightSite

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
HALF, DOUBLE = ("type", dtypes.DT_HALF), ("type", dtypes.DT_DOUBLE)
Build = Callable[[GraphBuilder, str, str], None]


def the_site(b: GraphBuilder, weight: str = "w") -> WeightSite:
    """The only site of a graph, which must be ``weight``."""
    survey = locate(b.graph())
    assert [site.weight for site in survey.sites] == [weight], survey
    return survey.sites[0]


def the_skip(b: GraphBuilder, node: str = "w") -> Tuple[str, str]:
    """Reason and detail of a skip; the graph must have no site of that name."""
    survey = locate(b.graph())
    assert survey.site(node) is None, survey.site(node)
    (skip,) = [skip for skip in survey.skips if skip.node == node]
    return skip.reason, skip.detail


def consumers(site: WeightSite) -> List[Tuple[str, int, Tuple[int, ...]]]:
    return [(consumer.node, consumer.slot, consumer.kept_axes) for consumer in site.consumers]


# ------------------------------------------------------------------------------- what a site says


def test_a_dense_layer() -> None:
    """The site says where the weight is, what it is, where it goes, and its channels."""
    graph = dense(64, 32)
    survey = locate(graph)
    node = graph.nodes[1]
    assert node.frame is not None
    assert survey.sites == (
        WeightSite(
            scope="",
            node="w",
            source=Source.CONST,
            shape=(64, 32),
            dtype=dtypes.DT_FLOAT,
            kept_axes=(1,),
            consumers=(Consumer("", "y", "MatMul", 1, (1,), ("w/read",), ("Identity",), True),),
            nbytes=node.frame.nbytes,
        ),
    )
    assert survey.skips == ()
    assert survey.site("w") is survey.sites[0]
    assert survey.site("y") is None


def test_a_convolution_with_a_bias() -> None:
    """The kernel is a weight, the bias is not."""
    survey = locate(convolution())
    assert [site.weight for site in survey.sites] == ["w"]
    assert survey.sites[0].kept_axes == (3,)
    assert [(skip.node, skip.reason) for skip in survey.skips] == [("b", "not_a_weight")]
    assert "BiasAdd biased (input 1)" in survey.skips[0].detail


def test_sites_come_in_file_order() -> None:
    """Main graph first, then the functions, each as in the file."""
    b, body = GraphBuilder(), GraphBuilder()
    for name in ("z", "a", "m"):
        b.matmul(f"y_{name}", b.placeholder(f"x_{name}"), b.const(name, random_weight((4, 4))))
    body.const("w", random_weight((4, 4)))
    body.op("y", "MatMul", ["x", "w:output:0"])
    b.function("f", [("x", dtypes.DT_FLOAT)], body)
    assert [site.weight for site in locate(b.graph()).sites] == ["z", "a", "m", "f:w"]


# ------------------------------------------------------------------------------------- the ways


def _conv(b: GraphBuilder, name: str, w: str) -> None:
    b.conv(name, b.placeholder("x", [1, 8, 8, 4]), w)


def _nothing(b: GraphBuilder) -> None:
    _conv(b, "y", b.const("w", random_weight((3, 3, 4, 8))))


def _identity(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((3, 3, 4, 8)))
    _conv(b, "y", b.op("w/read", "Identity", [w]))


def _enter(b: GraphBuilder) -> None:
    w = b.op("w/read", "Identity", [b.const("w", random_weight((6, 8)))])
    w = b.op("enter", "Enter", [w], frame_name="while", is_constant=True)
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _switch(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((6, 8)))
    w = b.op("switch", "Switch", [w, b.placeholder("p", [], dtypes.DT_BOOL)])
    b.matmul("y", b.placeholder("x", [1, 6]), f"{w}:1")


def _keras_gate(b: GraphBuilder) -> None:
    w = b.op("w/read", "Identity", [b.const("w", random_weight((6, 8)))])
    bounds = [b.const("begin", [0, 2]), b.const("end", [0, 4]), b.const("strides", [1, 1])]
    w = b.op("gate", "StridedSlice", [w, *bounds], begin_mask=1, end_mask=1)
    w = b.op("enter", "Enter", [w], frame_name="while", is_constant=True)
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _grouped(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((3, 3, 4, 8)))
    b.op("split", "Split", [b.const("axis", 3), w], num_split=2)
    x = b.placeholder("x", [1, 8, 8, 4])
    b.conv("y", x, "split")
    b.conv("y2", x, "split:1")


def _conv1d(b: GraphBuilder) -> None:
    w = b.op("w/read", "Identity", [b.const("w", random_weight((5, 4, 8)))])
    _conv(b, "y", b.op("expand", "ExpandDims", [w, b.const("axis", 0)]))


def _reshape(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((1, 1, 6, 8)))
    w = b.op("flat", "Reshape", [w, b.const("shape", [6, 8])])
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _reshape_merging(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((3, 2, 8)))
    w = b.op("flat", "Reshape", [w, b.const("shape", [-1, 8])])
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _transpose(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((8, 4, 3, 3)))  # OIHW, as from PyTorch
    _conv(b, "y", b.op("hwio", "Transpose", [w, b.const("perm", [2, 3, 1, 0])]))


def _transpose_and_grouped(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((8, 4, 3, 3)))
    w = b.op("hwio", "Transpose", [w, b.const("perm", [2, 3, 1, 0])])
    b.op("split", "Split", [b.const("axis", 3), w], num_split=4)
    b.conv("y", b.placeholder("x", [1, 8, 8, 4]), "split:3")


def _concat(b: GraphBuilder) -> None:
    w, v = b.const("w", random_weight((6, 8))), b.const("zeros", random_weight((6, 2)))
    b.matmul("other", b.placeholder("x2", [1, 6]), v)
    w = b.op("both", "ConcatV2", [w, v, b.const("axis", 1)], N=2)
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _cast(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((3, 3, 4, 8), dtype=np.float16))
    _conv(b, "y", b.cast("w/float", w, dtypes.DT_HALF, dtypes.DT_FLOAT))


def _squeeze(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((1, 1, 6, 8)))
    b.matmul("y", b.placeholder("x", [1, 6]), b.op("flat", "Squeeze", [w], squeeze_dims=[0, 1]))


def _unpack(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((3, 6, 8)))
    b.op("parts", "Unpack", [w], axis=0, num=3)
    b.matmul("y", b.placeholder("x", [1, 6]), "parts:2")


def _pack(b: GraphBuilder) -> None:
    w, v = b.const("w", random_weight((6, 8))), b.const("v", random_weight((6, 8)))
    b.matmul("other", b.placeholder("x2", [1, 6]), v)
    w = b.op("both", "Pack", [w, v], axis=0, N=2)
    b.op("y", "BatchMatMulV2", [b.placeholder("x", [2, 1, 6]), w])


def _slice(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((6, 8)))
    w = b.op("cut", "Slice", [w, b.const("begin", [0, 0]), b.const("size", [6, 4])])
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _split_v(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((6, 8)))
    b.op("split", "SplitV", [w, b.const("sizes", [3, 5]), b.const("axis", 1)], num_split=2)
    b.matmul("y", b.placeholder("x", [1, 6]), "split:1")


def _variable_v2(b: GraphBuilder) -> None:
    _conv(b, "y", b.op("w/read", "Identity", [b.variable("w", [3, 3, 4, 8])]))


def _resource_variable(b: GraphBuilder) -> None:
    w = b.variable("w", [6, 8], op="VarHandleOp")
    w = b.op("w/read", "ReadVariableOp", [w], dtype=("type", dtypes.DT_FLOAT))
    b.matmul("y", b.placeholder("x", [1, 6]), w)


def _resource_table(b: GraphBuilder) -> None:
    w = b.variable("w", [50, 8], op="VarHandleOp")
    b.op("y", "ResourceGather", [w, b.placeholder("ids", [3], dtypes.DT_INT32)])


def _old_variable(b: GraphBuilder) -> None:
    b.matmul("y", b.placeholder("x", [1, 6]), b.variable("w", [6, 8], op="Variable"))


WAYS: Dict[str, Tuple[Callable[[GraphBuilder], None], Source, str, Tuple[int, ...], bool]] = {
    # name: graph, source, path ops, kept axes of the weight, the op sees the weight itself
    "nothing": (_nothing, Source.CONST, "", (3,), True),
    "Identity": (_identity, Source.CONST, "Identity", (3,), True),
    "Enter": (_enter, Source.CONST, "Identity Enter", (1,), True),
    "Switch": (_switch, Source.CONST, "Switch", (1,), True),
    "Enter<-StridedSlice": (_keras_gate, Source.CONST, "Identity StridedSlice Enter", (1,), False),
    "Split": (_grouped, Source.CONST, "Split", (3,), False),
    "ExpandDims": (_conv1d, Source.CONST, "Identity ExpandDims", (2,), False),
    "Reshape": (_reshape, Source.CONST, "Reshape", (3,), False),
    "Reshape that merges": (_reshape_merging, Source.CONST, "Reshape", (2,), False),
    "Transpose": (_transpose, Source.CONST, "Transpose", (0,), False),
    "Transpose, Split": (_transpose_and_grouped, Source.CONST, "Transpose Split", (0,), False),
    "ConcatV2": (_concat, Source.CONST, "ConcatV2", (1,), False),
    "Cast half": (_cast, Source.CONST, "Cast", (3,), False),
    "Squeeze": (_squeeze, Source.CONST, "Squeeze", (3,), False),
    "Unpack": (_unpack, Source.CONST, "Unpack", (2,), False),
    "Pack": (_pack, Source.CONST, "Pack", (1,), False),
    "Slice": (_slice, Source.CONST, "Slice", (1,), False),
    "SplitV": (_split_v, Source.CONST, "SplitV", (1,), False),
    "VariableV2": (_variable_v2, Source.VARIABLE, "Identity", (3,), True),
    "Variable": (_old_variable, Source.VARIABLE, "", (1,), True),
    "VarHandleOp": (_resource_variable, Source.RESOURCE_VARIABLE, "ReadVariableOp", (1,), True),
    "ResourceGather": (_resource_table, Source.RESOURCE_VARIABLE, "", (0,), True),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_that_real_graphs_take(way: str) -> None:
    """The weight is found behind it, with its channels carried back to its own axes."""
    make, source, path, kept, direct = WAYS[way]
    b = GraphBuilder()
    make(b)
    site = locate(b.graph()).site("w")
    assert site is not None
    assert site.source is source
    assert site.kept_axes == kept
    assert " ".join(site.path) == path
    first = site.consumers[0]
    assert (first.node, first.kept_axes) == ("y", kept)
    assert first.direct is direct, "direct: the op sees the very values of the weight"


def test_the_path_names_the_nodes_as_well() -> None:
    """Names and ops of the path go together, from the weight on."""
    b = GraphBuilder()
    _keras_gate(b)
    consumer = the_site(b).consumers[0]
    assert consumer.path == ("w/read", "gate", "enter")
    assert consumer.path_ops == ("Identity", "StridedSlice", "Enter")


def test_pieces_of_a_grouped_convolution_are_consumers_each() -> None:
    """Every port of a Split leads to its own op."""
    b = GraphBuilder()
    _grouped(b)
    assert consumers(the_site(b)) == [("y", 1, (3,)), ("y2", 1, (3,))]


def test_ports_of_split_v_have_their_own_lengths() -> None:
    """The pieces differ in length; a reshape behind one of them needs the right one."""
    b = GraphBuilder()
    w = b.const("w", random_weight((6, 8)))
    b.op("split", "SplitV", [w, b.const("sizes", [3, 5]), b.const("axis", 1)], num_split=2)
    for port, size in ((0, 3), (1, 5)):
        shape = b.const(f"shape{port}", [1, 6, size])
        flat = b.op(f"three{port}", "Reshape", [f"split:{port}", shape])
        b.op(f"y{port}", "BatchMatMul", [b.placeholder(f"x{port}"), flat])
    assert consumers(the_site(b)) == [("y0", 1, (1,)), ("y1", 1, (1,))]


def test_a_port_is_not_mistaken_for_another() -> None:
    """split:0 is [4, 6]; [-1, 2] cuts its columns, though it would fit the columns of split:1."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 8)))
    b.op("split", "SplitV", [w, b.const("sizes", [6, 2]), b.const("axis", 1)], num_split=2)
    flat = b.op("flat", "Reshape", ["split:0", b.const("shape", [-1, 2])])
    b.matmul("y", b.placeholder("x", [1, 12]), flat)
    assert the_skip(b)[0] == "axis_lost"


def test_a_reversed_weight_is_not_seen_itself() -> None:
    """w[::-1] has the shape of w but other values at each place: the op is no direct consumer."""
    b = GraphBuilder()
    w = b.const("w", random_weight((6, 8)))
    bounds = [b.const("begin", [0, 0]), b.const("end", [0, 0]), b.const("strides", [1, -1])]
    w = b.op("reversed", "StridedSlice", [w, *bounds], begin_mask=3, end_mask=3)
    b.matmul("y", b.placeholder("x", [1, 6]), w)
    site = the_site(b)
    assert site.kept_axes == (1,)
    assert not site.consumers[0].direct


def test_half_and_double_weights() -> None:
    """Float weights of any width are found; bfloat16 is a skip."""
    for dtype, kind in ((np.float16, HALF), (np.float64, DOUBLE)):
        b = GraphBuilder()
        w = b.const("w", random_weight((4, 8), dtype=dtype))
        b.op("y", "MatMul", [b.placeholder("x", [1, 4]), w], T=kind)
        site = the_site(b)
        assert (site.dtype, site.shape, site.kept_axes) == (kind[1], (4, 8), (1,))


@pytest.mark.parametrize(
    ("op", "slot", "shape", "kept"),
    [
        ("DepthwiseConv2dNative", 1, (3, 3, 8, 2), (2, 3)),
        ("Conv2DBackpropInput", 1, (3, 3, 8, 4), (2,)),
        ("Conv3D", 1, (2, 3, 3, 4, 8), (4,)),
        ("_FusedConv2D", 1, (3, 3, 4, 8), (3,)),
        ("FusedPadConv2D", 2, (3, 3, 4, 8), (3,)),
        ("LSTMBlockCell", 3, (10, 16), (1,)),
        ("BlockLSTM", 4, (10, 16), (1,)),
        ("GRUBlockCell", 2, (10, 8), (1,)),
        ("GRUBlockCell", 3, (10, 4), (1,)),
        ("MatMul", 0, (4, 8), (0,)),
        ("BatchMatMulV2", 1, (2, 4, 8), (0, 2)),
        ("Gather", 0, (50, 8), (0,)),
    ],
)
def test_weights_of_other_ops(op: str, slot: int, shape: Tuple[int, ...], kept: Any) -> None:
    """The table is used as it stands, whatever the op."""
    b = GraphBuilder()
    inputs = [b.placeholder(f"x{number}") for number in range(slot)]
    b.op("y", op, [*inputs, b.const("w", random_weight(shape)), b.placeholder("last")])
    assert consumers(the_site(b)) == [("y", slot, kept)]


def test_a_gather_v2_and_an_einsum() -> None:
    """Channels by axis and by equation."""
    b = GraphBuilder()
    table, ids = (
        b.const("table", random_weight((50, 8))),
        b.placeholder("ids", [3], dtypes.DT_INT32),
    )
    b.gather("rows", table, ids, b.const("axis", 1))
    w = b.const("w", random_weight((4, 2, 8)))
    b.op("y", "Einsum", [b.placeholder("x"), w], equation="abc,cde->abde")
    survey = locate(b.graph())
    assert {site.weight: site.kept_axes for site in survey.sites} == {"table": (1,), "w": (1, 2)}


# -------------------------------------------------------------------------------- several uses


def test_one_weight_used_twice_alike() -> None:
    """Both ops are consumers, in topological order."""
    b = GraphBuilder()
    w = b.op("w/read", "Identity", [b.const("w", random_weight((4, 4)))])
    b.matmul("second", "first", w)
    b.matmul("first", b.placeholder("x", [1, 4]), w)
    assert consumers(the_site(b)) == [("first", 1, (1,)), ("second", 1, (1,))]


def test_the_first_user_in_topological_order_decides() -> None:
    """With different channels the file order does not matter, the order of computing does."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4)))
    b.matmul("second", "first", w)
    b.matmul("first", b.placeholder("x", [1, 4]), w, tb=True)
    site = the_site(b)
    assert consumers(site) == [("first", 1, (0,)), ("second", 1, (1,))]
    assert site.kept_axes == (0,)
    assert site.path == ()


def test_both_inputs_of_one_op() -> None:
    """MatMul(w, w) uses the weight twice, along different axes."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4)))
    b.matmul("y", w, w)
    assert consumers(the_site(b)) == [("y", 0, (0,)), ("y", 1, (1,))]


def test_a_tied_embedding() -> None:
    """Gather and MatMul(transpose_b) agree on the rows."""
    b = GraphBuilder()
    w = b.op("w/read", "Identity", [b.const("w", random_weight((50, 8)))])
    row = b.gather("row", w, b.placeholder("ids", [3], dtypes.DT_INT32))
    b.matmul("logits", row, w, tb=True)
    site = the_site(b)
    assert consumers(site) == [("row", 0, (0,)), ("logits", 1, (0,))]
    assert site.kept_axes == (0,)


def test_a_weight_that_is_an_output_and_a_bias_too() -> None:
    """Other uses do not hide the use as a weight."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4)))
    b.op("fetch", "Identity", [w])
    b.op("decay", "L2Loss", [w])
    b.matmul("y", b.placeholder("x", [1, 4]), w)
    assert consumers(the_site(b)) == [("y", 1, (1,))]


def test_a_weight_on_the_left() -> None:
    """MatMul(w, x): the channels are the rows, or the columns if transposed."""
    for transposed, kept in ((False, (0,)), (True, (1,))):
        b = GraphBuilder()
        w = b.const("w", random_weight((4, 8)))
        b.matmul("y", w, b.placeholder("x", [8, 1]), ta=transposed)
        assert consumers(the_site(b)) == [("y", 0, kept)]


def test_a_weight_and_its_transpose_in_one_concat() -> None:
    """What reaches the op in two ways with different channels has no single answer.

    concat([w, w.T], 0) @ ...: of one half of the rows the channels are axis 1, of the other half
    axis 0. One claim alone would be wrong for the other half.
    """
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4)))
    turned = b.op("turned", "Transpose", [w, b.const("perm", [1, 0])])
    both = b.op("both", "ConcatV2", [w, turned, b.const("axis", 0)], N=2)
    b.matmul("y", b.placeholder("x", [1, 8]), both)
    survey = locate(b.graph())
    if survey.sites:
        claims = {consumer.kept_axes for consumer in survey.sites[0].consumers}
        assert claims == {(0,), (1,)}
    else:
        assert survey.skips[0].reason == "axis_lost"


# ----------------------------------------------------------------------------------- functions


def _layer(kind: int = dtypes.DT_FLOAT, weight: str = "") -> GraphBuilder:
    """x -> MatMul(w) with w in the body, or given as argument ``weight``."""
    body = GraphBuilder()
    if not weight:
        body.const("w", random_weight((4, 8), dtype=dtypes.NUMPY[kind]))
        weight = "w:output:0"
    body.op("read", "Identity", [weight], T=("type", kind))
    body.op("product", "MatMul", ["x", "read:output:0"], T=("type", kind))
    return body


@pytest.mark.parametrize("kind", [dtypes.DT_FLOAT, dtypes.DT_HALF, dtypes.DT_DOUBLE])
def test_a_weight_in_a_function_body(kind: int) -> None:
    """It is called ``function:node``, as is its consumer."""
    b = GraphBuilder()
    b.function("f", [("x", kind)], _layer(kind), [("y", "product:product:0", kind)])
    b.call("y", "f", [b.placeholder("x", [1, 4], kind)], types=[kind], results=[kind])
    site = the_site(b, "f:w")
    assert (site.scope, site.node, site.dtype) == ("f", "w", kind)
    assert consumers(site) == [("product", 1, (1,))]
    assert site.consumers[0].scope == "f"
    assert site.to_json()["consumers"][0]["node"] == "f:product"


def test_a_function_that_nobody_calls_is_surveyed_too() -> None:
    """sites + skips are about the file, not about what runs."""
    b = GraphBuilder()
    b.function("f", [("x", dtypes.DT_FLOAT)], _layer())
    the_site(b, "f:w")


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall", "f"])
def test_a_weight_passed_to_a_function(op: str) -> None:
    """An argument is followed into the body; it is not the op's own to change there."""
    b = GraphBuilder()
    arguments = [("x", dtypes.DT_FLOAT), ("given", dtypes.DT_FLOAT)]
    b.function("f", arguments, _layer(weight="given"), [("y", "product:product:0", 1)])
    x, w = b.placeholder("x", [1, 4]), b.const("w", random_weight((4, 8)))
    b.call("y", "f", [x, w], op) if op != "f" else b.op("y", "f", [x, w])
    site = the_site(b)
    consumer = site.consumers[0]
    assert (consumer.scope, consumer.node, consumer.kept_axes) == ("f", "product", (1,))
    assert consumer.path == ("y", "read")
    assert consumer.path_ops == (op, "Identity")
    assert not consumer.direct


def test_a_weight_passed_through_two_functions() -> None:
    """serving_default -> call_wrapped -> layer: as Keras exports."""
    b, outer = GraphBuilder(), GraphBuilder()
    arguments = [("x", dtypes.DT_FLOAT), ("given", dtypes.DT_FLOAT)]
    outer.call("inner_call", "inner", ["x", "given"])
    b.function("outer", arguments, outer)
    b.function("inner", arguments, _layer(weight="given"))
    b.call("y", "outer", [b.placeholder("x", [1, 4]), b.const("w", random_weight((4, 8)))])
    site = the_site(b)
    calls = ("StatefulPartitionedCall",) * 2
    assert site.path == (*calls, "Identity")
    assert site.consumers[0].scope == "inner"


def test_a_weight_passed_to_both_branches() -> None:
    """If: the predicate comes first, so argument 0 is input 1."""
    b = GraphBuilder()
    arguments = [("x", dtypes.DT_FLOAT), ("given", dtypes.DT_FLOAT)]
    for name in ("yes", "no"):
        b.function(name, arguments, _layer(weight="given"))
    inputs = [b.placeholder("p", [], dtypes.DT_BOOL), b.placeholder("x", [1, 4])]
    inputs.append(b.const("w", random_weight((4, 8))))
    b.op("y", "If", inputs, then_branch=("func", "yes"), else_branch=("func", "no"))
    assert {consumer.scope for consumer in the_site(b).consumers} == {"yes", "no"}


def test_a_resource_passed_to_a_function() -> None:
    """A variable's handle is read inside the body."""
    b, body = GraphBuilder(), GraphBuilder()
    body.op("read", "ReadVariableOp", ["handle"], dtype=("type", dtypes.DT_FLOAT))
    body.op("product", "MatMul", ["x", "read:value:0"])
    b.function("f", [("x", dtypes.DT_FLOAT), ("handle", dtypes.DT_RESOURCE)], body)
    w = b.variable("w", [4, 8], op="VarHandleOp")
    b.call("y", "f", [b.placeholder("x", [1, 4]), w], types=[1, dtypes.DT_RESOURCE])
    site = the_site(b)
    assert site.source is Source.RESOURCE_VARIABLE
    assert consumers(site) == [("product", 1, (1,))]


def test_a_function_that_calls_itself_ends() -> None:
    """Recursion is legal in a file."""
    b, body = GraphBuilder(), GraphBuilder()
    body.call("again", "f", ["given"])
    b.function("f", [("given", dtypes.DT_FLOAT)], body)
    b.call("y", "f", [b.const("w", random_weight((4, 8)))])
    reason, _ = the_skip(b)
    assert reason in ("unused", "path_too_long")


def test_ports_in_a_function_are_named() -> None:
    """``split:output:1`` is port 1 in a body too."""
    b, body = GraphBuilder(), GraphBuilder()
    body.const("w", random_weight((4, 8)))
    body.const("sizes", [3, 5])
    body.const("axis", 1)
    body.op("split", "SplitV", ["w:output:0", "sizes:output:0", "axis:output:0"], num_split=2)
    body.op("flat", "Reshape", ["split:output:1", "shape:output:0"])
    body.const("shape", [1, 4, 5])
    body.op("y", "BatchMatMul", ["x", "flat:output:0"])
    b.function("f", [("x", dtypes.DT_FLOAT)], body)
    assert consumers(the_site(b, "f:w")) == [("y", 1, (1,))]


# ----------------------------------------------------------------------------------- negatives

#: What stands between ``w`` ([4, 8] unless said) and a MatMul, and the reason that keeps it from
#: being a weight.
NEGATIVES: Dict[str, Tuple[Any, Build, str]] = {}


def negative(name: str, reason: str, value: Any = None) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        NEGATIVES[name] = (random_weight((4, 8)) if value is None else value, build, reason)
        return build

    return register


@negative("bias of BiasAdd", "not_a_weight", random_weight((8,)))
def _bias(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "BiasAdd", [x, w])


@negative("bias of Add", "not_a_weight", random_weight((8,)))
def _bias_add(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "Add", [b.matmul("product", x, b.const("v", random_weight((4, 8)))), w])


@negative("matrix added to an activation", "not_a_weight")
def _positional(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", b.op("sum", "Add", [x, w]), b.const("v", random_weight((8, 8))))


@negative("mask of an activation", "not_a_weight")
def _mask(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, b.op("masked", "Mul", [b.placeholder("other", [4, 8]), w]))


@negative("mean of a batch norm", "not_a_weight", random_weight((8,)))
def _batch_norm(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "FusedBatchNorm", [x, w, w, w, w])


@negative("constant beside a fed tensor", "not_a_weight")
def _beside_fed(b: GraphBuilder, w: str, x: str) -> None:
    both = b.op("both", "ConcatV2", [x, w, b.const("axis", 0)], N=2)
    b.matmul("y", both, b.const("v", random_weight((8, 2))))


@negative("constant beside what comes from a fed tensor", "not_a_weight")
def _beside_activation(b: GraphBuilder, w: str, x: str) -> None:
    both = b.op("both", "Pack", [w, b.op("relu", "Relu", [x])], axis=0, N=2)
    b.op("y", "BatchMatMul", [both, b.placeholder("z")])


@negative("constant beside a random tensor", "not_a_weight")
def _beside_random(b: GraphBuilder, w: str, x: str) -> None:
    noise = b.op("noise", "RandomUniform", [b.const("shape", [4, 8])])
    queue = b.op("queue", "FIFOQueueV2", [])
    b.op("both", "ConcatV2", [w, b.op("deq", "QueueDequeueV2", [queue, noise]), "axis"], N=2)
    b.const("axis", 0)
    b.matmul("y", "both", x)


@negative("through Add", "arithmetic_on_path")
def _through_add(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, b.op("sum", "Add", [w, b.const("delta", random_weight((4, 8)))]))


@negative("through Mul, a weight norm", "arithmetic_on_path")
def _through_mul(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, b.op("scaled", "Mul", [w, b.const("g", random_weight((8,)))]))


@negative("through Mul, Identity, Sub", "arithmetic_on_path")
def _through_several(b: GraphBuilder, w: str, x: str) -> None:
    scaled = b.op("scaled", "Mul", [w, b.const("g", random_weight((8,)))])
    read = b.op("read", "Identity", [scaled])
    b.matmul("y", x, b.op("diff", "Sub", [read, b.const("d", random_weight((8,)))]))


@negative("behind a FakeQuant", "already_quantized")
def _fake_quant(b: GraphBuilder, w: str, x: str) -> None:
    limits = [b.const("min", -1.0), b.const("max", 1.0)]
    b.matmul("y", x, b.op("fq", "FakeQuantWithMinMaxVars", [w, *limits], num_bits=8))


@negative("behind an Identity and a FakeQuant per channel", "already_quantized")
def _fake_quant_channels(b: GraphBuilder, w: str, x: str) -> None:
    limits = [b.const("min", random_weight((8,))), b.const("max", random_weight((8,)))]
    read = b.op("read", "Identity", [w])
    op = "FakeQuantWithMinMaxVarsPerChannel"
    b.matmul("y", x, b.op("fq", op, [read, *limits], num_bits=4))


@negative("scalar", "scalar", np.float32(3.0))
def _scalar(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, w)


@negative("empty", "empty", np.zeros((0, 8), np.float32))
def _empty(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, w)


@negative("unused", "unused")
def _unused(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "Relu", [x])


@negative("only a control input", "unused")
def _control_only(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "Relu", [x, f"^{w}"])


@negative("only fetched", "unused")
def _fetched(b: GraphBuilder, w: str, x: str) -> None:
    b.op("read", "Identity", [w])


@negative("only a port that nobody uses", "unused")
def _unused_port(b: GraphBuilder, w: str, x: str) -> None:
    b.op("split", "SplitV", [w, b.const("sizes", [3, 5]), b.const("axis", 1)], num_split=2)


@negative("computed perm", "axis_lost")
def _computed_perm(b: GraphBuilder, w: str, x: str) -> None:
    perm = b.op("perm", "Range", [b.const("a", 1), b.const("b", -1), b.const("c", -1)])
    b.matmul("y", x, b.op("turned", "Transpose", [w, perm]))


@negative("computed shape", "axis_lost")
def _computed_shape(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, b.op("flat", "Reshape", [w, b.op("shape", "Shape", [x])]))


@negative("computed axis of ExpandDims", "axis_lost")
def _computed_expand(b: GraphBuilder, w: str, x: str) -> None:
    axis = b.op("axis", "Rank", [x])
    b.op("y", "BatchMatMul", [x, b.op("more", "ExpandDims", [w, axis])])


@negative("computed axis of Split", "axis_lost")
def _computed_split(b: GraphBuilder, w: str, x: str) -> None:
    b.op("split", "Split", [b.op("axis", "Rank", [x]), w], num_split=2)
    b.matmul("y", x, "split")


@negative("computed axis of ConcatV2", "axis_lost")
def _computed_concat(b: GraphBuilder, w: str, x: str) -> None:
    axis = b.op("axis", "Sub", [b.const("two", 2), b.const("one", 1)])
    b.matmul("y", x, b.op("both", "ConcatV2", [w, w, axis], N=2))


@negative("axis of GatherV2 that is fed", "axis_lost")
def _fed_gather_axis(b: GraphBuilder, w: str, x: str) -> None:
    ids = b.placeholder("ids", [1], dtypes.DT_INT32)
    b.gather("y", w, ids, b.placeholder("axis", [], dtypes.DT_INT32))


@negative("split axis", "axis_lost", random_weight((48,)))
def _flat_weight(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, b.op("shaped", "Reshape", [w, b.const("shape", [6, 8])]))


@negative("wrong rank", "axis_lost", random_weight((3, 4, 8)))
def _wrong_rank(b: GraphBuilder, w: str, x: str) -> None:
    b.conv("y", x, w)


@negative("Einsum with an ellipsis", "axis_lost")
def _ellipsis(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "Einsum", [x, w], equation="ab,...c->a...c")


@negative("cast to whole numbers", "axis_lost")
def _cast_to_int(b: GraphBuilder, w: str, x: str) -> None:
    b.matmul("y", x, b.cast("whole", w, dtypes.DT_FLOAT, dtypes.DT_INT32))


@negative("indices into a table", "not_a_weight", random_weight((8,)))
def _indices(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "Gather", [x, w])


@negative("peephole of an LSTM", "not_a_weight", random_weight((8,)))
def _peephole(b: GraphBuilder, w: str, x: str) -> None:
    b.op("y", "LSTMBlockCell", [x, x, x, b.const("k", random_weight((4, 8))), w, w, w, x])


@negative("initial state of a loop", "not_a_weight")
def _state(b: GraphBuilder, w: str, x: str) -> None:
    enter = b.op("enter", "Enter", [w], frame_name="while")
    b.op("merge", "Merge", [enter, "next"], N=2)
    b.matmul("next_state", "merge", b.const("v", random_weight((8, 8))))
    b.op("next", "NextIteration", ["next_state"])


@negative("output of a function", "unused")
def _argument_unused(b: GraphBuilder, w: str, x: str) -> None:
    b.function("f", [("a", dtypes.DT_FLOAT)], GraphBuilder())
    b.call("y", "f", [w])


@pytest.mark.parametrize("name", NEGATIVES)
def test_what_is_no_weight(name: str) -> None:
    """It is a skip with this reason, and never a site."""
    value, build, reason = NEGATIVES[name]
    b = GraphBuilder()
    build(b, b.const("w", value), b.placeholder("x", [-1, 4]))
    found, detail = the_skip(b)
    assert found == reason, detail
    assert detail
    assert "\n" not in detail


def test_a_predicate_is_no_weight() -> None:
    """Only data input 0 of a Switch passes through."""
    b = GraphBuilder()
    b.const("w", random_weight((2, 2)))
    b.op("switch", "Switch", [b.placeholder("x"), "w"])
    b.matmul("y", "switch:1", b.placeholder("z"))
    assert the_skip(b)[0] == "not_a_weight"


def test_a_constant_without_data() -> None:
    """TensorFlow would read zeros, or refuse: there is nothing to quantize."""
    b = GraphBuilder()
    b.add(new_node("nothing", "Const", (), {"dtype": attr_type(dtypes.DT_FLOAT)}))
    hollow = GraphDef()
    hollow.node.add(name="hollow", op="Const").attr["dtype"].type = 1
    hollow.node[0].attr["value"].tensor.dtype = 1
    hollow.node[0].attr["value"].tensor.tensor_shape.dim.add().size = 4
    hollow.node[0].attr["value"].tensor.tensor_shape.dim.add().size = 8
    for name in ("nothing", "hollow"):
        b.matmul(f"y_{name}", "x", name)
    b.placeholder("x")
    graph = Graph.parse(b.to_bytes() + hollow.SerializeToString())
    survey = locate(graph)
    assert [(skip.node, skip.reason) for skip in survey.skips] == [
        ("nothing", "no_data"),
        ("hollow", "no_data"),
    ]


def test_bfloat16_is_unsupported() -> None:
    """numpy has no bfloat16: found, named, and left alone."""
    proto = GraphDef()
    node = proto.node.add(name="w", op="Const")
    node.attr["dtype"].type = dtypes.DT_BFLOAT16
    node.attr["value"].tensor.dtype = dtypes.DT_BFLOAT16
    for size in (2, 2):
        node.attr["value"].tensor.tensor_shape.dim.add().size = size
    node.attr["value"].tensor.tensor_content = b"\x80\x3f" * 4
    b = GraphBuilder()
    b.op("y", "MatMul", [b.placeholder("x"), "w"], T=("type", dtypes.DT_BFLOAT16))
    survey = locate(Graph.parse(b.to_bytes() + proto.SerializeToString()))
    assert [(skip.node, skip.reason) for skip in survey.skips] == [("w", "unsupported_dtype")]
    assert "bfloat16" in survey.skips[0].detail


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.uint8, np.int64, np.bool_])
def test_whole_numbers_are_neither_site_nor_skip(dtype: Any) -> None:
    """The survey is about floats."""
    b = GraphBuilder()
    b.op("y", "MatMul", [b.placeholder("x"), b.const("w", np.ones((4, 4), dtype))])
    assert locate(b.graph()) == Survey((), ())


def test_variables_of_unknown_shape() -> None:
    """Without a shape nothing can be said of channels."""
    for shape in (None, [-1, 8]):
        b = GraphBuilder()
        b.matmul("y", b.placeholder("x"), b.variable("w", shape))
        assert the_skip(b)[0] == "unknown_shape"
    b = GraphBuilder()
    b.add(new_node("w", "VariableV2", (), {"dtype": attr_type(dtypes.DT_FLOAT)}))
    b.matmul("y", b.placeholder("x"), "w")
    assert the_skip(b)[0] == "unknown_shape"


def test_whole_number_variables_are_nothing() -> None:
    """global_step is no weight and no skip."""
    b = GraphBuilder()
    b.variable("global_step", [], dtypes.DT_INT64)
    b.variable("table", [4], dtypes.DT_INT32, "VarHandleOp")
    assert locate(b.graph()) == Survey((), ())


@pytest.mark.parametrize("shape", [[], [0, 4]])
def test_variables_without_elements_or_axes(shape: List[int]) -> None:
    """A scalar or empty variable is a skip like a constant."""
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x"), b.variable("w", shape))
    assert the_skip(b)[0] == ("empty" if shape else "scalar")


def test_a_constant_that_contradicts_itself_is_refused() -> None:
    """Declared float, holding double: the file is damaged, and the message says where."""
    b = GraphBuilder()
    node = GraphBuilder()
    node.const("w", np.ones((2, 2)).astype(np.float64))
    proto = GraphDef.FromString(node.to_bytes())
    proto.node[0].attr["dtype"].type = dtypes.DT_FLOAT
    with pytest.raises(InputError, match="constant 'w' declares float32 but holds float64"):
        locate(Graph.parse(b.to_bytes() + proto.SerializeToString()))


# ------------------------------------------------------------------------------ already quantized


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("granularity", ["channel", "tensor", "group"])
def test_a_dequantized_graph_has_no_weights_left(bits: int, granularity: str) -> None:
    """Scales, tables and offsets of our own form belong to a weight that is quantized already."""
    options = {"granularity": granularity, "group_size": 24, "keep_larger": True}
    survey = locate(quantize(dense(), bits, **options).graph)
    assert survey.sites == ()
    assert {skip.reason for skip in survey.skips} <= {"already_quantized", "scalar"}
    assert any(skip.reason == "already_quantized" for skip in survey.skips)


@pytest.mark.parametrize("scale_bits", [24, 16])
def test_a_fake_quant_graph_has_no_weights_left(scale_bits: int) -> None:
    """The constants behind our FakeQuant nodes are not quantized again."""
    survey = locate(quantize(convolution(), storage="fake_quant", scale_bits=scale_bits).graph)
    assert survey.sites == ()
    assert {skip.reason for skip in survey.skips} == {"already_quantized", "not_a_weight"} | (
        {"scalar"} if scale_bits == 24 else set()
    )


def test_a_baked_graph_has_the_same_weights() -> None:
    """bake changes values and nothing else (the file may hold the node in fewer bytes)."""
    (before,), (after,) = locate(dense()).sites, locate(quantize(dense(), 4, "bake").graph).sites
    assert replace(after, nbytes=before.nbytes) == before


def test_a_scale_of_another_tools_dequantization() -> None:
    """uint8 Const -> Cast -> Sub(zero point) -> Mul(scale) is recognized by its structure."""
    b = GraphBuilder()
    codes = b.const("codes", np.ones((4, 8), np.uint8))
    value = b.cast("value", codes, dtypes.DT_UINT8, dtypes.DT_FLOAT)
    value = b.op("centred", "Sub", [value, b.const("zero", random_weight((8,)))])
    w = b.op("w", "Mul", [value, b.const("scale", random_weight((8,)))])
    b.matmul("y", b.placeholder("x", [1, 4]), w)
    survey = locate(b.graph())
    assert [(skip.node, skip.reason) for skip in survey.skips] == [
        ("zero", "already_quantized"),
        ("scale", "already_quantized"),
    ]
    assert "ends in w" in survey.skips[0].detail


def _mask_of(b: GraphBuilder, *shape: int) -> str:
    mask = b.const("mask", np.ones(shape, np.uint8))
    return b.cast("mask/float", mask, dtypes.DT_UINT8, dtypes.DT_FLOAT)


@pytest.mark.parametrize("rows", [50, 2])
@pytest.mark.parametrize("mask", [(8,), (3, 1), (3, 8)])
def test_a_constant_mask_does_not_hide_a_table(rows: int, mask: Tuple[int, ...]) -> None:
    """rows of a table * mask: the table is a weight; what is fed is no dequantization."""
    b = GraphBuilder()
    table = b.const("table", random_weight((rows, 8)))
    row = b.gather("row", table, b.placeholder("ids", [3], dtypes.DT_INT32))
    b.op("y", "Mul", [row, _mask_of(b, *mask)])
    assert consumers(the_site(b, "table")) == [("row", 0, (0,))]


@pytest.mark.parametrize("mask", [(8,), (3, 8)])
def test_a_constant_mask_does_not_quantize_a_bias(mask: Tuple[int, ...]) -> None:
    """(x @ w + bias) * mask: the bias is added to an activation, it dequantizes nothing."""
    b = GraphBuilder()
    product = b.matmul("product", b.placeholder("x", [1, 4]), b.const("w", random_weight((4, 8))))
    total = b.op("total", "Add", [product, b.const("bias", random_weight((8,)))])
    b.op("y", "Mul", [total, _mask_of(b, *mask)])
    assert the_skip(b, "bias")[0] == "not_a_weight"


# -------------------------------------------------------------------------- fed tensors in bodies


def test_in_a_function_an_argument_may_be_fed() -> None:
    """A constant beside an argument that the caller feeds is an activation, not a weight."""
    b, body = GraphBuilder(), GraphBuilder()
    body.const("state", random_weight((4, 8)))
    body.const("axis", 0)
    body.op("both", "ConcatV2", ["x", "state:output:0", "axis:output:0"], N=2)
    body.op("product", "MatMul", ["both:output:0", "given"])
    b.function("f", [("x", dtypes.DT_FLOAT), ("given", dtypes.DT_FLOAT)], body)
    b.call("y", "f", [b.placeholder("x", [1, 8]), b.const("w", random_weight((8, 2)))])
    survey = locate(b.graph())
    assert [site.weight for site in survey.sites] == ["w"]
    assert [(skip.node, skip.reason) for skip in survey.skips] == [("f:state", "not_a_weight")]


def test_a_weight_that_a_function_returns() -> None:
    """A weight handed back by a function is followed, or said to be lost: it is not unused."""
    b, body = GraphBuilder(), GraphBuilder()
    body.op("same", "Identity", ["given"])
    b.function("f", [("given", 1)], body, [("out", "same:output:0", 1)])
    w = b.call("call", "f", [b.const("w", random_weight((4, 8)))])
    b.matmul("y", b.placeholder("x", [1, 4]), w)
    survey = locate(b.graph())
    assert [skip.reason for skip in survey.skips if skip.reason == "unused"] == []


# ----------------------------------------------------------------------------------------- size


def _long(ops: Sequence[str]) -> GraphBuilder:
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 8)))
    for number, op in enumerate(ops):
        w = b.op(f"n{number}", op, [w])
    b.matmul("y", b.placeholder("x", [1, 4]), w)
    return b


def test_a_path_of_a_hundred_nodes_is_followed() -> None:
    """Real paths have up to a handful of nodes; a hundred are allowed."""
    assert len(the_site(_long(["Identity"] * 100)).path) == 100


def test_a_longer_path_is_given_up() -> None:
    """One node more is a skip with a reason."""
    assert the_skip(_long(["Identity"] * 101))[0] == "path_too_long"


def test_a_path_of_a_hundred_thousand_nodes_is_given_up_in_time() -> None:
    """A hostile chain costs no more than reading it (on a busy machine, the best of three)."""
    b = GraphBuilder()
    b.const("w", random_weight((4, 8)))
    parts, before = [b.to_bytes()], b"w"
    for number in range(100_000):
        name = b"n%d" % number
        fields = delimited(1, name) + delimited(2, b"Identity") + delimited(3, before)
        parts.append(delimited(1, fields))
        before = name
    graph = Graph.parse(b"".join(parts))
    took: List[float] = []
    while len(took) < 3 and not (took and took[-1] < 2):
        begin = time.process_time()
        survey = locate(graph)
        took.append(time.process_time() - begin)
        assert [skip.reason for skip in survey.skips] == ["path_too_long"]
    assert took[-1] < 2, f"{took} s"


def test_doubling_paths_end() -> None:
    """2^60 ways through a ladder of joins are walked once each node."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 8)))
    for number in range(60):
        w = b.op(f"n{number}", "Pack" if number % 2 else "ConcatV2", [w, w], axis=0, N=2)
    b.matmul("y", b.placeholder("x"), w)
    begin = time.process_time()
    locate(b.graph())
    assert time.process_time() - begin < 1


def test_weights_that_join_in_one_node_take_no_square_of_time() -> None:
    """4000 tiny constants in one ConcatV2: the time is in proportion to the file."""
    b = GraphBuilder()
    names = [b.const(f"w{number}", random_weight((2, 2), number)) for number in range(4000)]
    b.op("all", "ConcatV2", [*names, b.const("axis", 0)], N=4000)
    b.matmul("y", b.placeholder("x"), "all")
    graph = b.graph()
    begin = time.process_time()
    assert len(locate(graph).sites) == 4000
    assert time.process_time() - begin < 4


def test_a_graph_with_a_cycle_can_be_surveyed() -> None:
    """No runtime loads it, but what weights it holds can still be said, in file order."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4)))
    b.matmul("second", "first", w)
    b.matmul("first", "second", w, tb=True)
    assert consumers(the_site(b)) == [("second", 1, (1,)), ("first", 1, (0,))]


def test_a_dangling_graph_can_be_surveyed() -> None:
    """Missing inputs leave the rest readable."""
    b = GraphBuilder()
    b.matmul("y", "gone", b.const("w", random_weight((4, 4))))
    assert consumers(the_site(b)) == [("y", 1, (1,))]


# ------------------------------------------------------------------------------------- the law


def _expected(data: bytes) -> Counter:
    """Every float Const and variable, counted from the protos without graphwq."""
    proto = GraphDef.FromString(data)
    found: Counter = Counter()
    scopes = [("", proto.node)]
    scopes += [(function.signature.name + ":", function.node_def)
               for function in proto.library.function]  # fmt: skip
    variables = ("Const", "Variable", "VariableV2", "TemporaryVariable", "VarHandleOp")
    for prefix, nodes in scopes:
        for node in nodes:
            if node.op in variables and node.attr["dtype"].type % 100 in (1, 2, 14, 19):
                found[prefix + node.name] += 1
    return found


def assert_law(graph: Graph) -> Survey:
    """sites + skips = every float Const and variable, exactly once."""
    survey = locate(graph)
    found = Counter([site.weight for site in survey.sites])
    found.update(skip.node for skip in survey.skips)
    assert found == _expected(graph.to_bytes())
    return survey


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("*.pb")))
def test_the_law_on_the_fixtures(name: str) -> None:
    """Every float constant of a real network is a site or a skip, exactly once."""
    assert assert_law(load(FIXTURES / name)).sites


_OPS = [
    ("Identity", 1), ("MatMul", 2), ("Add", 2), ("Mul", 2), ("Conv2D", 2), ("Switch", 2),
    ("ConcatV2", 3), ("Pack", 2), ("Transpose", 2), ("Reshape", 2), ("Split", 2), ("SplitV", 3),
    ("StridedSlice", 4), ("Slice", 3), ("ExpandDims", 2), ("Squeeze", 1), ("Unpack", 1),
    ("GatherV2", 3), ("Gather", 2), ("Cast", 1), ("BiasAdd", 2), ("Einsum", 2), ("Enter", 1),
    ("Merge", 2), ("NextIteration", 1), ("Dequantize", 3), ("LSTMBlockCell", 8), ("Relu", 1),
    ("FakeQuantWithMinMaxVars", 3), ("ReadVariableOp", 1), ("PartitionedCall", 2), ("g", 2),
]  # fmt: skip
_ATTRS = st.fixed_dictionaries(
    {},
    optional={
        "axis": st.integers(-3, 3),
        "N": st.integers(0, 3),
        "num": st.integers(0, 3),
        "num_split": st.integers(-1, 3),
        "squeeze_dims": st.lists(st.integers(-3, 3), max_size=2),
        "begin_mask": st.integers(0, 7),
        "end_mask": st.integers(0, 7),
        "ellipsis_mask": st.sampled_from([0, 1, 2, 4]),
        "new_axis_mask": st.integers(0, 7),
        "shrink_axis_mask": st.integers(0, 7),
        "transpose_b": st.booleans(),
        "batch_dims": st.integers(0, 1),
        "equation": st.sampled_from(["ab,bc->ac", "...", "a->a"]),
        "DstT": st.sampled_from([("type", 1), ("type", 3), ("type", 19)]),
        "f": st.sampled_from([("func", "g"), ("func", "none")]),
    },
)
_SHAPES = st.lists(st.integers(0, 3), max_size=4).map(tuple)


def _fill(draw: st.DrawFn, b: GraphBuilder, names: List[str], suffix: str) -> None:
    """Constants, variables and ops, wired at random; also backwards, to what comes later."""
    for number in range(draw(st.integers(1, 6))):
        name = f"c{number}"
        kind = draw(
            st.sampled_from(["float", "float", "half", "double", "int", "code", "variable"])
        )
        if kind == "variable":
            op = draw(st.sampled_from(["VariableV2", "VarHandleOp", "Variable"]))
            b.variable(name, list(draw(_SHAPES)), draw(st.sampled_from([1, 2, 3, 19])), op)
        elif kind == "int":
            b.const(name, np.array(draw(st.lists(st.integers(-2, 4), max_size=4)), np.int32))
        else:
            types = {"float": "f4", "half": "f2", "double": "f8", "code": "i1"}
            b.const(name, np.ones(draw(_SHAPES), types[kind]))
        names.append(name + suffix)
    count = draw(st.integers(0, 10))
    names += [f"n{number}{suffix}" for number in range(count)]
    for number in range(count):
        op, arity = draw(st.sampled_from(_OPS))
        inputs = draw(st.lists(st.sampled_from(names), min_size=arity, max_size=arity))
        ports = draw(st.lists(st.sampled_from(["", "", "", "", ":1", "^", "?"]), min_size=arity,
                              max_size=arity))  # fmt: skip
        wired = []
        for name, port in zip(inputs, ports):
            bare = name.split(":")[0]
            wired.append({"": name, ":1": f"{bare}:1", "^": f"^{bare}", "?": "lost"}[port])
        wired.sort(key=lambda name: name.startswith("^"))
        b.op(f"n{number}", op, wired, **draw(_ATTRS))


@st.composite
def graphs(draw: st.DrawFn) -> GraphBuilder:
    """Small graphs, most of them broken in some way, with a function."""
    b, body = GraphBuilder(), GraphBuilder()
    b.placeholder("x", [2, 3])
    _fill(draw, b, ["x"], "")
    _fill(draw, body, ["a", "b"], ":output:0")
    b.function("g", [("a", 1), ("b", 1)], body)
    return b


@given(graphs())
def test_the_law_on_random_graphs(b: GraphBuilder) -> None:
    """However the nodes are wired: each float constant and variable once, no crash.

    And the survey depends on the bytes alone.
    """
    survey = assert_law(b.graph())
    assert locate(Graph.parse(b.to_bytes())) == survey
    for site in survey.sites:
        assert site.consumers
        assert site.kept_axes == site.consumers[0].kept_axes
        for consumer in site.consumers:
            assert list(consumer.kept_axes) == sorted(set(consumer.kept_axes))
            assert set(consumer.kept_axes) <= set(range(len(site.shape)))
            assert len(consumer.path) == len(consumer.path_ops)
    assert all(skip.reason and skip.detail for skip in survey.skips)
