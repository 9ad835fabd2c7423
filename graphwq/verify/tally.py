"""How far an output is from what it was, summed over samples.

All sums are float64 over the elements that are finite on both sides. Derived numbers (dB, cosine,
agreement) are computed from the sums, so that the data can be stored without loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Dict, Optional, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.quant.metrics import sqnr_db

#: Magnitudes beyond this have squares that float64 does not hold.
LARGEST = 1e150
_STEP = 1 << 20


@dataclass(frozen=True)
class Difference:
    """One output of two graphs, over all samples.

    Attributes:
        tensor: its name.
        dtype: of the reference (``string`` for strings).
        shape: of the first sample.
        samples: how many were compared.
        elements: how many elements the compared samples have.
        finite: of them, those that are finite on both sides (floats), or all (other types).
        sum_squares, candidate_sum_squares, sum_products, sum_squared_errors: over the finite
            elements, with x of the reference and y of the candidate: sums of x^2, y^2, x*y and
            (x-y)^2. Strings have none.
        largest, max_abs_error: the largest |x| and |x-y| of the finite elements.
        differing: elements whose bits differ; a NaN is equal to a NaN.
        argmax_rows, argmax_agree: rows along the last axis (floats, axis longer than 1), and those
            in which the largest element is at the same place.
        nonfinite_reference, nonfinite_candidate: elements that are NaN or Inf.
        nonfinite_same: those that are the same NaN or Inf on both sides.
        nonfinite_new: those that are finite in the reference and not in the candidate.
    """

    tensor: str
    dtype: str
    shape: Tuple[int, ...]
    samples: int = 0
    elements: int = 0
    finite: int = 0
    sum_squares: float = 0.0
    candidate_sum_squares: float = 0.0
    sum_products: float = 0.0
    sum_squared_errors: float = 0.0
    largest: float = 0.0
    max_abs_error: float = 0.0
    differing: int = 0
    argmax_rows: int = 0
    argmax_agree: int = 0
    nonfinite_reference: int = 0
    nonfinite_candidate: int = 0
    nonfinite_same: int = 0
    nonfinite_new: int = 0

    @property
    def is_float(self) -> bool:
        """Whether SQNR and cosine say something about it."""
        return self.dtype.startswith(("float", "complex"))

    @property
    def exact(self) -> bool:
        """Whether something was compared and no bit differs."""
        return self.elements > 0 and self.differing == 0

    @property
    def sqnr_db(self) -> Optional[float]:
        """See ``quant.metrics.sqnr_db``; None where no number was compared."""
        if not self.is_float or not self.finite:
            return None
        return sqnr_db(self.sum_squares, self.sum_squared_errors)

    @property
    def cosine(self) -> Optional[float]:
        """Sum x*y / sqrt(sum x^2 * sum y^2); None where one side is all zero."""
        norm = math.sqrt(self.sum_squares) * math.sqrt(self.candidate_sum_squares)
        return max(-1.0, min(1.0, self.sum_products / norm)) if norm and self.is_float else None

    @property
    def argmax_agreement(self) -> Optional[float]:
        """The part of the rows in which the largest element is at the same place, 0..1."""
        return self.argmax_agree / self.argmax_rows if self.argmax_rows else None

    def to_json(self) -> Dict[str, Any]:
        """The numbers as JSON data, with ``sqnr_db`` (null where infinite or undefined)."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        sqnr = self.sqnr_db
        return {
            **data,
            "shape": list(self.shape),
            "exact": self.exact,
            "sqnr_db": sqnr if sqnr is not None and math.isfinite(sqnr) else None,
            "cosine": self.cosine,
            "argmax_agreement": self.argmax_agreement,
        }

    @classmethod
    def from_json(cls, data: Any) -> Difference:
        """The inverse of ``to_json``.

        Raises:
            InputError: not such data.
        """
        try:
            values = {item.name: data[item.name] for item in fields(cls)}
            if min(value for name, value in values.items() if "sum_squ" in name) < 0:
                raise ValueError("a sum of squares is negative")
            return cls(**{**values, "shape": tuple(values["shape"])})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not the difference of an output: {data!r:.200}") from error


def start(tensor: str, reference: np.ndarray) -> Difference:
    """A difference to which nothing has been added yet."""
    return Difference(tensor, dtype_text(reference), reference.shape)


def dtype_text(array: np.ndarray) -> str:
    """Numpy's name of the dtype; ``string`` for object arrays."""
    return "string" if array.dtype == object else array.dtype.name


