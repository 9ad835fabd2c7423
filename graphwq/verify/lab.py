"""A graph whose weights can be exchanged from run to run without importing it again.

TensorFlow feeds any tensor, also that of a constant. All weights are fed in every run, the floats
or others in their place: so the runs that fetch the same tensors share one executor, which holds no
copy of the weights. A weight in a function, a loop or a branch cannot be fed; for those a graph
with another constant is imported.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import (
    Callable,
    ContextManager,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const
from graphwq.graphdef.node import Node, private_attrs
from graphwq.rewrite.decode import decode
from graphwq.survey.evaluate import evaluate
from graphwq.survey.sites import Source, WeightSite
from graphwq.survey.view import ScopeView, View
from graphwq.verify.feeds import Sample
from graphwq.verify.runner import Runner

#: Makes a session for a graph, with TensorFlow's graph optimizers (True) or without.
MakeRunner = Callable[[Graph, bool], ContextManager[Runner]]
Values = Mapping[str, np.ndarray]


def stored_values(view: View, site: WeightSite) -> Optional[np.ndarray]:
    """The values that a graph holds in the place of a weight, in the weight's dtype.

    None where there is no such node, or none that is computed from constants.
    """
    scope = view.scopes.get(site.scope)
    node = None if scope is None else scope.nodes.get(site.node)
    if scope is None or node is None:
        return None
    try:
        values = _const(node) if node.op == "Const" else _computed(scope, node)
    except InputError:
        return None
    wanted = dtypes.NUMPY[site.dtype]
    if values is None or values.shape != site.shape or values.dtype.kind != "f":
        return None
    return np.ascontiguousarray(values.astype(wanted, copy=False))


def _const(node: Node) -> Optional[np.ndarray]:
    tensor = node.tensor()
    return None if tensor is None else tensor.numpy()


def _computed(scope: ScopeView, node: Node) -> Optional[np.ndarray]:
    values = evaluate(scope, node.name)
    if values is not None:
        return values
    stored = decode(scope, node)
    return None if stored is None else stored.values()


def changed_weights(
    reference: View, candidate: View, sites: Iterable[WeightSite]
) -> Dict[str, np.ndarray]:
    """The values that the candidate holds of each weight of the reference that it changed."""
    found: Dict[str, np.ndarray] = {}
    for site in sites:
        before, after = stored_values(reference, site), stored_values(candidate, site)
        if before is None or after is None or site.source is not Source.CONST:
            continue
        if before.tobytes() != after.tobytes():
            found[site.weight] = after
    return found


class Lab:
    """The reference, with other values for some of its weights in each run.

    Args:
        graph: the reference.
        view: of it.
        sites: the weights that may be exchanged.
        make_runner: makes sessions; they are made without graph optimizers.

    Attributes:
        runner: the session of the reference as it stands.
    """

    def __init__(
        self, graph: Graph, view: View, sites: Sequence[WeightSite], make_runner: MakeRunner
    ) -> None:
        self._graph = graph
        self._make = make_runner
        self._floats: Dict[str, np.ndarray] = {}
        self._sites: Dict[str, WeightSite] = {}
        self._fed: Dict[str, str] = {}
        for site in sites:
            values = stored_values(view, site)
            if values is None:
                continue
            self._floats[site.weight] = values
            self._sites[site.weight] = site
            if not site.scope and not view.main.nodes[site.node].control_inputs:
                self._fed[site.weight] = f"{site.node}:0"
        self._base = ExitStack()
        self._changed = ExitStack()
        self.runner: Runner = self._base.enter_context(make_runner(graph, False))
        self._imported: Optional[Runner] = None
        self._fixed: Dict[str, np.ndarray] = {}

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._changed.close()
        self._base.close()

    def floats(self, weight: str) -> np.ndarray:
        """The reference's values of a weight."""
        return self._floats[weight]

    def run(self, tensors: Sequence[str], sample: Sample, values: Values) -> Values:
        """Fetch tensors with ``values`` in the place of the weights they name.

        Raises:
            InputError: the graph cannot be run on the sample.
        """
        fed = {name: values.get(weight, self._floats[weight]) for weight, name in self._fed.items()}
        fixed = {weight: values[weight] for weight in values if weight not in self._fed}
        return self._runner(fixed).run(tensors, {**fed, **sample})

    def _runner(self, fixed: Dict[str, np.ndarray]) -> Runner:
        """The session in which the weights that cannot be fed have these values.

        The last one is kept, beside the one of the reference as it stands.
        """
        if not fixed:
            return self.runner
        same = fixed.keys() == self._fixed.keys() and all(
            array is self._fixed[weight] for weight, array in fixed.items()
        )
        if self._imported is None or not same:
            self._changed.close()
            self._changed = ExitStack()
            self._imported = self._changed.enter_context(self._make(self._with(fixed), False))
            self._fixed = fixed
        return self._imported

    def _with(self, fixed: Values) -> Graph:
        edits: Dict[str, Dict[str, Sequence[Node]]] = {}
        nodes = {
            (scope.name, node.name): node for scope in self._graph.scopes for node in scope.nodes
        }
        for weight, array in fixed.items():
            site = self._sites[weight]
            node = nodes[site.scope, site.node]
            new = new_const(
                node.name,
                site.dtype,
                site.shape,
                array,
                node.control_inputs,
                private_attrs(node),
                node.device,
            )
            edits.setdefault(site.scope, {})[site.node] = (new,)
        return self._graph.edited(edits)


def chunked(sizes: Sequence[int], budget: int) -> List[Tuple[int, int]]:
    """Ranges of consecutive items whose sizes stay within a budget; at least one item each."""
    ranges: List[Tuple[int, int]] = []
    begin = total = 0
    for index, size in enumerate(sizes):
        if index > begin and total + size > budget:
            ranges.append((begin, index))
            begin, total = index, 0
        total += size
    if begin < len(sizes):
        ranges.append((begin, len(sizes)))
    return ranges
