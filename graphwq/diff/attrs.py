"""Attributes by meaning: order on the wire, spelling and written-out defaults do not count."""

from __future__ import annotations

import json
import pkgutil
from functools import lru_cache
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from graphwq.diff.values import alike, compare
from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node
from graphwq.graphdef.protos import AttrValue, DecodeError
from graphwq.graphdef.tensor import Tensor, parse_tensor
from graphwq.graphdef.wire import LENGTH_DELIMITED, Buffer, WireError, fields
from graphwq.text import printable, shortened

_TENSOR = 8
_LONG = 60


class AttrChange(NamedTuple):
    """One attribute that means something else; None where a side does not have it."""

    key: str
    old: Optional[bytes]
    new: Optional[bytes]


@lru_cache(maxsize=1)
def _defaults() -> Mapping[str, Mapping[str, str]]:
    data = pkgutil.get_data("graphwq.diff", "op_defaults.json")
    found: Dict[str, Dict[str, str]] = json.loads(data or b"{}")
    return found


def default(op: str, key: str) -> Optional[bytes]:
    """The serialized default of an attribute in TensorFlow 1.15; None where there is none."""
    text = _defaults().get(op, {}).get(key)
    return None if text is None else bytes.fromhex(text)


def changed_attrs(old: Node, new: Node) -> Tuple[AttrChange, ...]:
    """The attributes of two nodes of one name that differ in meaning, sorted by name.

    The ``value`` of two constants is not compared here: see ``nodes``.
    """
    left, right = old.attr_bytes(), new.attr_bytes()
    found: List[AttrChange] = []
    for key in sorted({**left, **right}):
        if old.op == new.op == "Const" and key == "value" and key in left and key in right:
            continue
        before = _written(left, old.op, key)
        after = _written(right, new.op, key)
        if before != after and not (before and after and same_attr(before, after)):
            found.append(AttrChange(key, before, after))
    return tuple(found)


def _written(attrs: Mapping[str, memoryview], op: str, key: str) -> Optional[bytes]:
    value = attrs.get(key)
    return default(op, key) if value is None else bytes(value)


def same_attr(old: bytes, new: bytes) -> bool:
    """Whether two serialized AttrValues mean the same. NaN equals NaN.

    Bytes that are no AttrValue equal only themselves.
    """
    if old == new:
        return True
    first, second = tensor_of(old), tensor_of(new)
    if first is not None and second is not None:
        return same_tensor(first, second)
    one, other = parse(old), parse(new)
    if one is None or other is None:
        return False
    return _canonical(one) == _canonical(other)


def same_tensor(old: Tensor, new: Tensor) -> bool:
    """Whether dtype, shape and values are the same, however they are written."""
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        return False
    if alike(old, new):
        return True
    try:
        found = compare(old, new)
        if found is not None:
            return not found.changed
        return old.numpy().tolist() == new.numpy().tolist()
    except InputError:
        return bytes(old.raw) == bytes(new.raw)


def tensor_of(value: Buffer) -> Optional[Tensor]:
    """The tensor that a serialized AttrValue holds; None where it holds something else."""
    try:
        found = None
        view = memoryview(value)
        for number, wire_type, _, begin, end in fields(view):
            if number == _TENSOR and wire_type == LENGTH_DELIMITED:
                found = parse_tensor(view[begin:end])
        return found
    except InputError:
        return None


def parse(value: bytes) -> Optional[AttrValue]:
    """The AttrValue; None where the bytes are none."""
    try:
        list(fields(value))
        return AttrValue.FromString(value)
    except (DecodeError, WireError):
        return None


def _canonical(value: AttrValue) -> Tuple[str, bytes]:
    """Kind and bytes that are the same in every process; all NaN are one."""
    kind = value.WhichOneof("value") or ""
    if kind == "f" and value.f != value.f:
        return kind, b"nan"
    if kind == "list" and any(item != item for item in value.list.f):
        floats = ["nan" if item != item else item.hex() for item in value.list.f]
        return kind, repr(floats).encode()
    data: bytes = value.SerializeToString(deterministic=True)
    return kind, data


def show(value: Optional[bytes]) -> str:
    """A serialized AttrValue in one short printable line."""
    if value is None:
        return "nothing"
    attr = parse(value)
    if attr is None:
        return f"{len(value)} bytes"
    return shortened(printable(_show(attr)), _LONG)


def _show(attr: AttrValue) -> str:
    kind = attr.WhichOneof("value")
    if kind is None:
        return "nothing"
    value = getattr(attr, kind)
    if kind == "s":
        return _string(value)
    if kind == "type":
        return dtypes.dtype_name(value)
    if kind == "shape":
        return _shape(value)
    if kind == "func":
        return f"function {value.name}"
    if kind == "tensor":
        sizes = ",".join(str(dim.size) for dim in value.tensor_shape.dim)
        return f"tensor {dtypes.dtype_name(value.dtype)} [{sizes}]"
    if kind == "list":
        return _list(value)
    if kind == "placeholder":
        return f"placeholder {value}"
    return f"{value:.6g}" if kind == "f" else str(value).lower()


def _string(value: bytes) -> str:
    return ascii(value)[1:] if len(value) <= 2 * _LONG else f"{len(value)} bytes of text"


def _shape(value: object) -> str:
    if getattr(value, "unknown_rank", False):
        return "[unknown]"
    sizes = [str(dim.size) if dim.size >= 0 else "?" for dim in getattr(value, "dim", ())]
    return f"[{','.join(sizes)}]"


def _list(value: object) -> str:
    parts: List[str] = []
    for name in ("s", "i", "f", "b", "type", "shape", "tensor", "func"):
        items = getattr(value, name)[:20]
        for item in items:
            if name == "s":
                parts.append(_string(item))
            elif name == "type":
                parts.append(dtypes.dtype_name(item))
            elif name == "shape":
                parts.append(_shape(item))
            elif name == "func":
                parts.append(item.name)
            elif name == "f":
                parts.append(f"{item:.6g}")
            else:
                parts.append("tensor" if name == "tensor" else str(item).lower())
    return f"[{', '.join(parts)}]"
