"""Cutting a large weight and its consumers into pieces that TensorFlow can fold.

TensorFlow 1.15 folds a constant subgraph only up to 10 MiB of result (grappler's constant folding).
A larger weight would be dequantized on every step. So it is cut along an output channel axis; each
consumer becomes one op per piece, and a Concat of their (small) outputs takes its name:

    x -> MatMul(W) -> y      becomes      x -> MatMul(W0), MatMul(W1) -> ConcatV2 -> y
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import attr_type
from graphwq.graphdef.node import Node, TensorRef, attr_of_bool
from graphwq.quant.quantize import kept_axes
from graphwq.quant.scheme import PerGroup, QuantizedTensor
from graphwq.rewrite.builder import Builder, Place, concat_attrs
from graphwq.rewrite.plan import Split
from graphwq.survey.sites import Consumer, WeightSite
from graphwq.survey.view import ScopeView

#: What grappler folds (kMaxConstantSize in constant_folding.cc), in bytes of result.
FOLDING_LIMIT = 10 * 1024 * 1024
#: Pieces are a multiple of this many channels, so that vector units stay busy.
_ALIGNMENT = 64
#: A product of a row vector and a matrix reads each row of the matrix in short runs; a piece of 64
#: columns (256 bytes) makes them one stream. Measured with TensorFlow 1.15 on two cores, 4096x4096,
#: time against the uncut float matrix: 64 columns 0.58, 128 0.79, 256..640 1.4..1.8 at batch 1;
#: 64 columns 0.57..0.81 at batch 2..64.
_NARROW = 64
#: Ops on the way that are repeated for each piece; the others only pass the weight on.
_CLONED = ("Enter", "RefEnter")
#: Ops that pass a weight on but must not be left out or repeated.
_CONDITIONAL = ("Switch", "RefSwitch", "ReadVariableOp")

_CHANNELS_LAST = {"Conv2D": 3, "Conv2DBackpropInput": 3, "Conv3D": 4}
_WEIGHT_AXIS = {"Conv2D": 3, "Conv2DBackpropInput": 2, "Conv3D": 4}


def weight_axis(node: Node, slot: int) -> Optional[int]:
    """The axis along which a consumer's weight can be cut; None where the op cannot be."""
    if node.op == "MatMul":
        if slot == 0:
            return 1 if attr_of_bool(node, "transpose_a") else 0
        return 0 if attr_of_bool(node, "transpose_b") else 1
    return _WEIGHT_AXIS.get(node.op) if slot == 1 else None


def _result_axis(node: Node, slot: int) -> int:
    """The axis of the consumer's result along which the pieces are joined."""
    if node.op == "MatMul":
        return slot
    attr = node.attr("data_format")
    first = attr is not None and attr.s in (b"NCHW", b"NCDHW")
    return 1 if first else _CHANNELS_LAST[node.op]


