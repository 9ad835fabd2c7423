"""Two constants: how far apart their values are, and what the new ones became."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.mapping import release
from graphwq.graphdef.tensor import Tensor
from graphwq.graphdef.wire import Buffer
from graphwq.quant.grid import Grid, detect, may_be_on_grid
from graphwq.quant.metrics import sqnr_db
from graphwq.text import plural, shortened

_BLOCK = 1 << 20
_SMALL = 1 << 16
_FEW = 6


@dataclass(frozen=True)
class ValueDiff:
    """How the values of two tensors of one shape differ. NaN equals NaN; 0.0 is not -0.0.

    Attributes:
        elements: how many there are.
        changed: how many differ, bit for bit.
        max_abs_difference: over the pairs that are both finite.
        sum_squares, sum_squared_errors: of old, and of old - new, over the same pairs.
        nonfinite_old, nonfinite_new: how many are NaN or Inf.
    """

    elements: int
    changed: int
    max_abs_difference: float
    sum_squares: float
    sum_squared_errors: float
    nonfinite_old: int
    nonfinite_new: int

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise of new against old, in dB; +inf where nothing differs."""
        return sqnr_db(self.sum_squares, self.sum_squared_errors)

    @property
    def fraction_changed(self) -> float:
        """0..1."""
        return self.changed / self.elements if self.elements else 0.0

    def to_json(self) -> Dict[str, Any]:
        """The numbers as JSON data; ``sqnr_db`` is null where it is not finite."""
        sqnr = self.sqnr_db
        return {
            "elements": self.elements,
            "changed": self.changed,
            "fraction_changed": self.fraction_changed,
            "sqnr_db": sqnr if math.isfinite(sqnr) else None,
            "max_abs_difference": self.max_abs_difference,
            "nonfinite_old": self.nonfinite_old,
            "nonfinite_new": self.nonfinite_new,
        }

    def describe(self) -> str:
        """The numbers in plain words."""
        if self.changed and not (
            self.max_abs_difference or self.nonfinite_old or self.nonfinite_new
        ):
            return f"the sign of {plural(self.changed, 'zero')} flipped"
        parts = [self.distance()]
        parts.append(f"{_share(self.changed, self.elements)} changed")
        if self.nonfinite_new > self.nonfinite_old:
            parts.append(f"{self.nonfinite_new - self.nonfinite_old} became NaN or Inf")
        return ", ".join(parts)

    def distance(self) -> str:
        """How far apart the values are, in plain words."""
        largest = f"max difference {self.max_abs_difference:.3g}"
        return f"SQNR {self.sqnr_db:.1f} dB, {largest}" if math.isfinite(self.sqnr_db) else largest


def _share(changed: int, elements: int) -> str:
    if elements < 1000 or changed < elements / 1000:
        return f"{changed} of {plural(elements, 'value')}"
    return f"{100.0 * changed / elements:.3g} % of {elements} values"


def same_bytes(old: Buffer, new: Buffer) -> bool:
    """Whether two buffers hold the same bytes; large ones are not copied."""
    if len(old) != len(new):
        return False
    if len(old) <= _SMALL:
        return bytes(old) == bytes(new)
    left, right = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    return all(
        np.array_equal(left[begin : begin + _BLOCK], right[begin : begin + _BLOCK])
        for begin in range(0, len(old), _BLOCK)
    )


def alike(old: Tensor, new: Tensor) -> bool:
    """Whether two tensors of one type and shape hold the same ``tensor_content``."""
    return (
        (old.dtype, old.shape) == (new.dtype, new.shape)
        and old.content is not None
        and new.content is not None
        and same_bytes(old.content, new.content)
    )


def numbers(tensor: Tensor) -> Optional[np.ndarray]:
    """The values as a real array; None for strings and types that have no numbers.

    bfloat16 becomes float32, complex numbers pairs of floats, truth values 0 and 1.
    """
    if tensor.dtype not in dtypes.NUMPY:
        return None
    array = tensor.numpy()
    if tensor.dtype == dtypes.DT_BFLOAT16:
        wide = array.astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32)
    if array.dtype.kind == "c":
        return np.ascontiguousarray(array).view(array.real.dtype)
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def compare(old: Tensor, new: Tensor) -> Optional[ValueDiff]:
    """Compare the values of two tensors of one shape.

    Returns:
        the numbers; None where the values have no numbers (strings) or cannot be read.

    Raises:
        InputError: values that do not fill the shape.
    """
    left, right = numbers(old), numbers(new)
    if left is None or right is None or left.size != right.size:
        return None
    result = compare_arrays(left, right)
    for tensor in (old, new):
        if tensor.content is not None:
            release(tensor.content)
    return result


