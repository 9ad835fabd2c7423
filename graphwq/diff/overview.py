"""The whole graph, a box per scope: where in it something changed."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from graphwq.diff.change import Severity
from graphwq.diff.layout import draw
from graphwq.diff.picture import Box, Line, Mark, Picture, Web, box_size, smooth
from graphwq.text import name, plural, printable, shortened

_MOST_BOXES = 40
_FEWEST_BOXES = 5
#: So many nodes without a scope get a box each.
_MOST_LOOSE = 10
_MARGIN = 8.0
_LOOSE = "nodes without a scope"


def depth_of(webs: Sequence[Web], homes: Mapping[str, str]) -> int:
    """The least depth of scopes at which there is something to see; 1 where that is too much."""
    for depth in (1, 2, 3):
        most = max(len({scope_of(homes.get(item, item), depth) for item in w.nodes}) for w in webs)
        if most > _MOST_BOXES:
            return max(1, depth - 1)
        if most >= _FEWEST_BOXES:
            return depth
    return 1


def scope_of(node: str, depth: int) -> str:
    """The first ``depth`` scopes of a name; "" for a name without any."""
    parts = node.split("/")[:-1]
    return "/".join(parts[:depth])


def overview(
    web: Web,
    depth: int,
    marks: Mapping[str, Mark],
    links: Mapping[str, str],
    homes: Mapping[str, str],
) -> Optional[Picture]:
    """Draw a graph with a box per scope; None where there is one box or none.

    Of more scopes than can be read those are drawn that changed, with their neighbours.

    Args:
        web: the graph.
        depth: how many scopes of a name make a box.
        marks: the changed nodes.
        links: scope -> anchor.
        homes: node -> the node whose scope it is shown in, where that is another.
    """
    place = {item: scope_of(homes.get(item, item), depth) for item in web.nodes}
    loose = [item for item, scope in place.items() if not scope]
    if len(loose) <= _MOST_LOOSE:
        place.update((item, item) for item in loose)
    members: Dict[str, List[str]] = {}
    for item in web.nodes:
        members.setdefault(place[item], []).append(item)
    if len(members) < 2:
        return None
    edges = _edges(web, place)
    kept = _kept(members, edges, marks)
    hidden = len(members) - len(kept)
    edges = [pair for pair in edges if pair[0] in kept and pair[1] in kept]
    members = {scope: items for scope, items in members.items() if scope in kept}
    texts: Dict[str, Tuple[str, ...]] = {}
    for scope, items in members.items():
        label = shortened(printable(scope or _LOOSE), 26)
        one = scope in web.nodes and items == [scope]
        texts[scope] = (label, web.nodes[scope].op[:26] if one else plural(len(items), "node"))
    sizes = {scope: box_size(lines) for scope, lines in texts.items()}
    drawing = draw(sizes, edges)
    boxes = []
    for scope, items in members.items():
        changed = [marks[item] for item in items if item in marks]
        x, y = drawing.nodes[scope]
        title = f"{name(scope or _LOOSE)}: {plural(len(items), 'node')}, {len(changed)} changed"
        boxes.append(
            Box(
                x + _MARGIN,
                y + _MARGIN,
                *sizes[scope],
                texts[scope],
                title,
                gravest(changed),
                "changed" if changed else "",
                links.get(scope, "") if changed else "",
            )
        )
    lines = tuple(Line(smooth(drawing.edges[pair]), False) for pair in edges)
    return Picture(
        drawing.width + 2 * _MARGIN,
        drawing.height + 2 * _MARGIN,
        tuple(boxes),
        lines,
        f"{plural(hidden, 'scope')} not shown" if hidden else "",
    )


def _edges(web: Web, place: Mapping[str, str]) -> List[Tuple[str, str]]:
    """The edges between scopes, each once."""
    found: Dict[Tuple[str, str], None] = {}
    for item in web.nodes:
        for source, _ in web.inputs[item]:
            if place[source] != place[item]:
                found[place[source], place[item]] = None
    return list(found)


def _kept(
    members: Mapping[str, Sequence[str]],
    edges: Sequence[Tuple[str, str]],
    marks: Mapping[str, Mark],
) -> Dict[str, None]:
    """The scopes that are drawn: all, or the changed ones and what is beside them."""
    if len(members) <= _MOST_BOXES:
        return dict.fromkeys(members)
    changed = [scope for scope, items in members.items() if any(item in marks for item in items)]
    kept = dict.fromkeys(changed[: _MOST_BOXES // 2])
    beside = [other for pair in edges for other in pair if pair[0] in kept or pair[1] in kept]
    for scope in dict.fromkeys(beside):
        if len(kept) < _MOST_BOXES:
            kept[scope] = None
    return kept


def gravest(marks: Sequence[Mark]) -> str:
    """The style of the gravest of some marks; ``plain`` where there is none."""
    styles = {mark.style for mark in marks}
    for severity in Severity:
        if severity.value in styles:
            return severity.value
    return "explained" if "explained" in styles else "plain"
