"""What an op gets as its weight: the constant, moved about by the ops in between, in numpy.

The converter computes every constant subgraph before it quantizes. To know which codes will stand
in the model, the same is done here with the codes and with the scales in place of the weight.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, TensorRef, attr_of_int, attr_of_type
from graphwq.survey.paths import PASS_OPS
from graphwq.survey.view import ScopeView

_MAX_DEPTH = 200
#: Results of arithmetic, and constants of more elements than a few for each of their bytes, are
#: refused above this: a tiny file can declare more than any memory holds.
_MAX_ELEMENTS = 1 << 22
_ELEMENTS_PER_BYTE = 8
_MAX_RANK = 64

Arrays = List[np.ndarray]
_Op = Callable[[Node, Arrays], Tuple[np.ndarray, ...]]


class Operands:
    """The values of constant tensors of one scope, computed once each.

    Args:
        view: the scope.
        given: arrays that stand for nodes, whatever they hold.
    """

    def __init__(self, view: ScopeView, given: Optional[Mapping[str, np.ndarray]] = None) -> None:
        self._view = view
        self._known: Dict[str, Optional[Tuple[np.ndarray, ...]]] = {
            name: (array,) for name, array in (given or {}).items()
        }

    def value(self, name: str, depth: int = 0) -> Optional[np.ndarray]:
        """The value of an input as a node writes it; None where it is no constant or too large.

        Raises:
            InputError: the constants do not fit together.
        """
        ref = TensorRef.parse(name)
        if ref.node not in self._known:
            self._known[ref.node] = None  # also the answer inside a cycle
            self._known[ref.node] = self._outputs(ref.node, depth)
        outputs = self._known[ref.node]
        if outputs is None or not ref.port >= 0:
            return None
        # of a Switch both outputs are the input
        return outputs[ref.port if ref.port < len(outputs) else 0]

    def _outputs(self, name: str, depth: int) -> Optional[Tuple[np.ndarray, ...]]:
        node = self._view.nodes.get(name)
        if node is None or depth > _MAX_DEPTH:
            return None
        if node.op == "Const":
            tensor = node.tensor()
            if tensor is None or tensor.size > _MAX_ELEMENTS + _ELEMENTS_PER_BYTE * node.nbytes:
                return None
            return None if tensor.dtype not in dtypes.NUMPY else (tensor.numpy(),)
        operation = _OPS.get(node.op)
        if operation is None:
            return None
        needed = node.data_inputs[:1] if node.op in PASS_OPS else node.data_inputs
        inputs = []
        for item in needed:
            value = self.value(item, depth + 1)
            if value is None:
                return None
            inputs.append(value)
        try:
            with np.errstate(all="ignore"):
                if node.op in _ARITHMETIC:
                    size = np.prod(np.broadcast(*inputs).shape, dtype=np.float64)
                    if size > _MAX_ELEMENTS:
                        return None
                return operation(node, inputs)
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"node {name!r} cannot be computed: {error}") from error


def _ints(array: np.ndarray) -> List[int]:
    return [int(item) for item in array.reshape(-1)]


def _binary(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> _Op:
    return lambda _node, inputs: (function(inputs[0], inputs[1]),)


def _one(function: Callable[[np.ndarray], np.ndarray]) -> _Op:
    return lambda _node, inputs: (function(inputs[0]),)


def _cast(node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    target = dtypes.NUMPY.get(attr_of_type(node, "DstT"))
    if target is None:
        raise ValueError("a type that cannot be read")
    return (inputs[0].astype(target),)


def _squeeze(node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    attr = node.attr("squeeze_dims") or node.attr("axis")
    dims = tuple(attr.list.i) if attr is not None else ()
    return (np.squeeze(inputs[0], dims or None),)


def _reshape(_node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    return (inputs[0].reshape(_ints(inputs[1])),)


def _slice(_node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    value, begin, size = inputs
    window = [
        slice(first, None if count == -1 else first + count)
        for first, count in zip(_ints(begin), _ints(size))
    ]
    return (value[tuple(window)],)


def _range(_node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    start, limit, delta = (item.reshape(()) for item in inputs)
    if delta == 0 or abs((limit - start) / delta) > _MAX_RANK:
        raise ValueError("a Range that is no list of axes")
    return (np.arange(start, limit, delta, dtype=start.dtype),)


def _strided_slice(node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    """tf.strided_slice with its five masks, which numpy's indexing can express."""
    value, begin, end, strides = inputs
    masks = {
        key: attr_of_int(node, key + "_mask", 0)
        for key in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: List[object] = []
    for place, (first, last, step) in enumerate(zip(_ints(begin), _ints(end), _ints(strides))):
        if masks["ellipsis"] >> place & 1:
            index.append(Ellipsis)
        elif masks["new_axis"] >> place & 1:
            index.append(None)
        elif masks["shrink_axis"] >> place & 1:
            index.append(first)
        else:
            start = None if masks["begin"] >> place & 1 else first
            index.append(slice(start, None if masks["end"] >> place & 1 else last, step))
    return (np.asarray(value[tuple(index)]),)


def _split(node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    return tuple(np.split(inputs[1], attr_of_int(node, "num_split", 1), int(inputs[0])))


def _split_v(_node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    value, sizes, axis = inputs[0], _ints(inputs[1]), int(inputs[2])
    if -1 in sizes:
        rest = value.shape[axis] - sum(size for size in sizes if size != -1)
        sizes = [rest if size == -1 else size for size in sizes]
    return tuple(np.split(value, np.cumsum(sizes)[:-1], axis))


def _unpack(node: Node, inputs: Arrays) -> Tuple[np.ndarray, ...]:
    axis = attr_of_int(node, "axis", 0)
    count = inputs[0].shape[axis]
    return tuple(np.take(inputs[0], index, axis) for index in range(count))


_ARITHMETIC: Dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Div": np.divide,
}

_OPS: Dict[str, _Op] = {
    **dict.fromkeys(PASS_OPS, lambda _node, inputs: (inputs[0],)),
    "Cast": _cast,
    "ExpandDims": lambda _node, inputs: (np.expand_dims(inputs[0], int(inputs[1])),),
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": lambda _node, inputs: (inputs[0].transpose(_ints(inputs[1])),),
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "Split": _split,
    "SplitV": _split_v,
    "Unpack": _unpack,
    "Pack": lambda node, inputs: (np.stack(inputs, attr_of_int(node, "axis", 0)),),
    "ConcatV2": lambda _node, inputs: (np.concatenate(inputs[:-1], int(inputs[-1])),),
    "Concat": lambda _node, inputs: (np.concatenate(inputs[1:], int(inputs[0])),),
    "Rank": _one(lambda value: np.asarray(value.ndim, np.int32)),
    "Range": _range,
    "Rsqrt": _one(lambda value: 1 / np.sqrt(value)),
    "Sqrt": _one(np.sqrt),
    "Neg": _one(np.negative),
    **{name: _binary(function) for name, function in _ARITHMETIC.items()},
}
