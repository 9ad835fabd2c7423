"""What the tests of the rewrite share: graphs with every consumer kind, comparisons bit by bit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
from builders import GraphBuilder, random_weight
from hypothesis import settings
from tensorboard.compat.proto.function_pb2 import FunctionDef

from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, TensorRef
from graphwq.graphdef.protos import AttrValue
from graphwq.rewrite import split
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.evaluate import evaluate
from graphwq.survey.view import build

BITS = tuple(range(2, 9))
STORAGES = ("dequant", "bake", "fake_quant")
GRANULARITIES = ("channel", "tensor", "group")

#: (bits, storage, granularity): everything that can be asked for.
COMBINATIONS = [
    (bits, storage, granularity)
    for bits in BITS
    for storage in STORAGES
    for granularity in GRANULARITIES
    if (storage, granularity) != ("fake_quant", "group")
]


def value(graph: Graph, weight: str) -> np.ndarray:
    """What a constant subgraph is worth, by graphwq's evaluator (``function:node`` in a body)."""
    scope, _, name = weight.rpartition(":")
    found = evaluate(build(graph).scopes[scope], name)
    assert found is not None, f"{weight} is not made of constants"
    return found


def assert_same_bits(left: np.ndarray, right: np.ndarray, what: str = "") -> None:
    """Same dtype, shape and bytes: 0.0 and -0.0 are different."""
    assert left.dtype == right.dtype, what
    assert left.shape == right.shape, what
    if np.ascontiguousarray(left).tobytes() != np.ascontiguousarray(right).tobytes():
        one, other = np.ravel(left), np.ravel(right)
        index = int(np.argmax((one != other) | (np.signbit(one) != np.signbit(other))))
        raise AssertionError(f"{what}: {one[index]!r} != {other[index]!r} at {index}")


