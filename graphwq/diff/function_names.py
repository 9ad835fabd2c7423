"""Functions of the library that have another name in NEW, and the same body."""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Mapping, Union

from graphwq.diff.change import Change, Kind, Severity
from graphwq.graphdef.graph import Function, Graph, Item, Library, parse_function
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import LENGTH_DELIMITED, Buffer, WireError, delimited, fields
from graphwq.text import name, plural

_OP, _ATTR = 2, 5
_VALUE, _LIST, _LIST_FUNC, _FUNC = 2, 1, 9, 10
_FUNC_NAME, _FUNC_ATTR = 1, 2
_SIGNATURE, _BODY_NODE, _SIGNATURE_NAME = 1, 3, 1
_GRADIENT, _GRADIENT_NAMES = 2, (1, 2)

_Rule = Callable[[bytes], bytes]


def renamed_functions(old: Graph, new: Graph) -> Dict[str, str]:
    """Function of OLD -> the function of NEW that has its body, and a name that OLD does not have.

    Names of functions inside a body do not count where they were renamed as well. Of several
    functions with one body they are paired in file order.
    """
    names = {item.name for item in new.functions}
    known = {item.name for item in old.functions}
    gone = [item for item in old.functions if item.name not in names]
    came = [item for item in new.functions if item.name not in known]
    found: Dict[str, str] = {}
    while gone and came:
        bodies: Dict[bytes, List[str]] = {}
        for function in came:
            bodies.setdefault(_body(function, {function.name: ""}), []).append(function.name)
        pairs = {}
        for function in gone:
            twins = bodies.get(_body(function, {**found, function.name: ""}))
            if twins:
                pairs[function.name] = twins.pop(0)
        if not pairs:
            break
        found.update(pairs)
        gone = [item for item in gone if item.name not in pairs]
        came = [item for item in came if item.name not in set(pairs.values())]
    return found


def _body(function: Function, names: Mapping[str, str]) -> bytes:
    """The function with other names in it; the same bytes for bodies that mean the same."""
    from tensorboard.compat.proto.function_pb2 import FunctionDef

    from graphwq.graphdef.protos import DecodeError

    data = _rewritten(_bytes(function), _function_rules(names))
    try:
        made: bytes = FunctionDef.FromString(data).SerializeToString(deterministic=True)
    except DecodeError:
        return data
    return made


def with_function_names(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with functions renamed: where they are defined, called and mentioned."""
    if not names:
        return graph
    layout: List[Item] = []
    for item in graph.layout:
        if isinstance(item, Node):
            layout.append(_node(item, names))
        elif isinstance(item, Library):
            layout.append(_library(item, names))
        else:
            layout.append(item)
    return Graph(tuple(layout))


def _node(node: Node, names: Mapping[str, str]) -> Node:
    if node.op == "Const":
        return node
    raw = bytes(node.to_bytes())
    data = _rewritten(raw, _node_rules(names))
    if data == raw:
        return node
    return Node(node.name, names.get(node.op, node.op), node.inputs, node.device, data)


def _library(library: Library, names: Mapping[str, str]) -> Library:
    layout: List[Union[Function, memoryview]] = []
    gradient = dict.fromkeys(_GRADIENT_NAMES, _renaming(names))
    rules: Dict[int, _Rule] = {_GRADIENT: lambda data: _rewritten(data, gradient)}
    for item in library.layout:
        if isinstance(item, Function):
            layout.append(parse_function(_rewritten(_bytes(item), _function_rules(names))))
        else:
            layout.append(memoryview(_rewritten(bytes(item), rules)))
    return Library(tuple(layout))


def _bytes(function: Function) -> bytes:
    """The serialized FunctionDef."""
    library = Library((function,))
    whole = Graph((library,)).to_bytes()
    (field,) = fields(whole)
    (inner,) = fields(whole, field[3], field[4])
    return whole[inner[3] : inner[4]]


def _renaming(names: Mapping[str, str]) -> _Rule:
    encoded = {before.encode(): after.encode() for before, after in names.items()}
    return lambda data: encoded.get(data, data)


def _function_rules(names: Mapping[str, str]) -> Dict[int, _Rule]:
    signature = {_SIGNATURE_NAME: _renaming(names)}
    node = _node_rules(names)
    return {
        _SIGNATURE: lambda data: _rewritten(data, signature),
        _BODY_NODE: lambda data: _rewritten(data, node),
    }


def _node_rules(names: Mapping[str, str]) -> Dict[int, _Rule]:
    value: Dict[int, _Rule] = {}
    entry: Dict[int, _Rule] = {_VALUE: lambda data: _rewritten(data, value)}
    function: Dict[int, _Rule] = {
        _FUNC_NAME: _renaming(names),
        _FUNC_ATTR: lambda data: _rewritten(data, entry),
    }
    several: Dict[int, _Rule] = {_LIST_FUNC: lambda data: _rewritten(data, function)}
    value[_FUNC] = lambda data: _rewritten(data, function)
    value[_LIST] = lambda data: _rewritten(data, several)
    return {_OP: _renaming(names), _ATTR: lambda data: _rewritten(data, entry)}


def _rewritten(data: bytes, rules: Mapping[int, _Rule]) -> bytes:
    """A message with some of its fields rewritten; one that is damaged as it is."""
    parts: List[Buffer] = []
    try:
        for number, wire_type, begin, value, end in fields(data):
            rule = rules.get(number) if wire_type == LENGTH_DELIMITED else None
            before = data[value:end] if rule is not None else b""
            after = rule(before) if rule is not None else before
            parts.append(data[begin:end] if after == before else delimited(number, after))
    except (WireError, RecursionError):
        return data
    return b"".join(parts)


def function_renames(old: Graph, names: Mapping[str, str]) -> Iterator[Change]:
    """One change for each function that was renamed."""
    for function in old.functions:
        if function.name in names:
            after = names[function.name]
            nodes = len(function.nodes)
            yield Change(
                Kind.FUNCTION_RENAMED,
                function.name,
                Severity.BENIGN,
                f"function of {plural(nodes, 'node')} renamed to {name(after)}, body unchanged",
                {"old": function.name, "new": after, "nodes": nodes},
                reason="what calls it computes the same",
            )
