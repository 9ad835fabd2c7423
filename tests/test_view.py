"""The graph as a networkx graph: names, edges, what is missing, cycles, functions."""

from __future__ import annotations

import time
from typing import List, Tuple

import pytest
from builders import GraphBuilder, random_weight
from hypothesis import given
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.graphdef.dtypes import DT_FLOAT
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import CONTROL
from graphwq.graphdef.protos import GraphDef
from graphwq.survey.view import View, build


def chain(*names: str) -> GraphBuilder:
    """x -> names[0] -> names[1] -> ... by Identity."""
    b = GraphBuilder()
    before = b.placeholder("x", [1])
    for name in names:
        before = b.op(name, "Identity", [before])
    return b


def while_loop(back: str = "NextIteration") -> GraphBuilder:
    """A v1 while loop: Enter -> Merge -> Switch -> body -> NextIteration -> Merge."""
    b = GraphBuilder()
    x = b.placeholder("x", [4])
    enter = b.op("enter", "Enter", [x], frame_name="loop")
    b.op("merge", "Merge", [enter, "next"])
    b.op("go", "LoopCond", ["merge"])
    b.op("switch", "Switch", ["merge", "go"])
    b.op("body", "Relu", ["switch:1"])
    b.op("next", back, ["body"])
    b.op("exit", "Exit", ["switch"])
    return b


# ------------------------------------------------------------------------------------- names


def test_two_nodes_of_one_name_are_refused() -> None:
    """Nobody could say which of two nodes of one name an input means."""
    b = GraphBuilder()
    b.const("layer/w", [1.0])
    b.const("layer/w", [2.0])
    with pytest.raises(InputError, match=r"two nodes are named 'layer/w'.*export it again"):
        build(b.graph())


def test_two_nodes_of_one_name_in_a_function_are_refused_with_the_functions_name() -> None:
    """The message says in which function the two nodes stand."""
    b, body = GraphBuilder(), GraphBuilder()
    body.const("w", [1.0])
    body.const("w", [2.0])
    b.function("f", [], body)
    with pytest.raises(InputError, match="two nodes are named 'f:w'"):
        build(b.graph())


def test_a_node_named_like_an_argument_is_refused() -> None:
    """Arguments and nodes of a function share one set of names."""
    b, body = GraphBuilder(), GraphBuilder()
    body.const("x", [1.0])
    b.function("f", [("x", DT_FLOAT)], body)
    with pytest.raises(InputError, match="two nodes are named 'f:x'"):
        build(b.graph())


def test_two_functions_of_one_name_are_refused() -> None:
    """A call could mean either."""
    b = GraphBuilder()
    b.function("f", [], GraphBuilder())
    b.function("f", [], GraphBuilder())
    with pytest.raises(InputError, match=r"function.*'f'.*export it again"):
        build(b.graph())


def test_the_same_name_in_two_scopes_is_fine() -> None:
    """Scopes do not see each other's names."""
    b = GraphBuilder()
    b.const("w", [1.0])
    for name in ("f", "g"):
        body = GraphBuilder()
        body.const("w", [2.0])
        b.function(name, [], body)
    view = build(b.graph())
    assert sorted(view.scopes) == ["", "f", "g"]
    assert all("w" in scope.nodes for scope in view.scopes.values())


# ------------------------------------------------------------------------------------- edges


def uses(view: View, name: str, scope: str = "") -> List[Tuple[str, int, int]]:
    return [(use.node.name, use.slot, use.port) for use in view.scopes[scope].uses(name)]


def test_uses_name_node_slot_and_port_in_file_order() -> None:
    """Each use of each output is one entry, with the number of the input and of the output."""
    b = GraphBuilder()
    a = b.placeholder("a", [4])
    split = b.op("split", "Split", [b.const("axis", 0), a], num_split=2)
    b.op("sum", "Add", [f"{split}:1", split])
    b.op("twice", "Mul", [f"{split}:1", f"{split}:1"])
    view = build(b.graph())
    assert uses(view, "split") == [("sum", 0, 1), ("sum", 1, 0), ("twice", 0, 1), ("twice", 1, 1)]
    assert uses(view, "twice") == []


