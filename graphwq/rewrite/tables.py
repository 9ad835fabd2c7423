"""The tables that say what a byte of packed codes means, made by the graph itself.

A table of float32 [256, 8/bits] would cost up to 8 kB in the file. It is computed instead, from the
numbers 0..255, by ops that TensorFlow folds once when the session starts and MNN folds when it
converts:

    digit j of byte x = floor((x / 2^(bits*j)) mod 2^bits)
"""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import attr_type
from graphwq.quant.packing import Plane
from graphwq.rewrite.builder import Builder

_Key = Tuple[str, str, Tuple[str, ...]]


class Tables:
    """The tables that already stand in the graph, by scope, device, control inputs and plane."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._places: Dict[_Key, int] = {}
        self._known: Dict[Tuple[_Key, object], str] = {}

    def ref(self, builder: Builder, plane: Plane) -> str:
        """The table of a plane, float32 [256, per_byte]; its nodes are added where it is new."""
        key = (builder.place.scope, builder.place.device, builder.place.control)
        if (key, plane) not in self._known:
            number = self._places.setdefault(key, len(self._places))
            inner = Builder(builder.place, f"{self._root}_table{number or ''}", builder.nodes)
            if (key, None) not in self._known:
                self._known[key, None] = _bytes(inner)
            self._known[key, plane] = _table(inner, plane, self._known[key, None])
        return self._known[key, plane]


def _bytes(builder: Builder) -> str:
    """float32 [256, 1]: 0..255."""
    limits = [
        builder.floats(name, np.float32(value))
        for name, value in (("zero", 0), ("end", 256), ("one", 1))
    ]
    numbers = builder.op("range", "Range", limits, Tidx=attr_type(dtypes.DT_FLOAT))
    return builder.op(
        "byte",
        "ExpandDims",
        (numbers, builder.ints("axis", 1)),
        T=attr_type(dtypes.DT_FLOAT),
        Tdim=attr_type(dtypes.DT_INT32),
    )


def _table(builder: Builder, plane: Plane, byte: str) -> str:
    name = f"b{plane.bits}s{plane.shift}"
    shifts = np.exp2(-plane.bits * np.arange(plane.per_byte))
    value = builder.binary(f"{name}/shifted", "Mul", byte, builder.floats(f"{name}/shift", shifts))
    base = builder.floats(f"{name}/base", np.float32(1 << plane.bits))
    value = builder.binary(f"{name}/rest", "FloorMod", value, base)
    value = builder.op(f"{name}/digit", "Floor", (value,), T=attr_type(dtypes.DT_FLOAT))
    if plane.shift:
        factor = builder.floats(f"{name}/factor", np.float32(1 << plane.shift))
        value = builder.binary(f"{name}/scaled", "Mul", value, factor)
    if plane.offset:
        offset = builder.floats(f"{name}/offset", np.float32(plane.offset))
        value = builder.binary(f"{name}/code", "Add", value, offset)
    return value
