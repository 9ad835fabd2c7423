"""Reading a stored form back: from the node that carries a weight's name to codes and scales.

The inverse of ``dequant`` and ``fake_quant``, by structure alone: the node is a Mul of something
that is computed from constants with whole numbers as its values, and of a scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, TensorRef, attr_of_int, attr_of_type
from graphwq.quant.scheme import MAX_BITS, MIN_BITS, max_code
from graphwq.rewrite.plan import DEQUANT, FAKE_QUANT
from graphwq.survey.evaluate import evaluate
from graphwq.survey.quantized import elements
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
        constants: names of the constants that hold the codes.
    """

    weight: str
    storage: str
    num_bits: int
    codes: np.ndarray
    scale: np.ndarray
    axes: Tuple[int, ...]
    nbytes: int
    constants: Tuple[str, ...]

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
    """Every weight of the graph that is stored as integers or behind a FakeQuant op.

    Of several nodes that are computed from the same codes (the rows of a table) the one with all of
    them is the weight.
    """
    found: List[StoredWeight] = []
    for name, scope in view.scopes.items():
        largest: Dict[str, StoredWeight] = {}
        for node in scope.scope.nodes:
            stored = decode(scope, node)
            for constant in () if stored is None else stored.constants:
                known = largest.get(constant)
                if stored is not None and (known is None or known.codes.size <= stored.codes.size):
                    largest[constant] = stored
        kept = {stored.weight: stored for stored in largest.values()}
        covered = {
            constant: stored.weight
            for stored in kept.values()
            for constant in stored.constants
            if largest[constant] is stored
        }
        for stored in kept.values():
            if all(covered.get(constant) == stored.weight for constant in stored.constants):
                found.append(replace(stored, weight=qualified(name, stored.weight)))
    return tuple(found)


def decode(view: ScopeView, node: Node) -> Optional[StoredWeight]:
    """The quantized weight that ``node`` stands for, or None.

    Raises:
        InputError: constants that do not fit together.
    """
    root = _behind(view, node)
    if root.op == "ConcatV2":
        return _joined(view, node, root)
    if root.op == "Mul" and len(root.data_inputs) == 2:
        return _product(view, node, root)
    if root.op in ("Identity", "Cast"):
        return _fake_quantized(view, node, root)
    return None


def _product(view: ScopeView, node: Node, root: Node) -> Optional[StoredWeight]:
    """The weight that a multiplication of codes with a scale stands for."""
    value, scale_name = (TensorRef.parse(item).node for item in root.data_inputs)
    constants = _constants(view, value)
    if constants is None:
        return None
    eight_bit = [item for item in constants if attr_of_type(item, "dtype") in dtypes.EIGHT_BIT]
    is_fake = view.nodes[value].op.startswith("FakeQuant")
    if not eight_bit and not is_fake:
        return None
    codes, scale = evaluate(view, value), evaluate(view, scale_name)
    if codes is None or scale is None or scale.dtype != np.float32 or not codes.size:
        return None
    gathered = view.nodes[scale_name].op in ("Gather", "GatherV2")
    may_be_mask = scale.size >= codes.size > 1 and codes.min() >= 0 and not gathered
    if may_be_mask and scale.min() <= 0:
        return None  # a mask over a weight (scales are positive; nobody gathers the weight then)
    if scale.ndim < codes.ndim:
        scale = scale.reshape((1,) * (codes.ndim - scale.ndim) + scale.shape)
    scales = _constants(view, scale_name) or ()
    stored = eight_bit or [item for item in constants if elements(item) > 1]
    return _stored(node, codes, scale, FAKE_QUANT if is_fake else DEQUANT, stored, scales)


def _stored(
    node: Node,
    codes: np.ndarray,
    scale: np.ndarray,
    storage: str,
    constants: Sequence[Node],
    scales: Sequence[Node],
) -> Optional[StoredWeight]:
    """The weight, where codes and scale are what they must be."""
    if codes.dtype.kind not in "fiu" or not codes.size or scale.ndim != codes.ndim:
        return None
    if any(few not in (1, many) for few, many in zip(scale.shape, codes.shape)):
        return None
    if not (scale > 0).all():
        return None
    largest = float(np.abs(codes).max())
    if not largest <= max_code(MAX_BITS) or not np.array_equal(codes, np.rint(codes)):
        return None
    bits = next(bits for bits in range(MIN_BITS, MAX_BITS + 1) if largest <= max_code(bits))
    return StoredWeight(
        node.name,
        storage,
        bits,
        codes.astype(np.int8),
        scale,
        tuple(axis for axis, size in enumerate(scale.shape) if size > 1),
        sum(item.nbytes for item in (*constants, *scales)),
        tuple(item.name for item in constants),
    )


