"""Nodes that are variables, and nodes that change them."""

from __future__ import annotations

from typing import Optional, Tuple

from graphwq.graphdef.node import Node
from graphwq.graphdef.tensor import parse_shape
from graphwq.graphdef.wire import LENGTH_DELIMITED, fields

VARIABLE_OPS = ("VariableV2", "Variable", "VarHandleOp")

#: Ops that change a variable begin like this ...
_WRITERS = (
    "Assign",
    "Apply",
    "SparseApply",
    "ResourceApply",
    "ResourceSparseApply",
    "ResourceScatter",
    "ResourceStridedSliceAssign",
    "ResourceCountUpTo",
    "StridedSliceAssign",
    "Scatter",
    "CountUpTo",
)
#: ... but these do not.
_NO_WRITERS = ("ScatterNd", "ScatterNdNonAliasingAdd")

#: AttrValue.s and AttrValue.shape
_ATTR_STRING, _ATTR_SHAPE = 2, 7


def is_writer(node: Node) -> bool:
    """Whether an op changes a variable."""
    return node.op.startswith(_WRITERS) and node.op not in _NO_WRITERS


def declared_shape(node: Node) -> Optional[Tuple[int, ...]]:
    """The shape that a variable declares, -1 where a size is not known; None without a rank."""
    content = _attr(node, "shape", _ATTR_SHAPE)
    return None if content is None else parse_shape(content)


def shared_name(node: Node) -> str:
    """The ``shared_name`` of a variable."""
    content = _attr(node, "shared_name", _ATTR_STRING)
    return "" if content is None else str(content, "utf-8", "replace")


def _attr(node: Node, key: str, kind: int) -> Optional[memoryview]:
    content = node.attr_heads().get(key)
    if content is not None:
        for number, wire_type, _, value, end in fields(content):
            if number == kind and wire_type == LENGTH_DELIMITED:
                return content[value:end]
    return None
