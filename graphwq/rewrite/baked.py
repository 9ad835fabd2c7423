"""A weight whose values were put on a grid and stay floats: its scheme, codes and scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, List, Optional, Tuple

import numpy as np

from graphwq.errors import QuantizationError
from graphwq.graphdef.node import Node
from graphwq.quant.grid import on_grid
from graphwq.quant.method import quantize_by_method
from graphwq.quant.quantize import quantize
from graphwq.quant.regrid import codes_of
from graphwq.quant.scheme import (
    FLOAT32_BITS,
    MAX_BITS,
    MIN_BITS,
    MSE,
    Granularity,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantizedTensor,
    QuantScheme,
    max_code,
)
from graphwq.rewrite.plan import PlanItem
from graphwq.survey.sites import WeightSite

#: Values of a weight with one scale on which a scheme is tried.
_PROBE_VALUES = 4096
_FEW_BYTES = 4096
_FEW_VALUES = 64
#: A value on a grid misses its point by at most a few float32 roundings of the largest one.
_TOLERANCE = 2.0**-20
_NEARLY_SUBNORMAL = 1e-30
#: Lengths of scales, the usual one first.
SCALE_BITS = (FLOAT32_BITS, 16, 15, 14, 13)
_ANY_SCALE = (FLOAT32_BITS,)

#: Floats and the values that they became.
_Probe = Tuple[np.ndarray, np.ndarray]


def baked(
    old: Node, new: Node, site: WeightSite, item: Optional[PlanItem]
) -> Optional[Tuple[QuantScheme, QuantizedTensor]]:
    """The scheme, codes and scale of a constant whose values were put on a grid; None for none.

    Args:
        old, new: the constant before and after.
        site: the weight that it is.
        item: what a plan says of it; None where that is to be found.
    """
    before, after = old.tensor(), new.tensor()
    if before is None or after is None:
        return None
    if (after.shape, after.dtype) != (before.shape, before.dtype):
        return None
    floats, values = before.numpy(), after.numpy()
    if item is None and _same_bits(floats, values):
        return None
    if not floats.size or not np.isfinite(np.abs(floats).max()):
        return None
    scheme = item.scheme if item is not None else _baked_scheme(floats, values, site)
    quantized = None if scheme is None else _on_scheme(floats, values, scheme)
    if scheme is None or quantized is None:
        return None
    return scheme, quantized


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of one dtype and shape hold the same bytes; most differ early."""
    left, right = (np.ascontiguousarray(item).reshape(-1).view(np.uint8) for item in (one, other))
    some = slice(0, _FEW_BYTES)
    return np.array_equal(left[some], right[some]) and np.array_equal(left, right)


def _baked_scheme(
    floats: np.ndarray, values: np.ndarray, site: WeightSite
) -> Optional[QuantScheme]:
    """The scheme of baked values: one that rounds the floats to them, or any grid they are on.

    Groups come last: their grids hold those of whole channels.
    """
    whole: List[Granularity] = [PerTensor()]
    whole += [PerChannel(site.kept_axes)] if site.kept_axes else []
    return (
        _rounding_scheme(floats, values, whole)
        or _any_grid(values, site)
        or _rounding_scheme(floats, values, _groups(site))
    )


def _rounding_scheme(
    floats: np.ndarray, values: np.ndarray, granularities: Iterable[Granularity]
) -> Optional[QuantScheme]:
    """The first scheme under which the values are the floats rounded to nearest."""
    for granularity in granularities:
        probes = list(_probes(floats, values, granularity))
        for bits in _likely_bits(values, probes):
            for scale_bits in SCALE_BITS if values.dtype == np.dtype(np.float16) else _ANY_SCALE:
                scheme = QuantScheme(bits, granularity, scale_bits=scale_bits)
                if not any(_rounded(*probe, scheme) for probe in probes):
                    continue
                found = _on_scheme(floats, values, scheme)
                if found is not None:
                    return replace(scheme, scale_bits=bits_of(found.scale, scale_bits))
    return None


def _likely_bits(values: np.ndarray, probes: List[_Probe]) -> Iterator[int]:
    """The widths at which some probe may be multiples of its largest value / T.

    A quick look with a generous tolerance, at all widths at once: nearly every constant that was
    not quantized is through here. Half values are off their grid by more than that.
    """
    widths = range(MIN_BITS, MAX_BITS + 1)
    if values.dtype == np.dtype(np.float16):
        yield from widths
        return
    tops = np.array([[max_code(bits)] for bits in widths], np.float64)
    fits = np.zeros(len(tops), bool)
    for _, probe in probes:
        some = probe[:_FEW_VALUES].astype(np.float64)
        largest = float(np.abs(probe).max())
        if largest < _NEARLY_SUBNORMAL:
            fits[:] |= largest > 0
            continue
        codes = some * (tops / largest)
        fits |= (np.abs(codes - np.rint(codes)) <= tops * _TOLERANCE).all(1)
    yield from (bits for bits, fit in zip(widths, fits) if fit)


