"""From the live graph to a frozen pb: float weights stripped of their quantizer, or baked ones."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Dict, List, Optional, Sequence, Union

from graphwq import api
from graphwq.errors import ArgumentError, InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, TensorRef, new_node
from graphwq.tf1.fold import fold, prune
from graphwq.tf1.load import training_tensorflow as tensorflow
from graphwq.tf1.sites import COMPUTED, Insertion
from graphwq.tf1.strip import stripped_graph_def


def freeze(graph: Any, session: Any, outputs: Union[str, Sequence[str]]) -> Graph:
    """The stripped graph with its variables as constants, pruned to the outputs.

    Args:
        graph: a live graph; it is not changed.
        session: holds the values; may be a MonitoredSession.
        outputs: names of nodes or tensors.

    Raises:
        ArgumentError: an unknown output.
        InputError: TensorFlow cannot freeze the graph.
    """
    tf = tensorflow()
    definition = stripped_graph_def(graph)
    names = _output_nodes(outputs)
    _check_outputs(definition, names)
    session = _raw(session)
    try:
        frozen = _quietly(tf, session, definition, names)
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(
            f"the graph cannot be frozen: {error}; are all variables initialized in this session?"
        ) from error
    return _gathers_in_loops(Graph.parse(frozen.SerializeToString(deterministic=True)), definition)


def export(
    graph: Any,
    session: Any,
    outputs: Union[str, Sequence[str]],
    insertions: Sequence[Insertion],
    bake_bits: Optional[int],
) -> Graph:
    """Freeze, and put the quantized weights in where ``bake_bits`` is given.

    Weights that are computed (masked, normalized) become plain constants, so that what follows
    (``graphwq quantize``, the MNN converter) sees a weight and no arithmetic.

    Args:
        graph, session, outputs: see ``freeze``.
        insertions: what the quantizer quantized.
        bake_bits: 2..8, or None for the float weights.
    """
    frozen = freeze(graph, session, outputs)
    computed = [insertion.tensor.name for insertion in insertions if insertion.kind == COMPUTED]
    names = _output_nodes(outputs)
    frozen = prune(fold(frozen, computed), names)
    if bake_bits is None:
        return frozen
    return api.quantize(frozen, bits=bake_bits, storage="bake", keep_larger=True).graph


def _output_nodes(outputs: Union[str, Sequence[str]]) -> List[str]:
    names = [outputs] if isinstance(outputs, str) else [str(item) for item in outputs]
    return [TensorRef.parse(name).node for name in names]


def _check_outputs(definition: Any, names: Sequence[str]) -> None:
    known = {node.name for node in definition.node}
    if not names:
        raise ArgumentError("no output is named: give the nodes that the frozen graph computes")
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" (is {near[0]!r} meant?)" if near else ""
            raise ArgumentError(f"there is no node {name!r} in the graph{hint}")


def _gathers_in_loops(frozen: Graph, definition: Any) -> Graph:
    """Mend what TensorFlow's freezing makes of a ResourceGather in a while loop.

    It becomes a GatherV2 whose new axis constant stands outside of the loop, which TensorFlow then
    refuses to run. A Gather has no axis.
    """
    were = {node.name for node in definition.node if node.op == "ResourceGather"}
    nodes = {node.name: node for node in frozen.nodes}
    replaced: Dict[str, Sequence[Node]] = {}
    for name in were & set(nodes):
        node = nodes[name]
        source = nodes[TensorRef.parse(node.data_inputs[0]).node]
        while source.op in ("Identity", "Switch"):
            source = nodes[TensorRef.parse(source.data_inputs[0]).node]
        if source.op == "Enter" and node.op == "GatherV2":
            attrs = {key: node.attr_bytes()[key] for key in ("Tparams", "Tindices")}
            inputs = (*node.data_inputs[:2], *node.control_inputs)
            replaced[name] = [new_node(name, "Gather", inputs, attrs, node.device)]
    return frozen.edited({"": replaced}) if replaced else frozen


def _raw(session: Any) -> Any:
    """The tf.Session inside a MonitoredSession."""
    step = getattr(session, "run_step_fn", None)
    return session if step is None else step(lambda step_context: step_context.session)


def _quietly(tf: Any, session: Any, definition: Any, names: Sequence[str]) -> Any:
    """TensorFlow's own freezing, without its deprecation notice on every call."""
    before = tf.logging.get_verbosity()
    tf.logging.set_verbosity(tf.logging.ERROR)
    try:
        return tf.graph_util.convert_variables_to_constants(session, definition, list(names))
    finally:
        tf.logging.set_verbosity(before)
