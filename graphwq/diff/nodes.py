"""Two nodes that stand for the same thing: what is different between them, in meaning."""

from __future__ import annotations

from itertools import zip_longest
from typing import Iterator, Tuple

from graphwq.diff import values
from graphwq.diff.attrs import AttrChange, changed_attrs, show
from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.constants import compare_constants, tensor_of_node
from graphwq.diff.values import same_bytes
from graphwq.graphdef.node import Node, TensorRef
from graphwq.graphdef.wire import LENGTH_DELIMITED, fields
from graphwq.survey.sites import qualified
from graphwq.text import name, plural, size

PLACEHOLDERS = frozenset(["Placeholder", "PlaceholderV2", "PlaceholderWithDefault"])

#: Attributes that say how, not what, is computed.
_HOW = frozenset(
    ["use_cudnn_on_gpu", "parallel_iterations", "swap_memory", "use_locking", "summarize"]
)
_KNOWN_FIELDS = 5


def compare_nodes(scope: str, old: Node, new: Node) -> Tuple[Change, ...]:
    """What differs between two nodes that were matched; () where they mean the same.

    Args:
        scope: the function they stand in, "" for the main graph.
        old, new: the nodes; their own names are not compared.

    Nodes that mean the same and are written differently give one ``encoding_changed``.

    Raises:
        InputError: a damaged attribute.
    """
    if same_bytes(old.to_bytes(), new.to_bytes()):
        return ()
    path = qualified(scope, old.name)
    found = [
        *_op(path, old, new),
        *_inputs(path, old, new),
        *_attrs(path, old, new),
        *_device(path, old, new),
        *_debug_info(path, old, new),
    ]
    if not found:
        found.append(
            Change(
                Kind.ENCODING_CHANGED,
                path,
                Severity.BENIGN,
                "written differently, means the same",
                {"op": new.op},
                reason="the same node in other bytes",
            )
        )
    return tuple(found)


def _op(path: str, old: Node, new: Node) -> Iterator[Change]:
    if old.op == new.op:
        return
    is_interface = old.op in PLACEHOLDERS or new.op in PLACEHOLDERS
    yield Change(
        Kind.OP_CHANGED,
        path,
        Severity.BREAKING if is_interface else Severity.NUMERIC,
        f"{name(old.op)} became {name(new.op)}",
        {"old": old.op, "new": new.op},
        reason="an input of the model is another op" if is_interface else "computes something else",
    )


def _inputs(path: str, old: Node, new: Node) -> Iterator[Change]:
    pairs = zip_longest(old.data_inputs, new.data_inputs)
    for slot, (before, after) in enumerate(pairs):
        if before == after:
            continue
        if before is not None and after is not None:
            if TensorRef.parse(before) == TensorRef.parse(after):
                continue
            message = f"input {slot} comes from {name(after)} instead of {name(before)}"
        elif after is not None:
            message = f"has a new input {slot} from {name(after)}"
        else:
            message = f"lost its input {slot} from {name(before or '')}"
        yield Change(
            Kind.INPUT_REWIRED,
            path,
            Severity.NUMERIC,
            message,
            {"slot": slot, "old": before, "new": after},
            reason="computes with another tensor",
        )
    before_set = {item[1:] for item in old.control_inputs}
    after_set = {item[1:] for item in new.control_inputs}
    if before_set != after_set:
        added, removed = sorted(after_set - before_set), sorted(before_set - after_set)
        parts = [f"waits for {name(item)} now" for item in added[:3]]
        parts += [f"does not wait for {name(item)} any more" for item in removed[:3]]
        yield Change(
            Kind.CONTROL_INPUT_CHANGED,
            path,
            Severity.NUMERIC,
            ", ".join(parts) + (", ..." if len(added) > 3 or len(removed) > 3 else ""),
            {"added": added, "removed": removed},
            reason="decides when, and in which loop or branch, the node runs",
        )


def _attrs(path: str, old: Node, new: Node) -> Iterator[Change]:
    both_const = old.op == new.op == "Const"
    typed = both_const or (old.op in PLACEHOLDERS and new.op in PLACEHOLDERS)
    for changed in changed_attrs(old, new):
        if typed and changed.key in ("dtype", "shape"):
            if not both_const:
                yield _interface(path, changed)
            elif _dtype(old) == _dtype(new):  # else the tensors say it
                yield _attr(path, new, changed)
            continue
        yield _attr(path, new, changed)
    if both_const:
        yield from compare_constants(path, old, new)


