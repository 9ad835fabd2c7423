"""Small constants as parameters: what counts as one, and what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.graphdef.dtypes import DT_FLOAT, DT_INT32
from graphwq.graphdef.newnode import new_node
from graphwq.survey.constants import constant_input, constant_int, constant_ints
from graphwq.survey.view import ScopeView, build


def view_with(value: Any, *passing: str) -> ScopeView:
    """x, Const(value) -> passing ops -> node ``y`` (input 1)."""
    b = GraphBuilder()
    ref = b.const("c", value)
    for number, op in enumerate(passing):
        ref = b.op(f"pass{number}", op, [ref])
    b.op("y", "Reshape", [b.placeholder("x", [4]), ref])
    return build(b.graph()).main


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int8])
def test_whole_numbers_of_any_width(dtype: Any) -> None:
    """Shapes and axes come as int32 or int64."""
    view = view_with(np.array([3, 1, 4], dtype))
    assert constant_ints(view, view.nodes["y"], 1) == (3, 1, 4)


def test_negative_numbers_and_a_repeated_value() -> None:
    """-1 is an axis; a list that repeats its last value is filled up."""
    view = view_with(np.array([-1, -1], np.int32))
    assert constant_ints(view, view.nodes["y"], 1) == (-1, -1)


@pytest.mark.parametrize("op", ["Identity", "Enter", "RefEnter", "StopGradient", "Snapshot"])
def test_ops_that_pass_a_constant_on(op: str) -> None:
    """A constant inside a while loop is entered first."""
    view = view_with(np.array([2, 2], np.int32), op, op)
    assert constant_ints(view, view.nodes["y"], 1) == (2, 2)


def test_a_scalar_and_a_list_of_one_are_a_single_number() -> None:
    """Split takes its axis as a scalar, old ConcatV2 graphs as a list of one."""
    for value in (np.int32(2), np.array([2], np.int32)):
        view = view_with(value)
        assert constant_int(view, view.nodes["y"], 1) == 2


def test_several_numbers_are_no_single_number() -> None:
    """Nothing is picked from a list."""
    for value in ([1, 2], []):
        view = view_with(np.array(value, np.int32))
        assert constant_int(view, view.nodes["y"], 1) is None
        assert constant_ints(view, view.nodes["y"], 1) == tuple(value)


@pytest.mark.parametrize("value", [[1.0, 2.0], [True, False]])
def test_floats_and_truth_values_are_no_whole_numbers(value: Any) -> None:
    """2.0 is no axis; the value itself can be had."""
    array = np.array(value, np.float32 if isinstance(value[0], float) else np.bool_)
    view = view_with(array)
    assert constant_ints(view, view.nodes["y"], 1) is None
    found = constant_input(view, view.nodes["y"], 1)
    assert found is not None
    np.testing.assert_array_equal(found, array)


def test_a_large_constant_is_no_parameter() -> None:
    """1024 elements are the limit: nothing large is decoded for nothing."""
    view = view_with(np.arange(1024, dtype=np.int32))
    assert constant_ints(view, view.nodes["y"], 1) == tuple(range(1024))
    view = view_with(np.arange(1025, dtype=np.int32))
    assert constant_input(view, view.nodes["y"], 1) is None


def test_a_computed_value_is_unknown() -> None:
    """Shape of a tensor, arithmetic: not evaluated here."""
    b = GraphBuilder()
    x = b.placeholder("x", [4])
    shape = b.op("shape", "Shape", [x])
    b.op("y", "Reshape", [x, shape])
    b.op("z", "Reshape", [x, b.op("sum", "Add", [b.const("c", [1]), b.const("d", [2])])])
    view = build(b.graph()).main
    assert constant_input(view, view.nodes["y"], 1) is None
    assert constant_input(view, view.nodes["z"], 1) is None


def test_what_is_fed_is_unknown() -> None:
    """A placeholder has no value, nor has an argument of a function."""
    b, body = GraphBuilder(), GraphBuilder()
    b.op("y", "Reshape", [b.placeholder("x", [4]), b.placeholder("shape", [1], DT_INT32)])
    body.op("y", "Reshape", ["x", "shape"])
    b.function("f", [("x", DT_FLOAT), ("shape", DT_INT32)], body)
    view = build(b.graph())
    assert constant_input(view.main, view.main.nodes["y"], 1) is None
    assert constant_input(view.scopes["f"], view.scopes["f"].nodes["y"], 1) is None


def test_a_slot_that_the_node_does_not_have() -> None:
    """A node with too few inputs is the file's fault, not a crash."""
    view = view_with([1])
    assert constant_input(view, view.nodes["y"], 2) is None
    assert constant_input(view, view.nodes["x"], 0) is None


def test_slots_count_data_inputs_only() -> None:
    """Control inputs, wherever they stand, have no slot."""
    b = GraphBuilder()
    b.const("c", [7])
    b.op("y", "Reshape", ["^c", "x", "c"])
    b.placeholder("x", [4])
    view = build(b.graph()).main
    assert constant_ints(view, view.nodes["y"], 1) == (7,)


def test_a_dangling_input_is_unknown() -> None:
    """A broken graph can still be surveyed."""
    b = GraphBuilder()
    b.op("y", "Reshape", ["x", "gone"])
    view = build(b.graph()).main
    assert constant_input(view, view.nodes["y"], 1) is None


def test_a_const_without_a_value_is_unknown() -> None:
    """TensorFlow refuses it; here it is only unknown."""
    b = GraphBuilder()
    b.add(new_node("c", "Const", (), {}))
    b.op("y", "Reshape", ["c", "c"])
    view = build(b.graph()).main
    assert constant_input(view, view.nodes["y"], 1) is None


def test_a_passing_op_without_inputs_is_unknown() -> None:
    """Damage, not a crash."""
    b = GraphBuilder()
    b.op("nothing", "Identity", [])
    b.op("y", "Reshape", ["nothing", "nothing"])
    view = build(b.graph()).main
    assert constant_input(view, view.nodes["y"], 1) is None


def test_identities_in_a_circle_end() -> None:
    """A cycle is no reason to hang."""
    b = GraphBuilder()
    b.op("a", "Identity", ["b"])
    b.op("b", "Identity", ["a"])
    b.op("y", "Reshape", ["a", "a"])
    view = build(b.graph()).main
    assert constant_input(view, view.nodes["y"], 1) is None


def test_the_value_is_read_only_and_in_its_own_shape() -> None:
    """``constant_input`` is the array, ``constant_ints`` its elements in order."""
    view = view_with(np.array([[1, 2], [3, 4]], np.int32))
    found = constant_input(view, view.nodes["y"], 1)
    assert found is not None
    assert found.shape == (2, 2)
    assert not found.flags.writeable
    assert constant_ints(view, view.nodes["y"], 1) == (1, 2, 3, 4)


def test_a_weight_is_no_parameter_by_size_alone() -> None:
    """Size is looked at before anything is decoded."""
    view = view_with(random_weight((64, 64)))
    assert constant_input(view, view.nodes["y"], 1) is None
