"""What the survey believes of TensorFlow's ops, asked of TensorFlow itself."""

from __future__ import annotations

import random
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import pytest
from axis_oracle import Labels, check_claims
from builders import GraphBuilder, random_weight

from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.survey import axes
from graphwq.survey.evaluate import evaluate
from graphwq.survey.optable import WEIGHT_INPUTS
from graphwq.survey.paths import carry
from graphwq.survey.view import build

pytestmark = pytest.mark.tf

FLOAT, INT = ("type", dtypes.DT_FLOAT), ("type", dtypes.DT_INT32)


def fetch(graph: Graph, names: Sequence[str]) -> List[np.ndarray]:
    """The outputs of a graph without inputs, unoptimized."""
    from tensorflow.compat import v1 as tf

    options = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    options.graph_options.optimizer_options.opt_level = -1
    options.graph_options.rewrite_options.disable_meta_optimizer = True
    with tf.Graph().as_default() as tf_graph:
        tf.import_graph_def(tf.GraphDef.FromString(graph.to_bytes()), name="")
        with tf.Session(graph=tf_graph, config=options) as session:
            found: List[np.ndarray] = session.run([f"{name}:0" for name in names])
            return found


# ------------------------------------------------------------------------------------ evaluate


def _evaluated(b: GraphBuilder) -> List[str]:
    """One node of every op that ``evaluate`` knows, for every dtype that its users have."""
    a, c = b.const("a", random_weight((3, 4), 1, std=9.0)), b.const("c", random_weight((3, 4), 2))
    ints, axis = b.const("ints", [[0, 1], [2, 1]]), b.const("axis", 1)
    codes = b.const("codes", np.arange(-128, 128).astype(np.int8))
    small, one = b.const("small", [2, 1]), b.const("one", np.float32(1))
    ends = [b.const("zero", np.float32(0)), b.const("end", np.float32(37)), one]
    return [
        b.op("identity", "Identity", [a]),
        b.op("add", "Add", [a, c]),
        b.op("addv2", "AddV2", [a, c]),
        b.op("sub", "Sub", [a, one]),
        b.op("mul", "Mul", [a, c]),
        b.op("floor", "Floor", [a], T=FLOAT),
        b.op("floormod", "FloorMod", [a, c], T=FLOAT),
        b.op("range", "Range", ends, Tidx=FLOAT),
        b.op("expand", "ExpandDims", [a, axis], Tdim=INT),
        b.op("reshape", "Reshape", [a, b.const("shape", [2, -1])], Tshape=INT),
        b.op("slice", "Slice", [a, b.const("begin", [1, 0]), small], Index=INT),
        b.op("open", "Slice", [a, b.const("begin2", [1, 2]), b.const("rest", [-1, -1])], Index=INT),
        b.gather("gather", a, ints),
        b.gather("gatherv2", a, ints, axis),
        b.op("concat", "ConcatV2", [a, c, a, axis], N=3, Tidx=INT),
        b.op("transpose", "Transpose", [a, b.const("perm", [1, 0])], Tperm=INT),
        b.cast("cast_up", codes, dtypes.DT_INT8, dtypes.DT_FLOAT),
        b.cast("cast_half", a, dtypes.DT_FLOAT, dtypes.DT_HALF),
        b.cast("cast_double", a, dtypes.DT_FLOAT, dtypes.DT_DOUBLE),
        b.cast("cast_down", a, dtypes.DT_FLOAT, dtypes.DT_INT32),
    ]


def test_evaluate_computes_what_tensorflow_computes() -> None:
    """Every op, bit for bit."""
    b = GraphBuilder()
    names = _evaluated(b)
    graph = b.graph()
    view = build(graph).main
    for name, theirs in zip(names, fetch(graph, names)):
        ours = evaluate(view, name)
        assert ours is not None, name
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours, theirs, err_msg=name)


