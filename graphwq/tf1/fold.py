"""Folding computed weights of a frozen graph: arithmetic on constants becomes one constant."""

from __future__ import annotations

from typing import Dict, List, Sequence, Set

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_type, new_const, new_node
from graphwq.graphdef.node import Node, TensorRef
from graphwq.tf1.session import Runner

#: Ops that lead into a loop or a branch; outside of it they only hand a value on.
_LEADING_IN = ("Enter", "RefEnter", "Switch", "RefSwitch")
_ENTER = ("Enter", "RefEnter")


def fold(graph: Graph, tensors: Sequence[str]) -> Graph:
    """Replace tensors that are computed from constants by constants; the rest stays.

    Args:
        graph: frozen.
        tensors: names (``node:0``); those that are not in the graph are left out.

    Raises:
        InputError: TensorFlow cannot compute one of them.
    """
    nodes = {node.name: node for node in graph.nodes}
    replaced: Dict[str, Sequence[Node]] = {}
    for tensor in tensors:
        name = TensorRef.parse(tensor).node
        if name in nodes and name not in replaced:
            replaced[name] = _folded(nodes, graph, nodes[name], tensor)
    return graph.edited({"": replaced}) if replaced else graph


def prune(graph: Graph, outputs: Sequence[str]) -> Graph:
    """The nodes that the outputs need, control inputs included."""
    kept = _needed({node.name: node for node in graph.nodes}, outputs)
    return graph.edited({"": {node.name: [] for node in graph.nodes if node.name not in kept}})


def _needed(nodes: Dict[str, Node], names: Sequence[str]) -> Set[str]:
    pending, seen = list(names), set(names)
    while pending:
        for item in nodes[pending.pop()].inputs:
            name = TensorRef.parse(item).node
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return seen


def _folded(nodes: Dict[str, Node], graph: Graph, node: Node, tensor: str) -> List[Node]:
    """A Const in place of ``node``; in a loop, one outside of it that enters as ``node``."""
    alone = {name: _outside(nodes, item) for name, item in nodes.items()}
    kept = _needed(alone, [node.name])
    part = graph.edited({"": {name: [alone[name]] if name in kept else [] for name in nodes}})
    with Runner(part) as runner:
        (value,) = runner.run([tensor]).values()
    dtype = dtypes.FROM_NUMPY[value.dtype]
    doors = _doors(nodes, node)
    if not doors:
        return [_const(node.name, dtype, value, node.device)]
    made = [_const(f"{node.name}/graphwq_folded", dtype, value, node.device)]
    for index, door in enumerate(reversed(doors)):
        is_last = index == len(doors) - 1
        name = node.name if is_last else f"{node.name}/graphwq_enter_{index}"
        attrs = dict(door.attr_bytes(), T=attr_type(dtype))
        made.append(new_node(name, "Enter", (made[-1].name,), attrs, node.device))
    return made


def _const(name: str, dtype: int, value: np.ndarray, device: str) -> Node:
    return new_const(name, dtype, value.shape, value, device=device)


def _outside(nodes: Dict[str, Node], node: Node) -> Node:
    """The node without control inputs; doors into loops and branches hand their value on."""
    inputs = tuple(_single(nodes, name) for name in node.data_inputs)
    if node.op in _LEADING_IN:
        attrs = {"T": node.attr_bytes()["T"]}
        return new_node(node.name, "Identity", inputs[:1], attrs, node.device)
    if inputs == node.inputs:
        return node
    return new_node(node.name, node.op, inputs, node.attr_bytes(), node.device)


def _single(nodes: Dict[str, Node], name: str) -> str:
    """An input; of a door (a Switch has two outputs) the only one."""
    source = TensorRef.parse(name).node
    return source if nodes[source].op in _LEADING_IN else name


def _doors(nodes: Dict[str, Node], node: Node) -> List[Node]:
    """The Enter ops on the way to ``node``, the innermost loop first."""
    doors: List[Node] = []
    pending, seen = [node], {node.name}
    while pending:
        item = pending.pop(0)
        if item.op in _ENTER:
            doors.append(item)
            pending = []
        for name in item.data_inputs[:1] if item.op in _LEADING_IN else item.data_inputs:
            source = nodes[TensorRef.parse(name).node]
            if source.name not in seen:
                seen.add(source.name)
                pending.append(source)
    return doors
