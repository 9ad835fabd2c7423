"""Doing independent work on all cores, with the results in the order of the work."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterable, Iterator, Optional, Tuple, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")

#: Results that are ahead of the one that is asked for hold about this many bytes together, or one
#: of them does that holds more.
MOST_AHEAD = 48 * 1024 * 1024

_THREADS = "GRAPHWQ_THREADS"


def in_order(
    function: Callable[[Work], Result],
    work: Iterable[Work],
    size: Optional[Callable[[Work], int]] = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by as many threads as cores.

    Only a few results are ahead of the one that is asked for, so memory stays bounded; ``size``
    gives the bytes that the result of an item holds. numpy gives up the interpreter lock while it
    computes, which is what makes threads worth it.
    """
    threads = count_threads()
    if threads == 1:
        yield from map(function, work)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: Deque[Tuple[Future[Result], int]] = deque()
        held = 0
        for item in work:
            own = size(item) if size is not None else 0
            while ahead and (len(ahead) > threads or held + own > MOST_AHEAD):
                done, freed = ahead.popleft()
                held -= freed
                yield done.result()
            ahead.append((pool.submit(function, item), own))
            held += own
        while ahead:
            yield ahead.popleft()[0].result()


def count_threads() -> int:
    """As many as there are cores for this process, or what GRAPHWQ_THREADS says."""
    wanted = os.environ.get(_THREADS, "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
