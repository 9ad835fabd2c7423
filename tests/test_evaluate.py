"""Constant subgraphs in numpy: each op, what is not constant, and files that are damaged."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from hypothesis import given
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import new_node
from graphwq.quant.packing import planes, table
from graphwq.rewrite.builder import Builder, Place
from graphwq.rewrite.tables import Tables
from graphwq.survey.evaluate import evaluate
from graphwq.survey.view import build


def value_of(op: str, inputs: Sequence[Any], **attrs: Any) -> Optional[np.ndarray]:
    """The value of one op on constants."""
    b = GraphBuilder()
    names = [b.const(f"c{number}", np.asarray(value)) for number, value in enumerate(inputs)]
    b.op("y", op, names, **attrs)
    return evaluate(build(b.graph()).main, "y")


A, B = random_weight((3, 4), 1), random_weight((3, 4), 2)
INTS = np.array([[0, 1, 2], [3, 4, 5]], np.int32)


def _int(*values: int) -> np.ndarray:
    return np.array(values if len(values) != 1 else values[0], np.int32)


Numpy = Callable[..., np.ndarray]
OPS: List[Tuple[str, List[Any], Numpy]] = [
    ("Identity", [A], lambda a: a),
    ("Add", [A, B], lambda a, b: a + b),
    ("AddV2", [A, B[:1]], lambda a, b: a + b),
    ("Sub", [A, B], lambda a, b: a - b),
    ("Mul", [A, B[:, :1]], lambda a, b: a * b),
    ("RealDiv", [A, B[:1]], lambda a, b: a / b),
    ("Neg", [A], lambda a: -a),
    ("Dequantize", [np.uint8([0, 51, 255]), np.float32(-1), np.float32(4)],
     lambda *_: np.float32([-1, 0, 4])),
    ("Floor", [A * 9], lambda a: np.floor(a)),
    ("FloorMod", [A * 9, np.float32(2)], lambda a, b: a - np.floor(a / b) * b),
    ("FloorMod", [_int(-3, 3, 5), _int(4)], lambda a, b: np.array([1, 3, 1], np.int32)),
    ("Range", [np.float32(0), np.float32(256), np.float32(1)],
     lambda *_: np.arange(256, dtype=np.float32)),
    ("Range", [_int(5), _int(-1), _int(-2)], lambda *_: _int(5, 3, 1)),
    ("ExpandDims", [A, _int(1)], lambda a, _: a[:, None]),
    ("ExpandDims", [A, _int(-1)], lambda a, _: a[..., None]),
    ("Reshape", [A, _int(2, 6)], lambda a, _: a.reshape(2, 6)),
    ("Reshape", [A, _int(-1, 2)], lambda a, _: a.reshape(6, 2)),
    ("Slice", [A, _int(1, 0), _int(2, 3)], lambda a, *_: a[1:3, :3]),
    ("Slice", [A, _int(0, 2), _int(-1, -1)], lambda a, *_: a[:, 2:]),
    ("Gather", [A, INTS % 3], lambda a, i: a[i]),
    ("GatherV2", [A, INTS % 4, _int(1)], lambda a, i, _: a[:, i]),
    ("GatherV2", [A, INTS % 4, _int(-1)], lambda a, i, _: a[:, i]),
    ("ConcatV2", [A, B, A, _int(0)], lambda a, b, c, _: np.concatenate([a, b, c])),
    ("ConcatV2", [A, B, _int(-1)], lambda a, b, _: np.concatenate([a, b], 1)),
    ("Transpose", [A, _int(1, 0)], lambda a, _: a.T),
    ("BatchMatMulV2", [A, A.T.copy()], lambda a, b: a @ b),
    ("BatchMatMulV2", [A, np.stack([A.T, -A.T])], lambda a, b: np.stack([a @ b[0], a @ b[1]])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "numpy"), OPS, ids=[f"{case[0]}-{n}" for n, case in enumerate(OPS)]
)
def test_an_op(op: str, inputs: List[Any], numpy: Numpy) -> None:
    """The same values, shape and dtype as the arithmetic written out."""
    found, expected = value_of(op, inputs), numpy(*inputs)
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (np.array([-128, 0, 127], np.int8), dtypes.DT_FLOAT),
        (np.array([0, 255], np.uint8), dtypes.DT_INT32),
        (np.array([1.5, -1.5, 2.0], np.float32), dtypes.DT_INT32),
        (np.array([1.1, 65504.0], np.float32), dtypes.DT_HALF),
        (np.array([1.1], np.float16), dtypes.DT_DOUBLE),
    ],
)
def test_casts(value: np.ndarray, target: int) -> None:
    """Between whole numbers and floats of every width, towards zero."""
    found = value_of("Cast", [value], DstT=("type", target))
    assert found is not None
    assert found.dtype == dtypes.NUMPY[target]
    np.testing.assert_array_equal(found, value.astype(dtypes.NUMPY[target]))


@pytest.mark.parametrize("target", [dtypes.DT_STRING, dtypes.DT_BFLOAT16, dtypes.DT_VARIANT, 77])
def test_casts_to_what_numpy_does_not_have(target: int) -> None:
    """No value is made up: bfloat16 least of all, whose bits numpy would take for whole numbers."""
    with pytest.raises(InputError, match="'y'"):
        value_of("Cast", [A], DstT=("type", target))


# ------------------------------------------------------------------------------- fake quantization


def _nudged(low: float, high: float, bits: int, narrow: bool) -> Tuple[np.float32, ...]:
    """Range and step of a FakeQuant op, step by step in float32, from the op's description.

    The zero point is rounded half away from zero, as std::round does.
    """
    first, last = np.float32(1 if narrow else 0), np.float32(2**bits - 1)
    low, high = np.float32(low), np.float32(high)
    scale = np.float32(np.float32(high - low) / np.float32(last - first))
    exact = float(np.float32(first - np.float32(low / scale)))
    zero = min(max(exact, float(first)), float(last))
    zero = np.float32(np.floor(zero + 0.5))
    return np.float32((first - zero) * scale), np.float32((last - zero) * scale), scale


def _fake(x: float, low: float, high: float, bits: int, narrow: bool) -> np.float32:
    bottom, top, scale = _nudged(low, high, bits, narrow)
    shifted = np.float32(min(max(np.float32(x), bottom), top) - bottom)
    steps = np.floor(np.float32(shifted * np.float32(np.float32(1) / scale)) + np.float32(0.5))
    return np.float32(np.float32(steps * scale) + bottom)


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8),
    st.floats(-3, -0.125, width=32),
    st.floats(0.125, 3, width=32),
    st.integers(2, 8),
    st.booleans(),
)
def test_fake_quant(values: List[float], low: float, high: float, bits: int, narrow: bool) -> None:
    """The same float32 numbers as the formula, element by element."""
    x = np.array(values, np.float32)
    inputs = [x, np.float32(low), np.float32(high)]
    found = value_of("FakeQuantWithMinMaxVars", inputs, num_bits=bits, narrow_range=narrow)
    assert found is not None
    expected = np.array([_fake(item, low, high, bits, narrow) for item in values], np.float32)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("low", "high"), [(-2.5, 252.5), (-0.5, 254.5), (-3.5, 251.5)])
def test_fake_quant_rounds_its_zero_point_away_from_zero(low: float, high: float) -> None:
    """A zero point of 2.5 becomes 3 as in TensorFlow, not 2 as by numpy's rounding to even."""
    x = np.arange(-5, 5, dtype=np.float32)
    found = value_of("FakeQuantWithMinMaxVars", [x, np.float32(low), np.float32(high)])
    expected = [_fake(item, low, high, 8, False) for item in x]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_fake_quant_of_an_empty_range_is_zero() -> None:
    """min = max = 0 gives zeros in TensorFlow, no NaN."""
    inputs = [A, np.float32(0), np.float32(0)]
    np.testing.assert_array_equal(value_of("FakeQuantWithMinMaxVars", inputs), np.zeros_like(A))


