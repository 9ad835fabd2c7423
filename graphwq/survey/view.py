"""The graph as something to walk on: one view per scope, nodes by name, the uses of each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph, Scope
from graphwq.graphdef.node import CONTROL, Node, TensorRef, producer
from graphwq.graphdef.spelling import close
from graphwq.graphdef.tensor import Tensor
from graphwq.survey.sites import WeightSite, qualified

if TYPE_CHECKING:
    import networkx as nx

#: The ops whose input comes from the iteration before: the only legal cycles run through them.
BACK_EDGE_OPS = ("NextIteration", "RefNextIteration")

CALL_OPS = ("PartitionedCall", "StatefulPartitionedCall")
BRANCH_OPS = ("If", "StatelessIf")


class Use(NamedTuple):
    """One place where an output is used: input ``slot`` (-1: control) of ``node``."""

    node: Node
    slot: int
    port: int


@dataclass(frozen=True)
class ScopeView:
    """One scope.

    Attributes:
        scope: the nodes.
        nodes: by name.
        users: the uses of each node's or argument's outputs, by its name, in file order.
        dangling: (node, input) of inputs that name no node; they are no uses.
    """

    scope: Scope
    nodes: Dict[str, Node]
    users: Dict[str, List[Use]]
    dangling: Tuple[Tuple[str, str], ...]

    @property
    def graph(self) -> nx.MultiDiGraph:
        """The scope for networkx, made when it is first asked for (its import takes 0.06 s).

        Vertices are argument and node names, each edge has ``slot`` (-1: control) and ``port``
        attributes. Inputs that name nothing are left out, see ``dangling``.
        """
        known = self.__dict__.get("_graph")
        if known is None:
            import networkx as nx

            known = nx.MultiDiGraph()
            known.add_nodes_from(self.users)
            known.add_edges_from(
                (name, use.node.name, {"slot": use.slot, "port": use.port})
                for name, users in self.users.items()
                for use in users
            )
            self.__dict__["_graph"] = known
        return known

    def uses(self, name: str) -> Iterator[Use]:
        """Where the outputs of a node or argument are used, in file order."""
        return iter(self.users.get(name, ()))

    @property
    def has_loops(self) -> bool:
        """Whether there are while loops of the old kind, with frames; looked up once."""
        known = self.__dict__.get("_has_loops")
        if known is None:
            known = any(node.op in ("Enter", "RefEnter") for node in self.scope.nodes)
            self.__dict__["_has_loops"] = known
        return known

    def check_controls(self) -> None:
        """Refuse a control input in front of a data input, as TensorFlow does.

        Raises:
            InputError: there is one.
        """
        for node in self.scope.nodes:
            for left, right in zip(node.inputs, node.inputs[1:]):
                if left.startswith("^") and not right.startswith("^"):
                    raise InputError(
                        f"node {qualified(self.scope.name, node.name)!r} has the control input "
                        f"{left!r} before the input {right!r}: the graph is broken, export it again"
                    )

    def topological_order(self) -> Dict[str, int]:
        """Position of each node such that inputs come first; back edges of loops left out.

        It is worked out once.

        Raises:
            InputError: the scope has a cycle that is not a while loop.
        """
        known: Optional[Dict[str, int]] = self.__dict__.get("_topological_order")
        if known is None:
            known = self._topological_order()
            self.__dict__["_topological_order"] = known
        return known

    def _topological_order(self) -> Dict[str, int]:
        waiting = dict.fromkeys(self.users, 0)
        for name in self.users:
            for use in self._forward(name):
                waiting[use.node.name] += 1
        ready = [name for name, count in waiting.items() if not count]
        for name in ready:  # which grows meanwhile
            for use in self._forward(name):
                waiting[use.node.name] -= 1
                if not waiting[use.node.name]:
                    ready.append(use.node.name)
        if len(ready) < len(waiting):
            raise InputError(self._cycle())
        return {name: index for index, name in enumerate(ready)}

    def _forward(self, name: str) -> Iterator[Use]:
        """The uses of a node, none where they belong to the next iteration of a loop."""
        node = self.nodes.get(name)
        return iter(()) if node is not None and node.op in BACK_EDGE_OPS else self.uses(name)

    def _cycle(self) -> str:
        """What is wrong with a scope that has a cycle."""
        import networkx as nx

        graph = self.graph.copy()
        back = [name for name, node in self.nodes.items() if node.op in BACK_EDGE_OPS]
        graph.remove_edges_from(list(graph.out_edges(back, keys=True)))
        path = " -> ".join([edge[0] for edge in nx.find_cycle(graph)[:4]] + ["..."])
        where = f" of function {self.scope.name}" if self.scope.name else ""
        return (
            f"the nodes{where} form a cycle that is no while loop ({path}): "
            "TensorFlow cannot run such a graph; export it again"
        )


@dataclass(frozen=True)
class View:
    """All scopes of a graph."""

    scopes: Dict[str, ScopeView]

    @property
    def main(self) -> ScopeView:
        """The main graph."""
        return self.scopes[""]

    def tensor(self, site: WeightSite) -> Tensor:
        """The tensor of a weight that is a constant."""
        tensor = self.scopes[site.scope].nodes[site.node].tensor()
        assert tensor is not None, site.weight
        return tensor

    def check(self) -> None:
        """Refuse a graph that no runtime can load.

        Raises:
            InputError: an input names no node, there is a cycle, or a constant does not match its
                own shape.
        """
        for name, view in self.scopes.items():
            view.check_controls()
            for node, missing in view.dangling:
                near = close(TensorRef.parse(missing).node, view.nodes, 1)
                hint = f" (is {near[0]!r} meant?)" if near else ""
                raise InputError(
                    f"node {qualified(name, node)!r} has input {missing!r}, but no such node "
                    f"exists{hint}: the graph is broken, export it again"
                )
            view.topological_order()
            for constant in view.scope.nodes:
                if constant.op == "Const":
                    constant.tensor()

    def problems(self) -> List[str]:
        """What keeps a runtime from loading the graph: inputs that do not exist, and cycles.

        ``check`` refuses such a graph; surveyed and compared it can be all the same.
        """
        found = [
            f"node {qualified(name, node)!r} has input {missing!r}, but no such node exists"
            for name, scope in self.scopes.items()
            for node, missing in scope.dangling
        ]
        for scope in self.scopes.values():
            try:
                scope.topological_order()
            except InputError as error:
                found.append(str(error))
        return found

    def callers(self, function: str) -> Iterator[Tuple[str, Node]]:
        """The nodes that call a function, with the names of their scopes."""
        for name, view in self.scopes.items():
            for node in view.scope.nodes:
                if any(called == function for called, _ in self.called(node)):
                    yield name, node

    def called(self, node: Node) -> List[Tuple[str, int]]:
        """The functions that a node calls: (name, data slot at which their arguments begin)."""
        if node.op in self.scopes and node.op:
            return [(node.op, 0)]
        keys: Tuple[str, ...] = ()
        first = 0
        if node.op in CALL_OPS:
            keys = ("f",)
        elif node.op in BRANCH_OPS:
            keys, first = ("then_branch", "else_branch"), 1
        found = []
        for key in keys:
            attr = node.attr(key)
            if attr is not None and attr.func.name in self.scopes:
                found.append((attr.func.name, first))
        return found


def build(graph: Graph) -> View:
    """Build the view.

    Raises:
        InputError: two nodes of a scope, or two functions, have the same name.
    """
    scopes: Dict[str, ScopeView] = {}
    for scope in graph.scopes:
        if scope.name in scopes:
            raise InputError(
                f"two functions are named {scope.name!r}: the graph is broken, export it again"
            )
        scopes[scope.name] = _build_scope(scope)
    return View(scopes)


def _build_scope(scope: Scope) -> ScopeView:
    nodes: Dict[str, Node] = {}
    arguments = set(scope.arguments)
    if len(arguments) < len(scope.arguments):
        raise InputError(
            f"two arguments of the function {scope.name!r} have one name: the graph is broken, "
            "export it again"
        )
    for node in scope.nodes:
        if node.name in nodes or node.name in arguments:
            raise InputError(
                f"two nodes are named {qualified(scope.name, node.name)!r}: the graph is broken "
                "(was it made by joining two graphs?), export it again"
            )
        nodes[node.name] = node
    users: Dict[str, List[Use]] = {name: [] for name in (*scope.arguments, *nodes)}
    dangling = []
    for node in scope.nodes:
        for slot, written in enumerate(node.inputs):
            name, port = producer(written)
            if name not in users:
                dangling.append((node.name, written))
                continue
            users[name].append(Use(node, CONTROL if port == CONTROL else slot, port))
    return ScopeView(scope, nodes, users, tuple(dangling))
