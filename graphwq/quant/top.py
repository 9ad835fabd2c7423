"""Seeing to it that every group holds a code T or -T, from which MNN derives its scale."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from graphwq.quant.part import Part
from graphwq.quant.scheme import max_code

#: (number of the part, index of the code, new code)
Place = Tuple[int, Tuple[int, int, int], int]


def reach_top(
    parts: Sequence[Part], codes: Sequence[np.ndarray], scale: np.ndarray, num_bits: int
) -> List[np.ndarray]:
    """Where a group has no code +-T, give it the one that raises the error least.

    Setting code i to t changes d = w - s q by c = s (q_i - t) and the error d H d^T by
    2 c g_i + c^2 H_ii, g = d H.

    Args:
        parts: the layers.
        codes: float64 [problems, rows, n] for each of them.
        scale: float64 [groups].
        num_bits: 2..8.

    Returns:
        the codes. A group in which nothing may move keeps its zeros.
    """
    top = max_code(num_bits)
    reached = np.zeros(len(scale), bool)
    for part, own in zip(parts, codes):
        has = (np.abs(own) == top).any(2)
        np.logical_or.at(reached, part.groups.reshape(-1), has.reshape(-1))
    if reached.all():
        return list(codes)
    codes = [own.copy() for own in codes]
    cheapest = np.full(len(scale), np.inf)
    places: List[Optional[Place]] = [None] * len(scale)
    for number, (part, own) in enumerate(zip(parts, codes)):
        step = scale[part.groups][:, :, None]
        slope = (part.rows - own * step) @ part.hessian
        curve = np.diagonal(part.hessian, axis1=1, axis2=2)[:, None, :]
        for target in (top, -top):
            change = step * (own - target)
            cost = np.where(part.movable, 2 * change * slope + np.square(change) * curve, np.inf)
            column = cost.argmin(2)
            least = np.take_along_axis(cost, column[:, :, None], 2)[:, :, 0]
            for problem, row in np.argwhere(~reached[part.groups] & np.isfinite(least)):
                group = int(part.groups[problem, row])
                if least[problem, row] < cheapest[group]:
                    cheapest[group] = least[problem, row]
                    places[group] = (number, (problem, row, int(column[problem, row])), target)
    for place in places:
        if place is not None:
            number, index, target = place
            codes[number][index] = target
    return codes
