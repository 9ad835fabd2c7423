"""What a quantization is: scheme and quantized tensor, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Tuple, Type, Union

import numpy as np

from graphwq.errors import InputError

MIN_BITS, MAX_BITS = 2, 8
#: Significant bits of a float32 scale.
FLOAT32_BITS = 24

ABSMAX, MSE, SQUANT, GPTQ = "absmax", "mse", "squant", "gptq"
#: How scale and codes can be chosen, see method.py.
METHODS = (ABSMAX, MSE, SQUANT, GPTQ)
#: Those that look at the weight alone.
DATA_FREE = (ABSMAX, MSE, SQUANT)


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole weight: shape (3, 3, 16, 32) -> scale (1, 1, 1, 1)."""


@dataclass(frozen=True)
class PerChannel:
    """One scale per index of the kept axes: (3, 3, 16, 32), axes (3,) -> scale (1, 1, 1, 32)."""

    axes: Tuple[int, ...]


@dataclass(frozen=True)
class PerGroup:
    """One scale per channel and group of ``group_size`` indices of ``axis``.

    (3, 3, 64, 32), axes (3,), axis 2, group_size 16 -> scale (1, 1, 4, 32). The last group is
    shorter where the axis is not a multiple of the group size.
    """

    axes: Tuple[int, ...]
    axis: int
    group_size: int


Granularity = Union[PerTensor, PerChannel, PerGroup]


@dataclass(frozen=True)
class QuantScheme:
    """How the values of one weight are put on a grid.

    Attributes:
        num_bits: 2..8.
        granularity: which values share a scale.
        symmetric: the zero point is 0 (the only form so far).
        narrow_range: the codes are -T..T with T = 2^(num_bits-1) - 1, without -T-1.
        method: how scale and codes are chosen: one of ``METHODS``.
        scale_bits: significant bits of a scale, 24 = float32 as it is, or 13..16: then every
            product code * scale is exact in float32, which is what TensorFlow's FakeQuant ops need
            to reproduce it. (With fewer, half weights would grow.)
    """

    num_bits: int = 8
    granularity: Granularity = PerTensor()
    symmetric: bool = True
    narrow_range: bool = True
    method: str = ABSMAX
    scale_bits: int = FLOAT32_BITS

    def __post_init__(self) -> None:
        check_num_bits(self.num_bits)
        if not (self.symmetric and self.narrow_range):
            raise InputError("only symmetric, narrow-range quantization is implemented")
        if self.method not in METHODS:
            raise InputError(f"there is no method {self.method!r}: use {', '.join(METHODS)}")
        if self.scale_bits not in (*range(13, 17), FLOAT32_BITS):
            raise InputError(f"scale_bits must be 24 or 13..16, not {self.scale_bits!r}")

    @property
    def max_code(self) -> int:
        """T, the largest code: 2^(num_bits-1) - 1."""
        return max_code(self.num_bits)


def max_code(num_bits: int) -> int:
    """T = 2^(num_bits-1) - 1: 1, 3, 7, 15, 31, 63, 127 for 2..8 bits."""
    return (1 << (num_bits - 1)) - 1


def check_num_bits(num_bits: int, error: Type[InputError] = InputError) -> None:
    """Raise ``error`` unless ``num_bits`` is a whole number in 2..8."""
    whole = isinstance(num_bits, (int, np.integer)) and not isinstance(num_bits, bool)
    if not whole or not MIN_BITS <= num_bits <= MAX_BITS:
        raise error(f"bits must be a whole number from 2 to 8, not {num_bits!r}")


def data_free(scheme: QuantScheme, instead: str = ABSMAX) -> QuantScheme:
    """The scheme, with another method where its own needs to know what layers see."""
    return scheme if scheme.method in DATA_FREE else replace(scheme, method=instead)


@dataclass(frozen=True)
class QuantizedTensor:
    """A quantized weight: ``value = float32(codes - zero_point) * scale``, computed in float32.

    Attributes:
        codes: int8, shape of the weight.
        scale: float32 > 0, rank of the weight; 1 on reduced axes, the number of groups on a
            grouped axis.
        zero_point: 0 (symmetric).
        scheme: how it was made.
    """

    codes: np.ndarray
    scale: np.ndarray
    scheme: QuantScheme
    zero_point: int = 0

    def scale_for(self, begin: int, end: int) -> np.ndarray:
        """The scale, repeated over its groups, for rows ``begin:end`` of axis 0 (broadcastable)."""
        scale = self.scale
        granularity = self.scheme.granularity
        if isinstance(granularity, PerGroup):
            size = self.codes.shape[granularity.axis]
            scale = np.take(scale, group_index(size, granularity.group_size), axis=granularity.axis)
        return scale[begin:end] if scale.shape[:1] > (1,) else scale

    def dequantize(self) -> np.ndarray:
        """The float32 values, shape of the weight."""
        return self.codes.astype(np.float32) * self.scale_for(0, len(self.codes.reshape(-1)))


def group_index(size: int, group_size: int) -> np.ndarray:
    """For each index of an axis of ``size`` the number of its group, int32."""
    return (np.arange(size, dtype=np.int64) // min(group_size, max(size, 1))).astype(np.int32)


def whole(value: Any) -> int:
    """A whole number from JSON data.

    Raises:
        InputError: it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{value!r} is not a whole number")
    return value


def granularity_to_json(granularity: Granularity) -> Dict[str, Any]:
    """A granularity as JSON data."""
    if isinstance(granularity, PerTensor):
        return {"kind": "per_tensor"}
    if isinstance(granularity, PerChannel):
        return {"kind": "per_channel", "axes": list(granularity.axes)}
    return {
        "kind": "per_group",
        "axes": list(granularity.axes),
        "axis": granularity.axis,
        "group_size": granularity.group_size,
    }


def granularity_from_json(data: Any) -> Granularity:
    """The inverse of ``granularity_to_json``.

    Raises:
        InputError: not such data.
    """
    try:
        if data["kind"] == "per_tensor":
            return PerTensor()
        axes = tuple(whole(axis) for axis in data["axes"])
        if len(set(axes)) < len(axes):
            raise InputError(f"not a granularity: an axis stands twice in {list(axes)}")
        if data["kind"] == "per_channel":
            return PerChannel(axes)
        if data["kind"] == "per_group" and whole(data["group_size"]) > 0:
            return PerGroup(axes, whole(data["axis"]), whole(data["group_size"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not a granularity: {data!r}") from error
    raise InputError(f"not a granularity: {data!r}")
