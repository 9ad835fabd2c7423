"""Edits: applied as data, and nothing else moves."""

from __future__ import annotations

from typing import Any, List

import pytest
from builders import GraphBuilder, dense
from hypothesis import given
from hypothesis import strategies as st
from rewriting import function_graph, names

from graphwq.errors import InvariantError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_node
from graphwq.rewrite.edits import AddNode, Edit, ReplaceNode, apply, replace_by


def _node(name: str, op: str = "NoOp") -> Any:
    return new_node(name, op)


def test_replace_by_makes_one_replacement_and_the_rest_additions() -> None:
    """The node of the old name is a ReplaceNode; the others are added before it, in order."""
    edits = replace_by("", "w", [_node("a"), _node("b"), _node("w", "Mul")])
    assert edits == (
        AddNode("", _node("a"), "w"),
        AddNode("", _node("b"), "w"),
        ReplaceNode("", _node("w", "Mul")),
    )


def test_no_edits_give_the_same_bytes() -> None:
    """apply(graph, ()) is the graph."""
    graph = dense()
    assert apply(graph, ()).to_bytes() == graph.to_bytes()


def test_replacing_keeps_the_place() -> None:
    """A replaced node stands where the old one stood; its neighbours are the same objects."""
    graph = dense()
    changed = apply(graph, (ReplaceNode("", _node("w", "Placeholder")),))
    assert names(changed) == names(graph) == ["x", "w", "w/read", "y"]
    assert changed.nodes[1].op == "Placeholder"
    assert all(changed.nodes[i] is graph.nodes[i] for i in (0, 2, 3))
    assert changed.extra == graph.extra


def test_added_nodes_stand_before_their_anchor_in_order() -> None:
    """Several additions for one anchor keep their order, with and without a replacement."""
    graph = dense()
    added = (AddNode("", _node("a"), "y"), AddNode("", _node("b"), "y"))
    assert names(apply(graph, added)) == ["x", "w", "w/read", "a", "b", "y"]
    assert apply(graph, added).nodes[-1] is graph.nodes[-1]
    both = (*added, ReplaceNode("", _node("y")))
    assert names(apply(graph, both)) == ["x", "w", "w/read", "a", "b", "y"]
    other_way = (ReplaceNode("", _node("y")), *added)
    assert names(apply(graph, other_way)) == ["x", "w", "w/read", "a", "b", "y"]


def test_a_function_body_is_edited_alone() -> None:
    """An edit in a function leaves the main graph and a node of the same name there alone."""
    graph = function_graph()
    changed = apply(
        graph, (ReplaceNode("dense", _node("w", "Mul")), AddNode("dense", _node("n"), "w"))
    )
    assert names(changed, "dense") == ["n", "w", "w/read", "product"]
    assert names(changed) == names(graph)
    reread = Graph.parse(changed.to_bytes())
    assert names(reread, "dense") == ["n", "w", "w/read", "product"]
    assert [bytes(n.to_bytes()) for n in reread.nodes] == [bytes(n.to_bytes()) for n in graph.nodes]


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ((ReplaceNode("", _node("nowhere")),), "nowhere"),
        ((AddNode("", _node("a"), "nowhere"),), "nowhere"),
        ((ReplaceNode("dense", _node("w")),), "w"),
        ((ReplaceNode("", _node("y")), ReplaceNode("", _node("y"))), "two edits"),
    ],
)
def test_impossible_edits_are_our_bug(edits: Any, said: str) -> None:
    """An edit for a node that is not there, or two for one node, is an InvariantError."""
    with pytest.raises(InvariantError, match=said):
        apply(dense(), edits)


@given(st.data())
def test_everything_else_keeps_its_bytes(data: Any) -> None:
    """Law: after any edits every node that none of them names has its bytes and its order."""
    b = GraphBuilder()
    count = data.draw(st.integers(1, 8))
    for index in range(count):
        b.op(f"n{index}", "NoOp", [])
    graph = b.graph()
    edits: List[Edit] = []
    expected: List[str] = []
    for index in range(count):
        added = data.draw(st.integers(0, 2))
        for number in range(added):
            edits.append(AddNode("", _node(f"a{index}_{number}"), f"n{index}"))
            expected.append(f"a{index}_{number}")
        if data.draw(st.booleans()):
            edits.append(ReplaceNode("", _node(f"n{index}", "Other")))
        expected.append(f"n{index}")
    replaced = {edit.node.name for edit in edits if isinstance(edit, ReplaceNode)}
    changed = Graph.parse(apply(graph, data.draw(st.permutations(edits))).to_bytes())
    if [edit for edit in edits if isinstance(edit, AddNode)]:
        assert sorted(names(changed)) == sorted(expected)
    assert names(Graph.parse(apply(graph, edits).to_bytes())) == expected
    old = {node.name: bytes(node.to_bytes()) for node in graph.nodes}
    for node in changed.nodes:
        if node.name in old and node.name not in replaced:
            assert bytes(node.to_bytes()) == old[node.name]
        elif node.name in replaced:
            assert node.op == "Other"
