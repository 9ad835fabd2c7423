"""SQuant: rounding whose errors cancel within a kernel and within an output channel. No data.

Rounding each weight by itself leaves errors e = q - w / s whose sum over a channel grows like the
square root of their number; where neighbouring inputs are alike, the sum is what the next layer
sees. SQuant rounds (E), then flips codes to the other neighbour so that the sum over each kernel
(K) and then over each channel (C) is at most half a step:

    K: S = sum of e over a kernel; flip round(|S|) values, those with the largest |e| first
    C: the same over a whole channel, one flip per kernel at most

After it |e| <= 1, every kernel sums to at most 1 and every channel to at most 1/2 (as long as there
are enough values that may move).

Source: Guo et al., "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation"
(ICLR 2022, arXiv:2202.07471), written from its description.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from graphwq.quant.scheme import max_code
from graphwq.quant.snap import nearest


def squant(values: np.ndarray, scale: np.ndarray, num_bits: int) -> np.ndarray:
    """Codes for a weight.

    Args:
        values: float [channels, kernel, inputs]: for each output channel the kernel positions of
            each input channel; kernel is 1 for a matrix.
        scale: float32 [channels], under which the largest value of each channel has code +-T.
        num_bits: 2..8.

    Returns:
        int8, shape of ``values``. Zeros stay 0 and one code +-T of every channel stays.
    """
    top = max_code(num_bits)
    ratio = values.astype(np.float64) / scale.astype(np.float64)[:, None, None]
    codes = nearest(ratio, 1.0, num_bits)
    error = codes - ratio
    movable = ~_largest(values)  # a zero has no error: it is never flipped
    up = movable & (error < 0) & (codes < top)
    down = movable & (error > 0) & (codes > -top)
    if values.shape[1] == 1:
        eligible_up, eligible_down = up, down
    else:
        eligible_up, eligible_down = _kernels(codes, error, up, down)
    _channels(codes, error, eligible_up, eligible_down)
    return codes.astype(np.int8)


def _largest(values: np.ndarray) -> np.ndarray:
    """True for the largest magnitude of each channel."""
    flat = np.abs(values).reshape(len(values), -1)
    mask = np.zeros(flat.shape, bool)
    mask[np.arange(len(flat)), flat.argmax(1)] = True
    return mask.reshape(values.shape)


def _order(error: np.ndarray, candidates: np.ndarray, axis: int) -> np.ndarray:
    """Rank of each value along ``axis``: candidates first, the largest |error| first."""
    key = np.where(candidates, -np.abs(error), 1.0)
    order = np.argsort(key, axis=axis, kind="stable")
    return np.argsort(order, axis=axis, kind="stable")


def _kernels(
    codes: np.ndarray, error: np.ndarray, up: np.ndarray, down: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Stage K, in place; return the one value of each kernel that stage C may move up or down."""
    total = error.sum(1, keepdims=True)
    rising = total < 0
    candidates = np.where(rising, up, down)
    step = np.where(rising, 1.0, -1.0)
    available = candidates.sum(1, keepdims=True)
    count = np.minimum(np.rint(np.abs(total)), available)
    rank = _order(error, candidates, 1)
    flipped = candidates & (rank < count)
    codes += np.where(flipped, step, 0.0)
    error += np.where(flipped, step, 0.0)
    back = (count > 0) & (count >= np.abs(total))
    returns = flipped & back & (rank == count - 1)
    follows = candidates & ~back & (rank == count)
    return (follows & rising) | (returns & ~rising), (follows & ~rising) | (returns & rising)


def _channels(codes: np.ndarray, error: np.ndarray, up: np.ndarray, down: np.ndarray) -> None:
    """Stage C, in place."""
    flat = (len(codes), -1)
    total = error.reshape(flat).sum(1)[:, None]
    rising = total < 0
    candidates = np.where(rising, up.reshape(flat), down.reshape(flat))
    count = np.minimum(np.rint(np.abs(total)), candidates.sum(1, keepdims=True))
    rank = _order(error.reshape(flat), candidates, 1)
    change = np.where(candidates & (rank < count), np.where(rising, 1.0, -1.0), 0.0)
    codes += change.reshape(codes.shape)
