"""The ``bake`` storage form: the same Const with the dequantized values in it."""

from __future__ import annotations

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, new_const, private_attrs
from graphwq.quant.scheme import QuantizedTensor


def build(node: Node, dtype: int, quantized: QuantizedTensor) -> Node:
    """The Const of ``node`` with the values float32(code) * scale, cast to the weight's dtype."""
    values = quantized.dequantize().astype(dtypes.NUMPY[dtype], copy=False)
    shape = quantized.codes.shape
    return new_const(
        node.name, dtype, shape, values, node.control_inputs, private_attrs(node), node.device
    )
