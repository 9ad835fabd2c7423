"""The ``fake_quant`` storage form: a float Const behind TensorFlow's FakeQuant op.

The op computes ``floor((x - min) / s + 0.5) * s + min`` in float32 (tensorflow/core/kernels/
fake_quant_ops_functor.h), which is ``code * scale`` exactly only where the products are exact. With
a scale of at most 16 significant bits they are, and the op stands on the weight itself. With a full
float32 scale it stands on the codes (whose grid is 1) and the scale is multiplied after it: then
the weights are bit for bit those of the other forms.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import mul
from typing import List, Tuple

import numpy as np

from graphwq.errors import QuantizationError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import attr_type
from graphwq.quant.quantize import kept_axes, scale_shape
from graphwq.quant.scheme import FLOAT32_BITS, MAX_BITS, PerGroup, QuantizedTensor, QuantScheme
from graphwq.rewrite.builder import Builder, Shape, fake_quant_attrs
from graphwq.rewrite.dequant import multiply
from graphwq.rewrite.values import Values

_EXACT_SCALE_BITS = FLOAT32_BITS - MAX_BITS
_HALF_OF_LARGEST = np.finfo(np.float32).max / 2


def build(builder: Builder, shape: Shape, dtype: int, scheme: QuantScheme, values: Values) -> None:
    """Add the nodes that stand for a weight.

    Raises:
        UnsupportedError: the scale is per group, which no FakeQuant op has.
        QuantizationError: the range is beyond float32, so that the op would make NaN of it.
    """
    if isinstance(scheme.granularity, PerGroup):
        raise UnsupportedError(
            f"{builder.place.name}: FakeQuant ops have no scale per group; use --storage dequant"
        )
    if scheme.scale_bits > _EXACT_SCALE_BITS:
        _on_codes(builder, shape, dtype, scheme, values)
    else:
        _on_values(builder, shape, dtype, scheme, values)


def _on_codes(
    builder: Builder, shape: Shape, dtype: int, scheme: QuantScheme, values: Values
) -> None:
    top = np.float32(scheme.max_code)
    codes = values(lambda quantized: quantized.codes.astype(np.float32))
    ref = builder.const("codes", dtypes.DT_FLOAT, shape, codes)
    limits = builder.floats("min", -top), builder.floats("max", top)
    attrs = fake_quant_attrs(scheme.num_bits)
    value = builder.op("fake_quant", "FakeQuantWithMinMaxVars", (ref, *limits), **attrs)
    scale = values(lambda quantized: quantized.scale)
    scale_shaped = scale_shape(shape, scheme.granularity)
    multiply(builder, value, builder.const("scale", dtypes.DT_FLOAT, scale_shaped, scale), dtype)


def _on_values(
    builder: Builder, shape: Shape, dtype: int, scheme: QuantScheme, values: Values
) -> None:
    """Channels last, as the op wants them: [..., channels]."""
    rank = len(shape)
    kept = kept_axes(scheme.granularity, rank)
    order = tuple(axis for axis in range(rank) if axis not in kept) + kept
    attrs = fake_quant_attrs(scheme.num_bits)
    top = np.float32(scheme.max_code)
    baked = values(lambda quantized: quantized.dequantize())
    value = builder.const("baked", dtypes.DT_FLOAT, shape, baked)
    if order != tuple(range(rank)):
        value = _transpose(builder, "channels_last", value, order)
    channels = reduce(mul, scale_shape(shape, scheme.granularity), 1)
    if kept and len(kept) > 1:
        flat = builder.ints("flat_shape", [-1, channels])
        value = builder.reshape("flat", value, flat, dtypes.DT_FLOAT)
    limits = []
    for name, sign in (("min", -top), ("max", top)):
        limit = values(partial(_limit, sign))
        limits.append(builder.const(name, dtypes.DT_FLOAT, (channels,) if kept else (), limit))
    op = "FakeQuantWithMinMaxVars" + ("PerChannel" if kept else "")
    value = builder.op("fake_quant", op, (value, *limits), **attrs)
    if kept and len(kept) > 1:
        last = builder.ints("shape", [shape[axis] for axis in order])
        value = builder.reshape("unflat", value, last, dtypes.DT_FLOAT)
    if order != tuple(range(rank)):
        value = _transpose(builder, "as_before", value, _inverse(order))
    if dtype == dtypes.DT_FLOAT:
        builder.final("Identity", (value,), T=attr_type(dtype))
    else:
        builder.final("Cast", (value,), SrcT=attr_type(dtypes.DT_FLOAT), DstT=attr_type(dtype))


def _limit(top: np.float32, quantized: QuantizedTensor) -> np.ndarray:
    """The largest values; the op computes twice as much, which must not be Inf."""
    limit = quantized.scale * top
    if np.abs(limit).max() > _HALF_OF_LARGEST:
        raise QuantizationError(
            "FakeQuant ops with scales of 16 bits cannot hold magnitudes above 1.7e38: mend the "
            "model, or leave out --scale-bits"
        )
    return limit


def _inverse(order: Tuple[int, ...]) -> List[int]:
    return [order.index(axis) for axis in range(len(order))]


def _transpose(builder: Builder, name: str, value: str, perm: Tuple[int, ...] | List[int]) -> str:
    return builder.op(
        name,
        "Transpose",
        (value, builder.ints(f"{name}_perm", perm)),
        T=attr_type(dtypes.DT_FLOAT),
        Tperm=attr_type(dtypes.DT_INT32),
    )