def _dtype(constant: Node) -> int:
    tensor = tensor_of_node(constant)
    return 0 if tensor is None else tensor.dtype


def _attr(path: str, node: Node, changed: AttrChange) -> Change:
    benign = changed.key.startswith("_") or changed.key in _HOW
    before, after = show(changed.old), show(changed.new)
    return Change(
        Kind.ATTR_CHANGED,
        path,
        Severity.BENIGN if benign else Severity.NUMERIC,
        f"{name(changed.key)} of {name(node.op)}: {before} -> {after}",
        {"attr": changed.key, "old": before, "new": after, "op": node.op},
        reason="does not change what is computed" if benign else "computes something else",
    )


def _interface(path: str, changed: AttrChange) -> Change:
    is_dtype = changed.key == "dtype"
    before, after = show(changed.old), show(changed.new)
    return Change(
        Kind.DTYPE_CHANGED if is_dtype else Kind.SHAPE_CHANGED,
        path,
        Severity.BREAKING,
        f"{changed.key} of the placeholder: {before} -> {after}",
        {"old": before, "new": after},
        reason="what is fed must be of another " + ("type" if is_dtype else "shape"),
    )


def _device(path: str, old: Node, new: Node) -> Iterator[Change]:
    if old.device != new.device:
        yield Change(
            Kind.DEVICE_CHANGED,
            path,
            Severity.BENIGN,
            f"device {name(old.device) or 'none'} -> {name(new.device) or 'none'}",
            {"old": old.device, "new": new.device},
            reason="says where the node runs, not what it computes",
        )


def _debug_info(path: str, old: Node, new: Node) -> Iterator[Change]:
    before, after = _other_fields(old), _other_fields(new)
    if before != after:
        yield Change(
            Kind.DEBUG_INFO_CHANGED,
            path,
            Severity.BENIGN,
            "debug information or unknown fields changed",
            {"old_fields": len(before), "new_fields": len(after)},
            reason="not read when the graph runs",
        )


def _other_fields(node: Node) -> Tuple[bytes, ...]:
    raw = memoryview(node.to_bytes())
    return tuple(
        sorted(
            bytes(raw[begin:end])
            for number, wire_type, begin, _, end in fields(raw)
            if number > _KNOWN_FIELDS or wire_type != LENGTH_DELIMITED
        )
    )


def added(scope: str, node: Node) -> Change:
    """The change of a node that OLD does not have."""
    return _alone(scope, node, Kind.NODE_ADDED, "new")


def removed(scope: str, node: Node) -> Change:
    """The change of a node that NEW does not have."""
    return _alone(scope, node, Kind.NODE_REMOVED, "removed")


#: Ops that by themselves compute nothing: what they change shows where they are used.
_PASSIVE = frozenset(
    ["Const", "Identity", "IdentityN", "NoOp", "Assert", "CheckNumerics", "StopGradient"]
)


def _alone(scope: str, node: Node, kind: Kind, word: str) -> Change:
    passive = node.op in _PASSIVE
    about = _what(node)
    return Change(
        kind,
        qualified(scope, node.name),
        Severity.BENIGN if passive else Severity.NUMERIC,
        f"{word} {about}",
        {"op": node.op, "inputs": list(node.inputs), "bytes": node.nbytes},
        reason="computes nothing by itself" if passive else "the computation has other steps",
    )


def _what(node: Node) -> str:
    """An op with its inputs, a constant with its type."""
    tensor = tensor_of_node(node) if node.op == "Const" else None
    if tensor is not None:
        return f"Const {values.describe_type(tensor.dtype, tensor.shape)}, {size(node.nbytes)}"
    if not node.inputs:
        return name(node.op)
    few = [name(item) for item in node.inputs[:3]]
    if len(node.inputs) > 3:
        few.append(f"and {plural(len(node.inputs) - 3, 'input')} more")
    return f"{name(node.op)}({', '.join(few)})"
