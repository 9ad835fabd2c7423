"""A graph whose nodes have other names: the bytes of names and inputs change, nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Mapping, Tuple, Union

from graphwq.diff.written import attr_fields
from graphwq.errors import InputError
from graphwq.graphdef.graph import MAIN, Function, Graph, Item, Library
from graphwq.graphdef.newnode import preamble
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import (
    LENGTH_DELIMITED,
    Buffer,
    delimited,
    fields,
    header,
    text,
)

_NAME, _INPUT, _ATTR = 1, 3, 5
_KEY, _VALUE, _LIST, _LIST_STRING = 1, 2, 1, 2
_RETURN = 4
_COLOCATION = b"loc:@"
_SMALL = 8192
#: Renaming makes a graph larger by this at most; names that grow by no more are not looked at.
_MAX_GROWTH, _ORDINARY = 128 << 20, 64

#: Scope -> old name -> new name.
Renames = Mapping[str, Mapping[str, str]]


def renamed(graph: Graph, renames: Renames) -> Graph:
    """The graph under other names: nodes, their inputs, colocations and a function's returns.

    Raises:
        InputError: with these names the graph would be larger than any is.
    """
    if not any(renames.values()):
        return graph
    _check_growth(graph, renames)
    layout: List[Item] = []
    for item in graph.layout:
        if isinstance(item, Node):
            layout.append(_node(item, renames.get(MAIN, {})))
        elif isinstance(item, Library):
            layout.append(_library(item, renames))
        else:
            layout.append(item)
    return Graph(tuple(layout))


def _check_growth(graph: Graph, renames: Renames) -> None:
    """A name of a megabyte that takes the place of a short one in every input is a bomb."""
    growth = 0
    for scope in graph.scopes:
        names = renames.get(scope.name, {})
        if any(len(new) > len(old) + _ORDINARY for old, new in names.items()):
            for node in scope.nodes:
                growth += sum(len(_input(item, names)) - len(item) for item in node.inputs)
    if growth > _MAX_GROWTH:
        raise InputError(
            f"under their new names the inputs of the nodes would take {growth} bytes more: that "
            "is no real graph"
        )


def _library(library: Library, renames: Renames) -> Library:
    layout: Tuple[Union[Function, memoryview], ...] = tuple(
        _function(item, renames.get(item.name, {})) if isinstance(item, Function) else item
        for item in library.layout
    )
    same = all(new is old for new, old in zip(layout, library.layout))
    return library if same else Library(layout)


def _function(function: Function, names: Mapping[str, str]) -> Function:
    if not names:
        return function
    layout: List[Union[Node, memoryview]] = []
    for item in function.layout:
        if isinstance(item, Node):
            layout.append(_node(item, names))
        else:
            layout.append(_returns(item, names))
    returns = tuple(_input(item, names) for item in function.returns)
    return replace(function, layout=tuple(layout), returns=returns, frame=None)


def _returns(field: memoryview, names: Mapping[str, str]) -> memoryview:
    """An entry of FunctionDef.ret, ``output: node:out:0``."""
    number, wire_type, _, begin, end = next(fields(field))
    if number != _RETURN or wire_type != LENGTH_DELIMITED:
        return field
    parts: List[bytes] = []
    for sub, sub_type, start, value, stop in fields(field, begin, end):
        if sub == _VALUE and sub_type == LENGTH_DELIMITED:
            written = text(field, value, stop, "a function's return")
            parts.append(delimited(sub, _input(written, names).encode()))
        else:
            parts.append(bytes(field[start:stop]))
    return memoryview(delimited(number, b"".join(parts)))


def _node(node: Node, names: Mapping[str, str]) -> Node:
    name = names.get(node.name, node.name)
    inputs = tuple(_input(item, names) for item in node.inputs)
    raw = memoryview(node.to_bytes())
    colocated = len(raw) > _SMALL or _COLOCATION in bytes(raw)
    if not colocated:
        if name == node.name and inputs == node.inputs:
            return node
        attrs = attr_fields(node)
        if attrs is not None:
            head = preamble(name, node.op, inputs, node.device)
            return Node(name, node.op, inputs, node.device, b"".join((head, attrs)))
    parts: List[Buffer] = []
    pending = iter(inputs)
    for number, wire_type, begin, value, end in fields(raw):
        if wire_type != LENGTH_DELIMITED or number not in (_NAME, _INPUT, _ATTR):
            parts.append(raw[begin:end])
        elif number == _NAME:
            parts.append(delimited(_NAME, name.encode()))
        elif number == _INPUT:
            parts.append(delimited(_INPUT, next(pending).encode()))
        else:
            parts.append(_attr(raw, begin, value, end, names) if colocated else raw[begin:end])
    return Node(name, node.op, inputs, node.device, b"".join(parts))


def _input(written: str, names: Mapping[str, str]) -> str:
    if ":" not in written and not written.startswith("^"):
        return names.get(written, written)
    mark = "^" if written.startswith("^") else ""
    node, colon, rest = written[len(mark) :].partition(":")
    new = names.get(node)
    return written if new is None else f"{mark}{new}{colon}{rest}"


def _attr(raw: memoryview, begin: int, value: int, end: int, names: Mapping[str, str]) -> Buffer:
    """The entry of ``_class`` with the names that it lists renamed; others as they are."""
    entry: Dict[int, memoryview] = {}
    for sub, sub_type, _, start, stop in fields(raw, value, end):
        if sub_type == LENGTH_DELIMITED:
            entry[sub] = raw[start:stop]
    if bytes(entry.get(_KEY, b"")) != b"_class" or _VALUE not in entry:
        return raw[begin:end]
    parts: List[bytes] = []
    for number, wire_type, start, inner, stop in fields(entry[_VALUE]):
        whole = entry[_VALUE]
        if number == _LIST and wire_type == LENGTH_DELIMITED:
            parts.append(delimited(_LIST, _places(whole[inner:stop], names)))
        else:
            parts.append(bytes(whole[start:stop]))
    content = delimited(_KEY, b"_class") + delimited(_VALUE, b"".join(parts))
    return header(_ATTR, len(content)) + content


def _places(items: memoryview, names: Mapping[str, str]) -> bytes:
    parts: List[bytes] = []
    for number, _, start, value, stop in fields(items):
        place = bytes(items[value:stop])
        if number == _LIST_STRING and place.startswith(_COLOCATION):
            node = place[len(_COLOCATION) :].decode("utf-8", "surrogateescape")
            new = names.get(node, node).encode("utf-8", "surrogateescape")
            parts.append(delimited(_LIST_STRING, _COLOCATION + new))
        else:
            parts.append(bytes(items[start:stop]))
    return b"".join(parts)
