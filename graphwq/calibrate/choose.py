"""Codes for one weight from what its layers saw, and the evidence for them."""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import numpy as np

from graphwq.calibrate.layer import Layer, Seen, together
from graphwq.errors import UnsupportedError
from graphwq.quant.metrics import sqnr_db
from graphwq.quant.part import Part
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import QuantizedTensor, QuantScheme
from graphwq.quant.second_order import second_order
from graphwq.quant.target import corrected

#: Ridges of the target correction that are tried, as parts of the mean diagonal of H, and the
#: damping of GPTQ. An infinite ridge leaves the weights as they are.
RIDGES = (0.003, 0.03, 0.3, math.inf)
DAMP = 0.001
#: Normalization by the batch gives every channel the variance one again, also one that was
#: corrected to nearly nothing and is mostly noise, and makes small differences large. In graphs
#: that have it a correction has to lower the error to this part of what less of it does, and
#: directions that the inputs use little count for more. (Measured on one network, in
#: benchmarks/lowbits.md: without this, one draw of made-up inputs in three loses everything on
#: some photographs.)
_CLEARLY = 0.8
_LITTLE_DAMP = 0.0003
#: Layers of more inputs try fewer ridges: each of them costs two linear systems of that size.
_MANY_COLUMNS = 1024


def choose(
    layer: Layer,
    halves: Sequence[Sequence[Seen]],
    weight: np.ndarray,
    scheme: QuantScheme,
    by_batch: bool,
) -> QuantizedTensor:
    """Correct the target, then round it.

    The ridge is the one whose corrected weights, found on one half of the samples, bring the
    outputs nearest to the float ones on the other half.

    Args:
        layer: the weight's uses.
        halves: the moments of the samples, see ``observe``.
        weight: its values.
        scheme: number of bits and granularity.
        by_batch: whether the graph normalizes by the batch.

    Raises:
        numpy.linalg.LinAlgError: the Hessians do not allow it.
    """
    flat = weight.reshape(-1).astype(np.float64)
    ridge = best_ridge(halves, flat, _CLEARLY if by_batch else 1.0)
    seen = together(halves)
    targets = [_target(flat[one.index], one, ridge) for one in seen]
    return rounded(layer, seen, targets, weight, scheme, _LITTLE_DAMP if by_batch else DAMP)


def rounded(
    layer: Layer,
    seen: Sequence[Seen],
    targets: Sequence[np.ndarray],
    weight: np.ndarray,
    scheme: QuantScheme,
    damp: float = DAMP,
) -> QuantizedTensor:
    """Round targets [problems, rows, n] under the Hessians of ``seen``; zeros stay zeros.

    Raises:
        numpy.linalg.LinAlgError: the Hessians do not allow it.
    """
    flat = weight.reshape(-1)
    parts = [
        Part(target, flat[one.index] != 0, one.hessian, layer.groups[one.index[:, :, 0]])
        for one, target in zip(seen, targets)
    ]
    found, scale = second_order(parts, layer.count, scheme.num_bits, damp, scheme.scale_bits)
    codes = np.zeros(weight.size, np.int8)
    for one, own in zip(seen, found):
        codes[one.index] = own.astype(np.int8)
    shape = scale_shape(weight.shape, scheme.granularity)
    return QuantizedTensor(codes.reshape(weight.shape), scale.reshape(shape), scheme)


def best_ridge(halves: Sequence[Sequence[Seen]], weight: np.ndarray, clearly: float = 1.0) -> float:
    """The ridge that two-fold cross-validation prefers; a middle one where there is one half.

    Args:
        halves: the moments of the samples, see ``observe``.
        weight: float values.
        clearly: the part of the error of a larger ridge that a smaller one must be below.
    """
    if len(halves) < 2:
        return RIDGES[1]
    ridges: Sequence[float] = RIDGES
    if any(one.hessian.shape[-1] > _MANY_COLUMNS for one in halves[0]):
        ridges = (RIDGES[1], RIDGES[-1])
    best, least = math.inf, math.inf
    for ridge in sorted(ridges, reverse=True):
        error = 0.0
        for fitted, judged in ((halves[0], halves[1]), (halves[1], halves[0])):
            for one, other in zip(fitted, judged):
                rows = weight[one.index]
                error += _distance(rows, _target(rows, one, ridge), other)
        if error < clearly * least:
            best, least = ridge, error
    return best


def _target(rows: np.ndarray, seen: Seen, ridge: float) -> np.ndarray:
    return rows if math.isinf(ridge) else corrected(rows, seen.hessian, seen.cross, ridge)


def _distance(rows: np.ndarray, new: np.ndarray, seen: Seen) -> float:
    """|X_f w - X_q v|^2 = w F w - 2 w C v + v H v; F = X_f^T X_f, C = X_f^T X_q, H = X_q^T X_q."""
    error = _form(rows, seen.own, rows) - 2 * _form(rows, seen.cross, new)
    return error + _form(new, seen.hessian, new)


def output_error(
    seen: Sequence[Seen], weight: np.ndarray, values: np.ndarray
) -> Tuple[float, float]:
    """How far the layer's outputs are from those of the float graph.

    Args:
        seen: the moments.
        weight: float values w.
        values: quantized values v.

    Returns:
        (sum of squares of the float outputs, sum of squared errors).
    """
    flat, other = (array.reshape(-1).astype(np.float64) for array in (weight, values))
    signal = noise = 0.0
    for one in seen:
        rows, new = flat[one.index], other[one.index]
        signal += _form(rows, one.own, rows)
        noise += _distance(rows, new, one)
    return signal, max(noise, 0.0)


def _form(left: np.ndarray, matrix: np.ndarray, right: np.ndarray) -> float:
    return float(np.einsum("brn,brn->", left @ matrix, right))


def nearer(
    seen: Sequence[Seen],
    weight: np.ndarray,
    codes: QuantizedTensor,
    plain: Optional[QuantizedTensor],
) -> Tuple[QuantizedTensor, float, str]:
    """The codes, unless those of rounding to nearest (``plain``, if given) are as near.

    Returns:
        the ones that are taken, the SQNR of the layer's outputs with them in dB, and why they are
        not the first.

    Raises:
        UnsupportedError: the codes have a scale that is not finite.
    """
    if not _all_finite(codes):
        raise UnsupportedError("no finite scale was found")
    signal, noise = output_error(seen, weight, codes.dequantize())
    if plain is not None:
        _, plain_noise = output_error(seen, weight, plain.dequantize())
        if not noise < plain_noise:
            return plain, sqnr_db(signal, plain_noise), "rounding to nearest does as well"
    return codes, sqnr_db(signal, noise), ""


def _all_finite(quantized: QuantizedTensor) -> bool:
    """Whether scales are finite and positive."""
    scale = quantized.scale
    return bool(np.isfinite(scale).all() and (scale > 0).all())
