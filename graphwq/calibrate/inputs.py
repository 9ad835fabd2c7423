"""What a graph is calibrated on: a file of feeds, or made-up inputs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from graphwq.calibrate.ranges import RANGES, Range, likely_ranges
from graphwq.calibrate.scenes import scene
from graphwq.errors import InputError
from graphwq.survey.batchnorm import by_batch
from graphwq.survey.view import View
from graphwq.verify.accuracy import LABELS
from graphwq.verify.feeds import Feeds, Sample, bind_feeds
from graphwq.verify.interface import Interface, Placeholder
from graphwq.verify.npz import read_npz
from graphwq.verify.runner import Runner
from graphwq.verify.synthetic import Attempt, grained, random_of, synthesize, wanted_inputs
from graphwq.verify.trial import find_feeds
from graphwq.verify.unsafe_ops import check_safe

#: Side of made-up images where the graph takes any size: the deep layers of a network that halves
#: its images five times still see 64 places.
_SIDE = 256
#: Rows in a batch at most, and pixels in all of them: small images are batched, large ones not.
_ROWS = 64
_PIXELS = 1 << 14
#: Smaller images are not calibrated on.
_LEAST_SIDE = 4
#: Smaller arrays are no images, and from this side on an image of 1 or 3 channels shows something.
_NOISE_SIDE = 8
_SCENE_SIDE = 16
#: Of so many made-up images one is noise, by the number of channels: three are colours, and mostly
#: photographs; one may be anything.
_ONE_IS_NOISE = {1: 2, 3: 4}
#: Times that the pixels of noise repeat along each axis.
_GRAINS = (1, 2, 4, 8)

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
    if any(_is_image(value) or _flat_side(value) for value in one.samples[0].values()):
        ranges = likely_ranges(runner, view.main, tensors, sample)
    made = with_images(feeds, seed, ranges)
    runner.run(tensors, made.samples[0])
    return made


def with_images(feeds: Feeds, seed: int, ranges: Sequence[Range] = RANGES) -> Feeds:
    """Made-up inputs whose images are what a graph may really see.

    Most samples show scenes, see ``graphwq/calibrate/scenes.py``; the others are noise of several
    grains, for not every image is a photograph. Rows of a square number of values may be images,
    too: every second sample has pictures in them, the others are left. Ranges and grains go round
    at different paces, so that each of them comes with each of the others.

    Args:
        feeds: of ``synthesize``.
        seed: of the images.
        ranges: of their values.
    """

    def made(name: str, value: np.ndarray, number: int) -> np.ndarray:
        side = _flat_side(value)
        if side and number % 2 == 0:
            square = made(name, value.reshape(-1, side, side, 1), number)
            return square.reshape(value.shape)
        axis = _channels(value)
        if axis is None and not _is_image(value):
            return value
        random = random_of(seed, name, number)
        each = _ONE_IS_NOISE[value.shape[axis]] if axis is not None else 1
        turn, place = divmod(number, each)
        if axis is not None and place < each - 1:
            image = _pictures(value, axis, random)
            turn = number
        else:
            image = grained(value.shape, random, _GRAINS[turn % len(_GRAINS)])
        low, high = ranges[(turn + turn // 12) % len(ranges)]
        return np.asarray(low + (high - low) * image, value.dtype)

    samples = tuple(
        {name: made(name, value, number) for name, value in sample.items()}
        for number, sample in enumerate(feeds.samples)
    )
    return replace(feeds, samples=samples)


def _flat_side(value: np.ndarray) -> int:
    """The side of the grey squares that the rows of an array can be, 0 where they cannot."""
    if value.ndim != 2 or value.dtype.kind != "f":
        return 0
    side = round(math.sqrt(value.shape[1]))
    return side if side >= _SCENE_SIDE and side * side == value.shape[1] else 0


def _is_image(value: np.ndarray) -> bool:
    is_float = value.dtype.kind == "f"
    return is_float and value.ndim in (3, 4) and min(value.shape[-3:-1]) >= _NOISE_SIDE


def _channels(value: np.ndarray) -> Optional[int]:
    """The axis of the channels where an array can hold pictures, None where it cannot."""
    if value.ndim != 4 or value.dtype.kind != "f":
        return None
    for axis, sides in ((3, value.shape[1:3]), (1, value.shape[2:4])):
        if value.shape[axis] in _ONE_IS_NOISE and min(sides) >= _SCENE_SIDE:
            return axis
    return None


def _pictures(value: np.ndarray, axis: int, random: np.random.RandomState) -> np.ndarray:
    """Pictures in 0..1 in the shape of an array."""
    count, height, width, channels = np.moveaxis(value, axis, 3).shape
    pictures = [scene(height, width, channels, random) for _ in range(count)]
    return np.moveaxis(np.stack(pictures), 3, axis)


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
