"""Signals that ask a command to stop: it cleans up and leaves with 128 + the signal's number."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from types import FrameType
from typing import Dict, Iterator, List, Optional

#: Signal -> the handler that it must have had to get ours. (One that nohup ignores stays ignored.)
_HANDLERS = {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,  # Windows has none
}

_came: List[int] = []


class Stopped(KeyboardInterrupt):
    """A signal came. (As KeyboardInterrupt it passes what catches exceptions.)"""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name = signal.Signals(number).name
        self.status = 128 + number


@contextmanager
def signals() -> Iterator[None]:
    """Raise ``Stopped`` where a signal comes."""
    _came.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Dict[int, object] = {}
    try:
        for name, usual in _HANDLERS.items():
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == usual:
                before[number] = usual
                signal.signal(number, _stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _stop(number: int, _frame: Optional[FrameType]) -> None:
    _came.append(number)
    if number == signal.SIGINT:  # a second Ctrl-C ends what does not end
        signal.signal(number, signal.default_int_handler)
    else:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped(number)


def again() -> None:
    """Raise ``Stopped`` where a signal has come and something else was made of it.

    An import in C that is interrupted says ImportError, for instance.
    """
    if _came:
        raise Stopped(_came[0])


def leave() -> None:
    """A command is done: from here on Ctrl-C ends the process without a traceback."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
