"""Tiny graphs in a few lines, without TensorFlow."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from tensorboard.compat.proto.function_pb2 import FunctionDef

from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import (
    attr_bool,
    attr_int,
    attr_string,
    attr_type,
    new_const,
    new_node,
)
from graphwq.graphdef.node import Node
from graphwq.graphdef.protos import AttrValue
from graphwq.graphdef.wire import delimited, varint

_FLOAT_OPS = {
    "Add", "AddV2", "BiasAdd", "BatchMatMul", "BatchMatMulV2", "Concat", "ConcatV2", "Conv2D",
    "Conv2DBackpropInput", "Conv3D", "DepthwiseConv2dNative", "Einsum", "Enter", "Exit",
    "ExpandDims", "Identity", "MatMul", "Merge", "Mul", "NextIteration", "Pack", "Relu", "Reshape",
    "Slice", "Split", "SplitV", "Squeeze", "StridedSlice", "Sub", "Switch", "Transpose", "Unpack",
}  # fmt: skip


def encode(value: Any) -> bytes:
    """An attribute value from plain Python: bool, int, str, bytes, list of int.

    Also ('type', n) for a dtype, ('types', [n, ...]) for several, ('func', name) for a function.
    """
    if isinstance(value, AttrValue):
        return value.SerializeToString(deterministic=True)
    if isinstance(value, bool):
        return attr_bool(value)
    if isinstance(value, (int, np.integer)):
        return attr_int(int(value))
    if isinstance(value, str):
        return attr_string(value.encode())
    if isinstance(value, bytes):
        return attr_string(value)
    if isinstance(value, tuple) and value and value[0] == "type":
        return attr_type(value[1])
    if isinstance(value, tuple) and value and value[0] in ("types", "func"):
        special = AttrValue()
        if value[0] == "func":
            special.func.name = value[1]
        else:
            special.list.type.extend(value[1])
        return special.SerializeToString(deterministic=True)
    if isinstance(value, (list, tuple)):
        attr = AttrValue()
        attr.list.i.extend(int(item) for item in value)
        return attr.SerializeToString(deterministic=True)
    raise TypeError(f"no attribute from {value!r}")


class GraphBuilder:
    """Collects nodes; every method returns the new node's name.

    >>> b = GraphBuilder()
    >>> x = b.placeholder("x", [1, 4])
    >>> w = b.const("w", np.ones((4, 2), np.float32))
    >>> b.op("y", "MatMul", [x, w])
    'y'
    >>> graph = b.graph()
    """

    def __init__(self) -> None:
        self.nodes: List[Node] = []
        self.functions: List[bytes] = []

    def add(self, node: Node) -> str:
        """Add a node as it is."""
        self.nodes.append(node)
        return node.name

    def const(self, name: str, value: Any, control: Sequence[str] = (), device: str = "") -> str:
        """A Const; plain Python ints become int32, floats float32."""
        array = np.asarray(value)
        if array.dtype == np.int64 and not isinstance(value, np.ndarray):
            array = array.astype(np.int32)
        if array.dtype == np.float64 and not isinstance(value, np.ndarray):
            array = array.astype(np.float32)
        dtype = dtypes.FROM_NUMPY[array.dtype]
        inputs = tuple("^" + item for item in control)
        return self.add(new_const(name, dtype, array.shape, array, inputs, device=device))

    def placeholder(
        self, name: str, shape: Optional[Sequence[int]] = None, dtype: int = dtypes.DT_FLOAT
    ) -> str:
        """A Placeholder; a dimension of -1 is unknown."""
        attr = AttrValue()
        if shape is None:
            attr.shape.unknown_rank = True
        else:
            attr.shape.SetInParent()
            for size in shape:
                attr.shape.dim.add().size = size
        attrs = {"dtype": attr_type(dtype), "shape": attr.SerializeToString(deterministic=True)}
        return self.add(new_node(name, "Placeholder", (), attrs))

    def op(self, name: str, op: str, inputs: Sequence[str], device: str = "", **attrs: Any) -> str:
        """Any node; ``T`` defaults to float32 for the usual ops."""
        encoded: Dict[str, bytes] = {key: encode(value) for key, value in attrs.items()}
        if op in _FLOAT_OPS:
            encoded.setdefault("T", attr_type(dtypes.DT_FLOAT))
        return self.add(new_node(name, op, tuple(inputs), encoded, device))

    def variable(
        self, name: str, shape: Optional[Sequence[int]], dtype: int = dtypes.DT_FLOAT, op: str = ""
    ) -> str:
        """A VariableV2 (or another variable ``op``); a shape of None is unknown."""
        attr = AttrValue()
        if shape is None:
            attr.shape.unknown_rank = True
        else:
            attr.shape.SetInParent()
            for size in shape:
                attr.shape.dim.add().size = size
        attrs = {"dtype": attr_type(dtype), "shape": attr.SerializeToString(deterministic=True)}
        return self.add(new_node(name, op or "VariableV2", (), attrs))

    def cast(self, name: str, x: str, source: int, target: int) -> str:
        """A Cast."""
        return self.op(name, "Cast", [x], SrcT=("type", source), DstT=("type", target))

    def gather(self, name: str, table: str, ids: str, axis: Optional[str] = None) -> str:
        """A Gather of int32 indices, or a GatherV2 where ``axis`` is given."""
        types: Dict[str, Any] = {
            "Tparams": ("type", dtypes.DT_FLOAT),
            "Tindices": ("type", dtypes.DT_INT32),
        }
        if axis is None:
            return self.op(name, "Gather", [table, ids], **types)
        types["Taxis"] = ("type", dtypes.DT_INT32)
        return self.op(name, "GatherV2", [table, ids, axis], **types)

    def function(
        self,
        name: str,
        arguments: Sequence[Tuple[str, int]],
        body: GraphBuilder,
        returns: Sequence[Tuple[str, str, int]] = (),
    ) -> str:
        """A FunctionDef in the library.

        Args:
            name: of the function.
            arguments: (name, DataType) each.
            body: holds its nodes; their inputs are written as in a function (``node:output:0``).
            returns: (name, ``node:output:0``, DataType) each.
        """
        function = FunctionDef()
        function.signature.name = name
        for argument, dtype in arguments:
            function.signature.input_arg.add(name=argument, type=dtype)
        for result, value, dtype in returns:
            function.signature.output_arg.add(name=result, type=dtype)
            function.ret[result] = value
        parts = [function.SerializeToString(deterministic=True)]
        parts += [delimited(3, bytes(node.to_bytes())) for node in body.nodes]
        self.functions.append(b"".join(parts))
        return name

    def call(
        self,
        name: str,
        function: str,
        inputs: Sequence[str],
        op: str = "StatefulPartitionedCall",
        types: Sequence[int] = (),
        results: Sequence[int] = (dtypes.DT_FLOAT,),
    ) -> str:
        """A call of a function; ``types`` of its inputs are float32 where not given."""
        given = list(types) or [dtypes.DT_FLOAT] * len(inputs)
        attrs = {"f": ("func", function), "Tin": ("types", given), "Tout": ("types", list(results))}
        return self.op(name, op, inputs, **attrs)

    def conv(self, name: str, x: str, w: str, stride: int = 1, padding: str = "SAME") -> str:
        """A Conv2D in NHWC."""
        return self.op(name, "Conv2D", [x, w], strides=[1, stride, stride, 1], padding=padding)

    def matmul(self, name: str, a: str, b: str, ta: bool = False, tb: bool = False) -> str:
        """A MatMul."""
        return self.op(name, "MatMul", [a, b], transpose_a=ta, transpose_b=tb)

    def graph(self, producer: int = 134) -> Graph:
        """The graph, made from its bytes."""
        return Graph.parse(self.to_bytes(producer))

    def to_bytes(self, producer: int = 134) -> bytes:
        """The serialized GraphDef."""
        parts = [delimited(1, bytes(node.to_bytes())) for node in self.nodes]
        parts.append(delimited(4, b"\x08" + varint(producer)))
        if self.functions:
            library = b"".join(delimited(1, function) for function in self.functions)
            parts.append(delimited(2, library))
        return b"".join(parts)


def random_weight(
    shape: Tuple[int, ...], seed: int = 0, dtype: Any = np.float32, std: float = 0.1
) -> np.ndarray:
    """Gaussian values, seeded."""
    return (np.random.RandomState(seed).randn(*shape) * std).astype(dtype)


def dense(rows: int = 64, columns: int = 32, seed: int = 0) -> Graph:
    """x -> MatMul(w/read) -> y, with w [rows, columns]."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, rows])
    w = b.const("w", random_weight((rows, columns), seed))
    read = b.op("w/read", "Identity", [w])
    b.matmul("y", x, read)
    return b.graph()


def convolution(shape: Tuple[int, int, int, int] = (3, 3, 16, 32), seed: int = 0) -> Graph:
    """x -> Conv2D(w) -> BiasAdd(b) -> Relu."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 8, 8, shape[2]])
    w = b.const("w", random_weight(shape, seed))
    bias = b.const("b", random_weight((shape[3],), seed + 1))
    y = b.conv("conv", x, w)
    y = b.op("biased", "BiasAdd", [y, bias])
    b.op("y", "Relu", [y])
    return b.graph()
