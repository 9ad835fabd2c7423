"""What others know of a graph: its placeholders and its outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import FrozenSet, Set

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.nodes import PLACEHOLDERS, added, removed
from graphwq.graphdef.graph import Scope
from graphwq.graphdef.node import Node, producer

#: Ops without a consumer that nobody fetches for a value.
_NO_OUTPUT = PLACEHOLDERS | {"Const", "NoOp", "Assert", "Print", "PrintV2"}


def outputs(scope: Scope) -> FrozenSet[str]:
    """The nodes whose tensors nothing in the graph uses: what a user fetches."""
    if scope.name:
        return frozenset()
    used: Set[str] = set()
    for node in scope.nodes:
        used.update(producer(item)[0] for item in node.inputs)
    return frozenset(
        node.name for node in scope.nodes if node.op not in _NO_OUTPUT and node.name not in used
    )


def removed_node(scope: str, node: Node, is_output: bool) -> Change:
    """The change of a node that NEW does not have."""
    change = removed(scope, node)
    if scope:
        return change
    if node.op in PLACEHOLDERS:
        return replace(
            change,
            kind=Kind.PLACEHOLDER_REMOVED,
            severity=Severity.BREAKING,
            reason="nobody can feed it any more",
        )
    if is_output:
        return replace(
            change,
            kind=Kind.OUTPUT_REMOVED,
            severity=Severity.BREAKING,
            reason="nobody can fetch it any more",
        )
    return change


def added_node(scope: str, node: Node, is_output: bool) -> Change:
    """The change of a node that OLD does not have."""
    change = added(scope, node)
    if scope:
        return change
    if node.op == "PlaceholderWithDefault":
        return replace(change, kind=Kind.PLACEHOLDER_ADDED, reason="can be fed, need not be")
    if node.op in PLACEHOLDERS:
        return replace(
            change,
            kind=Kind.PLACEHOLDER_ADDED,
            severity=Severity.BREAKING,
            reason="must be fed from now on",
        )
    if is_output:
        return replace(
            change,
            kind=Kind.OUTPUT_ADDED,
            severity=Severity.BENIGN,
            reason="whoever does not fetch it sees no difference",
        )
    return change


def retyped_output(change: Change) -> Change:
    """A changed attribute of an output: breaking where it is a type of tensors."""
    types = {"float16", "float32", "float64", "bfloat16", "int8", "uint8", "int16", "int32"}
    types |= {"int64", "uint16", "uint32", "uint64", "bool", "string", "complex64", "complex128"}
    if change.kind is not Kind.ATTR_CHANGED or change.severity is Severity.BENIGN:
        return change
    if not {change.detail["old"], change.detail["new"]} <= types:
        return change
    return replace(
        change, severity=Severity.BREAKING, reason="the output may have another type of values"
    )
