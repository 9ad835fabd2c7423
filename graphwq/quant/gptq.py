"""Second-order rounding: each column's rounding error is made good by the columns after it.

For a row w of n weights, its codes q under the scale s and H = X^T X of the inputs that it meets:

    minimize    d H d^T,    d = w - s q

With H = M M^T and M upper triangular, d H d^T = sum_j (sum_{i <= j} d_i M_ij)^2: the columns are
walked in order, and column j is rounded to where it makes its own term as small as it can:

    t_j = w_j + sum_{i < j} d_i M_ij / M_jj        q_j = clip(round(t_j / s), -T, T)

This is GPTQ (Frantar et al., arXiv:2210.17323; OBQ: arXiv:2208.11580) in the form of Babai's
nearest plane: no inverse of H is needed, only one Cholesky factor. Columns go in the order of
falling H_jj ("act-order"), each problem in its own order. Columns that never saw an input
(H_jj = 0) are rounded to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphwq.quant.scheme import max_code

#: Columns that are rounded between two matrix products.
_BLOCK = 64
#: Part of the mean diagonal that is added where the Cholesky factor does not exist without it.
_GROWTH = 10.0
_LEAST_DAMP = 1e-9
_TRIES = 9


@dataclass(frozen=True)
class Factor:
    """H of ``problems`` layers, factored for rounding.

    Attributes:
        order: int [problems, n], the order in which columns are rounded.
        upper: float64 [problems, n, n], M of the reordered, damped H.
    """

    order: np.ndarray
    upper: np.ndarray


def factor(hessian: np.ndarray, damp: float) -> Factor:
    """Factor H.

    Args:
        hessian: float64 [problems, n, n], symmetric, positive semidefinite.
        damp: part of the mean diagonal that is added to the diagonal; it grows tenfold as long as
            a problem is still singular.

    Raises:
        numpy.linalg.LinAlgError: H is not finite, or indefinite beyond what damping mends.
    """
    if not np.isfinite(hessian).all():
        raise np.linalg.LinAlgError("the Hessian holds NaN or Inf")
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    sorted_ = np.take_along_axis(hessian, order[:, :, None], 1)
    sorted_ = np.take_along_axis(sorted_, order[:, None, :], 2)
    dead = np.take_along_axis(diagonal, order, 1) <= 0
    mean = np.where(diagonal.mean(1) > 0, diagonal.mean(1), 1.0)
    index = np.arange(hessian.shape[1])
    added = damp
    for _ in range(_TRIES):
        damped = sorted_.copy()
        damped[:, index, index] += np.where(dead, 1.0, added) * mean[:, None]
        try:
            lower = np.linalg.cholesky(damped[:, ::-1, ::-1])
        except np.linalg.LinAlgError:
            added = max(added * _GROWTH, _LEAST_DAMP)
            continue
        return Factor(order, lower[:, ::-1, ::-1])
    raise np.linalg.LinAlgError("the Hessian is not positive semidefinite")


@dataclass(frozen=True)
class Rounded:
    """Codes of ``gptq``.

    Attributes:
        codes: float64 [problems, rows, n], whole numbers in -T..T.
        error: float64 [problems, rows], d H d^T under the damped H.
    """

    codes: np.ndarray
    error: np.ndarray


def gptq(rows: np.ndarray, scale: np.ndarray, factored: Factor, num_bits: int) -> Rounded:
    """Round rows under their scales.

    Args:
        rows: float64 [problems, rows, n]. Where it is 0, the code is 0.
        scale: float64 [problems, rows], > 0.
        factored: H of the problems.
        num_bits: 2..8.
    """
    return gptq_masked(rows, rows != 0, scale, factored, num_bits)


def gptq_masked(
    rows: np.ndarray, movable: np.ndarray, scale: np.ndarray, factored: Factor, num_bits: int
) -> Rounded:
    """As ``gptq``, with the code 0 exactly where ``movable`` (bool, shape of rows) is false."""
    top = max_code(num_bits)
    order = np.broadcast_to(factored.order[:, None, :], rows.shape)
    values = np.take_along_axis(rows, order, 2)
    mask = np.take_along_axis(movable, order, 2)
    upper = factored.upper
    size = rows.shape[2]
    pivot = np.diagonal(upper, axis1=1, axis2=2)
    inverse = (1.0 / scale)[:, :, None]
    codes = np.zeros(values.shape)
    missing = np.zeros(values.shape)  # w - s q of the columns that are done
    error = np.zeros(rows.shape[:2])
    for begin in range(0, size, _BLOCK):
        end = min(begin + _BLOCK, size)
        carried = missing[:, :, :begin] @ upper[:, :begin, begin:end]
        for column in range(begin, end):
            own = carried[:, :, column - begin]
            if column > begin:
                part = missing[:, :, begin:column] @ upper[:, begin:column, column, None]
                own = own + part[:, :, 0]
            weight = values[:, :, column]
            target = weight + own / pivot[:, None, column]
            code = np.clip(np.rint(target * inverse[:, :, 0]), -top, top)
            code = np.where(mask[:, :, column], code, 0.0)
            value = code * scale
            codes[:, :, column] = code
            missing[:, :, column] = weight - value
            error += np.square((target - value) * pivot[:, None, column])
    result = np.empty(codes.shape)
    np.put_along_axis(result, order, codes, 2)
    return Rounded(result, error)
