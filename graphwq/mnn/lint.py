"""What the MNN converter will do with every weight, told from the graph alone.

For each op that uses a weight the codes and scales of the plan are moved into MNN's layout, and the
converter's arithmetic is run on the values: a layer is called quantized only where that gives the
plan's codes and scales back. Every other layer gets a reason and stays float in the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef.node import Node, attr_of_bool
from graphwq.mnn import layout, names
from graphwq.mnn.layout import CONVOLUTIONS, MATMUL, SMALLEST_SCALE
from graphwq.mnn.names import Fused, Loops
from graphwq.mnn.operand import Operands
from graphwq.quant.scheme import PerGroup, QuantizedTensor, QuantScheme
from graphwq.survey.sites import Consumer, Survey, qualified
from graphwq.survey.view import ScopeView, View

#: Of a MatMul weight with more users than this the converter makes no convolution.
MAX_SHARED = 4
#: A folded scale may miss the product of scale and batch-norm factor by a few float32 roundings.
FOLD_TOLERANCE = 2e-6


class Fate(str, Enum):
    """What becomes of a weight in one layer: quantized, or why it stays float."""

    QUANTIZED = "quantized"
    FUNCTION = "function"
    OP = "op"
    FOLDED = "folded"
    LEFT_OPERAND = "left_operand"
    DEPTHWISE_MULTIPLIER = "depthwise_multiplier"
    SHARED = "shared"
    NOT_CONSTANT = "not_constant"
    PLANNED_FLOAT = "planned_float"
    TRANSPOSED_GROUPING = "transposed_grouping"
    GROUP_SIZE = "group_size"
    SEVERAL_SCALES = "several_scales"
    TINY_SCALE = "tiny_scale"
    GRID = "grid"
    UNKNOWN_LAYER = "unknown_layer"


@dataclass(frozen=True)
class Layer:
    """One layer that holds weights, as the converter will write it.

    Attributes:
        weights: the weights it is made of (several where they are joined on the way).
        node, op: the op of the graph.
        name, subgraph: its name in the model; "" where the weight is no layer's.
        fate, detail: quantized, or why not.
        num_bits: of the codes; 0 where it stays float.
        block_size: input channels of a block; 0 for whole rows.
        size: number of weights in this layer.
        nbytes: bytes that they take in the model.
        codes: int8 [rows, values] as they will stand there; None where it stays float.
        scale: float32 [rows].
        factor: of batch normalisation, [output channels]; None where there is none.
    """

    weights: Tuple[str, ...]
    node: str
    op: str
    name: str
    subgraph: str
    fate: Fate
    detail: str
    num_bits: int
    block_size: int
    size: int
    nbytes: int
    codes: Optional[np.ndarray] = None
    scale: Optional[np.ndarray] = None
    factor: Optional[np.ndarray] = None

    @property
    def is_quantized(self) -> bool:
        """Whether the model will hold codes."""
        return self.fate is Fate.QUANTIZED

    @property
    def grouping(self) -> str:
        """Which weights share a scale."""
        if not self.is_quantized or self.scale is None:
            return "-"
        if self.block_size:
            return f"{len(self.scale)} blocks of {self.block_size} input channels"
        return f"{len(self.scale)} output channels"

    def to_json(self) -> Dict[str, Any]:
        """The layer as JSON data, without codes and scales."""
        return {
            "weights": list(self.weights),
            "node": self.node,
            "op": self.op,
            "layer": self.name,
            "subgraph": self.subgraph,
            "fate": self.fate.value,
            "detail": self.detail,
            "num_bits": self.num_bits,
            "block_size": self.block_size,
            "grouping": self.grouping,
            "size": self.size,
            "bytes": self.nbytes,
            "batch_norm": self.factor is not None,
        }


def layers(view: View, survey: Survey, quantized: Mapping[str, QuantizedTensor]) -> List[Layer]:
    """Every use of every weight, in the order of the survey.

    Args:
        view: the graph, quantized or not: only its structure and its other constants count.
        survey: of that graph, before it was quantized.
        quantized: codes and scales by weight; weights that are not in it are planned float.
    """
    found: List[Layer] = []
    users: Dict[Tuple[str, str, int], List[str]] = {}
    consumers: Dict[Tuple[str, str, int], Consumer] = {}
    for site in survey.sites:
        for consumer in site.consumers:
            key = (consumer.scope, consumer.node, consumer.slot)
            users.setdefault(key, []).append(site.weight)
            consumers.setdefault(key, consumer)
    lookup = {site.weight: site for site in survey.sites}
    main = _Scope(view.main, quantized)
    for key, weights in users.items():
        consumer = consumers[key]
        size = sum(lookup[weight].size for weight in dict.fromkeys(weights))
        found.extend(main.layers(consumer, tuple(dict.fromkeys(weights)), size))
    return found


class _Refusal(Exception):  # noqa: N818  control flow, never seen outside
    """Why a layer stays float."""

    def __init__(self, fate: Fate, detail: str) -> None:
        super().__init__(detail)
        self.fate = fate
        self.detail = detail


class _Scope:
    """The main graph, with what its layers share."""

    def __init__(self, view: ScopeView, quantized: Mapping[str, QuantizedTensor]) -> None:
        self._view = view
        self._quantized = quantized
        self._loops = Loops(view)
        self._sharing = names.Sharing(view)
        self._plain = Operands(view)
        self._folding = names.Folding(view, self._plain)
        self._codes = Operands(
            view, {name: item.codes.astype(np.float32) for name, item in quantized.items()}
        )
        self._scales = Operands(view, {name: _spread(item) for name, item in quantized.items()})

    def layers(self, consumer: Consumer, weights: Tuple[str, ...], size: int) -> Iterator[Layer]:
        """The layers that one use of a weight becomes: one, or one per group."""
        node = qualified(consumer.scope, consumer.node)
        base = Layer(weights, node, consumer.op, "", "", Fate.OP, "", 0, 0, size, 4 * size)
        try:
            self._check_op(consumer)
        except _Refusal as refusal:
            yield replace(base, fate=refusal.fate, detail=refusal.detail)
            return
        yield from self._convolutions(base, consumer)

    def _check_op(self, consumer: Consumer) -> None:
        """Refuse a use that the converter makes no convolution of."""
        if consumer.scope:
            detail = f"it stands in the function {consumer.scope}, which MNN does not read"
            raise _Refusal(Fate.FUNCTION, detail)
        inputs = self._view.nodes[consumer.node].data_inputs
        if self._folding.removes(self._view.nodes[consumer.node]):
            detail = "all inputs of the op are constants: MNN computes it away"
            raise _Refusal(Fate.FOLDED, detail)
        if consumer.op == MATMUL and consumer.slot == 0:
            raise _Refusal(Fate.LEFT_OPERAND, "MNN quantizes the second input of a MatMul only")
        if consumer.op not in (*CONVOLUTIONS, MATMUL):
            raise _Refusal(Fate.OP, f"MNN keeps the weights of {consumer.op} as floats")
        if consumer.op == MATMUL:
            count = self._sharing.count(inputs[1])
            if count > MAX_SHARED:
                detail = f"{count} ops use it; above {MAX_SHARED} MNN keeps one float constant"
                raise _Refusal(Fate.SHARED, detail)

    def _convolutions(self, base: Layer, consumer: Consumer) -> Iterator[Layer]:
        node = self._view.nodes[consumer.node]
        transposed = attr_of_bool(node, "transpose_b")
        subgraph = self._loops.subgraph(node.name)
        value = self._plain.value(node.data_inputs[consumer.slot])
        if value is None or value.ndim != (2 if node.op == MATMUL else 4):
            detail = "what the op gets is computed, no constant"
            yield replace(base, fate=Fate.NOT_CONSTANT, detail=detail)
            return
        if node.op == "DepthwiseConv2dNative" and value.shape[3] != 1:
            detail = f"{value.shape[3]} outputs per channel; MNN cuts the weights at run time"
            yield replace(base, fate=Fate.DEPTHWISE_MULTIPLIER, detail=detail)
            return
        outputs = layout.outputs(node.op, value.shape, transposed)
        channels = layout.inputs(node.op, value.shape, transposed)
        fused = self._fused(node, outputs)
        layer = replace(
            base, name=fused.name, subgraph=subgraph, factor=fused.factor,
            size=value.size, nbytes=4 * value.size,
        )  # fmt: skip
        parts = 1
        if node.op == "Conv2D":
            parts = names.groups(self._view, self._plain, node, channels)
        try:
            codes, scale, bits, block = self._expected(layer, node, consumer.slot, channels)
        except _Refusal as refusal:
            layer = replace(layer, fate=refusal.fate, detail=refusal.detail)
            yield from _grouped(layer, parts, outputs)
            return
        rows = len(codes)
        layer = replace(
            layer, fate=Fate.QUANTIZED, num_bits=bits, block_size=block, codes=codes, scale=scale,
            nbytes=layout.record_nbytes(codes.size, rows, codes.shape[1], bits),
        )  # fmt: skip
        yield from _grouped(layer, parts, outputs)

    def _fused(self, node: Node, outputs: int) -> Fused:
        if node.op == MATMUL:
            return names.matmul(self._view, self._plain, node, outputs)
        return names.convolution(self._view, self._plain, node, outputs)

    def _scheme(self, weights: Tuple[str, ...]) -> QuantScheme:
        """The scheme that all weights of a layer share."""
        schemes = []
        for weight in weights:
            if weight not in self._quantized:
                raise _Refusal(Fate.PLANNED_FLOAT, "the plan keeps it float")
            schemes.append(self._quantized[weight].scheme)
        if len({scheme.num_bits for scheme in schemes}) > 1:
            bits = ", ".join(str(scheme.num_bits) for scheme in schemes)
            raise _Refusal(Fate.SEVERAL_SCALES, f"weights of {bits} bits are joined in one layer")
        return schemes[0]

    def _expected(
        self, layer: Layer, node: Node, slot: int, channels: int
    ) -> Tuple[np.ndarray, np.ndarray, int, int]:
        """Codes and scales as they will stand in the model, bits and block size."""
        scheme = self._scheme(layer.weights)
        name = node.data_inputs[slot]
        moved = self._codes.value(name), self._scales.value(name)
        if moved[0] is None or moved[1] is None:
            raise _Refusal(Fate.NOT_CONSTANT, "what the op gets is computed, no constant")
        transposed = attr_of_bool(node, "transpose_b")
        codes = layout.rows(node.op, moved[0], transposed)
        scales = layout.rows(node.op, moved[1], transposed)
        block = 0
        if isinstance(scheme.granularity, PerGroup):
            block = _block_size(scheme.granularity, channels)
            if block:
                codes = layout.blocked(codes, channels, block)
                scales = layout.blocked(scales, channels, block)
        scale = layout.row_scale(scales)
        if scale is None:
            if node.op == "Conv2DBackpropInput":
                detail = (
                    "MNN cuts a transposed convolution into pieces of memory, not into the "
                    "channels that the plan gave a scale each"
                )
                raise _Refusal(Fate.TRANSPOSED_GROUPING, detail)
            detail = "weights that share a scale in MNN have several in the plan"
            raise _Refusal(Fate.SEVERAL_SCALES, detail)
        _check_arithmetic(codes, scale, scheme, layer.factor, node.op)
        signs, scale = _folded(scale, layer.factor)
        codes = (codes * signs[:, None]).astype(np.int8)
        return codes, scale, scheme.num_bits, block


def _spread(item: QuantizedTensor) -> np.ndarray:
    """The scales in the shape of the weight."""
    scheme = item.scheme
    if not isinstance(scheme.granularity, PerGroup):
        return np.broadcast_to(item.scale, item.codes.shape)
    axis, size = scheme.granularity.axis, scheme.granularity.group_size
    repeated = np.repeat(item.scale, size, axis)
    cut = repeated.take(np.arange(item.codes.shape[axis]), axis)
    return np.broadcast_to(cut, item.codes.shape)


def _block_size(granularity: PerGroup, channels: int) -> int:
    """The block size to tell the converter; 0 where one group is the whole row."""
    size = granularity.group_size
    if size >= channels:
        return 0
    if not layout.is_block(size, channels):
        detail = (
            f"groups of {size} of {channels} input channels; MNN's blocks are multiples of "
            f"{layout.BLOCK_STEP} that divide them"
        )
        raise _Refusal(Fate.GROUP_SIZE, detail)
    return size


def _check_arithmetic(
    codes: np.ndarray,
    scale: np.ndarray,
    scheme: QuantScheme,
    factor: Optional[np.ndarray],
    op: str,
) -> None:
    """Refuse rows that the converter would not reproduce."""
    per_row = _per_row(factor, len(scale))
    if per_row is not None and op == "Conv2DBackpropInput" and len(scale) > 1:
        detail = "batch normalisation is folded into channels, MNN groups by pieces of memory"
        raise _Refusal(Fate.TRANSPOSED_GROUPING, detail)
    used = codes.any(1)
    folded = scale if per_row is None else np.abs(scale * per_row)
    tiny = np.flatnonzero(used & ~(folded > SMALLEST_SCALE) & (folded > 0))
    if len(tiny):
        after = "" if per_row is None else " after batch-norm folding"
        detail = (
            f"the scale of output channel {tiny[0]} is {folded[tiny[0]]:.2g}{after}; MNN stores "
            f"zeros where it is not above 1e-6"
        )
        raise _Refusal(Fate.TINY_SCALE, detail)
    if not np.isfinite(folded).all():
        raise _Refusal(Fate.GRID, "batch normalisation makes NaN or Inf of it")
    found, derived = layout.encode(codes.astype(np.float32) * scale[:, None], scheme.num_bits)
    wrong = (found != codes).any(1) | ((derived != scale) & used)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        detail = (
            f"MNN would derive the scale {derived[row]:.6g} for row {row}, not {scale[row]:.6g}: "
            f"its largest code is {int(np.abs(codes[row]).max())}, not {scheme.max_code}"
        )
        raise _Refusal(Fate.GRID, detail)


def _per_row(factor: Optional[np.ndarray], count: int) -> Optional[np.ndarray]:
    return None if factor is None else np.repeat(factor, count // len(factor))


def _folded(scale: np.ndarray, factor: Optional[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """The sign of each row's codes and its scale after batch-norm folding."""
    per_row = _per_row(factor, len(scale))
    if per_row is None:
        return np.ones(len(scale), np.int8), scale
    return np.sign(per_row).astype(np.int8), np.abs(scale * per_row).astype(np.float32)


