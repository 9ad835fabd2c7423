"""The layers that a weight is part of, as arrays: rows, and the Hessians that weigh errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np


@dataclass(frozen=True)
class Part:
    """Layers of one size that use one weight: for instance all channels of a depthwise one.

    Attributes:
        rows: float64 [problems, rows, n], what is to be rounded.
        movable: bool, same shape; elsewhere the code is 0 (zeros of the weight stay zeros).
        hessian: float64 [problems, n, n], X^T X of the inputs.
        groups: int [problems, rows], the number of the scale that the row has.
    """

    rows: np.ndarray
    movable: np.ndarray
    hessian: np.ndarray
    groups: np.ndarray


def by_group(parts: Sequence[Part], values: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Sum one number per row over the rows of each of ``count`` groups."""
    total = np.zeros(count)
    for part, own in zip(parts, values):
        total += np.bincount(part.groups.reshape(-1), own.reshape(-1), count)
    return total


def weighted_error(
    codes: np.ndarray, rows: np.ndarray, scale: np.ndarray, hessian: np.ndarray
) -> np.ndarray:
    """The error d H d^T, d = rows - codes * scale, of each row: float64 [problems, rows]."""
    missing = rows - codes * scale[:, :, None]
    error: np.ndarray = np.einsum("bri,bri->br", missing @ hessian, missing)
    return error
