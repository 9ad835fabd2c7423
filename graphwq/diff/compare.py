"""Two graphs side by side: every change, scope by scope."""

from __future__ import annotations

from typing import List, Tuple

from graphwq.diff.change import Change
from graphwq.diff.nodes import added, compare_nodes, removed
from graphwq.diff.sets import split
from graphwq.graphdef.graph import Graph, Scope


def diff_scopes(old: Scope, new: Scope) -> Tuple[Change, ...]:
    """What changed between two scopes, nodes matched by name."""
    found: List[Change] = []
    parts = split({node.name: node for node in old.nodes}, {node.name: node for node in new.nodes})
    for _, before, after in parts.mutual:
        found.extend(compare_nodes(old.name, before, after))
    found.extend(removed(old.name, node) for _, node in parts.removed)
    found.extend(added(new.name, node) for _, node in parts.added)
    return tuple(found)


def diff_graphs(old: Graph, new: Graph) -> Tuple[Change, ...]:
    """What changed between two graphs, nodes matched by name."""
    found: List[Change] = []
    parts = split(
        {scope.name: scope for scope in old.scopes}, {scope.name: scope for scope in new.scopes}
    )
    for _, before, after in parts.mutual:
        found.extend(diff_scopes(before, after))
    return tuple(found)
