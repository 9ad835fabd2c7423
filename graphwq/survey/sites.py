"""What a survey finds: weight sites and skips, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, Optional, Tuple

from graphwq.graphdef.dtypes import dtype_name


class Source(Enum):
    """Where the values of a weight live."""

    CONST = "CONST"
    VARIABLE = "VARIABLE"
    RESOURCE_VARIABLE = "RESOURCE_VARIABLE"


class Reason(str, Enum):
    """Why a float constant or variable is not quantized."""

    SCALAR = "scalar"
    EMPTY = "empty"
    UNUSED = "unused"
    NOT_A_WEIGHT = "not_a_weight"
    ARITHMETIC = "arithmetic_on_path"
    AXIS_LOST = "axis_lost"
    PATH_TOO_LONG = "path_too_long"
    ALREADY_QUANTIZED = "already_quantized"
    UNSUPPORTED_DTYPE = "unsupported_dtype"
    UNKNOWN_SHAPE = "unknown_shape"
    NO_DATA = "no_data"
    NO_VALUE = "no_value"
    EXCLUDED = "excluded"
    KEPT_FLOAT = "kept_float"
    TOO_SMALL = "too_small"
    NOT_SMALLER = "not_smaller"
    UNSUPPORTED_FORM = "unsupported_form"


@dataclass(frozen=True)
class Consumer:
    """An op that uses a weight.

    Attributes:
        scope: "" for the main graph, else the function in which the op stands.
        node, op, slot: the op and the number of its data input that the weight reaches.
        kept_axes: the axes of the *weight* that stay in the op's result, sorted; the scale may vary
            along them without a change to the op.
        path: names of the nodes between weight and op, from the weight on.
        path_ops: their ops.
        direct: the op sees the weight itself, in its own shape (the path only passes it on).
    """

    scope: str
    node: str
    op: str
    slot: int
    kept_axes: Tuple[int, ...]
    path: Tuple[str, ...]
    path_ops: Tuple[str, ...]
    direct: bool


@dataclass(frozen=True)
class WeightSite:
    """A weight: a constant or variable that reaches the weight input of an op.

    Attributes:
        scope: "" for the main graph, else the function that holds it.
        node: name of the Const or variable node.
        source: what kind of node.
        shape, dtype: of the values (DataType number).
        kept_axes: those of the first consumer in topological order; the channels of the weight.
        consumers: every op that uses it as a weight, in topological order.
        nbytes: bytes that the node takes in the file.
    """

    scope: str
    node: str
    source: Source
    shape: Tuple[int, ...]
    dtype: int
    kept_axes: Tuple[int, ...]
    consumers: Tuple[Consumer, ...]
    nbytes: int

    @property
    def weight(self) -> str:
        """The name users see: ``node``, or ``function:node`` in a function body."""
        return qualified(self.scope, self.node)

    @property
    def path(self) -> Tuple[str, ...]:
        """The ops between the weight and its first consumer."""
        return self.consumers[0].path_ops

    @property
    def size(self) -> int:
        """Number of elements."""
        size = 1
        for dim in self.shape:
            size *= dim
        return size

    def to_json(self) -> Dict[str, Any]:
        """The site as JSON data."""
        return {
            "weight": self.weight,
            "shape": list(self.shape),
            "dtype": dtype_name(self.dtype),
            "source": self.source.value,
            "path": list(self.path),
            "kept_axes": list(self.kept_axes),
            "bytes": self.nbytes,
            "consumers": [
                {
                    "node": qualified(consumer.scope, consumer.node),
                    "op": consumer.op,
                    "slot": consumer.slot,
                    "kept_axes": list(consumer.kept_axes),
                    "path": list(consumer.path),
                }
                for consumer in self.consumers
            ],
        }


@dataclass(frozen=True)
class Skip:
    """A float constant or variable that stays as it is.

    Attributes:
        node: its name (``function:node`` in a function body).
        reason: one of ``Reason``, as text.
        detail: one sentence.
    """

    node: str
    reason: str
    detail: str

    def to_json(self) -> Dict[str, str]:
        """The skip as JSON data."""
        return {"node": self.node, "reason": self.reason, "detail": self.detail}


@dataclass(frozen=True)
class Survey:
    """Every float Const and variable of the graph and its functions: a site or a skip."""

    sites: Tuple[WeightSite, ...]
    skips: Tuple[Skip, ...]

    def site(self, weight: str) -> Optional[WeightSite]:
        """The site of that name, or None."""
        return next((site for site in self.sites if site.weight == weight), None)


def qualified(scope: str, node: str) -> str:
    """The name of a node for people: ``node`` in the main graph, ``function:node`` in a body."""
    return f"{scope}:{node}" if scope else node
