"""Everything but nodes: versions, functions, fields that graphwq does not know."""

from __future__ import annotations

from typing import Dict, Iterator, List, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.sets import split
from graphwq.graphdef.graph import Function, Graph, Library
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import LENGTH_DELIMITED, VARINT, fields, read_varint
from graphwq.text import plural

_VERSIONS = 4
_SIGNATURE, _RETURN = 1, 4
_KNOWN_VERSIONS = {1: "producer", 2: "min_consumer", 3: "bad_consumers"}


def field_changes(old: Graph, new: Graph) -> Iterator[Change]:
    """What differs beside the nodes of the main graph and the bodies of functions."""
    before, after = _versions(old), _versions(new)
    if before != after:
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        said = [f"{key} {before.get(key, 'unset')} -> {after.get(key, 'unset')}" for key in keys]
        yield Change(
            Kind.VERSIONS_CHANGED,
            "",
            Severity.BENIGN,
            f"versions: {', '.join(said)}",
            {"old": before, "new": after},
            reason="says which TensorFlow wrote the graph and which may read it",
        )
    if _unknown(old) != _unknown(new):
        yield _field("fields that are neither nodes nor versions changed")
    yield from _functions(old, new)
    if _gradients(old) != _gradients(new):
        yield _field("the gradients of functions changed")


def _field(message: str) -> Change:
    return Change(
        Kind.FIELD_CHANGED,
        "",
        Severity.BENIGN,
        message,
        reason="not read when the graph runs",
    )


def _functions(old: Graph, new: Graph) -> Iterator[Change]:
    parts = split({f.name: f for f in old.functions}, {f.name: f for f in new.functions})
    for kind, word, some in (
        (Kind.FUNCTION_REMOVED, "removed", parts.removed),
        (Kind.FUNCTION_ADDED, "new", parts.added),
    ):
        for key, function in some:
            yield Change(
                kind,
                key,
                Severity.NUMERIC,
                f"{word} function of {plural(len(function.nodes), 'node')}",
                {"nodes": len(function.nodes), "arguments": len(function.arguments)},
                reason="what calls it computes something else",
            )
    for key, before, after in parts.mutual:
        for number, what in ((_SIGNATURE, "signature"), (_RETURN, "returned values"), (0, "")):
            if _fields(before, number) != _fields(after, number):
                yield Change(
                    Kind.FUNCTION_CHANGED,
                    key,
                    Severity.NUMERIC if number else Severity.BENIGN,
                    f"other {what or 'attributes'} of the function",
                    {"part": what or "attributes"},
                    reason="what calls it computes something else"
                    if number
                    else "does not change what is computed",
                )


def _fields(function: Function, wanted: int) -> List[bytes]:
    """The fields of a function with a number; those with no number of their own for 0."""
    found = []
    for item in function.layout:
        if isinstance(item, Node):
            continue
        number = next(fields(item))[0]
        if number == wanted or (not wanted and number not in (_SIGNATURE, _RETURN)):
            found.append(bytes(item))
    return sorted(found)


def _versions(graph: Graph) -> Dict[str, int]:
    found: Dict[str, int] = {}
    for item in graph.extra:
        number, wire_type, _, value, end = next(fields(item))
        if number != _VERSIONS or wire_type != LENGTH_DELIMITED:
            continue
        for sub, sub_type, _, start, stop in fields(item, value, end):
            if sub_type == VARINT:
                key = _KNOWN_VERSIONS.get(sub, f"field {sub}")
                found[key] = read_varint(item, start, stop)[0]
    return {key: value for key, value in found.items() if value}


def _unknown(graph: Graph) -> Tuple[bytes, ...]:
    return tuple(bytes(item) for item in graph.extra if next(fields(item))[0] != _VERSIONS)


def _gradients(graph: Graph) -> Tuple[bytes, ...]:
    return tuple(
        bytes(field)
        for item in graph.layout
        if isinstance(item, Library)
        for field in item.layout
        if not isinstance(field, Function)
    )
