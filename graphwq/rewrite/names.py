"""Names for new nodes: short (they stand in the file several times) and free."""

from __future__ import annotations

from graphwq.graphdef.graph import Graph

_ROOT = "wq"


class Names:
    """Hands out prefixes ``wq0``, ``wq1``, ... under a root that no node of the graph uses."""

    def __init__(self, graph: Graph) -> None:
        taken = {node.name for scope in graph.scopes for node in scope.nodes}
        taken.update(argument for scope in graph.scopes for argument in scope.arguments)
        self.root = _ROOT
        while any(name.startswith(self.root) for name in taken):
            self.root += "_"
        self._next = 0

    def prefix(self) -> str:
        """A new prefix."""
        number = self._next
        self._next += 1
        return f"{self.root}{number}"

    def go_on_from(self, number: int) -> None:
        """Let the next prefix have this number."""
        self._next = number
