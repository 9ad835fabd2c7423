"""What a graph is calibrated on: a file of feeds, or made-up inputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence, Set, Tuple, Union

import numpy as np

from graphwq.calibrate.images import may_be_image, pictures, with_images
from graphwq.calibrate.ranges import RANGES, Range, likely_ranges
from graphwq.errors import InputError
from graphwq.survey.batchnorm import has_by_batch
from graphwq.survey.view import View
from graphwq.verify.accuracy import LABELS
from graphwq.verify.feeds import Feeds, Sample, bind_feeds
from graphwq.verify.interface import Interface, Placeholder
from graphwq.verify.npz import read_npz
from graphwq.verify.runner import Runner
from graphwq.verify.synthetic import Attempt, synthesize, wanted_inputs
from graphwq.verify.trial import find_feeds
from graphwq.verify.unsafe_ops import check_safe

#: Side of made-up images where the graph takes any size: the deep layers of a network that halves
#: its images five times still see 64 places.
_SIDE = 256
#: Rows in a batch at most, and pixels in all of them: small images are batched, large ones not.
_ROWS = 64
_PIXELS = 1 << 14
#: Rows of few values are one vector each, and a layer of n inputs wants to see more than n of them.
_VECTORS = 256
_VALUES = 1 << 18
#: Smaller images are not calibrated on.
_LEAST_SIDE = 4
#: So many real images speak for themselves; a batch of fewer is looked at one by one, a larger one
#: in so many parts.
ENOUGH = 32
_PARTS = 8
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
        arrays = read_npz(source)
        if LABELS not in view.main.nodes:
            arrays.pop(LABELS, None)  # the file is one for verify, too
        feeds = bind_feeds(arrays, view.main, placeholders, tensors)
        _check(feeds)
        runner.run(tensors, feeds.samples[0])
        return feeds
    for attempt in _attempts(view, placeholders, tensors):
        try:
            feeds = synthesize(view.main, placeholders, tensors, seed, samples, attempt)
            return _with_likely_images(runner, view, tensors, feeds, seed)
        except InputError:
            continue
    feeds = find_feeds(runner, view.main, placeholders, tensors, seed, samples)
    _check_size(feeds)
    return _with_likely_images(runner, view, tensors, feeds, seed)


def _with_likely_images(
    runner: Runner, view: View, tensors: Sequence[str], feeds: Feeds, seed: int
) -> Feeds:
    """Made-up inputs with images in the ranges that the graph seems to be for; it runs on them."""
    one = replace(feeds, samples=feeds.samples[:1])

    def sample(each: Range) -> Sample:
        return with_images(one, seed, (each,)).samples[0]

    ranges = RANGES
    if any(map(may_be_image, one.samples[0].values())):
        ranges = likely_ranges(runner, view.main, tensors, sample)
    made = with_images(feeds, seed, ranges)
    runner.run(tensors, made.samples[0])
    return made


def one_by_one(runner: Runner, view: View, interface: Interface, feeds: Feeds) -> Feeds:
    """A batch of pictures as samples of their own, so that some of them can judge what others say.

    A large batch is cut into a few. Left as it is where rows are not independent of each other, or
    where that cannot be told: a batch that the graph asks for, normalization by the batch, no
    pictures.

    Args:
        runner: the graph in a session.
        view, interface: of it.
        feeds: of a file.
    """
    (first, *others) = feeds.samples
    fixed = fixed_batches(interface)
    rows = {name: len(value) for name, value in first.items() if name not in fixed and value.ndim}
    shown = pictures(first)
    is_batch = shown and rows.keys() >= set(shown) and len(set(rows.values())) == 1
    if others or not is_batch or has_by_batch(view.main):
        return feeds
    count = rows[shown[0]]
    parts = count if count < ENOUGH else _PARTS
    cuts = np.linspace(0, count, parts + 1).astype(int)
    samples = tuple(
        {name: value[low:high] if name in rows else value for name, value in first.items()}
        for low, high in zip(cuts, cuts[1:])
    )
    try:
        runner.run(interface.tensors, samples[0])
    except InputError:  # its number of rows stands somewhere inside
        return feeds
    return replace(feeds, samples=samples)


def fixed_batches(interface: Interface) -> Set[str]:
    """The placeholders that say how many rows they take; the others may take any number."""
    return {one.tensor for one in interface.placeholders if one.shape and one.shape[0] >= 0}


def halves(feeds: Feeds, interface: Interface) -> Tuple[Tuple[Sample, ...], Tuple[Sample, ...]]:
    """Samples to fit something to, and others to judge it by.

    Of several samples every second one judges; of one sample every second row, where the graph
    takes any number of rows. One row alone is both: the same object twice.
    """
    if len(feeds.samples) > 1:
        return feeds.samples[::2], feeds.samples[1::2]
    (only,) = feeds.samples
    free = {one.tensor for one in interface.placeholders if one.shape and one.shape[0] < 0}
    rows = {len(value) if name in free and value.ndim else 0 for name, value in only.items()}
    if len(rows) > 1 or min(rows, default=0) < 2:
        return feeds.samples, feeds.samples
    first, second = ({name: value[n::2] for name, value in only.items()} for n in (0, 1))
    return (first,), (second,)


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
    rows = _VECTORS
    for item in wanted_inputs(view.main, placeholders, tensors):
        sizes = [size if size >= 0 else _SIDE for size in (item.shape or ())[1:]]
        pixels, values = _product(sizes[:-1]), _product(sizes)
        rows = min(rows, max(1, _PIXELS // pixels), max(_ROWS, _VALUES // values))
    if rows > 1 and has_by_batch(view.main):
        rows = 1
    return tuple(Attempt(batch, _SIDE) for batch in dict.fromkeys((rows, 1)))


def _product(sizes: Sequence[int]) -> int:
    return max(1, int(np.prod(sizes, dtype=np.int64)))
