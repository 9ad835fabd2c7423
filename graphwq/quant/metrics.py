"""How far apart two arrays are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Mapping


@dataclass(frozen=True)
class WeightError:
    """The error of a quantized weight against the float one.

    Attributes:
        sum_squares: sum of x^2.
        sum_squared_errors: sum of (x - x')^2.
        max_abs_error: max of |x - x'|.
    """

    sum_squares: float
    sum_squared_errors: float
    max_abs_error: float

    @property
    def sqnr_db(self) -> float:
        """See ``sqnr_db``."""
        return sqnr_db(self.sum_squares, self.sum_squared_errors)

    def to_json(self) -> Dict[str, Any]:
        """The error as JSON data; ``sqnr_db`` is null where it is infinite."""
        sqnr = self.sqnr_db
        return {
            "sqnr_db": sqnr if math.isfinite(sqnr) else None,
            "sum_squares": self.sum_squares,
            "sum_squared_errors": self.sum_squared_errors,
            "max_abs_error": self.max_abs_error,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WeightError:
        """The inverse of ``to_json``; keys of other things are passed over.

        Raises:
            ValueError: a sum of squares is negative.
        """
        sums = (data["sum_squares"], data["sum_squared_errors"])
        if min(sums) < 0:
            raise ValueError(f"sums of squares are {sums}")
        return cls(*sums, data["max_abs_error"])


def sqnr_db(sum_squares: float, sum_squared_errors: float) -> float:
    """Signal to quantization noise, 10 * log10(sum x^2 / sum (x - x')^2), in dB.

    +inf where there is no error, -inf where there is error and no signal.
    """
    if sum_squared_errors == 0.0:
        return math.inf
    if sum_squares == 0.0:
        return -math.inf
    ratio = sum_squares / sum_squared_errors
    return 10.0 * math.log10(ratio) if ratio else -math.inf
