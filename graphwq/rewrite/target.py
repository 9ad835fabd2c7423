"""How large a mixed plan may be: an average of bits, or the size of the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Union

from graphwq.errors import InputError
from graphwq.quant.scheme import MIN_BITS

BITS, BYTES, SHARE = "bits", "bytes", "share"
#: Bits of a float32 weight: an average cannot be above it.
FLOAT_BITS = 32

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_UNITS.update({"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30})
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%|(?:[kmg]i?)?b)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Target:
    """What the user allows.

    Attributes:
        kind: ``bits`` (on average), ``bytes`` of the whole file, or its ``share`` of the float one.
        value: of that.
    """

    kind: str
    value: float

    def __str__(self) -> str:
        if self.kind == BITS:
            return f"{self.value:g} bits"
        return f"{100 * self.value:g} %" if self.kind == SHARE else f"{self.value:.0f} bytes"

    def to_json(self) -> Dict[str, Any]:
        """The target as JSON data."""
        return {"kind": self.kind, "value": self.value}

    @classmethod
    def from_json(cls, data: Any) -> Target:
        """The inverse of ``to_json``.

        Raises:
            InputError: another kind.
        """
        if data["kind"] not in (BITS, BYTES, SHARE):
            raise InputError(f"a damaged plan: a target of {data['kind']!r}")
        return cls(data["kind"], float(data["value"]))


def target_bits(value: float) -> Target:
    """An average of bits.

    Raises:
        InputError: no average of 2..8 bits or float.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not MIN_BITS <= value <= FLOAT_BITS:
        raise InputError(
            f"an average of {value!r} bits is not possible: from {MIN_BITS} bits to {FLOAT_BITS}, "
            "which is float"
        )
    return Target(BITS, float(value))


def target_size(value: Union[str, int]) -> Target:
    """A size: ``20%`` of the float graph, ``1.2MB``, ``300kB``, ``64KiB``, or a number of bytes.

    Raises:
        InputError: nothing of that.
    """
    found = _SIZE.fullmatch(str(value).strip())
    if found is None or isinstance(value, bool):
        raise InputError(f"{value!r} is no size: write 20%, 1.2MB, 300kB or a number of bytes")
    number, unit = float(found.group(1)), (found.group(2) or "").lower()
    if unit == "%":
        if not 0 < number < 100:
            raise InputError(f"a size of {value}: it must be more than 0% and less than 100%")
        return Target(SHARE, number / 100)
    size = number * _UNITS[unit]
    if size < 1:
        raise InputError(f"a size of {value}: it must be at least one byte")
    return Target(BYTES, float(int(size)))
