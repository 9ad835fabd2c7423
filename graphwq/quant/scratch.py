"""Memory that is used again: fresh pages cost as much as the arithmetic that is done in them.

Each thread has its own memory. An array from ``take`` or ``aligned`` is overwritten by the thread's
next call for the same purpose, so it must not be handed out; one from ``lasting`` is nobody else's.
"""

from __future__ import annotations

import threading
from functools import reduce
from operator import mul
from typing import Any, Tuple

import numpy as np

_local = threading.local()
#: Bytes: more is not held on to, and larger weights are read where they are (a copy would not stay
#: in the cache). Lasting memory is cut from slabs of this size, which the kernel backs with large
#: pages.
LIMIT = 16 * 1024 * 1024


def take(purpose: str, shape: Tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialized array in this thread's memory for ``purpose``."""
    nbytes = reduce(mul, shape, 1) * np.dtype(dtype).itemsize
    if nbytes > LIMIT:
        return np.empty(shape, dtype)
    held = getattr(_local, purpose, None)
    if held is None or held.nbytes < nbytes:
        held = np.empty(nbytes, np.uint8)
        setattr(_local, purpose, held)
    return held[:nbytes].view(dtype).reshape(shape)


def aligned(weight: np.ndarray) -> np.ndarray:
    """The weight, copied to aligned memory where it is not and the copy is worth it.

    In a file a weight begins at any byte; numpy copies unaligned operands in every operation.
    """
    if weight.flags.aligned or weight.nbytes > LIMIT or not weight.flags.c_contiguous:
        return weight
    copy = take("weight", weight.shape, weight.dtype)
    copy.reshape(-1).view(np.uint8)[...] = weight.reshape(-1).view(np.uint8)
    return copy


def lasting(shape: Tuple[int, ...]) -> np.ndarray:
    """An uninitialized int8 array that keeps what is written to it."""
    count = reduce(mul, shape, 1)
    if count > LIMIT // 4:
        return np.empty(shape, np.int8)
    left = getattr(_local, "slab", None)
    if left is None or left.size < count:
        left = np.empty(LIMIT, np.int8)
    _local.slab = left[count:]
    return left[:count].reshape(shape)
