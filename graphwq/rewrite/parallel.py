"""Doing independent work on all cores, with the results in the order of the work."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Callable, Deque, Iterable, Iterator, Optional, Tuple, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")

#: Results that are ahead of the one that is asked for hold about this many bytes together, or one
#: of them does that holds more.
MOST_AHEAD = 96 * 1024 * 1024

#: Bytes of a result below which a thread costs more than it saves.
_SMALL = 64 * 1024

_THREADS = "GRAPHWQ_THREADS"


def in_order(
    function: Callable[[Work], Result],
    work: Iterable[Work],
    size: Optional[Callable[[Work], int]] = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by as many threads as cores.

    Only a few results are ahead of the one that is asked for, so memory stays bounded; ``size``
    gives the bytes that the result of an item holds. numpy gives up the interpreter lock while it
    computes, which is what makes threads worth it; for a small item it is not, and the caller's
    thread computes it when its turn comes.
    """
    threads = count_threads()
    if threads == 1:
        yield from map(function, work)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: Deque[Tuple[Callable[[], Result], int]] = deque()
        held = running = 0
        for item in work:
            own = size(item) if size is not None else _SMALL
            while ahead and (running > threads or held + own > MOST_AHEAD or not ahead[0][1]):
                give, freed = ahead.popleft()
                held -= freed
                running -= freed > 0
                yield give()
            if own < _SMALL:
                ahead.append((partial(function, item), 0))
            else:
                ahead.append((pool.submit(function, item).result, own))
                held += own
                running += 1
        for give, _ in ahead:
            yield give()


def count_threads() -> int:
    """As many as there are cores for this process, or what GRAPHWQ_THREADS says."""
    wanted = os.environ.get(_THREADS, "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
