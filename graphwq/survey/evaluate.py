"""Evaluating constant subgraphs in numpy: the few ops that dequantization is made of."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Set

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import (
    Node,
    TensorRef,
    attr_of_bool,
    attr_of_int,
    attr_of_string,
    attr_of_type,
)
from graphwq.survey.view import ScopeView

#: Results of more elements than this for each byte of the constants they are made of (and a few
#: besides) are refused: a tiny file can declare more than any memory holds.
_ELEMENTS_PER_BYTE = 64
_FREE_ELEMENTS = 1 << 20
#: The most that a FakeQuant op has (tensorflow/core/ops/array_ops.cc).
_FAKE_QUANT_BITS = 16

Inputs = List[np.ndarray]


def _fake_quant(node: Node, inputs: Inputs) -> np.ndarray:
    """tensorflow/core/kernels/fake_quant_ops_functor.h, in float32."""
    value, low, high = inputs
    num_bits = attr_of_int(node, "num_bits", 8)
    if not 2 <= num_bits <= _FAKE_QUANT_BITS:
        raise InputError(f"node {node.name!r} has num_bits {num_bits}: 2..16 is possible")
    if not low.any() and not high.any():
        return np.zeros_like(value)
    first = np.float32(1 if attr_of_bool(node, "narrow_range") else 0)
    last = np.float32((1 << num_bits) - 1)
    scale = (high - low) / (last - first)
    zero = np.clip(first - low / scale, first, last)
    zero = np.floor(zero + np.float32(0.5)).astype(np.float32)  # std::round of numbers >= 0
    low, high = (first - zero) * scale, (last - zero) * scale
    clamped = np.maximum(np.minimum(value, high), low) - low
    result = np.floor(clamped * (np.float32(1) / scale) + np.float32(0.5)) * scale + low
    return np.asarray(result, np.float32)


def _range(_node: Node, inputs: Inputs) -> np.ndarray:
    start, limit, delta = (item.reshape(()) for item in inputs)
    if delta == 0 or not abs((limit - start) / delta) <= _FREE_ELEMENTS:
        raise InputError("a Range of absurd length")
    return np.arange(start, limit, delta, dtype=start.dtype)


def _slice(_node: Node, inputs: Inputs) -> np.ndarray:
    value, begin, size = inputs
    window = tuple(
        slice(int(start), None if length == -1 else int(start + length))
        for start, length in zip(begin, size)
    )
    return value[window]


def _cast(node: Node, inputs: Inputs) -> np.ndarray:
    code = attr_of_type(node, "DstT")
    target = dtypes.NUMPY.get(code)
    if target is None or code == dtypes.DT_BFLOAT16:
        raise InputError(f"node {node.name!r} casts to a type that cannot be read")
    return inputs[0].astype(target)


def _matmul(node: Node, inputs: Inputs) -> np.ndarray:
    if attr_of_bool(node, "adj_x") or attr_of_bool(node, "adj_y"):
        raise InputError(f"node {node.name!r} transposes its operands, which is not known here")
    return np.asarray(np.matmul(inputs[0], inputs[1]))


def _dequantize(node: Node, inputs: Inputs) -> np.ndarray:
    """tensorflow/core/kernels/dequantize_op.cc and quantization_utils.h of TensorFlow 1.15."""
    codes, low, high = inputs[0], np.float32(inputs[1]), np.float32(inputs[2])
    if codes.dtype.kind not in "iu" or codes.dtype.itemsize > 2:
        raise InputError(f"node {node.name!r} dequantizes a type that is not known here")
    kind = np.iinfo(codes.dtype)
    wide = codes.astype(np.float32)
    mode = attr_of_string(node, "mode", b"MIN_COMBINED")
    steps = np.float32(int(kind.max) - int(kind.min))
    if mode == b"SCALED":
        bottom = kind.min + int(attr_of_bool(node, "narrow_range"))
        scales = [high / np.float32(kind.max)]
        if kind.min:
            scales.append(low / np.float32(bottom))
        return np.asarray(wide * np.max(scales), np.float32)
    if mode == b"MIN_FIRST":
        if low == high:
            return np.full_like(wide, low)
        step = float(high - low) / float(steps)
        start = np.round(low / np.float32(step)) * np.float32(step)
        offsets = codes.astype(np.float64) - float(kind.min)
        return np.asarray(start + offsets * step, np.float32)
    half = np.float32((steps + 1) / 2 if kind.min else 0)
    return np.asarray((wide + half) * ((high - low) / steps) + low, np.float32)


_OPS: Dict[str, Callable[[Node, Inputs], np.ndarray]] = {
    "Identity": lambda _node, inputs: inputs[0],
    "Cast": _cast,
    "Add": lambda _node, inputs: inputs[0] + inputs[1],
    "AddV2": lambda _node, inputs: inputs[0] + inputs[1],
    "Sub": lambda _node, inputs: inputs[0] - inputs[1],
    "Mul": lambda _node, inputs: inputs[0] * inputs[1],
    "RealDiv": lambda _node, inputs: inputs[0] / inputs[1],
    "Neg": lambda _node, inputs: -inputs[0],
    "Dequantize": _dequantize,
    "BatchMatMulV2": _matmul,
    "Floor": lambda _node, inputs: np.floor(inputs[0]),
    "FloorMod": lambda _node, inputs: np.mod(inputs[0], inputs[1]),
    "Range": _range,
    "ExpandDims": lambda _node, inputs: np.expand_dims(inputs[0], int(inputs[1])),
    "Reshape": lambda _node, inputs: inputs[0].reshape(tuple(int(size) for size in inputs[1])),
    "Slice": _slice,
    "Gather": lambda _node, inputs: np.take(inputs[0], inputs[1], 0),
    "GatherV2": lambda _node, inputs: np.take(inputs[0], inputs[1], int(inputs[2])),
    "ConcatV2": lambda _node, inputs: np.concatenate(inputs[:-1], int(inputs[-1])),
    "Transpose": lambda _node, inputs: inputs[0].transpose(tuple(int(axis) for axis in inputs[1])),
    "FakeQuantWithMinMaxVars": _fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": _fake_quant,
}


_BROADCASTING = frozenset(["Add", "AddV2", "Sub", "Mul", "RealDiv", "FloorMod"])


def _size(node: Node, inputs: Inputs) -> int:
    """Elements of the result of an op that can have more than its inputs."""
    if node.op in ("Gather", "GatherV2"):
        params = inputs[0]
        axis = int(inputs[2]) if node.op == "GatherV2" else 0
        return inputs[1].size * (params.size // max(params.shape[axis], 1))
    if node.op == "BatchMatMulV2":
        left, right = (item.reshape((1,) * (2 - item.ndim) + item.shape) for item in inputs)
        batch = np.broadcast(left[..., 0, 0], right[..., 0, 0]).size
        return batch * left.shape[-2] * right.shape[-1]
    if node.op in _BROADCASTING:
        return int(np.prod(np.broadcast(*inputs).shape, dtype=np.float64))
    return 0


def evaluate(
    view: ScopeView, name: str, given: Optional[Mapping[str, np.ndarray]] = None
) -> Optional[np.ndarray]:
    """The value of a node's first output, or None where it is not made of constants alone.

    Args:
        view: the scope.
        name: of the node.
        given: values that stand for nodes, whatever they compute.

    Raises:
        InputError: the constants do not fit together.
    """
    known: Dict[str, np.ndarray] = dict(given or {})
    pending = [name]
    opened: Set[str] = set()
    allowed = _FREE_ELEMENTS + sum(value.size for value in known.values())
    while pending:
        current = pending[-1]
        node = view.nodes.get(current)
        if current in known:
            pending.pop()
            continue
        if node is None:
            return None
        if node.op == "Const":
            tensor = node.tensor()
            allowed += _ELEMENTS_PER_BYTE * node.nbytes
            if tensor is None or tensor.size > allowed:
                return None
            known[current] = tensor.numpy()
            pending.pop()
            continue
        inputs = [TensorRef.parse(item).node for item in node.data_inputs]
        missing = [item for item in inputs if item not in known]
        if node.op not in _OPS or (missing and current in opened):
            return None  # an op that is not known here, or a cycle
        if missing:
            opened.add(current)
            pending.extend(missing)
            continue
        try:
            values = [known[item] for item in inputs]
            if _size(node, values) > allowed:
                return None
            with np.errstate(all="ignore"):
                known[current] = _OPS[node.op](node, values)
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"node {current!r} cannot be computed: {error}") from error
        pending.pop()
    return known[name]
