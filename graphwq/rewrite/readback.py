"""One weight of a quantized graph: its codes and scale, and the plan item it was stored by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, TensorRef, attr_of_int
from graphwq.quant.packing import packed_nbytes
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import (
    FLOAT32_BITS,
    MAX_BITS,
    Granularity,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantizedTensor,
    QuantScheme,
)
from graphwq.rewrite.baked import SCALE_BITS, baked, bits_of
from graphwq.rewrite.decode import StoredWeight, decode
from graphwq.rewrite.names import number_of
from graphwq.rewrite.plan import BAKE, BITS, FAKE_QUANT, PLANES, Form, PlanItem, Whole
from graphwq.rewrite.planner import form_of
from graphwq.survey.evaluate import evaluate
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import ScopeView, View

#: A constant of more elements than these and so many for each byte of it repeats one value.
_FEW_ELEMENTS, _EXPANSION = 1 << 20, 4
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Found:
    """What the candidate holds in the place of a weight.

    Attributes:
        item: how it is stored.
        quantized: codes and scale.
        prefix: number of the first name prefix of its nodes; None where it has none.
    """

    item: PlanItem
    quantized: QuantizedTensor
    prefix: Optional[int]


def read_back(
    reference: View, candidate: View, site: WeightSite, item: Optional[PlanItem]
) -> Optional[Found]:
    """Read a weight of ``reference`` from ``candidate``.

    Args:
        reference, candidate: the graphs.
        site: the weight in the reference, a constant.
        item: what a plan says of it; None where that is to be found.

    Returns:
        None where the candidate holds it as it was, not at all, or in no form that is known.
    """
    scope = candidate.scopes.get(site.scope)
    node = None if scope is None else scope.nodes.get(site.node)
    if scope is None or node is None or _is_bomb(site):
        return None
    if item is not None and (item.storage == BAKE) != (node.op == "Const"):
        return None
    if node.op == "Const":
        pair = baked(reference.scopes[site.scope].nodes[site.node], node, site, item)
        if pair is None:
            return None
        made = item or PlanItem(site.weight, BAKE, pair[0], pair[0].num_bits)
        return Found(made, pair[1], None)
    stored = decode(scope, node)
    if stored is None or stored.codes.shape != site.shape:
        return None
    if item is not None and item.storage != stored.storage:
        return None
    return _stored(reference, candidate, site, item, stored)


def _is_bomb(site: WeightSite) -> bool:
    """Whether the few bytes of a constant stand for a large weight (it is never quantized)."""
    return site.size > max(_EXPANSION * site.nbytes, _FEW_ELEMENTS)


def _stored(
    reference: View,
    candidate: View,
    site: WeightSite,
    item: Optional[PlanItem],
    stored: StoredWeight,
) -> Optional[Found]:
    scope = candidate.scopes[site.scope]
    node = scope.nodes[site.node]
    numbers = [number for number in map(number_of, node.data_inputs) if number is not None]
    prefix = min(numbers) if numbers else None
    granularity = item.scheme.granularity if item is not None else _granularity(scope, site, stored)
    scale = None if granularity is None else _scale(stored, granularity)
    if granularity is None or scale is None:
        return None
    if item is not None:
        fits = np.abs(stored.codes.astype(np.int16)).max() <= item.scheme.max_code
        found = QuantizedTensor(stored.codes, scale, item.scheme)
        return Found(item, found, prefix) if fits else None
    bits, stored_bits = _widths(scope, site, stored)
    scheme = QuantScheme(bits, granularity, scale_bits=_scale_bits(scope, node, stored))
    form = _form(reference, candidate, site, scheme) if stored.storage != FAKE_QUANT else Whole()
    in_rows = isinstance(form, Whole) and _bits_in_rows(scope, stored) is not None
    layout = BITS if in_rows else PLANES
    made = PlanItem(site.weight, stored.storage, scheme, stored_bits, form, layout)
    return Found(made, QuantizedTensor(stored.codes, scale, scheme), prefix)


def _granularity(scope: ScopeView, site: WeightSite, stored: StoredWeight) -> Optional[Granularity]:
    """By the shape of the scale; groups by the indices with which their scales are gathered."""
    for node in _upstream_of_scale(scope, scope.nodes[site.node]):
        if node.op == "GatherV2" and len(node.data_inputs) == 3:
            index, axis = (
                evaluate(scope, TensorRef.parse(name).node) for name in node.data_inputs[1:]
            )
            if index is None or axis is None:
                return None
            size = int(np.count_nonzero(index == 0))
            along = int(axis.reshape(-1)[0])
            kept = tuple(axis for axis in stored.axes if axis != along)
            return PerGroup(site.kept_axes or kept, along, size) if size else None
    shape = stored.scale.shape
    if site.kept_axes and shape == scale_shape(site.shape, PerChannel(site.kept_axes)):
        return PerChannel(site.kept_axes)
    if stored.axes:
        whole = all(shape[axis] == site.shape[axis] for axis in stored.axes)
        return PerChannel(stored.axes) if whole else None
    fake = _fake_quant(scope, site.node)  # of equal channels only one is seen
    one_of_many = fake is not None and fake.op.endswith("PerChannel") and site.kept_axes
    return PerChannel(site.kept_axes) if one_of_many else PerTensor()


def _upstream_of_scale(scope: ScopeView, node: Node) -> Iterator[Node]:
    """The operands of the multiplication that ends a decoding, behind casts and pieces."""
    for _ in range(_MAX_DEPTH):
        if node.op in ("Identity", "Cast", "ConcatV2") and node.data_inputs:
            inner = scope.nodes.get(TensorRef.parse(node.data_inputs[0]).node)
            if inner is None:
                return
            node = inner
            continue
        if node.op == "Mul":
            for name in node.data_inputs:
                found = scope.nodes.get(TensorRef.parse(name).node)
                if found is not None:
                    yield found
        return


def _scale(stored: StoredWeight, granularity: Granularity) -> Optional[np.ndarray]:
    """The scale in the shape that the granularity asks for; None where it does not fit."""
    shape = stored.codes.shape
    wanted = scale_shape(shape, granularity)
    scale = stored.scale
    if isinstance(granularity, PerGroup):
        axis = granularity.axis
        full = list(wanted)
        full[axis] = shape[axis]
        if any(few not in (1, many) for few, many in zip(scale.shape, full)):
            return None
        scale = np.broadcast_to(scale, full)
        scale = scale.take(np.arange(0, shape[axis], granularity.group_size), axis)
    if any(few not in (1, many) for few, many in zip(scale.shape, wanted)):
        return None
    scale = np.ascontiguousarray(np.broadcast_to(scale, wanted))
    again = QuantizedTensor(stored.codes, scale, QuantScheme(MAX_BITS, granularity))
    same = np.array_equal(
        np.broadcast_to(again.scale_for(0, len(stored.codes.reshape(-1))), shape),
        np.broadcast_to(stored.scale, shape),
    )
    return scale if same else None


def _widths(scope: ScopeView, site: WeightSite, stored: StoredWeight) -> Tuple[int, int]:
    """(num_bits, stored_bits): packed codes by the room they take, others by their size."""
    fake = _fake_quant(scope, site.node) if stored.storage == FAKE_QUANT else None
    if fake is not None:
        bits = attr_of_int(fake, "num_bits", MAX_BITS)
        return bits, bits
    in_rows = _bits_in_rows(scope, stored)
    if in_rows is not None:
        return in_rows, in_rows
    nbytes = 0
    for name in stored.constants:
        tensor = scope.nodes[name].tensor()
        nbytes += 0 if tensor is None else tensor.size
    if nbytes == stored.codes.size:
        return stored.num_bits, MAX_BITS
    rows = site.shape[0] if site.shape else 1
    for bits in range(stored.num_bits, MAX_BITS):
        by_rows = rows * packed_nbytes(site.size // max(rows, 1), bits)
        if nbytes in (packed_nbytes(site.size, bits), by_rows):
            return bits, bits
    bits = min(max(round(8 * nbytes / site.size), stored.num_bits), MAX_BITS - 1)
    return bits, bits


def _bits_in_rows(scope: ScopeView, stored: StoredWeight) -> Optional[int]:
    """The width of codes in the ``bits`` layout, by the shape of their constant, or None."""
    tensors = [scope.nodes[name].tensor() for name in stored.constants]
    if len(tensors) != 1 or tensors[0] is None or tensors[0].dtype != dtypes.DT_UINT8:
        return None
    shape = tensors[0].shape
    packed = len(shape) == 2 and shape[0] == -(-stored.codes.size // 8)
    return shape[1] if packed and stored.num_bits <= shape[1] < MAX_BITS else None


def _fake_quant(scope: ScopeView, name: str) -> Optional[Node]:
    """The FakeQuant op from which a node is computed."""
    pending = [name]
    for current in pending:  # grows
        node = scope.nodes.get(current)
        if node is None or len(pending) > _MAX_DEPTH:
            return None
        if node.op.startswith("FakeQuant"):
            return node
        pending.extend(TensorRef.parse(item).node for item in node.data_inputs)
    return None


def _scale_bits(scope: ScopeView, node: Node, stored: StoredWeight) -> int:
    """Significant bits of the scale; at most 16 where a FakeQuant op stands on the values."""
    on_codes = any(True for _ in _upstream_of_scale(scope, node))
    if stored.storage == FAKE_QUANT:
        return FLOAT32_BITS if on_codes else min(bits_of(stored.scale), max(SCALE_BITS[1:]))
    return bits_of(stored.scale)


def _form(reference: View, candidate: View, site: WeightSite, scheme: QuantScheme) -> Form:
    """The form that the planner chooses, unless the consumers are as they were."""
    form = form_of(reference, site, scheme)
    if isinstance(form, Whole):
        return form
    for consumer in site.consumers:
        old = reference.scopes[consumer.scope].nodes[consumer.node]
        new = candidate.scopes[consumer.scope].nodes.get(consumer.node)
        if new is not None and (new.op, new.inputs) == (old.op, old.inputs):
            return Whole()
    return form
