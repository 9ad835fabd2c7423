"""Values of the small constants that ops take as parameters (axes, permutations, shapes)."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, TensorRef
from graphwq.graphdef.tensor import Tensor
from graphwq.survey.evaluate import evaluate
from graphwq.survey.view import ScopeView

_PASS = ("Identity", "Enter", "RefEnter", "StopGradient", "Snapshot")
_MAX_ELEMENTS = 1024
_MAX_HOPS = 32


def constant_input(view: ScopeView, node: Node, slot: int) -> Optional[np.ndarray]:
    """The value of data input ``slot`` where it is a small constant, else None."""
    tensor = _constant(view, node, slot)
    return None if tensor is None or tensor.size > _MAX_ELEMENTS else tensor.numpy()


def constant_vector(view: ScopeView, node: Node, slot: int) -> Optional[np.ndarray]:
    """Data input ``slot`` where it is a constant of one axis, as float64 [n], else None."""
    tensor = _constant(view, node, slot)
    if tensor is None or len(tensor.shape) != 1 or dtypes.NUMPY[tensor.dtype].kind != "f":
        return None
    return np.asarray(tensor.numpy(), np.float64)


def _constant(view: ScopeView, node: Node, slot: int) -> Optional[Tensor]:
    """The constant that a data input is, perhaps behind ops that leave it as it is."""
    if slot >= len(node.data_inputs):
        return None
    name = TensorRef.parse(node.data_inputs[slot]).node
    for _ in range(_MAX_HOPS):
        producer = view.nodes.get(name)
        if producer is None:
            return None
        if producer.op == "Const":
            return producer.tensor()
        if producer.op not in _PASS or not producer.data_inputs:
            return None
        name = TensorRef.parse(producer.data_inputs[0]).node
    return None


def constant_ints(view: ScopeView, node: Node, slot: int) -> Optional[Tuple[int, ...]]:
    """Like ``constant_input``, flattened to whole numbers."""
    value = constant_input(view, node, slot)
    if value is None or value.dtype.kind not in "iu":
        return None
    return tuple(int(item) for item in value.reshape(-1))


def constant_int(view: ScopeView, node: Node, slot: int) -> Optional[int]:
    """Like ``constant_input``, a single whole number."""
    values = constant_ints(view, node, slot)
    return values[0] if values is not None and len(values) == 1 else None


def ints_given_shape(
    view: ScopeView, node: Node, slot: int, shape: Tuple[int, ...]
) -> Optional[Tuple[int, ...]]:
    """Whole numbers that are computed from the shape of data input 0, which is ``shape``.

    That is how ``tf.transpose`` without a permutation looks: range and rank, subtracted.
    """
    if any(size < 0 for size in shape) or slot >= len(node.data_inputs):
        return None
    given = {}
    for use in view.uses(TensorRef.parse(node.data_inputs[0]).node):
        if use.slot == 0 and use.node.data_inputs[0] == node.data_inputs[0]:
            if use.node.op == "Rank":
                given[use.node.name] = np.asarray(len(shape), np.int32)
            elif use.node.op == "Shape":
                given[use.node.name] = np.asarray(shape, np.int64)
    if not given:
        return None
    try:
        value = evaluate(view, TensorRef.parse(node.data_inputs[slot]).node, given)
    except InputError:  # it does not compute: then the axes are not known
        return None
    if value is None or value.dtype.kind not in "iu" or value.size > _MAX_ELEMENTS:
        return None
    return tuple(int(item) for item in value.reshape(-1))
