"""The tables that say what a byte of packed codes means, made by the graph itself.

A table of float32 [256, 8/bits] would cost up to 8 kB in the file. It is computed instead, from the
numbers 0..255, by ops that TensorFlow folds once when the session starts and MNN folds when it
converts:

    digit j of byte x = floor((x / 2^(bits*j)) mod 2^bits)

All names here are short on purpose: each stands in the file for the node and for each of its uses.
"""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import attr_type
from graphwq.quant.packing import Plane
from graphwq.rewrite.builder import Builder, Shape

_Key = Tuple[str, str, Tuple[str, ...]]


class Tables:
    """What several weights share: decoding tables and shapes.

    Shared are nodes of the same scope and device whose constants have the same control inputs.
    """

    def __init__(self, root: str) -> None:
        self.prefix = f"{root}t"
        self._places: Dict[_Key, int] = {}
        self._known: Dict[Tuple[_Key, object], str] = {}

    def table(self, builder: Builder, plane: Plane) -> str:
        """The table of a plane, float32 [256, per_byte]; its nodes are added where it is new."""
        key, inner = self._inner(builder)
        if (key, plane) not in self._known:
            if (key, "byte") not in self._known:
                self._known[key, "byte"] = _bytes(inner)
            self._known[key, plane] = _table(inner, plane, self._known[key, "byte"])
        return self._known[key, plane]

    def shape(self, builder: Builder, shape: Shape) -> str:
        """A shape as int32 constant."""
        key, inner = self._inner(builder)
        if (key, shape) not in self._known:
            name = "x".join(str(size) for size in shape)
            self._known[key, shape] = inner.ints(name, shape)
        return self._known[key, shape]

    def _inner(self, builder: Builder) -> Tuple[_Key, Builder]:
        place = builder.place
        key = (place.scope, place.device, place.control + place.anchor)
        number = self._places.setdefault(key, len(self._places))
        prefix = f"{self.prefix}{number}" if number else self.prefix
        return key, Builder(builder.place, prefix, builder.nodes)


def _bytes(builder: Builder) -> str:
    """float32 [256, 1]: 0..255."""
    limits = [
        builder.floats(name, np.float32(value))
        for name, value in (("from", 0), ("to", 256), ("by", 1))
    ]
    numbers = builder.op("all", "Range", limits, Tidx=attr_type(dtypes.DT_FLOAT))
    axis = builder.ints("axis", 1)
    return builder.op("byte", "ExpandDims", (numbers, axis), T=attr_type(dtypes.DT_FLOAT))


def _table(builder: Builder, plane: Plane, byte: str) -> str:
    name = str(plane.bits)
    name += f"s{plane.shift}" if plane.shift else ""
    name += "" if plane.offset else "p"  # a lower plane: no offset
    shifts = np.exp2(-plane.bits * np.arange(plane.per_byte))
    base = builder.floats(f"{name}/base", np.float32(1 << plane.bits))
    value = builder.binary(f"{name}/down", "Mul", byte, builder.floats(f"{name}/by", shifts))
    value = builder.binary(f"{name}/mod", "FloorMod", value, base)
    value = builder.op(f"{name}/digit", "Floor", (value,), T=attr_type(dtypes.DT_FLOAT))
    if plane.shift:
        factor = builder.floats(f"{name}/factor", np.float32(1 << plane.shift))
        value = builder.binary(f"{name}/up", "Mul", value, factor)
    if plane.offset:
        offset = builder.floats(f"{name}/offset", np.float32(plane.offset))
        value = builder.binary(f"{name}/code", "Add", value, offset)
    return value
