"""Nodes that read variables, as they are when the variables are constants.

The rules are those of TensorFlow's convert_variables_to_constants, and some more ops:

    ReadVariableOp                        -> Identity
    ResourceGather, ResourceGatherNd      -> GatherV2 (with a constant axis), GatherNd
    VariableShape                         -> Shape
    VarIsInitializedOp, IsVariableInitialized -> a constant
    RefSwitch, RefEnter, ...              -> Switch, Enter, ...
    what passes a variable on             -> the same op for its values

Source: tensorflow/python/framework/graph_util_impl.py.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

from graphwq.errors import UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.protos import NodeDef

PASS_OPS = ("Identity", "Enter", "Exit", "Switch", "Merge", "NextIteration", "StopGradient")
CALL_OPS = ("PartitionedCall", "StatefulPartitionedCall")
IF_OPS = ("If", "StatelessIf")
WHILE_OPS = ("While", "StatelessWhile")
_REF_OPS = {
    "RefEnter": "Enter",
    "RefExit": "Exit",
    "RefIdentity": "Identity",
    "RefMerge": "Merge",
    "RefNextIteration": "NextIteration",
    "RefSwitch": "Switch",
}
#: The ops that take a variable of the old kind by reference, and only read it.
REFERENCE_OPS = (*_REF_OPS, "IsVariableInitialized")
#: Within a function an output has a name: that of the op that a reader becomes.
OUTPUT_NAMES = {
    "ReadVariableOp": ("value", "output"),
    "VariableShape": ("output", "output"),
    "VarIsInitializedOp": ("is_initialized", "output"),
    "ResourceGather": ("output", "output"),
    "ResourceGatherNd": ("output", "output"),
}


def read(node: Any, dtype: int, new_name: Callable[[str], str], framed: bool) -> List[Any]:
    """The nodes that stand where ``node``, whose first input is the variable, stood.

    Args:
        node: a NodeDef; not changed.
        dtype: of the variable.
        new_name: makes a free name from a wish.
        framed: there are while loops, whose bodies a constant enters only behind a control edge.

    Raises:
        UnsupportedError: the op needs a variable.
    """
    rule = _READERS.get(node.op)
    if rule is None:
        raise UnsupportedError(
            f"{node.op} {node.name!r} needs a variable, and the variables become constants: choose "
            "outputs (--outputs) that do not need it"
        )
    return rule(node, dtype, new_name, framed)


def passed_on(node: Any, dtype: int) -> Any:
    """A node that passes a variable on, for its values."""
    new = NodeDef()
    new.CopyFrom(node)
    new.attr["T"].type = dtype
    new.attr.pop("_output_shapes", None)  # those of a handle
    return new


def without_reference(node: Any) -> Any:
    """One of REFERENCE_OPS, as the op that takes values."""
    if node.op == "IsVariableInitialized":
        return _true(node)
    new = NodeDef()
    new.CopyFrom(node)
    new.op = _REF_OPS[node.op]
    return new


def _identity(node: Any, dtype: int, _name: Callable[[str], str], _framed: bool) -> List[Any]:
    new = _like(node, "Identity", node.input[:1])
    new.attr["T"].type = dtype
    return [new]


def _gather(node: Any, dtype: int, name: Callable[[str], str], framed: bool) -> List[Any]:
    indices = node.attr["Tindices"].type
    batch = node.attr["batch_dims"].i
    axis = NodeDef(name=name(f"{node.name}/axis"), op="Const")
    axis.attr["dtype"].type = indices
    axis.attr["value"].tensor.dtype = indices
    axis.attr["value"].tensor.tensor_shape.SetInParent()
    if indices == dtypes.DT_INT64:
        axis.attr["value"].tensor.int64_val.append(batch)
    else:
        axis.attr["value"].tensor.int_val.append(batch)
    if framed:
        axis.input.append("^" + node.input[1].split(":")[0])
    new = _like(node, "GatherV2", [*node.input[:2], axis.name, *node.input[2:]])
    new.attr["Tparams"].type = dtype
    new.attr["Tindices"].type = indices
    new.attr["Taxis"].type = indices
    if batch:
        new.attr["batch_dims"].i = batch
    return [axis, new]


def _gather_nd(node: Any, dtype: int, _name: Callable[[str], str], _framed: bool) -> List[Any]:
    new = _like(node, "GatherNd", node.input)
    new.attr["Tparams"].type = dtype
    new.attr["Tindices"].type = node.attr["Tindices"].type
    return [new]


def _shape(node: Any, dtype: int, _name: Callable[[str], str], _framed: bool) -> List[Any]:
    new = _like(node, "Shape", node.input)
    new.attr["T"].type = dtype
    new.attr["out_type"].type = node.attr["out_type"].type or dtypes.DT_INT32
    return [new]


def _is_initialized(
    node: Any, _dtype: int, _name: Callable[[str], str], _framed: bool
) -> List[Any]:
    return [_true(node)]


_READERS: Dict[str, Callable[[Any, int, Callable[[str], str], bool], List[Any]]] = {
    "ReadVariableOp": _identity,
    "ResourceGather": _gather,
    "ResourceGatherNd": _gather_nd,
    "VariableShape": _shape,
    "VarIsInitializedOp": _is_initialized,
}


def _true(node: Any) -> Any:
    """A constant in the place of a node; a control edge keeps it in its loop or branch."""
    source = node.input[0].lstrip("^").split(":")[0]
    new = _like(node, "Const", [f"^{source}"])
    new.attr["dtype"].type = dtypes.DT_BOOL
    tensor = new.attr["value"].tensor
    tensor.dtype = dtypes.DT_BOOL
    tensor.tensor_shape.SetInParent()
    tensor.bool_val.append(True)
    return new


def _like(node: Any, op: str, inputs: Any) -> Any:
    new = NodeDef(name=node.name, op=op, device=node.device, input=list(inputs))
    if "_class" in node.attr:
        new.attr["_class"].CopyFrom(node.attr["_class"])
    return new
