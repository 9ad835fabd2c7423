"""The ops that use weights: which input the weight is and which of its axes the op keeps.

One row per op: the number of the data input -> a function from the node and the weight's rank to
the axes that stay in the result (the channels), or None where they cannot be known. Sources: the op
definitions of TensorFlow 1.15 (tensorflow/core/ops) and the layouts documented there.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional, Tuple

from graphwq.graphdef.node import Node, attr_of_bool, attr_of_int
from graphwq.survey.constants import constant_int
from graphwq.survey.view import ScopeView

Axes = Tuple[int, ...]
AxisRule = Callable[[ScopeView, Node, int], Optional[Axes]]


def _fixed(rank: int, *axes: int) -> AxisRule:
    def rule(_view: ScopeView, _node: Node, actual: int) -> Optional[Axes]:
        return axes if actual == rank else None

    return rule


def _matmul(transpose_key: str, is_left: bool, batches: bool = False) -> AxisRule:
    """Batch axes and the axis that is not summed over."""

    def rule(_view: ScopeView, node: Node, rank: int) -> Optional[Axes]:
        if rank < 2 or (rank > 2 and not batches):
            return None
        transposed = attr_of_bool(node, transpose_key)
        kept = rank - 1 if transposed == is_left else rank - 2
        return (*range(rank - 2), kept)

    return rule


def _gather(view: ScopeView, node: Node, rank: int) -> Optional[Axes]:
    """The axis that is indexed: every row of an embedding table has a scale of its own."""
    axis: Optional[int] = 0
    if node.op == "GatherV2":
        axis = constant_int(view, node, 2)
        if attr_of_int(node, "batch_dims", 0):
            return None
    if axis is None or not -rank <= axis < rank:
        return None
    return (axis % rank,)


def _einsum(slot: int) -> AxisRule:
    """The labels of the weight that are in the result."""

    def rule(_view: ScopeView, node: Node, rank: int) -> Optional[Axes]:
        attr = node.attr("equation")
        equation = attr.s.decode("ascii", "replace") if attr is not None else ""
        inputs, arrow, output = equation.replace(" ", "").partition("->")
        terms = inputs.split(",")
        if not arrow or not slot < len(terms) == len(node.data_inputs) or "." in terms[slot]:
            return None
        term = terms[slot]
        if len(term) != rank:
            return None
        return tuple(axis for axis, label in enumerate(term) if label in output)

    return rule


_CONV2D = _fixed(4, 3)
_DEPTHWISE = _fixed(4, 2, 3)
_DENSE = _fixed(2, 1)

WEIGHT_INPUTS: Dict[str, Dict[int, AxisRule]] = {
    "Conv2D": {1: _CONV2D},
    "_FusedConv2D": {1: _CONV2D},
    "FusedPadConv2D": {2: _CONV2D},
    "FusedResizeAndPadConv2D": {3: _CONV2D},
    "DepthwiseConv2dNative": {1: _DEPTHWISE},
    "_FusedDepthwiseConv2dNative": {1: _DEPTHWISE},
    "Conv2DBackpropInput": {1: _fixed(4, 2)},
    "DepthwiseConv2dNativeBackpropInput": {1: _fixed(4, 2)},
    "Conv3D": {1: _fixed(5, 4)},
    "Conv3DBackpropInput": {1: _fixed(5, 3)},
    "Conv3DBackpropInputV2": {1: _fixed(5, 3)},
    "Dilation2D": {1: _fixed(3, 2)},
    "MatMul": {0: _matmul("transpose_a", True), 1: _matmul("transpose_b", False)},
    "_FusedMatMul": {0: _matmul("transpose_a", True), 1: _matmul("transpose_b", False)},
    "SparseMatMul": {0: _matmul("transpose_a", True), 1: _matmul("transpose_b", False)},
    "SparseTensorDenseMatMul": {3: _matmul("adjoint_b", False)},
    "BatchMatMul": {0: _matmul("adj_x", True, True), 1: _matmul("adj_y", False, True)},
    "BatchMatMulV2": {0: _matmul("adj_x", True, True), 1: _matmul("adj_y", False, True)},
    "Einsum": {0: _einsum(0), 1: _einsum(1)},
    "Gather": {0: _gather},
    "GatherV2": {0: _gather},
    "ResourceGather": {0: _gather},
    "LSTMBlockCell": {3: _DENSE},
    "BlockLSTM": {4: _DENSE},
    "BlockLSTMV2": {4: _DENSE},
    "GRUBlockCell": {2: _DENSE, 3: _DENSE},
}

GATHER_OPS = ("Gather", "GatherV2", "ResourceGather")
