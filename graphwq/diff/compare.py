"""Two graphs side by side: every change, scope by scope."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, Iterator, List, Mapping, Optional, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.explain import Explanation, Tally, explain, weight_changes
from graphwq.diff.function_names import (
    function_renames,
    renamed_functions,
    with_function_names,
)
from graphwq.diff.interface import added_node, outputs, removed_node, retyped_output
from graphwq.diff.library import field_changes
from graphwq.diff.match import match_scopes
from graphwq.diff.nodes import PLACEHOLDERS, compare_nodes
from graphwq.diff.order import order_change
from graphwq.diff.rename import Renames, renamed
from graphwq.diff.renames import rename_changes
from graphwq.diff.sets import Split, split
from graphwq.diff.signatures import Signatures, signature_changes
from graphwq.diff.subgraphs import Decoded, decoded
from graphwq.diff.values import same_bytes
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph, Scope
from graphwq.graphdef.node import Node
from graphwq.rewrite.plan import Plan
from graphwq.survey.sites import qualified
from graphwq.survey.view import View, build

#: The end of the name of a node that was set aside; no TensorFlow name has it.
_GONE = " (removed)"
#: A node with a longer name is another node where it is called otherwise.
_LONGEST = 1000


@dataclass(frozen=True)
class Comparison:
    """The outcome, with what renderers and ``patch`` need to know.

    Attributes:
        old, new: the graphs.
        aligned: OLD with its nodes named as in NEW.
        renames: what was renamed.
        changes: unexplained ones first, each part by severity, then in file order.
        explanation: the quantization that leads from OLD to NEW; None where there is none.
        signatures: of OLD and of NEW; None for a GraphDef.
    """

    old: Graph
    new: Graph
    aligned: Graph
    renames: Renames
    changes: Tuple[Change, ...]
    explanation: Optional[Explanation]
    signatures: Tuple[Optional[Signatures], Optional[Signatures]] = (None, None)


def diff_graphs(
    old: Graph,
    new: Graph,
    plan: Optional[Plan] = None,
    signatures: Tuple[Optional[Signatures], Optional[Signatures]] = (None, None),
) -> Comparison:
    """Compare two graphs.

    Args:
        old, new: the graphs.
        plan: the quantization plan by which NEW is said to be made from OLD; without one it is
            recovered from NEW where NEW holds weights of OLD quantized.
        signatures: of OLD and of NEW; None for a GraphDef.

    Raises:
        InputError: two nodes of a scope have one name, an attribute is damaged, or the plan does
            not fit OLD.
    """
    check(old)
    check(new)
    if plan is not None and plan.graph_digest not in (None, old.digest):
        raise InputError(
            f"the plan was made for another graph (its digest is {(plan.graph_digest or '')[:12]}"
            f"..., OLD's {old.digest[:12]}...): give the plan by which NEW was made from OLD"
        )
    functions = renamed_functions(old, new)
    given = old
    if functions:
        old = with_function_names(old, functions)
        plan = None if plan is None else replace(plan, graph_digest=None)
    scopes = split(_scopes(old), _scopes(new)).mutual
    renames = {name: _names(before, match_scopes(before, after)) for name, before, after in scopes}
    renames = {name: names for name, names in renames.items() if names}
    aligned = renamed(old, renames)
    found = explain(old, aligned, new, renames, plan)
    walk = [
        *signature_changes(*signatures, renames.get("", {})),
        *function_renames(given, functions),
        *_Walk(aligned, new, renames, found).changes(),
    ]
    changes = sorted(walk, key=lambda change: _rank(change, found))
    if functions:
        aligned = renamed(given, renames)
    return Comparison(given, new, aligned, renames, tuple(changes), found, signatures)


def diff_by_name(old: Graph, new: Graph) -> Tuple[Change, ...]:
    """Compare two graphs in which a node of another name is another node; nothing is explained.

    Raises:
        InputError: see ``diff_graphs``.
    """
    check(old)
    check(new)
    return tuple(_Walk(old, new, {}, None).changes())


def check(graph: Graph) -> None:
    """Refuse a graph whose nodes cannot be told apart.

    Raises:
        InputError: two functions, or two nodes of a scope, have one name.
    """
    for scope in _scopes(graph).values():
        seen = set(scope.arguments)
        for node in scope.nodes:
            if node.name in seen:
                raise InputError(
                    f"two nodes are named {qualified(scope.name, node.name)!r}: the graph is "
                    "broken (was it made by joining two graphs?), export it again"
                )
            seen.add(node.name)


def _names(old: Scope, matched: Mapping[str, str]) -> Dict[str, str]:
    """What nodes are called in the aligned graph, where that is not their name in OLD.

    A node that is gone and whose name now means another node is set aside.
    """
    names = {
        before: after
        for before, after in matched.items()
        if before != after and max(len(before), len(after)) <= _LONGEST
    }
    taken = set(names.values())
    for node in old.nodes:
        kept = node.name in names or matched.get(node.name) == node.name
        if node.name in taken and not kept:
            names[node.name] = f"{node.name}{_GONE}"
    return names


def _scopes(graph: Graph) -> Dict[str, Scope]:
    found: Dict[str, Scope] = {}
    for scope in graph.scopes:
        if scope.name in found:
            raise InputError(
                f"two functions are named {scope.name!r}: the graph is broken, export it again"
            )
        found[scope.name] = scope
    return found


def _rank(change: Change, explanation: Optional[Explanation]) -> Tuple[bool, int]:
    return (explanation is not None and change.explained_by is not None, change.severity.rank)


class _Walk:
    """One walk over two graphs whose nodes have the same names."""

    def __init__(
        self, old: Graph, new: Graph, renames: Renames, explanation: Optional[Explanation]
    ) -> None:
        self._old, self._new, self._renames = old, new, renames
        self._explanation = explanation
        self._tallies: Dict[str, Tally] = {}
        self._view: Optional[View] = None

    def changes(self) -> Iterator[Change]:
        found: List[Change] = list(field_changes(self._old, self._new))
        for name, before, after in split(_scopes(self._old), _scopes(self._new)).mutual:
            found += self._scope(name, before, after)
        if self._explanation is not None:
            found += weight_changes(self._explanation, self._tallies)
        if not found and not self._renames and not _same_file(self._old, self._new):
            yield Change(
                Kind.ENCODING_CHANGED,
                "",
                Severity.BENIGN,
                "the same graph in other bytes",
                reason="the order and spelling of fields decide nothing",
            )
        yield from found

    def _scope(self, scope: str, old: Scope, new: Scope) -> Iterator[Change]:
        former = {after: before for before, after in self._renames.get(scope, {}).items()}
        before_outputs, after_outputs = outputs(old), outputs(new)
        interface = _interface(old, before_outputs)
        yield from rename_changes(
            scope,
            {a: b for a, b in self._renames.get(scope, {}).items() if b != f"{a}{_GONE}"},
            frozenset(former.get(name, name) for name in interface),
        )
        parts = split({node.name: node for node in old.nodes}, {n.name: n for n in new.nodes})
        stored = self._decoded(scope, old, parts)
        for item in stored.values():
            yield _called(item.change, scope, former, item.constant)
        hidden = {node for item in stored.values() for node in item.nodes}
        for _, node in parts.removed:
            if node.name in stored:
                continue
            change = removed_node(scope, node, node.name in before_outputs)
            if node.name in former:
                change = replace(change, path=qualified(scope, former[node.name]))
            yield change
        for name, before, after in parts.mutual:
            if same_bytes(before.to_bytes(), after.to_bytes()) or self._explains(scope, after):
                continue
            for change in compare_nodes(scope, before, after):
                if _is_decoding(change, name, stored):
                    continue
                change = retyped_output(change) if name in before_outputs else change
                yield _called(change, scope, former, name)
        for _, node in parts.added:
            if not self._explains(scope, node, is_added=True) and node.name not in hidden:
                yield added_node(scope, node, node.name in after_outputs)
        moved = order_change(
            scope,
            [node.name for _, node, _ in sorted_like(old, parts.mutual)],
            [name for name, _, _ in parts.mutual],
        )
        if moved is not None:
            yield moved

    def _decoded(self, scope: str, old: Scope, parts: Split[str, Node]) -> Dict[str, Decoded]:
        """Constant of OLD -> the subgraph of NEW that stands for it; see ``subgraphs``."""
        gone = [node for _, node in parts.removed if node.op == "Const"]
        gone += [old for _, old, new in parts.mutual if old.op == "Const" != new.op]
        if not gone:
            return {}
        taken: FrozenSet[str] = frozenset()
        if self._explanation is not None:
            touched = self._explanation.touched
            weight_of = self._explanation.weight_of
            taken = frozenset(
                node for where, node in touched if where == scope and weight_of(scope, node)
            )
        if self._view is None:
            self._view = build(self._new)
        found = decoded(scope, old, self._view.scopes[scope], taken)
        return {item.constant: item for item in found}

    def _explains(self, scope: str, node: Node, is_added: bool = False) -> bool:
        if self._explanation is None:
            return False
        weight = self._explanation.weight_of(scope, node.name)
        if weight is None:
            return False
        tally = self._tallies.setdefault(weight, Tally())
        (tally.added if is_added else tally.changed).append(node.name)
        return True


def sorted_like(
    old: Scope, mutual: Tuple[Tuple[str, Node, Node], ...]
) -> List[Tuple[str, Node, Node]]:
    """Nodes that both graphs have, in the order of OLD."""
    place = {node.name: index for index, node in enumerate(old.nodes)}
    return sorted(mutual, key=lambda item: place[item[0]])


def _interface(scope: Scope, fetched: FrozenSet[str]) -> FrozenSet[str]:
    if scope.name:
        return frozenset()
    return fetched | {node.name for node in scope.nodes if node.op in PLACEHOLDERS}


def _is_decoding(change: Change, name: str, stored: Mapping[str, Decoded]) -> bool:
    """Whether a change says no more than that a constant is decoded here, or read from there."""
    if name in stored:
        return change.kind not in (Kind.CONTROL_INPUT_CHANGED, Kind.DEVICE_CHANGED)
    if change.kind is not Kind.INPUT_REWIRED:
        return False
    item = stored.get(change.detail["old"])
    return item is not None and change.detail["new"] in (item.root, f"{item.root}:0")


def _called(change: Change, scope: str, former: Mapping[str, str], name: str) -> Change:
    """The change with the names of OLD: that of the node, and those of its former inputs."""
    detail = dict(change.detail)
    if change.kind is Kind.INPUT_REWIRED and detail["old"] is not None:
        node, colon, rest = detail["old"].partition(":")
        detail["old"] = f"{former.get(node, node)}{colon}{rest}"
    elif change.kind is Kind.CONTROL_INPUT_CHANGED:
        detail["removed"] = [former.get(item, item) for item in detail["removed"]]
    if name not in former:
        return replace(change, detail=detail)
    detail["new_path"] = qualified(scope, name)
    return replace(change, path=qualified(scope, former[name]), detail=detail)


def _same_file(old: Graph, new: Graph) -> bool:
    before, after = list(old.chunks()), list(new.chunks())
    if len(before) == len(after):
        return all(same_bytes(left, right) for left, right in zip(before, after))
    return old.to_bytes() == new.to_bytes()
