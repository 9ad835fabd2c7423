"""Recognizing weights that are stored as integers: Const -> decode -> Cast -> Mul(scale)."""

from __future__ import annotations

from typing import Dict, List, Set

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
    roots: Dict[str, None] = {}
    pending: List[str] = []
    for node in view.scope.nodes:
        if node.op == "Const" and attr_of_type(node, "dtype") in dtypes.EIGHT_BIT:
            pending.append(node.name)
    seen: Set[str] = set(pending)
    while pending:
        for use in view.uses(pending.pop()):
            name = use.node.name
            if use.slot == CONTROL or name in seen:
                continue
            if use.node.op in ("Mul", "Dequantize"):
                roots[name] = None
            elif use.node.op in _DECODING:
                seen.add(name)
                pending.append(name)
    found: Dict[str, str] = {}
    for root in roots:
        for name in _constants_above(view, view.nodes[root]):
            found.setdefault(name, root)
    return found


def _constants_above(view: ScopeView, root: Node) -> List[str]:
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
                    found.append(producer.name)
            else:
                pending.append(producer)
    return found