def _grouped(layer: Layer, parts: int, outputs: int) -> Iterator[Layer]:
    """A grouped convolution as its layers; any other layer as it is."""
    if parts <= 1 or outputs % parts:
        yield layer
        return
    for index in range(parts):
        part = replace(
            layer,
            name=f"{layer.name}__group__{index}",
            size=layer.size // parts,
            nbytes=layer.nbytes // parts,
        )
        if layer.codes is not None and layer.scale is not None:
            count = len(layer.codes) // parts
            window = slice(index * count, (index + 1) * count)
            codes, scale = layer.codes[window], layer.scale[window]
            nbytes = layout.record_nbytes(codes.size, count, codes.shape[1], layer.num_bits)
            part = replace(part, codes=codes, scale=scale, nbytes=nbytes)
        if layer.factor is not None:
            channels = outputs // parts
            part = replace(part, factor=layer.factor[index * channels : (index + 1) * channels])
        yield part


def check_unique(found: List[Layer]) -> None:
    """Two layers of one name would share one record of the compression file.

    Raises:
        InputError: there are such, and they are to be quantized differently.
    """
    seen: Dict[Tuple[str, str], Layer] = {}
    for layer in found:
        if not layer.is_quantized:
            continue
        other = seen.setdefault((layer.subgraph, layer.name), layer)
        if other is not layer and (other.num_bits, other.block_size) != (
            layer.num_bits,
            layer.block_size,
        ):
            raise InputError(f"two layers are named {layer.name!r} and need different records")