@pytest.mark.tf1  # 2.x rounds the ends of the range otherwise: the last bits differ
@pytest.mark.parametrize("per_channel", [False, True])
def test_fake_quant_is_tensorflows(per_channel: bool) -> None:
    """Bit for bit: any range, any width, zero points half way, an empty range."""
    chance = random.Random(0)
    b = GraphBuilder()
    b.const("x", random_weight((40, 3), 3, std=2.0))
    names = []
    ranges = [(-2.5, 252.5), (-0.5, 254.5), (0.0, 0.0), (-1.0, 1.0), (0.0, 3.0), (-3.0, 0.0)]
    ranges += [(-chance.uniform(0.01, 3), chance.uniform(0.01, 3)) for _ in range(60)]
    for number, (low, high) in enumerate(ranges):
        limits = []
        for label, value in (("min", low), ("max", high)):
            array = np.float32([value, value * 2, value / 3] if per_channel else value)
            limits.append(b.const(f"{label}{number}", np.asarray(array, np.float32)))
        op = "FakeQuantWithMinMaxVars" + ("PerChannel" if per_channel else "")
        attrs: Dict[str, Any] = {"num_bits": 8, "narrow_range": False}
        if number > 5:
            attrs = {"num_bits": chance.randint(2, 8), "narrow_range": chance.random() < 0.5}
        names.append(b.op(f"fq{number}", op, ["x", *limits], **attrs))
    graph = b.graph()
    view = build(graph).main
    wrong = {}
    for name, limits_, theirs in zip(names, ranges, fetch(graph, names)):
        ours = evaluate(view, name)
        assert ours is not None
        if not np.array_equal(ours, theirs):
            wrong[name] = (limits_, float(np.abs(ours - theirs).max()))
    assert not wrong


# --------------------------------------------------------------------------------- strided slice


def _spec(chance: random.Random, shape: Sequence[int]) -> Tuple[List[List[int]], Dict[str, int]]:
    count = chance.randint(0, len(shape) + 1)
    begin = [chance.randint(-3, 3) for _ in range(count)]
    end = [chance.randint(-3, 4) for _ in range(count)]
    strides = [chance.choice([1, 1, 1, 2, -1, -2]) for _ in range(count)]
    masks = {
        key: chance.randrange(1 << count) & chance.randrange(1 << count)
        for key in ("begin", "end", "new_axis", "shrink_axis")
    }
    masks["ellipsis"] = 1 << chance.randrange(count) if count and chance.random() < 0.4 else 0
    return [begin, end, strides], masks


def test_strided_slices_are_tensorflows() -> None:
    """Random specs with all masks: the labels that TensorFlow cuts out bear out every claim."""
    from tensorflow.compat import v1 as tf

    chance = random.Random(1)
    checked = 0
    with tf.Graph().as_default() as tf_graph:
        cases = []
        for _ in range(250):
            shape = tuple(chance.randint(1, 4) for _ in range(chance.randint(1, 4)))
            parameters, masks = _spec(chance, shape)
            attrs = {key + "_mask": value for key, value in masks.items()}
            stacked = np.indices(shape)
            try:
                pieces = [
                    tf.raw_ops.StridedSlice(
                        input=tf.constant(labels), **dict(zip(("begin", "end", "strides"),
                        [tf.constant(item, tf.int32) for item in parameters])), **attrs
                    )
                    for labels in stacked
                ]  # fmt: skip
            except ValueError:
                continue  # TensorFlow refuses the spec
            cases.append((shape, parameters, attrs, pieces))
        with tf.Session(graph=tf_graph) as session:
            values = session.run([pieces for _, _, _, pieces in cases])
    for (shape, parameters, attrs, _), arrays in zip(cases, values):
        b = GraphBuilder()
        inputs = [b.const(f"p{n}", np.array(item, np.int32)) for n, item in enumerate(parameters)]
        b.op("node", "StridedSlice", [b.placeholder("w"), *inputs], **attrs)
        view = build(b.graph()).main
        outputs = carry(view, view.nodes["node"], 0, axes.start(shape))
        assert outputs is not None
        (current,) = outputs
        assert current is not None
        assert current.shape == arrays[0].shape, (shape, parameters, attrs)
        if arrays[0].size:
            labels = Labels(shape)
            labels.arrays = list(arrays)
            check_claims(current, labels)
            checked += 1
    assert checked > 60


# -------------------------------------------------------------------------------- the op table

