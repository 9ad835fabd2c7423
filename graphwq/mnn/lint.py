"""What the MNN converter will do with every weight, told from the graph alone.

For each op that uses a weight the codes and scales of the plan are moved into MNN's layout, and the
converter's arithmetic is run on the values: a layer is called quantized only where that gives the
plan's codes and scales back. Every other layer gets a reason and stays float in the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np

from graphwq.graphdef.node import Node, attr_of_bool
from graphwq.mnn import layout, names
from graphwq.mnn.layout import CONVOLUTIONS, MATMUL
from graphwq.mnn.names import Fused, Loops
from graphwq.mnn.operand import Operands
from graphwq.mnn.verdict import Fate, Refusal, block_size, check_arithmetic, folded, spread
from graphwq.quant.scheme import PerGroup, QuantizedTensor, QuantScheme
from graphwq.survey.sites import Consumer, Survey, qualified
from graphwq.survey.view import ScopeView, View

#: Of a MatMul weight with more users than this the converter makes no convolution.
MAX_SHARED = 4


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
        self._scales = Operands(view, {name: spread(item) for name, item in quantized.items()})

    def layers(self, consumer: Consumer, weights: Tuple[str, ...], size: int) -> Iterator[Layer]:
        """The layers that one use of a weight becomes: one, or one per group."""
        node = qualified(consumer.scope, consumer.node)
        base = Layer(weights, node, consumer.op, "", "", Fate.OP, "", 0, 0, size, 4 * size)
        try:
            self._check_op(consumer)
        except Refusal as refusal:
            yield replace(base, fate=refusal.fate, detail=refusal.detail)
            return
        yield from self._convolutions(base, consumer)

    def _check_op(self, consumer: Consumer) -> None:
        """Refuse a use that the converter makes no convolution of."""
        if consumer.scope:
            detail = f"it stands in the function {consumer.scope}, which MNN does not read"
            raise Refusal(Fate.FUNCTION, detail)
        inputs = self._view.nodes[consumer.node].data_inputs
        if self._folding.removes(self._view.nodes[consumer.node]):
            detail = "all inputs of the op are constants: MNN computes it away"
            raise Refusal(Fate.FOLDED, detail)
        if consumer.op == MATMUL and consumer.slot == 0:
            raise Refusal(Fate.LEFT_OPERAND, "MNN quantizes the second input of a MatMul only")
        if consumer.op not in (*CONVOLUTIONS, MATMUL):
            raise Refusal(Fate.OP, f"MNN keeps the weights of {consumer.op} as floats")
        if consumer.op == MATMUL:
            count = self._sharing.count(inputs[1])
            if count > MAX_SHARED:
                detail = f"{count} ops use it; above {MAX_SHARED} MNN keeps one float constant"
                raise Refusal(Fate.SHARED, detail)

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
        except Refusal as refusal:
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
                raise Refusal(Fate.PLANNED_FLOAT, "the plan keeps it float")
            schemes.append(self._quantized[weight].scheme)
        if len({scheme.num_bits for scheme in schemes}) > 1:
            bits = ", ".join(str(scheme.num_bits) for scheme in schemes)
            raise Refusal(Fate.SEVERAL_SCALES, f"weights of {bits} bits are joined in one layer")
        return schemes[0]

    def _expected(
        self, layer: Layer, node: Node, slot: int, channels: int
    ) -> Tuple[np.ndarray, np.ndarray, int, int]:
        """Codes and scales as they will stand in the model, bits and block size."""
        scheme = self._scheme(layer.weights)
        name = node.data_inputs[slot]
        moved = self._codes.value(name), self._scales.value(name)
        if moved[0] is None or moved[1] is None:
            raise Refusal(Fate.NOT_CONSTANT, "what the op gets is computed, no constant")
        transposed = attr_of_bool(node, "transpose_b")
        codes = layout.rows(node.op, moved[0], transposed)
        scales = layout.rows(node.op, moved[1], transposed)
        block = 0
        if isinstance(scheme.granularity, PerGroup):
            block = block_size(scheme.granularity, channels)
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
                raise Refusal(Fate.TRANSPOSED_GROUPING, detail)
            detail = "weights that share a scale in MNN have several in the plan"
            raise Refusal(Fate.SEVERAL_SCALES, detail)
        check_arithmetic(codes, scale, scheme, layer.factor, node.op)
        signs, scale = folded(scale, layer.factor)
        codes = (codes * signs[:, None]).astype(np.int8)
        return codes, scale, scheme.num_bits, block


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
