"""A change of a bias as whole numbers, so that it can be told from any other change.

    new = old + code * step * 2^exponent        -256 <= code <= 256

``step`` is the largest magnitude of the layer's quantized weight, the same in every storage form. A
correction is known to a per cent or so, so nothing is lost by this; but of the changes that others
could make to a float32 constant hardly one looks like one, and a reader finds codes and exponent
again from the two constants and the weight alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np

from graphwq.quant.scheme import QuantizedTensor

#: Bits of a code without its sign.
_BITS = 8
_TOP = 1 << _BITS


@dataclass(frozen=True)
class Shift:
    """A changed constant.

    Attributes:
        codes: int64, shape of the constant.
        step: float32 > 0, see above.
        exponent: of the unit step * 2^exponent.
    """

    codes: np.ndarray
    step: float
    exponent: int

    @property
    def values(self) -> np.ndarray:
        """What is added, float64, shape of the constant."""
        unit = math.ldexp(self.step, self.exponent)
        return np.asarray(self.codes * unit, np.float64)

    @property
    def largest(self) -> float:
        """The largest magnitude of ``values``."""
        return float(np.abs(self.values).max()) if self.codes.size else 0.0

    def apply(self, old: np.ndarray) -> np.ndarray:
        """The new constant, in the dtype of the old one."""
        return np.asarray((old.astype(np.float64) + self.values).astype(old.dtype))


def step_of(quantized: QuantizedTensor) -> float:
    """The step for the bias of a layer with this weight; 0 where all of it is 0."""
    return float(np.abs(quantized.dequantize()).max())


def shift_of(wanted: np.ndarray, step: float) -> Optional[Shift]:
    """The shift nearest to what is wanted.

    Args:
        wanted: float64, any shape.
        step: > 0.

    Returns:
        None where nothing is wanted, or it is not finite.
    """
    largest = float(np.abs(wanted).max()) if wanted.size else 0.0
    if not (math.isfinite(largest) and math.isfinite(step) and step > 0 and largest > 0):
        return None
    exponent = math.frexp(largest / step)[1] - _BITS
    unit = math.ldexp(step, exponent)
    if not (unit > 0 and math.isfinite(unit)):
        return None
    return Shift(np.rint(wanted / unit).astype(np.int64), step, exponent)


def read_shift(old: np.ndarray, new: np.ndarray, step: float) -> Optional[Shift]:
    """The shift that leads from one constant to another, bit for bit; None where none does."""
    if (old.shape, old.dtype) != (new.shape, new.dtype) or not old.size:
        return None
    difference = new.astype(np.float64) - old.astype(np.float64)
    near = shift_of(difference, step)
    if near is None:
        return None
    for exponent in (near.exponent, near.exponent - 1, near.exponent + 1):
        unit = math.ldexp(step, exponent)
        if not unit > 0:
            continue
        found = Shift(np.rint(difference / unit).astype(np.int64), step, exponent)
        if np.abs(found.codes).max() <= _TOP and found.apply(old).tobytes() == new.tobytes():
            return found
    return None
