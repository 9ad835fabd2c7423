"""Signals that ask a command to stop: it cleans up and leaves with 128 + the signal's number."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from types import FrameType
from typing import Iterator, Optional

#: SIGINT is Python's KeyboardInterrupt already.
_NAMES = ("SIGTERM", "SIGHUP")


class Stopped(KeyboardInterrupt):
    """A signal came. (As KeyboardInterrupt it passes what catches exceptions.)"""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name = signal.Signals(number).name
        self.status = 128 + number


@contextmanager
def signals() -> Iterator[None]:
    """Raise ``Stopped`` where a signal comes; one that is ignored (nohup) stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for name in _NAMES:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: Optional[FrameType]) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one does not disturb cleaning up
    raise Stopped(number)


def leave() -> None:
    """A command is done: from here on Ctrl-C ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
