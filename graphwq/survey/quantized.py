"""Recognizing weights that are stored as integers: Const -> decode -> Cast -> Mul(scale)."""

from __future__ import annotations

from typing import Dict, List

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import CONTROL, Node, TensorRef, attr_of_type
from graphwq.survey.view import ScopeView

#: The ops between integer codes and the multiplication with their scale.
_DECODING = frozenset(
    [
        "Cast",
        "Gather",
        "GatherV2",
        "Reshape",
        "Add",
        "AddV2",
        "Sub",
        "ConcatV2",
        "Slice",
        "Identity",
        "Transpose",
        "ExpandDims",
    ]
)
_UPSTREAM = _DECODING | frozenset(
    [
        "Mul",
        "FloorMod",
        "Floor",
        "Range",
        "Const",
        "FakeQuantWithMinMaxVars",
        "FakeQuantWithMinMaxVarsPerChannel",
    ]
)


def dequantizing_constants(view: ScopeView) -> Dict[str, str]:
    """The float constants that only serve to dequantize: name -> the node that they lead to.

    Found by structure, not by name: 8-bit integer constants are followed through decoding ops to a
    multiplication; what stands upstream of it and is constant belongs to it.
    """
    roots: Dict[str, int] = {}
    for node in view.scope.nodes:
        if node.op == "Const" and attr_of_type(node, "dtype") in dtypes.EIGHT_BIT:
            _roots_below(view, node.name, _elements(node), roots)
        elif node.op.startswith("FakeQuant") and node.data_inputs:
            source = view.nodes.get(TensorRef.parse(node.data_inputs[0]).node)
            if source is not None and source.op == "Const":
                _roots_below(view, node.name, _elements(source), roots)
    found: Dict[str, str] = {}
    for root, codes in roots.items():
        for constant in _constants_above(view, view.nodes[root]):
            if _elements(constant) < max(codes, 2):  # else no scale: a mask over a weight
                found.setdefault(constant.name, root)
    return found


def _elements(node: Node) -> int:
    tensor = node.tensor()
    return 0 if tensor is None else tensor.size


def _roots_below(view: ScopeView, name: str, codes: int, roots: Dict[str, int]) -> None:
    """Note the multiplications to which decoding leads, with the number of codes."""
    pending, seen = [name], {name}
    while pending:
        for use in view.uses(pending.pop()):
            below = use.node.name
            if use.slot == CONTROL or below in seen:
                continue
            seen.add(below)
            if use.node.op in ("Mul", "Dequantize"):
                roots[below] = max(roots.get(below, 0), codes)
            elif use.node.op in _DECODING:
                pending.append(below)


def _constants_above(view: ScopeView, root: Node) -> List[Node]:
    found = []
    pending, seen = [root], {root.name}
    while pending:
        node = pending.pop()
        for slot, name in enumerate(node.data_inputs):
            if slot == 1 and node.op in ("Gather", "GatherV2") and node is not root:
                # Indices may come from anywhere; codes and tables are what counts.
                producer = view.nodes.get(TensorRef.parse(name).node)
                if producer is None or producer.op not in ("Cast", "Const"):
                    continue
            producer = view.nodes.get(TensorRef.parse(name).node)
            if producer is None or producer.name in seen or producer.op not in _UPSTREAM:
                continue
            seen.add(producer.name)
            if producer.op == "Const":
                if attr_of_type(producer, "dtype") in dtypes.FLOATING:
                    found.append(producer)
            else:
                pending.append(producer)
    return found
