"""Reading a stored form back: from the node that carries a weight's name to codes and scales.

The inverse of ``dequant`` and ``fake_quant``, by structure alone: the node is a Mul of something
that is computed from constants with whole numbers as its values, and of a scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, TensorRef, attr_of_type
from graphwq.quant.scheme import MAX_BITS, MIN_BITS, max_code
from graphwq.rewrite.plan import DEQUANT, FAKE_QUANT
from graphwq.survey.evaluate import evaluate
from graphwq.survey.sites import qualified
from graphwq.survey.view import ScopeView, View

_MAX_DEPTH = 64


@dataclass(frozen=True)
class StoredWeight:
    """A weight that is stored quantized.

    Attributes:
        weight: the name of the node that stands for it (``function:node`` in a function).
        storage: ``dequant`` or ``fake_quant``.
        num_bits: the smallest width that holds all codes.
        codes: int8, shape of the weight.
        scale: float32, broadcastable to it.
        axes: along which the scale varies.
        nbytes: bytes of the constants that hold codes and scale.
    """

    weight: str
    storage: str
    num_bits: int
    codes: np.ndarray
    scale: np.ndarray
    axes: Tuple[int, ...]
    nbytes: int

    def values(self) -> np.ndarray:
        """The float32 values."""
        return self.codes.astype(np.float32) * self.scale

    def to_json(self) -> Dict[str, Any]:
        """What inspect says of it, as JSON data."""
        return {
            "weight": self.weight,
            "storage": self.storage,
            "num_bits": self.num_bits,
            "axes": list(self.axes),
            "shape": list(self.codes.shape),
            "bytes": self.nbytes,
        }


def stored_weights(view: View) -> Tuple[StoredWeight, ...]:
    """Every weight of the graph that is stored as integers or behind a FakeQuant on codes."""
    found = []
    for name, scope in view.scopes.items():
        parts: Set[str] = set()
        weights: List[StoredWeight] = []
        for node in scope.scope.nodes:
            stored = decode(scope, node)
            if stored is not None:
                weights.append(stored)
                if node.op != "Mul":
                    parts.update(TensorRef.parse(item).node for item in node.data_inputs)
        for stored in weights:
            if stored.weight not in parts:
                weight = qualified(name, stored.weight)
                found.append(replace(stored, weight=weight))
    return tuple(found)


def decode(view: ScopeView, node: Node) -> Optional[StoredWeight]:
    """The quantized weight that ``node`` stands for, or None."""
    root = _behind(view, node)
    if root.op == "ConcatV2":
        return _joined(view, node, root)
    if root.op != "Mul" or len(root.data_inputs) != 2:
        return None
    value, scale_name = (TensorRef.parse(item).node for item in root.data_inputs)
    constants = _constants(view, value)
    if constants is None:
        return None
    eight_bit = [item for item in constants if attr_of_type(item, "dtype") in dtypes.EIGHT_BIT]
    producer = view.nodes[value]
    is_fake = producer.op.startswith("FakeQuant")
    if not eight_bit and not is_fake:
        return None
    codes, scale = evaluate(view, value), evaluate(view, scale_name)
    if codes is None or scale is None or scale.dtype != np.float32 or scale.ndim != codes.ndim:
        return None
    largest = float(np.abs(codes).max()) if codes.size else 0.0
    if not largest <= max_code(MAX_BITS) or not np.array_equal(codes, np.rint(codes)):
        return None
    bits = next(bits for bits in range(MIN_BITS, MAX_BITS + 1) if largest <= max_code(bits))
    scales = _constants(view, scale_name) or ()
    nbytes = sum(item.nbytes for item in (*(eight_bit or constants), *scales))
    axes = tuple(axis for axis, size in enumerate(scale.shape) if size > 1)
    storage = FAKE_QUANT if is_fake else DEQUANT
    return StoredWeight(node.name, storage, bits, codes.astype(np.int8), scale, axes, nbytes)


def _joined(view: ScopeView, node: Node, root: Node) -> Optional[StoredWeight]:
    """A weight that was cut into pieces."""
    pieces = []
    for name in root.data_inputs[:-1]:
        piece = view.nodes.get(TensorRef.parse(name).node)
        stored = None if piece is None or piece.op == "ConcatV2" else decode(view, piece)
        if stored is None:
            return None
        pieces.append(stored)
    axis_value = evaluate(view, TensorRef.parse(root.data_inputs[-1]).node)
    if axis_value is None or not pieces:
        return None
    axis = int(axis_value)
    if any(piece.codes.ndim != pieces[0].codes.ndim for piece in pieces):
        return None
    full = [
        np.broadcast_to(piece.scale, _with(piece.scale.shape, axis, piece.codes.shape[axis]))
        for piece in pieces
    ]
    try:
        codes = np.concatenate([piece.codes for piece in pieces], axis)
        scale = np.concatenate(full, axis)
    except ValueError:
        return None
    axes = tuple(place for place, size in enumerate(scale.shape) if size > 1)
    return StoredWeight(
        node.name,
        pieces[0].storage,
        max(piece.num_bits for piece in pieces),
        codes,
        scale,
        axes,
        sum(piece.nbytes for piece in pieces),
    )


def _with(shape: Tuple[int, ...], axis: int, size: int) -> Tuple[int, ...]:
    return shape[:axis] + (size,) + shape[axis + 1 :]


def _behind(view: ScopeView, node: Node) -> Node:
    """The node behind a final Cast (half and double weights) or Identity (function bodies)."""
    wrappers = ("Identity", "Cast") if view.scope.name else ("Cast",)
    for op in wrappers:
        if node.op == op and node.data_inputs:
            inner = view.nodes.get(TensorRef.parse(node.data_inputs[0]).node)
            if inner is not None and inner.op in ("Mul", "Cast"):
                node = inner
    return node


def _constants(view: ScopeView, name: str) -> Optional[Tuple[Node, ...]]:
    """The constants from which a node is computed; None where it depends on anything else."""
    found: Dict[str, Node] = {}
    pending, seen = [name], {name}
    while pending:
        node = view.nodes.get(pending.pop())
        if node is None or len(seen) > _MAX_DEPTH:
            return None
        if node.op == "Const":
            found[node.name] = node
            continue
        if not node.data_inputs:
            return None
        for item in node.data_inputs:
            producer = TensorRef.parse(item).node
            if producer not in seen:
                seen.add(producer)
                pending.append(producer)
    return tuple(found.values())
