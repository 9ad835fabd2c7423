"""Whether data that was read from JSON is what the dataclass it was put into says."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Dict, Mapping, Tuple, Union, get_type_hints


def check(value: Any, kind: Any = None, where: str = "") -> None:
    """Compare a dataclass and all that is in it with the types of its fields.

    Numbers must be finite; whole numbers count something here, and must not be negative.

    Args:
        value: what was read.
        kind: its type; that of the value itself where None.
        where: the field that it is in.

    Raises:
        ValueError: something is of another type, or such a number.
    """
    kind = type(value) if kind is None else kind
    if is_dataclass(kind):
        if not isinstance(value, kind):
            raise ValueError(f"{where} is {value!r:.100}")
        for name, hint in _hints(kind).items():
            check(getattr(value, name), hint, name)
        return
    origin, inner = getattr(kind, "__origin__", None), getattr(kind, "__args__", ())
    if kind is Any:
        return
    if origin is Union:
        given = [item for item in inner if item is not type(None)]
        if value is not None or len(given) == len(inner):
            check(value, given[0], where)
    elif origin is tuple:
        _check_tuple(value, inner, where)
    elif origin is not None:
        _check_mapping(value, inner, where)
    elif not _is(value, kind):
        raise ValueError(f"{where} is {value!r:.100}")


def _check_tuple(value: Any, inner: Tuple[Any, ...], where: str) -> None:
    many = len(inner) == 2 and inner[1] is Ellipsis
    if not isinstance(value, tuple) or not (many or len(value) == len(inner)):
        raise ValueError(f"{where} is {value!r:.100}")
    for index, item in enumerate(value):
        check(item, inner[0] if many else inner[index], where)


def _check_mapping(value: Any, inner: Tuple[Any, ...], where: str) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r:.100}")
    for key, item in value.items():
        check(key, inner[0], where)
        check(item, inner[1], where)


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and abs(value) < 1e300 and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, kind)


@lru_cache(maxsize=None)
def _hints(kind: Any) -> Dict[str, Any]:
    known = get_type_hints(kind)
    return {item.name: known[item.name] for item in fields(kind)}
