"""Made-up images: what a graph that takes images may really see."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Optional, Sequence, Tuple

import numpy as np

from graphwq.calibrate.ranges import RANGES, Range
from graphwq.calibrate.scenes import scene
from graphwq.verify.feeds import Feeds, Sample
from graphwq.verify.synthetic import grained, random_of

#: Smaller arrays are no images, and from this side on an image of 1 or 3 channels shows something.
_NOISE_SIDE = 8
_SCENE_SIDE = 16
#: Of so many made-up images one is noise, by the number of channels: three are colours, and mostly
#: photographs; one may be anything.
_ONE_IS_NOISE = {1: 2, 3: 4}
#: Times that the pixels of noise repeat along each axis.
_GRAINS = (1, 2, 4, 8)


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
        axis = _channel_axis(value)
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


def may_be_image(value: np.ndarray) -> bool:
    """Whether ``with_images`` makes another array of a feed."""
    return _is_image(value) or bool(_flat_side(value))


def _flat_side(value: np.ndarray) -> int:
    """The side of the grey squares that the rows of an array can be, 0 where they cannot."""
    if value.ndim != 2 or value.dtype.kind != "f":
        return 0
    side = round(math.sqrt(value.shape[1]))
    return side if side >= _SCENE_SIDE and side * side == value.shape[1] else 0


def _is_image(value: np.ndarray) -> bool:
    is_float = value.dtype.kind == "f"
    return is_float and value.ndim in (3, 4) and min(value.shape[-3:-1]) >= _NOISE_SIDE


def pictures(sample: Sample) -> Tuple[str, ...]:
    """The names of the feeds that are surely images."""
    return tuple(name for name, value in sample.items() if _channel_axis(value) is not None)


def _channel_axis(value: np.ndarray) -> Optional[int]:
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
