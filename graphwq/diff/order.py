"""Nodes that stand elsewhere in the file, relative to the others."""

from __future__ import annotations

from bisect import bisect_left
from typing import List, Optional, Sequence

from graphwq.diff.change import Change, Kind, Severity
from graphwq.survey.sites import qualified
from graphwq.text import name, plural

_LISTED = 100


def moved(positions: Sequence[int]) -> List[int]:
    """The fewest items that must move so that the positions ascend: all but a longest run.

    Args:
        positions: new position of each item, in the old order; no two are equal.

    Returns:
        indices into ``positions``, ascending.
    """
    tails: List[int] = []
    ends: List[int] = []
    before: List[int] = []
    for index, position in enumerate(positions):
        place = bisect_left(tails, position)
        before.append(ends[place - 1] if place else -1)
        if place == len(tails):
            tails.append(position)
            ends.append(index)
        else:
            tails[place] = position
            ends[place] = index
    kept = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        kept.add(index)
        index = before[index]
    return [index for index in range(len(positions)) if index not in kept]


def order_change(scope: str, old: Sequence[str], new: Sequence[str]) -> Optional[Change]:
    """The change that says which nodes stand elsewhere; None where the order is kept.

    Args:
        scope: "" for the main graph, else the function.
        old, new: the names of the nodes that both have, in the order of each file.
    """
    place = {item: index for index, item in enumerate(new)}
    elsewhere = [old[index] for index in moved([place[item] for item in old])]
    if not elsewhere:
        return None
    few = ", ".join(name(item) for item in elsewhere[:3])
    more = len(elsewhere) - 3
    return Change(
        Kind.NODE_MOVED,
        qualified(scope, elsewhere[0]) if len(elsewhere) == 1 else scope,
        Severity.BENIGN,
        f"{plural(len(elsewhere), 'node')} moved in the file: {few}"
        + (f" and {more} more" if more > 0 else ""),
        {"nodes": elsewhere[:_LISTED], "count": len(elsewhere)},
        reason="the order in the file decides nothing",
    )
