"""Law 9: any bytes give a Graph or an InputError, nothing else, in bounded time.

What parses is surveyed as well: a Survey or a GraphWQError. The time bound of one example is
generous, so that a busy machine does not fail it; what it catches is work that explodes.
"""

from __future__ import annotations

import functools
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple, Type

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import field, graph_bytes, mutated

from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_int, attr_type, new_node
from graphwq.graphdef.source import load
from graphwq.survey.locate import locate
from graphwq.survey.sites import Survey

_SECONDS = 10.0
#: Files above this size make slow examples.
_SMALL = 12_000


def _outcome(call: Callable[[], Any], *allowed: Type[Exception]) -> Any:
    """The result of ``call``, or the message of an exception that is ``allowed``."""
    try:
        return call()
    except allowed as error:
        return str(error)


def _survey(data: bytes) -> Optional[Survey]:
    """The survey, or None where the bytes are refused; any other outcome is a bug."""
    began = time.perf_counter()
    graph = _outcome(lambda: Graph.parse(data), InputError)
    survey = _outcome(lambda: locate(graph), GraphWQError) if isinstance(graph, Graph) else graph
    assert time.perf_counter() - began < _SECONDS
    assert survey, "an error without a message helps nobody"
    return survey if isinstance(survey, Survey) else None


# -------------------------------------------------------------------------------- damaged files


def _lstm() -> bytes:
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4])
    w = b.const("w", random_weight((8, 4)))
    entered = b.op("w/enter", "Enter", [w], frame_name="loop", is_constant=True)
    axis = b.const("axis", 1)
    b.op("cat", "ConcatV2", [x, x, axis], Tidx=("type", dtypes.DT_INT32), N=2)
    product = b.matmul("mul", "cat", entered)
    b.op("split", "Split", [axis, product], num_split=2)
    b.op("y", "Sigmoid", ["split:2"])
    return b.to_bytes()


def _moved() -> bytes:
    b = GraphBuilder()
    x = b.placeholder("x", [1, 8, 8, 4])
    w = b.const("w", random_weight((4, 6)))
    shape = b.const("shape", np.array([1, 1, 4, 6], np.int32))
    perm = b.const("perm", np.array([0, 1, 2, 3], np.int32))
    reshaped = b.op("w4", "Reshape", [w, shape])
    b.conv("y", x, b.op("wt", "Transpose", [reshaped, perm]))
    table = b.const("table", random_weight((2, 4)))
    ids = b.placeholder("ids", [-1], dtypes.DT_INT32)
    b.op("rows", "GatherV2", [table, ids, b.const("zero", 0)])
    begin, end = b.const("begin", np.array([0, 0])), b.const("end", np.array([2, 4]))
    strides = b.const("strides", np.array([1, 1]))
    part = b.op("part", "StridedSlice", [w, begin, end, strides], begin_mask=1, end_mask=2)
    b.matmul("z", "rows", part)
    return b.to_bytes()


def _called() -> bytes:
    from tensorboard.compat.proto.function_pb2 import FunctionDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    function = FunctionDef()
    function.signature.name = "f"
    function.signature.input_arg.add(name="a", type=1)
    function.signature.input_arg.add(name="k", type=1)
    function.node_def.add(name="m", op="MatMul", input=["a", "k"])
    call = NodeDef(name="call", op="PartitionedCall", input=["x", "w"])
    call.attr["f"].func.name = "f"
    b = GraphBuilder()
    b.placeholder("x", [1, 4])
    b.const("w", random_weight((4, 3)))
    b.functions.append(function.SerializeToString())
    return b.to_bytes() + field(1, call.SerializeToString())


def _stored() -> bytes:
    """Weights that are already integers, of two forms, and one that is not."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4])
    codes = b.const("codes", np.ones((4, 3), np.int8))
    cast = b.op("cast", "Cast", [codes], DstT=("type", dtypes.DT_FLOAT))
    whole = b.op("w", "Mul", [cast, b.const("scale", np.ones((1, 3), np.float32))])
    packed = b.const("packed", np.ones((2, 2), np.uint8))
    index = b.op("index", "Cast", [packed], DstT=("type", dtypes.DT_INT32))
    table, zero = b.const("table", np.ones((256, 2), np.float32)[:4]), b.const("zero", 0)
    rows = b.op("rows", "GatherV2", [table, index, zero])
    shaped = b.op("shaped", "Reshape", [rows, b.const("shape", np.array([2, 4]))])
    second = b.op("w2", "Mul", [shaped, b.const("scale2", np.float32(0.5).reshape(1, 1))])
    hidden = b.matmul("h", b.matmul("g", x, whole), b.const("v", random_weight((3, 2))))
    b.matmul("y", hidden, second)
    return b.to_bytes()


_OWN = [convolution((1, 1, 4, 3)).to_bytes(), dense(5, 3).to_bytes(), _lstm(), _moved(), _called()]
_OWN.append(_stored())


def test_the_seeds_are_good_graphs() -> None:
    """Undamaged, every seed has a weight: damage is what the other tests add."""
    for data in _OWN:
        survey = _survey(data)
        assert survey is not None
        assert survey.sites


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Random bytes: a graph (of fields nobody knows) or an InputError."""
    _survey(data)


