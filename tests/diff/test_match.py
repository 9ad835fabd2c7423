"""graphwq/diff/match.py and structure.py: which node is which, whatever it is called."""

from __future__ import annotations

import time
from typing import Dict, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from diff.planting import model, prefixed
from graphwq.diff.match import match_scopes, predicted, rename_of, rename_votes
from graphwq.diff.rename import renamed
from graphwq.diff.structure import Interner, structure
from graphwq.graphdef.graph import MAIN, Graph
from graphwq.graphdef.newnode import attr_string, new_node


def matched(old: Graph, new: Graph) -> Dict[str, str]:
    return match_scopes(old.scopes[0], new.scopes[0])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("a/x/w", "b/x/w", ("a", "b")),
        ("w", "import/w", ("", "import")),
        ("import/w", "w", ("import", "")),
        ("a/w", "a/v", ("a/w", "a/v")),
        ("a/b/c", "x/b/d/c", ("a/b", "x/b/d")),
        ("a/b", "a/b", ("", "")),
    ],
)
def test_rename_of(old: str, new: str, said: Tuple[str, str]) -> None:
    """The shortest scopes that tell two names apart."""
    assert rename_of(old, new) == said


def test_predictions_follow_the_innermost_scope() -> None:
    """A rename of an inner scope wins over one of the outer scope; unknown names stay."""
    votes = rename_votes({"a/x": "b/x", "a/y": "b/y", "a/c/z": "q/z", "same": "same"})
    assert votes == {"a": "b", "a/c": "q"}
    assert predicted("a/new", votes) == "b/new"
    assert predicted("a/c/new", votes) == "q/new"
    assert predicted("other/new", votes) == "other/new"
    assert predicted("new", rename_votes({"x": "import/x"})) == "import/new"


def test_the_majority_decides() -> None:
    """Of several renames of a scope the commonest is predicted."""
    assert rename_votes({"a/x": "b/x", "a/y": "b/y", "a/z": "c/z"}) == {"a": "b"}


def test_a_prefix_is_matched_whole() -> None:
    """Every node of the model finds itself under a prefix."""
    old = model()
    assert matched(old, prefixed(old)) == {node.name: f"import/{node.name}" for node in old.nodes}


def test_names_do_not_count_in_structures() -> None:
    """Two graphs that differ in names alone have equal numbers, node by node."""
    interner = Interner()
    old = model()
    first = structure(old.scopes[0], interner)
    second = structure(prefixed(old).scopes[0], interner)
    assert (first.local, first.up, first.down) == (second.local, second.up, second.down)


def test_content_counts_upwards_only() -> None:
    """Another weight changes what is computed from it, not what it is used by."""
    interner = Interner()
    graphs = []
    for seed in (1, 2):
        b = GraphBuilder()
        w = b.const("w", random_weight((4, 4), seed))
        b.op("z", "Relu", [b.matmul("y", b.placeholder("x", [1, 4]), w)])
        graphs.append(structure(b.graph().scopes[0], interner))
    at = graphs[0].index
    assert graphs[0].up[at["x"]] == graphs[1].up[at["x"]]
    for name in ("w", "y", "z"):
        assert graphs[0].up[at[name]] != graphs[1].up[at[name]]
    assert graphs[0].down == graphs[1].down


def test_slots_and_ports_count() -> None:
    """a - b is not b - a, and the second output is not the first."""
    interner = Interner()
    numbers = []
    for inputs in (["a", "b"], ["b", "a"], ["a", "b:1"]):
        b = GraphBuilder()
        b.const("a", np.float32(1))
        b.const("b", np.float32(2))
        b.op("y", "Sub", inputs)
        found = structure(b.graph().scopes[0], interner)
        numbers.append(found.up[found.index["y"]])
    assert len(set(numbers)) == 3


