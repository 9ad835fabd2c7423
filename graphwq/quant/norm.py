"""The scale after the codes: codes that are fixed leave the scale free.

    least squares    s = (q H w) / (q H q)        the least d H d^T, d = w - s q
    norm             s = |w| / |q|                the channel keeps its norm

The second is the norm correction of Banner et al. ("Post training 4-bit quantization of
convolutional networks", arXiv:1810.05723) without its shift of the mean, which a symmetric grid
cannot hold.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from graphwq.quant.part import Part, by_group
from graphwq.quant.scheme import FLOAT32_BITS
from graphwq.quant.snap import snap_scale


def norm_scales(
    groups: np.ndarray,
    codes: np.ndarray,
    scale: np.ndarray,
    num_bits: int,
    scale_bits: int = FLOAT32_BITS,
) -> np.ndarray:
    """Scales under which every group keeps its norm.

    Args:
        groups: float [groups, values].
        codes: whole numbers, same shape.
        scale: float32 [groups], kept where all codes are 0.
        num_bits: 2..8.
        scale_bits: significant bits of a scale.

    Returns:
        float32 [groups].
    """
    values = np.sqrt(np.square(groups.astype(np.float64)).sum(1))
    length = np.sqrt(np.square(codes.astype(np.float64)).sum(1))
    free = (length > 0) & (values > 0)
    ratio = values / np.where(free, length, 1.0)
    return np.where(free, snap_scale(ratio, num_bits, scale_bits), scale).astype(np.float32)


def least_squares_scales(
    parts: Sequence[Part], codes: Sequence[np.ndarray], scale: np.ndarray
) -> np.ndarray:
    """Scales of least error for fixed codes, not snapped.

    Args:
        parts: the layers.
        codes: float64 [problems, rows, n] for each of them.
        scale: float64 [groups], kept where the best one is not positive.

    Returns:
        float64 [groups].
    """
    with_rows, with_codes = [], []
    for part, own in zip(parts, codes):
        product = own @ part.hessian
        with_rows.append(np.einsum("bri,bri->br", product, part.rows))
        with_codes.append(np.einsum("bri,bri->br", product, own))
    above = by_group(parts, with_rows, len(scale))
    below = by_group(parts, with_codes, len(scale))
    usable = (above > 0) & (below > 0)
    return np.where(usable, above / np.where(usable, below, 1.0), scale)
