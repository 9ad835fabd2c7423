"""The interface of a graph: its placeholders, and the outputs that can be found by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.dtypes import dtype_name
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import CONTROL, Node, TensorRef, attr_of_type
from graphwq.graphdef.spelling import close
from graphwq.graphdef.tensor import parse_shape
from graphwq.graphdef.wire import LENGTH_DELIMITED, VARINT, fields, read_varint
from graphwq.survey.view import ScopeView, View, build
from graphwq.verify import sinks
from graphwq.verify.arity import output_count

PLACEHOLDER_OPS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault")

_GRAPH_VERSIONS, _PRODUCER = 4, 1
#: Before this producer version a Placeholder without dimensions meant one of any rank
#: (tensorflow/core/ops/array_ops.cc).
_SCALAR_IS_SCALAR = 24
_ATTR_SHAPE = 7
_SUGGESTIONS = 3


@dataclass(frozen=True)
class Placeholder:
    """An input of the graph.

    Attributes:
        name: of the node; its tensor is ``name:0``.
        op: ``Placeholder``, ``PlaceholderV2`` or ``PlaceholderWithDefault``.
        dtype: DataType number.
        shape: -1 for a dimension that is not known, None for an unknown rank.
        has_default: it need not be fed.
    """

    name: str
    op: str
    dtype: int
    shape: Optional[Tuple[int, ...]]
    has_default: bool

    @property
    def tensor(self) -> str:
        """The tensor that is fed."""
        return f"{self.name}:0"

    def to_json(self) -> Dict[str, Any]:
        """The placeholder as JSON data."""
        return {
            "name": self.name,
            "op": self.op,
            "dtype": dtype_name(self.dtype),
            "shape": None if self.shape is None else list(self.shape),
            "has_default": self.has_default,
        }


@dataclass(frozen=True)
class Output:
    """A tensor that nobody consumes.

    Attributes:
        node, port: the tensor is ``node:port``.
        op: of the node.
    """

    node: str
    port: int
    op: str

    @property
    def tensor(self) -> str:
        """The name by which the tensor is fetched."""
        return f"{self.node}:{self.port}"

    def to_json(self) -> Dict[str, Any]:
        """The output as JSON data."""
        return {"tensor": self.tensor, "op": self.op}


@dataclass(frozen=True)
class Sink:
    """A node that nobody consumes and that is no output, with the reason."""

    node: str
    op: str
    reason: str

    def to_json(self) -> Dict[str, Any]:
        """The sink as JSON data."""
        return {"node": self.node, "op": self.op, "reason": self.reason}


@dataclass(frozen=True)
class Interface:
    """What a graph takes and gives.

    Attributes:
        placeholders, outputs: in file order.
        sinks: the other nodes at the ends of the graph.
    """

    placeholders: Tuple[Placeholder, ...]
    outputs: Tuple[Output, ...]
    sinks: Tuple[Sink, ...]

    @property
    def tensors(self) -> Tuple[str, ...]:
        """The names of the outputs' tensors."""
        return tuple(output.tensor for output in self.outputs)

    def to_json(self) -> Dict[str, Any]:
        """The interface as JSON data."""
        return {
            "placeholders": [item.to_json() for item in self.placeholders],
            "outputs": [item.to_json() for item in self.outputs],
            "sinks": [item.to_json() for item in self.sinks],
        }


def find_interface(graph: Graph, view: Optional[View] = None) -> Interface:
    """The placeholders of the main graph and its outputs.

    An output is a tensor of a node that no node reads, that depends on an input (or on something
    else that is no constant) and that exists in every run. Where there is none of that kind, the
    next best are taken: first what is computed from constants, then nodes that others only wait
    for, then the ends of loops and branches. All other ends are ``sinks``.

    Args:
        graph: the graph.
        view: its view, where it is already built.

    Raises:
        InputError: two nodes of one name.
    """
    view = view or build(graph)
    main = view.main
    functions = {f.name: len(f.returns) for f in graph.functions}
    found = sinks.judge(main)
    ends = found.outputs
    outputs = tuple(
        Output(node.name, port, node.op)
        for node in ends
        for port in range(output_count(node, functions))
        if not sinks.is_handle(node, port)
    )
    return Interface(
        placeholders(graph), outputs, tuple(Sink(n.name, n.op, why) for n, why in found.sinks)
    )