Product = Callable[[Any, Any], Any]
#: op, slot, weight shape, (tf, weight) -> result: small enough to try every pair of elements.
PRODUCTS: List[Tuple[str, int, Tuple[int, ...], Product]] = [
    ("Conv2D", 1, (2, 2, 2, 3), lambda tf, w: tf.raw_ops.Conv2D(
        input=tf.ones([1, 3, 3, 2]), filter=w, strides=[1] * 4, padding="SAME")),
    ("DepthwiseConv2dNative", 1, (2, 2, 2, 2), lambda tf, w: tf.raw_ops.DepthwiseConv2dNative(
        input=tf.ones([1, 3, 3, 2]), filter=w, strides=[1] * 4, padding="SAME")),
    ("Conv2DBackpropInput", 1, (2, 2, 3, 2), lambda tf, w: tf.raw_ops.Conv2DBackpropInput(
        input_sizes=[1, 3, 3, 3], filter=w, out_backprop=tf.ones([1, 3, 3, 2]),
        strides=[1] * 4, padding="SAME")),
    ("DepthwiseConv2dNativeBackpropInput", 1, (2, 2, 2, 2),
     lambda tf, w: tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
        input_sizes=[1, 3, 3, 2], filter=w, out_backprop=tf.ones([1, 3, 3, 4]),
        strides=[1] * 4, padding="SAME")),
    ("Conv3D", 1, (2, 2, 2, 2, 2), lambda tf, w: tf.raw_ops.Conv3D(
        input=tf.ones([1, 2, 3, 3, 2]), filter=w, strides=[1] * 5, padding="SAME")),
    ("Conv3DBackpropInputV2", 1, (2, 2, 2, 2, 2), lambda tf, w: tf.raw_ops.Conv3DBackpropInputV2(
        input_sizes=[1, 2, 3, 3, 2], filter=w, out_backprop=tf.ones([1, 2, 3, 3, 2]),
        strides=[1] * 5, padding="SAME")),
    ("MatMul", 1, (3, 2), lambda tf, w: tf.raw_ops.MatMul(a=tf.ones([2, 3]), b=w)),
    ("MatMul", 0, (3, 2), lambda tf, w: tf.raw_ops.MatMul(a=w, b=tf.ones([2, 4]))),
    ("BatchMatMul", 1, (2, 3, 2), lambda tf, w: tf.raw_ops.BatchMatMul(x=tf.ones([2, 2, 3]), y=w)),
    ("BatchMatMulV2", 0, (2, 3, 2), lambda tf, w: tf.raw_ops.BatchMatMulV2(
        x=w, y=tf.ones([2, 2, 3]))),
    ("SparseMatMul", 1, (3, 2), lambda tf, w: tf.raw_ops.SparseMatMul(a=tf.ones([2, 3]), b=w)),
    ("SparseTensorDenseMatMul", 3, (3, 2), lambda tf, w: tf.raw_ops.SparseTensorDenseMatMul(
        a_indices=tf.constant([[0, 0], [0, 1], [0, 2], [1, 1]], tf.int64), a_values=tf.ones([4]),
        a_shape=tf.constant([2, 3], tf.int64), b=w)),
    ("LSTMBlockCell", 3, (3, 8), lambda tf, w: tf.raw_ops.LSTMBlockCell(
        x=tf.ones([1, 1]), cs_prev=tf.zeros([1, 2]), h_prev=tf.ones([1, 2]), w=w,
        wci=tf.zeros([2]), wcf=tf.zeros([2]), wco=tf.zeros([2]), b=tf.zeros([8])).o),
]  # fmt: skip
#: An op all of whose four gates are looked at one by one: only some columns reach one output.
SPARSE = ("LSTMBlockCell",)


@pytest.mark.parametrize(
    ("op", "slot", "shape", "product"), PRODUCTS, ids=[f"{case[0]}-{case[1]}" for case in PRODUCTS]
)
def test_kept_axes_by_force(op: str, slot: int, shape: Tuple[int, ...], product: Product) -> None:
    """An axis is kept where weights of two indices never reach one element of the result."""
    from tensorflow.compat import v1 as tf

    size = int(np.prod(shape))
    eye = np.eye(size, dtype=np.float32).reshape(size, *shape)
    with tf.Graph().as_default() as tf_graph:
        weight = tf.placeholder(tf.float32, shape)
        result = product(tf, weight)
        with tf.Session(graph=tf_graph) as session:
            rest = session.run(result, {weight: np.zeros(shape)})
            touched = [
                session.run(result, {weight: one}).reshape(-1) != rest.reshape(-1) for one in eye
            ]
    index = np.stack(np.unravel_index(np.arange(size), shape))
    meet = np.array([[np.any(a & b) for b in touched] for a in touched])
    true = tuple(
        axis
        for axis in range(len(shape))
        if not np.any(meet & (index[axis][:, None] != index[axis][None, :]))
    )
    b = GraphBuilder()
    b.op("node", op, [b.placeholder(f"x{number}") for number in range(slot + 2)])
    view = build(b.graph()).main
    claim = WEIGHT_INPUTS[op][slot](view, view.nodes["node"], len(shape))
    assert claim is not None
    assert claim == true if op not in SPARSE else set(claim) <= set(true)
