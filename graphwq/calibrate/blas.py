"""Matrix products on one thread, so that a factorization gives the same bits on any machine load.

Exact sums (``gram``) do not need it; Cholesky factors and solutions of linear systems do.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator


@contextmanager
def one_thread() -> Iterator[bool]:
    """Keep BLAS to one thread; yields whether that could be done (it needs threadpoolctl)."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import]
    except ImportError:
        yield False
        return
    with threadpool_limits(limits=1, user_api="blas"):
        yield True
