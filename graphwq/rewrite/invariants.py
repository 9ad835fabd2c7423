"""What must hold for every graph that graphwq writes, checked on every run."""

from __future__ import annotations

from typing import Sequence

from graphwq.errors import InvariantError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import TensorRef
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
    touched = {(edit.scope, edit.node.name) for edit in edits}
    added = {(edit.scope, edit.node.name) for edit in edits if isinstance(edit, AddNode)}
    old_scopes = {scope.name: scope for scope in before.scopes}
    for scope in after.scopes:
        names = {node.name for node in scope.nodes}.union(scope.arguments)
        if len(names) != len(scope.nodes) + len(scope.arguments):
            raise InvariantError(f"the rewrite made two nodes of one name in {scope.name!r}")
        for node in scope.nodes:
            if (scope.name, node.name) not in touched:
                continue
            for name in node.inputs:
                if TensorRef.parse(name).node not in names:
                    where = qualified(scope.name, node.name)
                    raise InvariantError(f"the rewrite left {where!r} with a lost input {name!r}")
        kept = [node for node in scope.nodes if (scope.name, node.name) not in added]
        for old, new in zip(old_scopes[scope.name].nodes, kept):
            same = old.name == new.name if (scope.name, new.name) in touched else old is new
            if not same:
                raise InvariantError(f"the rewrite moved or changed {old.name!r} unasked")
        if len(kept) != len(old_scopes[scope.name].nodes):
            raise InvariantError(f"the rewrite lost nodes of {scope.name!r}")