def examples(count: int) -> settings:
    """That many examples under the "ci" profile of conftest.py, in proportion under "long"."""
    return settings(max_examples=count * settings.default.max_examples // 100)


@contextmanager
def folding_limit(limit: int) -> Iterator[None]:
    """TensorFlow's folding limit as graphwq sees it, for tests with small weights."""
    saved, split.FOLDING_LIMIT = split.FOLDING_LIMIT, limit
    try:
        yield
    finally:
        split.FOLDING_LIMIT = saved


def names(graph: Graph, scope: str = "") -> List[str]:
    """The node names of a scope, in file order."""
    return [node.name for node in next(s for s in graph.scopes if s.name == scope).nodes]


def ops(graph: Graph) -> Dict[str, str]:
    """Name -> op of the main graph."""
    return {node.name: node.op for node in graph.nodes}


def node(graph: Graph, name: str) -> Node:
    """A node of the main graph."""
    return next(item for item in graph.nodes if item.name == name)


def upstream(graph: Graph, name: str) -> Dict[str, Node]:
    """Every node that ``name`` is computed from, itself included."""
    nodes = {item.name: item for item in graph.nodes}
    found: Dict[str, Node] = {}
    pending = [name]
    while pending:
        current = nodes[pending.pop()]
        if current.name not in found:
            found[current.name] = current
            pending += [TensorRef.parse(item).node for item in current.inputs]
    return found


def assert_only_edits_changed(before: Graph, result: RewriteResult) -> None:
    """Law 2, from the written bytes: what no edit names is where and what it was."""
    after = Graph.parse(result.graph.to_bytes())
    named = {(edit.scope, edit.node.name) for edit in result.edits}
    old_scopes = {scope.name: scope for scope in before.scopes}
    assert [scope.name for scope in after.scopes] == [scope.name for scope in before.scopes]
    assert [bytes(item) for item in after.extra] == [bytes(item) for item in before.extra]
    for scope in after.scopes:
        old = old_scopes[scope.name]

        def rest(nodes: Sequence[Node], where: str = scope.name) -> List[Tuple[str, bytes]]:
            return [
                (item.name, bytes(item.to_bytes()))
                for item in nodes
                if (where, item.name) not in named
            ]

        assert rest(scope.nodes) == rest(old.nodes)
        assert scope.arguments == old.arguments
        new_names = [item.name for item in scope.nodes]
        assert len(set(new_names)) == len(new_names)
        old_names = {item.name for item in old.nodes}
        survivors = [name for name in new_names if name in old_names]
        assert survivors == [item.name for item in old.nodes]
        known = set(new_names) | set(scope.arguments)
        for item in scope.nodes:
            for name in item.inputs:
                assert TensorRef.parse(name).node in known, f"{item.name} lost {name}"
        by_name = {item.name: item for item in scope.nodes}
        for item in old.nodes:
            if item.op in ("Placeholder", "PlaceholderV2"):
                assert by_name[item.name].to_bytes() == item.to_bytes()
            assert by_name[item.name].device == item.device
            assert set(by_name[item.name].control_inputs) == set(item.control_inputs)
    for new, old_function in zip(after.functions, before.functions):
        others = [bytes(item) for item in new.layout if not isinstance(item, Node)]
        assert others == [bytes(item) for item in old_function.layout if not isinstance(item, Node)]


def assert_second_run_does_nothing(result: RewriteResult, **options: Any) -> None:
    """Law 3, from the written bytes: nothing is left to do, and the same bytes come out."""
    from graphwq.api import quantize

    data = result.graph.to_bytes()
    again = quantize(Graph.parse(data), **options)
    assert not again.modified, [edit.node.name for edit in again.edits][:5]
    assert again.edits == ()
    assert again.graph.to_bytes() == data


class Case(NamedTuple):
    """A small graph with one large weight ``w``.

    limit: the folding limit (bytes) under which ``w`` has to be cut or gathered by rows.
    form: "split", "rows" or "whole", what the plan must say under that limit.
    """

    graph: Graph
    feeds: Dict[str, np.ndarray]
    outputs: Tuple[str, ...]
    limit: int
    form: str


def _feed(*shape: int) -> np.ndarray:
    return random_weight(shape, seed=7, std=1.0)


def matmul(slot: int, transposed: bool, other_transposed: bool = False) -> Case:
    """MatMul with the weight on either side; w keeps 41 channels, an odd number."""
    b = GraphBuilder()
    inner, channels = 24, 41
    shape = (inner, channels) if (slot == 1) != transposed else (channels, inner)
    w = b.const("w", random_weight(shape))
    x_shape = (2, inner) if (slot == 1) != other_transposed else (inner, 2)
    x = b.placeholder("x", list(x_shape))
    if slot == 1:
        b.matmul("y", x, w, ta=other_transposed, tb=transposed)
    else:
        b.matmul("y", w, x, ta=transposed, tb=other_transposed)
    return Case(b.graph(), {"x:0": _feed(*x_shape)}, ("y:0",), 2000, "split")


def conv2d(data_format: str = "NHWC") -> Case:
    """Conv2D, 41 output channels."""
    b = GraphBuilder()
    w = b.const("w", random_weight((3, 3, 4, 41)))
    shape = (1, 6, 6, 4) if data_format == "NHWC" else (1, 4, 6, 6)
    x = b.placeholder("x", list(shape))
    b.op("y", "Conv2D", [x, w], strides=[1, 1, 1, 1], padding="SAME", data_format=data_format)
    return Case(b.graph(), {"x:0": _feed(*shape)}, ("y:0",), 3000, "split")


def conv2d_dilated() -> Case:
    """Conv2D with strides, dilations and explicit attributes, without data_format."""
    b = GraphBuilder()
    w = b.const("w", random_weight((3, 3, 4, 41)))
    x = b.placeholder("x", [2, 9, 9, 4])
    b.op("y", "Conv2D", [x, w], strides=[1, 1, 1, 1], dilations=[1, 2, 2, 1], padding="VALID")
    return Case(b.graph(), {"x:0": _feed(2, 9, 9, 4)}, ("y:0",), 3000, "split")


def conv2d_transposed(dynamic: bool, data_format: str = "NHWC") -> Case:
    """Conv2DBackpropInput; ``input_sizes`` is a Const or computed from the input's shape."""
    b = GraphBuilder()
    w = b.const("w", random_weight((3, 3, 41, 4)))
    shape = (1, 3, 3, 4) if data_format == "NHWC" else (1, 4, 3, 3)
    whole = [1, 6, 6, 41] if data_format == "NHWC" else [1, 41, 6, 6]
    x = b.placeholder("x", list(shape))
    if dynamic:
        int32 = ("type", dtypes.DT_INT32)
        full = b.op("full", "Shape", [x], T=("type", dtypes.DT_FLOAT), out_type=int32)
        begin, one = b.const("begin", [0]), b.const("one", [1])
        first = b.op("first", "Slice", [full, begin, one], T=int32, Index=int32)
        rest, axis = b.const("rest", whole[1:]), b.const("axis", 0)
        sizes = b.op("sizes", "ConcatV2", [first, rest, axis], N=2, T=int32, Tidx=int32)
    else:
        sizes = b.const("sizes", whole)
    strides = [1, 2, 2, 1] if data_format == "NHWC" else [1, 1, 2, 2]
    attrs = {"strides": strides, "padding": "SAME", "data_format": data_format}
    b.op("y", "Conv2DBackpropInput", [sizes, w, x], **attrs)
    return Case(b.graph(), {"x:0": _feed(*shape)}, ("y:0",), 3000, "split")


def conv3d() -> Case:
    """Conv3D, 41 output channels."""
    b = GraphBuilder()
    w = b.const("w", random_weight((2, 3, 3, 4, 41)))
    x = b.placeholder("x", [1, 4, 5, 5, 4])
    b.op("y", "Conv3D", [x, w], strides=[1, 1, 1, 1, 1], padding="SAME")
    return Case(b.graph(), {"x:0": _feed(1, 4, 5, 5, 4)}, ("y:0",), 6000, "split")


def through_identity() -> Case:
    """w -> Identity -> MatMul."""
    b = GraphBuilder()
    x, w = b.placeholder("x", [2, 24]), b.const("w", random_weight((24, 41)))
    b.matmul("y", x, b.op("w/read", "Identity", [w]))
    return Case(b.graph(), {"x:0": _feed(2, 24)}, ("y:0", "w/read:0"), 2000, "split")


def through_cast() -> Case:
    """A half weight, cast to float before it is used: the frozen form of mixed precision."""
    b = GraphBuilder()
    x, w = b.placeholder("x", [2, 24]), b.const("w", random_weight((24, 41), dtype=np.float16))
    half, single = ("type", dtypes.DT_HALF), ("type", dtypes.DT_FLOAT)
    b.matmul("y", x, b.op("w/cast", "Cast", [w], SrcT=half, DstT=single))
    return Case(b.graph(), {"x:0": _feed(2, 24)}, ("y:0", "w/cast:0"), 2000, "any")


def through_reversal() -> Case:
    """w[::-1] -> MatMul: a StridedSlice that keeps the shape and not the order."""
    b = GraphBuilder()
    x, w = b.placeholder("x", [2, 24]), b.const("w", random_weight((24, 41)))
    int32 = ("type", dtypes.DT_INT32)
    ends = [b.const("begin", [0, 0]), b.const("end", [0, 0]), b.const("strides", [-1, 1])]
    attrs = {"begin_mask": 3, "end_mask": 3, "Index": int32}
    b.matmul("y", x, b.op("w/reversed", "StridedSlice", [w, *ends], **attrs))
    return Case(b.graph(), {"x:0": _feed(2, 24)}, ("y:0", "w/reversed:0"), 2000, "any")


def half_matmul() -> Case:
    """A MatMul of halves all through."""
    b = GraphBuilder()
    x = b.placeholder("x", [2, 24], dtypes.DT_HALF)
    w = b.const("w", random_weight((24, 41), dtype=np.float16))
    b.op("y", "MatMul", [x, w], T=("type", dtypes.DT_HALF), transpose_a=False, transpose_b=False)
    return Case(b.graph(), {"x:0": _feed(2, 24).astype(np.float16)}, ("y:0",), 2000, "split")


def double_matmul() -> Case:
    """A MatMul of doubles all through."""
    b = GraphBuilder()
    x = b.placeholder("x", [2, 24], dtypes.DT_DOUBLE)
    w = b.const("w", random_weight((24, 41), dtype=np.float64))
    b.op("y", "MatMul", [x, w], T=("type", dtypes.DT_DOUBLE), transpose_a=False, transpose_b=False)
    return Case(b.graph(), {"x:0": _feed(2, 24).astype(np.float64)}, ("y:0",), 4000, "split")


def _loop(b: GraphBuilder, body: Callable[[], str], steps: int = 3) -> None:
    """while i < steps: x = relu(body()), with ``body_x`` and ``body_i`` as names in the body."""
    int32 = ("type", dtypes.DT_INT32)
    zero = b.const("zero", 0)
    frame = {"frame_name": "loop", "parallel_iterations": 10}
    b.op("enter_i", "Enter", [zero], T=int32, is_constant=False, **frame)
    b.op("enter_x", "Enter", ["x"], is_constant=False, **frame)
    b.op("merge_i", "Merge", ["enter_i", "next_i"], T=int32, N=2)
    b.op("merge_x", "Merge", ["enter_x", "next_x"], N=2)
    b.const("limit", steps, control=["merge_i"])
    b.op("less", "Less", ["merge_i", "limit"], T=int32)
    b.op("cond", "LoopCond", ["less"])
    b.op("switch_i", "Switch", ["merge_i", "cond"], T=int32)
    b.op("switch_x", "Switch", ["merge_x", "cond"])
    b.op("body_i", "Identity", ["switch_i:1"], T=int32)
    b.op("body_x", "Identity", ["switch_x:1"])
    b.const("one", 1, control=["body_i"])
    b.op("add_i", "Add", ["body_i", "one"], T=int32)
    b.op("relu", "Relu", [body()])
    b.op("next_i", "NextIteration", ["add_i"], T=int32)
    b.op("next_x", "NextIteration", ["relu"])
    b.op("y", "Exit", ["switch_x"])


def in_while_loop(read: bool = True) -> Case:
    """while i < 3: x = relu(x @ w), with w [40, 40] passed in by an Enter."""
    b = GraphBuilder()
    b.placeholder("x", [2, 40])
    w = b.const("w", random_weight((40, 40), std=0.3))
    if read:
        w = b.op("w/read", "Identity", [w])
    frame = {"frame_name": "loop", "parallel_iterations": 10}
    b.op("enter_w", "Enter", [w], is_constant=True, **frame)
    _loop(b, lambda: b.matmul("product", "body_x", "enter_w"))
    return Case(b.graph(), {"x:0": _feed(2, 40)}, ("y:0",), 4000, "split")


def inside_while_loop() -> Case:
    """The same with w as a constant of the body: only its control input keeps it in the frame."""
    b = GraphBuilder()
    b.placeholder("x", [2, 40])

    def body() -> str:
        w = b.const("w", random_weight((40, 40), std=0.3), control=["body_i"])
        return b.matmul("product", "body_x", w)

    _loop(b, body)
    return Case(b.graph(), {"x:0": _feed(2, 40)}, ("y:0",), 4000, "split")


def gather_inside_while_loop() -> Case:
    """while i < 3: x = relu(x + w[i]), with the table as a constant of the body."""
    b = GraphBuilder()
    b.placeholder("x", [13])

    def body() -> str:
        w = b.const("w", random_weight((50, 13)), control=["body_i"])
        types = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": ("type", dtypes.DT_INT32)}
        return b.op("sum", "Add", ["body_x", b.op("row", "Gather", [w, "body_i"], **types)])

    _loop(b, body)
    return Case(b.graph(), {"x:0": _feed(13)}, ("y:0",), 500, "rows")


def inside_branch() -> Case:
    """tf.cond with w as a constant of the branch, tied to it by a control input."""
    b = GraphBuilder()
    boolean = ("type", dtypes.DT_BOOL)
    x, choice = b.placeholder("x", [2, 24]), b.placeholder("choice", [], dtypes.DT_BOOL)
    b.op("switch", "Switch", [choice, choice], T=boolean)
    b.op("switch_t", "Identity", ["switch:1"], T=boolean)
    b.op("switch_x", "Switch", [x, choice])
    w = b.const("w", random_weight((24, 24)), control=["switch_t"])
    b.matmul("product", "switch_x:1", w)
    b.op("y", "Merge", ["switch_x:0", "product"], N=2)
    feeds = {"x:0": _feed(2, 24), "choice:0": np.array(True)}
    return Case(b.graph(), feeds, ("y:0",), 2000, "split")


def in_branch() -> Case:
    """tf.cond: w through a Switch, which must not be cut."""
    b = GraphBuilder()
    boolean = ("type", dtypes.DT_BOOL)
    x, w = b.placeholder("x", [2, 24]), b.const("w", random_weight((24, 24)))
    choice = b.placeholder("choice", [], dtypes.DT_BOOL)
    b.op("choice/read", "Identity", [choice], T=boolean)
    b.op("switch_w", "Switch", [w, choice])
    b.op("switch_x", "Switch", [x, choice])
    b.matmul("product", "switch_x:1", "switch_w:1")
    b.op("y", "Merge", ["switch_x:0", "product"], N=2)
    feeds = {"x:0": _feed(2, 24), "choice:0": np.array(True)}
    return Case(b.graph(), feeds, ("y:0",), 2000, "whole")


def shared(same_axis: bool) -> Case:
    """One weight, two MatMuls: along the same channel axis, or one of them transposed."""
    b = GraphBuilder()
    x, w = b.placeholder("x", [2, 40]), b.const("w", random_weight((40, 40)))
    read = b.op("w/read", "Identity", [w])
    first = b.matmul("first", x, read)
    second = b.matmul("second", first, read, tb=not same_axis)
    b.op("y", "Relu", [second])
    form = "split" if same_axis else "whole"
    return Case(b.graph(), {"x:0": _feed(2, 40)}, ("y:0", "w/read:0"), 4000, form)


def product_of_weights() -> Case:
    """MatMul(a, w): both inputs are weights, both too large."""
    b = GraphBuilder()
    a, w = b.const("a", random_weight((41, 24), 1)), b.const("w", random_weight((24, 41), 2))
    x = b.placeholder("x", [2, 41])
    b.matmul("y", x, b.matmul("product", a, w))
    return Case(b.graph(), {"x:0": _feed(2, 41)}, ("y:0",), 2000, "any")


def _ids(kind: int, *shape: int) -> np.ndarray:
    picks = np.random.RandomState(3).randint(0, 50, size=shape)
    return picks.astype(dtypes.NUMPY[kind])


def gather(
    row: Tuple[int, ...] = (13,),
    v2: bool = True,
    kind: int = dtypes.DT_INT32,
    dtype: Any = np.float32,
    ids_shape: Tuple[int, ...] = (2, 3),
) -> Case:
    """An embedding table of 50 rows, read by Gather or GatherV2."""
    b = GraphBuilder()
    w = b.const("w", random_weight((50, *row), dtype=dtype))
    ids = b.placeholder("ids", list(ids_shape), kind)
    attrs = {"Tparams": ("type", dtypes.FROM_NUMPY[np.dtype(dtype)]), "Tindices": ("type", kind)}
    if v2:
        axis = b.const("axis", 0)
        b.op("y", "GatherV2", [w, ids, axis], Taxis=("type", dtypes.DT_INT32), **attrs)
    else:
        b.op("y", "Gather", [w, ids], validate_indices=True, **attrs)
    return Case(b.graph(), {"ids:0": _ids(kind, *ids_shape)}, ("y:0", "w:0"), 500, "rows")


def gather_columns() -> Case:
    """GatherV2 along axis 1: no rows."""
    b = GraphBuilder()
    w = b.const("w", random_weight((13, 50)))
    ids, axis = b.placeholder("ids", [3], dtypes.DT_INT32), b.const("axis", 1)
    int32 = ("type", dtypes.DT_INT32)
    attrs = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": int32, "Taxis": int32}
    b.op("y", "GatherV2", [w, ids, axis], **attrs)
    return Case(b.graph(), {"ids:0": _ids(dtypes.DT_INT32, 3)}, ("y:0",), 500, "whole")


def tied() -> Case:
    """A tied embedding: rows gathered, and the table as a transposed MatMul weight."""
    b = GraphBuilder()
    int32 = ("type", dtypes.DT_INT32)
    w = b.const("w", random_weight((50, 13)))
    read = b.op("w/read", "Identity", [w])
    ids, axis = b.placeholder("ids", [3], dtypes.DT_INT32), b.const("axis", 0)
    attrs = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": int32, "Taxis": int32}
    row = b.op("row", "GatherV2", [read, ids, axis], **attrs)
    b.matmul("y", row, read, tb=True)
    return Case(b.graph(), {"ids:0": _ids(dtypes.DT_INT32, 3)}, ("y:0", "row:0"), 1000, "rows")


def tied_wrong_axis() -> Case:
    """A table that is gathered by rows and multiplied along the other axis: it stays whole."""
    b = GraphBuilder()
    int32 = ("type", dtypes.DT_INT32)
    w = b.const("w", random_weight((50, 13)))
    ids, axis = b.placeholder("ids", [3], dtypes.DT_INT32), b.const("axis", 0)
    attrs = {"Tparams": ("type", dtypes.DT_FLOAT), "Tindices": int32, "Taxis": int32}
    row = b.op("row", "GatherV2", [w, ids, axis], **attrs)
    x = b.placeholder("x", [2, 50])
    b.matmul("y", x, w)
    feeds = {"ids:0": _ids(dtypes.DT_INT32, 3), "x:0": _feed(2, 50)}
    return Case(b.graph(), feeds, ("y:0", f"{row}:0"), 1000, "whole")


#: Every kind of consumer that the folding limit touches.
CASES: Dict[str, Callable[[], Case]] = {
    "matmul": lambda: matmul(1, False),
    "matmul_tb": lambda: matmul(1, True),
    "matmul_x_transposed": lambda: matmul(1, False, True),
    "matmul_left": lambda: matmul(0, False),
    "matmul_left_ta": lambda: matmul(0, True),
    "matmul_left_ta_x_tb": lambda: matmul(0, True, True),
    "conv2d": conv2d,
    "conv2d_nchw": lambda: conv2d("NCHW"),
    "conv2d_dilated": conv2d_dilated,
    "conv2d_transposed": lambda: conv2d_transposed(False),
    "conv2d_transposed_dynamic": lambda: conv2d_transposed(True),
    "conv2d_transposed_nchw": lambda: conv2d_transposed(False, "NCHW"),
    "conv3d": conv3d,
    "identity": through_identity,
    "cast": through_cast,
    "reversal": through_reversal,
    "half": half_matmul,
    "double": double_matmul,
    "while_loop": in_while_loop,
    "while_loop_no_read": lambda: in_while_loop(False),
    "inside_while_loop": inside_while_loop,
    "gather_inside_while_loop": gather_inside_while_loop,
    "branch": in_branch,
    "inside_branch": inside_branch,
    "shared": lambda: shared(True),
    "shared_crosswise": lambda: shared(False),
    "product_of_weights": product_of_weights,
    "gather": lambda: gather(v2=False),
    "gather_v2": gather,
    "gather_int64": lambda: gather(kind=dtypes.DT_INT64, ids_shape=()),
    "gather_rank3": lambda: gather(row=(3, 5)),
    "gather_vector": lambda: gather(row=(16,), ids_shape=(4,)),
    "gather_half": lambda: gather(dtype=np.float16),
    "gather_double": lambda: gather(dtype=np.float64),
    "gather_columns": gather_columns,
    "tied": tied,
    "tied_wrong_axis": tied_wrong_axis,
}

#: Here w is in a frame or a branch, and cannot be fetched from outside.
NOT_FETCHABLE = ("inside_while_loop", "gather_inside_while_loop", "inside_branch")

#: TensorFlow has no CPU kernel for these.
NO_CPU_KERNEL = ("conv2d_nchw", "conv2d_transposed_nchw")


def function_graph(dtype: Any = np.float32, shape: Tuple[int, int] = (24, 40)) -> Graph:
    """x -> PartitionedCall(dense) -> (y, w): a weight in a function body, returned as well."""
    kind = dtypes.FROM_NUMPY[np.dtype(dtype)]
    b = GraphBuilder()
    inner = GraphBuilder()
    inner.const("w", random_weight(shape, dtype=dtype))
    t = ("type", kind)
    inner.op("w/read", "Identity", ["w:output:0"], T=t)
    inner.op(
        "product", "MatMul", ["x", "w/read:output:0"], T=t, transpose_a=False, transpose_b=False
    )
    function = FunctionDef()
    function.signature.name = "dense"
    function.signature.input_arg.add(name="x", type=kind)
    function.signature.output_arg.add(name="y", type=kind)
    function.signature.output_arg.add(name="weight", type=kind)
    for item in inner.nodes:
        function.node_def.add().ParseFromString(bytes(item.to_bytes()))
    function.ret["y"] = "product:product:0"
    function.ret["weight"] = "w:output:0"
    b.functions.append(function.SerializeToString(deterministic=True))
    x = b.placeholder("x", [2, shape[0]], kind)
    call, types_in, types_out = AttrValue(), AttrValue(), AttrValue()
    call.func.name = "dense"
    types_in.list.type.append(kind)
    types_out.list.type.extend([kind, kind])
    attrs = {"f": call, "Tin": types_in, "Tout": types_out}
    b.op("call", "PartitionedCall", [x], config=b"", config_proto=b"", executor_type=b"", **attrs)
    b.op("y", "Identity", ["call:0"], T=t)
    b.op("w_out", "Identity", ["call:1"], T=t)
    return b.graph()
