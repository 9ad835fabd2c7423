"""Reading a ``.mnn`` file: the layers with weights, and the codes and scales that they hold.

The field numbers are those of the public schema (MNN.fbs and CaffeOp.fbs of alibaba/MNN). What a
quantized weight looks like in the file (``IDSTQuan``, type 1):

    buffer    rank (1 byte), [output channels * blocks, values of a block] (uint16, or uint32 where
              one does not fit), number n of values in the table (1 byte, 0 = 256), the table (n
              int8), then one index into it per weight, ceil(log2 n) bits each, the first in the
              most significant bits
    alpha     float32, one scale per row; for asymmetric weights pairs (minimum, scale)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef.mapping import read_file
from graphwq.mnn.flat import FlatError, Table, root

_OPLISTS, _OUTPUT_NAMES, _TENSOR_NAMES, _SUBGRAPHS, _UUID = 3, 4, 7, 10, 11
_SUBGRAPH_NAME, _SUBGRAPH_NODES = 0, 4
_OP_INPUTS, _OP_MAIN_TYPE, _OP_MAIN, _OP_NAME, _OP_OUTPUTS, _OP_TYPE = 0, 1, 2, 3, 4, 5
_COMMON, _WEIGHT, _BIAS, _QUANTIZED, _SYMMETRIC, _EXTERNAL = 0, 1, 2, 3, 4, 6
_KERNEL_X, _KERNEL_Y, _GROUP, _OUTPUTS, _INPUTS = 2, 3, 9, 10, 11
_BUFFER, _ALPHA, _TYPE, _MINIMUM, _READ_TYPE, _WIDE = 0, 1, 2, 8, 9, 11
_BLOB_DIMS, _BLOB_TYPE, _BLOB_FLOATS = 0, 2, 7

_CONVOLUTION_2D, _BLOB = 9, 7
_INPUT = 34
_CODED = 1

OP_TYPES = {
    11: "Const",
    12: "Convolution",
    13: "ConvolutionDepthwise",
    17: "Deconvolution",
    18: "DeconvolutionDepthwise",
    513: "ConvInt8",
    515: "DepthwiseConvInt8",
}


@dataclass(frozen=True)
class Quantized:
    """The codes of a layer as the runtime will read them.

    Attributes:
        num_bits: width of a stored index.
        codes: int8 [rows, values of a row]; a row is an output channel, or a block of one.
        scale: float32 [rows].
        asymmetric: whether a minimum is stored with every scale.
    """

    num_bits: int
    codes: np.ndarray
    scale: np.ndarray
    asymmetric: bool

    def values(self) -> np.ndarray:
        """float32(code) * scale, [rows, values of a row]; only of symmetric codes."""
        return self.codes.astype(np.float32) * self.scale[:, None]


@dataclass(frozen=True)
class Layer:
    """One convolution of the model (a MatMul is a 1x1 convolution there).

    Attributes:
        name: the name the converter gave it.
        subgraph: "" for the main graph.
        op: its type, such as ``Convolution`` or ``ConvolutionDepthwise``.
        kernel: height and width.
        outputs, inputs, group: channels, and groups of a grouped convolution.
        weight: the float weights, [size]; empty where the layer is quantized.
        bias: float32 [outputs].
        quantized: None where the layer is float.
    """

    name: str
    subgraph: str
    op: str
    kernel: Tuple[int, int]
    outputs: int
    inputs: int
    group: int
    weight: np.ndarray
    bias: np.ndarray
    quantized: Optional[Quantized]


@dataclass(frozen=True)
class Model:
    """What graphwq needs of a ``.mnn`` file.

    Attributes:
        nbytes: size of the file.
        uuid: the model's id.
        layers: every layer with weights, subgraphs included.
        constants: (name, float32 values) of the float constants.
        names: the names of all ops.
        op_types: their numbers in the schema.
        inputs: names of the input tensors of the main graph.
        outputs: names of its tensors that no op uses.
        tensors: names of all its tensors.
    """

    nbytes: int
    uuid: str
    layers: Tuple[Layer, ...]
    constants: Tuple[Tuple[str, np.ndarray], ...]
    names: Tuple[str, ...]
    op_types: Tuple[int, ...]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    tensors: Tuple[str, ...]


def read(path: Path) -> Model:
    """Read a file.

    Raises:
        InputError: it cannot be read or is no MNN model.
    """
    try:
        return parse(memoryview(read_file(path)))
    except FlatError as error:
        raise InputError(f"{path} is not an MNN model: {error}") from error


def parse(data: memoryview) -> Model:
    """Read a model from its bytes; see ``read``.

    Raises:
        InputError: not a model, or one whose weights lie in a second file.
    """
    net = root(data)
    ops = list(_ops(net))
    layers = [_layer(subgraph, op) for subgraph, op in ops if _is(op, _CONVOLUTION_2D)]
    constants = [_constant(op) for _, op in ops if _is(op, _BLOB)]
    return Model(
        len(data),
        net.text(_UUID),
        tuple(layers),
        tuple(item for item in constants if item is not None),
        tuple(op.text(_OP_NAME) for _, op in ops),
        tuple(op.integer(_OP_TYPE) for _, op in ops),
        *_tensors(net),
    )


def _tensors(net: Table) -> Tuple[Tuple[str, ...], Tuple[str, ...], Tuple[str, ...]]:
    """Names of the tensors that are inputs, of those that nothing uses, and of all."""
    names = net.texts(_TENSOR_NAMES)
    made: Dict[int, bool] = {}
    used: Set[int] = set()
    for op in net.tables(_OPLISTS):
        used.update(int(index) for index in op.vector(_OP_INPUTS, "<i4"))
        is_input = op.integer(_OP_TYPE) == _INPUT
        made.update((int(index), is_input) for index in op.vector(_OP_OUTPUTS, "<i4"))
    if any(not 0 <= index < len(names) for index in made):
        raise FlatError("an op makes a tensor that has no name")
    inputs = tuple(names[index] for index, is_input in made.items() if is_input)
    outputs = tuple(names[i] for i, is_input in made.items() if i not in used and not is_input)
    return inputs, outputs, names


def _ops(net: Table) -> Iterator[Tuple[str, Table]]:
    for op in net.tables(_OPLISTS):
        yield "", op
    for graph in net.tables(_SUBGRAPHS):
        for op in graph.tables(_SUBGRAPH_NODES):
            yield graph.text(_SUBGRAPH_NAME), op


def _is(op: Table, main_type: int) -> bool:
    return op.integer(_OP_MAIN_TYPE, "<B") == main_type


def _layer(subgraph: str, op: Table) -> Layer:
    name = op.text(_OP_NAME)
    main = op.table(_OP_MAIN)
    common = None if main is None else main.table(_COMMON)
    if main is None or common is None:
        raise FlatError(f"layer {name!r} has no parameters")
    if len(main.vector(_EXTERNAL, "<i8")):
        raise InputError(f"the weights of layer {name!r} lie in a second file: convert without it")
    kind = op.integer(_OP_TYPE)
    return Layer(
        name,
        subgraph,
        OP_TYPES.get(kind, f"op {kind}"),
        (common.integer(_KERNEL_Y, default=1), common.integer(_KERNEL_X, default=1)),
        common.integer(_OUTPUTS),
        common.integer(_INPUTS),
        common.integer(_GROUP, default=1),
        main.vector(_WEIGHT, "<f4"),
        main.vector(_BIAS, "<f4"),
        _quantized(name, main.table(_QUANTIZED)),
    )


def _constant(op: Table) -> Optional[Tuple[str, np.ndarray]]:
    main = op.table(_OP_MAIN)
    if main is None or op.integer(_OP_TYPE) != 11:
        return None
    values = main.vector(_BLOB_FLOATS, "<f4")
    return (op.text(_OP_NAME), values) if len(values) else None


def _quantized(name: str, record: Optional[Table]) -> Optional[Quantized]:
    if record is None:
        return None
    kind = record.integer(_TYPE)
    if kind != _CODED:
        raise InputError(f"layer {name!r} is stored in a form (type {kind}) that cannot be read")
    bits, codes = unpack(record.vector(_BUFFER, "<u1"), bool(record.integer(_WIDE, "<B")))
    alpha = record.vector(_ALPHA, "<f4")
    asymmetric = len(alpha) == 2 * len(codes)
    scale = alpha[1::2] if asymmetric else alpha
    if len(scale) != len(codes):
        raise FlatError(f"layer {name!r} has {len(alpha)} scales for {len(codes)} rows")
    return Quantized(bits, codes, scale, asymmetric)


def unpack(buffer: np.ndarray, wide: bool) -> Tuple[int, np.ndarray]:
    """The width of an index, and the codes int8 [rows, values of a row] (see the module).

    Raises:
        FlatError: the bytes are not such a record.
    """
    item = np.dtype("<u4" if wide else "<u2")
    begin = 1 + 2 * item.itemsize
    if len(buffer) <= begin or buffer[0] != 2:
        raise FlatError("a weight record that is cut off or has no two dimensions")
    rows, width = (int(size) for size in np.frombuffer(buffer.tobytes()[1:begin], item))
    count = int(buffer[begin]) or 256
    table = buffer[begin + 1 : begin + 1 + count].astype(np.uint8).view(np.int8)
    packed = buffer[begin + 1 + count :]
    bits = max(1, math.ceil(math.log2(count)))
    if len(table) < count or len(packed) != (rows * width * bits + 7) // 8:
        raise FlatError(f"a weight record of {rows} x {width} values in {len(packed)} bytes")
    index = _indices(packed, rows * width, bits)
    if index.size and int(index.max()) >= count:
        raise FlatError("a weight record that points outside of its table")
    return bits, table[index].reshape(rows, width)


def _indices(packed: np.ndarray, size: int, bits: int) -> np.ndarray:
    if bits == 8:
        return packed[:size]
    parts: List[np.ndarray] = []
    step = 8 * 65536  # whole bytes for every width
    for begin in range(0, size, step):
        piece = packed[begin * bits // 8 : (min(begin + step, size) * bits + 7) // 8]
        flat = np.unpackbits(piece)[: min(step, size - begin) * bits].reshape(-1, bits)
        weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint8)
        parts.append(flat @ weights)
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)