def compare_arrays(old: np.ndarray, new: np.ndarray) -> ValueDiff:
    """Compare two real arrays of the same number of elements, in blocks."""
    changed = nonfinite_old = nonfinite_new = 0
    largest = squares = errors = 0.0
    repeat = 1
    if _is_one_value(old) and _is_one_value(new) and old.size > 1:
        repeat = old.size
        old, new = _first(old), _first(new)
    for a, b in _blocks(old, new):
        same = _same(a, b)
        count = int(np.count_nonzero(~same))
        wide = a.astype(np.float64)
        finite = np.isfinite(wide)
        if not count:
            nonfinite = int(finite.size - np.count_nonzero(finite))
            nonfinite_old += nonfinite
            nonfinite_new += nonfinite
            squares += _sum_squares(wide if not nonfinite else wide[finite])
            continue
        changed += count
        other = b.astype(np.float64)
        other_finite = np.isfinite(other)
        nonfinite_old += int(finite.size - np.count_nonzero(finite))
        nonfinite_new += int(other_finite.size - np.count_nonzero(other_finite))
        both = finite & other_finite
        if not both.all():
            wide, other = wide[both], other[both]
        squares += _sum_squares(wide)
        other -= wide
        errors += _sum_squares(other)
        if other.size:
            largest = max(largest, float(np.abs(other).max()))
    return ValueDiff(
        old.size * repeat,
        changed * repeat,
        largest,
        squares * repeat,
        errors * repeat,
        nonfinite_old * repeat,
        nonfinite_new * repeat,
    )


def _sum_squares(values: np.ndarray) -> float:
    return float(np.dot(values, values))


def _is_one_value(array: np.ndarray) -> bool:
    """A value that is repeated over the whole shape without taking memory."""
    return array.size > 0 and not any(array.strides)


def _first(array: np.ndarray) -> np.ndarray:
    return array[(0,) * array.ndim].reshape(1)


def _blocks(old: np.ndarray, new: np.ndarray) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    flat = [
        np.broadcast_to(_first(array), (array.size,)) if _is_one_value(array) else array.reshape(-1)
        for array in (old, new)
    ]
    for begin in range(0, old.size, _BLOCK):
        yield flat[0][begin : begin + _BLOCK], flat[1][begin : begin + _BLOCK]


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two blocks hold the same value: bit for bit, or both NaN."""
    if a.dtype != b.dtype:
        return _same_number(a, b)
    if a.dtype.kind != "f":
        return a == b
    same = a == b
    zeros = same & (a == 0)
    if zeros.any():
        same &= ~zeros | (np.signbit(a) == np.signbit(b))
    return same | (np.isnan(a) & np.isnan(b))


def _same_number(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide, other = a.astype(np.float64), b.astype(np.float64)
    return (wide == other) | (np.isnan(wide) & np.isnan(other))


def grid_of(tensor: Tensor) -> Optional[Grid]:
    """The grid that a float constant lies on, whatever the axes of its scale; None for none."""
    if tensor.dtype not in dtypes.QUANTIZABLE or tensor.size < 2:
        return None
    return grid_of_array(tensor.numpy())


def grid_of_array(array: np.ndarray) -> Optional[Grid]:
    """The grid that floats lie on, whatever the axes of its scale; None for none."""
    if array.size < 2 or _is_one_value(array):
        return None
    return detect(array, _axes(array.ndim))


def may_be_quantized(tensor: Tensor) -> bool:
    """Whether a float constant can lie on a grid; False only where it lies on none."""
    if tensor.dtype not in dtypes.QUANTIZABLE or not tensor.size:
        return False
    array = tensor.numpy()
    return not _is_one_value(array) and may_be_on_grid(array, _axes(len(tensor.shape)))


def _axes(rank: int) -> List[Tuple[int, ...]]:
    """The axes along which a scale may vary, the usual ones first."""
    last = rank - 1
    kept: List[Tuple[int, ...]] = [(last,)] if last > 0 else []
    if last > 1:
        kept.append((last - 1, last))
    return kept + [(axis,) for axis in range(last)]


def describe_grid(grid: Grid) -> str:
    """A grid in plain words."""
    form = "symmetric" if grid.symmetric else "affine"
    along = ""
    if grid.axes:
        noun = "axis" if len(grid.axes) == 1 else "axes"
        along = f" per {noun} {','.join(str(axis) for axis in grid.axes)}"
    article = "an" if form == "affine" else "a"
    return f"on {article} {form} {grid.num_bits}-bit grid{along}"


def describe_type(dtype: int, shape: Optional[Sequence[int]]) -> str:
    """``float32 [3,3,64,128]``; ``?`` is a size that is not known, ``unknown`` a rank."""
    if shape is None:
        return f"{dtypes.dtype_name(dtype)} [unknown]"
    sizes = ["?" if size < 0 else str(size) for size in shape]
    return f"{dtypes.dtype_name(dtype)} [{','.join(sizes)}]"


def show(tensor: Tensor) -> Optional[str]:
    """The values of a small tensor in one printable line; None where there are too many."""
    if not 0 < tensor.size <= _FEW:
        return None
    try:
        values = tensor.numpy().reshape(-1).tolist()
    except InputError:
        return None
    texts = [f"{item:.6g}" if isinstance(item, float) else ascii(item) for item in values]
    text = texts[0] if not tensor.shape else f"[{', '.join(texts)}]"
    return shortened(text, 60)
