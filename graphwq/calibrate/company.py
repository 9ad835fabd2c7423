"""Made-up pictures beside real ones, where those are few.

Weights that were fitted to a handful of photographs fit those better than others: where a direction
of a layer's inputs is not seen in them, anything goes. Pictures that were made up fill these
directions, in the shape and the range of the real ones. (Measured: benchmarks/lowbits.md.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from graphwq.calibrate.images import channel_axis, with_images
from graphwq.calibrate.inputs import ENOUGH, fixed_batches
from graphwq.verify.feeds import Feeds, Sample
from graphwq.verify.interface import Interface


def missing(feeds: Feeds, interface: Interface, images: int) -> int:
    """How many made-up samples are to stand beside those of a file.

    Each row is an image of its own, but where the graph says how many rows it takes: such a batch
    counts as one image, for its rows mostly come from one.

    Args:
        feeds: of the file.
        interface: of the graph.
        images: how many images the made-up samples hold together at least.
    """
    pictures = _pictures(feeds)
    if not pictures:
        return 0
    fixed = fixed_batches(interface)
    rows = min(1 if name in fixed else len(feeds.samples[0][name]) for name in pictures)
    if rows * len(feeds.samples) >= ENOUGH:
        return 0
    return -(-images // rows)


def company(feeds: Feeds, seed: int, count: int) -> Tuple[Sample, ...]:
    """Made-up samples: pictures in the shapes and ranges of the file's, all else as in the file.

    Args:
        feeds: of the file.
        seed: of the pictures.
        count: how many samples.
    """
    like = replace(
        feeds, samples=tuple(feeds.samples[n % len(feeds.samples)] for n in range(count))
    )
    made = [dict(sample) for sample in like.samples]
    for name in _pictures(feeds):
        low = min(float(sample[name].min()) for sample in feeds.samples)
        high = max(float(sample[name].max()) for sample in feeds.samples)
        pictures = with_images(like, seed, ((low, high),)).samples
        for sample, pictured in zip(made, pictures):
            sample[name] = pictured[name]
    return tuple(made)


def _pictures(feeds: Feeds) -> Tuple[str, ...]:
    """The names of the feeds that are surely images."""
    return tuple(
        name for name, value in feeds.samples[0].items() if channel_axis(value) is not None
    )
