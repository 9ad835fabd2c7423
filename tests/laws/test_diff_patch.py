"""Law 7: patch(old, diff(old, new)) == new; diff(a, a) is empty; rewrites are explained."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import pytest
from builders import GraphBuilder, random_weight
from diff.planting import PLANTED, edited, model, prefixed
from hypothesis import given
from hypothesis import strategies as st
from rewriting import STORAGES
from strategies import graph_bytes

import graphwq
from graphwq.diff import render_markdown, render_text
from graphwq.diff.compare import Comparison, diff_graphs
from graphwq.diff.document import document, loads
from graphwq.diff.patch import applied
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph


def law(old: Graph, new: Graph) -> Comparison:
    """The laws of one ordered pair; returns the comparison."""
    comparison = diff_graphs(old, new)
    diff = document(comparison, "old", "new", with_patch=True)
    data = loads(json.dumps(diff.to_json(), allow_nan=False))
    assert applied(old, data).to_bytes() == new.to_bytes()
    assert bool(diff.changes) == (old.to_bytes() != new.to_bytes())
    for change in diff.changes:
        assert change.message.isprintable()
        assert len(change.message) < 2000
        assert change.reason
    assert all(line.isprintable() for line in render_text.render(diff).splitlines())
    assert len(render_markdown.render(diff)) < render_markdown.LIMIT
    return comparison


@given(graph_bytes(), graph_bytes())
def test_any_two_graphs(first: bytes, second: bytes) -> None:
    """Odd field order, padded lengths, unknown fields, functions: both ways."""
    old, new = Graph.parse(first), Graph.parse(second)
    try:
        law(old, new)
    except InputError:
        return
    law(new, old)
    law(old, old)


@st.composite
def networks(draw: st.DrawFn) -> Tuple[Graph, Graph]:
    """Two versions of a random network: layers kept, dropped, added, renamed, in another order."""
    shared = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6))
    versions: List[Graph] = []
    for _ in range(2):
        layers = [seed for seed in shared if draw(st.booleans())] or shared
        layers = layers + draw(st.lists(st.integers(0, 5), max_size=2))
        prefix = draw(st.sampled_from(["", "a/", "import/b/"]))
        b = GraphBuilder()
        x = b.placeholder(prefix + "x", [-1, 4])
        for number, seed in enumerate(layers):
            scope = f"{prefix}dense{f'_{number}' if number else ''}"
            w = b.const(f"{scope}/w", random_weight((4, 4), seed))
            x = b.matmul(f"{scope}/MatMul", x, w)
            if draw(st.booleans()):
                x = b.op(f"{scope}/act", draw(st.sampled_from(["Relu", "Relu6", "Tanh"])), [x])
        if draw(st.booleans()):
            b.nodes.reverse()
        versions.append(b.graph(draw(st.sampled_from([27, 134]))))
    return versions[0], versions[1]


@given(networks())
def test_versions_of_a_network(pair: Tuple[Graph, Graph]) -> None:
    """Renumbered, renamed, shuffled, with layers more and less: both ways."""
    old, new = pair
    forth, back = law(old, new), law(new, old)
    kinds = [_counts(comparison) for comparison in (forth, back)]
    for added, removed in (("node_added", "node_removed"), ("node_removed", "node_added")):
        assert kinds[0].get(added, 0) == kinds[1].get(removed, 0)


def _counts(comparison: Comparison) -> Dict[str, int]:
    """How many nodes were added and removed, outputs and placeholders among them."""
    found: Dict[str, int] = {}
    for change in comparison.changes:
        kind = change.kind.value
        if kind.endswith(("_added", "_removed")):
            kind = "node_" + kind.rpartition("_")[2]
            found[kind] = found.get(kind, 0) + 1
    return found


@pytest.mark.parametrize("first", PLANTED)
def test_planted_edits_against_one_another(first: str) -> None:
    """Every ordered pair of planted edits, one side renamed."""
    old = edited(model(), PLANTED[first].apply)
    for planted in PLANTED.values():
        law(old, edited(model(), planted.apply))
        law(prefixed(old), edited(model(), planted.apply))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_rewrite_is_explained(bits: int, storage: str) -> None:
    """Law 7 for graphwq's own rewrites: nothing unexplained, and back again."""
    old = model()
    new = Graph.parse(graphwq.quantize(old, bits, storage).graph.to_bytes())
    comparison = law(old, new)
    assert [change for change in comparison.changes if change.explained_by is None] == []
    law(new, old)


def test_storage_forms_against_one_another() -> None:
    """Every ordered pair of bit widths and storage forms of one graph."""
    old = model()
    made: List[Any] = [old]
    for bits in (2, 4, 8):
        for storage in STORAGES:
            made.append(Graph.parse(graphwq.quantize(old, bits, storage).graph.to_bytes()))
    for first in made:
        for second in made:
            law(first, second)
