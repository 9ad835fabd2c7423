"""DataType of tensorflow/core/framework/types.proto <-> numpy."""

from __future__ import annotations

from typing import Dict, FrozenSet

import numpy as np

DT_FLOAT, DT_DOUBLE, DT_INT32, DT_UINT8, DT_INT16, DT_INT8, DT_STRING = 1, 2, 3, 4, 5, 6, 7
DT_COMPLEX64, DT_INT64, DT_BOOL, DT_QINT8, DT_QUINT8, DT_QINT32 = 8, 9, 10, 11, 12, 13
DT_BFLOAT16, DT_QINT16, DT_QUINT16, DT_UINT16, DT_COMPLEX128, DT_HALF = 14, 15, 16, 17, 18, 19
DT_RESOURCE, DT_VARIANT, DT_UINT32, DT_UINT64 = 20, 21, 22, 23

#: A reference type (DT_FLOAT_REF and so on) is its value type plus this.
REF_OFFSET = 100

NAMES: Dict[int, str] = {
    DT_FLOAT: "float32",
    DT_DOUBLE: "float64",
    DT_INT32: "int32",
    DT_UINT8: "uint8",
    DT_INT16: "int16",
    DT_INT8: "int8",
    DT_STRING: "string",
    DT_COMPLEX64: "complex64",
    DT_INT64: "int64",
    DT_BOOL: "bool",
    DT_QINT8: "qint8",
    DT_QUINT8: "quint8",
    DT_QINT32: "qint32",
    DT_BFLOAT16: "bfloat16",
    DT_QINT16: "qint16",
    DT_QUINT16: "quint16",
    DT_UINT16: "uint16",
    DT_COMPLEX128: "complex128",
    DT_HALF: "float16",
    DT_RESOURCE: "resource",
    DT_VARIANT: "variant",
    DT_UINT32: "uint32",
    DT_UINT64: "uint64",
}

#: numpy's type of one element, little endian as in ``tensor_content``. The quantized types are
#: stored as the integers behind them.
NUMPY: Dict[int, np.dtype] = {
    DT_FLOAT: np.dtype("<f4"),
    DT_DOUBLE: np.dtype("<f8"),
    DT_HALF: np.dtype("<f2"),
    DT_INT8: np.dtype("i1"),
    DT_UINT8: np.dtype("u1"),
    DT_INT16: np.dtype("<i2"),
    DT_UINT16: np.dtype("<u2"),
    DT_INT32: np.dtype("<i4"),
    DT_UINT32: np.dtype("<u4"),
    DT_INT64: np.dtype("<i8"),
    DT_UINT64: np.dtype("<u8"),
    DT_BOOL: np.dtype("?"),
    DT_COMPLEX64: np.dtype("<c8"),
    DT_COMPLEX128: np.dtype("<c16"),
    DT_QINT8: np.dtype("i1"),
    DT_QUINT8: np.dtype("u1"),
    DT_QINT16: np.dtype("<i2"),
    DT_QUINT16: np.dtype("<u2"),
    DT_QINT32: np.dtype("<i4"),
    DT_BFLOAT16: np.dtype("<u2"),
}

FROM_NUMPY: Dict[np.dtype, int] = {
    NUMPY[code]: code
    for code in (
        DT_FLOAT,
        DT_DOUBLE,
        DT_HALF,
        DT_INT8,
        DT_UINT8,
        DT_INT16,
        DT_UINT16,
        DT_INT32,
        DT_UINT32,
        DT_INT64,
        DT_UINT64,
        DT_BOOL,
    )
}

#: Every floating type a weight may come in.
FLOATING: FrozenSet[int] = frozenset((DT_FLOAT, DT_DOUBLE, DT_HALF, DT_BFLOAT16))
#: The floating types graphwq can quantize (numpy has no bfloat16).
QUANTIZABLE: FrozenSet[int] = frozenset((DT_FLOAT, DT_DOUBLE, DT_HALF))
#: Eight-bit integers: what quantized codes are stored as.
EIGHT_BIT: FrozenSet[int] = frozenset((DT_INT8, DT_UINT8, DT_QINT8, DT_QUINT8))


def dtype_name(code: int) -> str:
    """The plain name of a DataType; a reference type has the name of its value type."""
    code = code - REF_OFFSET if code > REF_OFFSET else code
    return NAMES.get(code, f"DataType {code}")
