"""What an op gets as its weight: numpy beside TensorFlow, and graphs that declare too much."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
import pytest
from builders import GraphBuilder

from graphwq.errors import InputError
from graphwq.graphdef.dtypes import DT_DOUBLE, DT_FLOAT
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_type, new_node
from graphwq.mnn.operand import Operands
from graphwq.survey.view import build

W = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)


def _strided(b: GraphBuilder, first: Any, last: Any, steps: Any, **masks: int) -> str:
    names = [b.const(name, value) for name, value in
             (("begin", first), ("end", last), ("strides", steps))]  # fmt: skip
    attrs = {f"{key}_mask": value for key, value in masks.items()}
    return b.op("y", "StridedSlice", ["w", *names], Index=("type", 3), **attrs)


def _ops() -> Dict[str, Any]:
    """name -> a function that adds the op to a builder; returns what it fetches."""
    return {
        "identity": lambda b: b.op("y", "Identity", ["w"]),
        "expand": lambda b: b.op("y", "ExpandDims", ["w", b.const("d", 1)], Tdim=("type", 3)),
        "squeeze": lambda b: b.op("y", "Squeeze", [b.op("e", "ExpandDims", ["w", b.const("d", 0)],
                                  Tdim=("type", 3))], squeeze_dims=[0]),
        "squeeze_all": lambda b: b.op("y", "Squeeze", [b.op("e", "ExpandDims",
                                      ["w", b.const("d", 0)], Tdim=("type", 3))]),
        "reshape": lambda b: b.op("y", "Reshape", ["w", b.const("s", [6, -1])],
                                  Tshape=("type", 3)),
        "transpose": lambda b: b.op("y", "Transpose", ["w", b.const("p", [3, 0, 2, 1])],
                                    Tperm=("type", 3)),
        "slice": lambda b: b.op("y", "Slice", ["w", b.const("b", [0, 1, 0, 2]),
                                b.const("s", [2, 2, -1, 3])], Index=("type", 3)),
        "strided": lambda b: _strided(b, [0, 0], [0, 2], [1, 1], begin=1, end=1),
        "strided_shrink": lambda b: _strided(b, [1, 0], [2, 3], [1, 2], shrink_axis=1),
        "strided_new": lambda b: _strided(b, [0, 0, 5], [0, 0, 0], [1, 1, -1], ellipsis=1,
                                          new_axis=2, end=4),
        "split": lambda b: b.op("y", "Split", [b.const("d", 3), "w"], num_split=2) + ":1",
        "split_v": lambda b: b.op("y", "SplitV", ["w", b.const("s", [1, -1]), b.const("d", 2)],
                                  num_split=2, Tlen=("type", 3)) + ":1",
        "unpack": lambda b: b.op("y", "Unpack", ["w"], num=3, axis=1) + ":2",
        "pack": lambda b: b.op("y", "Pack", ["w", "w"], N=2, axis=1),
        "concat": lambda b: b.op("y", "ConcatV2", ["w", "w", b.const("d", 2)], N=2,
                                 Tidx=("type", 3)),
        "old_concat": lambda b: b.op("y", "Concat", [b.const("d", 2), "w", "w"], N=2),
        "cast": lambda b: b.cast("y", "w", DT_FLOAT, DT_DOUBLE),
        "mul": lambda b: b.op("y", "Mul", ["w", b.const("k", [1.0, 2, 3, 4, 5, 6])]),
        "sub": lambda b: b.op("y", "Sub", ["w", b.const("k", [1.0, 2, 3, 4, 5, 6])]),
    }  # fmt: skip


def _graph(add: Any) -> Any:
    b = GraphBuilder()
    b.const("w", W)
    name = add(b)
    return b.graph(), name


@pytest.mark.tf
@pytest.mark.parametrize("name", _ops())
def test_beside_tensorflow(name: str) -> None:
    """Every op that can stand between a weight and its consumer, as TensorFlow computes it."""
    from graphwq.tf1.session import Runner

    graph, fetched = _graph(_ops()[name])
    found = Operands(build(graph).main).value(fetched)
    tensor = fetched if ":" in fetched else f"{fetched}:0"
    with Runner(graph, optimize=False) as runner:
        expected = runner.run([tensor])[tensor]
    assert found is not None
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_given_values_stand_for_nodes() -> None:
    """Codes in place of the weight go the same way."""
    graph, name = _graph(_ops()["transpose"])
    codes = np.ones_like(W)
    found = Operands(build(graph).main, {"w": codes}).value(name)
    assert found is not None
    assert found.shape == (6, 2, 4, 3)
    assert found.min() == 1


def _cyclic() -> Graph:
    b = GraphBuilder()
    b.op("y", "Identity", ["z"])
    b.op("z", "Identity", ["y"])
    return b.graph()


def _fed() -> Graph:
    b = GraphBuilder()
    b.op("y", "Identity", [b.placeholder("x", [1])])
    return b.graph()


def _huge() -> Graph:
    b = GraphBuilder()
    for name, shape in (("k", (1 << 14, 1)), ("l", (1, 1 << 14))):
        b.const(name, np.ones(shape, np.float32))
    b.op("y", "Mul", ["k", "l"])
    return b.graph()


def _deep() -> Graph:
    b = GraphBuilder()
    name = b.const("w", W)
    for index in range(3000):
        name = b.op(f"i{index}", "Identity", [name])
    b.op("y", "Identity", [name])
    return b.graph()


@pytest.mark.parametrize("make", [_cyclic, _fed, _huge, _deep])
def test_no_value(make: Any) -> None:
    """Cycles, fed tensors, absurd sizes and depths give None."""
    assert Operands(build(make()).main).value("y") is None
    assert Operands(build(make()).main).value("missing") is None


def test_a_constant_that_declares_too_much() -> None:
    """One value for 2^40 elements."""
    b = GraphBuilder()
    proto = b"\x08\x01\x12\x0a\x12\x08\x08\x80\x80\x80\x80\x80\x80\x01\x2a\x04\x00\x00\x80\x3f"
    value = b"\x42" + bytes([len(proto)]) + proto
    b.add(new_node("y", "Const", (), {"dtype": attr_type(DT_FLOAT), "value": value}))
    try:
        found = Operands(build(b.graph()).main).value("y")
    except InputError:
        return
    assert found is None


def test_constants_that_do_not_fit() -> None:
    """An impossible reshape is bad input that names the node."""
    graph, name = _graph(
        lambda b: b.op("y", "Reshape", ["w", b.const("s", [5, -1])], Tshape=("type", 3))
    )
    with pytest.raises(InputError, match="'y'"):
        Operands(build(graph).main).value(name)


def test_default_permutation() -> None:
    """tf.transpose without a permutation computes it from the rank."""
    b = GraphBuilder()
    w = b.const("w", W[0, 0])
    rank = b.op("rank", "Rank", [w])
    types: List[Any] = [b.const("start", 0), rank, b.const("delta", 1)]
    axes = b.op("range", "Range", types, Tidx=("type", 3))
    top = b.op("top", "Sub", [rank, b.const("one", 1)], T=("type", 3))
    perm = b.op("perm", "Sub", [top, axes], T=("type", 3))
    b.op("y", "Transpose", [w, perm], Tperm=("type", 3))
    found = Operands(build(b.graph()).main).value("y")
    assert np.array_equal(found, W[0, 0].T)
