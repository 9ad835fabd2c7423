"""Bringing an array to the dtype of the tensor that it is fed to, without changing its values."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes

_UNFEEDABLE = frozenset([dtypes.DT_BFLOAT16, dtypes.DT_RESOURCE, dtypes.DT_VARIANT])


def fitted(name: str, array: np.ndarray, dtype: int) -> Tuple[np.ndarray, str]:
    """The array in the dtype of its tensor, and what was done to it ("" for nothing).

    A cast is done where every value stays what it is: whole numbers that fit into the narrower
    type, whole numbers that a float expresses exactly. float64 and float16 become float32 (rounded)
    unless a finite value becomes infinite. Text becomes bytes; for a string tensor a uint8 array is
    the bytes of its strings, one string for each index of all axes but the last.

    Raises:
        InputError: any other difference of dtype.
    """
    if dtype == dtypes.DT_STRING:
        return _strings(name, array)
    if dtype in _UNFEEDABLE or dtype not in dtypes.NUMPY:
        raise InputError(
            f"tensor {name!r} is of dtype {dtypes.dtype_name(dtype)}, which cannot be fed: feed a "
            "tensor behind it"
        )
    target = dtypes.NUMPY[dtype]
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == target:
        return array, ""
    said = f"{name}: {array.dtype} values given as {target.name}"
    kinds = array.dtype.kind + target.kind
    if kinds == "ff":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(target)
        if bool((np.isfinite(array) & ~np.isfinite(cast)).any()):
            raise InputError(f"{name}: values of the feed are too large for {target.name}")
        return cast, said
    if kinds in ("ii", "iu", "ui", "uu"):
        limits = np.iinfo(target)
        if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
            raise InputError(
                f"{name}: the feed reaches from {array.min()} to {array.max()}, "
                f"{target.name} from {limits.min} to {limits.max}"
            )
        return array.astype(target), said
    if kinds in ("if", "uf"):
        cast = array.astype(target)
        largest = 1 << (np.finfo(target).nmant + 1)
        if not array.size or max(abs(int(array.min())), abs(int(array.max()))) <= largest:
            return cast, said
    raise InputError(
        f"{name}: the feed is of dtype {array.dtype}, the tensor of {target.name}: "
        f"convert it (array.astype({target.name!r})) if that is what is meant"
    )


def _strings(name: str, array: np.ndarray) -> Tuple[np.ndarray, str]:
    if array.dtype == np.uint8 and array.ndim:
        flat = array.reshape(-1, array.shape[-1]) if array.shape[-1] else array[..., :0]
        texts = [row.tobytes() for row in flat]
        return _objects(texts, array.shape[:-1]), f"{name}: uint8 values given as strings"
    if array.dtype.kind not in "SUVO":
        raise InputError(
            f"{name}: the feed is of dtype {array.dtype}, the tensor takes strings: give bytes "
            "(numpy.array(values, 'S')) or their uint8 values"
        )
    texts = [_bytes(name, item) for item in array.reshape(-1)]
    return _objects(texts, array.shape), ""


def _bytes(name: str, item: Any) -> bytes:
    if isinstance(item, (bytes, np.bytes_)):
        return bytes(item)
    if isinstance(item, str):
        return str(item).encode()
    if isinstance(item, np.void):
        return item.tobytes()
    raise InputError(f"{name}: {type(item).__name__} among the strings of the feed")


def _objects(texts: Any, shape: Tuple[int, ...]) -> np.ndarray:
    result = np.empty(len(texts), object)
    result[:] = texts
    return result.reshape(shape)
