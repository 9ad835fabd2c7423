"""Planted edits: each a function from a graph to a graph with one thing changed."""

from __future__ import annotations

from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from builders import GraphBuilder, random_weight
from tensorboard.compat.proto.graph_pb2 import GraphDef

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.wire import delimited


def edited(graph: Graph, change: Callable[[GraphDef], None]) -> Graph:
    """The graph after a change to its proto; untouched nodes keep their order."""
    proto = GraphDef.FromString(graph.to_bytes())
    change(proto)
    return Graph.parse(proto.SerializeToString(deterministic=True))


def edited_node(graph: Graph, name: str, change: Callable[[Any], None]) -> Graph:
    """The graph after a change to one node; no other byte is touched."""
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

    node = next(node for node in graph.nodes if node.name == name)
    proto = NodeDef.FromString(bytes(node.to_bytes()))
    change(proto)
    data = delimited(1, proto.SerializeToString(deterministic=True))
    new = Graph.parse(data).nodes[0]
    return Graph.parse(graph.edited({"": {name: (new,)}}).to_bytes())


def node_of(proto: GraphDef, name: str):  # type: ignore[no-untyped-def]
    return next(node for node in proto.node if node.name == name)


def with_values(name: str, change: Callable[[np.ndarray], None]) -> Callable[[GraphDef], None]:
    """Change the values of a constant that is stored as tensor_content."""

    def apply(proto: GraphDef) -> None:
        tensor = node_of(proto, name).attr["value"].tensor
        dtype = {1: np.float32, 3: np.int32, 6: np.int8}[tensor.dtype]
        array = np.frombuffer(tensor.tensor_content, dtype).copy()
        change(array)
        tensor.tensor_content = array.tobytes()

    return apply


def prefixed(graph: Graph, prefix: str = "import/") -> Graph:
    """Everything renamed, as tf.import_graph_def does it."""

    def apply(proto: GraphDef) -> None:
        for node in proto.node:
            node.name = prefix + node.name
            for index, item in enumerate(node.input):
                node.input[index] = "^" + prefix + item[1:] if item[0] == "^" else prefix + item
            if "_class" in node.attr:
                places = node.attr["_class"].list.s
                for index, item in enumerate(places):
                    places[index] = item.replace(b"loc:@", b"loc:@" + prefix.encode())

    return edited(graph, apply)


