"""Finding made-up inputs that a graph really takes, by running it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterator, List, Sequence

from graphwq.errors import InputError
from graphwq.survey.view import ScopeView
from graphwq.verify.feeds import Feeds
from graphwq.verify.interface import Placeholder
from graphwq.verify.runner import Runner
from graphwq.verify.synthetic import ATTEMPTS, KINDS, Attempt, synthesize, wanted_inputs

_MAX_NUMBER = 1024
_MAX_HINTS = 6
#: How many of the usual sizes are tried once more with placeholders fed that have a default.
_WITH_DEFAULTS = 14
#: Elements of the tensors of a guessed shape above which a guess is not tried.
_MAX_ELEMENTS = 1 << 19


def find_feeds(
    runner: Runner,
    view: ScopeView,
    placeholders: Sequence[Placeholder],
    tensors: Sequence[str],
    seed: int = 0,
    samples: int = 4,
) -> Feeds:
    """Made-up inputs (see ``synthesize``) on which the graph runs.

    Sizes that the graph leaves open are tried one after the other, common ones first, then the
    numbers that TensorFlow's complaints name.

    Args:
        runner: the reference.
        view: its main graph.
        placeholders: its placeholders.
        tensors: the outputs that are to be fetched.
        seed, samples: see ``synthesize``.

    Raises:
        InputError: none is found; the message says what TensorFlow said of the first try.
    """
    complaints: List[str] = []
    for attempt in _attempts(view, placeholders, tensors, complaints):
        choices = _choices(view, placeholders, tensors, attempt.defaults)
        try:
            trial = synthesize(view, placeholders, tensors, seed, 1, attempt)
            if sum(trial.samples[0][name].size for name in choices) > _MAX_ELEMENTS:
                continue
            runner.run(tensors, trial.samples[0])
        except InputError as error:
            complaints.append(str(error))
            continue
        kinds = [KINDS[0]]
        for kind in KINDS[1:samples]:
            trial = synthesize(view, placeholders, tensors, seed, 1, attempt, [kind])
            if _runs(runner, tensors, trial):
                kinds.append(kind)
        return synthesize(view, placeholders, tensors, seed, samples, attempt, kinds)
    reason = complaints[0] if complaints else "all of them would be too large"
    raise InputError(
        f"no made-up input was found on which the graph runs ({reason}): give one with --inputs"
    )


def _runs(runner: Runner, tensors: Sequence[str], feeds: Feeds) -> bool:
    """Whether a graph takes an input; some do arithmetic on floats and use them as indices."""
    try:
        runner.run(tensors, feeds.samples[0])
    except InputError:
        return False
    return True


def _choices(
    view: ScopeView, placeholders: Sequence[Placeholder], tensors: Sequence[str], defaults: bool
) -> List[str]:
    """The tensors of which the graph does not tell the whole shape."""
    wanted = wanted_inputs(view, placeholders, tensors, defaults)
    return [item.tensor for item in wanted if item.shape is None or -1 in item.shape]


def _attempts(
    view: ScopeView,
    placeholders: Sequence[Placeholder],
    tensors: Sequence[str],
    complaints: Sequence[str],
) -> Iterator[Attempt]:
    """The usual sizes, those that are named in what went wrong, and all that without defaults."""
    if not _choices(view, placeholders, tensors, False):
        yield ATTEMPTS[0]
    else:
        yield from ATTEMPTS
        numbers = list(dict.fromkeys(_numbers(complaints)))[:_MAX_HINTS]
        for rank in (2, 0):
            for size in (32, 8, *numbers):
                for batch in (*numbers, 1):
                    yield Attempt(batch, size, rank)
    if any(item.has_default for item in placeholders):
        yield from (replace(attempt, defaults=True) for attempt in ATTEMPTS[:_WITH_DEFAULTS])


def _numbers(complaints: Sequence[str]) -> Iterator[int]:
    """The numbers in what went wrong, and by how much one of them is a multiple of the one before.

    (TensorFlow says how many values a Reshape got and how many it needs.)
    """
    for complaint in complaints:
        found = [int(text) for text in re.findall(r"\d{1,9}", complaint)]
        ratios = [
            after // before
            for before, after in zip(found, found[1:])
            if before and not after % before
        ]
        for number in (*ratios, *found):
            if 1 < number <= _MAX_NUMBER:
                yield number