def placeholders(graph: Graph) -> Tuple[Placeholder, ...]:
    """The placeholders of the main graph, in file order.

    Raises:
        InputError: a shape that is none.
    """
    scalars = producer_version(graph) >= _SCALAR_IS_SCALAR
    return tuple(
        Placeholder(
            node.name,
            node.op,
            attr_of_type(node, "dtype"),
            _shape(node, scalars),
            node.op == "PlaceholderWithDefault",
        )
        for node in graph.nodes
        if node.op in PLACEHOLDER_OPS
    )


def producer_version(graph: Graph) -> int:
    """``versions.producer`` of the graph; 0 where it is not set."""
    version = 0
    for item in graph.extra:
        for number, wire_type, _, value, end in fields(item):
            if number != _GRAPH_VERSIONS or wire_type != LENGTH_DELIMITED:
                continue
            for sub, sub_type, _, sub_value, sub_end in fields(item, value, end):
                if sub == _PRODUCER and sub_type == VARINT:
                    version = read_varint(item, sub_value, sub_end)[0]
    return version


def _shape(node: Node, scalars: bool) -> Optional[Tuple[int, ...]]:
    content = node.attr_bytes().get("shape")
    if content is None:
        return None
    shape: Optional[Tuple[int, ...]] = None
    for number, wire_type, _, value, end in fields(content):
        if number == _ATTR_SHAPE and wire_type == LENGTH_DELIMITED:
            shape = parse_shape(content[value:end])
    if shape == () and node.op == "Placeholder" and not scalars:
        return None
    return None if shape is None else tuple(max(size, -1) for size in shape)


def tensor_name(view: ScopeView, name: str, what: str = "tensor") -> str:
    """``node`` or ``node:port`` as ``node:port``, checked to be in the graph.

    Raises:
        InputError: no such node (near misses are offered), or no name of a tensor.
    """
    node, colon, port = name.partition(":")
    if colon and not (port.isascii() and port.isdigit()):
        raise InputError(f"{name!r} is no name of a tensor: write node:0")
    if node not in view.nodes:
        near = close(node, view.nodes, _SUGGESTIONS)
        hint = f"; is {' or '.join(repr(item) for item in near)} meant?" if near else ""
        raise InputError(f"the graph has no {what} {name!r}{hint}")
    return f"{node}:{int(port or 0)}"


def needed_nodes(
    view: ScopeView, tensors: Iterable[str], fed: AbstractSet[str] = frozenset()
) -> Set[str]:
    """The nodes that run when ``tensors`` are fetched and ``fed`` are fed (``node:port`` all).

    A node is reached through its unfed outputs; control edges count. The defaults of placeholders
    that are fed do not run.
    """
    pending: List[Tuple[str, int]] = []
    for tensor in tensors:
        if tensor not in fed:
            ref = TensorRef.parse(tensor)
            pending.append((ref.node, ref.port))
    seen: Set[str] = set()
    while pending:
        name, _ = pending.pop()
        if name in seen or name not in view.nodes:
            continue
        seen.add(name)
        for item in view.nodes[name].inputs:
            ref = TensorRef.parse(item)
            if ref.port == CONTROL or f"{ref.node}:{ref.port}" not in fed:
                pending.append((ref.node, ref.port))
    return seen


def missing_placeholders(
    view: ScopeView,
    declared: Sequence[Placeholder],
    tensors: Iterable[str],
    fed: AbstractSet[str] = frozenset(),
) -> Tuple[Placeholder, ...]:
    """The placeholders without a default that ``tensors`` need and that are not among ``fed``."""
    needed = needed_nodes(view, tensors, fed)
    return tuple(item for item in declared if item.name in needed and not item.has_default)
