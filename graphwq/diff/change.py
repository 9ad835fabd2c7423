"""One difference between two graphs, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, Mapping, Optional


class Severity(str, Enum):
    """How much a change matters."""

    BREAKING = "breaking"  #: somebody who feeds or fetches must change their code
    NUMERIC = "numeric"  #: results may differ
    BENIGN = "benign"  #: order, device, names, spelling

    @property
    def rank(self) -> int:
        """0 for the gravest."""
        return _ORDER.index(self)


_ORDER = (Severity.BREAKING, Severity.NUMERIC, Severity.BENIGN)


class Kind(str, Enum):
    """What is different."""

    NODE_ADDED = "node_added"
    NODE_REMOVED = "node_removed"
    NODE_RENAMED = "node_renamed"
    SCOPE_RENAMED = "scope_renamed"
    NODE_MOVED = "node_moved"
    OP_CHANGED = "op_changed"
    ATTR_CHANGED = "attr_changed"
    INPUT_REWIRED = "input_rewired"
    CONTROL_INPUT_CHANGED = "control_input_changed"
    DEVICE_CHANGED = "device_changed"
    VALUE_CHANGED = "value_changed"
    DTYPE_CHANGED = "dtype_changed"
    SHAPE_CHANGED = "shape_changed"
    ENCODING_CHANGED = "encoding_changed"
    DEBUG_INFO_CHANGED = "debug_info_changed"
    PLACEHOLDER_ADDED = "placeholder_added"
    PLACEHOLDER_REMOVED = "placeholder_removed"
    OUTPUT_ADDED = "output_added"
    OUTPUT_REMOVED = "output_removed"
    SIGNATURE_ADDED = "signature_added"
    SIGNATURE_REMOVED = "signature_removed"
    SIGNATURE_CHANGED = "signature_changed"
    WEIGHT_QUANTIZED = "weight_quantized"
    CONSTANT_DECODED = "constant_decoded"
    PLAN_NOT_FOLLOWED = "plan_not_followed"
    FUNCTION_ADDED = "function_added"
    FUNCTION_REMOVED = "function_removed"
    FUNCTION_RENAMED = "function_renamed"
    FUNCTION_CHANGED = "function_changed"
    VERSIONS_CHANGED = "versions_changed"
    FIELD_CHANGED = "field_changed"


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: what is different.
        path: of what: a node as it is called in OLD (in NEW where it was added), in a function body
            ``function:node``; of a scope its name with a ``/``; of a signature ``signature:name``;
            "" for the graph itself.
        severity: how much it matters.
        message: one line in plain words; it does not repeat the path. Names in it are printable.
        detail: the facts behind the message, JSON data; keys are those of docs/diff-format.md.
        explained_by: the weight whose quantization made the change; None where nothing explains it.
        reason: why the severity is what it is, in plain words.
    """

    kind: Kind
    path: str
    severity: Severity
    message: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    explained_by: Optional[str] = None
    reason: str = ""

    def to_json(self) -> Dict[str, Any]:
        """The change as JSON data."""
        return {
            "kind": self.kind.value,
            "path": self.path,
            "severity": self.severity.value,
            "reason": self.reason,
            "message": self.message,
            "detail": dict(self.detail),
            "explained_by": self.explained_by,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """Read what ``to_json`` made.

        Raises:
            KeyError, ValueError: not a change.
        """
        return cls(
            Kind(data["kind"]),
            data["path"],
            Severity(data["severity"]),
            data["message"],
            data["detail"],
            data["explained_by"],
            data["reason"],
        )
