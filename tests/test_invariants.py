"""What is checked on every run before a graph is handed out."""

from __future__ import annotations

from typing import Any, Callable, Tuple

import pytest
from builders import dense
from rewriting import function_graph

import graphwq
from graphwq.errors import InvariantError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_node
from graphwq.graphdef.node import Node
from graphwq.rewrite.edits import AddNode, Edit, ReplaceNode, apply
from graphwq.rewrite.invariants import check


def _swapped(graph: Graph) -> Graph:
    layout = list(graph.layout)
    layout[0], layout[1] = layout[1], layout[0]
    return Graph(tuple(layout))


def _without(name: str) -> Callable[[Graph], Graph]:
    def change(graph: Graph) -> Graph:
        return Graph(
            tuple(
                item for item in graph.layout if not (isinstance(item, Node) and item.name == name)
            )
        )

    return change


def _with(node: Node) -> Callable[[Graph], Graph]:
    return lambda graph: Graph((*graph.layout, node))


def _changed(name: str) -> Callable[[Graph], Graph]:
    return lambda graph: apply(graph, (ReplaceNode("", new_node(name, "NoOp")),))


_BROKEN: Any = {
    "an unnamed node changed": (_changed("y"), ()),
    "two nodes changed places": (_swapped, ()),
    "a node is gone": (_without("x"), ()),
    "the last node is gone": (_without("y"), ()),
    "a node came from nowhere": (_with(new_node("new", "NoOp")), ()),
    "two nodes of one name": (
        _with(new_node("y", "NoOp")),
        (AddNode("", new_node("y", "NoOp"), "y"),),
    ),
    "a new node without its input": (
        _with(new_node("new", "Identity", ("lost",))),
        (AddNode("", new_node("new", "Identity", ("lost",)), "y"),),
    ),
    "a new node without its control input": (
        _with(new_node("new", "NoOp", ("^lost",))),
        (AddNode("", new_node("new", "NoOp", ("^lost",)), "y"),),
    ),
    "a replaced node without its input": (
        lambda graph: apply(graph, (ReplaceNode("", new_node("y", "Relu", ("lost:1",))),)),
        (ReplaceNode("", new_node("y", "Relu", ("lost:1",))),),
    ),
}


@pytest.mark.parametrize("name", sorted(_BROKEN))
def test_each_broken_promise_is_found(name: str) -> None:
    """Whatever a rewrite does to a graph beyond its edits, the check refuses to hand it out."""
    change, edits = _BROKEN[name]
    graph = dense()
    with pytest.raises(InvariantError):
        check(graph, change(graph), edits)


def test_an_edit_of_a_function_does_not_excuse_the_main_graph() -> None:
    """The promise holds per scope: a node w in a function is another than the main graph's w."""
    graph = function_graph()
    edit: Tuple[Edit, ...] = (ReplaceNode("dense", new_node("y", "NoOp")),)
    broken = apply(graph, (ReplaceNode("", new_node("y", "NoOp")),))
    with pytest.raises(InvariantError):
        check(graph, broken, edit)


def test_a_lost_input_in_a_function_is_found() -> None:
    """The inputs of new nodes in a body must be nodes or arguments of that body."""
    graph = function_graph()
    for inputs, good in ((("x",), True), (("w:output:0",), True), (("call",), False)):
        edits = (AddNode("dense", new_node("new", "Identity", inputs), "w"),)
        if good:
            check(graph, apply(graph, edits), edits)
        else:
            with pytest.raises(InvariantError, match="dense:new"):
                check(graph, apply(graph, edits), edits)


def test_a_real_rewrite_passes() -> None:
    """The check accepts what quantize makes, and the untouched graph."""
    graph = dense(64, 64)
    check(graph, graph, ())
    result = graphwq.quantize(graph, 4)
    check(graph, result.graph, result.edits)
    with pytest.raises(InvariantError):
        check(graph, result.graph, result.edits[:-1])


def test_quantize_checks_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that loses a node ends in an InvariantError instead of a graph."""
    from graphwq.rewrite import draft

    def broken(graph: Graph, edits: Any) -> Graph:
        return _without("x")(apply(graph, edits))

    monkeypatch.setattr(draft, "apply", broken)
    with pytest.raises(InvariantError) as caught:
        graphwq.quantize(dense(64, 64))
    assert caught.value.exit_code == 70
