"""Embedding tables too large to fold: integer rows are gathered, and only those dequantized.

    Gather(W, ids)  becomes  Mul(decode(Gather(codes, ids)), Gather(scale, ids))

The weight's own name still stands for the whole dequantized table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from operator import mul
from typing import List, Optional, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import attr_type
from graphwq.graphdef.node import Node, attr_of_type
from graphwq.quant.packing import Plane, pack_plane, planes
from graphwq.quant.quantize import kept_axes, scale_shape
from graphwq.quant.scheme import PerGroup, QuantizedTensor, QuantScheme
from graphwq.rewrite import split
from graphwq.rewrite.builder import Builder, concat_attrs
from graphwq.rewrite.dequant import multiply
from graphwq.rewrite.plan import Rows
from graphwq.rewrite.tables import Tables
from graphwq.rewrite.values import Values
from graphwq.survey.constants import constant_int
from graphwq.survey.sites import Consumer, WeightSite
from graphwq.survey.view import ScopeView


@dataclass(frozen=True)
class StoredRows:
    """The stored parts of a table: constants whose axis 0 is the row.

    Attributes:
        codes: references of the planes; int8 [rows, ...] or uint8 [rows, bytes].
        scale: reference; [rows, 1, ...] where ``scale_per_row``, else [1, ...].
    """

    codes: Tuple[str, ...]
    scale: str
    scale_per_row: bool
    stored_bits: int
    row_shape: Tuple[int, ...]


def choose(view: ScopeView, site: WeightSite, scheme: QuantScheme) -> Optional[Rows]:
    """The rows form of a table that TensorFlow does not fold, or None.

    Consumers must gather along axis 0 or be such that they can be cut along it.
    """
    if site.scope or split.is_foldable(site) or isinstance(scheme.granularity, PerGroup):
        return None
    if set(kept_axes(scheme.granularity, len(site.shape))) - {0}:
        return None
    others = [consumer for consumer in site.consumers if not gathers_rows(view, consumer)]
    if len(others) == len(site.consumers):
        return None
    if not others:
        return Rows()
    sizes = split.piece_sizes(site, 0) if split.common_axis(view, others) == 0 else None
    return None if sizes is None else Rows(sizes)


def gathers_rows(view: ScopeView, consumer: Consumer) -> bool:
    """Whether a consumer takes rows of the table itself."""
    if consumer.scope or not consumer.direct or consumer.op not in ("Gather", "GatherV2"):
        return False
    if not set(consumer.path_ops) <= {"Identity", "StopGradient", "Snapshot"}:
        return False
    node = view.nodes[consumer.node]
    return node.op == "Gather" or constant_int(view, node, 2) == 0


def store(
    builder: Builder,
    shape: Tuple[int, ...],
    scheme: QuantScheme,
    stored_bits: int,
    values: Values,
) -> StoredRows:
    """Add the constants of a table."""
    rows, row_shape = shape[0], shape[1:]
    stored: Tuple[str, ...]
    if stored_bits == 8:
        codes = values(lambda quantized: quantized.codes)
        stored = (builder.const("codes", dtypes.DT_INT8, shape, codes),)
    else:
        length = reduce(mul, row_shape, 1)
        stored = tuple(
            builder.const(
                f"codes{number or ''}",
                dtypes.DT_UINT8,
                (rows, plane.nbytes(length)),
                values(partial(_packed, plane, stored_bits, (rows, length))),
            )
            for number, plane in enumerate(planes(stored_bits))
        )
    scale = builder.const(
        "scale",
        dtypes.DT_FLOAT,
        scale_shape(shape, scheme.granularity),
        values(lambda quantized: quantized.scale),
    )
    per_row = 0 in kept_axes(scheme.granularity, len(shape)) and rows > 1
    return StoredRows(stored, scale, per_row, stored_bits, row_shape)


def _packed(
    plane: Plane, stored_bits: int, shape: Tuple[int, int], quantized: QuantizedTensor
) -> np.ndarray:
    return pack_plane(quantized.codes.reshape(shape), stored_bits, plane)


def decode_all(builder: Builder, tables: Tables, stored: StoredRows, rows: int, dtype: int) -> None:
    """Add the whole table under the weight's own name."""
    leading = builder.ints("rows", [rows])
    value = _decode(builder, tables, stored, stored.codes, leading)
    multiply(builder, value, stored.scale, dtype)


