"""The ``bake`` storage form: the same Const with the dequantized values in it."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import new_const
from graphwq.graphdef.node import Node, private_attrs
from graphwq.quant.scheme import QuantizedTensor
from graphwq.rewrite.values import Values


def build(node: Node, shape: Tuple[int, ...], dtype: int, values: Values) -> Node:
    """The Const of ``node`` with the values float32(code) * scale, cast to the weight's dtype."""
    data = values(lambda quantized: baked(quantized, dtype))
    control, attrs = node.control_inputs, private_attrs(node)
    return new_const(node.name, dtype, shape, data, control, attrs, node.device)


def baked(quantized: QuantizedTensor, dtype: int) -> np.ndarray:
    """The values that are stored."""
    return quantized.dequantize().astype(dtypes.NUMPY[dtype], copy=False)
