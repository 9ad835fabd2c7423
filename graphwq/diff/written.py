"""The attributes of a node as they are written, cut off without parsing them."""

from __future__ import annotations

from typing import Optional

from graphwq.graphdef.node import Node, preamble
from graphwq.graphdef.wire import LENGTH_DELIMITED, read_varint

_ATTR = 5
_ATTR_TAG = _ATTR << 3 | LENGTH_DELIMITED


def attr_fields(node: Node) -> Optional[memoryview]:
    """The attributes as they are written, behind everything else of the node.

    None for a node whose fields are written in another order, or that has other fields.
    """
    if node.payload is not None:
        return None
    head = preamble(node.name, node.op, node.inputs, node.device)
    raw = memoryview(node.raw)
    position, end = len(head), len(raw)
    if raw[:position] != head:
        return None
    tail = raw[position:]
    while position < end:
        if raw[position] != _ATTR_TAG or position + 1 == end:
            return None
        size = raw[position + 1]
        position += 2
        if size >= 0x80:
            size, position = read_varint(raw, position - 1, end)
        position += size
    return tail if position == end else None
