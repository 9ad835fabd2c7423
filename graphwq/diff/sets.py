"""Two collections by key: what was added, what was removed, what is in both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Mapping, Tuple, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Split(Generic[Key, Value]):
    """The outcome, each part in the order of its collection (mutual: of the new one)."""

    added: Tuple[Tuple[Key, Value], ...]
    removed: Tuple[Tuple[Key, Value], ...]
    mutual: Tuple[Tuple[Key, Value, Value], ...]


def split(old: Mapping[Key, Value], new: Mapping[Key, Value]) -> Split[Key, Value]:
    """Compare the keys of two mappings."""
    return Split(
        tuple((key, value) for key, value in new.items() if key not in old),
        tuple((key, value) for key, value in old.items() if key not in new),
        tuple((key, old[key], value) for key, value in new.items() if key in old),
    )
