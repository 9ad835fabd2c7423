"""Constants that NEW computes from other constants: codes and the arithmetic that decodes them.

Whichever tool made them (the Graph Transform Tool's ``quantize_weights``, say): what can be
evaluated and comes out near the old constant is one change, not ten added nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from graphwq.diff import values
from graphwq.diff.change import Change, Kind, Severity
from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Scope
from graphwq.graphdef.node import Node, TensorRef, attr_of_type
from graphwq.survey.evaluate import evaluate
from graphwq.survey.sites import qualified
from graphwq.survey.view import ScopeView
from graphwq.text import name, size

#: Below this SQNR in dB the values are other values, not the old ones stored in fewer bits.
_LEAST_SQNR = 0.0
_MOST_NODES = 200
_LISTED = 100


@dataclass(frozen=True)
class Decoded:
    """A constant of OLD that a subgraph of NEW stands for.

    Attributes:
        constant: its name, as in the aligned graph.
        root: the node of NEW that has the values.
        nodes: the nodes of NEW that serve this constant alone, the root among them.
        change: the line that says so.
    """

    constant: str
    root: str
    nodes: Tuple[str, ...]
    change: Change


def decoded(
    scope: str, old: Scope, view: ScopeView, taken: AbstractSet[str] = frozenset()
) -> Iterator[Decoded]:
    """The constants of OLD that NEW decodes.

    Args:
        scope: "" for the main graph, else the function.
        old: the scope of OLD, its nodes named as in NEW.
        view: of the scope of NEW.
        taken: nodes of NEW that are explained already.
    """
    before = {node.name: node for node in old.nodes}
    found: List[Tuple[Node, Node, np.ndarray, values.ValueDiff, List[Node]]] = []
    for constant, root in _places(before, view, taken):
        array = _array(constant)
        if array is None:
            continue
        cone = _cone(view, root)
        try:
            made = evaluate(view, root.name) if cone is not None else None
        except InputError:
            continue
        if cone is None or made is None or made.shape != array.shape or made.dtype != array.dtype:
            continue
        difference = values.compare_arrays(array, made)
        if difference.nonfinite_old != difference.nonfinite_new:
            continue
        if difference.sqnr_db > _LEAST_SQNR:
            found.append((constant, root, made, difference, cone))
    owned = _owned(view, before, [(root.name, cone) for _, root, _, _, cone in found], taken)
    for constant, root, made, difference, cone in found:
        own = [node for node in cone if owned.get(node.name) == root.name]
        if _waits(constant, root, own):
            continue
        change = _change(scope, constant, root, made, difference, cone, own)
        yield Decoded(constant.name, root.name, tuple(node.name for node in own), change)


def _places(
    before: Mapping[str, Node], view: ScopeView, taken: AbstractSet[str]
) -> Iterator[Tuple[Node, Node]]:
    """(constant of OLD, node of NEW in its place): under its name, or where it was used."""
    seen: Set[str] = set()
    for node in view.scope.nodes:
        former = before.get(node.name)
        if former is None or node.name in taken:
            continue
        if former.op == "Const" and node.op not in ("Const", "Placeholder"):
            if node.name not in seen:
                seen.add(node.name)
                yield former, node
            continue
        for written, other in zip(former.data_inputs, node.data_inputs):
            if written == other or written in seen:
                continue
            constant, root = before.get(written), view.nodes.get(TensorRef.parse(other).node)
            if constant is None or constant.op != "Const" or written in view.nodes:
                continue
            if root is not None and root.name not in before and TensorRef.parse(other).port == 0:
                seen.add(written)
                yield constant, root


def _array(constant: Node) -> Optional[np.ndarray]:
    """The values of a float constant; None of any other."""
    try:
        tensor = constant.tensor()
        if tensor is None or tensor.dtype not in dtypes.QUANTIZABLE or not tensor.size:
            return None
        return tensor.numpy()
    except InputError:
        return None


def _cone(view: ScopeView, root: Node) -> Optional[List[Node]]:
    """A node and all that it is computed from; None where that is too much or not all there."""
    found = {root.name: root}
    pending = [root]
    while pending:
        for item in pending.pop().inputs:
            node = view.nodes.get(TensorRef.parse(item).node)
            if node is None or len(found) > _MOST_NODES:
                return None
            if node.name not in found:
                found[node.name] = node
                pending.append(node)
    return list(found.values())


def _owned(
    view: ScopeView,
    before: Mapping[str, Node],
    cones: Sequence[Tuple[str, List[Node]]],
    taken: AbstractSet[str],
) -> Dict[str, str]:
    """Nodes that only decoding uses -> the root that they are counted for, the first of several."""
    first: Dict[str, str] = {}
    roots = {root for root, _ in cones}
    for root, cone in cones:
        for node in cone:
            is_new = node.name not in before and node.name not in taken
            if is_new or node.name == root:
                first.setdefault(node.name, root)
    changed = True
    while changed:  # what something else uses as well is more than decoding
        changed = False
        for item in list(first):
            if item not in roots and any(use.node.name not in first for use in view.uses(item)):
                del first[item]
                changed = True
    return first


def _waits(constant: Node, root: Node, own: Sequence[Node]) -> bool:
    """Whether a new node waits for something that the constant did not wait for.

    (The root is compared with the constant where both have one name.)
    """
    inside = {f"^{node.name}" for node in own} | set(constant.control_inputs)
    some = [node for node in own if node is not root or root.name != constant.name]
    return any(item not in inside for node in some for item in node.control_inputs)


def _change(
    scope: str,
    constant: Node,
    root: Node,
    made: np.ndarray,
    difference: values.ValueDiff,
    cone: Sequence[Node],
    own: Sequence[Node],
) -> Change:
    tensor = constant.tensor()
    assert tensor is not None
    stored = max((node for node in cone if node.op == "Const"), key=lambda node: node.nbytes)
    dtype = dtypes.dtype_name(attr_of_type(stored, "dtype"))
    grid = values.grid_of_array(made)
    nbytes = sum(node.nbytes for node in own)
    parts = [f"{values.describe_type(tensor.dtype, tensor.shape)} -> {dtype} through {_ops(cone)}"]
    if grid is not None:
        parts.append(values.describe_grid(grid))
    parts.append(difference.distance() if difference.changed else "the same values")
    parts.append(f"{size(constant.nbytes)} -> {size(nbytes)}")
    detail: Dict[str, Any] = {
        "dtype": dtypes.dtype_name(tensor.dtype),
        "shape": list(tensor.shape),
        "stored": dtype,
        "node": qualified(scope, root.name),
        "nodes": [qualified(scope, node.name) for node in own[:_LISTED]],
        "nodes_added": len(own),
        "old_bytes": constant.nbytes,
        "new_bytes": nbytes,
        "values": difference.to_json(),
    }
    if grid is not None:
        detail["grid"] = grid.to_json()
    return Change(
        Kind.CONSTANT_DECODED,
        qualified(scope, constant.name),
        Severity.NUMERIC if difference.changed else Severity.BENIGN,
        ", ".join(parts),
        detail,
        reason="the constant has other values" if difference.changed else "the same values",
    )


def _ops(cone: Sequence[Node]) -> str:
    """The ops of a cone, the last one last."""
    ops = dict.fromkeys(node.op for node in reversed(cone) if node.op != "Const")
    few = list(ops)[-4:]
    return ", ".join(map(name, few)) if len(few) == len(ops) else f"..., {', '.join(few)}"
