"""Values of the small constants that ops take as parameters (axes, permutations, shapes)."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from graphwq.graphdef.node import Node, TensorRef
from graphwq.survey.view import ScopeView

_PASS = ("Identity", "Enter", "RefEnter", "StopGradient", "Snapshot")
_MAX_ELEMENTS = 1024
_MAX_HOPS = 32


def constant_input(view: ScopeView, node: Node, slot: int) -> Optional[np.ndarray]:
    """The value of data input ``slot`` where it is a small constant, else None."""
    if slot >= len(node.data_inputs):
        return None
    name = TensorRef.parse(node.data_inputs[slot]).node
    for _ in range(_MAX_HOPS):
        producer = view.nodes.get(name)
        if producer is None:
            return None
        if producer.op == "Const":
            tensor = producer.tensor()
            if tensor is None or tensor.size > _MAX_ELEMENTS:
                return None
            return tensor.numpy()
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
