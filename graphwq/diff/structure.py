"""What a node is apart from its name: numbers that are equal where structure and content are.

Every structure gets a small number the first time it is seen (hash consing), so that equal numbers
mean equal structures, without collisions and in linear time.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Dict, Hashable, Iterable, List, Tuple

from graphwq.diff.attrs import default, tensor_of
from graphwq.diff.written import attr_fields
from graphwq.errors import InputError
from graphwq.graphdef.graph import Scope
from graphwq.graphdef.node import CONTROL, Node, producer
from graphwq.graphdef.tensor import Tensor
from graphwq.survey.view import BACK_EDGE_OPS

_SMALL = 64
#: The numbers of attributes of so few bytes are remembered by their bytes.
_REMEMBERED = 1024
_ARGUMENT = "argument of a function"

#: (producer or consumer, slot, port); a slot of -1 is a control edge.
Edge = Tuple[int, int, int]


class Interner:
    """Hands out one number per structure; shared by the two graphs that are compared.

    Attributes:
        written: op and attributes, as written -> their number.
    """

    def __init__(self) -> None:
        self._known: Dict[Hashable, int] = {}
        self.written: Dict[Tuple[str, bytes], int] = {}

    def __call__(self, structure: Hashable) -> int:
        """The number of a structure."""
        return self._known.setdefault(structure, len(self._known))


@dataclass(frozen=True)
class Structure:
    """The nodes and arguments of one scope by index.

    Attributes:
        names: by index; arguments of a function come first.
        ops: by index.
        index: name -> index.
        inputs: by index the edges from producers, data inputs in order, then control inputs.
        consumers: by index the edges to consumers.
        local: op and attributes, a constant's type and content; no names.
        up: ``local`` and everything that the node is computed from.
        down: everything that is computed from the node, without the node itself.
    """

    names: Tuple[str, ...]
    ops: Tuple[str, ...]
    index: Dict[str, int]
    inputs: Tuple[List[Edge], ...]
    consumers: Tuple[List[Edge], ...]
    local: Tuple[int, ...]
    up: Tuple[int, ...]
    down: Tuple[int, ...]


def structure(scope: Scope, interner: Interner) -> Structure:
    """Work out the structure of a scope in which no two nodes have one name.

    Raises:
        InputError: an attribute is damaged.
    """
    names = (*scope.arguments, *(node.name for node in scope.nodes))
    index = {name: position for position, name in enumerate(names)}
    first = len(scope.arguments)
    ops = (_ARGUMENT,) * first + tuple(node.op for node in scope.nodes)
    local = [interner((_ARGUMENT, position)) for position in range(first)]
    local += [local_number(node, interner) for node in scope.nodes]
    inputs, consumers = _edges(scope, index, first)
    order = _order(ops, inputs, consumers)
    up, down = list(local), [interner(())] * len(names)
    for node in order:
        up[node] = interner((local[node], _upwards(inputs[node], up, ops)))
    for node in reversed(order):
        edges = consumers[node]
        if edges:
            seen = [(local[item], slot, port, down[item]) for item, slot, port in edges]
            if len(seen) > 1:
                seen.sort()
            down[node] = interner(tuple(seen))
    return Structure(names, ops, index, inputs, consumers, tuple(local), tuple(up), tuple(down))


def _edges(
    scope: Scope, index: Dict[str, int], first: int
) -> Tuple[Tuple[List[Edge], ...], Tuple[List[Edge], ...]]:
    count = first + len(scope.nodes)
    inputs: Tuple[List[Edge], ...] = tuple([] for _ in range(count))
    consumers: Tuple[List[Edge], ...] = tuple([] for _ in range(count))
    for position, node in enumerate(scope.nodes, first):
        for slot, written in enumerate(node.inputs):
            name, port = producer(written)
            place = index.get(name, -1)
            edge = CONTROL if port == CONTROL else slot
            inputs[position].append((place, edge, port))
            if place >= 0:
                consumers[place].append((position, edge, port))
    return inputs, consumers


def _upwards(
    edges: Iterable[Edge], up: List[int], ops: Tuple[str, ...]
) -> Tuple[Tuple[int, int, int], ...]:
    """The producers of a node by number; what comes from the last round of a loop has none."""
    found = [
        (slot, port, up[item] if item >= 0 and ops[item] not in BACK_EDGE_OPS else -1)
        for item, slot, port in edges
    ]
    if len(found) > 1:
        found.sort()
    return tuple(found)


def _order(
    ops: Tuple[str, ...], inputs: Tuple[List[Edge], ...], consumers: Tuple[List[Edge], ...]
) -> List[int]:
    """Producers before consumers; nodes in a cycle that is no loop come last, as written."""
    waiting = [
        sum(1 for item, _, _ in edges if item >= 0 and ops[item] not in BACK_EDGE_OPS)
        for edges in inputs
    ]
    ready = deque(node for node, count in enumerate(waiting) if not count)
    order: List[int] = []
    while ready:
        node = ready.popleft()
        order.append(node)
        if ops[node] in BACK_EDGE_OPS:
            continue
        for item, _, _ in consumers[node]:
            waiting[item] -= 1
            if not waiting[item]:
                ready.append(item)
    return order


def local_number(node: Node, interner: Interner) -> int:
    """The number of a node's op and attributes.

    Attributes with their default and those that start with ``_`` do not count, and a tensor counts
    by its values where they are stored as ``tensor_content``.
    """
    written = attr_fields(node)
    if written is None or len(written) > _REMEMBERED:
        return _local_number(node, interner)
    key = (node.op, bytes(written))
    known = interner.written.get(key)
    if known is None:
        known = interner.written[key] = _local_number(node, interner)
    return known


def _local_number(node: Node, interner: Interner) -> int:
    parts: List[Tuple[str, Hashable]] = []
    for key, value in node.attr_bytes().items():
        if key.startswith("_"):
            continue
        if key == "value" and node.op == "Const":
            parts.append((key, _content(value)))
            continue
        content = bytes(value) if len(value) <= _SMALL else _digest(value)
        if content != default(node.op, key):
            parts.append((key, content))
    parts.sort(key=lambda part: part[0])
    return interner((node.op, tuple(parts)))


def _content(value: memoryview) -> Hashable:
    tensor = tensor_of(value)
    try:
        if tensor is not None:
            return (tensor.dtype, tensor.shape, _values(tensor))
    except InputError:
        pass
    return _digest(value)


def _values(tensor: Tensor) -> Hashable:
    if tensor.content is not None:
        return bytes(tensor.content) if len(tensor.content) <= _SMALL else _digest(tensor.content)
    if tensor.size > 4096:
        return _digest(tensor.raw)
    array = tensor.numpy()
    if array.dtype == object:
        return tuple(array.reshape(-1).tolist())
    data = array.tobytes()
    return data if len(data) <= _SMALL else _digest(memoryview(data))


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
