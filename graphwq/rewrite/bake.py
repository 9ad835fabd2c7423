"""The ``bake`` storage form: the same Const with the dequantized values in it."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import Data, new_const
from graphwq.graphdef.node import Node, private_attrs
from graphwq.quant.scheme import QuantizedTensor
from graphwq.quant.shift import Shift
from graphwq.rewrite.values import Values


def build(node: Node, shape: Tuple[int, ...], dtype: int, values: Values) -> Node:
    """The Const of ``node`` with the values float32(code) * scale, cast to the weight's dtype."""
    return _with_values(node, dtype, shape, values(lambda quantized: baked(quantized, dtype)))


def baked(quantized: QuantizedTensor, dtype: int) -> np.ndarray:
    """The values that are stored."""
    return quantized.dequantize().astype(dtypes.NUMPY[dtype], copy=False)


def shifted(node: Node, shift: Shift) -> Node:
    """The Const of a bias with its correction."""
    old = node.tensor()
    assert old is not None
    values = shift.apply(old.numpy())
    return _with_values(node, old.dtype, values.shape, values)


def same_values(node: Node, other: Node) -> bool:
    """Whether two constants hold the same bits."""
    old, new = node.tensor(), other.tensor()
    assert old is not None
    assert new is not None
    return old.numpy().tobytes() == new.numpy().tobytes()  # a negative zero is another value


def _with_values(node: Node, dtype: int, shape: Tuple[int, ...], data: Data) -> Node:
    control, attrs = node.control_inputs, private_attrs(node)
    return new_const(node.name, dtype, shape, data, control, attrs, node.device)
