"""Edits: what a rewrite changes, as data, and their application to a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple, Union

from graphwq.errors import InvariantError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node


@dataclass(frozen=True)
class AddNode:
    """A new node, placed right before the node named ``before``."""

    scope: str
    node: Node
    before: str


@dataclass(frozen=True)
class ReplaceNode:
    """The node of the same name becomes ``node``."""

    scope: str
    node: Node


Edit = Union[AddNode, ReplaceNode]


def replace_by(scope: str, name: str, nodes: Sequence[Node]) -> Tuple[Edit, ...]:
    """The edits that put ``nodes``, one of which is called ``name``, where ``name`` stands."""
    return tuple(
        ReplaceNode(scope, node) if node.name == name else AddNode(scope, node, name)
        for node in nodes
    )


def apply(graph: Graph, edits: Sequence[Edit]) -> Graph:
    """Apply edits; every node that they do not name keeps its bytes and its place.

    Raises:
        InvariantError: an edit names a node that does not exist, or two replace the same one.
    """
    known = {(scope.name, node.name) for scope in graph.scopes for node in scope.nodes}
    before: Dict[Tuple[str, str], List[Node]] = {}
    replaced: Dict[Tuple[str, str], Node] = {}
    for edit in edits:
        key = (edit.scope, edit.before if isinstance(edit, AddNode) else edit.node.name)
        if key not in known:
            raise InvariantError(f"an edit is for {key[1]!r}, which is not in the graph")
        if isinstance(edit, AddNode):
            before.setdefault(key, []).append(edit.node)
        elif key in replaced:
            raise InvariantError(f"two edits replace {key[1]!r}")
        else:
            replaced[key] = edit.node
    originals = {
        (scope.name, node.name): node
        for scope in graph.scopes
        for node in scope.nodes
        if (scope.name, node.name) in before
    }
    result: Dict[str, Dict[str, Sequence[Node]]] = {}
    for key in {**before, **replaced}:
        last = replaced.get(key) or originals[key]
        result.setdefault(key[0], {})[key[1]] = (*before.get(key, ()), last)
    return graph.edited(result)