def _any_grid(values: np.ndarray, site: WeightSite) -> Optional[QuantScheme]:
    """A grid that another method may have chosen; of half values none can be told."""
    if values.dtype == np.dtype(np.float16):
        return None
    for axes in dict.fromkeys([site.kept_axes, ()]):
        grid = on_grid(values, axes)
        if grid is not None:
            return QuantScheme(grid.num_bits, PerChannel(axes) if axes else PerTensor())
    return None


def _groups(site: WeightSite) -> Iterator[Granularity]:
    """Groups that values may share a scale by, large ones first (small ones hold their grids).

    Groups of fewer than 8 or of another number than a power of two are found with their plan only.
    """
    reduced = [axis for axis in range(len(site.shape)) if axis not in site.kept_axes]
    length = site.shape[reduced[-1]] if reduced and site.kept_axes else 0
    for size in (1 << power for power in reversed(range(3, max(length - 1, 1).bit_length()))):
        yield PerGroup(site.kept_axes, reduced[-1], size)


def _probes(floats: np.ndarray, values: np.ndarray, granularity: Granularity) -> Iterator[_Probe]:
    """Some of the values that share a scale, the largest of them included."""
    flat = np.abs(floats.reshape(-1))
    half = flat.size // 2
    places = {int(flat.argmax()), int(flat[: half + 1].argmax()), half + int(flat[half:].argmax())}
    if isinstance(granularity, PerTensor):
        some = np.append(np.arange(min(flat.size, _PROBE_VALUES)), list(places))
        yield floats.reshape(-1)[some], values.reshape(-1)[some]
        return
    for place in sorted(places):
        found = np.unravel_index(place, floats.shape)
        index: List[slice] = [slice(None)] * floats.ndim
        for axis in granularity.axes:
            index[axis] = slice(int(found[axis]), int(found[axis]) + 1)
        if isinstance(granularity, PerGroup):
            size = granularity.group_size
            begin = int(found[granularity.axis]) // size * size
            index[granularity.axis] = slice(begin, begin + size)
        yield floats[tuple(index)].reshape(-1), values[tuple(index)].reshape(-1)


def _rounded(floats: np.ndarray, values: np.ndarray, scheme: QuantScheme) -> bool:
    """Whether the values, which share a scale, are the floats rounded; zeros alone tell nothing."""
    if not values.any():
        return False
    found = _on_scheme(floats, values, replace(scheme, granularity=PerTensor()), at_top=True)
    if found is None:
        return False
    top = scheme.max_code
    return bool((np.clip(np.rint(floats / found.scale), -top, top) == found.codes).all())


def _on_scheme(
    floats: np.ndarray, values: np.ndarray, scheme: QuantScheme, at_top: bool = False
) -> Optional[QuantizedTensor]:
    """Codes and scale behind the values, the largest code being T where ``at_top``."""
    if values.dtype != np.dtype(np.float16):
        return codes_of(values, scheme, at_top)
    try:
        made = _made(floats, scheme)  # half values do not tell their scale: take the method's
    except QuantizationError:
        return None
    codes = np.rint(values.astype(np.float32) / made.scale_for(0, len(values.reshape(-1))))
    if np.abs(codes).max() > scheme.max_code:
        return None
    found = replace(made, codes=codes.astype(np.int8))
    return found if (found.dequantize().astype(values.dtype) == values).all() else None


def _made(floats: np.ndarray, scheme: QuantScheme) -> QuantizedTensor:
    """The floats quantized anew, with the formula's scale where the method needs a calibration."""
    if scheme.method == MSE:
        return quantize_by_method(floats, scheme)[0]
    return quantize(floats, scheme)


def bits_of(scale: np.ndarray, otherwise: int = FLOAT32_BITS) -> int:
    """Significant bits that scales use: one of the short lengths, or ``otherwise``."""
    used = int(np.bitwise_or.reduce(scale.reshape(-1).view(np.uint32)))
    free = next((bit for bit in range(FLOAT32_BITS) if used >> bit & 1), FLOAT32_BITS)
    bits = max(FLOAT32_BITS - free, min(SCALE_BITS))
    return bits if bits in SCALE_BITS else otherwise
