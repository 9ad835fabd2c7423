"""Which widths each weight could have had, what each would cost, and which it got: plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from graphwq.errors import InputError
from graphwq.quant.scheme import check_num_bits, whole
from graphwq.rewrite.target import FLOAT_BITS, Target

VERSION = 1


@dataclass(frozen=True)
class Choice:
    """One way to store a weight.

    Attributes:
        num_bits: 2..8; None for float.
        nbytes: in the file, scales and nodes included, shared tables not.
        error: what it costs, see ``Mixture.cost``.
    """

    num_bits: Optional[int]
    nbytes: int
    error: float


@dataclass(frozen=True)
class MixedWeight:
    """A weight whose width was chosen.

    Attributes:
        weight: its name.
        values: how many it has.
        choices: narrow to wide, float last.
        chosen: the width that it got; None for float.
    """

    weight: str
    values: int
    choices: Tuple[Choice, ...]
    chosen: Optional[int]

    def to_json(self) -> Dict[str, Any]:
        """The weight as JSON data."""
        return {
            "weight": self.weight,
            "values": self.values,
            "chosen": self.chosen,
            "choices": [
                {"num_bits": one.num_bits, "bytes": one.nbytes, "error": one.error}
                for one in self.choices
            ],
        }


#: What the errors of a table are, relative to the signal.
WEIGHTS, OUTPUTS, BOTH, UNIFORM = "weights", "outputs", "both", "uniform"
COSTS = {
    WEIGHTS: "squared error of the weight's values / their squares",
    OUTPUTS: "squared error of the outputs / their squares, this weight alone quantized",
    BOTH: "that of the outputs, and a part of that of the weight's values in the same unit",
    UNIFORM: "one width for all",
}


@dataclass(frozen=True)
class Trial:
    """An allocation that was run on inputs.

    Attributes:
        cost: the table that gave it, one of ``COSTS``.
        nbytes: of the file.
        sqnr_db: of the outputs, on other inputs than the costs were measured on, if there were any.
    """

    cost: str
    nbytes: int
    sqnr_db: float

    def to_json(self) -> Dict[str, Any]:
        """The trial as JSON data."""
        return {"cost": self.cost, "bytes": self.nbytes, "sqnr_db": self.sqnr_db}


@dataclass(frozen=True)
class Mixture:
    """The cost table of a mixed plan and what was chosen by it.

    Attributes:
        target: what was asked for.
        cost: what ``error`` is, one of ``COSTS``.
        nbytes: of the whole file.
        uniform_bytes: the same with one width for all, for a target of whole bits; else None.
        weights: those whose width was free to choose.
        trials: the allocations that were run, where costs were measured; first the one taken.
    """

    target: Target
    cost: str
    nbytes: int
    uniform_bytes: Optional[int]
    weights: Tuple[MixedWeight, ...]
    trials: Tuple[Trial, ...] = ()

    @property
    def average_bits(self) -> float:
        """Bits per value on average; a weight that stays float counts as 32."""
        total = sum(one.values for one in self.weights)
        bits = sum(one.values * (one.chosen or FLOAT_BITS) for one in self.weights)
        return bits / total if total else 0.0

    @property
    def error(self) -> float:
        """The costs of what was chosen, together."""
        return sum(
            choice.error
            for one in self.weights
            for choice in one.choices
            if choice.num_bits == one.chosen
        )

    def to_json(self) -> Dict[str, Any]:
        """The mixture as JSON data; averages are there for readers."""
        tried = {"trials": [one.to_json() for one in self.trials]} if self.trials else {}
        return {
            "version": VERSION,
            "target": self.target.to_json(),
            "cost": self.cost,
            "bytes": self.nbytes,
            "uniform_bytes": self.uniform_bytes,
            "average_bits": round(self.average_bits, 6),
            "error": self.error,
            **tried,
            "weights": [one.to_json() for one in self.weights],
        }

    @classmethod
    def from_json(cls, data: Any) -> Mixture:
        """The inverse of ``to_json``.

        Raises:
            InputError: damaged, or of a version that this graphwq does not know.
            KeyError, TypeError, ValueError: damaged.
        """
        if data["version"] != VERSION:
            raise InputError(
                f"the plan has a mixture of version {data['version']!r}; this graphwq reads "
                f"version {VERSION}"
            )
        uniform = data["uniform_bytes"]
        cost = data["cost"]
        if cost not in COSTS:
            raise InputError(f"a damaged plan: costs of the kind {cost!r}")
        return cls(
            Target.from_json(data["target"]),
            cost,
            whole(data["bytes"]),
            None if uniform is None else whole(uniform),
            tuple(_weight(one) for one in data["weights"]),
            tuple(_trial(one) for one in data.get("trials", ())),
        )


def _trial(data: Any) -> Trial:
    if data["cost"] not in COSTS:
        raise InputError(f"a damaged plan: costs of the kind {data['cost']!r}")
    return Trial(data["cost"], whole(data["bytes"]), float(data["sqnr_db"]))


def _weight(data: Any) -> MixedWeight:
    choices = tuple(
        Choice(_bits(one["num_bits"]), whole(one["bytes"]), _error(one["error"]))
        for one in data["choices"]
    )
    chosen = _bits(data["chosen"])
    if chosen not in [one.num_bits for one in choices]:
        raise InputError(f"a damaged plan: {data['weight']!r} has a width that is no choice")
    if not isinstance(data["weight"], str):
        raise InputError(f"a damaged plan: {data['weight']!r} is not a text")
    return MixedWeight(data["weight"], whole(data["values"]), choices, chosen)


def _bits(value: Any) -> Optional[int]:
    if value is None:
        return None
    check_num_bits(value)
    return int(value)


def _error(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise InputError(f"a damaged plan: an error of {value!r}")
    return number
