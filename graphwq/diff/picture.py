"""The part of a graph around a group of changes, as boxes and lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Dict, Iterable, List, Mapping, Sequence, Tuple

from graphwq.diff.layout import Point, draw
from graphwq.graphdef.node import Node, TensorRef
from graphwq.text import name, plural, printable, shortened

#: So many nodes are drawn at most on a side.
MOST_NODES = 36
#: So many neighbours of one node are drawn.
_MOST_NEIGHBOURS = 6
_LETTER, _PADDING, _LINE = 6.7, 16.0, 15.0
_NARROWEST, _WIDEST = 64.0, 190.0
_MARGIN = 8.0
_LABEL = 26


@dataclass(frozen=True)
class Box:
    """A node, or a scope with everything in it.

    Attributes:
        x, y, width, height: of the rectangle.
        lines: what is written in it.
        title: its whole name, and what changed.
        style: ``plain``, or the severity of the gravest change.
        state: ``added``, ``removed``, ``changed`` or "".
        link: the anchor that it leads to, or "".
    """

    x: float
    y: float
    width: float
    height: float
    lines: Tuple[str, ...]
    title: str
    style: str
    state: str
    link: str = ""

    @property
    def rows(self) -> List[Tuple[float, str]]:
        """The lines with the height of their base."""
        return [(self.y + 14 + _LINE * index, line) for index, line in enumerate(self.lines)]


@dataclass(frozen=True)
class Line:
    """An edge: an SVG path, dashed for a control edge."""

    path: str
    is_control: bool


@dataclass(frozen=True)
class Picture:
    """A drawing with its size; ``hidden`` says what it leaves out."""

    width: float
    height: float
    boxes: Tuple[Box, ...]
    lines: Tuple[Line, ...]
    hidden: str


@dataclass(frozen=True)
class Mark:
    """How a node is drawn: see ``Box``; ``message`` says what changed."""

    style: str
    state: str
    message: str


class Web:
    """The nodes of one scope with their neighbours."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.inputs: Dict[str, List[Tuple[str, bool]]] = {}
        self.users: Dict[str, List[str]] = {}
        for node in nodes:
            edges: Dict[str, bool] = {}
            for written in node.inputs:
                source = TensorRef.parse(written).node
                if source in self.nodes:
                    edges[source] = edges.get(source, True) and written.startswith("^")
            self.inputs[node.name] = list(edges.items())
            for source in edges:
                self.users.setdefault(source, []).append(node.name)

    def around(self, item: str) -> List[str]:
        """A node's neighbours, the users of it first."""
        sources = [source for source, _ in self.inputs.get(item, ())]
        return [*self.users.get(item, ())[:_MOST_NEIGHBOURS], *sources[:_MOST_NEIGHBOURS]]


def groups(seeds: Iterable[str], webs: Sequence[Web], joined: Mapping[str, str]) -> List[List[str]]:
    """Changed nodes that belong together: neighbours in one of the graphs, or of one weight.

    Args:
        seeds: the changed nodes, in order.
        webs: the graphs.
        joined: node -> what it belongs to.
    """
    order = list(dict.fromkeys(seeds))
    parent = {seed: seed for seed in order}

    def root(item: str) -> str:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first: Dict[str, str] = {}
    for seed in order:
        if seed in joined:
            other = first.setdefault(joined[seed], seed)
            parent[root(seed)] = root(other)
    for web in webs:
        for seed in order:
            for source, _ in web.inputs.get(seed, ()):
                if source in parent and (seed not in joined or source not in joined):
                    parent[root(seed)] = root(source)
    found: Dict[str, List[str]] = {}
    for seed in order:
        found.setdefault(root(seed), []).append(seed)
    return list(found.values())


def neighbourhood(seeds: Sequence[str], webs: Sequence[Web]) -> List[str]:
    """The seeds and what is around them in any of the graphs, up to two steps."""
    chosen = list(seeds)
    if len(chosen) > MOST_NODES:  # the first of each graph
        share = MOST_NODES // len(webs)
        chosen = [
            seed for web in webs for seed in [item for item in seeds if item in web.nodes][:share]
        ]
    found = dict.fromkeys(chosen)
    edge = list(found)
    for _ in range(2):
        following: List[str] = []
        for item in edge:
            for web in webs:
                for other in web.around(item):
                    if other not in found and len(found) < MOST_NODES:
                        found[other] = None
                        following.append(other)
        edge = following
    return list(found)


def picture(
    web: Web, shown: AbstractSet[str], marks: Mapping[str, Mark], names: Mapping[str, str]
) -> Picture:
    """Draw some nodes of a graph.

    Args:
        web: the graph.
        shown: the nodes to draw; those that the graph does not have are left out.
        marks: how changed nodes are drawn.
        names: what nodes are called, where that is not their name.
    """
    here = [item for item in web.nodes if item in shown]
    texts = {item: _texts(web.nodes[item], names.get(item, item)) for item in here}
    edges = [
        (source, item, control)
        for item in here
        for source, control in web.inputs[item]
        if source in texts
    ]
    sizes = {item: box_size(lines) for item, lines in texts.items()}
    drawing = draw(sizes, [(source, target) for source, target, _ in edges])
    boxes = []
    for item in here:
        mark = marks.get(item, Mark("plain", "", ""))
        x, y = drawing.nodes[item]
        title = f"{name(names.get(item, item))} ({name(web.nodes[item].op)})"
        if mark.message:
            title += f": {shortened(mark.message, 300)}"
        boxes.append(Box(x + _MARGIN, y + _MARGIN, *sizes[item], texts[item], title, *_look(mark)))
    lines = [
        Line(smooth(drawing.edges[source, target]), control)
        for source, target, control in edges
        if (source, target) in drawing.edges
    ]
    beyond = {other for item in here for other in web.around(item)} - set(here)
    hidden = f"{plural(len(beyond), 'neighbour')} not shown" if beyond else ""
    return Picture(
        drawing.width + 2 * _MARGIN,
        drawing.height + 2 * _MARGIN,
        tuple(boxes),
        tuple(lines),
        hidden,
    )


def _look(mark: Mark) -> Tuple[str, str]:
    return mark.style, mark.state


def _texts(node: Node, called: str) -> Tuple[str, ...]:
    """The op, and the end of the name."""
    parts = printable(called).split("/")
    text = parts[-1]
    for part in reversed(parts[:-1]):
        if len(part) + len(text) + 1 > _LABEL:
            text = f"…/{text}"
            break
        text = f"{part}/{text}"
    return shortened(printable(node.op), _LABEL), shortened(text, _LABEL)


def box_size(lines: Sequence[str]) -> Tuple[float, float]:
    """Width and height of a box with some lines in it."""
    wide = max(len(line) for line in lines) * _LETTER + _PADDING
    return min(_WIDEST, max(_NARROWEST, wide)), 8 + _LINE * len(lines)


def smooth(points: Sequence[Point]) -> str:
    """An SVG path through points that leaves and arrives vertically."""
    (x, y), *rest = [(px + _MARGIN, py + _MARGIN) for px, py in points]
    parts = [f"M{x:.1f},{y:.1f}"]
    for next_x, next_y in rest:
        bend = (next_y - y) / 2
        parts.append(
            f"C{x:.1f},{y + bend:.1f} {next_x:.1f},{next_y - bend:.1f} {next_x:.1f},{next_y:.1f}"
        )
        x, y = next_x, next_y
    return "".join(parts)