def test_control_edges_have_slot_and_port_minus_one() -> None:
    """A control edge is an edge, but carries no tensor; data slots are counted without it."""
    b = GraphBuilder()
    b.const("a", [1.0])
    b.op("y", "Identity", ["a", "^a"])
    view = build(b.graph())
    assert uses(view, "a") == [("y", 0, 0), ("y", CONTROL, CONTROL)]


def test_inputs_in_a_function_name_output_and_port() -> None:
    """``node:output:1`` is output 1 of node; an argument is a vertex without a node."""
    b, body = GraphBuilder(), GraphBuilder()
    body.const("axis", 0)
    body.op("split", "Split", ["axis:output:0", "x"], num_split=2)
    body.op("y", "Relu", ["split:output:1"])
    b.function("f", [("x", DT_FLOAT)], body)
    view = build(b.graph())
    assert uses(view, "x", "f") == [("split", 1, 0)]
    assert uses(view, "split", "f") == [("y", 0, 1)]
    assert "x" in view.scopes["f"].graph
    assert "x" not in view.scopes["f"].nodes
    assert not view.scopes["f"].dangling


def test_an_empty_graph_has_a_main_scope() -> None:
    """No bytes are a graph without nodes."""
    view = build(Graph.parse(b""))
    assert view.main.nodes == {}
    assert view.main.topological_order() == {}
    view.check()


# ------------------------------------------------------------------------------------ dangling


def test_a_dangling_input_is_recorded_and_leaves_no_edge() -> None:
    """A survey of the rest is possible, so building the view does not fail."""
    b = chain("a")
    b.op("y", "Add", ["a", "nowhere:1"])
    view = build(b.graph())
    assert view.main.dangling == (("y", "nowhere:1"),)
    assert "nowhere" not in view.main.graph
    assert uses(view, "a") == [("y", 0, 0)]


def test_check_names_node_and_input_and_the_nearest_name() -> None:
    """A typo is answered with the name that was meant."""
    b = GraphBuilder()
    b.const("layer1/weights", [1.0])
    b.op("y", "Identity", ["layer1/wieghts:0"])
    with pytest.raises(InputError) as caught:
        build(b.graph()).check()
    message = str(caught.value)
    assert "node 'y' has input 'layer1/wieghts:0', but no such node exists" in message
    assert "(is 'layer1/weights' meant?)" in message


def test_check_guesses_nothing_where_no_name_is_near() -> None:
    """A guess that is far off only confuses."""
    b = chain("a")
    b.op("y", "Identity", ["completely_different"])
    with pytest.raises(InputError) as caught:
        build(b.graph()).check()
    assert "meant" not in str(caught.value)


def test_a_dangling_control_input_is_found_too() -> None:
    """TensorFlow refuses such a graph as well."""
    b = chain("a")
    b.op("y", "Identity", ["a", "^gone"])
    view = build(b.graph())
    assert view.main.dangling == (("y", "^gone"),)
    with pytest.raises(InputError, match=r"'\^gone'"):
        view.check()


def test_a_dangling_input_in_a_function_names_the_function() -> None:
    """``function:node`` is how nodes of bodies are named everywhere."""
    b, body = GraphBuilder(), GraphBuilder()
    body.op("y", "Relu", ["lost:output:0"])
    b.function("f", [("x", DT_FLOAT)], body)
    with pytest.raises(InputError, match=r"node 'f:y' has input 'lost:output:0'"):
        build(b.graph()).check()


def test_a_function_does_not_see_the_nodes_of_the_main_graph() -> None:
    """Only arguments lead into a body."""
    b, body = GraphBuilder(), GraphBuilder()
    b.const("w", [1.0])
    body.op("y", "Relu", ["w"])
    b.function("f", [], body)
    assert build(b.graph()).scopes["f"].dangling == (("y", "w"),)