def test_a_list_equals_its_content() -> None:
    """One value that fills a tensor is the same content as the value written out."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    b = GraphBuilder()
    b.const("w", np.full(4, 2.0, np.float32))
    proto = GraphDef.FromString(b.to_bytes())
    tensor = proto.node[0].attr["value"].tensor
    tensor.tensor_content = b""
    tensor.float_val.append(2.0)
    interner = Interner()
    first = structure(b.graph().scopes[0], interner)
    second = structure(Graph.parse(proto.SerializeToString()).scopes[0], interner)
    assert first.local == second.local


def test_a_loop_does_not_hang() -> None:
    """The back edge of a while loop, and a cycle that is none."""
    b = GraphBuilder()
    b.op("enter", "Enter", [b.placeholder("x", [1])], frame_name="f")
    b.op("merge", "Merge", ["enter", "next"], N=2)
    b.op("body", "Relu", ["merge"])
    b.op("next", "NextIteration", ["body"])
    b.op("a", "Relu", ["c"])
    b.op("c", "Relu", ["a"])
    graph = b.graph()
    assert matched(graph, prefixed(graph)) == {
        node.name: f"import/{node.name}" for node in graph.nodes
    }


def test_equal_branches_keep_their_names() -> None:
    """Branches that cannot be told apart by structure are told apart by name."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4])
    w = random_weight((4, 4))
    parts = [b.matmul(f"m{i}", x, b.const(f"w{i}", w)) for i in range(4)]
    b.op("all", "AddN", parts, N=4)
    old = b.graph()
    new = Graph.parse(Graph(tuple(reversed(old.layout))).to_bytes())
    assert matched(old, new) == {node.name: node.name for node in old.nodes}


def test_renamed_carries_every_mention() -> None:
    """Inputs with ports and marks, colocations and a function's returns follow; nothing else."""
    b = GraphBuilder()
    b.add(new_node("a", "Op", (), {"k": attr_string(b"a")}))
    from graphwq.graphdef.protos import AttrValue

    place = AttrValue()
    place.list.s.extend([b"loc:@a", b"loc:@other", b"a"])
    b.op("y", "Op", ["a:1", "^a", "other"], _class=place)
    body = GraphBuilder()
    body.op("r", "Relu", ["v"])
    b.function("f", [("v", 1)], body, [("o", "r:activations:0", 1)])
    graph = b.graph()
    new = renamed(graph, {MAIN: {"a": "scope/a"}, "f": {"r": "result"}})
    again = Graph.parse(new.to_bytes())
    first, second = again.nodes
    assert first.name == "scope/a"
    assert second.inputs == ("scope/a:1", "^scope/a", "other")
    placed = second.attr("_class")
    assert placed is not None
    assert list(placed.list.s) == [b"loc:@scope/a", b"loc:@other", b"a"]
    key = first.attr("k")
    assert key is not None
    assert key.s == b"a"
    assert again.functions[0].returns == ("result:activations:0",)
    assert again.functions[0].nodes[0].name == "result"
    back = renamed(again, {MAIN: {"scope/a": "a"}, "f": {"result": "r"}})
    assert back.to_bytes() == graph.to_bytes()
    assert renamed(graph, {}) is graph


def wide(nodes: int, prefix: str = "") -> Graph:
    b = GraphBuilder()
    x = b.placeholder(f"{prefix}x", [1, 4])
    for number in range(nodes // 3):
        scope = f"{prefix}layer{number}"
        w = b.const(f"{scope}/w", np.full((4, 4), number, np.float32))
        x = b.matmul(f"{scope}/m", x, w)
        x = b.op(f"{scope}/r", "Relu", [x])
    return b.graph()


def test_matching_is_linear() -> None:
    """Four times the nodes take about four times as long, not sixteen."""
    times: List[float] = []
    for nodes in (3000, 12000):
        old, new = wide(nodes), wide(nodes, "import/")
        begin = time.perf_counter()
        assert len(matched(old, new)) == len(old.nodes)
        times.append(time.perf_counter() - begin)
    assert times[1] < 10 * times[0]
