"""What the converter makes of an op with a weight: the layer's name, and what it folds into it.

The rules, found by converting small graphs with MNN 3.6.0 and checked against every graph of the
corpus (``tests/mnn/test_names.py`` converts one graph per rule):

1. A convolution (plain, depthwise, transposed) is named after its node. Each BiasAdd, Add or AddV2
   of a constant with one value per output channel that is its only user becomes its bias and gives
   it its own name, so the last one in a row wins. The constant stands on the right.
2. A FusedBatchNorm that is the only user is folded into weights and bias and changes no name; after
   it no more constant is folded in. A Squeeze (conv1d) between convolution and BiasAdd is passed
   over.
3. A MatMul becomes a 1x1 convolution NAME__matmul_converted; NAME is that of the MatMul, or of one
   Add or BiasAdd of a constant, on either side, with one value per column.
4. A convolution whose input has g times the channels of its weight becomes g layers
   NAME__group__0 .. NAME__group__(g-1).
5. In a while loop the layer stands in the subgraph PREFIX/body, where PREFIX/LoopCond is the node
   that ends the loop.

Identities count for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Set, Tuple

import numpy as np

from graphwq.graphdef.node import CONTROL, Node, TensorRef
from graphwq.mnn.operand import Operands
from graphwq.survey.batchnorm import BATCH_NORMS
from graphwq.survey.paths import PASS_OPS
from graphwq.survey.view import ScopeView, Use

_ADDS = ("BiasAdd", "Add", "AddV2")
_CHANNELS_KEPT = frozenset(
    ["BiasAdd", "Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Relu", "Relu6"]
    + ["LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Identity", "MaxPool", "AvgPool", "Pad"]
    + ["MirrorPad", "PadV2", "ResizeBilinear", "ResizeNearestNeighbor", "Softplus", "StopGradient"]
    + list(BATCH_NORMS)
)
_NEVER_FOLDED = frozenset(
    ["Split", "SplitV", "Unpack", "Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter"]
    + ["Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond", "TensorArrayReadV3"]
)
_MAX_STEPS = 50


@dataclass(frozen=True)
class Fused:
    """A layer as the converter will write it.

    Attributes:
        name: of the layer.
        factor: what batch normalisation multiplies each output channel with, float32 [outputs];
            None where there is none.
    """

    name: str
    factor: Optional[np.ndarray] = None


def convolution(view: ScopeView, operands: Operands, node: Node, outputs: int) -> Fused:
    """Name and batch-norm factor of a convolution with ``outputs`` channels (rules 1 and 2)."""
    name, factor, current = node.name, None, node.name
    for _ in range(_MAX_STEPS):
        use = _only_use(view, current)
        if use is None:
            break
        following = use.node
        if following.op == "Squeeze":
            after = _only_use(view, following.name)
            if factor is not None or after is None or after.node.op != "BiasAdd":
                break
            if not _adds(operands, after, outputs):
                break
        elif factor is None and _adds(operands, use, outputs):
            name = following.name
        elif following.op in BATCH_NORMS and use.slot == 0:
            own = _norm_factor(operands, following, outputs)
            if own is None:
                break
            factor = own if factor is None else (factor * own).astype(np.float32)
        elif following.op not in PASS_OPS:
            break
        current = following.name
    return Fused(name, factor)


def matmul(view: ScopeView, operands: Operands, node: Node, outputs: int) -> Fused:
    """Name of a MatMul with ``outputs`` columns (rule 3)."""
    name, current = node.name, node.name
    for _ in range(_MAX_STEPS):
        use = _only_use(view, current)
        if use is None:
            break
        if _adds(operands, use, outputs, either_side=True):
            name = use.node.name
            break
        if use.node.op not in PASS_OPS:
            break
        current = use.node.name
    return Fused(name + "__matmul_converted")


def groups(view: ScopeView, operands: Operands, node: Node, inputs: int) -> int:
    """Into how many layers a convolution is cut whose weight takes ``inputs`` channels (rule 4)."""
    found = _channels(view, operands, node.data_inputs[0], 0)
    return found // inputs if found and found % inputs == 0 else 1


class Folding:
    """Which ops the converter computes away: those that get constants only.

    Ops of several outputs are never computed away, nor what depends on them; neither is an op that
    is an output of the graph (behind a MatMul the converter puts a Reshape, which then is).
    """

    def __init__(self, view: ScopeView, operands: Operands) -> None:
        self._view = view
        self._operands = operands
        self._known: Dict[str, bool] = {}
        self._removed: Dict[str, bool] = {}

    def removes(self, node: Node) -> bool:
        """Whether an op with a weight is computed away."""
        if node.name not in self._removed:
            self._removed[node.name] = self._removes(node)
        return self._removed[node.name]

    def _removes(self, node: Node) -> bool:
        uses = self._view.uses(node.name)
        if node.op != "MatMul" and all(use.slot == CONTROL for use in uses):
            return False
        return all(self._is_constant(TensorRef.parse(item).node) for item in node.data_inputs)

    def _is_constant(self, name: str) -> bool:
        pending = [name]
        while pending:
            current = pending[-1]
            node = self._view.nodes.get(current)
            if current in self._known:
                pending.pop()
            elif node is None or not _foldable(self._operands, node):
                self._known[current] = False
            else:
                sources = [TensorRef.parse(item).node for item in node.data_inputs]
                if any(self._known.get(source) is False for source in sources):
                    self._known[current] = False
                    continue
                missing = [source for source in sources if source not in self._known]
                if not missing:
                    self._known[current] = True
                elif len(pending) > len(self._view.nodes):
                    self._known[current] = False  # a cycle
                else:
                    pending.extend(missing)
        return self._known[name]


def _foldable(operands: Operands, node: Node) -> bool:
    if node.op in _NEVER_FOLDED or node.op.startswith("Random"):
        return False
    if node.op == "DepthwiseConv2dNative" and len(node.data_inputs) == 2:
        weight = operands.value(node.data_inputs[1])
        return weight is None or weight.shape[-1] == 1  # else it is cut, by an op of many outputs
    return node.op == "Const" or bool(node.data_inputs)


class Sharing:
    """How often a tensor is used, Identities and the like passed over; counted once each."""

    def __init__(self, view: ScopeView) -> None:
        self._view = view
        self._counts: Dict[Tuple[str, int], int] = {}

    def count(self, name: str) -> int:
        """Uses of the tensor that an input names."""
        ref = TensorRef.parse(name)
        for _ in range(_MAX_STEPS):
            node = self._view.nodes.get(ref.node)
            if node is None or node.op not in PASS_OPS or not node.data_inputs:
                break
            ref = TensorRef.parse(node.data_inputs[0])
        key = (ref.node, ref.port)
        if key not in self._counts:
            self._counts[key] = self._count(key)
        return self._counts[key]

    def _count(self, tensor: Tuple[str, int]) -> int:
        count, pending, seen = 0, [tensor], {tensor}
        while pending:
            current, port = pending.pop()
            for use in self._view.uses(current):
                if use.slot == CONTROL or use.port != port:
                    continue
                passed = (use.node.name, 0)
                if use.node.op not in PASS_OPS:
                    count += 1
                elif passed not in seen:
                    seen.add(passed)
                    pending.append(passed)
        return count


class Loops:
    """Which while loop a node stands in (rule 5)."""

    def __init__(self, view: ScopeView) -> None:
        self._view = view
        self._prefixes: Dict[str, str] = {}
        if view.has_loops:
            for node in view.nodes.values():
                if node.op == "LoopCond":
                    prefix = node.name.rpartition("/")[0]
                    for frame in self._frames(node.name):
                        self._prefixes.setdefault(frame, prefix)

    def subgraph(self, name: str) -> str:
        """The subgraph that the converter makes of the loop around a node; "" outside of loops."""
        if not self._prefixes:
            return ""
        found = [self._prefixes[frame] for frame in self._frames(name) if frame in self._prefixes]
        return f"{found[0]}/body" if found else ""

    def _frames(self, name: str) -> List[str]:
        """The frames that are entered right before a node, nearest first."""
        frames: Dict[str, None] = {}
        pending: List[str] = [name]
        seen: Set[str] = {name}
        while pending:
            node = self._view.nodes.get(pending.pop(0))
            if node is None or (node.op in ("Exit", "RefExit") and node.name != name):
                continue
            if node.op in ("Enter", "RefEnter"):
                attr = node.attr("frame_name")
                if attr is not None:
                    frames[attr.s.decode("utf-8", "replace")] = None
                continue
            for item in node.data_inputs:
                source = TensorRef.parse(item).node
                if source not in seen:
                    seen.add(source)
                    pending.append(source)
        return list(frames)


def _only_use(view: ScopeView, name: str) -> Optional[Use]:
    uses = [use for use in view.uses(name) if use.slot != CONTROL]
    return uses[0] if len(uses) == 1 else None


def _adds(operands: Operands, use: Use, outputs: int, either_side: bool = False) -> bool:
    """Whether a use adds a constant with one value per output channel."""
    node = use.node
    if node.op not in _ADDS or len(node.data_inputs) != 2:
        return False
    if use.slot != 0 and not either_side:
        return False
    value = operands.value(node.data_inputs[1 - use.slot])
    return value is not None and value.size == outputs


def _norm_factor(operands: Operands, node: Node, outputs: int) -> Optional[np.ndarray]:
    """Gamma / sqrt(variance + epsilon) of a batch norm; None where they are no constants."""
    values = [operands.value(name) for name in node.data_inputs[1:5]]
    if len(values) != 4 or any(value is None or value.size != outputs for value in values):
        return None
    attr = node.attr("epsilon")
    epsilon = np.float32(attr.f if attr is not None else 1e-4)
    gamma, variance = values[0], values[3]
    assert gamma is not None
    assert variance is not None
    with np.errstate(all="ignore"):
        spread = np.sqrt(variance.astype(np.float32) + epsilon)
        return (gamma.astype(np.float32) / spread).reshape(-1)


def _channels(view: ScopeView, operands: Operands, name: str, depth: int) -> Optional[int]:
    """Channels (last axis) of an activation, where they can be told without inferring shapes."""
    node = view.nodes.get(TensorRef.parse(name).node)
    if node is None or depth > _MAX_STEPS:
        return None
    if node.op == "Placeholder":
        attr = node.attr("shape")
        dims = [] if attr is None else [dim.size for dim in attr.shape.dim]
        return dims[-1] if dims and dims[-1] > 0 else None
    if node.op in ("Conv2D", "DepthwiseConv2dNative") and len(node.data_inputs) == 2:
        weight = operands.value(node.data_inputs[1])
        if weight is None or weight.ndim != 4:
            return None
        return weight.shape[3] * (weight.shape[2] if node.op.startswith("Depthwise") else 1)
    if node.op in _CHANNELS_KEPT and node.data_inputs:
        return _channels(view, operands, node.data_inputs[0], depth + 1)
    return None
