"""Discrete descent: move single codes by one as long as that lowers the error.

The error of a row is d H d^T with d = w - s q. Moving code i by u = +-1 changes it by

    -2 u s g_i + s^2 H_ii,    g = d H

so the best move is known for all i at once; after it g changes by -u s H_i. Each row makes its best
move until none lowers the error: a local minimum, never worse than where it started.

Source: coordinate descent on the quadratic that AdaRound (arXiv:2004.10568) poses as a QUBO.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

from graphwq.quant.scheme import max_code

#: A move must lower the error by this part of s^2 H_ii: rounding errors are no gain.
_LEAST = 1e-9


def flip(
    codes: np.ndarray,
    rows: np.ndarray,
    scale: np.ndarray,
    hessian: np.ndarray,
    num_bits: int,
    movable: Optional[np.ndarray] = None,
) -> np.ndarray:
    """Improve codes.

    Args:
        codes: float64 [problems, rows, n], whole numbers in -T..T.
        rows: float64, same shape: the weights.
        scale: float64 [problems, rows].
        hessian: float64 [problems, n, n].
        num_bits: 2..8.
        movable: bool, shape of rows; ``rows != 0`` where None.

    Returns:
        float64 codes. The only code +-T of a row is not moved away from there; where a row has
        none, none is added.
    """
    top = max_code(num_bits)
    may = (rows != 0) if movable is None else movable
    problems, count, size = rows.shape
    codes = codes.reshape(-1, size).copy()
    step = scale.reshape(-1)
    missing = rows - codes.reshape(rows.shape) * scale[:, :, None]
    slope = (missing @ hessian).reshape(-1, size)
    curve = np.diagonal(hessian, axis1=1, axis2=2).repeat(count, 0)
    may = may.reshape(-1, size)
    owner = np.arange(problems).repeat(count)
    tops = (np.abs(codes) == top).sum(1)
    active = np.arange(len(codes))
    while len(active):
        own = slope[active]
        now = codes[active]
        toward = np.where(own > 0, 1.0, -1.0)
        s = step[active][:, None]
        gain = 2 * s * np.abs(own) - (1 + _LEAST) * np.square(s) * curve[active]
        pinned = (tops[active] == 1)[:, None] & (np.abs(now) == top)
        allowed = may[active] & (np.abs(now + toward) <= top) & ~pinned
        gain = np.where(allowed, gain, 0.0)
        best = gain.argmax(1)
        line = np.arange(len(active))
        better = gain[line, best] > 0
        active, best, line = active[better], best[better], line[better]
        move = toward[line, best]
        before = codes[active, best]
        codes[active, best] = before + move
        tops[active] += (np.abs(before + move) == top).astype(int) - (np.abs(before) == top)
        slope[active] -= (move * step[active])[:, None] * hessian[owner[active], best]
    return codes.reshape(rows.shape)
