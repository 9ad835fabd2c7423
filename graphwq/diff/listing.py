"""A graph as lines of text, one a node, for tools that compare lines."""

from __future__ import annotations

import hashlib
from typing import Iterator

import numpy as np

from graphwq.diff import values
from graphwq.diff.attrs import default, show
from graphwq.diff.constants import tensor_of_node
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph, Scope
from graphwq.graphdef.node import Node
from graphwq.graphdef.tensor import Tensor
from graphwq.text import printable, shortened, size

_LONG = 300
_HASH = 12


def listing(graph: Graph) -> Iterator[str]:
    """The nodes in file order; what has its default is left out, constants are summed up."""
    for scope in graph.scopes:
        if scope.name:
            yield f"function {_name(scope.name)}({', '.join(map(_name, scope.arguments))})"
        yield from _scope(scope)


def _scope(scope: Scope) -> Iterator[str]:
    indent = "  " if scope.name else ""
    for node in scope.nodes:
        yield f"{indent}{_name(node.name)} = {_what(node)}"
    if scope.name:
        yield f"{indent}return {', '.join(map(_name, scope.returns))}"


def _name(text: str) -> str:
    return shortened(printable(text), _LONG)


def _what(node: Node) -> str:
    parts = [f"{_name(node.op)}({', '.join(map(_name, node.inputs))})"]
    tensor = tensor_of_node(node) if node.op == "Const" else None
    for key, value in sorted(node.attr_bytes().items()):
        is_known = tensor is not None and key in ("dtype", "value")
        if is_known or key.startswith("_") or bytes(value) == default(node.op, key):
            continue
        parts.append(f"{_name(key)}={show(bytes(value))}")
    if tensor is not None:
        parts.append(_constant(tensor))
    if node.device:
        parts.append(f"on {_name(node.device)}")
    return " ".join(parts)


def _constant(tensor: Tensor) -> str:
    """Type, and the values where they are few; else their range and a hash."""
    about = values.describe_type(tensor.dtype, tensor.shape)
    shown = values.show(tensor)
    if shown is not None:
        return f"{about} {shown}"
    if not tensor.size:
        return about
    digest = hashlib.sha256(tensor.content or tensor.raw).hexdigest()[:_HASH]
    try:
        array = values.numbers(tensor)
    except InputError:
        array = None
    if array is None:
        return f"{about} {digest}"
    with np.errstate(invalid="ignore"):
        low, high = float(array.min()), float(array.max())
    return f"{about} {low:.6g}..{high:.6g} {size(len(tensor.raw))} {digest}"
