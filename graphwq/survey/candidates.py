"""What could be a weight: every float Const and variable, or the reason against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import Node, attr_of_type
from graphwq.graphdef.variable import declared_shape
from graphwq.survey.sites import Reason, Skip, Source, qualified

_VARIABLES = {
    "Variable": Source.VARIABLE,
    "VariableV2": Source.VARIABLE,
    "TemporaryVariable": Source.VARIABLE,
    "VarHandleOp": Source.RESOURCE_VARIABLE,
}


@dataclass(frozen=True)
class Candidate:
    """A float Const or variable with a shape worth following.

    Attributes:
        scope: "" for the main graph, else the function that holds it.
        node: the Const or variable.
        source, shape, dtype: of its values.
    """

    scope: str
    node: Node
    source: Source
    shape: Tuple[int, ...]
    dtype: int


def skip(scope: str, node: Node, reason: Reason, detail: str) -> Skip:
    """The skip of a node."""
    return Skip(qualified(scope, node.name), reason.value, detail)


def candidate(scope: str, node: Node) -> Candidate | Skip | None:
    """A float Const or variable with a shape worth following, or the reason against it."""
    if node.op == "Const":
        dtype = attr_of_type(node, "dtype")
        if dtype not in dtypes.FLOATING:
            return None
        tensor = node.tensor()
        if tensor is None:
            return skip(scope, node, Reason.NO_DATA, "the Const has no value attribute")
        if tensor.dtype != dtype:
            raise InputError(
                f"constant {qualified(scope, node.name)!r} declares {dtypes.dtype_name(dtype)} but "
                f"holds {dtypes.dtype_name(tensor.dtype)}: the file is damaged, export it again"
            )
        shape, source = tensor.shape, Source.CONST
        if shape and tensor.size and not tensor.has_values:
            detail = "the Const stores no values; TensorFlow would read zeros"
            return skip(scope, node, Reason.NO_DATA, detail)
    elif node.op in _VARIABLES:
        dtype = attr_of_type(node, "dtype")
        if dtype not in dtypes.FLOATING:
            return None
        declared, source = declared_shape(node), _VARIABLES[node.op]
        if declared is None or any(dim < 0 for dim in declared):
            return skip(scope, node, Reason.UNKNOWN_SHAPE, "the variable has no full shape")
        shape = declared
    else:
        return None
    if not shape:
        return skip(scope, node, Reason.SCALAR, "a single number")
    if 0 in shape:
        return skip(scope, node, Reason.EMPTY, f"shape {list(shape)} holds nothing")
    return Candidate(scope, node, source, shape, dtype)
