"""Protobuf messages as trees that can be cut and joined: what the mutators work on.

A tree is a list of fields; a field is ``[number, wire type, value]`` where the value is an int,
bytes or, where a schema says that the field is a message, a tree. Reading is tolerant: what does
not fit the schema stays bytes.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.wire import (
    FIXED32,
    FIXED64,
    VARINT,
    delimited,
    fields,
    read_varint,
    tag,
    varint,
)

Tree = List[List[Any]]
#: Message -> field number -> message in that field.
Schema = Dict[str, Dict[int, str]]

#: tensorflow/core/framework/*.proto, core/protobuf/{meta_graph,saved_model,tensor_bundle}.proto,
#: core/util/saved_tensor_slice.proto and MNN_compression.proto, as far as they have messages.
SCHEMA: Schema = {
    "Graph": {1: "Node", 2: "Library", 4: "Leaf"},
    "Node": {5: "Attr"},
    "Attr": {2: "Value"},
    "Value": {1: "Listed", 7: "Shape", 8: "Tensor", 10: "Call"},
    "Listed": {7: "Shape", 8: "Tensor", 9: "Call"},
    "Call": {2: "Attr"},
    "Shape": {2: "Leaf"},
    "Tensor": {2: "Shape"},
    "Leaf": {},
    "Library": {1: "Function", 2: "Leaf"},
    "Function": {1: "Signature", 3: "Node", 4: "Leaf", 5: "Attr"},
    "Signature": {2: "Leaf", 3: "Leaf", 4: "Leaf"},
    "SavedModel": {2: "MetaGraph"},
    "MetaGraph": {1: "Leaf", 2: "Graph", 3: "Leaf", 4: "Leaf", 5: "SignatureEntry"},
    "SignatureEntry": {2: "SignatureDef"},
    "SignatureDef": {1: "TensorEntry", 2: "TensorEntry"},
    "TensorEntry": {2: "TensorInfo"},
    "TensorInfo": {3: "Shape", 4: "Leaf"},
    "BundleHeader": {3: "Leaf"},
    "BundleEntry": {2: "Shape", 7: "Slice"},
    "Slice": {1: "Leaf"},
    "SavedSlices": {1: "SlicesMeta", 2: "SliceData"},
    "SlicesMeta": {1: "SliceMeta", 2: "Leaf"},
    "SliceMeta": {2: "Shape", 4: "Slice"},
    "SliceData": {2: "Slice", 3: "Tensor"},
    "Pipeline": {2: "Algo"},
    "Algo": {2: "Quantize", 3: "Leaf"},
    "Quantize": {4: "Layer"},
    "Layer": {1: "Leaf", 2: "Leaf", 3: "Leaf", 8: "Leaf"},
}


def parse(data: bytes, kind: str) -> Optional[Tree]:
    """The tree of a message, None where the bytes are no message."""
    inner = SCHEMA[kind]
    tree: Tree = []
    try:
        for number, wire_type, _, value, end in fields(data):
            if wire_type == VARINT:
                tree.append([number, wire_type, read_varint(data, value, end)[0]])
                continue
            content: Any = bytes(data[value:end])
            if wire_type not in (FIXED32, FIXED64) and number in inner:
                content = parse(content, inner[number]) or content
            tree.append([number, wire_type, content])
    except InputError:
        return None
    return tree


def to_bytes(tree: Tree) -> bytes:
    """The message of a tree."""
    parts = []
    for number, wire_type, value in tree:
        if wire_type == VARINT:
            parts.append(tag(number, wire_type) + varint(value & ((1 << 64) - 1)))
        elif wire_type in (FIXED32, FIXED64):
            parts.append(tag(number, wire_type) + value)
        else:
            parts.append(delimited(number, value if isinstance(value, bytes) else to_bytes(value)))
    return b"".join(parts)


def walk(tree: Tree, kind: str) -> Iterator[Tuple[Tree, int, str]]:
    """Every field: (the tree that it is in, its index there, the message that this tree is)."""
    inner = SCHEMA[kind]
    for index, (number, _, value) in enumerate(tree):
        yield tree, index, kind
        if isinstance(value, list):
            yield from walk(value, inner[number])
