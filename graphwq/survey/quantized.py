"""Recognizing weights that are stored as integers: Const -> decode -> Cast -> Mul(scale)."""

from __future__ import annotations

from typing import AbstractSet, Dict, List, Tuple

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
        "BatchMatMulV2",
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


_GATHERS = ("Gather", "GatherV2")


def dequantizing_constants(view: ScopeView) -> Dict[str, str]:
    """The float constants that only serve to dequantize: name -> the node that they lead to.

    Found by structure, not by name: 8-bit integer constants are followed through decoding ops to a
    multiplication; what stands upstream of it and is constant belongs to it.
    """
    roots: Dict[str, int] = {}
    for node in view.scope.nodes:
        if node.op == "Const" and attr_of_type(node, "dtype") in dtypes.EIGHT_BIT:
            _roots_below(view, node.name, elements(node), roots)
        elif node.op.startswith("FakeQuant") and node.data_inputs:
            source = view.nodes.get(TensorRef.parse(node.data_inputs[0]).node)
            if source is not None and source.op == "Const":
                _roots_below(view, node.name, elements(source), roots)
    found: Dict[str, str] = {}
    for root, codes in roots.items():
        for constant, is_gathered in _constants_above(view, view.nodes[root]):
            # As large as the codes it is no scale: codes that mask a weight. Nobody gathers a mask.
            if is_gathered or elements(constant) < max(codes, 2):
                found.setdefault(constant.name, root)
    return found


def elements(node: Node) -> int:
    """How many values a constant has; 0 for a node that is none."""
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


def _constants_above(view: ScopeView, root: Node) -> List[Tuple[Node, bool]]:
    """The float constants from which the operands of a multiplication are computed.

    With each whether the operand is gathered (scales of rows or groups). An operand that depends on
    anything else is no part of a dequantization; only rows of codes and of their scales may be
    gathered by indices that are fed.
    """
    gathered = {
        node.data_inputs[1]
        for node in _cone(view, root)
        if node.op in _GATHERS and len(node.data_inputs) > 1 and _is_codes(view, node)
    }
    found: List[Tuple[Node, bool]] = []
    for name in root.data_inputs:
        start = view.nodes.get(TensorRef.parse(name).node)
        cone = [] if start is None else [start, *_cone(view, start, gathered)]
        if start is not None and all(node.op in _UPSTREAM for node in cone):
            found.extend(
                (node, start.op in _GATHERS)
                for node in cone
                if node.op == "Const" and attr_of_type(node, "dtype") in dtypes.FLOATING
            )
    return found


def _is_codes(view: ScopeView, gather: Node) -> bool:
    source = view.nodes.get(TensorRef.parse(gather.data_inputs[0]).node)
    return (
        source is not None
        and source.op == "Const"
        and attr_of_type(source, "dtype") in dtypes.EIGHT_BIT
    )


def _cone(view: ScopeView, root: Node, indices: AbstractSet[str] = frozenset()) -> List[Node]:
    """What a node is computed from, down to the first op that decoding does not have.

    ``indices`` are inputs that are not followed where a Gather takes them.
    """
    found: List[Node] = []
    pending, seen = [root], {root.name}
    while pending:
        node = pending.pop()
        if node is not root and node.op not in _UPSTREAM:
            continue
        for slot, name in enumerate(node.data_inputs):
            if slot == 1 and node.op in _GATHERS and name in indices:
                continue
            producer = view.nodes.get(TensorRef.parse(name).node)
            if producer is not None and producer.name not in seen:
                seen.add(producer.name)
                found.append(producer)
                pending.append(producer)
    return found
