"""X^T X, the same to the last bit whatever the number of threads.

Sums of floating-point products depend on their order, and a matrix product on several threads has
another order than on one. So the numbers are first put on a grid of whole numbers of ``_BITS``
bits, relative to the largest one: products and sums of those are exact in float64.
"""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

#: 2 * 18 bits of a product and 2^16 rows stay below 2^53.
_BITS = 18
_ROWS = 1 << 16


def gram(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """rows^T others for each problem.

    Args:
        rows, others: float [problems, positions, n]; finite.

    Returns:
        float64 [problems, n, n].
    """
    if len(rows) > 1 and rows.strides[0] == others.strides[0] == 0:  # one input for all problems
        first = rows[:1]
        single = gram(first, first if others is rows else others[:1])
        return np.repeat(single, len(rows), 0)
    left, unit = _whole(rows)
    right, other_unit = (left, unit) if others is rows else _whole(others)
    total = np.zeros((rows.shape[0], rows.shape[2], others.shape[2]))
    for begin in range(0, rows.shape[1], _ROWS):
        part = slice(begin, begin + _ROWS)
        total += np.matmul(left[:, part].swapaxes(1, 2), right[:, part])
    return total * unit * other_unit


def _whole(rows: np.ndarray) -> Tuple[np.ndarray, float]:
    largest = float(np.abs(rows).max()) if rows.size else 0.0
    if largest == 0.0:
        return np.zeros(rows.shape), 1.0
    exponent = math.frexp(largest)[1]
    unit = math.ldexp(1.0, exponent - _BITS)
    return np.rint(rows.astype(np.float64, order="C") / unit), unit