def test_check_refuses_a_constant_that_does_not_match_its_shape() -> None:
    """No runtime loads it; the message names the constant."""
    b = GraphBuilder()
    b.const("good", [1.0, 2.0])
    proto = GraphDef.FromString(b.to_bytes())
    bad = proto.node.add()
    bad.CopyFrom(proto.node[0])
    bad.name = "bad"
    bad.attr["value"].tensor.tensor_content += b"\0\0\0\0"
    with pytest.raises(InputError, match="'bad'"):
        build(Graph.parse(proto.SerializeToString())).check()


# -------------------------------------------------------------------------------------- cycles


def test_inputs_come_first_whatever_the_file_order() -> None:
    """Files need not be sorted."""
    b = GraphBuilder()
    b.op("c", "Identity", ["b"])
    b.op("b", "Identity", ["a", "^z"])
    b.const("a", [1.0])
    b.const("z", [1.0])
    order = build(b.graph()).main.topological_order()
    assert order["a"] < order["b"] < order["c"]
    assert order["z"] < order["b"]


@given(st.data())
def test_the_order_respects_every_edge(data: st.DataObject) -> None:
    """For every edge of any acyclic graph, the producer has the smaller number."""
    count = data.draw(st.integers(1, 12))
    edges = []
    b = GraphBuilder()
    for number in data.draw(st.permutations(range(count))):
        before = data.draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        edges += [(item, number) for item in before]
        control = data.draw(st.booleans())
        b.op(f"n{number}", "Any", [f"^n{i}" if control else f"n{i}" for i in before])
    order = build(b.graph()).main.topological_order()
    assert sorted(order.values()) == list(range(count))
    assert all(order[f"n{early}"] < order[f"n{late}"] for early, late in edges)


@pytest.mark.parametrize("back", ["NextIteration", "RefNextIteration"])
def test_a_while_loop_is_no_cycle(back: str) -> None:
    """The back edge of a loop is left out; everything else is in order."""
    view = build(while_loop(back).graph())
    view.check()
    order = view.main.topological_order()
    assert order["enter"] < order["merge"] < order["switch"] < order["body"] < order["next"]


def test_the_networkx_graph_has_every_use_as_an_edge() -> None:
    """Vertices are arguments and nodes; slot and port are on the edges; it is made once."""
    b, body = GraphBuilder(), GraphBuilder()
    body.op("y", "Add", ["x", "x"])
    body.op("z", "Split", ["y:z:0", "^x", "lost"], num_split=2)
    b.function("f", [("x", DT_FLOAT)], body)
    scope = build(b.graph()).scopes["f"]
    assert list(scope.graph) == ["x", "y", "z"]
    assert list(scope.graph.edges(data=True)) == [
        ("x", "y", {"slot": 0, "port": 0}),
        ("x", "y", {"slot": 1, "port": 0}),
        ("x", "z", {"slot": CONTROL, "port": CONTROL}),
        ("y", "z", {"slot": 0, "port": 0}),
    ]
    assert scope.graph is scope.graph


def test_the_view_keeps_the_back_edge() -> None:
    """Ordering does not change the graph that others walk."""
    view = build(while_loop().graph())
    view.main.topological_order()
    assert uses(view, "next") == [("merge", 1, 0)]


def test_a_cycle_without_a_loop_op_is_refused() -> None:
    """TensorFlow cannot run it; the message names nodes of the cycle."""
    b = GraphBuilder()
    for name, before in (("a", "c"), ("b", "a"), ("c", "b")):
        b.op(name, "Identity", [before])
    view = build(b.graph())
    with pytest.raises(InputError, match=r"form a cycle that is no while loop \([abc] -> [abc]"):
        view.check()


def test_a_cycle_inside_a_while_loop_is_refused() -> None:
    """A loop elsewhere in the graph does not excuse a real cycle."""
    b = while_loop()
    b.op("p", "Add", ["body", "q"])
    b.op("q", "Identity", ["p"])
    with pytest.raises(InputError, match="cycle"):
        build(b.graph()).check()


def test_a_node_that_feeds_itself_is_a_cycle() -> None:
    """The smallest cycle has one node."""
    b = GraphBuilder()
    b.op("a", "Identity", ["a"])
    with pytest.raises(InputError, match=r"a -> "):
        build(b.graph()).check()