def add(total: Difference, reference: np.ndarray, candidate: np.ndarray) -> Difference:
    """Add a sample. The arrays have one dtype and one shape.

    Raises:
        InputError: magnitudes above 1e150, whose squares float64 does not hold.
    """
    size = reference.size
    counted = replace(
        total,
        samples=total.samples + 1,
        elements=total.elements + size,
        differing=total.differing + differing(reference, candidate),
    )
    if reference.dtype == object or reference.dtype.kind in "SUV":
        return replace(counted, finite=counted.finite + size)
    if reference.dtype.kind == "c":
        return _numbers(counted, _parts(reference), _parts(candidate))
    if reference.dtype.kind == "f":
        counted = _argmax(counted, reference, candidate)
    return _numbers(counted, reference.reshape(-1), candidate.reshape(-1))


def differing(reference: np.ndarray, candidate: np.ndarray) -> int:
    """How many elements have other bits; two NaN are equal whatever their bits."""
    if reference.dtype == object:
        return sum(
            1 for one, two in zip(reference.reshape(-1), candidate.reshape(-1)) if one != two
        )
    kind = reference.dtype.kind
    if kind == "c":
        unequal = _unequal(_parts(reference), _parts(candidate)).reshape(-1, 2).any(axis=1)
        return int(np.count_nonzero(unequal))
    if kind == "f":
        return int(np.count_nonzero(_unequal(reference.reshape(-1), candidate.reshape(-1))))
    return int(np.count_nonzero(reference != candidate))


def _unequal(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    whole = f"u{one.dtype.itemsize}"
    other = np.ascontiguousarray(one).view(whole) != np.ascontiguousarray(two).view(whole)
    return np.asarray(other & ~(np.isnan(one) & np.isnan(two)))


def _parts(array: np.ndarray) -> np.ndarray:
    """Real and imaginary parts of a complex array, one after the other."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view("f8" if flat.dtype.itemsize == 16 else "f4")


def _numbers(total: Difference, reference: np.ndarray, candidate: np.ndarray) -> Difference:
    """Add flat arrays of numbers, piece by piece."""
    for begin in range(0, reference.size, _STEP):
        x = reference[begin : begin + _STEP].astype(np.float64)
        y = candidate[begin : begin + _STEP].astype(np.float64)
        total = _piece(total, x, y)
    return total


def _piece(total: Difference, x: np.ndarray, y: np.ndarray) -> Difference:
    here, there = np.isfinite(x), np.isfinite(y)
    both = here & there
    same = ~here & ~there & ((x == y) | (np.isnan(x) & np.isnan(y)))
    if not both.all():
        x, y = x[both], y[both]
    error = x - y
    largest = float(np.abs(x).max()) if x.size else 0.0
    if max(largest, float(np.abs(y).max()) if y.size else 0.0) > LARGEST:
        raise InputError(
            f"output {total.tensor!r} has magnitudes above {LARGEST:g}: they cannot be compared"
        )
    return replace(
        total,
        finite=total.finite + int(x.size),
        sum_squares=total.sum_squares + float(np.dot(x, x)),
        candidate_sum_squares=total.candidate_sum_squares + float(np.dot(y, y)),
        sum_products=total.sum_products + float(np.dot(x, y)),
        sum_squared_errors=total.sum_squared_errors + float(np.dot(error, error)),
        largest=max(total.largest, largest),
        max_abs_error=max(total.max_abs_error, float(np.abs(error).max()) if x.size else 0.0),
        nonfinite_reference=total.nonfinite_reference + int(np.count_nonzero(~here)),
        nonfinite_candidate=total.nonfinite_candidate + int(np.count_nonzero(~there)),
        nonfinite_same=total.nonfinite_same + int(np.count_nonzero(same)),
        nonfinite_new=total.nonfinite_new + int(np.count_nonzero(here & ~there)),
    )


def _argmax(total: Difference, reference: np.ndarray, candidate: np.ndarray) -> Difference:
    """Count rows; those with anything that is not finite are left out."""
    if not reference.ndim or reference.shape[-1] < 2 or not reference.size:
        return total
    x = reference.reshape(-1, reference.shape[-1])
    y = candidate.reshape(x.shape)
    rows = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    agree = (x.argmax(axis=1) == y.argmax(axis=1)) & rows
    return replace(
        total,
        argmax_rows=total.argmax_rows + int(np.count_nonzero(rows)),
        argmax_agree=total.argmax_agree + int(np.count_nonzero(agree)),
    )