def piece_sizes(
    site: WeightSite, axis: int, most_channels: Optional[int] = None
) -> Optional[Tuple[int, ...]]:
    """Lengths of the pieces along ``axis``, each under the folding limit; None if impossible.

    ``most_channels`` makes them shorter than the limit asks for.
    """
    channels = site.shape[axis]
    per_channel = site.size // channels * 4
    if site.dtype == dtypes.DT_DOUBLE:
        per_channel *= 2
    most = (FOLDING_LIMIT - 1) // per_channel
    if most_channels is not None:
        most = min(most, most_channels)
    if most < 1:
        return None
    count = -(-channels // most)
    size = -(-channels // count)
    aligned = -(-size // _ALIGNMENT) * _ALIGNMENT
    if aligned <= most:
        size = aligned
    sizes = [size] * (channels // size)
    if channels % size:
        sizes.append(channels % size)
    return tuple(sizes)


def common_axis(view: ScopeView, consumers: Sequence[Consumer]) -> Optional[int]:
    """The axis along which all of ``consumers`` can be cut, or None."""
    chosen = set()
    for consumer in consumers:
        if consumer.scope or not consumer.direct:
            return None
        if any(op in _CONDITIONAL for op in consumer.path_ops):
            return None
        chosen.add(weight_axis(view.nodes[consumer.node], consumer.slot))
    if len({consumer.node for consumer in consumers}) < len(consumers):
        return None  # both inputs of one op are this weight
    return chosen.pop() if len(chosen) == 1 else None


def is_foldable(site: WeightSite) -> bool:
    """Whether TensorFlow folds the dequantized weight, or one of another type it is cast to."""
    width = max(4, dtypes.NUMPY[site.dtype].itemsize)
    return site.size * width < FOLDING_LIMIT


def choose(view: ScopeView, site: WeightSite) -> Optional[Split]:
    """How to cut a weight that TensorFlow does not fold; None where a consumer forbids it."""
    axis = None if site.scope or is_foldable(site) else common_axis(view, site.consumers)
    if axis is None:
        return None
    narrow = axis == 1 and all(consumer.op == "MatMul" for consumer in site.consumers)
    sizes = piece_sizes(site, axis, _NARROW if narrow else None)
    if sizes is None or len(sizes) < 2:
        return None
    return Split(axis, sizes)


def piece(quantized: QuantizedTensor, axis: int, begin: int, size: int) -> QuantizedTensor:
    """A piece of a quantized weight; its arrays are slices of the whole."""
    granularity = quantized.scheme.granularity
    if isinstance(granularity, PerGroup) and granularity.axis == axis:
        raise ValueError("a weight is not cut along the axis of its groups")
    window = (slice(None),) * axis + (slice(begin, begin + size),)
    varies = axis in kept_axes(granularity, quantized.codes.ndim)
    scale = quantized.scale[window] if varies else quantized.scale
    return QuantizedTensor(quantized.codes[window], scale, quantized.scheme)


def join_weight(builder: Builder, refs: Sequence[str], axis: int, dtype: int) -> None:
    """Put the pieces together under the weight's own name, for whoever fetches it."""
    builder.final("ConcatV2", (*refs, builder.ints("axis", axis)), **concat_attrs(len(refs), dtype))


def rewrite_consumer(
    view: ScopeView,
    consumer: Consumer,
    refs: Sequence[str],
    dtype: int,
    form: Split,
    new_prefix: Callable[[], str],
) -> List[Node]:
    """The nodes that take the place of one consumer."""
    node = view.nodes[consumer.node]
    builder = Builder(place_beside(view, node, consumer.slot), new_prefix())
    cloned = [view.nodes[name] for name in consumer.path if view.nodes[name].op in _CLONED]
    outputs = []
    for number, ref in enumerate(refs):
        for depth, passing in enumerate(cloned):
            name = f"enter{depth or ''}_{number}"
            passed = (ref, *passing.control_inputs)
            ref = builder.op(name, passing.op, passed, **_copied(passing))
        inputs = list(node.inputs)
        inputs[consumer.slot] = ref
        if node.op == "Conv2DBackpropInput":
            sizes = _input_sizes(builder, node, number, form.sizes[number])
            inputs[0] = sizes
        outputs.append(builder.op(f"part_{number}", node.op, inputs, **_copied(node)))
    axis = builder.ints("axis", _result_axis(node, consumer.slot))
    attrs = concat_attrs(len(outputs), dtype)
    builder.final("ConcatV2", (*outputs, axis), **attrs)
    return builder.nodes


def place_beside(view: ScopeView, node: Node, weight_slot: int) -> Place:
    """The place of a consumer; in a graph with while loops its constants stand beside its input."""
    place = Place.of(view.scope.name, node)
    if not view.has_loops:
        return place
    others = [name for slot, name in enumerate(node.data_inputs) if slot != weight_slot]
    beside = others[0] if node.op in ("Gather", "GatherV2") else others[-1]
    anchor = "^" + TensorRef.parse(beside).node
    return replace(place, anchor=() if anchor in place.control else (anchor,))


def _copied(node: Node) -> Dict[str, memoryview]:
    """The attributes of a repeated op, without what is recorded about its whole result."""
    return {key: value for key, value in node.attr_bytes().items() if not key.startswith("_")}


def _input_sizes(builder: Builder, node: Node, number: int, channels: int) -> str:
    """The ``input_sizes`` of a transposed convolution with other output channels."""
    axis = _result_axis(node, 1)
    whole = node.data_inputs[0]
    name = f"sizes_{number}"
    integer = attr_type(dtypes.DT_INT32)

    def part(label: str, begin: int, size: int) -> str:
        inputs = (
            whole,
            builder.ints(f"{name}_{label}_begin", [begin]),
            builder.ints(f"{name}_{label}_size", [size]),
        )
        return builder.op(f"{name}_{label}", "Slice", inputs, T=integer, Index=integer)

    middle = builder.ints(f"{name}_channels", [channels])
    parts = [part("before", 0, axis), middle]
    if axis < 3:
        parts.append(part("after", axis + 1, 3 - axis))
    zero = builder.ints(f"{name}_axis", 0)
    return builder.op(name, "ConcatV2", (*parts, zero), **concat_attrs(len(parts), dtypes.DT_INT32))
