"""graphwq/diff/layout.py: properties of every drawing."""

from __future__ import annotations

from typing import Dict, List, Tuple

from hypothesis import given
from hypothesis import strategies as st

from graphwq.diff.layout import draw, spread

GAP = 18.0


@st.composite
def small_graphs(draw_: st.DrawFn) -> Tuple[Dict[int, Tuple[float, float]], List[Tuple[int, int]]]:
    count = draw_(st.integers(1, 14))
    node = st.integers(0, count - 1)
    edges = draw_(st.lists(st.tuples(node, node), max_size=30))
    sizes = {item: (40.0 + 10 * (item % 5), 30.0) for item in range(count)}
    return sizes, edges


@given(small_graphs())
def test_boxes_never_overlap(graph: Tuple) -> None:
    """Whatever the graph, cycles and double edges too: no box lies on another, all fit in."""
    sizes, edges = graph
    drawing = draw(sizes, edges)
    assert set(drawing.nodes) == set(sizes)
    boxes = [(x, y, *sizes[node]) for node, (x, y) in drawing.nodes.items()]
    for index, (x, y, w, h) in enumerate(boxes):
        assert -1e-6 <= x <= drawing.width - w + 1e-6
        assert -1e-6 <= y <= drawing.height - h + 1e-6
        for ox, oy, ow, oh in boxes[index + 1 :]:
            assert x + w <= ox + 1e-6 or ox + ow <= x + 1e-6 or y + h <= oy or oy + oh <= y
    assert set(drawing.edges) == {edge for edge in edges if edge[0] != edge[1]}


@given(small_graphs())
def test_edges_begin_and_end_at_their_boxes(graph: Tuple) -> None:
    """An edge touches the border of its source and of its target, in the middle."""
    sizes, edges = graph
    drawing = draw(sizes, edges)
    for (source, target), points in drawing.edges.items():
        for node, (x, y) in ((source, points[0]), (target, points[-1])):
            left, top = drawing.nodes[node]
            assert abs(x - left - sizes[node][0] / 2) < 1e-6
            assert min(abs(y - top), abs(y - top - sizes[node][1])) < 1e-6


@given(small_graphs())
def test_the_drawing_is_the_same_every_time(graph: Tuple) -> None:
    """No chance, no hash order."""
    assert draw(*graph) == draw(*graph)


def test_inputs_are_above() -> None:
    """Without cycles every edge leads downwards."""
    edges = [("x", "conv"), ("w", "read"), ("read", "conv"), ("conv", "y"), ("x", "y")]
    drawing = draw({node: (50.0, 30.0) for edge in edges for node in edge}, edges)
    for source, target in edges:
        assert drawing.nodes[source][1] < drawing.nodes[target][1]
    assert drawing.nodes["x"][1] == drawing.nodes["read"][1]  # right above what it feeds


def test_crossings_are_removed() -> None:
    """a -> d and b -> c, written crosswise, are drawn side by side."""
    drawing = draw(dict.fromkeys("abcd", (50.0, 30.0)), [("a", "d"), ("b", "c")])
    left = drawing.nodes["a"][0] < drawing.nodes["b"][0]
    assert left == (drawing.nodes["d"][0] < drawing.nodes["c"][0])


def test_a_chain_is_straight() -> None:
    """One below the other."""
    drawing = draw(dict.fromkeys("abc", (50.0, 30.0)), [("a", "b"), ("b", "c")])
    assert len({x for x, _ in drawing.nodes.values()}) == 1


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(5, 60)), min_size=1, max_size=8))
def test_spread_keeps_order_and_distance(items: List[Tuple[float, float]]) -> None:
    """Neighbours are at least their widths and the gap apart; wishes that fit are granted."""
    wishes = [wish for wish, _ in items]
    halves = [half for _, half in items]
    found = spread(wishes, halves)
    need = [left + right + GAP for left, right in zip(halves, halves[1:])]
    for before, after, distance in zip(found, found[1:], need):
        assert after - before >= distance - 1e-6
    if all(b - a >= distance for a, b, distance in zip(wishes, wishes[1:], need)):
        assert all(abs(a - b) < 1e-6 for a, b in zip(wishes, found))


def test_spread_is_the_least_squares() -> None:
    """Two that want the same place move away from it evenly."""
    assert spread([10.0, 10.0], [5.0, 5.0]) == [10 - 14, 10 + 14]


def test_nothing_to_draw() -> None:
    """No nodes, no size."""
    drawing = draw({}, [])
    assert (drawing.width, drawing.height) == (0.0, 0.0)
