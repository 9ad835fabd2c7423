"""What of a graph the outputs need, and what the outputs are where nobody says."""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.node import CONTROL, Node, TensorRef
from graphwq.graphdef.spelling import close
from graphwq.graphdef.variable import is_writer

#: Inputs of a graph.
_FED = re.compile(r"^(Placeholder|Iterator|OneShotIterator|QueueDequeue|ReaderRead|ParseExample)")
#: Ops that only look on: a tensor that nobody else uses is unused.
_SIDE = (
    r"(\w*Summary(V2)?|Assert|NoOp|\w*Enqueue\w*|QueueClose\w*|QueueSize\w*|Save\w*|Restore\w*|"
    r"MergeV2Checkpoints|ShardedFilename|ReportUninitialized\w*|\w*Dataset\w*|MakeIterator|"
    r"Initialize\w*|LookupTableImport\w*|LookupTableInsert\w*"
)
_SIDE_OP = re.compile(_SIDE + ")$")
#: These, inputs, and the ends of branches are no results.
_NO_OUTPUT = re.compile(
    _SIDE + r"|Const|Variable\w*|VarHandleOp|VarIsInitializedOp|IsVariableInitialized|HashTable\w*|"
    r"Placeholder\w*|Iterator\w*|OneShotIterator|\w*Queue(V2)?|(Ref)?Switch|(Ref)?Enter|LoopCond)$"
)
#: The scopes in which tf.gradients puts its nodes.
_GRADIENTS = re.compile(r"(^|/)gradients(_\d+)?/")
_COLOCATED = b"loc:@"


def output_nodes(nodes: Mapping[str, Node], outputs: Sequence[str]) -> Tuple[str, ...]:
    """The nodes of outputs given as ``node``, ``node:0`` or ``^node``.

    Raises:
        InputError: there is no such node; the message has the nearest name.
    """
    found: Dict[str, None] = {}
    for output in outputs:
        name = TensorRef.parse(output.strip()).node
        if name not in nodes:
            near = close(name, list(nodes), 3)
            hint = f" (is {' or '.join(repr(item) for item in near)} meant?)" if near else ""
            raise InputError(f"there is no node {name!r} for the output {output!r}{hint}")
        found[name] = None
    return tuple(found)


def needed(nodes: Mapping[str, Node], outputs: Iterable[str]) -> Set[str]:
    """The nodes that the outputs need, by data, control and colocation, like TensorFlow's own tool.

    An update of a variable that is only waited for is not needed: constants are not updated.
    """
    seen = set(outputs)
    pending = list(seen)
    while pending:
        node = nodes[pending.pop()]
        for name in (*node.inputs, *(f"^{item}" for item in colocated(node))):
            ref = TensorRef.parse(name)
            source = nodes.get(ref.node)
            if source is None or ref.node in seen or not _is_followed(node, ref, source):
                continue
            seen.add(ref.node)
            pending.append(ref.node)
    return seen


def _is_followed(node: Node, ref: TensorRef, source: Node) -> bool:
    return ref.port != CONTROL or not (is_writer(source) or node.op == "ReadVariableOp")


def colocated(node: Node) -> List[str]:
    """The nodes with which a node is to share a device."""
    content = node.attr_heads().get("_class")
    if content is None or _COLOCATED not in bytes(content):
        return []
    attr = node.attr("_class")
    names = attr.list.s if attr is not None else ()
    return [
        name[len(_COLOCATED) :].decode("utf-8", "replace")
        for name in names
        if name.startswith(_COLOCATED)
    ]


def guess_outputs(nodes: Mapping[str, Node], missing: Iterable[str] = ()) -> Tuple[str, ...]:
    """The nodes whose results nobody uses, but for training, saving and initializing.

    What depends on a gradient, an update or one of the nodes that are ``missing`` is no output.
    What does not depend on an input of the graph is left out where anything does (initial values).

    Raises:
        InputError: there are none.
    """
    users: Dict[str, List[str]] = {name: [] for name in nodes}
    for node in nodes.values():
        for name in node.data_inputs:
            source = TensorRef.parse(name).node
            if source in users:
                users[source].append(node.name)
    ignored = {node.name for node in nodes.values() if _is_no_inference(node, nodes)}
    excluded = _reached(users, [*ignored, *missing])
    sinks = [
        name
        for name, node in nodes.items()
        if name not in excluded
        and not _NO_OUTPUT.match(node.op)
        and all(user in ignored or _SIDE_OP.match(nodes[user].op) for user in users[name])
    ]
    fed = _reached(users, [node.name for node in nodes.values() if _FED.match(node.op)])
    found = [name for name in sinks if name in fed] or sinks
    if not found:
        raise InputError("the outputs of the graph cannot be guessed: name them with --outputs")
    return tuple(found)


def _is_no_inference(node: Node, nodes: Mapping[str, Node]) -> bool:
    """Whether a node is a gradient, changes a variable, or waits for a checkpoint to be written."""
    if is_writer(node) or _GRADIENTS.search(node.name) is not None:
        return True
    waited = (nodes.get(name[1:]) for name in node.control_inputs)
    return any(source is not None and source.op.startswith("Save") for source in waited)


def _reached(users: Mapping[str, Sequence[str]], sources: Sequence[str]) -> FrozenSet[str]:
    pending, seen = list(sources), set(sources)
    while pending:
        for user in users[pending.pop()]:
            if user not in seen:
                seen.add(user)
                pending.append(user)
    return frozenset(seen)
