"""A weight to codes and scales by the method that its scheme names.

    absmax    scale = absmax / T, round to nearest                  quantize.py
    mse       the scale of least squared error, round to nearest    mse.py
    squant    scale = absmax / T, errors cancel                     squant.py
    gptq      second-order rounding under a calibration             second_order.py

The last one needs what the layers see; it is carried out by ``graphwq.calibrate``, not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, Tuple

import numpy as np

from graphwq.errors import QuantizationError
from graphwq.quant.audit import audit
from graphwq.quant.grid import as_groups
from graphwq.quant.metrics import WeightError
from graphwq.quant.quantize import kept_axes, quantize_with_error, scale_shape
from graphwq.quant.regrid import as_weight
from graphwq.quant.scheme import (
    ABSMAX,
    MSE,
    SQUANT,
    PerChannel,
    PerGroup,
    QuantizedTensor,
    QuantScheme,
)

_Pair = Tuple[np.ndarray, np.ndarray]


def quantize_by_method(
    weight: np.ndarray, scheme: QuantScheme
) -> Tuple[QuantizedTensor, WeightError]:
    """Quantize by ``scheme.method`` and measure the error.

    Args:
        weight: float16, float32 or float64, any shape without an axis of size 0.
        scheme: of a method that needs no calibration.

    Raises:
        QuantizationError: the weight holds NaN or Inf, is empty, or its magnitude is beyond what a
            float32 scale can express; or the method needs a calibration.
    """
    plain, error = quantize_with_error(weight, replace(scheme, method=ABSMAX))
    if scheme.method == ABSMAX:
        return plain, error
    choose = _METHODS.get(scheme.method)
    if choose is None:
        raise QuantizationError(f"the method {scheme.method!r} needs a calibration")
    granularity = scheme.granularity
    if isinstance(granularity, PerGroup):
        codes, scale = _by_groups(weight, plain, choose, granularity)
    else:
        codes, scale = _whole(weight, plain, choose)
    quantized = QuantizedTensor(codes, scale, scheme)
    return quantized, audit(weight, quantized).error


_Choose = Callable[[np.ndarray, np.ndarray, QuantScheme, int], _Pair]


def _whole(weight: np.ndarray, plain: QuantizedTensor, choose: _Choose) -> _Pair:
    kept = kept_axes(plain.scheme.granularity, weight.ndim)
    groups = as_groups(weight, kept)
    kernel = _kernel(weight.shape, kept)
    codes, scale = choose(groups, plain.scale.reshape(-1), plain.scheme, kernel)
    shape = scale_shape(weight.shape, plain.scheme.granularity)
    return as_weight(codes.astype(np.int8), weight.shape, kept), scale.reshape(shape)


def _by_groups(
    weight: np.ndarray, plain: QuantizedTensor, choose: _Choose, granularity: PerGroup
) -> _Pair:
    inner = replace(plain.scheme, granularity=PerChannel(granularity.axes))
    codes, scales = [], []
    for number in range(plain.scale.shape[granularity.axis]):
        begin = number * granularity.group_size
        index = [slice(None)] * weight.ndim
        index[granularity.axis] = slice(begin, begin + granularity.group_size)
        place = [slice(None)] * weight.ndim
        place[granularity.axis] = slice(number, number + 1)
        part = QuantizedTensor(plain.codes[tuple(index)], plain.scale[tuple(place)], inner)
        own, scale = _whole(np.ascontiguousarray(weight[tuple(index)]), part, choose)
        codes.append(own)
        scales.append(scale)
    return np.concatenate(codes, granularity.axis), np.concatenate(scales, granularity.axis)


def _kernel(shape: Tuple[int, ...], kept: Tuple[int, ...]) -> int:
    """Positions of the kernel in a group: the reduced axes in front of the last two."""
    return int(np.prod([shape[axis] for axis in range(len(shape) - 2) if axis not in kept] or [1]))


def _mse(groups: np.ndarray, scale: np.ndarray, scheme: QuantScheme, _kernel: int) -> _Pair:
    from graphwq.quant.mse import mse_scales
    from graphwq.quant.snap import nearest

    absent = ~(np.abs(groups).max(1) / scheme.max_code >= np.finfo(np.float32).tiny)
    best = mse_scales(groups, scheme.num_bits, scheme.scale_bits)
    best = np.where(absent, scale, best).astype(np.float32)
    return nearest(groups, best[:, None].astype(np.float64), scheme.num_bits), best


def _squant(groups: np.ndarray, scale: np.ndarray, scheme: QuantScheme, kernel: int) -> _Pair:
    from graphwq.quant.squant import squant

    values = groups.reshape(len(groups), kernel, -1)
    return squant(values, scale, scheme.num_bits).reshape(groups.shape), scale


_METHODS: Dict[str, _Choose] = {MSE: _mse, SQUANT: _squant}
