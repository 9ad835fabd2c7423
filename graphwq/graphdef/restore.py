"""Which tensor of a checkpoint is the value of which variable.

The saver of a graph says it in its own nodes: RestoreV2 (key, slice) -> Assign -> variable. That
holds whatever the script did: other names, averages in the place of variables, partitions. Where
there is no saver the variable's name is the key. ``Wishes`` of the user come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.bundle import read_strings
from graphwq.graphdef.checkpoint import Checkpoint
from graphwq.graphdef.message import Message
from graphwq.graphdef.node import Node, TensorRef
from graphwq.graphdef.pieces import Region, StoredTensor, resolved
from graphwq.graphdef.spelling import close
from graphwq.graphdef.variable import shared_name

#: op -> data input with the names of the tensors, data input with their slices (or none).
_RESTORE_OPS: Dict[str, Tuple[int, Optional[int]]] = {
    "RestoreV2": (1, 2),
    "RestoreSlice": (1, 2),
    "Restore": (1, None),
}
_ASSIGN_OPS = ("Assign", "AssignVariableOp")
_MAX_HOPS = 16
#: TrackableObjectGraph: what an object-based checkpoint says of itself.
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_OBJECT, _OBJECT_ATTRIBUTE, _ATTRIBUTE_FULL_NAME, _ATTRIBUTE_KEY = 1, 2, 2, 3

#: What tf.train.ExponentialMovingAverage appends to the names of its shadow variables.
EMA = "ExponentialMovingAverage"


@dataclass(frozen=True)
class Wishes:
    """Where the user wants values to come from.

    Attributes:
        rename: (variable, key) pairs; where both end in ``/``, every name below.
        ema: suffix of the shadow variables to be taken where there are any; None takes none.
    """

    rename: Tuple[Tuple[str, str], ...] = ()
    ema: Optional[str] = None


NO_WISHES = Wishes()


@dataclass(frozen=True)
class Value:
    """Where the value of a variable is: a tensor of a checkpoint and the region of it."""

    tensor: StoredTensor
    region: Optional[Region]


class Restorer:
    """Finds the values of variables in one checkpoint.

    Args:
        nodes: all nodes of the main graph, by name.
        checkpoint: has the values.
        restore_op: what restores the variables; empty where it is not known.
        wishes: of the user.
    """

    def __init__(
        self,
        nodes: Mapping[str, Node],
        checkpoint: Checkpoint,
        restore_op: str = "",
        wishes: Wishes = NO_WISHES,
    ) -> None:
        self._checkpoint = checkpoint
        self._wishes = wishes
        self._restored = _restored(nodes, restore_op)
        self._objects: Optional[Dict[str, str]] = None
        self._used: Set[int] = set()
        self._averages = 0

    def value(self, variable: Node) -> Value:
        """Where the value of a variable is.

        Raises:
            InputError: the checkpoint has no such tensor.
        """
        for key, cut in self._keys(variable):
            tensor = self._checkpoint.tensors.get(key)
            if tensor is not None:
                return Value(tensor, self._region(tensor, cut))
        raise InputError(self._missing(variable))

    def has(self, variable: Node) -> bool:
        """Whether the checkpoint has a value for a variable."""
        return any(key in self._checkpoint.tensors for key, _ in self._keys(variable))

    def check_wishes(self) -> None:
        """Complain of wishes that had no effect.

        Raises:
            InputError: a rename names no variable that is needed, or there is no average.
        """
        for number, (source, target) in enumerate(self._wishes.rename):
            if number not in self._used:
                raise InputError(
                    f"--rename {source}={target}: no variable that the outputs need is named "
                    f"{source!r}"
                )
        if self._wishes.ema is not None and not self._averages:
            raise InputError(
                f"no variable has a moving average (NAME/{self._wishes.ema}) in "
                f"{self._checkpoint.prefix}: leave --ema out or give the suffix that is used there"
            )

    def _keys(self, variable: Node) -> List[Tuple[str, str]]:
        """(key, slice) pairs in the order in which they are to be tried."""
        known = self._restored.get(variable.name, [])
        named = [*known, (variable.name, "")]
        for name, cut in named:
            renamed = self._renamed(name)
            if renamed is not None:
                return [(renamed, cut)]
        if self._wishes.ema is not None:
            for name, cut in named:
                key = f"{name}/{self._wishes.ema}"
                if key in self._checkpoint.tensors:
                    self._averages += 1
                    return [(key, cut)]
        shared = shared_name(variable)
        if shared:
            named.append((shared, ""))
        for name in (variable.name, shared):
            if name in self._by_object():
                named.append((self._by_object()[name], ""))
        return named

    def _renamed(self, name: str) -> Optional[str]:
        found = None
        for number, (source, target) in enumerate(self._wishes.rename):
            if name == source:
                found = target
            elif source.endswith("/") and name.startswith(source):
                found = target + name[len(source) :]
            else:
                continue
            self._used.add(number)
        return found

    def _region(self, tensor: StoredTensor, cut: str) -> Optional[Region]:
        """Read a slice as the saver writes it: ``7 300 0,7:0,75``; nothing means all."""
        if not cut:
            return None
        written = []
        try:
            for part in cut.split(" ")[-1].split(":"):
                start, _, length = part.partition(",")
                written.append((0, -1) if part == "-" else (int(start), int(length)))
        except ValueError as error:
            raise InputError(f"the saver's slice {cut!r} of {tensor.name!r} is broken") from error
        return resolved(written, tensor.shape)

    def _by_object(self) -> Dict[str, str]:
        """Full name of a variable -> key, of checkpoints by tf.train.Checkpoint and tf.keras."""
        if self._objects is None:
            self._objects = {}
            stored = self._checkpoint.tensors.get(_OBJECT_GRAPH)
            if stored is not None:
                for content in read_strings(stored)[:1]:
                    for item in Message(content).messages(_OBJECT):
                        for attribute in item.messages(_OBJECT_ATTRIBUTE):
                            name = attribute.text(_ATTRIBUTE_FULL_NAME, "a variable's name")
                            if name:
                                key = attribute.text(_ATTRIBUTE_KEY, "a checkpoint's key")
                                self._objects[name] = key
        return self._objects

    def _missing(self, variable: Node) -> str:
        tried = [key for key, _ in self._keys(variable)]
        near = close(tried[0], list(self._checkpoint.tensors), 1, 0.5)
        hint = f" (the nearest there is {near[0]!r})" if near else ""
        key = f" (as {tried[0]!r})" if tried[0] != variable.name else ""
        return (
            f"variable {variable.name!r} is not in the checkpoint {self._checkpoint.prefix}"
            f"{key}{hint}: is it the checkpoint of this graph? --rename {variable.name}=KEY takes "
            "it from elsewhere"
        )


def _restored(nodes: Mapping[str, Node], restore_op: str) -> Dict[str, List[Tuple[str, str]]]:
    """Variable -> (key, slice) pairs of the savers; of that of ``restore_op`` where it is known."""
    assigns = [node for node in nodes.values() if node.op in _ASSIGN_OPS]
    if restore_op in nodes:
        behind = _ancestors(nodes, restore_op)
        assigns = [node for node in assigns if node.name in behind]
    found: Dict[str, List[Tuple[str, str]]] = {}
    lists: Dict[str, Sequence[str]] = {}
    for assign in assigns:
        if len(assign.data_inputs) < 2:
            continue
        variable = TensorRef.parse(assign.data_inputs[0]).node
        source = _restore_op(nodes, assign.data_inputs[1])
        if source is None:
            continue
        node, port = source
        names_slot, cuts_slot = _RESTORE_OPS[node.op]
        names = _strings(nodes, node, names_slot, lists)
        cuts = _strings(nodes, node, cuts_slot, lists) if cuts_slot is not None else ()
        if port < len(names):
            cut = cuts[port] if port < len(cuts) else ""
            found.setdefault(variable, []).append((names[port], cut))
    return found


def _restore_op(nodes: Mapping[str, Node], name: str) -> Optional[Tuple[Node, int]]:
    """The restore op that a value comes from, and which of its outputs."""
    for _ in range(_MAX_HOPS):
        ref = TensorRef.parse(name)
        node = nodes.get(ref.node)
        if node is None:
            return None
        if node.op in _RESTORE_OPS:
            return node, ref.port
        if node.op not in ("Identity", "Reshape", "Cast") or not node.data_inputs:
            return None
        name = node.data_inputs[0]
    return None


def _strings(
    nodes: Mapping[str, Node], node: Node, slot: int, known: Dict[str, Sequence[str]]
) -> Sequence[str]:
    if slot >= len(node.data_inputs):
        return ()
    name = TensorRef.parse(node.data_inputs[slot]).node
    if name not in known:
        constant = nodes.get(name)
        tensor = constant.tensor() if constant is not None and constant.op == "Const" else None
        values = [] if tensor is None else tensor.numpy().reshape(-1).tolist()
        known[name] = [
            value.decode("utf-8", "replace") for value in values if isinstance(value, bytes)
        ]
    return known[name]


def _ancestors(nodes: Mapping[str, Node], name: str) -> Set[str]:
    pending, seen = [name], {name}
    while pending:
        for item in nodes[pending.pop()].inputs:
            source = TensorRef.parse(item).node
            if source in nodes and source not in seen:
                seen.add(source)
                pending.append(source)
    return seen
