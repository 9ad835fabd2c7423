"""The ``bake`` storage form: the same Const with the dequantized values in it."""

from __future__ import annotations

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, new_const, private_attrs
from graphwq.quant.scheme import QuantizedTensor
from graphwq.quant.shift import Shift


def build(node: Node, dtype: int, quantized: QuantizedTensor) -> Node:
    """The Const of ``node`` with the values float32(code) * scale, cast to the weight's dtype."""
    values = quantized.dequantize().astype(dtypes.NUMPY[dtype], copy=False)
    return _with_values(node, dtype, values)


def shifted(node: Node, shift: Shift) -> Node:
    """The Const of a bias with its correction."""
    old = node.tensor()
    assert old is not None
    return _with_values(node, old.dtype, shift.apply(old.numpy()))


def same_values(node: Node, other: Node) -> bool:
    """Whether two constants hold the same bits."""
    old, new = node.tensor(), other.tensor()
    assert old is not None
    assert new is not None
    return old.numpy().tobytes() == new.numpy().tobytes()  # a negative zero is another value


def _with_values(node: Node, dtype: int, values: np.ndarray) -> Node:
    return new_const(
        node.name,
        dtype,
        values.shape,
        values,
        node.control_inputs,
        private_attrs(node),
        node.device,
    )
