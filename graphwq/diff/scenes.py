"""What the HTML page shows of a comparison: pictures by scope, histograms by weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.diff.change import Change, Kind
from graphwq.diff.compare import Comparison
from graphwq.diff.constants import tensor_of_node
from graphwq.diff.document import Diff
from graphwq.diff.histogram import Histogram, histogram
from graphwq.diff.overview import depth_of, gravest, overview, scope_of
from graphwq.diff.picture import Mark, Picture, Web, groups, neighbourhood, picture
from graphwq.diff.values import numbers
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node
from graphwq.survey.evaluate import evaluate
from graphwq.survey.sites import qualified
from graphwq.survey.view import View, build

MOST_PICTURES = 12
MOST_HISTOGRAMS = 24

_DRAWN = {
    Kind.NODE_ADDED: "added",
    Kind.PLACEHOLDER_ADDED: "added",
    Kind.OUTPUT_ADDED: "added",
    Kind.NODE_REMOVED: "removed",
    Kind.PLACEHOLDER_REMOVED: "removed",
    Kind.OUTPUT_REMOVED: "removed",
    Kind.OP_CHANGED: "changed",
    Kind.ATTR_CHANGED: "changed",
    Kind.INPUT_REWIRED: "changed",
    Kind.CONTROL_INPUT_CHANGED: "changed",
    Kind.VALUE_CHANGED: "changed",
    Kind.CONSTANT_DECODED: "changed",
    Kind.DTYPE_CHANGED: "changed",
    Kind.SHAPE_CHANGED: "changed",
    Kind.DEVICE_CHANGED: "changed",
}


@dataclass(frozen=True)
class Scene:
    """A group of changes: the graph around them before and after."""

    title: str
    style: str
    messages: Tuple[Tuple[str, str], ...]
    old: Picture
    new: Picture


@dataclass(frozen=True)
class Place:
    """The scenes of one scope."""

    anchor: str
    title: str
    style: str
    scenes: Tuple[Scene, ...]


@dataclass(frozen=True)
class Whole:
    """Both graphs with a box per scope."""

    old: Optional[Picture]
    new: Optional[Picture]


@dataclass(frozen=True)
class Scenes:
    """Everything that is drawn; ``left_out`` counts the groups that are not."""

    whole: Optional[Whole]
    places: Tuple[Place, ...]
    left_out: int


class _Scope:
    """One scope of both graphs, with the marks of its changed nodes, by the names of NEW."""

    def __init__(self, name: str, old: Web, new: Web, names: Mapping[str, str]) -> None:
        self.name, self.old, self.new = name, old, new
        self.old_names = {after: before for before, after in names.items()}
        self.marks: Dict[str, Mark] = {}
        self.messages: Dict[str, List[Tuple[str, str]]] = {}
        self.weights: Dict[str, str] = {}

    def mark(self, node: str, change: Change, state: str) -> None:
        """Note a change; of several the first, gravest one decides how the node looks."""
        style = "explained" if change.explained_by is not None else change.severity.value
        self.marks.setdefault(node, Mark(style, state, change.message))
        self.messages.setdefault(node, []).append((change.path, change.message))


def scenes(diff: Diff, comparison: Comparison) -> Scenes:
    """Draw what changed."""
    scopes = {scope.name: scope for scope in _scopes(comparison)}
    _mark(diff, comparison, scopes)
    found: List[Tuple[str, Scene]] = []
    left_out = 0
    depths = {
        name: depth_of([scope.old, scope.new], scope.weights) for name, scope in scopes.items()
    }
    for name, scope in scopes.items():
        for group in groups(scope.marks, [scope.old, scope.new], scope.weights):
            if len(found) >= MOST_PICTURES:
                left_out += 1
                continue
            first = next((node for node in group if node in scope.old.nodes), group[0])
            where = qualified(name, scope_of(scope.weights.get(first, first), depths[name]))
            found.append((where, _scene(scope, group)))
    by_place: Dict[str, List[Scene]] = {}
    for where, scene in found:
        by_place.setdefault(where, []).append(scene)
    places = tuple(
        Place(f"scope-{index}", where, _gravest_scene(some), tuple(some))
        for index, (where, some) in enumerate(by_place.items())
    )
    links = {place.title: place.anchor for place in places}
    return Scenes(_whole(scopes.get(""), depths.get("", 1), links), places, left_out)


def _gravest_scene(some: Sequence[Scene]) -> str:
    return gravest([Mark(scene.style, "", "") for scene in some])


def _scopes(comparison: Comparison) -> Iterator[_Scope]:
    old = {scope.name: scope for scope in comparison.aligned.scopes}
    new = {scope.name: scope for scope in comparison.new.scopes}
    for name in {**old, **new}:
        webs = [Web(side[name].nodes if name in side else ()) for side in (old, new)]
        yield _Scope(name, webs[0], webs[1], comparison.renames.get(name, {}))


def _mark(diff: Diff, comparison: Comparison, scopes: Mapping[str, _Scope]) -> None:
    """Spread the changes over the nodes that they are about."""
    by_old: Dict[str, Tuple[str, str]] = {}
    by_new: Dict[str, Tuple[str, str]] = {}
    for name, scope in scopes.items():
        for node in scope.old.nodes:
            by_old[qualified(name, scope.old_names.get(node, node))] = (name, node)
        for node in scope.new.nodes:
            by_new[qualified(name, node)] = (name, node)
    weights: Dict[str, Change] = {}
    for change in diff.changes:
        if change.kind is Kind.WEIGHT_QUANTIZED:
            weights[change.path] = change
        state = _DRAWN.get(change.kind)
        if state is None:
            continue
        place = (by_new if state == "added" else by_old).get(change.path)
        if place is not None:
            scopes[place[0]].mark(place[1], change, state)
            if change.kind is Kind.CONSTANT_DECODED:
                _mark_decoding(scopes[place[0]], place[1], change, by_new)
    if comparison.explanation is None:
        return
    for (name, node), weight in comparison.explanation.touched.items():
        drawn = scopes.get(name)
        if weight in weights and drawn is not None and node in drawn.new.nodes:
            state = "changed" if node in drawn.old.nodes else "added"
            drawn.mark(node, weights[weight], state)
            drawn.weights[node] = weight


def _mark_decoding(
    drawn: _Scope, constant: str, change: Change, by_new: Mapping[str, Tuple[str, str]]
) -> None:
    """The nodes from which NEW computes a constant belong to it."""
    drawn.weights[constant] = constant
    for path in change.detail["nodes"]:
        _, node = by_new[path]
        if node != constant:
            drawn.mark(node, change, "added")
            drawn.weights[node] = constant


def _scene(scope: _Scope, group: Sequence[str]) -> Scene:
    shown = frozenset(neighbourhood(group, [scope.old, scope.new]))
    said: Dict[Tuple[str, str], None] = {}
    for node in group:
        for message in scope.messages[node]:
            said.setdefault(message)
    messages = list(said)
    return Scene(
        messages[0][0],
        gravest([scope.marks[node] for node in group]),
        tuple(messages[:12]),
        picture(scope.old, shown, scope.marks, scope.old_names),
        picture(scope.new, shown, scope.marks, {}),
    )


def _whole(scope: Optional[_Scope], depth: int, links: Mapping[str, str]) -> Optional[Whole]:
    if scope is None:
        return None
    sides = [
        overview(web, depth, scope.marks, links, scope.weights) for web in (scope.old, scope.new)
    ]
    return Whole(*sides) if any(side is not None for side in sides) else None


@dataclass(frozen=True)
class Values:
    """The values of one weight before and after."""

    path: str
    message: str
    histogram: Histogram


def weight_values(diff: Diff, comparison: Comparison) -> Tuple[Tuple[Values, ...], int]:
    """The histograms of the weights that lost most, and how many more there would be."""
    kinds = (
        Kind.WEIGHT_QUANTIZED,
        Kind.CONSTANT_DECODED,
        Kind.VALUE_CHANGED,
        Kind.DTYPE_CHANGED,
    )
    changes = [change for change in diff.changes if change.kind in kinds]
    changes.sort(key=_sqnr)
    found: List[Values] = []
    arrays = _Arrays(comparison)
    for index, change in enumerate(changes):
        if len(found) == MOST_HISTOGRAMS:
            return tuple(found), len(changes) - index
        pair = arrays.of(change)
        bars = None if pair is None else histogram(*pair)
        if bars is not None:
            found.append(Values(change.path, change.message, bars))
    return tuple(found), 0


def _sqnr(change: Change) -> float:
    data = change.detail if "sqnr_db" in change.detail else change.detail.get("values", {})
    value = data.get("sqnr_db")
    return float("inf") if value is None else float(value)


class _Arrays:
    """The float values that a change is about, of both sides."""

    def __init__(self, comparison: Comparison) -> None:
        self._old = _constants(comparison.old)
        self._new = _constants(comparison.new)
        self._graph = comparison.new
        self._view: Optional[View] = None
        self._quantized = {}
        if comparison.explanation is not None:
            for weight in comparison.explanation.recovered.weights:
                self._quantized[weight.item.weight] = weight.quantized
        self._names = {
            qualified(scope, before): qualified(scope, after)
            for scope, names in comparison.renames.items()
            for before, after in names.items()
        }

    def of(self, change: Change) -> Optional[Tuple[np.ndarray, np.ndarray]]:
        """Both arrays; None where they are no floats or cannot be read."""
        new_name = self._names.get(change.path, change.path)
        old = self._old.get(change.path)
        before = None if old is None else _floats(old)
        if change.kind is Kind.WEIGHT_QUANTIZED:
            quantized = self._quantized.get(change.path)
            after = None if quantized is None else quantized.dequantize()
        elif change.kind is Kind.CONSTANT_DECODED:
            after = self._decoded(change)
        else:
            new = self._new.get(new_name)
            after = None if new is None else _floats(new)
        return None if before is None or after is None else (before, after)

    def _decoded(self, change: Change) -> Optional[np.ndarray]:
        if self._view is None:
            self._view = build(self._graph)
        for name, view in self._view.scopes.items():
            start = qualified(name, "")
            root = change.detail["node"][len(start) :]
            if change.detail["node"].startswith(start) and root in view.nodes:
                return evaluate(view, root)
        return None


def _constants(graph: Graph) -> Dict[str, Node]:
    return {
        qualified(scope.name, node.name): node
        for scope in graph.scopes
        for node in scope.nodes
        if node.op == "Const"
    }


def _floats(node: Node) -> Optional[np.ndarray]:
    tensor = tensor_of_node(node)
    if tensor is None or tensor.size < 16:
        return None
    try:
        array = numbers(tensor)
    except InputError:
        return None
    return array if array is not None and array.dtype.kind == "f" else None
