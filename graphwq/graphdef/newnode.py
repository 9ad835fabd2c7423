"""Making nodes: the bytes of a NodeDef from names, attributes and values."""

from __future__ import annotations

from functools import lru_cache, partial, reduce
from operator import mul
from typing import Callable, Mapping, Optional, Tuple, Union

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.later import Later, Payload
from graphwq.graphdef.node import PAYLOAD_KEY, Node
from graphwq.graphdef.tensor import encode_header
from graphwq.graphdef.wire import VARINT, Buffer, delimited, header, tag, varint

_NAME, _OP, _INPUT, _DEVICE, _ATTR = 1, 2, 3, 4, 5
_KEY, _VALUE = 1, 2
_ATTR_STRING, _ATTR_INT, _ATTR_BOOL, _ATTR_TYPE, _ATTR_TENSOR = 2, 3, 5, 6, 8

#: Field -> size below 128 -> tag and size, as written.
_HEADS = {
    number: [header(number, size) for size in range(0x80)]
    for number in (_NAME, _OP, _INPUT, _DEVICE)
}

#: Bytes below which an attribute is likely to occur again.
_COMMON = 64

#: The values of a new constant: there already, made when they are written, or (None) only a size.
Data = Union[None, np.ndarray, Callable[[], np.ndarray]]


@lru_cache(maxsize=256)
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
    return _common_entry(key, value) if len(value) < _COMMON else _entry(key, value)


def _entry(key: str, value: bytes) -> bytes:
    return delimited(_ATTR, delimited(_KEY, key.encode()) + delimited(_VALUE, value))


_common_entry = lru_cache(maxsize=1024)(_entry)


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
    data: Data = None,
    inputs: Tuple[str, ...] = (),
    attrs: Optional[Mapping[str, Buffer]] = None,
    device: str = "",
) -> Node:
    """Make a Const node.

    Args:
        name: of the node.
        dtype: DataType of the constant.
        shape: its dimensions.
        data: the values, any shape of the same number of elements, in numpy's type for ``dtype``,
            or what gives them when the node is written; None makes a node without values.
        inputs: control inputs.
        attrs: further serialized attributes; those after ``value`` in the alphabet stand before it.
        device: of the node.
    """
    if data is None:
        raw = _const_head(name, dtype, shape, inputs, attrs, device)
        return Node(name, "Const", inputs, device, raw)
    payload: Payload
    if isinstance(data, (np.ndarray, np.generic)):
        payload = _bytes_of(data, dtype)
    else:
        payload = Later(_values_nbytes(dtype, shape), partial(_made, data, dtype))
    return const_over(name, dtype, shape, payload, inputs, attrs, device)


def _made(make: Callable[[], np.ndarray], dtype: int) -> memoryview:
    return _bytes_of(make(), dtype)


def _bytes_of(values: np.ndarray, dtype: int) -> memoryview:
    array = np.ascontiguousarray(values, dtypes.NUMPY[dtype])
    return memoryview(array.reshape(-1).data).cast("B")


def const_over(
    name: str,
    dtype: int,
    shape: Tuple[int, ...],
    payload: Payload,
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
    others = dict(attrs or {}, dtype=attr_type(dtype))
    return b"".join(
        [preamble(name, "Const", inputs, device)]
        + [_attr_entry(key, bytes(attr)) for key, attr in sorted(others.items())]
        + [_value_head(dtype, shape)]
    )


@lru_cache(maxsize=1024)
def _value_head(dtype: int, shape: Tuple[int, ...]) -> bytes:
    """The attribute of the values up to the payload; the layers of a network are much alike."""
    size = _values_nbytes(dtype, shape)
    proto = encode_header(dtype, shape, size)
    value = header(_ATTR_TENSOR, len(proto) + size) + proto
    entry = delimited(_KEY, PAYLOAD_KEY.encode()) + header(_VALUE, len(value) + size) + value
    return header(_ATTR, len(entry) + size) + entry


def _values_nbytes(dtype: int, shape: Tuple[int, ...]) -> int:
    return reduce(mul, shape, 1) * dtypes.NUMPY[dtype].itemsize
