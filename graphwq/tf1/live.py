"""Working on a live tf.Graph: TensorFlow as the program has it, where new ops go, sessions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Optional

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.tf1.load import training_tensorflow as tensorflow

#: Every node that graphwq adds to a live graph carries this attribute. Names that begin with an
#: underscore are kept by TensorFlow without being declared, also in a MetaGraph.
MARK = "_graphwq"
#: The node whose output replaces a tensor: "tensor" (its input 1 is the original) or "rows".
OUTPUT_MARK = "_graphwq_output"
#: The two ops that turn the quantization of a session off and on again: "strip", "resume".
FLAG_MARK = "_graphwq_flag"
SCOPE = "graphwq"


def snapshot(graph: Any) -> Graph:
    """The live graph as it is now, as bytes.

    Raises:
        InputError: its constants are larger than TensorFlow can serialize.
    """
    try:
        return Graph.parse(graph.as_graph_def().SerializeToString())
    except ValueError as error:
        raise InputError(
            f"TensorFlow cannot serialize the graph ({error}): its constants may not pass 2 GB, "
            "make variables of the large ones"
        ) from error


@contextmanager
def creating(graph: Any, name: str, beside: Optional[Any] = None) -> Iterator[None]:
    """New ops go to the place of ``beside``: its device, and its branch or loop.

    Whatever the caller is inside of (control dependencies, name scopes, devices) does not count.
    """
    tf = tensorflow()
    mark = {MARK: tf.AttrValue(s=b"part")}
    with graph.as_default(), graph.control_dependencies(None), graph.name_scope(None):
        with graph.colocate_with(None, ignore_existing=True):  # this forgets the devices, too
            with graph.device(beside.device if beside is not None else None):
                if beside is not None:
                    graph._set_control_flow_context(beside._get_control_flow_context())
                with graph._attr_scope(mark), graph.name_scope(f"{SCOPE}/{name}"):
                    yield


def mark(op: Any, key: str, value: str) -> None:
    """Set a text attribute on an op."""
    op._set_attr(key, tensorflow().AttrValue(s=value.encode()))


def mark_of(op: Any, key: str) -> Optional[str]:
    """A text attribute of an op, None where it has none."""
    try:
        return op.get_attr(key).decode()  # type: ignore[no-any-return]
    except ValueError:
        return None


def raw_run(session: Any, fetches: Any, feeds: Optional[Any] = None) -> Any:
    """Run in the session itself: the hooks of a MonitoredSession do not see (and count) it."""
    step = getattr(session, "run_step_fn", None)
    if step is None:
        return session.run(fetches, feed_dict=feeds)
    return step(lambda step_context: step_context.session.run(fetches, feed_dict=feeds))