@given(st.binary(max_size=60), st.sampled_from([1, 2, 4]))
def test_any_bytes_in_a_field_of_a_graph(data: bytes, number: int) -> None:
    """Random bytes as node, library or versions."""
    _survey(field(number, data))
    _survey(field(1, b"\x0a\x01a\x12\x05Const" + data))
    _survey(field(2, field(1, data)))


@given(graph_bytes(max_nodes=8))
def test_valid_graphs_that_make_no_sense(data: bytes) -> None:
    """Legal messages with random names, ops and attributes are surveyed or refused."""
    Graph.parse(data)
    _survey(data)


@settings(max_examples=max(300, settings().max_examples))
@given(mutated(_OWN))
def test_damaged_graphs(data: bytes) -> None:
    """Cut, flipped, spliced: a graph or an InputError, and a survey or a GraphWQError."""
    _survey(data)


@pytest.mark.parametrize("seed", range(len(_OWN)))
def test_every_cut(seed: int) -> None:
    """Every possible length of every seed."""
    for length in range(len(_OWN[seed])):
        _survey(_OWN[seed][:length])


@pytest.mark.parametrize("seed", range(len(_OWN)))
def test_every_byte_broken(seed: int) -> None:
    """Every byte of every seed set to two bad values, one at a time."""
    for place in range(len(_OWN[seed])):
        for value in (0x00, 0xFF):
            data = bytearray(_OWN[seed])
            data[place] = value
            _survey(bytes(data))


def test_damaged_real_graphs(corpus: Path) -> None:
    """The small graphs of the corpus, damaged a few hundred times (seeded)."""
    entries = json.loads((corpus / "manifest.json").read_text())
    small = sorted(e["file"] for e in entries if e["bytes"] <= _SMALL)
    sources = [(corpus / name).read_bytes() for name in small]
    assert sources

    @settings(max_examples=max(200, settings().max_examples))
    @given(mutated(sources))
    def run(data: bytes) -> None:
        _survey(data)

    run()