@pytest.mark.parametrize("bits", range(2, 9))
def test_fake_quant_maps_codes_to_themselves(bits: int) -> None:
    """On a narrow range of -T..T the codes are the grid."""
    top = np.float32(2 ** (bits - 1) - 1)
    codes = np.arange(-top, top + 1, dtype=np.float32)
    inputs = [codes, -top, top]
    found = value_of("FakeQuantWithMinMaxVars", inputs, num_bits=bits, narrow_range=True)
    np.testing.assert_array_equal(found, codes)


def test_fake_quant_per_channel() -> None:
    """Each last axis index has its own range."""
    low, high = np.array([-1, -2, -3, -4], np.float32), np.array([1, 2, 3, 4], np.float32)
    op = "FakeQuantWithMinMaxVarsPerChannel"
    found = value_of(op, [A * 20, low, high], num_bits=4, narrow_range=True)
    assert found is not None
    for column in range(4):
        inputs = [A[:, column] * np.float32(20), low[column], high[column]]
        alone = value_of("FakeQuantWithMinMaxVars", inputs, num_bits=4, narrow_range=True)
        assert alone is not None
        np.testing.assert_allclose(found[:, column], alone, rtol=1e-6)


# ------------------------------------------------------------------------------- put together


@pytest.mark.parametrize("bits", range(2, 8))
def test_the_decoding_tables_that_a_graph_makes(bits: int) -> None:
    """The tables of our own packed form, computed by their nodes, are those of the packing."""
    builder = Builder(Place("", "w", "", (), {}), "q0")
    tables = Tables("q")
    refs = [tables.table(builder, plane) for plane in planes(bits)]
    b = GraphBuilder()
    for node in builder.nodes:
        b.add(node)
    view = build(b.graph()).main
    for ref, plane in zip(refs, planes(bits)):
        np.testing.assert_array_equal(evaluate(view, ref), table(plane))


