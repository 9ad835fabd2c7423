"""What a layer of verify finds wrong, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

from graphwq.errors import InputError

#: The layers of verify, in the order in which they run.
LAYERS = STRUCTURE, WEIGHTS, OUTPUTS, NODES = ("structure", "weights", "outputs", "layers")


@dataclass(frozen=True)
class Problem:
    """One reason why two graphs do not pass.

    Attributes:
        layer: ``structure``, ``weights``, ``outputs`` or ``layers``.
        kind: a short word that programs can test, such as ``non_finite``.
        where: the tensor, node or weight; "" for the graph as a whole.
        message: one sentence for people.
    """

    layer: str
    kind: str
    where: str
    message: str

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise InputError(f"there is no layer {self.layer!r}: use one of {', '.join(LAYERS)}")

    def to_json(self) -> Dict[str, Any]:
        """The problem as JSON data."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "where": self.where,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, data: Any) -> Problem:
        """The inverse of ``to_json``.

        Raises:
            InputError: not such data.
        """
        try:
            texts = [data[key] for key in ("layer", "kind", "where", "message")]
        except (KeyError, TypeError) as error:
            raise InputError(f"not a problem: {data!r:.200}") from error
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"not a problem: {data!r:.200}")
        return cls(*texts)
