"""Two constants of one name: type, shape, values, and what they became."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

from graphwq.diff import values
from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.values import alike
from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node
from graphwq.graphdef.tensor import Tensor
from graphwq.quant.grid import Grid
from graphwq.text import size


def compare_constants(path: str, old: Node, new: Node) -> Iterator[Change]:
    """What differs between the types and values of two Const nodes: at most one change.

    Raises:
        InputError: a damaged attribute.
    """
    before, after = tensor_of_node(old), tensor_of_node(new)
    if before is None or after is None:
        if _value_bytes(old) != _value_bytes(new):
            yield Change(
                Kind.VALUE_CHANGED,
                path,
                Severity.NUMERIC,
                "the value cannot be read on one side",
                {},
                reason="computes with another constant",
            )
        return
    if alike(before, after):
        return
    change = _tensors(path, before, after, old.nbytes, new.nbytes)
    if change is not None:
        yield change


def tensor_of_node(node: Node) -> Optional[Tensor]:
    """The tensor of a Const; None where there is none or it is damaged."""
    try:
        return node.tensor()
    except InputError:
        return None


def _value_bytes(node: Node) -> bytes:
    return bytes(node.attr_bytes().get("value", b""))


def _tensors(
    path: str, old: Tensor, new: Tensor, old_bytes: int, new_bytes: int
) -> Optional[Change]:
    """The change of a constant whose tensors are known to differ in some way."""
    before, after = (values.describe_type(one.dtype, one.shape) for one in (old, new))
    detail: Dict[str, Any] = {
        "old": {"dtype": dtypes.dtype_name(old.dtype), "shape": list(old.shape)},
        "new": {"dtype": dtypes.dtype_name(new.dtype), "shape": list(new.shape)},
        "old_bytes": old_bytes,
        "new_bytes": new_bytes,
    }
    parts: List[str] = []
    same_type = (old.dtype, old.shape) == (new.dtype, new.shape)
    if old.shape == new.shape:
        try:
            found = values.compare(old, new)
            if found is None and same_type and old.numpy().tolist() == new.numpy().tolist():
                return None
        except InputError as error:
            found = None
            parts.append(str(error))
        if found is not None:
            if same_type and not found.changed:
                return None
            detail["values"] = found.to_json()
            if found.changed:
                parts.append(found.describe())
    shown = (values.show(old), values.show(new))
    if None not in shown and shown[0] != shown[1]:
        parts.insert(0, f"{shown[0]} -> {shown[1]}")
        detail["old"]["shown"], detail["new"]["shown"] = shown
    grid = _new_grid(old, new)
    if grid is not None:
        detail["grid"] = grid.to_json()
        parts.append(f"now {values.describe_grid(grid)}")
    if old_bytes != new_bytes and max(old_bytes, new_bytes) >= 1000:
        parts.append(f"{size(old_bytes)} -> {size(new_bytes)}")
    kind = Kind.VALUE_CHANGED
    lead = before
    if not same_type:
        kind = Kind.DTYPE_CHANGED if old.dtype != new.dtype else Kind.SHAPE_CHANGED
        lead = f"{before} -> {after}"
    message = f"{lead}: {', '.join(parts)}" if parts else lead
    return Change(
        kind, path, Severity.NUMERIC, message, detail, reason="computes with another constant"
    )


def _new_grid(old: Tensor, new: Tensor) -> Optional[Grid]:
    """The grid of the new values, where the old ones did not lie on it."""
    try:
        found = values.grid_of(new)
        if found is None or (old.shape == new.shape and values.grid_of(old) == found):
            return None
        return found
    except InputError:
        return None
