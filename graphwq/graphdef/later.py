"""Bytes that are made when they are written, so that a large result is never in memory at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Union


@dataclass(frozen=True)
class Later:
    """Bytes of which only the number is known yet.

    Attributes:
        nbytes: how many there will be.
        read: makes them.
    """

    nbytes: int
    read: Callable[[], memoryview]


#: The values at the end of a new constant.
Payload = Union[memoryview, Later]


def present(payload: Optional[Payload]) -> Optional[memoryview]:
    """The bytes themselves, made where they are not there yet; None where there are none."""
    return payload.read() if isinstance(payload, Later) else payload
