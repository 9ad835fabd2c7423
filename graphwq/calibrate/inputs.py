"""What a graph is calibrated on: a file of feeds, or made-up inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from graphwq.calibrate.batchnorm import by_batch
from graphwq.errors import InputError
from graphwq.survey.view import View
from graphwq.verify.feeds import Feeds, load_feeds
from graphwq.verify.interface import Interface, Placeholder
from graphwq.verify.runner import Runner
from graphwq.verify.synthetic import Attempt, synthesize, wanted_inputs
from graphwq.verify.trial import find_feeds
from graphwq.verify.unsafe_ops import check_safe

#: Side of made-up images where the graph takes any size.
_SIDE = 128
#: Rows in a batch at most, and pixels in all of them: small images are batched, large ones not.
_ROWS = 64
_PIXELS = 1 << 14
#: Smaller images are not calibrated on.
_LEAST_SIDE = 4
#: After so many images ``synthesize`` begins anew with its ranges and grains.
_ROUND = 4

#: What to do about a graph that is not run.
_ADVICE = "choose --method absmax, mse or squant, which run nothing"


def calibration_inputs(
    runner: Runner,
    view: View,
    interface: Interface,
    source: Optional[Union[str, Path]],
    seed: int,
    samples: int,
) -> Feeds:
    """The calibration inputs; the same arguments give the same ones.

    Args:
        runner: the graph in a session.
        view, interface: of it.
        source: an ``.npz`` of feeds; None: made up.
        seed, samples: of made-up inputs.

    Raises:
        InputError: feeds that do not fit, no made-up input on which the graph runs, or an op that
            reaches out of the graph.
    """
    tensors = interface.tensors
    if not tensors:
        raise InputError("the graph has no output: there is nothing to calibrate for")
    check_safe(view, tensors, advice=_ADVICE)
    placeholders = interface.placeholders
    if source is not None:
        feeds = load_feeds(source, view.main, placeholders, tensors)
        _check(feeds)
        runner.run(tensors, feeds.samples[0])
        return feeds
    for attempt in _attempts(view, placeholders, tensors):
        try:
            feeds = synthesize(view.main, placeholders, tensors, seed, samples, attempt)
            feeds = with_other_ranges(feeds)
            runner.run(tensors, feeds.samples[0])
        except InputError:
            continue
        return feeds
    feeds = find_feeds(runner, view.main, placeholders, tensors, seed, samples)
    _check_size(feeds)
    return with_other_ranges(feeds)


def with_other_ranges(feeds: Feeds) -> Feeds:
    """Made-up images, every second four of them with their ranges exchanged.

    ``synthesize`` ties the grain of an image to its range: 0..1 for the grains 1 and 2, -1..1 for
    4, 0..255 for 8. Nobody knows which range a graph was trained on, so fine grain has to be seen
    in 0..255 as well, and coarse grain in 0..1 and -1..1.
    """
    samples = tuple(
        {name: _exchanged(value, number) for name, value in sample.items()}
        for number, sample in enumerate(feeds.samples)
    )
    return replace(feeds, samples=samples)


def _exchanged(value: np.ndarray, number: int) -> np.ndarray:
    kind = number % _ROUND
    is_image = value.ndim in (3, 4) and value.dtype.kind == "f" and min(value.shape[-3:-1]) >= 8
    if not is_image or number // _ROUND % 2 == 0:
        return value
    factor, offset = ((255.0, 0.0), (255.0, 0.0), (0.5, 0.5), (1 / 127.5, -1.0))[kind]
    return np.asarray(value * factor + offset, value.dtype)


def _check(feeds: Feeds) -> None:
    for sample in feeds.samples:
        for name, value in sample.items():
            if value.size == 0:
                raise InputError(f"{name}: the feed is empty, nothing can be calibrated on it")


def _check_size(feeds: Feeds) -> None:
    """Images of a few pixels say nothing of what convolutions see."""
    for name, value in feeds.samples[0].items():
        if value.ndim == 4 and value.dtype.kind == "f" and max(value.shape[1:3]) < _LEAST_SIDE:
            raise InputError(
                f"no made-up input of {_LEAST_SIDE} pixels or more was found for {name} on which "
                "the graph runs: give inputs with --calibration"
            )


def _attempts(
    view: View, placeholders: Sequence[Placeholder], tensors: Sequence[str]
) -> Tuple[Attempt, ...]:
    """Sizes that give many vectors without joining what the graph would see one by one."""
    rows = _ROWS
    for item in wanted_inputs(view.main, placeholders, tensors):
        inner = (item.shape or ())[1:-1]
        pixels = 1
        for size in inner:
            pixels *= size if size > 0 else _SIDE
        rows = min(rows, max(1, _PIXELS // pixels))
    if rows > 1 and any(by_batch(node) for node in view.main.scope.nodes):
        rows = 1
    return tuple(Attempt(batch, _SIDE) for batch in dict.fromkeys((rows, 1)))
