"""cli/stopping.py: whatever a signal becomes on its way, the exit status is 128 + its number."""

from __future__ import annotations

import os
import signal
from typing import Any, Callable, Iterator, List, NoReturn, Optional

import pytest
from commandline import run
from conftest import FIXTURES

from graphwq.cli import inspect
from graphwq.errors import InputError, MissingDependencyError

_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Under nohup, or behind ``&`` in a script, signals are ignored from the start."""
    usual = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    before = list(map(signal.signal, _SIGNALS, usual))
    yield
    for number, handler in zip(_SIGNALS, before):
        signal.signal(number, handler)


def _stops(
    monkeypatch: pytest.MonkeyPatch,
    numbers: List[signal.Signals],
    then: Callable[[BaseException], BaseException],
) -> None:
    """Let ``inspect`` get signals, and make something else of them."""

    def command(_options: Any) -> NoReturn:
        last: Optional[BaseException] = None
        for number in numbers:
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt as stop:
                last = stop
        assert last is not None
        raise then(last)

    monkeypatch.setattr(inspect, "run", command)


@pytest.mark.parametrize("number", _SIGNALS)
@pytest.mark.parametrize(
    "then",
    [
        lambda stop: stop,
        lambda _: ImportError("PyCapsule_Import could not import module 'datetime'"),
        lambda _: MissingDependencyError("not installed"),
        lambda _: InputError("cannot be read"),
        lambda _: OSError(28, "No space left on device"),
    ],
)
def test_what_a_signal_becomes(
    number: signal.Signals,
    then: Callable[[BaseException], BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """An import that is interrupted says ImportError: that is an interrupt all the same."""
    _stops(monkeypatch, [number], then)
    before = [signal.getsignal(item) for item in _SIGNALS]
    status, out, err = run(capsys, "inspect", FIXTURES / "digits_mlp.pb")
    said = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert (status, out) == (128 + number, "")
    assert err == f"graphwq: {said}; every output is as it was, or complete\n"
    assert [signal.getsignal(item) for item in _SIGNALS] == before


def test_a_second_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """A second SIGTERM does not disturb cleaning up; another signal is another reason."""
    _stops(monkeypatch, [signal.SIGTERM, signal.SIGTERM, signal.SIGHUP], lambda stop: stop)
    assert run(capsys, "inspect", FIXTURES / "digits_mlp.pb").status == 129
    _stops(monkeypatch, [signal.SIGTERM, signal.SIGTERM], lambda stop: stop)
    assert run(capsys, "inspect", FIXTURES / "digits_mlp.pb").status == 143


def test_it_is_forgotten(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The next command of the same process has nothing to do with it."""
    _stops(monkeypatch, [signal.SIGINT], lambda _: InputError("no"))
    assert run(capsys, "inspect", FIXTURES / "digits_mlp.pb").status == 130
    monkeypatch.undo()
    assert run(capsys, "inspect", "nothing.pb").status == 2
    assert run(capsys, "inspect", FIXTURES / "digits_mlp.pb").status == 0


def test_an_ignored_signal_stays_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As nohup wants it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _stops(monkeypatch, [signal.SIGHUP, signal.SIGTERM], lambda stop: stop)
    assert run(capsys, "inspect", FIXTURES / "digits_mlp.pb").status == 143
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
