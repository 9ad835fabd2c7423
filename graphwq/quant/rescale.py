"""The scale after the codes: codes that are fixed leave the scale free.

s = (q H w) / (q H q)        the least d H d^T, d = w - s q
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from graphwq.quant.part import Part, by_group


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
