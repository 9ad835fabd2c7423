"""Ops that reach out of the graph are not run for strangers."""

from __future__ import annotations

import pytest
from builders import GraphBuilder

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.survey.view import build
from graphwq.verify.unsafe_ops import UNSAFE, check_safe, find_unsafe


def _reading(op: str = "ReadFile") -> Graph:
    b = GraphBuilder()
    name = b.placeholder("name", [], dtypes.DT_STRING)
    content = b.op("content", op, [name])
    b.op("y", "DecodeRaw", [content])
    b.op("z", "Relu", [b.placeholder("x", [3])])
    return b.graph()


@pytest.mark.parametrize("op", ["ReadFile", "PyFunc", "WriteFile", "RestoreV2", "Rpc", "Abort"])
def test_an_output_that_needs_such_an_op(op: str) -> None:
    """Refused, with the op, the node and the reason; unless it is allowed."""
    view = build(_reading(op))
    with pytest.raises(InputError, match=f"{op} 'content'.*{UNSAFE[op][:9]}") as caught:
        check_safe(view, ["z:0", "y:0"])
    assert "\n" not in str(caught.value)
    check_safe(view, ["y:0"], allow_unsafe_ops=True)


def test_other_outputs_may_be_run() -> None:
    """TensorFlow runs what is fetched and no more; a feed cuts off what is upstream."""
    view = build(_reading())
    check_safe(view, ["z:0"])
    check_safe(view, ["y:0"], frozenset(["content:0"]))


def test_an_op_that_is_only_waited_for() -> None:
    """Control edges make ops run as well."""
    b = GraphBuilder()
    b.op("write", "WriteFile", [b.placeholder("name", [], dtypes.DT_STRING)])
    b.op("y", "Relu", [b.placeholder("x", [3]), "^write"])
    with pytest.raises(InputError, match="writes files"):
        check_safe(build(b.graph()), ["y:0"])


def _calling(op: str) -> Graph:
    b = GraphBuilder()
    inner, outer = GraphBuilder(), GraphBuilder()
    inner.op("evil", op, ["t"])
    b.function("inner", [("t", dtypes.DT_STRING)], inner, [("r", "evil:output:0", 7)])
    outer.call("again", "inner", ["t"], types=[7], results=[7])
    b.function("outer", [("t", dtypes.DT_STRING)], outer, [("r", "again:output:0", 7)])
    b.function("unused", [("t", dtypes.DT_STRING)], inner, [("r", "evil:output:0", 7)])
    text = b.placeholder("text", [], dtypes.DT_STRING)
    b.call("y", "outer", [text], types=[7], results=[7])
    return b.graph()


def test_functions_that_are_called() -> None:
    """Through two calls; functions that nobody calls do no harm."""
    found = find_unsafe(build(_calling("ReadFile")), ["y:0"])
    assert [(scope, node.name) for scope, node in found] == [("inner", "evil")]
    assert find_unsafe(build(_calling("StringLower")), ["y:0"]) == ()


def test_functions_named_in_any_attribute() -> None:
    """A dataset that maps a function, a While with two of them, a list of functions."""
    b = GraphBuilder()
    body = GraphBuilder()
    body.op("evil", "ReadFile", ["t"])
    b.function("mapped", [("t", dtypes.DT_STRING)], body, [("r", "evil:contents:0", 7)])
    b.op("y", "MapDataset", [b.placeholder("x", [3])], f=("func", "mapped"))
    assert len(find_unsafe(build(b.graph()), ["y:0"])) == 1
    from graphwq.graphdef.protos import AttrValue

    attr = AttrValue()
    attr.list.func.add().name = "mapped"
    b.op("z", "Case", ["x"], branches=attr)
    assert len(find_unsafe(build(b.graph()), ["z:0"])) == 1


def test_printing_is_harmless_unless_it_goes_to_a_file() -> None:
    """PrintV2 writes where its attribute says."""
    for stream, count in (("stderr", 0), ("file:///tmp/x", 1)):
        b = GraphBuilder()
        b.op("print", "PrintV2", [b.placeholder("t", [], 7)], output_stream=stream)
        b.op("y", "Relu", [b.placeholder("x", [3]), "^print"])
        assert len(find_unsafe(build(b.graph()), ["y:0"])) == count


@pytest.mark.tf
def test_tensorflow_knows_the_ops_by_these_names() -> None:
    """Those of its core; the others are in libraries that are not loaded."""
    from graphwq.tf1.session import unregistered_ops

    b = GraphBuilder()
    for op in UNSAFE:
        b.op(op, op, [])
    unknown = {op for op, _ in unregistered_ops(b.graph())}
    assert len(unknown) < 15
    assert not unknown & {"ReadFile", "SaveV2", "PyFunc", "RestoreV2", "WriteFile", "Rpc"}


@pytest.mark.corpus
def test_no_real_graph_is_refused(entry: dict, corpus) -> None:  # type: ignore[no-untyped-def]
    """The outputs of all graphs that run need none of these ops."""
    import graphwq
    from graphwq.verify.interface import find_interface

    if not entry["run_ok"]:
        return
    graph = graphwq.load(corpus / entry["file"])
    view = build(graph)
    fed = frozenset(entry.get("feed") or ())
    check_safe(view, find_interface(graph, view).tensors, fed)
