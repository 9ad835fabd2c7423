"""Whether the converter gives a plan's codes and scales back, and if not, why not."""

from __future__ import annotations

from enum import Enum
from typing import Optional, Tuple

import numpy as np

from graphwq.mnn import layout
from graphwq.mnn.layout import SMALLEST_SCALE
from graphwq.quant.scheme import PerGroup, QuantizedTensor, QuantScheme

#: A folded scale may miss the product of scale and batch-norm factor by a few float32 roundings.
FOLD_TOLERANCE = 2e-6


class Fate(str, Enum):
    """What becomes of a weight in one layer: quantized, or why it stays float."""

    QUANTIZED = "quantized"
    FUNCTION = "function"
    OP = "op"
    FOLDED = "folded"
    LEFT_OPERAND = "left_operand"
    DEPTHWISE_MULTIPLIER = "depthwise_multiplier"
    SHARED = "shared"
    NOT_CONSTANT = "not_constant"
    PLANNED_FLOAT = "planned_float"
    TRANSPOSED_GROUPING = "transposed_grouping"
    GROUP_SIZE = "group_size"
    SEVERAL_SCALES = "several_scales"
    TINY_SCALE = "tiny_scale"
    GRID = "grid"
    UNKNOWN_LAYER = "unknown_layer"


class Refusal(Exception):  # noqa: N818  control flow inside of lint
    """Why a layer stays float."""

    def __init__(self, fate: Fate, detail: str) -> None:
        super().__init__(detail)
        self.fate = fate
        self.detail = detail


def spread(item: QuantizedTensor) -> np.ndarray:
    """The scales in the shape of the weight."""
    scheme = item.scheme
    if not isinstance(scheme.granularity, PerGroup):
        return np.broadcast_to(item.scale, item.codes.shape)
    axis, size = scheme.granularity.axis, scheme.granularity.group_size
    repeated = np.repeat(item.scale, size, axis)
    cut = repeated.take(np.arange(item.codes.shape[axis]), axis)
    return np.broadcast_to(cut, item.codes.shape)


def block_size(granularity: PerGroup, channels: int) -> int:
    """The block size to tell the converter; 0 where one group is the whole row."""
    size = granularity.group_size
    if size >= channels:
        return 0
    if not layout.is_block(size, channels):
        detail = (
            f"groups of {size} of {channels} input channels; MNN's blocks are multiples of "
            f"{layout.BLOCK_STEP} that divide them"
        )
        raise Refusal(Fate.GROUP_SIZE, detail)
    return size


def check_arithmetic(
    codes: np.ndarray,
    scale: np.ndarray,
    scheme: QuantScheme,
    factor: Optional[np.ndarray],
    op: str,
) -> None:
    """Refuse rows that the converter would not reproduce."""
    per_row = _per_row(factor, len(scale))
    if per_row is not None and op == "Conv2DBackpropInput" and len(scale) > 1:
        detail = "batch normalisation is folded into channels, MNN groups by pieces of memory"
        raise Refusal(Fate.TRANSPOSED_GROUPING, detail)
    used = codes.any(1)
    folded = scale if per_row is None else np.abs(scale * per_row)
    tiny = np.flatnonzero(used & ~(folded > SMALLEST_SCALE) & (folded > 0))
    if len(tiny):
        after = "" if per_row is None else " after batch-norm folding"
        detail = (
            f"the scale of output channel {tiny[0]} is {folded[tiny[0]]:.2g}{after}; MNN stores "
            f"zeros where it is not above 1e-6"
        )
        raise Refusal(Fate.TINY_SCALE, detail)
    if not np.isfinite(folded).all():
        raise Refusal(Fate.GRID, "batch normalisation makes NaN or Inf of it")
    found, derived = layout.encode(codes.astype(np.float32) * scale[:, None], scheme.num_bits)
    wrong = (found != codes).any(1) | ((derived != scale) & used)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        detail = (
            f"MNN would derive the scale {derived[row]:.6g} for row {row}, not {scale[row]:.6g}: "
            f"its largest code is {int(np.abs(codes[row]).max())}, not {scheme.max_code}"
        )
        raise Refusal(Fate.GRID, detail)


def _per_row(factor: Optional[np.ndarray], count: int) -> Optional[np.ndarray]:
    return None if factor is None else np.repeat(factor, count // len(factor))


def folded(scale: np.ndarray, factor: Optional[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """The sign of each row's codes and its scale after batch-norm folding."""
    per_row = _per_row(factor, len(scale))
    if per_row is None:
        return np.ones(len(scale), np.int8), scale
    return np.sign(per_row).astype(np.int8), np.abs(scale * per_row).astype(np.float32)
