"""Doing independent work on all cores, with the results in the order of the work."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterable, Iterator, TypeVar

Work = TypeVar("Work")
Result = TypeVar("Result")


def in_order(function: Callable[[Work], Result], work: Iterable[Work]) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order, computed by as many threads as cores.

    Only a few results are ahead of the one that is asked for, so memory stays bounded. numpy gives
    up the interpreter lock while it computes, which is what makes threads worth it.
    """
    threads = _cores()
    if threads == 1:
        yield from map(function, work)
        return
    with ThreadPoolExecutor(threads) as pool:
        ahead: Deque[Future[Result]] = deque()
        for item in work:
            ahead.append(pool.submit(function, item))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
