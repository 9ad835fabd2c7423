"""One weight by second-order rounding: scales and codes together, under the Hessians of its layers.

    1. GPTQ under each of a range of scales absmax / T * f; each group keeps the f of least error
    2. alternately: flips, then the least-squares scale for the codes; neither raises the error
    3. the scale becomes a fixed point of the MNN map, each group gets a code +-T, flips again

The scale is judged by the error after GPTQ, not by that of rounding to nearest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import List, Sequence, Tuple

import numpy as np

from graphwq.quant.flips import flip
from graphwq.quant.gptq import factor, gptq_masked
from graphwq.quant.part import Part, by_group, weighted_error
from graphwq.quant.rescale import least_squares_scales
from graphwq.quant.scheme import FLOAT32_BITS, max_code
from graphwq.quant.snap import snap_scale
from graphwq.quant.top import reach_top

#: The smallest part f of absmax / T that is tried, by bits; below 4 bits most values are clipped.
_LEAST_FACTOR = {2: 0.22, 3: 0.35, 4: 0.5, 5: 0.62, 6: 0.75, 7: 0.85, 8: 0.9}
_FACTORS = 12
#: Fewer where one GPTQ run is long: multiplications that all of them together may take.
_FEWEST_FACTORS = 4
_WORK = 3 * 10**10
_SWEEPS = 4
#: A new scale must lower the error by this part, or the alternation ends.
_PROGRESS = 1e-4


def absmax_of(parts: Sequence[Part], count: int) -> np.ndarray:
    """The largest magnitude of the movable values of each of ``count`` groups."""
    absmax = np.zeros(count)
    for part in parts:
        largest = np.where(part.movable, np.abs(part.rows), 0.0).max(2)
        np.maximum.at(absmax, part.groups.reshape(-1), largest.reshape(-1))
    return absmax


def second_order(
    parts: Sequence[Part],
    count: int,
    num_bits: int,
    damp: float,
    scale_bits: int = FLOAT32_BITS,
) -> Tuple[List[np.ndarray], np.ndarray]:
    """Codes and scales.

    Args:
        parts: the layers.
        count: number of scales.
        num_bits: 2..8.
        damp: part of the mean diagonal that is added to each H before it is factored.
        scale_bits: significant bits of a scale.

    Returns:
        float64 codes for each part and float32 [count] scales; the scale of a group of zeros is 1.

    Raises:
        numpy.linalg.LinAlgError: a Hessian cannot be factored.
    """
    base = absmax_of(parts, count) / max_code(num_bits)
    alive = base >= np.finfo(np.float32).tiny
    base = np.where(alive, base, 1.0)
    parts = [replace(part, movable=part.movable & alive[part.groups][:, :, None]) for part in parts]
    codes, scale = _search(parts, base, num_bits, damp)
    codes, scale = _alternate(parts, codes, scale, num_bits)
    final = snap_scale(np.where(alive, scale, 1.0), num_bits, scale_bits).astype(np.float64)
    codes = reach_top(parts, codes, final, num_bits)
    return _flipped(parts, codes, final, num_bits), final.astype(np.float32)


def _flipped(
    parts: Sequence[Part], codes: Sequence[np.ndarray], scale: np.ndarray, num_bits: int
) -> List[np.ndarray]:
    return [
        flip(own, part.rows, scale[part.groups], part.hessian, num_bits, part.movable)
        for part, own in zip(parts, codes)
    ]


def total_error(
    parts: Sequence[Part], codes: Sequence[np.ndarray], scale: np.ndarray
) -> np.ndarray:
    """The error d H d^T of each group, float64 [groups]."""
    errors = [
        weighted_error(own, part.rows, scale[part.groups], part.hessian)
        for part, own in zip(parts, codes)
    ]
    return by_group(parts, errors, len(scale))


def _search(
    parts: Sequence[Part], base: np.ndarray, num_bits: int, damp: float
) -> Tuple[List[np.ndarray], np.ndarray]:
    factored = [factor(part.hessian, damp) for part in parts]
    best = np.full(len(base), np.inf)
    scale = base.copy()
    codes = [np.zeros(part.rows.shape) for part in parts]
    work = sum(part.rows.size * part.rows.shape[-1] for part in parts)
    count = int(np.clip(_WORK // max(work, 1), _FEWEST_FACTORS, _FACTORS))
    for share in np.geomspace(1.0, _LEAST_FACTOR[num_bits], count):
        trial = base * share
        found = [
            gptq_masked(part.rows, part.movable, trial[part.groups], own, num_bits)
            for part, own in zip(parts, factored)
        ]
        error = by_group(parts, [rounded.error for rounded in found], len(base))
        better = error < best
        best = np.where(better, error, best)
        scale = np.where(better, trial, scale)
        for part, own, rounded in zip(parts, codes, found):
            lines = better[part.groups]
            own[lines] = rounded.codes[lines]
    return codes, scale


def _alternate(
    parts: Sequence[Part], codes: List[np.ndarray], scale: np.ndarray, num_bits: int
) -> Tuple[List[np.ndarray], np.ndarray]:
    before = np.inf
    for _ in range(_SWEEPS):
        codes = _flipped(parts, codes, scale, num_bits)
        scale = least_squares_scales(parts, codes, scale)
        now = float(total_error(parts, codes, scale).sum())
        if not now < before * (1.0 - _PROGRESS):
            break
        before = now
    return codes, scale
