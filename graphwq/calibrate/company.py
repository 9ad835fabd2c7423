"""Made-up pictures beside real ones, where those are few.

Weights that were fitted to a handful of photographs fit those better than others: where a direction
of a layer's inputs is not seen in them, anything goes. Pictures that were made up fill these
directions, in the shape and the range of the real ones. (Measured: benchmarks/lowbits.md.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from graphwq.calibrate.images import pictures, with_images
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
    shown = pictures(feeds.samples[0])
    if not shown:
        return 0
    fixed = fixed_batches(interface)
    rows = min(1 if name in fixed else len(feeds.samples[0][name]) for name in shown)
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
    made = [dict(feeds.samples[number % len(feeds.samples)]) for number in range(count)]
    for name in pictures(feeds.samples[0]):
        low = min(float(sample[name].min()) for sample in feeds.samples)
        high = max(float(sample[name].max()) for sample in feeds.samples)
        alone = replace(feeds, samples=tuple({name: sample[name]} for sample in made))
        for sample, pictured in zip(made, with_images(alone, seed, ((low, high),)).samples):
            sample.update(pictured)
    return tuple(made)
