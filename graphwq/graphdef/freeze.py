"""Variables become constants: a graph and a checkpoint to a frozen graph, without a session.

The graph is pruned to what its outputs need, every variable that is left becomes a Const of the
same name whose values are a slice of the checkpoint's file, and what reads it is mended
(``convert``). Nothing of the values is read here but for the check of their CRC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef import convert, dtypes
from graphwq.graphdef.checkpoint import Checkpoint
from graphwq.graphdef.graph import Graph, Item, Library
from graphwq.graphdef.handles import Bodies, Handles, free_name
from graphwq.graphdef.library import frozen, reached
from graphwq.graphdef.newnode import const_over
from graphwq.graphdef.node import Node, TensorRef, attr_of_type, parse_node
from graphwq.graphdef.prune import colocated, guess_outputs, needed, output_nodes
from graphwq.graphdef.restore import NO_WISHES, Restorer, Wishes
from graphwq.graphdef.variable import VARIABLE_OPS, declared_shape, is_writer


@dataclass(frozen=True)
class Frozen:
    """A frozen graph.

    Attributes:
        graph: without variables.
        outputs: the nodes to which it was pruned.
        variables: those that became constants.
    """

    graph: Graph
    outputs: Tuple[str, ...]
    variables: Tuple[str, ...]


def freeze(
    graph: Graph,
    checkpoint: Optional[Checkpoint],
    outputs: Sequence[str],
    restore_op: str = "",
    wishes: Wishes = NO_WISHES,
) -> Frozen:
    """Freeze a graph.

    Args:
        graph: with variables.
        checkpoint: with their values; None where there is none, which a graph without variables
            does not need.
        outputs: names of nodes or tensors; where there are none they are guessed.
        restore_op: of the graph's saver; see ``restore``.
        wishes: where else values are to come from.

    Raises:
        InputError: an unknown output, a variable that the checkpoint does not hold or holds in
            another shape, a damaged checkpoint.
        UnsupportedError: an op that the outputs need changes a variable.
    """
    nodes = {node.name: node for node in graph.nodes}
    if len(nodes) != len(graph.nodes):
        raise InputError("two nodes have the same name: the graph is broken, export it again")
    restorer = None
    if checkpoint is not None:
        restorer = Restorer(nodes, checkpoint, restore_op, wishes)
    targets = output_nodes(nodes, outputs or _guessed(nodes, restorer))
    kept = needed(nodes, targets)
    pruned = {name: node for name, node in nodes.items() if name in kept}
    _check_writers(pruned)
    variables = [node for node in pruned.values() if node.op in VARIABLE_OPS]
    constants = _constants(variables, restorer)
    return Frozen(
        _Rewriter(graph, pruned, constants).graph(),
        targets,
        tuple(node.name for node in variables),
    )


def _guessed(nodes: Mapping[str, Node], restorer: Optional[Restorer]) -> Tuple[str, ...]:
    missing = []
    if restorer is not None:
        variables = [node for node in nodes.values() if node.op in VARIABLE_OPS]
        missing = [node.name for node in variables if not restorer.has(node)]
        if len(missing) == len(variables):
            missing = []  # another model's checkpoint: let the first variable be named
    return guess_outputs(nodes, missing)


def _check_writers(pruned: Mapping[str, Node]) -> None:
    for node in pruned.values():
        if is_writer(node):
            written = TensorRef.parse(node.data_inputs[0]).node if node.data_inputs else "?"
            users = [
                other.name
                for other in pruned.values()
                if any(TensorRef.parse(name).node == node.name for name in other.data_inputs)
            ]
            raise UnsupportedError(
                f"{users[0] if users else 'an output'!r} needs the result of {node.op} "
                f"{node.name!r}, which changes the variable {written!r}: a constant cannot be "
                "changed; choose other outputs (--outputs)"
            )


def _constants(variables: Sequence[Node], restorer: Optional[Restorer]) -> Dict[str, Node]:
    if restorer is None and variables:
        raise InputError(
            f"the graph has {len(variables)} variables (the first is {variables[0].name!r}), and "
            "there is no checkpoint with their values: give --checkpoint PREFIX"
        )
    if restorer is None:
        return {}
    constants = {variable.name: _constant(variable, restorer) for variable in variables}
    restorer.check_wishes()
    return constants


def _constant(variable: Node, restorer: Restorer) -> Node:
    value = restorer.value(variable)
    tensor, region = value.tensor, value.region
    shape = tensor.shape if region is None else tuple(length for _, length in region)
    dtype = attr_of_type(variable, "dtype")
    declared = declared_shape(variable)
    where = f"variable {variable.name!r}"
    if tensor.name != variable.name:
        where += f" (in the checkpoint {tensor.name!r})"
    fits = declared is None or (
        len(declared) == len(shape)
        and all(wanted in (-1, size) for wanted, size in zip(declared, shape))
    )
    # To the old op an empty shape is an unknown one.
    if not fits and not (declared == () and variable.op == "Variable"):
        raise InputError(
            f"{where} has shape {list(declared or ())} in the graph and {list(shape)} in the "
            "checkpoint: they are not of one model"
        )
    if dtype != tensor.dtype:
        raise InputError(
            f"{where} is {dtypes.dtype_name(dtype)} in the graph and "
            f"{dtypes.dtype_name(tensor.dtype)} in the checkpoint: they are not of one model"
        )
    return const_over(variable.name, dtype, shape, tensor.content(region))


class _Rewriter:
    """Builds the frozen graph."""

    def __init__(
        self, graph: Graph, pruned: Mapping[str, Node], constants: Mapping[str, Node]
    ) -> None:
        self._graph = graph
        self._pruned = pruned
        self._constants = constants
        self._names = set(pruned)
        self._framed = any(node.op in ("Enter", "RefEnter") for node in pruned.values())
        self._bodies = Bodies(graph)
        self._handles = self._follow()

    def graph(self) -> Graph:
        main = {name: self._node(node) for name, node in self._pruned.items()}
        kept = reached(self._graph, self._pruned.values())
        layout: List[Item] = []
        for item in self._graph.layout:
            if isinstance(item, Node):
                layout.extend(main.get(item.name, ()))
            elif isinstance(item, Library):
                library = frozen(item, kept, self._bodies.changed)
                layout.extend([library] if library is not None else [])
            else:
                layout.append(item)
        return Graph(tuple(layout))

    def _follow(self) -> Handles:
        handles: Handles = {}
        for node in self._pruned.values():
            if node.op == "VarHandleOp":
                handles[node.name, 0] = attr_of_type(node, "dtype")
        users = _users(self._pruned) if handles else {}
        pending = [name for name, _ in handles]
        while pending:
            for user in users.get(pending.pop(), ()):
                node = self._pruned[user]
                outputs = self._bodies.outputs(_proto(node), _given(node, handles))
                new = {(user, port): dtype for port, dtype in outputs.items()}
                if not new.keys() <= handles.keys():
                    handles.update(new)
                    pending.append(user)
        return handles

    def _node(self, node: Node) -> List[Node]:
        """What stands in the place of a node."""
        if node.name in self._constants:
            return [self._constants[node.name]]
        given = _given(node, self._handles)
        gone = [name for name in node.inputs if TensorRef.parse(name).node not in self._pruned]
        apart = [name for name in colocated(node) if name not in self._pruned]
        by_reference = node.op in convert.REFERENCE_OPS
        if not (given or gone or apart or by_reference):
            return [node]
        proto = _proto(node)
        kept = [name for name in proto.input if name not in gone]
        del proto.input[:]
        proto.input.extend(kept)
        if apart:
            _separate(proto, apart)
        if given:
            new = self._bodies.converted(proto, given, self._new_name, self._framed)
        else:
            new = [convert.without_reference(proto) if by_reference else proto]
        return [_from_proto(each) for each in new]

    def _new_name(self, wish: str) -> str:
        name = free_name(wish, self._names)
        self._names.add(name)
        return name


def _given(node: Node, handles: Handles) -> Dict[int, int]:
    """Slot -> dtype of the inputs that were handles."""
    found = {}
    for slot, name in enumerate(node.inputs):
        ref = TensorRef.parse(name)
        if (ref.node, ref.port) in handles:
            found[slot] = handles[ref.node, ref.port]
    return found


def _separate(proto: Any, names: Sequence[str]) -> None:
    """Take nodes that are gone out of the colocation of a node."""
    listed = proto.attr["_class"].list.s
    gone = {b"loc:@" + name.encode() for name in names}
    there = [item for item in listed if item not in gone]
    del listed[:]
    listed.extend(there)
    if not there:
        del proto.attr["_class"]


def _users(nodes: Mapping[str, Node]) -> Dict[str, Set[str]]:
    users: Dict[str, Set[str]] = {}
    for node in nodes.values():
        for name in node.data_inputs:
            users.setdefault(TensorRef.parse(name).node, set()).add(node.name)
    return users


def _proto(node: Node) -> Any:
    from graphwq.graphdef.protos import DecodeError, NodeDef

    try:
        return NodeDef.FromString(bytes(node.to_bytes()))
    except DecodeError as error:
        raise InputError(f"node {node.name!r} cannot be parsed: the file is damaged") from error


def _from_proto(proto: Any) -> Node:
    raw = memoryview(proto.SerializeToString(deterministic=True))
    return replace(parse_node(raw, 0, len(raw), 0), frame=None)
