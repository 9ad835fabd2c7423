"""The ``fake_quant`` storage form: a float Const behind TensorFlow's FakeQuant op.

The op computes ``floor((x - min) / s + 0.5) * s + min`` in float32 (tensorflow/core/kernels/
fake_quant_ops_functor.h), which is ``code * scale`` exactly only where the products are exact. With
a scale of at most 16 significant bits they are, and the op stands on the weight itself. With a full
float32 scale it stands on the codes (whose grid is 1) and the scale is multiplied after it: then
the weights are bit for bit those of the other forms.
"""

from __future__ import annotations

from typing import List, Tuple

import numpy as np

from graphwq.errors import QuantizationError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.node import attr_type
from graphwq.quant.quantize import kept_axes
from graphwq.quant.scheme import FLOAT32_BITS, MAX_BITS, PerGroup, QuantizedTensor
from graphwq.rewrite.builder import Builder, fake_quant_attrs
from graphwq.rewrite.dequant import multiply

_EXACT_SCALE_BITS = FLOAT32_BITS - MAX_BITS
_HALF_OF_LARGEST = np.finfo(np.float32).max / 2


def build(builder: Builder, dtype: int, quantized: QuantizedTensor) -> None:
    """Add the nodes that stand for a weight.

    Raises:
        UnsupportedError: the scale is per group, which no FakeQuant op has.
        QuantizationError: the range is beyond float32, so that the op would make NaN of it.
    """
    if isinstance(quantized.scheme.granularity, PerGroup):
        raise UnsupportedError(
            f"{builder.place.name}: FakeQuant ops have no scale per group; use --storage dequant"
        )
    if quantized.scheme.scale_bits > _EXACT_SCALE_BITS:
        _on_codes(builder, dtype, quantized)
    else:
        _on_values(builder, dtype, quantized)


def _on_codes(builder: Builder, dtype: int, quantized: QuantizedTensor) -> None:
    top = np.float32(quantized.scheme.max_code)
    codes = builder.floats("codes", quantized.codes.astype(np.float32))
    limits = builder.floats("min", -top), builder.floats("max", top)
    attrs = fake_quant_attrs(quantized.scheme.num_bits)
    value = builder.op("fake_quant", "FakeQuantWithMinMaxVars", (codes, *limits), **attrs)
    multiply(builder, value, builder.floats("scale", quantized.scale), dtype)


def _on_values(builder: Builder, dtype: int, quantized: QuantizedTensor) -> None:
    """Channels last, as the op wants them: [..., channels]."""
    rank = quantized.codes.ndim
    kept = kept_axes(quantized.scheme.granularity, rank)
    order = tuple(axis for axis in range(rank) if axis not in kept) + kept
    values = quantized.dequantize()
    attrs = fake_quant_attrs(quantized.scheme.num_bits)
    top = np.float32(quantized.scheme.max_code)
    value = builder.floats("baked", values)
    if order != tuple(range(rank)):
        value = _transpose(builder, "channels_last", value, order)
    channels = quantized.scale.size
    if kept and len(kept) > 1:
        shape = builder.ints("flat_shape", [-1, channels])
        value = builder.reshape("flat", value, shape, dtypes.DT_FLOAT)
    limit = _limit(top, quantized).reshape((-1,) if kept else ())
    limits = builder.floats("min", -limit), builder.floats("max", limit)
    op = "FakeQuantWithMinMaxVars" + ("PerChannel" if kept else "")
    value = builder.op("fake_quant", op, (value, *limits), **attrs)
    if kept and len(kept) > 1:
        shape = builder.ints("shape", [values.shape[axis] for axis in order])
        value = builder.reshape("unflat", value, shape, dtypes.DT_FLOAT)
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