def test_a_constant_is_its_own_value() -> None:
    """No op at all."""
    b = GraphBuilder()
    b.const("c", A)
    np.testing.assert_array_equal(evaluate(build(b.graph()).main, "c"), A)


def test_a_node_that_is_used_many_times_is_computed() -> None:
    """x + x, added to itself again and again: every node once, however often it is used."""
    b = GraphBuilder()
    name = b.const("c", np.float32(1))
    for number in range(60):
        name = b.op(f"n{number}", "Add", [name, name])
    found = evaluate(build(b.graph()).main, name)
    assert found is not None, "it is made of constants alone"
    assert found == np.float32(2**60)


def test_a_long_chain_needs_no_stack() -> None:
    """Five thousand nodes in a row: no recursion."""
    b = GraphBuilder()
    name, one = b.const("c", np.float32(0)), b.const("one", np.float32(1))
    for number in range(5000):
        name = b.op(f"n{number}", "Add", [name, one])
    begin = time.process_time()
    assert evaluate(build(b.graph()).main, name) == 5000.0
    assert time.process_time() - begin < 3


def test_control_inputs_carry_no_value() -> None:
    """They are left out, wherever they come from."""
    b = GraphBuilder()
    b.placeholder("x")
    b.const("c", A, control=["x"])
    b.op("y", "Identity", ["c", "^x"])
    np.testing.assert_array_equal(evaluate(build(b.graph()).main, "y"), A)


def test_references_in_a_function() -> None:
    """``node:output:0`` is resolved in a body."""
    b, body = GraphBuilder(), GraphBuilder()
    body.const("c", A)
    body.op("y", "Add", ["c:output:0", "c:output:0"])
    b.function("f", [("x", dtypes.DT_FLOAT)], body)
    np.testing.assert_array_equal(evaluate(build(b.graph()).scopes["f"], "y"), A + A)


# ----------------------------------------------------------------------------------- no constant


def test_what_is_not_constant_has_no_value() -> None:
    """Fed, unknown, missing, random: None, whatever else the node needs."""
    b = GraphBuilder()
    c, x = b.const("c", A), b.placeholder("x")
    b.op("fed", "Add", [c, x])
    b.op("behind_fed", "Mul", ["fed", c])
    b.op("unknown", "Sigmoid", [c])
    b.op("lost", "Add", [c, "nowhere"])
    b.op("random", "RandomUniform", [c])
    b.add(new_node("hollow", "Const", (), {}))
    view = build(b.graph()).main
    for name in ("x", "fed", "behind_fed", "unknown", "lost", "random", "hollow", "no_such_node"):
        assert evaluate(view, name) is None


