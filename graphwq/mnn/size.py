"""How large the ``.mnn`` file will be, told without the converter or from its float model.

From the float model the answer is exact up to padding: what is not a weight does not change.
Without the converter the part around the weights (ops, names, small constants) is estimated from
the graph: each op of the model takes about 60 bytes, its name twice, and 4 bytes for each tensor it
reads or writes; a MatMul brings the ops along that shape its input and output. The costs were
fitted to conversions with MNN 3.6.0; weights, scales and biases are exact either way.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Set

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import CONTROL, Node, TensorRef
from graphwq.mnn.layout import CONVOLUTIONS, MATMUL
from graphwq.mnn.lint import Layer
from graphwq.mnn.names import Folding
from graphwq.mnn.operand import Operands
from graphwq.survey.paths import PASS_OPS
from graphwq.survey.view import ScopeView, View

_FILE = 190
_OP = 60
_LAYER = 124
_RECORD, _FIRST_RECORD = 54, 44
_MATMUL_OPS = 1000
_FIRST_MATMUL = 850
_CONVERT = 50
_MAX_FUSED = 20
#: Ops whose constant second (or first) input becomes a parameter.
_PARAMETERS = {"ConcatV2": -1, "Split": 0, "ExpandDims": 1, "ArgMax": 1, "Concat": 0, "SplitV": 2}
#: Ops that MNN computes on channels in blocks of four; others need the tensor as TensorFlow has it.
_BLOCKED = frozenset(
    [*CONVOLUTIONS, "MaxPool", "AvgPool", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"]
    + ["ResizeBilinear", "ResizeNearestNeighbor", "DepthToSpace", "SpaceToBatchND"]
)
_EITHER = frozenset(
    [
        "Relu",
        "Relu6",
        "LeakyRelu",
        "Elu",
        "Sigmoid",
        "Tanh",
        "Add",
        "AddV2",
        "Sub",
        "Mul",
        "BiasAdd",
    ]
    + ["ConcatV2", "Maximum", "Minimum", "Pad", *PASS_OPS]
)


def from_float_model(float_nbytes: int, layers: Sequence[Layer]) -> int:
    """Predict from the size of the model that the converter makes of the float graph."""
    quantized = _once(layers)
    saved = sum(4 * layer.size - layer.nbytes for layer in quantized)
    return float_nbytes - saved + _records(quantized)


def estimate(view: View, layers: Sequence[Layer]) -> int:
    """Predict from the graph alone."""
    structure = _Structure(view.main, [layer for layer in layers if layer.name])
    weights = sum(layer.nbytes for layer in _named_once(layers))
    return _FILE + structure.nbytes() + weights + _records(_once(layers))


def _once(layers: Sequence[Layer]) -> List[Layer]:
    return [layer for layer in _named_once(layers) if layer.is_quantized]


def _named_once(layers: Sequence[Layer]) -> List[Layer]:
    return list({(layer.subgraph, layer.name): layer for layer in layers if layer.name}.values())


def _records(quantized: Sequence[Layer]) -> int:
    return _RECORD * len(quantized) + _FIRST_RECORD if quantized else 0


def _text(name: str) -> int:
    return (len(name.encode()) + 4) // 4 * 4


class _Structure:
    """The ops that will be left, and what each takes."""

    def __init__(self, view: ScopeView, layers: Sequence[Layer]) -> None:
        self._view = view
        self._names = {layer.node: layer.name for layer in layers}
        self._layers = {layer.node: layer for layer in layers}
        self._operands = Operands(view)
        self._folding = Folding(view, self._operands)
        self._fused = self._fused_nodes()

    def nbytes(self) -> int:
        """Everything but the weights of the layers."""
        shared = _FIRST_MATMUL if any(layer.op == MATMUL for layer in self._layers.values()) else 0
        return shared + sum(self._cost(node) for node in self._view.nodes.values())

    def _cost(self, node: Node) -> int:
        if node.op in PASS_OPS or node.name in self._fused or node.op == "NoOp":
            return 0
        layer = self._layers.get(node.name)
        if layer is not None:
            return self._layer_cost(node, layer)
        if self._folding.removes(node) and node.op != "Const":
            return 0
        if node.op == "Const":
            return self._const_cost(node)
        tensors = len(node.data_inputs) + 1
        return _OP + 2 * _text(node.name) + 8 + 4 * tensors + self._conversions(node)

    def _layer_cost(self, node: Node, layer: Layer) -> int:
        outputs = len(layer.scale) if layer.scale is not None and not layer.block_size else 0
        value = self._operands.value(node.data_inputs[1])
        if not outputs and value is not None:
            outputs = value.shape[-1]
        own = _LAYER + 2 * _text(layer.name) + 16 + 4 * outputs
        if node.op == MATMUL:
            return own + _MATMUL_OPS + 2 * _text(layer.name)
        return own + self._conversions(node)

    def _const_cost(self, node: Node) -> int:
        tensor = node.tensor()
        if tensor is None or not self._is_needed(node):
            return 0
        wide = 1 if tensor.dtype in dtypes.EIGHT_BIT else 4
        return 60 + 2 * _text(node.name) + 12 + wide * tensor.size + 4 * len(tensor.shape)

    def _is_needed(self, node: Node) -> bool:
        """Whether some op that is left reads the constant as an input."""
        pending, seen = [node.name], {node.name}
        while pending:
            uses = list(self._view.uses(pending.pop()))
            if not uses:
                return True  # an output of the graph, such as what an optimizer left behind
            for use in uses:
                if use.slot == CONTROL or use.node.name in seen or use.node.name in self._fused:
                    continue
                if use.node.op in PASS_OPS:
                    seen.add(use.node.name)
                    pending.append(use.node.name)
                    continue
                if use.node.name in self._layers and use.slot > 0:
                    continue
                place = _PARAMETERS.get(use.node.op)
                if place is not None and place % len(use.node.data_inputs) == use.slot:
                    continue
                if self._folding.removes(use.node):
                    continue
                return True
        return False

    def _fused_nodes(self) -> Set[str]:
        """Biases, batch norms and activations that become part of a convolution."""
        fused: Set[str] = set()
        for name, layer in self._layers.items():
            passed: List[str] = []
            node = self._only_user(name)
            while node is not None and len(passed) < _MAX_FUSED:
                activation = node.op in ("Relu", "Relu6") and layer.op in CONVOLUTIONS
                own = activation or self._is_fused(layer, node)
                if not own and node.op not in PASS_OPS:
                    break
                passed.append(node.name)
                if own:
                    fused.update(passed)
                if activation:
                    break
                node = self._only_user(node.name)
        return fused

    def _only_user(self, name: str) -> Optional[Node]:
        uses = [use for use in self._view.uses(name) if use.slot != CONTROL]
        return uses[0].node if len(uses) == 1 else None

    def _is_fused(self, layer: Layer, node: Node) -> bool:
        """Whether a batch norm or a bias behind a layer is folded into it."""
        if node.op.startswith("FusedBatchNorm"):
            return layer.factor is not None
        own = layer.name.partition("__matmul_converted")[0].partition("__group__")[0]
        after = self._only_user(node.name)
        named = node.name == own or (after is not None and after.name == own)
        return named and node.op in ("BiasAdd", "Add", "AddV2")

    def _conversions(self, node: Node) -> int:
        """Between the two memory layouts, in front of an op."""
        if node.op in _EITHER:
            return 0
        wants = node.op in _BLOCKED
        cost = 0
        for item in node.data_inputs[:1]:
            if self._is_blocked(item) != wants:
                cost += _CONVERT + 2 * _text(f"{item}___tr4{node.name}") + 16
        return cost

    def _is_blocked(self, name: str) -> bool:
        known: Dict[str, bool] = {}
        for _ in range(200):
            node = self._view.nodes.get(TensorRef.parse(name).node)
            if node is None or node.name in known:
                return False
            known[node.name] = True
            if node.op in _BLOCKED:
                return True
            if node.op not in _EITHER or not node.data_inputs:
                return False
            name = node.data_inputs[0]
        return False
