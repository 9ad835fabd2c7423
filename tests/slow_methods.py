"""Slow scalar versions of the methods beyond absmax, written from their equations only."""

from __future__ import annotations

from itertools import product
from typing import List, Sequence, Tuple

import numpy as np


def rounded_error(values: Sequence[float], scale: float, top: int) -> float:
    """Sum of (w - s clip(round(w / s)))^2 in plain floats."""
    total = 0.0
    for value in values:
        code = max(-top, min(top, round(value / scale)))
        total += (value - scale * code) ** 2
    return total


def best_scale_by_search(values: Sequence[float], top: int, limit: float, steps: int) -> float:
    """The least error over a fine grid of scales up to ``limit``."""
    scales = [limit * (k + 1) / steps for k in range(steps)]
    return min(rounded_error(values, scale, top) for scale in scales)


def quadratic(missing: np.ndarray, hessian: np.ndarray) -> float:
    """The error d H d^T, term by term."""
    total = 0.0
    for i, left in enumerate(missing):
        for j, right in enumerate(missing):
            total += float(left) * float(hessian[i, j]) * float(right)
    return total


def brute_force(row: np.ndarray, scale: float, hessian: np.ndarray, top: int) -> float:
    """The least d H d^T over all codes."""
    return min(
        quadratic(row - scale * np.array(codes, float), hessian)
        for codes in product(range(-top, top + 1), repeat=len(row))
    )


def gptq_by_inverse(row: np.ndarray, scale: float, hessian: np.ndarray, top: int) -> List[int]:
    """GPTQ as its paper writes it: eliminate columns from the inverse of H one by one."""
    order = sorted(range(len(row)), key=lambda j: -hessian[j, j])
    inverse = np.linalg.inv(hessian)
    weights = row.astype(float).copy()
    codes = [0] * len(row)
    for j in order:
        code = max(-top, min(top, round(weights[j] / scale)))
        codes[j] = code
        error = (weights[j] - scale * code) / inverse[j, j]
        weights -= error * inverse[j]
        inverse -= np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, j] = 1.0  # eliminated; never read again
    return codes


def squant_slow(channel: np.ndarray, scale: float, top: int) -> np.ndarray:
    """SQuant of one output channel [kernel, inputs], value by value."""
    kernel, inputs = channel.shape
    ratio = channel / scale
    codes = np.clip(np.rint(ratio), -top, top)
    error = codes - ratio
    flat = np.abs(channel).reshape(-1)
    pinned = divmod(int(flat.argmax()), inputs)
    eligible: List[Tuple[int, int, int]] = []

    def candidates(places: Sequence[Tuple[int, int]], up: bool) -> List[Tuple[int, int]]:
        found = []
        for place in places:
            if channel[place] == 0 or place == pinned:
                continue
            if up and error[place] < 0 and codes[place] < top:
                found.append(place)
            if not up and error[place] > 0 and codes[place] > -top:
                found.append(place)
        return sorted(found, key=lambda place: -abs(error[place]))

    for column in range(inputs):
        places = [(k, column) for k in range(kernel)]
        if kernel == 1:
            for up in (True, False):
                eligible += [(*place, 1 if up else -1) for place in candidates(places, up)]
            continue
        total = sum(error[place] for place in places)
        up = total < 0
        step = 1 if up else -1
        found = candidates(places, up)
        count = min(int(np.rint(abs(total))), len(found))
        for place in found[:count]:
            codes[place] += step
            error[place] += step
        if count > 0 and count >= abs(total):
            eligible.append((*found[count - 1], -step))
        elif count < len(found):
            eligible.append((*found[count], step))
    total = float(error.sum())
    step = 1 if total < 0 else -1
    found = [(k, c) for k, c, way in eligible if way == step]
    found.sort(key=lambda place: (-abs(error[place]), place))
    for place in found[: int(np.rint(abs(total)))]:
        codes[place] += step
    return codes.astype(np.int8)
