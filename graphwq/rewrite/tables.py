"""The tables that say what a byte of packed codes means, made by the graph itself.

A table of float32 [256, 8/bits] would cost up to 8 kB in the file. It is computed instead, from the
numbers 0..255, by ops that TensorFlow folds once when the session starts and MNN folds when it
converts:

    digit j of byte x = floor((x / 2^(bits*j)) mod 2^bits)

Names (short on purpose, see names.py): ``q/0`` is 0..255; ``q/4`` the table of a plane of 4 bits,
``q/2s1`` of 2 bits with 1 bit below them, ``q/1p`` of a plane that is not the first; ``q/a``,
``q/b``, ... are shapes; ``q/b3`` what the bits of a code of 3 bits count. Another device or frame
has its own: ``q-1/4``.
"""

from __future__ import annotations

from typing import Dict, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import attr_type
from graphwq.quant.packing import Plane, bit_weights
from graphwq.rewrite.builder import Builder, Shape

_Key = Tuple[str, str, Tuple[str, ...]]


class Tables:
    """What several weights share: decoding tables and shapes.

    Shared are nodes of the same scope and device whose constants have the same control inputs.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._places: Dict[_Key, int] = {}
        self._known: Dict[Tuple[_Key, object], str] = {}
        self._shapes = 0

    @property
    def prefixes(self) -> Tuple[str, str]:
        """What the names of all shared nodes begin with."""
        return f"{self._root}/", f"{self._root}-"

    def table(self, builder: Builder, plane: Plane) -> str:
        """The table of a plane, float32 [256, per_byte]; its nodes are added where it is new."""
        key, inner = self._inner(builder)
        if (key, plane) not in self._known:
            if (key, "byte") not in self._known:
                self._known[key, "byte"] = _bytes(inner)
            self._known[key, plane] = _table(inner, plane, self._known[key, "byte"])
        return self._known[key, plane]

    def bit_weights(self, builder: Builder, num_bits: int) -> str:
        """What the bits of a code count, float32 [1, num_bits]."""
        key, inner = self._inner(builder)
        if (key, num_bits) not in self._known:
            self._known[key, num_bits] = inner.floats(f"b{num_bits}", bit_weights(num_bits)[None])
        return self._known[key, num_bits]

    def shape(self, builder: Builder, shape: Shape) -> str:
        """A shape as int32 constant."""
        key, inner = self._inner(builder)
        if (key, shape) not in self._known:
            self._known[key, shape] = inner.ints(_letters(self._shapes), shape)
            self._shapes += 1
        return self._known[key, shape]

    def _inner(self, builder: Builder) -> Tuple[_Key, Builder]:
        place = builder.place
        key = (place.scope, place.device, place.control + place.anchor)
        number = self._places.setdefault(key, len(self._places))
        prefix = f"{self._root}-{number}" if number else self._root
        return key, Builder(builder.place, prefix, builder.nodes)


def _letters(number: int) -> str:
    """a..z, aa, ab, ..."""
    more, letter = divmod(number, 26)
    return (_letters(more - 1) if more else "") + chr(ord("a") + letter)


def _bytes(builder: Builder) -> str:
    """float32 [256, 1]: 0..255."""
    limits = [
        builder.floats(f"0/{name}", np.float32(value))
        for name, value in (("from", 0), ("to", 256), ("by", 1))
    ]
    numbers = builder.op("0/all", "Range", limits, Tidx=attr_type(dtypes.DT_FLOAT))
    axis = builder.ints("0/axis", 1)
    return builder.op("0", "ExpandDims", (numbers, axis), T=attr_type(dtypes.DT_FLOAT))


def _table(builder: Builder, plane: Plane, byte: str) -> str:
    name = str(plane.bits)
    name += f"s{plane.shift}" if plane.shift else ""
    name += "" if plane.offset else "p"  # a lower plane: no offset
    shifts = np.exp2(-plane.bits * np.arange(plane.per_byte))
    steps = [
        ("down", "Mul", shifts),
        ("mod", "FloorMod", 1 << plane.bits),
        ("digit", "Floor", None),
    ]
    if plane.shift:
        steps.append(("up", "Mul", 1 << plane.shift))
    if plane.offset:
        steps.append(("code", "Add", plane.offset))
    value = byte
    for step, op, operand in steps:
        inner = name if step == steps[-1][0] else f"{name}/{step}"
        inputs = [value]
        if operand is not None:
            inputs.append(builder.floats(f"{name}/{step}_by", np.float32(operand)))
        value = builder.op(inner, op, inputs, T=attr_type(dtypes.DT_FLOAT))
    return value
