"""NodeDef as a value: the raw bytes are the truth, everything else is a view of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Mapping, Optional, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.tensor import Tensor, encode_header, parse_tensor
from graphwq.graphdef.wire import (
    LENGTH_DELIMITED,
    VARINT,
    Buffer,
    WireError,
    delimited,
    fields,
    header,
    read_varint,
    tag,
    text,
    varint,
)

if TYPE_CHECKING:
    from graphwq.graphdef.protos import AttrValue

_NAME, _OP, _INPUT, _DEVICE, _ATTR = 1, 2, 3, 4, 5
_KEY, _VALUE = 1, 2
_ATTR_STRING, _ATTR_INT, _ATTR_BOOL, _ATTR_TYPE, _ATTR_TENSOR, _ATTR_LAST = 2, 3, 5, 6, 8, 10

CONTROL = -1

#: Field -> size below 128 -> tag and size, as written.
_HEADS = {
    number: [header(number, size) for size in range(0x80)]
    for number in (_NAME, _OP, _INPUT, _DEVICE)
}

#: The attribute of a new constant that ends in the payload.
_PAYLOAD_KEY = "value"


@dataclass(frozen=True)
class TensorRef:
    """One input of a node as written in the file.

    Attributes:
        node: name of the producing node (or, in a function, of an argument).
        port: index of the output; -1 is a control edge.
        output: in a function body the name of the output argument, else "".
    """

    node: str
    port: int = 0
    output: str = ""

    @classmethod
    def parse(cls, name: str) -> TensorRef:
        """Read ``node``, ``node:1``, ``^node`` or, in a function body, ``node:output:0``."""
        if name.startswith("^"):
            return cls(name[1:], CONTROL)
        node, _, rest = name.partition(":")
        if not rest:
            return cls(node)
        output, _, port = rest.rpartition(":")
        if not (port.isascii() and port.isdigit()):
            return cls(node, 0, rest)
        return cls(node, int(port), output)


def producer(written: str) -> Tuple[str, int]:
    """(node, port) of an input as written; much quicker than TensorRef where it is a plain name."""
    if ":" not in written and not written.startswith("^"):
        return written, 0
    ref = TensorRef.parse(written)
    return ref.node, ref.port


@dataclass(frozen=True)
class Node:
    """A NodeDef.

    Attributes:
        name, op, inputs, device: the fields of those names, ``inputs`` as written.
        raw: the serialized NodeDef; of a node with a ``payload`` all bytes before it.
        payload: the ``tensor_content`` of a new constant, which ends the message. It is kept apart
            so that writing does not copy it.
        frame: the field as it stands in the file, tag and length included; None for a new node.
    """

    name: str
    op: str
    inputs: Tuple[str, ...]
    device: str
    raw: Buffer
    payload: Optional[memoryview] = None
    frame: Optional[memoryview] = None

    @property
    def nbytes(self) -> int:
        """Bytes of the serialized NodeDef, without tag and length."""
        return len(self.raw) + (self.payload.nbytes if self.payload is not None else 0)

    @property
    def data_inputs(self) -> Tuple[str, ...]:
        """The inputs that carry a tensor."""
        found: Optional[Tuple[str, ...]] = self.__dict__.get("_data_inputs")
        if found is None:
            found = tuple(name for name in self.inputs if not name.startswith("^"))
            self.__dict__["_data_inputs"] = found
        return found

    @property
    def control_inputs(self) -> Tuple[str, ...]:
        """The control inputs, each with its leading ``^``."""
        return tuple(name for name in self.inputs if name.startswith("^"))

    def attr_bytes(self) -> Mapping[str, memoryview]:
        """The serialized AttrValue of each attribute; of a key that occurs twice the last.

        The payload of a new constant is copied here; see ``attr_heads``.
        """
        found = self.attr_heads()
        if self.payload is not None:
            found[_PAYLOAD_KEY] = memoryview(b"".join((found[_PAYLOAD_KEY], self.payload)))
        return found

    def attr_heads(self) -> Dict[str, memoryview]:
        """Like ``attr_bytes``, but a payload is left out at the end of the value it belongs to."""
        raw = memoryview(self.raw)
        found: Dict[str, memoryview] = {}
        for number, wire_type, _, value, end in fields(raw, 0, self.nbytes):
            if number != _ATTR or wire_type != LENGTH_DELIMITED:
                continue
            key, content = "", raw[end:end]
            for sub, sub_type, _, sub_value, sub_end in fields(raw, value, end):
                if sub_type == LENGTH_DELIMITED and sub == _KEY:
                    key = text(raw, sub_value, sub_end, "an attribute's name")
                elif sub_type == LENGTH_DELIMITED and sub == _VALUE:
                    content = raw[sub_value:sub_end]
            found[key] = content
        return found

    def attr(self, key: str) -> Optional[AttrValue]:
        """Parse a copy of one attribute; None where the node does not set it.

        Raises:
            InputError: the attribute is not an AttrValue.
        """
        from graphwq.graphdef.protos import AttrValue, DecodeError

        content = self.attr_bytes().get(key)
        if content is None:
            return None
        try:
            list(fields(content))  # the parser itself stops at an end-group tag without a word
            return AttrValue.FromString(bytes(content))
        except (DecodeError, WireError) as error:
            raise WireError(
                f"attribute {key!r} of node {self.name!r} cannot be parsed: the file is damaged"
            ) from error

    def tensor(self, key: str = "value") -> Optional[Tensor]:
        """Cut the tensor of an attribute open without copying it; None where there is none.

        Raises:
            InputError: not a TensorProto, or one that does not match its own shape.
        """
        content = self.attr_heads().get(key)
        if content is None:
            return None
        payload = self.payload if key == _PAYLOAD_KEY else None
        size = len(content) + (0 if payload is None else payload.nbytes)
        found = None
        for number, wire_type, _, value, end in fields(content, 0, size):
            if number == _ATTR_TENSOR and wire_type == LENGTH_DELIMITED:
                found = content[value:end]
        if found is None:
            return None
        try:
            return parse_tensor(found, payload)
        except InputError as error:
            raise InputError(f"constant {self.name!r}: {error}") from error

    def to_bytes(self) -> Buffer:
        """The whole serialized NodeDef."""
        if self.payload is None:
            return self.raw
        return b"".join((bytes(self.raw), self.payload))


def parse_node(buffer: memoryview, begin: int, end: int, frame_begin: int) -> Node:
    """Read the NodeDef in ``buffer[begin:end]`` whose field starts at ``frame_begin``.

    Raises:
        InputError: not a NodeDef.
    """
    name = op = device = ""
    inputs = []
    for number, wire_type, _, value, stop in fields(buffer, begin, end):
        if number == _ATTR or wire_type != LENGTH_DELIMITED:
            continue
        if number == _INPUT:
            inputs.append(text(buffer, value, stop, "a node's input"))
        elif number == _NAME:
            name = text(buffer, value, stop, "a node's name")
        elif number == _OP:
            op = text(buffer, value, stop, "a node's op")
        elif number == _DEVICE:
            device = text(buffer, value, stop, "a node's device")
    return Node(name, op, tuple(inputs), device, buffer[begin:end], None, buffer[frame_begin:end])


def attr_type(dtype: int) -> bytes:
    """The AttrValue of a DataType."""
    return tag(_ATTR_TYPE, VARINT) + varint(dtype)


def attr_int(value: int) -> bytes:
    """The AttrValue of an integer."""
    return tag(_ATTR_INT, VARINT) + varint(value if value >= 0 else value + (1 << 64))


def attr_bool(value: bool) -> bytes:
    """The AttrValue of a truth value."""
    return tag(_ATTR_BOOL, VARINT) + varint(int(value))


def attr_string(value: bytes) -> bytes:
    """The AttrValue of a string."""
    return delimited(_ATTR_STRING, value)


def _attr_entry(key: str, value: bytes) -> bytes:
    return delimited(_ATTR, delimited(_KEY, key.encode()) + delimited(_VALUE, value))


def preamble(name: str, op: str, inputs: Tuple[str, ...], device: str) -> bytes:
    """A NodeDef up to its attributes, the fields in the usual order."""
    parts = [_short(_NAME, name), _short(_OP, op)]
    for item in inputs:
        parts.append(_short(_INPUT, item))
    if device:
        parts.append(_short(_DEVICE, device))
    return b"".join(parts)


def _short(number: int, written: str) -> bytes:
    """A text field whose number is below 16; quick where the text is short."""
    data = written.encode()
    if len(data) < 0x80:
        return _HEADS[number][len(data)] + data
    return delimited(number, data)


def new_node(
    name: str,
    op: str,
    inputs: Tuple[str, ...] = (),
    attrs: Optional[Mapping[str, Buffer]] = None,
    device: str = "",
) -> Node:
    """Make a node; attributes (serialized AttrValues) are written in the order of their names."""
    entries = [_attr_entry(key, bytes(value)) for key, value in sorted((attrs or {}).items())]
    raw = preamble(name, op, inputs, device) + b"".join(entries)
    return Node(name, op, inputs, device, raw)


def new_const(
    name: str,
    dtype: int,
    shape: Tuple[int, ...],
    data: Optional[np.ndarray] = None,
    inputs: Tuple[str, ...] = (),
    attrs: Optional[Mapping[str, Buffer]] = None,
    device: str = "",
) -> Node:
    """Make a Const node.

    Args:
        name: of the node.
        dtype: DataType of the constant.
        shape: its dimensions.
        data: the values, any shape of the same number of elements, in numpy's type for ``dtype``;
            None makes a node without values whose size can be asked with ``const_nbytes``.
        inputs: control inputs.
        attrs: further serialized attributes; those after ``value`` in the alphabet stand before it.
        device: of the node.
    """
    if data is None:
        raw = _const_head(name, dtype, shape, inputs, attrs, device)
        return Node(name, "Const", inputs, device, raw)
    array = np.ascontiguousarray(data, dtypes.NUMPY[dtype])
    payload = memoryview(array.reshape(-1).data).cast("B")
    return const_over(name, dtype, shape, payload, inputs, attrs, device)


def const_over(
    name: str,
    dtype: int,
    shape: Tuple[int, ...],
    payload: memoryview,
    inputs: Tuple[str, ...] = (),
    attrs: Optional[Mapping[str, Buffer]] = None,
    device: str = "",
) -> Node:
    """Make a Const node whose values are bytes that are there already, which are not copied.

    Args:
        name, dtype, shape, inputs, attrs, device: see ``new_const``.
        payload: the values, row by row, little-endian.
    """
    size = _values_nbytes(dtype, shape)
    if payload.nbytes != size:
        raise ValueError(f"{name}: {payload.nbytes} bytes of data for a shape of {size} bytes")
    raw = _const_head(name, dtype, shape, inputs, attrs, device)
    return Node(name, "Const", inputs, device, raw, payload if size else None)


def _const_head(
    name: str,
    dtype: int,
    shape: Tuple[int, ...],
    inputs: Tuple[str, ...],
    attrs: Optional[Mapping[str, Buffer]],
    device: str,
) -> bytes:
    """A Const up to the payload that ends it."""
    size = _values_nbytes(dtype, shape)
    proto = encode_header(dtype, shape, size)
    value = header(_ATTR_TENSOR, len(proto) + size) + proto
    entry = delimited(_KEY, _PAYLOAD_KEY.encode()) + header(_VALUE, len(value) + size) + value
    others = dict(attrs or {}, dtype=attr_type(dtype))
    return b"".join(
        [preamble(name, "Const", inputs, device)]
        + [_attr_entry(key, bytes(attr)) for key, attr in sorted(others.items())]
        + [header(_ATTR, len(entry) + size), entry]
    )


def _values_nbytes(dtype: int, shape: Tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtypes.NUMPY[dtype].itemsize


def private_attrs(node: Node) -> Dict[str, memoryview]:
    """The attributes whose name starts with ``_`` (colocation, recorded shapes and the like)."""
    return {key: value for key, value in node.attr_heads().items() if key.startswith("_")}


def attr_of_int(node: Node, key: str, default: int) -> int:
    """An integer attribute, or ``default`` where the node does not set it."""
    value = _attr_number(node, key, _ATTR_INT)
    if value is None:
        return default
    return value - (1 << 64) if value >> 63 else value


def attr_of_bool(node: Node, key: str) -> bool:
    """A boolean attribute; False where the node does not set it."""
    return bool(_attr_number(node, key, _ATTR_BOOL))


def attr_of_string(node: Node, key: str, default: bytes) -> bytes:
    """A string attribute, or ``default`` where the node does not set it."""
    content = node.attr_heads().get(key)
    if content is None:
        return default
    result = b""
    for number, wire_type, _, value, end in fields(content):
        if number == _ATTR_STRING and wire_type == LENGTH_DELIMITED:
            result = bytes(content[value:end])
    return result


def attr_of_type(node: Node, key: str) -> int:
    """A DataType attribute without its reference offset; 0 where the node does not set it."""
    dtype = _attr_number(node, key, _ATTR_TYPE) or 0
    return dtype - dtypes.REF_OFFSET if dtype > dtypes.REF_OFFSET else dtype


def _attr_number(node: Node, key: str, kind: int) -> Optional[int]:
    """The varint of one of the alternatives of an AttrValue; 0 where it holds another one."""
    content = node.attr_heads().get(key)
    if content is None:
        return None
    result = 0
    for number, wire_type, _, value, end in fields(content):
        if number == kind and wire_type == VARINT:
            result = read_varint(content, value, end)[0] & ((1 << 64) - 1)
        elif number <= _ATTR_LAST:  # alternatives: the last one counts
            result = 0
    return result