def model() -> Graph:
    """A small network with a branch, a function call and two outputs."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 8, 8, 3])
    w1 = b.const("conv1/weights", random_weight((3, 3, 3, 16), 1))
    read = b.op("conv1/weights/read", "Identity", [w1])
    c1 = b.conv("conv1/Conv2D", x, read)
    y = b.op("conv1/BiasAdd", "BiasAdd", [c1, b.const("conv1/bias", random_weight((16,), 2))])
    y = b.op("conv1/Relu", "Relu", [y])
    w2 = b.const("conv2/weights", random_weight((3, 3, 16, 16), 3))
    c2 = b.conv("conv2/Conv2D", y, b.op("conv2/weights/read", "Identity", [w2]))
    y2 = b.op("conv2/BiasAdd", "BiasAdd", [c2, b.const("conv2/bias", random_weight((16,), 4))])
    y2 = b.op("conv2/Relu", "Relu", [y2])
    total = b.op("sum", "Add", [y, y2])
    body = GraphBuilder()
    body.op("twice", "Add", ["a", "a"])
    body.op("result", "Relu", ["twice:z:0"])
    b.function("double", [("a", 1)], body, [("out", "result:activations:0", 1)])
    called = b.call("called", "double", [total])
    flat = b.op("flat", "Reshape", [called, b.const("flat/shape", np.array([-1, 1024], np.int32))])
    w3 = b.const("head/weights", random_weight((1024, 10), 5))
    logits = b.matmul("head/MatMul", flat, w3)
    b.op("probabilities", "Softmax", [logits], T=("type", 1))
    b.op("features", "Identity", [total])
    return b.graph()


class Planted(NamedTuple):
    """An edit, and what must be said of it."""

    apply: Callable[[GraphDef], None]
    kind: str
    path: str
    severity: str
    said: str = ""


def _bias(values: np.ndarray) -> None:
    values[3] += np.float32(0.5)


def _nan(values: np.ndarray) -> None:
    values[0] = np.nan


def _rewire(proto: GraphDef) -> None:
    node_of(proto, "sum").input[1] = "conv2/BiasAdd"


def _flip(proto: GraphDef) -> None:
    node_of(proto, "head/MatMul").attr["transpose_b"].b = True


def _padding(proto: GraphDef) -> None:
    node_of(proto, "conv2/Conv2D").attr["padding"].s = b"VALID"


def _rename(proto: GraphDef) -> None:
    node_of(proto, "conv2/Relu").name = "conv2/Activation"
    node_of(proto, "sum").input[1] = "conv2/Activation"


def _dtype(proto: GraphDef) -> None:
    node_of(proto, "x").attr["dtype"].type = 19


def _shape(proto: GraphDef) -> None:
    node_of(proto, "x").attr["shape"].shape.dim[1].size = 16


def _op(proto: GraphDef) -> None:
    node_of(proto, "conv1/Relu").op = "Relu6"


def _function(proto: GraphDef) -> None:
    proto.library.function[0].node_def[0].op = "Mul"


def _returns(proto: GraphDef) -> None:
    proto.library.function[0].ret["out"] = "twice:z:0"


def _device(proto: GraphDef) -> None:
    node_of(proto, "sum").device = "/cpu:0"


def _control(proto: GraphDef) -> None:
    node_of(proto, "sum").input.append("^conv1/bias")


def _versions(proto: GraphDef) -> None:
    proto.versions.producer = 27


def _drop_output(proto: GraphDef) -> None:
    proto.node.remove(node_of(proto, "features"))


def _new_input(proto: GraphDef) -> None:
    node = proto.node.add(name="mask", op="Placeholder")
    node.attr["dtype"].type = 1
    node_of(proto, "sum").input[0] = "mask"


PLANTED: Dict[str, Planted] = {
    "bias": Planted(with_values("conv1/bias", _bias), "value_changed", "conv1/bias", "numeric"),
    "nan": Planted(
        with_values("head/weights", _nan),
        "value_changed",
        "head/weights",
        "numeric",
        "1 became NaN or Inf",
    ),
    "edge": Planted(_rewire, "input_rewired", "sum", "numeric"),
    "attribute": Planted(_flip, "attr_changed", "head/MatMul", "numeric", "transpose_b"),
    "padding": Planted(_padding, "attr_changed", "conv2/Conv2D", "numeric", "'SAME' -> 'VALID'"),
    "dtype": Planted(_dtype, "dtype_changed", "x", "breaking", "float32 -> float16"),
    "shape": Planted(_shape, "shape_changed", "x", "breaking", "[?,8,8,3] -> [?,16,8,3]"),
    "op": Planted(_op, "op_changed", "conv1/Relu", "numeric", "Relu became Relu6"),
    "function": Planted(_function, "op_changed", "double:twice", "numeric", "Add became Mul"),
    "returns": Planted(_returns, "function_changed", "double", "numeric", "returned values"),
    "device": Planted(_device, "device_changed", "sum", "benign"),
    "control": Planted(_control, "control_input_changed", "sum", "numeric", "conv1/bias"),
    "versions": Planted(_versions, "versions_changed", "", "benign", "producer 134 -> 27"),
    "output": Planted(_drop_output, "output_removed", "features", "breaking"),
    "placeholder": Planted(_new_input, "placeholder_added", "mask", "breaking"),
}


def stored_constants(graph: Graph) -> Tuple[str, str]:
    """The names of the codes and of the scale of the first weight that is stored as int8."""
    from graphwq.graphdef.node import attr_of_type

    codes = next(
        node for node in graph.nodes if node.op == "Const" and attr_of_type(node, "dtype") == 6
    )
    cast = next(node for node in graph.nodes if codes.name in node.inputs)
    product = next(node for node in graph.nodes if cast.name in node.inputs)
    return codes.name, next(item for item in product.inputs if item != cast.name)


def find(changes: Sequence, kind: str, path: Optional[str] = None) -> list:
    """The changes of a kind (and a path)."""
    return [item for item in changes if item.kind.value == kind and path in (None, item.path)]
