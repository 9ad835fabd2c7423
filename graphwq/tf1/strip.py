"""Taking the fake-quantization out of a graph again, and putting it back.

Three things hold the float weights afterwards: the edges of the live graph (for whatever is
exported from it, and for new sessions), the sessions that run already (through the switch of
flag.py, because TensorFlow 1 ignores new edges in them), and exported GraphDefs (which are pruned:
a live tf.Graph cannot forget ops).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple
from weakref import WeakSet

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, TensorRef, new_node
from graphwq.survey.optable import GATHER_OPS
from graphwq.tf1.flag import turn
from graphwq.tf1.live import MARK, OUTPUT_MARK, mark_of, snapshot
from graphwq.tf1.load import training_tensorflow as tensorflow
from graphwq.tf1.order import is_gradient
from graphwq.tf1.place import ROWS_OUTPUT

#: op, input, the tensor that it read before stripping
_Edit = Tuple[Any, int, Any]


@dataclass
class _State:
    """What is known about a live graph; kept on the graph, so that it goes with it.

    Attributes:
        sessions: those that are to obey.
        edits: what stripping changed; empty where the graph is not stripped.
    """

    sessions: WeakSet = field(default_factory=WeakSet)
    edits: List[_Edit] = field(default_factory=list)


def _state(graph: Any) -> _State:
    state: _State = graph.__dict__.setdefault("_graphwq_state", _State())
    return state


def strip_wq_ops(graph: Optional[Any] = None, sess: Optional[Any] = None) -> None:
    """Let every op read its float weight again, as before the WeightQuantizer was built.

    Holds at once in the sessions that a quantizer was given (``init``, ``update``), in the default
    session and in ``sess``, also where they have run the graph before; in every new session; and in
    what is exported from the graph. Stripping twice, or a graph without a quantizer, changes
    nothing. (TensorFlow logs that new edges "have no effect" in a session that has run; there the
    switch of flag.py does it.) A session that first runs between strip and resume stays float.

    Args:
        graph: the default graph where not given. It may come from a MetaGraph.
        sess: a session that no quantizer has seen.
    """
    tf = tensorflow()
    graph = tf.get_default_graph() if graph is None else graph
    edits = _state(graph).edits
    for op in _outputs(graph):
        for user, slot, tensor in _original_inputs(op):
            edits.append((user, slot, user.inputs[slot]))
            user._update_input(slot, tensor)
    _turn_all(graph, sess, "strip")


def resume_wq_ops(graph: Optional[Any] = None, sess: Optional[Any] = None) -> None:
    """Undo ``strip_wq_ops``: the ops read quantized weights again, in the same sessions."""
    tf = tensorflow()
    graph = tf.get_default_graph() if graph is None else graph
    edits = _state(graph).edits
    for user, slot, tensor in edits:
        user._update_input(slot, tensor)
    edits.clear()
    _turn_all(graph, sess, "resume")


def is_stripped(graph: Any) -> bool:
    """Whether the graph has been stripped and not resumed."""
    return bool(_state(graph).edits)


def has_quantizer(graph: Any) -> bool:
    """Whether an op of the graph reads fake-quantized weights."""
    return any(_original_inputs(op) for op in _outputs(graph))


def remember(graph: Any, session: Any) -> None:
    """Note a session that is to obey ``strip_wq_ops``."""
    _state(graph).sessions.add(session)


def stripped_graph_def(graph: Optional[Any] = None) -> Any:
    """A GraphDef of the float graph, without a trace of the quantizer.

    Gradients and optimizers, which were built on top of it, are left out as well. The live graph is
    not changed.
    """
    tf = tensorflow()
    graph = tf.get_default_graph() if graph is None else graph
    return tf.GraphDef.FromString(strip_graph(snapshot(graph)).to_bytes())


def strip_graph(graph: Graph) -> Graph:
    """The serialized form of ``strip_wq_ops``; see ``stripped_graph_def``."""
    nodes = {node.name: node for node in graph.nodes}
    kinds = {name: _text(node, OUTPUT_MARK) for name, node in nodes.items()}
    kinds = {name: kind for name, kind in kinds.items() if kind}
    gone = {
        name
        for name, node in nodes.items()
        if MARK in node.attr_bytes() or is_gradient(name, node.op)
    }
    replaced: Dict[str, Sequence[Node]] = {name: [] for name in gone}
    for name, node in nodes.items():
        if name not in gone:
            inputs = _original_names(node, nodes, kinds)
            if inputs != node.inputs:
                nodes[name] = new_node(name, node.op, inputs, node.attr_bytes(), node.device)
                replaced[name] = [nodes[name]]
    for name in _hanging(nodes, gone):
        replaced[name] = []
    return graph.edited({"": replaced})


def _hanging(nodes: Dict[str, Node], gone: Set[str]) -> Set[str]:
    """The nodes that are gone, those that need one of them, and so on."""
    users: Dict[str, List[str]] = {}
    for name, node in nodes.items():
        for item in node.inputs:
            users.setdefault(TensorRef.parse(item).node, []).append(name)
    pending, seen = list(gone), set(gone)
    while pending:
        for user in users.get(pending.pop(), ()):
            if user not in seen:
                seen.add(user)
                pending.append(user)
    return seen


def _original_names(node: Node, nodes: Dict[str, Node], kinds: Dict[str, str]) -> Tuple[str, ...]:
    inputs = list(node.inputs)
    for slot, item in enumerate(node.inputs):
        ref = TensorRef.parse(item)
        if ref.node not in kinds or ref.port != 0:
            continue
        original = nodes[ref.node].inputs[1]
        if kinds[ref.node] == ROWS_OUTPUT:
            if node.op not in GATHER_OPS:
                continue  # the gradient of the gather: it hangs on what is dropped
            rows = nodes[TensorRef.parse(original).node]
            flat = nodes[TensorRef.parse(rows.inputs[1]).node]
            inputs[slot], inputs[slot + 1] = rows.inputs[0], flat.inputs[0]
        else:
            inputs[slot] = original
    return tuple(inputs)


def _text(node: Node, key: str) -> str:
    attr = node.attr(key)
    return attr.s.decode("utf-8", "replace") if attr is not None else ""


def _outputs(graph: Any) -> List[Any]:
    return [
        op
        for op in graph.get_operations()
        if op.type == "Select" and mark_of(op, OUTPUT_MARK) is not None
    ]


def _original_inputs(output: Any) -> List[_Edit]:
    """What the users of a fake-quantized tensor read without it: (op, input, tensor)."""
    found: List[_Edit] = []
    tensor = output.outputs[0]
    by_row = mark_of(output, OUTPUT_MARK) == ROWS_OUTPUT
    for user in tensor.consumers():
        if mark_of(user, MARK) is not None:
            continue
        for slot, item in enumerate(user.inputs):
            if item is not tensor:
                continue
            if by_row and user.type not in GATHER_OPS:
                continue  # the gradient of the gather
            if by_row:
                rows = output.inputs[1].op
                found.append((user, slot, rows.inputs[0]))
                found.append((user, slot + 1, rows.inputs[1].op.inputs[0]))
            else:
                found.append((user, slot, output.inputs[1]))
    return found


def _turn_all(graph: Any, session: Optional[Any], to: str) -> None:
    sessions = [item for item in _state(graph).sessions if item is not session]
    sessions += [item for item in (session, tensorflow().get_default_session()) if item is not None]
    for known in {id(item): item for item in sessions}.values():
        if known.graph is graph and not is_closed(known):
            turn(graph, known, to)


def is_closed(session: Any) -> bool:
    """Whether a session (or MonitoredSession) has been closed."""
    monitored = getattr(session, "_is_closed", None)
    return bool(getattr(session, "_closed", False) if monitored is None else monitored())