def test_a_control_cycle_is_refused() -> None:
    """Control edges order nodes as data edges do."""
    b = GraphBuilder()
    b.const("a", [1.0], control=["b"])
    b.op("b", "Identity", ["a"])
    with pytest.raises(InputError, match="cycle"):
        build(b.graph()).check()


def test_a_cycle_in_a_function_names_the_function() -> None:
    """The user must know where to look."""
    b, body = GraphBuilder(), GraphBuilder()
    body.op("a", "Identity", ["b:output:0"])
    body.op("b", "Identity", ["a:output:0"])
    b.function("step_7", [], body)
    with pytest.raises(InputError, match="of function step_7"):
        build(b.graph()).check()


# ------------------------------------------------------------------------------------- functions


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall"])
def test_a_partitioned_call_calls_its_function(op: str) -> None:
    """Its arguments begin at data input 0."""
    b = GraphBuilder()
    b.function("f", [("a", DT_FLOAT)], GraphBuilder())
    b.call("y", "f", [b.placeholder("x", [1])], op)
    view = build(b.graph())
    assert view.called(view.main.nodes["y"]) == [("f", 0)]


def test_a_node_whose_op_is_a_functions_name_calls_it() -> None:
    """The way functions were called before PartitionedCall."""
    b = GraphBuilder()
    b.function("my_layer", [("a", DT_FLOAT)], GraphBuilder())
    b.op("y", "my_layer", [b.placeholder("x", [1])])
    view = build(b.graph())
    assert view.called(view.main.nodes["y"]) == [("my_layer", 0)]


@pytest.mark.parametrize("op", ["If", "StatelessIf"])
def test_an_if_calls_both_branches_behind_its_predicate(op: str) -> None:
    """Data input 0 is the predicate, so argument 0 is data input 1."""
    b = GraphBuilder()
    for name in ("yes", "no"):
        b.function(name, [("a", DT_FLOAT)], GraphBuilder())
    b.op("y", op, ["x", "x"], then_branch=("func", "yes"), else_branch=("func", "no"))
    view = build(b.graph())
    assert view.called(view.main.nodes["y"]) == [("yes", 1), ("no", 1)]


def test_a_call_of_a_function_that_is_not_there_calls_nothing() -> None:
    """A missing function is no error of the survey."""
    b = GraphBuilder()
    b.call("y", "missing", [b.placeholder("x", [1])])
    b.op("z", "PartitionedCall", ["x"])
    view = build(b.graph())
    assert view.called(view.main.nodes["y"]) == []
    assert view.called(view.main.nodes["z"]) == []


def test_ordinary_ops_call_nothing() -> None:
    """Even where a function exists."""
    b = GraphBuilder()
    b.function("f", [], GraphBuilder())
    b.matmul("y", b.placeholder("x", [1, 4]), b.const("w", random_weight((4, 2))))
    view = build(b.graph())
    assert all(view.called(node) == [] for node in view.main.nodes.values())


# ---------------------------------------------------------------------------------------- size


def test_ten_thousand_nodes_take_no_time() -> None:
    """View and order need time in proportion to the graph."""
    b = chain(*(f"n{number}" for number in range(10_000)))
    graph = b.graph()
    begin = time.process_time()
    view = build(graph)
    view.check()
    assert time.process_time() - begin < 1.5


@pytest.mark.parametrize("inputs", [["^c", "x"], ["x", "^c", "x"]])
def test_a_control_input_in_front_is_refused(inputs: List[str]) -> None:
    """TensorFlow refuses it as well; slots would be counted differently from place to place."""
    b = GraphBuilder()
    b.placeholder("x", [1])
    b.op("c", "NoOp", [])
    b.op("y", "AddN", inputs)
    with pytest.raises(InputError, match=r"'y' has the control input '\^c' before the input 'x'"):
        build(b.graph()).check()
    b = GraphBuilder()
    b.placeholder("x", [1])
    b.op("c", "NoOp", [])
    b.op("y", "AddN", ["x", "x", "^c", "^x"])
    build(b.graph()).check()
