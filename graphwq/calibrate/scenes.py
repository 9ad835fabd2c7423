"""Made-up pictures that have what photographs have: objects, edges, shading, and grain on top.

Noise is no picture. A deep network sees the same everywhere in it, its inner activations become
nearly constant, and what little they vary drowns in rounding errors. Shapes that cover each other,
of sizes that follow a power law, have the statistics of edges and regions that photographs have:
the dead leaves model (Lee, Mumford & Huang, Occlusion models for natural images, IJCV 41, 2001).
The grain is noise whose amplitude falls as 1/f (Field, JOSA A 4, 1987).
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

#: Radii in pixels: the smallest, and the largest as part of the smaller side.
_SMALLEST = 8.0
_LARGEST = 1 / 3
#: The number of shapes of radius r falls as r^-3: the picture then looks alike at all scales.
_POWER = -3.0
#: Shapes at most, for each 64 pixels; those that fall behind others cost next to nothing.
_SHAPES_PER_PIXEL = 1 / 64
#: Of 255: spread of the colour of a shape around its grey, of its shading, of the grain.
_COLOUR = 30.0
_SHADING = 40.0
_GRAIN = 10.0
#: Grey, red against blue, green against both: how strongly noise varies in each direction.
_COLOURS = np.array([[1.0, 1.0, 1.0], [0.35, 0.0, -0.35], [0.15, -0.3, 0.15]])


def scene(height: int, width: int, channels: int, random: np.random.RandomState) -> np.ndarray:
    """A picture.

    Args:
        height, width: pixels.
        channels: 3 are colours that vary together; any others are slices of such pictures in grey.
        random: where all numbers come from.

    Returns:
        float64 [height, width, channels], 0..1.
    """
    pictures = [_scene(height, width, random) for _ in range(-(-channels // 3))]
    if channels == 3:
        return pictures[0] / 255.0
    return np.concatenate(pictures, 2)[:, :, :channels] / 255.0


def _scene(height: int, width: int, random: np.random.RandomState) -> np.ndarray:
    image = 127.0 + 55.0 * _noise(height, width, random)
    _cover(image, random)
    image += _GRAIN * random.random_sample() * _noise(height, width, random)
    for axis in (0, 1):  # edges of one pixel do not occur behind a lens
        image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return np.clip(image, 0.0, 255.0)


def _noise(height: int, width: int, random: np.random.RandomState) -> np.ndarray:
    """Coloured noise whose amplitude falls as 1/f: [height, width, 3], of standard deviation 1."""
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(vertical, horizontal)
    frequency[0, 0] = np.inf
    shape = (3, *frequency.shape)
    spectrum = random.standard_normal(shape) + 1j * random.standard_normal(shape)
    planes = np.fft.irfft2(spectrum / frequency, s=(height, width))
    image = np.moveaxis(planes, 0, -1) @ _COLOURS
    spread = image.std()
    return np.asarray(image / spread if spread > 0 else image)


def _cover(image: np.ndarray, random: np.random.RandomState) -> None:
    """Lay shapes over a picture, the nearest ones first: what is covered stays."""
    height, width = image.shape[:2]
    free = np.ones((height, width), bool)
    count = int(height * width * _SHAPES_PER_PIXEL)
    largest = max(min(height, width) * _LARGEST, 2.0)
    smallest = min(_SMALLEST, largest / 2)
    low, high = smallest ** (_POWER + 1), largest ** (_POWER + 1)
    radii = (low + random.random_sample(count) * (high - low)) ** (1 / (_POWER + 1))
    for radius in radii:
        center = random.uniform(-radius, (height + radius, width + radius))
        colour = random.random_sample() * 255.0 + random.standard_normal(3) * _COLOUR
        slope = random.standard_normal(2) * _SHADING / radius
        angle, ratio, kind = random.uniform(0, np.pi), random.uniform(0.2, 1.0), random.randint(3)
        window, down, across = _window(center, radius, (height, width))
        if not free[window].any():
            continue
        inside = _inside(down, across, radius, angle, ratio, kind) & free[window]
        shade = slope[0] * down + slope[1] * across
        image[window][inside] = np.clip(colour + shade[:, :, None], 0.0, 255.0)[inside]
        free[window] &= ~inside


def _window(
    center: np.ndarray, radius: float, sizes: Tuple[int, int]
) -> Tuple[Tuple[slice, slice], np.ndarray, np.ndarray]:
    """The pixels that a shape may cover, and their distances from its center."""
    bounds = [
        (max(0, int(middle - radius)), min(size, int(middle + radius) + 2))
        for middle, size in zip(center, sizes)
    ]
    down = np.arange(*bounds[0])[:, None] - center[0]
    across = np.arange(*bounds[1])[None] - center[1]
    return (slice(*bounds[0]), slice(*bounds[1])), down, across


def _inside(
    down: np.ndarray, across: np.ndarray, radius: float, angle: float, ratio: float, kind: int
) -> np.ndarray:
    """Which pixels are in a disc (kind 0), an ellipse (1) or a rectangle (2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    along, beside = cosine * across + sine * down, cosine * down - sine * across
    if kind == 0:
        ratio = 1.0
    if kind == 2:
        inside = (np.abs(along) <= 0.7 * radius) & (np.abs(beside) <= 0.7 * radius * ratio)
    else:
        inside = np.square(along) + np.square(beside / ratio) <= radius * radius
    return np.asarray(inside)
