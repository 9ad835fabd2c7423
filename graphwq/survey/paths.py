"""The ops that stand between a weight and its consumer and only move it about.

``carry`` takes the axis map of an input to that of the outputs. An op that is not here changes
values (arithmetic) or is unknown, and ends the way of a weight.
"""

from __future__ import annotations

from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, attr_of_int, attr_of_type
from graphwq.survey import axes
from graphwq.survey.axes import AxisMap
from graphwq.survey.constants import constant_int, constant_ints, ints_given_shape
from graphwq.survey.view import ScopeView

#: The maps of the outputs, by port; a single one holds for every port.
Outputs = Tuple[Optional[AxisMap], ...]
Step = Callable[[ScopeView, Node, int, AxisMap], Outputs]


def _same(_view: ScopeView, _node: Node, _slot: int, current: AxisMap) -> Outputs:
    return (current,)


def _expand_dims(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    axis = constant_int(view, node, 1)
    return (None if axis is None else axes.insert(current, axis),)


def _squeeze(_view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    attr = node.attr("squeeze_dims")
    dims: Sequence[int] = attr.list.i if attr is not None else ()
    if not dims and axes.UNKNOWN in current.shape:
        return (None,)
    chosen = list(dims) or [axis for axis, size in enumerate(current.shape) if size == 1]
    return (axes.remove(current, chosen),)


def _transpose(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    perm = constant_ints(view, node, 1)
    if perm is None:
        perm = ints_given_shape(view, node, 1, current.shape)
    return (None if perm is None else axes.permute(current, perm),)


def _reshape(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    target = constant_ints(view, node, 1)
    if target is None:
        target = ints_given_shape(view, node, 1, current.shape)
    return (None if target is None else axes.reshape(current, target),)


def _split(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    axis, parts = constant_int(view, node, 0), attr_of_int(node, "num_split", 1)
    rank = len(current.shape)
    if axis is None or parts < 1 or not -rank <= axis < rank:
        return (None,)
    size = current.shape[axis]
    if size == axes.UNKNOWN:
        return (axes.resize(current, axis, size),)
    return (None if size % parts else axes.resize(current, axis, size // parts),)


def _split_v(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    axis, sizes = constant_int(view, node, 2), constant_ints(view, node, 1)
    rank = len(current.shape)
    if axis is None or sizes is None or not -rank <= axis < rank:
        return (None,)
    rest = current.shape[axis] - sum(size for size in sizes if size >= 0)
    if current.shape[axis] == axes.UNKNOWN:
        rest = axes.UNKNOWN
    return tuple(axes.resize(current, axis, rest if size < 0 else size) for size in sizes)


def _unpack(_view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    return (axes.remove(current, [attr_of_int(node, "axis", 0)]),)


def _pack(_view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    inserted = axes.insert(current, attr_of_int(node, "axis", 0))
    if inserted is None:
        return (None,)
    axis = attr_of_int(node, "axis", 0) % len(inserted.shape)
    return (axes.resize(inserted, axis, len(node.data_inputs)),)


def _concat(axis_slot: int) -> Step:
    def step(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
        slot = axis_slot if axis_slot >= 0 else len(node.data_inputs) - 1
        axis = constant_int(view, node, slot)
        # The other pieces' lengths are not followed: an unknown length (-1) along the axis.
        return (None if axis is None else axes.resize(current, axis, axes.UNKNOWN),)

    return step


def _slice(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    begin, size = constant_ints(view, node, 1), constant_ints(view, node, 2)
    if begin is None or size is None or not len(begin) == len(size) == len(current.shape):
        return (None,)
    shape: List[int] = []
    for full, start, length in zip(current.shape, begin, size):
        if full == axes.UNKNOWN:
            shape.append(max(length, axes.UNKNOWN))
            continue
        rest = full - start if length == -1 else length
        if not 0 <= start <= start + rest <= full:
            return (None,)
        shape.append(rest)
    return (_cut(current, tuple(shape)),)


def _strided_slice(view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    """tf.strided_slice with all five masks; see the op's documentation for their meaning."""
    begin, end = constant_ints(view, node, 1), constant_ints(view, node, 2)
    strides = constant_ints(view, node, 3)
    if begin is None or end is None or strides is None:
        return (None,)
    if not len(begin) == len(end) == len(strides) or 0 in strides:
        return (None,)
    if bin(attr_of_int(node, "ellipsis_mask", 0) & ((1 << len(begin)) - 1)).count("1") > 1:
        return (None,)
    masks = {
        key: attr_of_int(node, key + "_mask", 0)
        for key in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    consumed = sum(
        not (masks["new_axis"] | masks["ellipsis"]) >> index & 1 for index in range(len(begin))
    )
    if consumed > len(current.shape):
        return (None,)
    shape: List[int] = []
    origins: List[axes.Origin] = []
    axis = 0
    for index in range(len(begin)):
        if masks["ellipsis"] >> index & 1:
            for _ in range(len(current.shape) - consumed):
                shape.append(current.shape[axis])
                origins.append(current.origins[axis])
                axis += 1
        elif masks["new_axis"] >> index & 1:
            shape.append(1)
            origins.append(())
        else:
            first = None if masks["begin"] >> index & 1 else begin[index]
            last = None if masks["end"] >> index & 1 else end[index]
            if not masks["shrink_axis"] >> index & 1:
                full, origin = current.shape[axis], current.origins[axis]
                size = axes.UNKNOWN
                if full != axes.UNKNOWN:
                    size = len(range(*slice(first, last, strides[index]).indices(full)))
                whole = size == full and (strides[index] == 1 or full == 1)
                shape.append(size)
                origins.append(origin if whole else axes.resized(origin, size))
            axis += 1
    shape.extend(current.shape[axis:])
    origins.extend(current.origins[axis:])
    return (AxisMap(tuple(shape), tuple(origins)),)


def _cut(current: AxisMap, shape: Tuple[int, ...]) -> Optional[AxisMap]:
    result: Optional[AxisMap] = current
    for axis, size in enumerate(shape):
        known = size >= 0 or size == axes.UNKNOWN
        result = axes.resize(result, axis, size) if result is not None and known else None
    return result


def _cast(_view: ScopeView, node: Node, _slot: int, current: AxisMap) -> Outputs:
    return (current,) if attr_of_type(node, "DstT") in dtypes.FLOATING else (None,)


#: Ops whose output is their first input.
PASS_OPS = (
    "Identity",
    "RefIdentity",
    "StopGradient",
    "PreventGradient",
    "CheckNumerics",
    "Snapshot",
    "DeepCopy",
    "EnsureShape",
    "ReadVariableOp",
    "Enter",
    "RefEnter",
    "Switch",
    "RefSwitch",
)
JOINING_OPS = ("ConcatV2", "Concat", "Pack")

_FIRST: Dict[str, Step] = {
    **dict.fromkeys(PASS_OPS, _same),
    "Cast": _cast,
    "ExpandDims": _expand_dims,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "SplitV": _split_v,
    "Unpack": _unpack,
}


def carry(view: ScopeView, node: Node, slot: int, current: AxisMap) -> Union[Outputs, None]:
    """The maps of the outputs of ``node`` for an input that arrives at data input ``slot``.

    None where the op is none that moves a weight about; a map of None where the channels can no
    longer be told apart behind it.
    """
    step: Optional[Step] = None
    if slot == 0:
        step = _FIRST.get(node.op)
    if node.op == "Split" and slot == 1:
        step = _split
    elif node.op == "ConcatV2" and slot < len(node.data_inputs) - 1:
        step = _concat(-1)
    elif node.op == "Concat" and slot > 0:
        step = _concat(0)
    elif node.op == "Pack":
        step = _pack
    return None if step is None else step(view, node, slot, current)
