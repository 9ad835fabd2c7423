"""im2col: the rows of numbers that a convolution multiplies with its weights, in numpy."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

Ints = Tuple[int, ...]
Pads = Tuple[Tuple[int, int], ...]


def same_pads(sizes: Sequence[int], kernel: Ints, strides: Ints, dilations: Ints) -> Pads:
    """The padding that TensorFlow calls SAME (core/framework/common_shape_fns.cc)."""
    result = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations):
        reach = (taps - 1) * dilation + 1
        total = max(0, (-(-size // stride) - 1) * stride + reach - size)
        result.append((total // 2, total - total // 2))
    return tuple(result)


def windows(
    value: np.ndarray, kernel: Ints, strides: Ints, dilations: Ints, pads: Pads
) -> np.ndarray:
    """All windows of a padded input, as a view.

    Args:
        value: [batch, *sizes, channels].
        kernel, strides, dilations, pads: one for each of the sizes.

    Returns:
        [batch, *positions, *kernel, channels]; read-only. Empty where the kernel does not fit.
    """
    padded = np.pad(value, ((0, 0), *pads, (0, 0))) if any(map(any, pads)) else value
    positions = []
    for size, taps, stride, dilation in zip(padded.shape[1:-1], kernel, strides, dilations):
        positions.append(max(0, (size - (taps - 1) * dilation - 1) // stride + 1))
    step = padded.strides
    inner = step[1:-1]
    return as_strided(
        padded,
        (padded.shape[0], *positions, *kernel, padded.shape[-1]),
        (
            step[0],
            *(one * stride for one, stride in zip(inner, strides)),
            *(one * dilation for one, dilation in zip(inner, dilations)),
            step[-1],
        ),
        writeable=False,
    )


def rows_of(view: np.ndarray, rank: int, limit: int) -> np.ndarray:
    """At most ``limit`` windows, evenly spread: [windows, *kernel, channels], a copy.

    Args:
        view: of ``windows``; ``rank`` sizes.
        rank: number of spatial axes.
        limit: of the number of windows.
    """
    shape = view.shape[: rank + 1]
    total = int(np.prod(shape, dtype=np.int64))
    if total <= limit:
        return view.reshape(total, *view.shape[rank + 1 :])
    chosen = (np.arange(limit, dtype=np.int64) * total + total // 2) // limit
    return view[np.unravel_index(np.minimum(chosen, total - 1), shape)]
