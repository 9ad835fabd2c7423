"""What a graph wants of a placeholder, read from the ops that use it: shape, range, file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, Iterator, List, Optional, Tuple

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import CONTROL, Node, TensorRef, attr_of_bool
from graphwq.survey.constants import constant_int, constant_ints
from graphwq.survey.view import ScopeView, Use

Shape = Tuple[int, ...]

#: Ops whose result has the shape of their input.
_SAME_SHAPE = frozenset(
    ["Identity", "Cast", "Relu", "Relu6", "Elu", "Selu", "Tanh", "Sigmoid", "Softplus", "Softsign"]
    + ["Neg", "Abs", "Exp", "Log", "Sqrt", "Square", "Switch", "RefSwitch", "Merge", "Enter"]
    + ["StopGradient", "Snapshot", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs"]
    + ["QuantizeV2", "Dequantize", "CheckNumerics", "LeakyRelu", "FusedBatchNorm", "Softmax"]
    + ["FusedBatchNormV2", "FusedBatchNormV3", "BiasAdd", "PreventGradient", "Rsqrt", "Floor"]
)
_BINARY = frozenset(
    ["Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "Maximum", "Minimum", "SquaredDifference"]
    + ["FloorDiv", "FloorMod", "Pow"]
)
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "_FusedConv2D", "QuantizedConv2D")
_IMAGE_OPS = frozenset(
    ["MaxPool", "AvgPool", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "LRN"]
    + ["SpaceToDepth", "DepthToSpace"]
)
_MATMULS = ("MatMul", "_FusedMatMul", "QuantizedMatMul", "SparseMatMul")
#: Ops after which an index is still the same index.
_SAME_VALUES = frozenset(
    ["Identity", "Cast", "Reshape", "ExpandDims", "Squeeze", "Transpose", "StridedSlice", "Slice"]
    + ["Enter", "Switch", "Merge", "Unpack", "Split", "StopGradient", "Pack", "Tile"]
    + ["TensorArrayScatterV3", "TensorArrayReadV3"]
)
_DECODERS = {
    "DecodeWav": "wav",
    "DecodePng": "png",
    "DecodeJpeg": "jpeg",
    "DecodeImage": "png",
    "DecodeAndCropJpeg": "jpeg",
    "DecodeBmp": "bmp",
}
_MAX_STEPS = 300


@dataclass(frozen=True)
class Step:
    """An op that a tensor reaches, through ops that leave it as it is."""

    node: Node
    slot: int


def _reached(view: ScopeView, name: str, port: int, through: FrozenSet[str]) -> Iterator[Step]:
    """The ops that a tensor reaches through ops of ``through``, nearest first."""
    pending: List[Tuple[str, Optional[int]]] = [(name, port)]
    seen = {name}
    while pending and len(seen) < _MAX_STEPS:
        current, wanted = pending.pop(0)
        for use in view.uses(current):
            if use.slot == CONTROL or (wanted is not None and use.port != wanted):
                continue
            yield Step(use.node, use.slot)
            if _passes(view, use, through) and use.node.name not in seen:
                seen.add(use.node.name)
                pending.append((use.node.name, None))


def _passes(view: ScopeView, use: Use, through: FrozenSet[str]) -> bool:
    """Whether a tensor comes out of an op as it went in."""
    if use.node.op in _BINARY:  # the other operand may be larger, unless it is a constant
        return through is _SAME_SHAPE and _shape_of(view, use.node, 1 - use.slot) is not None
    return use.node.op in through and use.slot == 0


def wanted_shape(
    view: ScopeView, name: str, port: int, declared: Optional[Shape]
) -> Optional[Shape]:
    """The declared shape with what the ops behind the tensor say of its unknown dimensions.

    None where the rank stays unknown. Dimensions that stay unknown are -1.
    """
    shape = declared
    if shape is not None and all(size >= 0 for size in shape):
        return shape
    for step in _reached(view, name, port, _SAME_SHAPE):
        wish = _wish(view, step, shape)
        if wish is None:
            continue
        if shape is None:
            shape = wish
        elif len(wish) == len(shape):
            shape = tuple(old if old >= 0 else new for old, new in zip(shape, wish))
        if all(size >= 0 for size in shape[1:]):
            break
    return shape


def _wish(view: ScopeView, step: Step, shape: Optional[Shape]) -> Optional[Shape]:
    """What one op says of its input: a shape with -1 for what it leaves open, or None."""
    node, slot, op = step.node, step.slot, step.node.op
    if op in _CONVOLUTIONS and slot == 0:
        filters = _shape_of(view, node, 1)
        if filters is None or len(filters) != 4:
            return (-1, -1, -1, -1)
        attr = node.attr("data_format")
        first = attr is not None and attr.s == b"NCHW"
        return (-1, filters[2], -1, -1) if first else (-1, -1, -1, filters[2])
    if op == "Conv3D" and slot == 0:
        filters = _shape_of(view, node, 1)
        return (-1, -1, -1, -1, filters[3] if filters and len(filters) == 5 else -1)
    if op.startswith("FusedBatchNorm") and slot == 0:
        scale = _shape_of(view, node, 1)
        attr = node.attr("data_format")
        if scale is None or (attr is not None and attr.s == b"NCHW"):
            return (-1, -1, -1, -1)
        return (-1, -1, -1, scale[0])
    if op in _IMAGE_OPS and slot == 0:
        return (-1, -1, -1, -1)
    if op in _MATMULS and slot in (0, 1):
        return _matrix(view, node, slot)
    if op == "Reshape" and slot == 0:
        return _reshaped(view, node, shape)
    if op == "Transpose" and slot == 0:
        order = constant_ints(view, node, 1)
        return (-1,) * len(order) if order else None
    if op in _BINARY or op == "BiasAdd":
        other = _shape_of(view, node, 1 - slot) if slot < 2 else None
        if other is not None and len(other) == 1 and shape is not None and shape:
            return (-1,) * (len(shape) - 1) + (other[0] if other[0] > 1 else -1,)
    return None


def _matrix(view: ScopeView, node: Node, slot: int) -> Shape:
    other = _shape_of(view, node, 1 - slot)
    if other is None or len(other) != 2:
        return (-1, -1)
    if slot == 0:
        inner = other[1] if attr_of_bool(node, "transpose_b") else other[0]
        return (inner, -1) if attr_of_bool(node, "transpose_a") else (-1, inner)
    inner = other[0] if attr_of_bool(node, "transpose_a") else other[1]
    return (-1, inner) if attr_of_bool(node, "transpose_b") else (inner, -1)


def _reshaped(view: ScopeView, node: Node, shape: Optional[Shape]) -> Optional[Shape]:
    """The one unknown dimension behind the batch, from the number of elements asked for."""
    target = constant_ints(view, node, 1)
    if target is None:
        return None
    if shape is None:
        return target if all(size >= 0 for size in target[1:]) else None
    if list(target).count(-1) > 1 or len(shape) < 2:
        return None
    wanted, have = 1, 1
    for size in target[1:] if target[:1] == (-1,) else target:
        wanted *= max(size, 1)
    open_axes = [axis for axis, size in enumerate(shape) if size < 0 and axis > 0]
    for size in shape[1:]:
        have *= max(size, 1)
    if len(open_axes) != 1 or wanted % have or target[0] != -1:
        return None
    return tuple(wanted // have if axis == open_axes[0] else -1 for axis in range(len(shape)))


def _shape_of(view: ScopeView, node: Node, slot: int) -> Optional[Shape]:
    """The shape of a data input where it is a constant, perhaps behind ops that keep shapes."""
    for _ in range(_MAX_STEPS):
        if slot >= len(node.data_inputs):
            return None
        producer = view.nodes.get(TensorRef.parse(node.data_inputs[slot]).node)
        if producer is None:
            return None
        if producer.op == "Const":
            tensor = producer.tensor()
            return None if tensor is None else tensor.shape
        if producer.op == "Mul":  # codes times scale: the codes have the shape of the weight
            pair = [_shape_of(view, producer, side) for side in (0, 1)]
            known = [item for item in pair if item is not None]
            return max(known, key=_volume) if len(known) == 2 else None
        if producer.op not in _SAME_SHAPE:
            return None
        node, slot = producer, 0
    return None


def _volume(shape: Shape) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def index_limit(view: ScopeView, name: str, port: int) -> Optional[int]:
    """How many rows the smallest table has that a whole number indexes; None where none is."""
    limits = []
    for step in _reached(view, name, port, _SAME_VALUES):
        node, slot = step.node, step.slot
        if node.op in ("Gather", "GatherV2", "ResourceGather") and slot == 1:
            table = _shape_of(view, node, 0)
            axis = constant_int(view, node, 2) if node.op == "GatherV2" else 0
            if table and axis is not None and -len(table) <= axis < len(table):
                limits.append(table[axis])
        elif node.op == "OneHot" and slot == 0:
            depth = constant_int(view, node, 1)
            limits += [] if depth is None else [depth]
    return min((limit for limit in limits if limit > 0), default=None)


def decoder(view: ScopeView, name: str, port: int) -> Optional[str]:
    """The file format that a string is decoded as: wav, png, jpeg, bmp; None where it is not."""
    for step in _reached(view, name, port, _SAME_VALUES):
        if step.node.op in _DECODERS:
            return _DECODERS[step.node.op]
    return None


def iterator_ports(view: ScopeView, node: Node) -> Tuple[Tuple[int, int, Optional[Shape]], ...]:
    """(port, dtype, shape) of the outputs of an IteratorGetNext that are used."""
    types, shapes = node.attr("output_types"), node.attr("output_shapes")
    if types is None:
        return ()
    used = {use.port for use in view.uses(node.name) if use.slot != CONTROL}
    found: List[Tuple[int, int, Optional[Shape]]] = []
    for port, dtype in enumerate(types.list.type):
        if port not in used:
            continue
        shape: Optional[Shape] = None
        if shapes is not None and port < len(shapes.list.shape):
            proto = shapes.list.shape[port]
            shape = None if proto.unknown_rank else tuple(dim.size for dim in proto.dim)
        code = int(dtype)
        found.append((port, code - dtypes.REF_OFFSET if code > dtypes.REF_OFFSET else code, shape))
    return tuple(found)
