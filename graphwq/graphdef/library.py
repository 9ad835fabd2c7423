"""The functions of a frozen graph: those that its nodes reach, rewritten if they took handles."""

from __future__ import annotations

from typing import Iterable, List, Mapping, Optional, Set, Tuple, Union

from graphwq.graphdef.graph import Function, Graph, Library
from graphwq.graphdef.message import Message
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import fields

_GRADIENT, _GRADIENT_OF, _GRADIENT_FUNCTION = 2, 1, 2
#: Alternatives of AttrValue that can name a function: list, s, func.
_NAMING = (1, 2, 10)


def reached(graph: Graph, nodes: Iterable[Node]) -> Set[str]:
    """The functions that nodes call or name, and those that these call."""
    bodies = {function.name: function for function in graph.functions}
    if not bodies:
        return set()
    gradients = dict(_gradients(graph))
    found: Set[str] = set()
    pending = list(nodes)
    while pending:
        for name in _named(pending.pop(), bodies):
            while name and name not in found:
                found.add(name)
                if name in bodies:
                    pending.extend(bodies[name].nodes)
                name = gradients.get(name, "")
    return found


def frozen(library: Library, kept: Set[str], changed: Mapping[str, Function]) -> Optional[Library]:
    """The library with the functions that are kept; None where there are none."""
    layout: List[Union[Function, memoryview]] = []
    for item in library.layout:
        if isinstance(item, Function):
            if item.name in kept:
                layout.append(changed.get(item.name, item))
        elif all(name in kept for name, _ in _gradient(item)):
            layout.append(item)
    if not any(isinstance(item, Function) for item in layout):
        return None
    same = len(layout) == len(library.layout)
    same = same and all(new is old for new, old in zip(layout, library.layout))
    return library if same else Library(tuple(layout))


def _named(node: Node, bodies: Mapping[str, Function]) -> Set[str]:
    found = {node.op} if node.op in bodies else set()
    if node.op == "Const":
        return found
    for content in node.attr_heads().values():
        if any(number in _NAMING for number, _, _, _, _ in fields(content)):
            text = bytes(content)
            found.update(name for name in bodies if name.encode() in text)
    return found


def _gradients(graph: Graph) -> List[Tuple[str, str]]:
    found = []
    for item in graph.layout:
        if isinstance(item, Library):
            for part in item.layout:
                if not isinstance(part, Function):
                    found.extend(_gradient(part))
    return found


def _gradient(part: memoryview) -> List[Tuple[str, str]]:
    """(function, its gradient) of a GradientDef; nothing of another field."""
    found = []
    for number, _, _, value, end in fields(part):
        if number == _GRADIENT:
            message = Message(part[value:end])
            names = [message.text(key, "a name") for key in (_GRADIENT_OF, _GRADIENT_FUNCTION)]
            found.append((names[0], names[1]))
    return found