def _fake_quantized(view: ScopeView, node: Node, root: Node) -> Optional[StoredWeight]:
    """A FakeQuant op on the values themselves, perhaps between transposes and reshapes."""
    fake = view.nodes.get(TensorRef.parse(root.data_inputs[0]).node) if root.data_inputs else None
    while fake is not None and fake.op in ("Identity", "Transpose", "Reshape"):
        if not fake.data_inputs or fake.op == "Identity":
            return None
        fake = view.nodes.get(TensorRef.parse(fake.data_inputs[0]).node)
    if fake is None or not fake.op.startswith("FakeQuantWithMinMaxVars"):
        return None
    constants = _constants(view, fake.name)
    if constants is None or len(fake.data_inputs) != 3:
        return None
    inner = evaluate(view, fake.name)
    top = evaluate(view, TensorRef.parse(fake.data_inputs[2]).node)
    if inner is None or top is None:
        return None
    step = top / np.float32(max_code(attr_of_int(fake, "num_bits", 8)))
    scales = np.broadcast_to(step, inner.shape)
    last = root.name  # before a final Cast to half, in which the scale would be rounded
    if root.op == "Cast":
        last = TensorRef.parse(root.data_inputs[0]).node
    values = evaluate(view, last, {fake.name: inner})
    scale = evaluate(view, last, {fake.name: scales})
    if values is None or scale is None or not (scale > 0).all():
        return None
    codes = values.astype(np.float32) / scale.astype(np.float32)
    if not np.array_equal(np.rint(codes).astype(np.float32) * scale, values.astype(np.float32)):
        return None
    large = [item for item in constants if elements(item) > 1]
    varying = _varying(np.asarray(scale, np.float32))
    return _stored(node, np.rint(codes), varying, FAKE_QUANT, large, ())


def _varying(scale: np.ndarray) -> np.ndarray:
    """The scale with length 1 along the axes on which it does not vary."""
    for axis in range(scale.ndim):
        first = scale.take([0], axis)
        if np.array_equal(np.broadcast_to(first, scale.shape), scale):
            scale = first
    return scale


def _joined(view: ScopeView, node: Node, root: Node) -> Optional[StoredWeight]:
    """A weight that was cut into pieces, each of which is used by a piece of its consumers.

    (Weights that the model itself joins are used by nothing else.)
    """
    pieces = []
    if len(set(root.data_inputs)) < len(root.data_inputs):
        return None
    for name in root.data_inputs[:-1]:
        piece = view.nodes.get(TensorRef.parse(name).node)
        if piece is None or piece.op == "ConcatV2":
            return None
        if all(use.node is root for use in view.uses(piece.name)):
            return None
        stored = decode(view, piece)
        if stored is None:
            return None
        pieces.append(stored)
    place = evaluate(view, TensorRef.parse(root.data_inputs[-1]).node) if pieces else None
    if place is None or place.size != 1 or place.dtype.kind not in "iu":
        return None
    axis, rank = int(place.reshape(())), pieces[0].codes.ndim
    if not -rank <= axis < rank or any(piece.codes.ndim != rank for piece in pieces):
        return None
    axis %= rank
    scales = [piece.scale for piece in pieces]
    shared = all(scale.shape[axis] == 1 and np.array_equal(scale, scales[0]) for scale in scales)
    if not shared:
        scales = [
            np.broadcast_to(piece.scale, _with(piece.scale.shape, axis, piece.codes.shape[axis]))
            for piece in pieces
        ]
    try:
        codes = np.concatenate([piece.codes for piece in pieces], axis)
        scale = scales[0] if shared else np.concatenate(scales, axis)
    except ValueError:
        return None
    return StoredWeight(
        node.name,
        pieces[0].storage,
        max(piece.num_bits for piece in pieces),
        codes,
        scale,
        tuple(place for place, size in enumerate(scale.shape) if size > 1),
        sum(piece.nbytes for piece in pieces),
        tuple(constant for piece in pieces for constant in piece.constants),
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
