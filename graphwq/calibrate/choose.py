"""Codes for one weight from what its layers saw, and the evidence for them."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

from graphwq.calibrate.layer import Layer, Seen
from graphwq.quant.part import Part
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import QuantizedTensor, QuantScheme
from graphwq.quant.second_order import second_order
from graphwq.quant.target import corrected

#: Ridge of the target correction and damping of GPTQ, as parts of the mean diagonal of H.
RIDGE = 0.01
DAMP = 0.001


def choose(
    layer: Layer, seen: Sequence[Seen], weight: np.ndarray, scheme: QuantScheme
) -> QuantizedTensor:
    """Correct the target, then round it.

    Args:
        layer: the weight's uses.
        seen: their moments.
        weight: its values.
        scheme: number of bits and granularity.

    Raises:
        numpy.linalg.LinAlgError: the Hessians do not allow it.
    """
    flat = weight.reshape(-1).astype(np.float64)
    parts = []
    for one in seen:
        rows = flat[one.index]
        target = corrected(rows, one.hessian, one.cross, RIDGE)
        groups = layer.groups[one.index[:, :, 0]]
        parts.append(Part(target, rows != 0, one.hessian, groups))
    found, scale = second_order(parts, layer.count, scheme.num_bits, DAMP, scheme.scale_bits)
    codes = np.zeros(weight.size, np.int8)
    for one, own in zip(seen, found):
        codes[one.index] = own.astype(np.int8)
    shape = scale_shape(weight.shape, scheme.granularity)
    return QuantizedTensor(codes.reshape(weight.shape), scale.reshape(shape), scheme)


def output_error(
    seen: Sequence[Seen], weight: np.ndarray, values: np.ndarray
) -> Tuple[float, float]:
    """How far the layer's outputs are from those of the float graph.

    |X_f w - X_q v|^2 = w F w - 2 w C v + v H v, with F = X_f^T X_f, C = X_f^T X_q, H = X_q^T X_q.

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
        own = _form(rows, one.own, rows)
        signal += own
        noise += own - 2 * _form(rows, one.cross, new) + _form(new, one.hessian, new)
    return signal, max(noise, 0.0)


def _form(left: np.ndarray, matrix: np.ndarray, right: np.ndarray) -> float:
    return float(np.einsum("brn,brn->", left @ matrix, right))


def all_finite(quantized: QuantizedTensor) -> bool:
    """Whether scales are finite and positive."""
    scale = quantized.scale
    return bool(np.isfinite(scale).all() and (scale > 0).all())
