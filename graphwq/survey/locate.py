"""Finding every weight: from each float Const and variable forward to the ops that use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import AbstractSet, Dict, Iterator, List, Optional, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import CONTROL, Node, TensorRef
from graphwq.survey import axes, quantized
from graphwq.survey.axes import AxisMap
from graphwq.survey.candidates import Candidate, candidate, skip
from graphwq.survey.optable import WEIGHT_INPUTS
from graphwq.survey.paths import JOINING_OPS, PASS_OPS, carry
from graphwq.survey.sites import (
    Consumer,
    Reason,
    Skip,
    Survey,
    WeightSite,
)
from graphwq.survey.view import ScopeView, View, build

_STORED = ("Const", "VariableV2", "Variable", "TemporaryVariable", "VarHandleOp", "NoOp")
_ELEMENTWISE = frozenset(
    [
        "Add",
        "AddV2",
        "AddN",
        "Sub",
        "Mul",
        "Div",
        "RealDiv",
        "Maximum",
        "Minimum",
        "Neg",
        "Abs",
        "Sign",
        "Round",
        "Floor",
        "Square",
        "Pow",
        "FakeQuantWithMinMaxArgs",
        "FakeQuantWithMinMaxVars",
        "FakeQuantWithMinMaxVarsPerChannel",
    ]
)
_FAKE_QUANT = "FakeQuant"
_MAX_PATH = 100
#: No weight goes through more places; a graph that makes one do so is hostile.
_MAX_STEPS = 100_000
#: Ops that may leave a tensor exactly as it is.
_RESHAPING = frozenset(["Reshape", "Transpose", "Squeeze"])
_MAX_ARITHMETIC = 200


def locate(graph: Graph) -> Survey:
    """Survey a graph: every float Const and variable, in functions too, ends as site or skip.

    Raises:
        InputError: duplicate node names, or a constant that does not match its own shape.
    """
    return locate_in(build(graph))


def locate_in(view: View, wanted: Optional[AbstractSet[Tuple[str, str]]] = None) -> Survey:
    """Survey a graph whose view is already built; see ``locate``.

    Args:
        view: of the graph.
        wanted: (scope, node) of the constants and variables to look at; None for all.
    """
    finder = _Finder(view)
    sites: List[WeightSite] = []
    skips: List[Skip] = []
    for scope_name, scope in view.scopes.items():
        for node in scope.scope.nodes:
            if wanted is not None and (scope_name, node.name) not in wanted:
                continue
            found = candidate(scope_name, node)
            if found is None:
                continue
            fate = finder.examine(found) if isinstance(found, Candidate) else found
            if isinstance(fate, WeightSite):
                sites.append(fate)
            else:
                skips.append(fate)
    return Survey(tuple(sites), tuple(skips))


@dataclass
class _Walk:
    """What the way forward from one weight has met."""

    consumers: Dict[Tuple[str, str, int, Tuple[int, ...]], Consumer] = field(default_factory=dict)
    lost: List[str] = field(default_factory=list)
    others: List[Tuple[str, Node, int]] = field(default_factory=list)
    too_long: bool = False


#: scope, node, port (None: all), map, names and ops of the path, passed on as it is
_Step = Tuple[str, str, Optional[int], AxisMap, Tuple[str, ...], Tuple[str, ...], bool]


class _Finder:
    """The walks of one survey, with what they share."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._orders: Dict[str, Dict[str, int]] = {}
        self._fed: Dict[str, Set[str]] = {}
        self._known_callers: Dict[str, List[Tuple[str, Node]]] = {}
        self._dequantizing = {
            name: quantized.dequantizing_constants(scope) for name, scope in view.scopes.items()
        }

    def examine(self, candidate: Candidate) -> WeightSite | Skip:
        """Follow one candidate to its end."""
        scope, node = candidate.scope, candidate.node
        if node.name in self._dequantizing[scope]:
            root = self._dequantizing[scope][node.name]
            detail = f"part of the dequantization that ends in {root}"
            return skip(scope, node, Reason.ALREADY_QUANTIZED, detail)
        walk = self._walk(candidate)
        if not walk.consumers:
            return self._reason(candidate, walk)
        if candidate.dtype not in dtypes.QUANTIZABLE:
            detail = f"{dtypes.dtype_name(candidate.dtype)} weights cannot be read yet"
            return skip(scope, node, Reason.UNSUPPORTED_DTYPE, detail)
        consumers = self._in_order(list(walk.consumers.values()))
        return WeightSite(
            scope,
            node.name,
            candidate.source,
            candidate.shape,
            candidate.dtype,
            consumers[0].kept_axes,
            consumers,
            node.nbytes if node.frame is None else node.frame.nbytes,
        )

    def _walk(self, candidate: Candidate) -> _Walk:
        walk = _Walk()
        first: _Step = (
            candidate.scope,
            candidate.node.name,
            None,
            axes.start(candidate.shape),
            (),
            (),
            True,
        )
        pending = [first]
        seen = {first[:4]}
        while pending and len(seen) <= _MAX_STEPS:
            step = pending.pop()
            scope, name, port = step[:3]
            further = self._returned(step)
            for use in self._view.scopes[scope].uses(name):
                if use.slot != CONTROL and (port is None or use.port == port):
                    further.extend(self._use(walk, step, use.node, use.slot))
            for following in further:
                if following[:4] not in seen:
                    seen.add(following[:4])
                    pending.append(following)
        walk.too_long = walk.too_long or bool(pending)
        return walk

    def _returned(self, step: _Step) -> List[_Step]:
        """The steps from an output of a function to the nodes that call it."""
        scope, name, port, current, path, path_ops, _ = step
        found: List[_Step] = []
        for index, returned in enumerate(self._view.scopes[scope].scope.returns):
            ref = TensorRef.parse(returned)
            if ref.node != name or (port is not None and ref.port != port):
                continue
            for caller, node in self._callers(scope):
                longer = (path + (node.name,), path_ops + (node.op,))
                if len(path) < _MAX_PATH:
                    found.append((caller, node.name, index, current, *longer, False))
        return found

    def _callers(self, function: str) -> List[Tuple[str, Node]]:
        if function not in self._known_callers:
            self._known_callers[function] = list(self._view.callers(function))
        return self._known_callers[function]

    def _use(self, walk: _Walk, step: _Step, node: Node, slot: int) -> Iterator[_Step]:
        """Note a use that ends the way, or yield the steps behind it."""
        scope_name, _, _, current, path, path_ops, direct = step
        scope = self._view.scopes[scope_name]
        rule = WEIGHT_INPUTS.get(node.op, {}).get(slot)
        if rule is not None:
            kept = rule(scope, node, len(current.shape))
            origin = None if kept is None else current.kept(kept)
            if origin is None:
                walk.lost.append(f"{node.op} {node.name}")
            else:
                consumer = Consumer(
                    scope_name, node.name, node.op, slot, origin, path, path_ops, direct
                )
                walk.consumers[scope_name, node.name, slot, origin] = consumer
            return
        longer = (path + (node.name,), path_ops + (node.op,))
        called = self._view.called(node)
        if called:
            if len(path) >= _MAX_PATH:
                walk.too_long = True
                return
            for function, first in called:
                arguments = self._view.scopes[function].scope.arguments
                if 0 <= slot - first < len(arguments):
                    argument = arguments[slot - first]
                    yield (function, argument, None, current, longer[0], longer[1], False)
            return
        outputs = carry(scope, node, slot, current)
        if outputs is None or (node.op in JOINING_OPS and self._is_fed(scope_name, node.name)):
            walk.others.append((scope_name, node, slot))
            return
        if len(path) >= _MAX_PATH:
            walk.too_long = True
            return
        for port, output in enumerate(outputs):
            if output is None:
                walk.lost.append(f"{node.op} {node.name}")
                continue
            same = node.op in _RESHAPING and output == current
            still = direct and (node.op in PASS_OPS or same)
            chosen = None if len(outputs) == 1 else port
            yield (scope_name, node.name, chosen, output, longer[0], longer[1], still)

    def _in_order(self, consumers: List[Consumer]) -> Tuple[Consumer, ...]:
        def place(consumer: Consumer) -> Tuple[str, int, int]:
            order = self._order(consumer.scope)
            return consumer.scope, order.get(consumer.node, 0), consumer.slot

        return tuple(sorted(consumers, key=place))

    def _order(self, scope: str) -> Dict[str, int]:
        if scope not in self._orders:
            view = self._view.scopes[scope]
            try:
                self._orders[scope] = view.topological_order()
            except InputError:  # a cycle: the file order will do for a survey
                self._orders[scope] = {name: index for index, name in enumerate(view.nodes)}
        return self._orders[scope]

    def _is_fed(self, scope: str, name: str) -> bool:
        """Whether a tensor depends on what is fed: then it is an activation and no weight."""
        if scope not in self._fed:
            view = self._view.scopes[scope]
            sources = [
                node.name
                for node in view.nodes.values()
                if not node.data_inputs and node.op not in _STORED
            ]
            sources.extend(view.scope.arguments)
            self._fed[scope] = _descendants(view, sources)
        return name in self._fed[scope]

    def _reason(self, candidate: Candidate, walk: _Walk) -> Skip:
        scope, node = candidate.scope, candidate.node
        if walk.lost:
            detail = f"its channels cannot be told apart at {walk.lost[0]}"
            return skip(scope, node, Reason.AXIS_LOST, detail)
        if walk.too_long:
            detail = f"more than {_MAX_PATH} nodes before the first op that could use it"
            return skip(scope, node, Reason.PATH_TOO_LONG, detail)
        if not walk.others:
            return skip(scope, node, Reason.UNUSED, "no op uses it")
        for where, other, _ in walk.others:
            if other.op.startswith(_FAKE_QUANT):
                detail = f"{other.op} {other.name} already quantizes it in the graph"
                return skip(scope, node, Reason.ALREADY_QUANTIZED, detail)
            if len(candidate.shape) > 1 and self._leads_to_weight(where, other):
                detail = (
                    f"{other.op} {other.name} computes with it before an op uses it as a weight"
                )
                return skip(scope, node, Reason.ARITHMETIC, detail)
        _, other, slot = walk.others[0]
        detail = f"used by {other.op} {other.name} (input {slot}), which takes no weight there"
        return skip(scope, node, Reason.NOT_A_WEIGHT, detail)

    def _leads_to_weight(self, scope: str, node: Node) -> bool:
        """Whether element-wise arithmetic on constants alone ends in the weight input of an op."""
        if node.op not in _ELEMENTWISE or self._is_fed(scope, node.name):
            return False
        view = self._view.scopes[scope]
        pending, seen = [node.name], {node.name}
        while pending and len(seen) < _MAX_ARITHMETIC:
            for use in view.uses(pending.pop()):
                if use.slot in WEIGHT_INPUTS.get(use.node.op, {}):
                    return True
                moves = use.node.op in _ELEMENTWISE or use.node.op in PASS_OPS
                if moves and use.slot != CONTROL and use.node.name not in seen:
                    seen.add(use.node.name)
                    pending.append(use.node.name)
        return False


def _descendants(view: ScopeView, sources: List[str]) -> Set[str]:
    pending, seen = list(sources), set(sources)
    while pending:
        for use in view.uses(pending.pop()):
            if use.node.name not in seen:
                seen.add(use.node.name)
                pending.append(use.node.name)
    return seen