def decode_piece(
    builder: Builder, tables: Tables, stored: StoredRows, begin: int, size: int, dtype: int
) -> str:
    """Add rows ``begin:begin + size`` of the table and return their reference."""
    kind = dtypes.DT_INT8 if stored.stored_bits == 8 else dtypes.DT_UINT8
    rank = 1 + len(stored.row_shape)
    stored_rank = rank if stored.stored_bits == 8 else 2

    def window(name: str, ref: str, axes: int, dtype: int) -> str:
        start, length = [begin] + [0] * (axes - 1), [size] + [-1] * (axes - 1)
        return builder.slice(name, ref, start, length, dtype)

    codes = [
        window(f"codes{number or ''}", ref, stored_rank, kind)
        for number, ref in enumerate(stored.codes)
    ]
    leading = "" if stored.stored_bits == 8 else builder.ints("rows", [size])
    value = _decode(builder, tables, stored, codes, leading)
    scale = stored.scale
    if stored.scale_per_row:
        scale = window("scale", scale, rank, dtypes.DT_FLOAT)
    value = builder.binary("product", "Mul", value, scale)
    if dtype == dtypes.DT_FLOAT:
        return value
    return builder.cast("value", value, dtypes.DT_FLOAT, dtype)


def rewrite_gather(
    builder: Builder, tables: Tables, node: Node, stored: StoredRows, dtype: int
) -> List[Node]:
    """The nodes that take the place of one Gather."""
    ids = node.data_inputs[1]
    index = attr_of_type(node, "Tindices")
    kind = dtypes.DT_INT8 if stored.stored_bits == 8 else dtypes.DT_UINT8
    rows = [
        builder.gather(f"codes{number or ''}", ref, ids, kind, index)
        for number, ref in enumerate(stored.codes)
    ]
    leading = ""
    if stored.stored_bits != 8:
        leading = builder.op(
            "ids_shape", "Shape", (ids,), T=attr_type(index), out_type=attr_type(dtypes.DT_INT32)
        )
    value = _decode(builder, tables, stored, rows, leading)
    scale = stored.scale
    if stored.scale_per_row:
        scale = builder.gather("scale", scale, ids, dtypes.DT_FLOAT, index)
    else:  # a single scale must not add axes to a single row
        scale = builder.reshape("scale", scale, builder.ints("scalar", []), dtypes.DT_FLOAT)
    multiply(builder, value, scale, dtype)
    return builder.nodes


def _decode(
    builder: Builder,
    tables: Tables,
    stored: StoredRows,
    codes: Tuple[str, ...] | List[str],
    leading: str,
) -> str:
    """Rows of codes -> float32 [leading..., row_shape...]; ``leading`` names a shape."""
    if stored.stored_bits == 8:
        return builder.cast("float", codes[0], dtypes.DT_INT8, dtypes.DT_FLOAT)
    length = reduce(mul, stored.row_shape, 1)
    target = _joined_shape(builder, "shape", leading, stored.row_shape)
    total = ""
    for number, (ref, plane) in enumerate(zip(codes, planes(stored.stored_bits))):
        name = f"plane{number or ''}"
        index = builder.cast(f"{name}_index", ref, dtypes.DT_UINT8, dtypes.DT_INT32)
        table = tables.table(builder, plane)
        value = builder.gather(f"{name}_float", table, index, dtypes.DT_FLOAT, dtypes.DT_INT32)
        full = plane.nbytes(length) * plane.per_byte
        if full != length:
            flat = builder.ints(f"{name}_flat_shape", [-1, full])
            value = builder.reshape(f"{name}_flat", value, flat, dtypes.DT_FLOAT)
            value = builder.slice(f"{name}_cut", value, [0, 0], [-1, length])
        value = builder.reshape(f"{name}_shaped", value, target, dtypes.DT_FLOAT)
        total = builder.binary(f"{name}_sum", "Add", total, value) if total else value
    return total


def _joined_shape(builder: Builder, name: str, leading: str, rest: Tuple[int, ...]) -> str:
    tail = builder.ints(f"{name}_tail", list(rest))
    axis = builder.ints(f"{name}_axis", 0)
    return builder.op(name, "ConcatV2", (leading, tail, axis), **concat_attrs(2, dtypes.DT_INT32))
