"""Correcting a layer's weights for the error of the layers before it.

The float graph gives a layer the inputs X_f, the graph quantized so far gives it X_q. The weights
that reproduce the float outputs best on what the layer really gets are the least-squares solution

    W_t = argmin |W X_f^T - V X_q^T|^2 + l |V - W|^2  =  (W C + l W) (H_q + l I)^-1
    H_q = X_q^T X_q,   C = X_f^T X_q,   l = ridge * mean diagonal of H_q

with a ridge towards the weights as they were. Rounding W_t instead of W lets each layer undo part
of what went wrong before it. (Found and measured in this project; no paper is followed.)
"""

from __future__ import annotations

import numpy as np


def corrected(
    rows: np.ndarray, hessian: np.ndarray, cross: np.ndarray, ridge: float = 0.003
) -> np.ndarray:
    """The corrected target.

    Args:
        rows: float64 [problems, rows, n], the weights.
        hessian: float64 [problems, n, n], X_q^T X_q.
        cross: float64 [problems, n, n], X_f^T X_q.
        ridge: part of the mean diagonal of H.

    Returns:
        float64, shape of rows.

    Raises:
        numpy.linalg.LinAlgError: the system is singular, or the result is not finite.
    """
    index = np.arange(hessian.shape[1])
    mean = np.diagonal(hessian, axis1=1, axis2=2).mean(1)
    weight = (ridge * np.where(mean > 0, mean, 1.0))[:, None]
    system = hessian.copy()
    system[:, index, index] += weight
    right = rows @ cross + weight[:, :, None] * rows
    result: np.ndarray = np.linalg.solve(system, right.swapaxes(1, 2)).swapaxes(1, 2)
    if not np.isfinite(result).all():
        raise np.linalg.LinAlgError("the corrected weights are not finite")
    return result
