"""Names like one that does not exist, for messages."""

from __future__ import annotations

from typing import Collection, List

#: Comparing takes the product of both lengths: longer names, or more of them, are not looked at.
_MAX_LENGTH, _MAX_NAMES = 200, 20_000


def close(word: str, known: Collection[str], count: int, cutoff: float = 0.6) -> List[str]:
    """At most ``count`` of the ``known`` names that are nearly ``word``, the nearest first."""
    if len(word) > _MAX_LENGTH or len(known) > _MAX_NAMES:
        return []
    from difflib import get_close_matches

    short = [name for name in known if len(name) <= _MAX_LENGTH]
    return get_close_matches(word, short, count, cutoff)
