"""The whole graph, a box per scope: where in it something changed."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from graphwq.diff.change import Severity
from graphwq.diff.layout import draw
from graphwq.diff.picture import Box, Line, Mark, Picture, Web, box_size, smooth
from graphwq.text import name, plural, printable, shortened

_MOST_BOXES = 40
_MARGIN = 8.0
_LOOSE = "nodes without a scope"


def depth_of(webs: Sequence[Web]) -> int:
    """The depth of scopes at which no graph has more boxes than can be read; 0 where none is."""
    best = 0
    for depth in (1, 2, 3):
        if max(len({scope_of(item, depth) for item in web.nodes}) for web in webs) > _MOST_BOXES:
            break
        best = depth
    return best


def scope_of(node: str, depth: int) -> str:
    """The first ``depth`` scopes of a name; "" for a name without any."""
    parts = node.split("/")[:-1]
    return "/".join(parts[:depth])


def overview(
    web: Web, depth: int, marks: Mapping[str, Mark], links: Mapping[str, str]
) -> Optional[Picture]:
    """Draw a graph with a box per scope; None where there is one box or none.

    Args:
        web: the graph.
        depth: how many scopes of a name make a box.
        marks: the changed nodes.
        links: scope -> anchor.
    """
    members: Dict[str, List[str]] = {}
    for item in web.nodes:
        members.setdefault(scope_of(item, depth), []).append(item)
    if len(members) < 2:
        return None
    texts: Dict[str, Tuple[str, ...]] = {}
    for scope, items in members.items():
        label = shortened(printable(scope or _LOOSE), 26)
        texts[scope] = (label, plural(len(items), "node"))
    edges: Dict[Tuple[str, str], None] = {}
    for item in web.nodes:
        for source, _ in web.inputs[item]:
            pair = scope_of(source, depth), scope_of(item, depth)
            if pair[0] != pair[1]:
                edges[pair] = None
    sizes = {scope: box_size(lines) for scope, lines in texts.items()}
    drawing = draw(sizes, list(edges))
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
        drawing.width + 2 * _MARGIN, drawing.height + 2 * _MARGIN, tuple(boxes), lines, ""
    )


def gravest(marks: Sequence[Mark]) -> str:
    """The style of the gravest of some marks; ``plain`` where there is none."""
    styles = {mark.style for mark in marks}
    for severity in Severity:
        if severity.value in styles:
            return severity.value
    return "explained" if "explained" in styles else "plain"
