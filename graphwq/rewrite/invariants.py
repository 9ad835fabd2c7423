"""What must hold for every graph that graphwq writes, checked on every run."""

from __future__ import annotations

from typing import Dict, Sequence, Set

from graphwq.errors import InvariantError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import producer
from graphwq.rewrite.edits import AddNode, Edit
from graphwq.survey.sites import qualified


def check(before: Graph, after: Graph, edits: Sequence[Edit]) -> None:
    """Check the result of a rewrite.

    1. Names are unique in every scope.
    2. Every input of an added or replaced node exists.
    3. Every node that no edit names is the very same object, in the same order.

    Raises:
        InvariantError: a promise is broken; this is a bug in graphwq.
    """
    all_touched: Dict[str, Set[str]] = {}
    all_added: Dict[str, Set[str]] = {}
    for edit in edits:
        all_touched.setdefault(edit.scope, set()).add(edit.node.name)
        if isinstance(edit, AddNode):
            all_added.setdefault(edit.scope, set()).add(edit.node.name)
    old_scopes = {scope.name: scope for scope in before.scopes}
    for scope in after.scopes:
        touched = all_touched.get(scope.name, set())
        added = all_added.get(scope.name, set())
        names = {node.name for node in scope.nodes}.union(scope.arguments)
        if len(names) != len(scope.nodes) + len(scope.arguments):
            raise InvariantError(f"the rewrite made two nodes of one name in {scope.name!r}")
        for node in scope.nodes:
            if node.name not in touched:
                continue
            for name in node.inputs:
                if producer(name)[0] not in names:
                    where = qualified(scope.name, node.name)
                    raise InvariantError(f"the rewrite left {where!r} with a lost input {name!r}")
        kept = [node for node in scope.nodes if node.name not in added]
        for old, new in zip(old_scopes[scope.name].nodes, kept):
            same = old.name == new.name if new.name in touched else old is new
            if not same:
                raise InvariantError(f"the rewrite moved or changed {old.name!r} unasked")
        if len(kept) != len(old_scopes[scope.name].nodes):
            raise InvariantError(f"the rewrite lost nodes of {scope.name!r}")
