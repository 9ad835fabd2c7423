"""The ``dequant`` storage form: integer constants and the arithmetic that decodes them.

    8 bits:   codes int8 -> Cast -> Mul(scale)
    planes:   codes uint8 -> Cast(int32) -> Gather(table) -> Reshape [-> Add planes] -> Mul(scale)
    bits:     codes uint8 [count/8, b] -> Cast(int32) -> Gather(one-bit table) [count/8, b, 8]
              -> BatchMatMulV2(weights of the bits [1, b]) [count/8, 1, 8] -> Reshape -> Mul(scale)

The last node carries the original name, so no consumer changes. All arithmetic up to Mul is exact,
so the value is float32(code) * scale, bit for bit what ``bake`` stores.
"""

from __future__ import annotations

from functools import partial, reduce
from operator import mul
from typing import Union

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import attr_type
from graphwq.quant.packing import ONE_BIT, Plane, pack_bits, pack_plane, planes
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import MAX_BITS, PerGroup, QuantizedTensor, QuantScheme, group_index
from graphwq.rewrite import split
from graphwq.rewrite.builder import Builder, Shape
from graphwq.rewrite.plan import BITS, PlanItem
from graphwq.rewrite.tables import Tables
from graphwq.rewrite.values import Values
from graphwq.survey.sites import WeightSite

_FLOAT = dtypes.DT_FLOAT


def build(
    builder: Builder,
    tables: Tables,
    shape: Shape,
    dtype: int,
    item: PlanItem,
    values: Values,
) -> None:
    """Add the nodes that stand for a weight."""
    if item.stored_bits == MAX_BITS:
        codes = values(lambda quantized: quantized.codes)
        ref = builder.const("c", dtypes.DT_INT8, shape, codes)
        value = builder.cast("f", ref, dtypes.DT_INT8, dtypes.DT_FLOAT)
    elif item.layout == BITS:
        value = _from_bits(builder, tables, shape, item.stored_bits, values)
    else:
        value = _from_planes(builder, tables, shape, item.stored_bits, values)
    scale = scale_ref(builder, shape, item.scheme, values)
    multiply(builder, value, scale, dtype)


def multiply(builder: Builder, value: str, scale: str, dtype: int) -> None:
    """End with value * scale under the original name, cast where the weight is no float32."""
    single = attr_type(dtypes.DT_FLOAT)
    if dtype == dtypes.DT_FLOAT:
        builder.final("Mul", (value, scale), T=single)
        return
    product = builder.op("product", "Mul", (value, scale), T=single)
    builder.final("Cast", (product,), SrcT=single, DstT=attr_type(dtype))


def scale_ref(builder: Builder, shape: Shape, scheme: QuantScheme, values: Values) -> str:
    """The scale as a constant that broadcasts to the weight; a Gather repeats it over groups."""
    granularity = scheme.granularity
    stored = scale_shape(shape, granularity)
    scale = values(lambda quantized: quantized.scale)
    if isinstance(granularity, PerGroup):
        ref = builder.const("s", dtypes.DT_FLOAT, stored, scale)
        index = group_index(shape[granularity.axis], granularity.group_size)
        return builder.gather_axis("t", ref, index, granularity.axis)
    while len(stored) > 1 and stored[0] == 1:
        stored = stored[1:]  # it broadcasts without leading axes, and each is bytes in the file
    return builder.const("s", dtypes.DT_FLOAT, stored, scale)


def prefers_bits(site: WeightSite, stored_bits: int) -> bool:
    """Whether the ``bits`` layout has fewer nodes and TensorFlow folds all of it.

    2 and 4 bits are a single plane. The largest intermediate result holds ``stored_bits`` floats
    for each code.
    """
    folds = site.size * stored_bits * 4 < split.FOLDING_LIMIT
    return stored_bits in (3, 5, 6, 7) and folds


def _from_bits(
    builder: Builder,
    tables: Tables,
    shape: Shape,
    stored_bits: int,
    values: Values,
) -> str:
    """The codes as float32 of the weight's shape, from one constant."""
    count = reduce(mul, shape, 1)
    rows = -(-count // 8)
    packed = values(lambda quantized: pack_bits(quantized.codes, stored_bits))
    ref = builder.const("c", dtypes.DT_UINT8, (rows, stored_bits), packed)
    index = builder.cast("i", ref, dtypes.DT_UINT8, dtypes.DT_INT32)
    table = tables.table(builder, ONE_BIT)
    digits = builder.gather("d", table, index, dtypes.DT_FLOAT, dtypes.DT_INT32)
    weights = tables.bit_weights(builder, stored_bits)
    value = builder.binary("a", "BatchMatMulV2", weights, digits)
    return _shaped(builder, tables, value, rows * 8, shape, "")


def _shaped(
    builder: Builder, tables: Tables, value: str, stored: int, shape: Shape, mark: Union[int, str]
) -> str:
    """``stored`` decoded values as the weight's shape, without those that fill the last byte."""
    count = reduce(mul, shape, 1)
    if stored != count:
        value = builder.reshape(f"flat{mark}", value, tables.shape(builder, (-1,)), _FLOAT)
        value = builder.slice(f"cut{mark}", value, [0], [count])
    return builder.reshape(f"f{mark}", value, tables.shape(builder, shape), _FLOAT)


def _from_planes(
    builder: Builder,
    tables: Tables,
    shape: Shape,
    stored_bits: int,
    values: Values,
) -> str:
    """The codes as float32 of the weight's shape, from one constant per plane."""
    count = reduce(mul, shape, 1)
    total = ""
    for number, plane in enumerate(planes(stored_bits)):
        stored = plane.nbytes(count)
        mark = number or ""
        packed = values(partial(_packed, plane, stored_bits))
        ref = builder.const(f"c{mark}", dtypes.DT_UINT8, (stored,), packed)
        index = builder.cast(f"i{mark}", ref, dtypes.DT_UINT8, dtypes.DT_INT32)
        table = tables.table(builder, plane)
        value = builder.gather(f"d{mark}", table, index, dtypes.DT_FLOAT, dtypes.DT_INT32)
        value = _shaped(builder, tables, value, stored * plane.per_byte, shape, mark)
        total = builder.binary(f"a{mark}", "Add", total, value) if total else value
    return total


def _packed(plane: Plane, stored_bits: int, quantized: QuantizedTensor) -> np.ndarray:
    return pack_plane(quantized.codes.reshape(-1), stored_bits, plane)
