"""How MNN lays out and groups a weight, and what its converter makes of the values.

Source: WeightQuantAndCoding.cpp and IDSTEncoder.hpp of alibaba/MNN, and conversions with MNN 3.6.0.

    op                      weight in TensorFlow          rows in MNN
    Conv2D                  [h, w, in, out]               [out, in * h * w]
    DepthwiseConv2dNative   [h, w, channels, 1]           [channels, h * w]
    MatMul (second input)   [in, out], or transposed      [out, in]
    Conv2DBackpropInput     [h, w, out, in]               [in, out, h, w] in memory, cut into `out`
                                                          pieces of equal size: not the channels

A block of g input channels (16 or more, a multiple of 16 that divides ``in``) cuts each row into
pieces of g * h * w. Per row, symmetric, with T = 2^(bits-1) - 1:

    scale = float32(absmax / T)
    code  = clamp(round_half_away(w / scale), -T-1, T); 0 where scale <= 1e-6
"""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np

from graphwq.quant.scheme import max_code

#: A row whose scale is not above this is stored as zeros.
SMALLEST_SCALE = np.float32(1e-6)
BLOCK_STEP = 16

#: The ops whose weights become convolutions, with the slot of the weight.
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput")
MATMUL = "MatMul"


def rows(op: str, weight: np.ndarray, transposed: bool = False) -> np.ndarray:
    """The weight of an op as MNN's rows, [output channels, values].

    Args:
        op: one of the table above.
        weight: what the op gets.
        transposed: ``transpose_b`` of a MatMul.
    """
    if op == MATMUL:
        return np.ascontiguousarray(weight if transposed else weight.T)
    order = (2, 3, 0, 1) if op == "DepthwiseConv2dNative" else (3, 2, 0, 1)
    count = outputs(op, weight.shape, transposed)
    return np.ascontiguousarray(weight.transpose(order)).reshape(count, -1)


def outputs(op: str, shape: Tuple[int, ...], transposed: bool = False) -> int:
    """The output channels of a weight of ``shape``, which are the rows of MNN."""
    if op == MATMUL:
        return shape[0] if transposed else shape[1]
    if op == "DepthwiseConv2dNative":
        return shape[2] * shape[3]
    return shape[2] if op == "Conv2DBackpropInput" else shape[3]


def inputs(op: str, shape: Tuple[int, ...], transposed: bool = False) -> int:
    """The input channels that one row sees."""
    if op == MATMUL:
        return shape[1] if transposed else shape[0]
    if op == "DepthwiseConv2dNative":
        return 1
    return shape[3] if op == "Conv2DBackpropInput" else shape[2]


def is_block(size: int, channels: int) -> bool:
    """Whether the converter cuts rows of so many input channels into blocks of ``size``."""
    return size >= BLOCK_STEP and size % BLOCK_STEP == 0 and channels % size == 0


def blocked(values: np.ndarray, channels: int, size: int) -> np.ndarray:
    """Rows cut into blocks of ``size`` of their ``channels`` input channels."""
    return values.reshape(values.shape[0] * (channels // size), -1)


def encode(values: np.ndarray, num_bits: int) -> Tuple[np.ndarray, np.ndarray]:
    """What the converter stores for float32 rows: int8 codes of the same shape, float32 scales."""
    top = max_code(num_bits)
    scale = np.abs(values).max(1) / np.float32(top)
    safe = np.where(scale > SMALLEST_SCALE, scale, np.float32(1))[:, None]
    ratio = (values / safe).astype(np.float64)  # in which adding a half is exact
    codes = np.clip(np.trunc(ratio + np.copysign(0.5, ratio)), -top - 1, top)
    codes[scale <= SMALLEST_SCALE] = 0
    return codes.astype(np.int8), scale.astype(np.float32)


def row_scale(scale: np.ndarray) -> Optional[np.ndarray]:
    """The one scale of each row of a matrix of scales; None where a row has several."""
    first = scale[:, :1]
    return None if (scale != first).any() else np.ascontiguousarray(first[:, 0])


def record_nbytes(size: int, count: int, width: int, num_bits: int) -> int:
    """Bytes of a quantized weight in the file: codes, their table, scales (see ``model.py``).

    Args:
        size: number of weights.
        count: rows, blocks included.
        width: values of a row.
        num_bits: 2..8.
    """
    wide = max(count, width) > 0xFFFF
    coded = 1 + (8 if wide else 4) + 1 + (1 << num_bits) + (size * num_bits + 7) // 8
    return _padded(coded) + 4 * count


def _padded(size: int) -> int:
    return -(-size // 4) * 4
