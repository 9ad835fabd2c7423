"""One finding of a verification: what makes a layer of it fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping

STRUCTURE, WEIGHTS, OUTPUTS, LAYERS = "structure", "weights", "outputs", "layers"


@dataclass(frozen=True)
class Problem:
    """A finding.

    Attributes:
        layer: ``structure``, ``weights``, ``outputs`` or ``layers``.
        kind: a short word for programs, for instance ``code_differs``.
        where: the node, weight or tensor that it is about; "" for the graph.
        message: one sentence; it does not repeat ``where``.
    """

    layer: str
    kind: str
    where: str
    message: str

    def to_json(self) -> Dict[str, str]:
        """The finding as JSON data."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "where": self.where,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Problem:
        """The inverse of ``to_json``."""
        return cls(data["layer"], data["kind"], data["where"], data["message"])