@settings(max_examples=max(50, settings().max_examples // 4))
@given(data=mutated(_OWN))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """The same through files, binary and text: a graph or an InputError that names the file."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("g.pb", "g.pbtxt"):
        path = folder / name
        path.write_bytes(data)
        outcome = _outcome(functools.partial(load, path), InputError)
        assert isinstance(outcome, Graph) or name in outcome


_TEXT = (
    b'node { name: "w" op: "Const" attr { key: "dtype" value { type: DT_FLOAT } } attr { key: '
    b'"value" value { tensor { dtype: DT_FLOAT tensor_shape { dim { size: 2 } } float_val: 1.5 } } '
    b'} }\nnode { name: "y" op: "Identity" input: "w" device: "\\1" }\nversions { producer: 27 }\n'
)


@given(data=mutated([_TEXT, b"{}:<>[],\"'\\\n#-99999999999999999999 1e999 nan DT_FLOAT true"]))
def test_damaged_text(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Damaged text graphs too."""
    path = tmp_path_factory.mktemp("fuzz") / "g.pbtxt"
    path.write_bytes(data)
    outcome = _outcome(lambda: load(path), InputError)
    assert isinstance(outcome, Graph) or "g.pbtxt" in outcome


# ----------------------------------------------------------------------- graphs that mean harm

_WILD_INTS = st.sampled_from([-(2**63), -5, 7, 2**31, 2**63 - 1])
_SANE_INTS = st.integers(-1, 4)
_INTS = st.integers(0, 9).flatmap(lambda n: _SANE_INTS if n else _WILD_INTS)
_UNARY = ["Identity", "Enter", "Switch", "Cast", "Squeeze", "Unpack", "Pack", "StopGradient"]
#: Ops whose first input is the weight; the shapes of the constants behind it (s: one number).
_WITH_CONSTANTS = {
    "ExpandDims": "s",
    "Transpose": "v",
    "Reshape": "v",
    "Slice": "vv",
    "StridedSlice": "vvv",
    "SplitV": "vs",
    "ConcatV2": "s",
    "GatherV2": "vs",
}
_CONSUMERS = ["MatMul", "Conv2D", "DepthwiseConv2dNative", "BatchMatMul", "Einsum", "Gather", "Mul"]
_MASKS = [f"{kind}_mask" for kind in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")]
_ATTRS = {
    "StridedSlice": _MASKS,
    "Unpack": ["axis"],
    "Pack": ["axis"],
    "Squeeze": ["squeeze_dims"],
    "Split": ["num_split"],
    "Cast": ["DstT"],
    "GatherV2": ["batch_dims"],
    "MatMul": ["transpose_a", "transpose_b"],
    "BatchMatMul": ["adj_x"],
    "Einsum": ["equation"],
}


@st.composite
def hostile_graphs(draw: st.DrawFn) -> bytes:
    """Real ops on a weight with parameters that no sane writer gives them."""
    b = GraphBuilder()
    b.placeholder("x", None)
    shape = draw(st.lists(st.sampled_from([1, 2, 2, 3, 4, 4, 0]), max_size=4))
    b.const("w", np.zeros(shape, np.float32))
    names = ["w"]
    for number in range(draw(st.integers(1, 7))):
        name = f"n{number}"
        source = draw(st.sampled_from([names[-1], names[-1], *names, "x", "nobody"]))
        source += draw(st.sampled_from(["", "", "", ":1", ":7"]))
        kind = draw(st.sampled_from(["unary", "constants", "constants", "split", "consumer"]))
        if kind == "unary":
            op, inputs = draw(st.sampled_from(_UNARY)), [source]
        elif kind == "split":
            op, inputs = "Split", [_constant(draw, b, name + "/c", "s"), source]
        elif kind == "constants":
            op = draw(st.sampled_from(sorted(_WITH_CONSTANTS)))
            kinds = _WITH_CONSTANTS[op][: draw(st.sampled_from([3, 3, 3, 3, 1, 0]))]
            constants = [_constant(draw, b, f"{name}/{i}", kind) for i, kind in enumerate(kinds)]
            inputs = [source, *constants]
        else:
            op = draw(st.sampled_from(_CONSUMERS))
            inputs = [source] + ["x"] * draw(st.integers(0, 1))
            inputs = inputs if draw(st.booleans()) else inputs[::-1]
        if draw(st.integers(0, 19)) == 0:
            inputs.insert(0, "^" + draw(st.sampled_from(["w", "x", name])))
        b.op(name, op, inputs, **{key: _attr(draw, key) for key in _ATTRS.get(op, [])})
        names.append(name)
    b.matmul("end", "x", names[-1])
    return b.to_bytes()


def _attr(draw: st.DrawFn, key: str) -> Any:
    if key == "squeeze_dims":
        return draw(st.lists(_INTS, max_size=2))
    if key == "equation":
        return draw(st.sampled_from(["ab,bc->ac", "a,b", "...a,ab->b", "->", "", "ab->b"]))
    return draw(_INTS)


def _constant(draw: st.DrawFn, b: GraphBuilder, name: str, kind: str) -> str:
    values = draw(st.lists(_INTS, min_size=1, max_size=4))
    dtype = draw(st.sampled_from([np.int32, np.int32, np.int64, np.uint64, np.float32]))
    array = np.array(values, np.int64).astype(dtype)
    return b.const(name, array[0].reshape(()) if kind == "s" else array)


@settings(max_examples=max(300, settings().max_examples))
@given(hostile_graphs())
def test_hostile_graphs(data: bytes) -> None:
    """Axes, masks, sizes and shapes beyond reason, cycles, dangling inputs: no crash."""
    _survey(data)


def _two_ellipses() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    two = np.array([0, 0], np.int32)
    names = [b.const(f"c{index}", two + (index == 2)) for index in range(3)]
    b.op("s", "StridedSlice", ["w", *names], ellipsis_mask=3)
    b.matmul("y", "w", "s")
    return b.to_bytes()


def _einsum_behind_a_control_input() -> bytes:
    b = GraphBuilder()
    b.placeholder("x", [1])
    b.const("w", random_weight((4, 4)))
    b.op("y", "Einsum", ["^x", "w"], equation="ab->ab")
    return b.to_bytes()


def _half_a_complex_axis() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    tensor = b"\x08\x08" + b"\x12\x00" + b"\x4d\0\0\x80\x3f"
    value = field(8, tensor)
    b.add(new_node("axis", "Const", (), {"dtype": attr_type(8), "value": value}))
    b.op("e", "ExpandDims", ["w", "axis"])
    return b.to_bytes()


def _axis_of_rank_forty() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    tensor = b"\x08\x03" + field(2, b"\x12\x02\x08\x01" * 40) + b"\x38\x01"
    b.add(new_node("axis", "Const", (), {"dtype": attr_type(3), "value": field(8, tensor)}))
    b.op("e", "ExpandDims", ["w", "axis"])
    return b.to_bytes()


def _slice_beyond_counting() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    b.const("begin", np.array([-(2**63), 0], np.int64))
    b.const("size", np.array([-1, -1], np.int64))
    b.op("s", "Slice", ["w", "begin", "size"])
    names = [b.const(f"c{index}", np.array([index // 2], np.int32)) for index in range(3)]
    b.op("t", "StridedSlice", ["s", *names], begin_mask=1, end_mask=1)
    b.matmul("y", "w", "t")
    return b.to_bytes()


def _superscript_port() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    b.op("y", "Identity", ["w:\u00b2"])
    return b.to_bytes()


def _undecided_cycle() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    b.matmul("a", "b", "w")
    b.matmul("b", "a", "w")
    return b.to_bytes()


def _long_chain() -> bytes:
    b = GraphBuilder()
    name = b.const("w", random_weight((4, 4)))
    for number in range(3000):
        name = b.op(f"i{number}", "Identity", [name])
    b.matmul("y", name, name)
    return b.to_bytes()


def _wide_fan() -> bytes:
    """60 layers of two ops, each using both of the layer before: 2^60 paths."""
    b = GraphBuilder()
    left = right = b.const("w", random_weight((4, 4)))
    for number in range(60):
        left, right = (
            b.op(f"l{number}", "Pack", [left, right], axis=0, N=2),
            b.op(f"r{number}", "Pack", [left, right], axis=0, N=2),
        )
    b.matmul("y", left, right)
    return b.to_bytes()


def _recursive_function() -> bytes:
    from tensorboard.compat.proto.function_pb2 import FunctionDef

    b = GraphBuilder()
    for name, calls in (("f", "g"), ("g", "f")):
        function = FunctionDef()
        function.signature.name = name
        function.signature.input_arg.add(name="a", type=1)
        node = function.node_def.add(name="c", op="PartitionedCall", input=["a"])
        node.attr["f"].func.name = calls
        b.functions.append(function.SerializeToString())
    b.const("w", random_weight((4, 4)))
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    call = NodeDef(name="call", op="PartitionedCall", input=["w"])
    call.attr["f"].func.name = "f"
    return b.to_bytes() + field(1, call.SerializeToString())


def _huge_reshape() -> bytes:
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    b.const("shape", np.array([2**62, -1, 2**62], np.int64))
    b.op("r", "Reshape", ["w", "shape"])
    b.matmul("y", "w", "r")
    return b.to_bytes()


def _nested_attributes() -> bytes:
    inner = b""
    for _ in range(2000):
        inner = field(10, field(1, b"f") + field(2, field(1, b"k") + field(2, inner)))
    b = GraphBuilder()
    b.const("w", random_weight((4, 4)))
    b.add(new_node("call", "PartitionedCall", ("w",), {"f": inner, "N": attr_int(1)}))
    return b.to_bytes()


_HOSTILE: List[Tuple[str, Callable[[], bytes]]] = [
    (make.__name__.strip("_"), make)
    for make in (
        _two_ellipses,
        _einsum_behind_a_control_input,
        _half_a_complex_axis,
        _axis_of_rank_forty,
        _slice_beyond_counting,
        _superscript_port,
        _undecided_cycle,
        _long_chain,
        _wide_fan,
        _recursive_function,
        _huge_reshape,
        _nested_attributes,
    )
]


@pytest.mark.parametrize("make", [make for _, make in _HOSTILE], ids=[name for name, _ in _HOSTILE])
def test_hostile_graphs_by_name(make: Callable[[], bytes]) -> None:
    """Each trap once, so that it stays closed: a survey or a GraphWQError, soon."""
    data = make()
    Graph.parse(data)
    _survey(data)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_small_file_costs_little_memory(count: int) -> None:
    """A file of 100 bytes that declares 256 MB of weights is surveyed without making them."""
    b = GraphBuilder()
    b.placeholder("x", [1, 4])
    shape = field(2, b"\x12\x05\x08\x80\x80\x80\x08" + b"\x12\x02\x08\x04")
    tensor = b"\x08\x01" + shape + b"\x2d\0\0\x80\x3f" * count
    attrs = {"dtype": attr_type(1), "value": field(8, tensor)}
    b.add(new_node("w", "Const", (), attrs))
    b.matmul("y", "x", "w")
    data = b.to_bytes()
    tracemalloc.start()
    try:
        survey = _survey(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert survey is not None
    found = survey.sites or survey.skips
    assert [getattr(item, "node", "") for item in found] == ["w"]
    assert peak < 16_000_000
