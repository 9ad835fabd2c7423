"""JSON as data from a stranger: what Python's reader takes beyond the standard is refused."""

from __future__ import annotations

import json
from typing import Any, NoReturn

#: Digits of a whole number. Reading more takes time that grows with their square.
_MAX_DIGITS = 400


def loads(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: not JSON, NaN or Infinity, a number of absurd length, or nested too deeply.
    """
    try:
        return json.loads(text, parse_int=_whole, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number in JSON")