def test_an_argument_is_not_constant() -> None:
    """What the caller gives is not known."""
    b, body = GraphBuilder(), GraphBuilder()
    body.op("y", "Identity", ["x"])
    b.function("f", [("x", dtypes.DT_FLOAT)], body)
    assert evaluate(build(b.graph()).scopes["f"], "y") is None


def test_a_cycle_has_no_value() -> None:
    """And no end, so it is given up."""
    b = GraphBuilder()
    b.const("c", A)
    b.op("a", "Add", ["b", "c"])
    b.op("b", "Add", ["a", "c"])
    b.op("self", "Identity", ["self"])
    view = build(b.graph()).main
    assert evaluate(view, "a") is None
    assert evaluate(view, "self") is None


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("Add", [A, random_weight((5, 7))]),
        ("Add", [A]),
        ("Identity", []),
        ("Reshape", [A, _int(5, 5)]),
        ("Gather", [A, _int(0, 9)]),
        ("Gather", [A, np.float32(1.5)]),
        ("GatherV2", [A, _int(0, 1), _int(2)]),
        ("GatherV2", [A, _int(0, 1)]),
        ("ConcatV2", [A, random_weight((5, 7)), _int(0)]),
        ("ConcatV2", [_int(0)]),
        ("ConcatV2", [A, _int(0, 1)]),
        ("Transpose", [A, _int(0, 0)]),
        ("ExpandDims", [A, _int(5)]),
        ("Slice", [A, _int(0, 0, 0), _int(1, 1, 1)]),
        ("Range", [_int(0), _int(5), _int(0)]),
        ("Range", [np.float32(0), np.float32(1e30), np.float32(1)]),
        ("Range", [_int(0, 1), _int(5), _int(1)]),
        ("FakeQuantWithMinMaxVars", [A, np.float32(0)]),
        ("BatchMatMulV2", [A, random_weight((5, 7))]),
        ("BatchMatMulV2", [A]),
        ("BatchMatMulV2", [A, np.float32(1)]),
        ("Cast", []),
    ],
)
def test_constants_that_do_not_fit_together(op: str, inputs: List[Any]) -> None:
    """A damaged file is an InputError, never another exception."""
    with pytest.raises(InputError):
        value_of(op, inputs)


@pytest.mark.parametrize("which", ["adj_x", "adj_y"])
def test_products_of_transposed_operands_are_not_guessed(which: str) -> None:
    """graphwq makes none, so they are refused and never multiplied as they stand."""
    b = GraphBuilder()
    square = b.const("square", random_weight((4, 4)))
    b.op("y", "BatchMatMulV2", [square, square], **{which: True})
    with pytest.raises(InputError, match="transposes"):
        evaluate(build(b.graph()).main, "y")


@pytest.mark.parametrize("op", ["Add", "Mul", "FloorMod", "Gather", "ConcatV2", "Reshape"])
def test_strings_do_not_crash(op: str) -> None:
    """A string constant in the wrong place is the file's fault."""
    from graphwq.graphdef.graph import Graph
    from graphwq.graphdef.protos import GraphDef

    proto = GraphDef()
    node = proto.node.add(name="s", op="Const")
    node.attr["dtype"].type = dtypes.DT_STRING
    node.attr["value"].tensor.dtype = dtypes.DT_STRING
    node.attr["value"].tensor.string_val.append(b"text")
    b = GraphBuilder()
    b.op("y", op, ["s", "s", "s"])
    view = build(Graph.parse(b.to_bytes() + proto.SerializeToString())).main
    try:
        evaluate(view, "y")
    except InputError:
        pass


@pytest.mark.parametrize("bits", [-(2**63), -1, 0, 1, 17, 64, 2**31, 2**62])
def test_fake_quant_of_no_width(bits: int) -> None:
    """A width that no FakeQuant has is an error, not a number of 2^62 bits."""
    with pytest.raises(InputError, match=r"num_bits .*: 2\.\.16 is possible"):
        value_of("FakeQuantWithMinMaxVars", [A, A.min(), A.max()], num_bits=bits)


@pytest.mark.parametrize("bits", [2, 16])
def test_fake_quant_of_the_outermost_widths(bits: int) -> None:
    """Both are possible."""
    assert value_of("FakeQuantWithMinMaxVars", [A, A.min(), A.max()], num_bits=bits) is not None
