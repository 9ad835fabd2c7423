"""A layered drawing of a small directed graph, from top to bottom.

The steps of Sugiyama, Tagawa, Toda (1981) as Gansner et al. (1993) describe them: turn the edges
of cycles around, put nodes on layers, order each layer by the medians of its neighbours so that few
edges cross, then place nodes close to the middle of their neighbours. The last step is exact for
one layer (isotonic regression by pooling).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

Point = Tuple[float, float]
Node = Any  # whatever can be a key

_SWEEPS = 12
_PLACINGS = 8
_GAP_X, _GAP_Y = 18.0, 34.0
_DUMMY_WIDTH = 8.0


@dataclass(frozen=True)
class Drawing:
    """Where everything goes.

    Attributes:
        width, height: of the whole drawing.
        nodes: node -> the top left corner of its box.
        edges: edge -> points from the bottom of its source to the top of its target (for an edge
            that was turned around: from the top of its source).
    """

    width: float
    height: float
    nodes: Dict[Node, Point]
    edges: Dict[Tuple[Node, Node], Tuple[Point, ...]]


def draw(sizes: Mapping[Node, Tuple[float, float]], edges: Sequence[Tuple[Node, Node]]) -> Drawing:
    """Lay out a graph.

    Args:
        sizes: node -> width and height of its box; the order breaks ties.
        edges: (source, target); double edges and loops are drawn once or not at all.
    """
    nodes = list(sizes)
    wanted = [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]]
    turned = _back_edges(nodes, wanted)
    forward = [(b, a) if (a, b) in turned else (a, b) for a, b in wanted]
    layer = _layers(nodes, forward)
    chains = _chains(forward, layer)
    rows = _rows(nodes, chains, layer)
    above, below = _neighbours(chains)
    rows = _ordered(rows, above, below)
    width = {node: size[0] for node, size in sizes.items()}
    centres = _placed(rows, above, below, width)
    return _finished(sizes, wanted, chains, turned, rows, centres)


def _back_edges(nodes: Sequence[Node], edges: Sequence[Tuple[Node, Node]]) -> set:
    """The edges that close a cycle in a depth-first walk."""
    after: Dict[Node, List[Node]] = {node: [] for node in nodes}
    for source, target in edges:
        after[source].append(target)
    found = set()
    state: Dict[Node, int] = {}
    has_input = {target for _, target in edges}
    starts = [node for node in nodes if node not in has_input] + list(nodes)
    for start in starts:
        if start in state:
            continue
        stack = [(start, iter(after[start]))]
        state[start] = 1
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = 2
                stack.pop()
            elif following not in state:
                state[following] = 1
                stack.append((following, iter(after[following])))
            elif state[following] == 1:
                found.add((node, following))
    return found


def _layers(nodes: Sequence[Node], edges: Sequence[Tuple[Node, Node]]) -> Dict[Node, int]:
    """The longest path to each node; nodes without inputs stand right above what they feed."""
    after: Dict[Node, List[Node]] = {node: [] for node in nodes}
    waiting = dict.fromkeys(nodes, 0)
    for source, target in edges:
        after[source].append(target)
        waiting[target] += 1
    has_input = {node for node, count in waiting.items() if count}
    layer = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if not waiting[node]]
    for node in ready:  # grows while it is walked
        for target in after[node]:
            layer[target] = max(layer[target], layer[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    for node in nodes:
        if node not in has_input and after[node]:
            layer[node] = min(layer[target] for target in after[node]) - 1
    return layer


def _chains(
    edges: Sequence[Tuple[Node, Node]], layer: Dict[Node, int]
) -> Dict[Tuple[Node, Node], List[Node]]:
    """Each edge as nodes on neighbouring layers, with a dummy on every layer that it crosses."""
    chains: Dict[Tuple[Node, Node], List[Node]] = {}
    for source, target in edges:
        chain: List[Node] = [source]
        for step in range(layer[source] + 1, layer[target]):
            dummy = ("dummy", source, target, step)
            layer[dummy] = step
            chain.append(dummy)
        chain.append(target)
        chains[source, target] = chain
    return chains


def _rows(
    nodes: Sequence[Node],
    chains: Dict[Tuple[Node, Node], List[Node]],
    layer: Dict[Node, int],
) -> List[List[Node]]:
    rows: List[List[Node]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        rows[layer[node]].append(node)
    for chain in chains.values():
        for dummy in chain[1:-1]:
            rows[layer[dummy]].append(dummy)
    return rows


Links = Dict[Node, List[Node]]


def _neighbours(chains: Dict[Tuple[Node, Node], List[Node]]) -> Tuple[Links, Links]:
    above: Links = {}
    below: Links = {}
    for chain in chains.values():
        for upper, lower in zip(chain, chain[1:]):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    return above, below


def _ordered(rows: List[List[Node]], above: Links, below: Links) -> List[List[Node]]:
    """The rows in an order with few crossings: the best of some sweeps down and up."""
    best, fewest = rows, _crossings(rows, below)
    current = [list(row) for row in rows]
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        links = below if sweep % 2 else above
        order = range(len(current) - 2, -1, -1) if sweep % 2 else range(1, len(current))
        for index in order:
            beside = current[index + 1] if sweep % 2 else current[index - 1]
            place = {node: position for position, node in enumerate(beside)}
            current[index] = _by_median(current[index], links, place)
        crossings = _crossings(current, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in current], crossings
    return best


def _by_median(row: List[Node], links: Links, place: Dict[Node, int]) -> List[Node]:
    keys: Dict[Node, float] = {}
    for position, node in enumerate(row):
        found = sorted(place[item] for item in links.get(node, ()))
        if not found:
            keys[node] = float(position)
            continue
        middle = len(found) // 2
        odd = len(found) % 2
        keys[node] = float(found[middle]) if odd else (found[middle - 1] + found[middle]) / 2
    return sorted(row, key=lambda node: keys[node])


def _crossings(rows: List[List[Node]], below: Links) -> int:
    count = 0
    for upper, lower in zip(rows, rows[1:]):
        place = {node: position for position, node in enumerate(lower)}
        ends = [place[item] for node in upper for item in sorted_by(below.get(node, ()), place)]
        count += sum(
            1 for i, first in enumerate(ends) for second in ends[i + 1 :] if second < first
        )
    return count


def sorted_by(items: Sequence[Node], place: Mapping[Node, int]) -> List[Node]:
    """Items in the order of their places."""
    return sorted(items, key=lambda item: place[item])


def _placed(
    rows: List[List[Node]], above: Links, below: Links, width: Mapping[Node, float]
) -> Dict[Node, float]:
    """The horizontal centre of every node: in row order, close to its neighbours."""
    centre: Dict[Node, float] = {}
    for row in rows:
        edge = 0.0
        for node in row:
            half = width.get(node, _DUMMY_WIDTH) / 2
            centre[node] = edge + half
            edge += 2 * half + _GAP_X
    for turn in range(_PLACINGS):
        for row in rows if turn % 2 == 0 else reversed(rows):
            wishes = []
            for node in row:
                beside = above.get(node, []) if turn % 2 == 0 else below.get(node, [])
                beside = beside or above.get(node, []) + below.get(node, [])
                mean = sum(centre[item] for item in beside) / len(beside) if beside else None
                wishes.append(centre[node] if mean is None else mean)
            halves = [width.get(node, _DUMMY_WIDTH) / 2 for node in row]
            for node, x in zip(row, spread(wishes, halves)):
                centre[node] = x
    return centre


def spread(wishes: Sequence[float], halves: Sequence[float], gap: float = _GAP_X) -> List[float]:
    """The positions closest to the wishes (least squares) that keep order and distance.

    Args:
        wishes: wanted centres, in order.
        halves: half widths.
        gap: between two boxes.
    """
    offsets = [0.0]
    for left, right in zip(halves, halves[1:]):
        offsets.append(offsets[-1] + left + right + gap)
    blocks: List[Tuple[float, int]] = []
    for wish, offset in zip(wishes, offsets):
        total, count = wish - offset, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            more, size = blocks.pop()
            total, count = total + more, count + size
        blocks.append((total, count))
    levels = [total / count for total, count in blocks for _ in range(count)]
    return [level + offset for level, offset in zip(levels, offsets)]


def _finished(
    sizes: Mapping[Node, Tuple[float, float]],
    wanted: Sequence[Tuple[Node, Node]],
    chains: Dict[Tuple[Node, Node], List[Node]],
    turned: set,
    rows: List[List[Node]],
    centre: Dict[Node, float],
) -> Drawing:
    width = {node: size[0] for node, size in sizes.items()}
    left = min((centre[n] - width.get(n, 0.0) / 2 for row in rows for n in row), default=0.0)
    top: Dict[Node, float] = {}
    bottom: Dict[Node, float] = {}
    y = 0.0
    for row in rows:
        high = max(sizes[node][1] if node in sizes else 0.0 for node in row) if row else 0.0
        for node in row:
            own = sizes[node][1] if node in sizes else 0.0
            top[node], bottom[node] = y + (high - own) / 2, y + (high + own) / 2
        y += high + _GAP_Y
    corners = {node: (centre[node] - left - width[node] / 2, top[node]) for node in sizes}
    lines: Dict[Tuple[Node, Node], Tuple[Point, ...]] = {}
    for edge in wanted:
        chain = chains[(edge[1], edge[0]) if edge in turned else edge]
        points = [(centre[chain[0]] - left, bottom[chain[0]])]
        points += [(centre[item] - left, top[item]) for item in chain[1:]]
        lines[edge] = tuple(reversed(points)) if edge in turned else tuple(points)
    right = max((x + width[node] for node, (x, _) in corners.items()), default=0.0)
    return Drawing(right, max(0.0, y - _GAP_Y), corners, lines)
