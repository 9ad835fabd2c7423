"""What is made up for a calibration, and what of a file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.calibrate.images import with_images
from graphwq.calibrate.inputs import calibration_inputs
from graphwq.calibrate.ranges import RANGES
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.survey.view import build
from graphwq.tf1.session import Runner
from graphwq.verify.feeds import Feeds
from graphwq.verify.interface import find_interface

pytestmark = pytest.mark.tf


def _inputs(graph: Graph, samples: int = 8, seed: int = 0) -> Feeds:
    view = build(graph)
    with Runner(graph) as runner:
        return calibration_inputs(runner, view, find_interface(graph, view), None, seed, samples)


def _network(shape: Sequence[int], norm: bool = False) -> Graph:
    b = GraphBuilder()
    x = b.placeholder("x", shape)
    y = b.conv("conv", x, b.const("w", random_weight((3, 3, 3, 4))))
    if norm:
        ones, nothing = np.ones(4, np.float32), np.zeros(0, np.float32)
        stats = [b.const("g", ones), b.const("b", ones), b.const("m", nothing)]
        stats.append(b.const("v", nothing))
        y = b.op("norm", "FusedBatchNorm", [y, *stats], is_training=True, T=("type", 1))
    b.op("y", "Relu", [y])
    return b.graph()


def _shapes(feeds: Feeds) -> List[Tuple[int, ...]]:
    return [sample["x:0"].shape for sample in feeds.samples]


def test_large_images_come_one_by_one_and_small_ones_in_batches() -> None:
    """About 16384 pixels in a run; 256 x 256 where the graph takes any size."""
    assert _shapes(_inputs(_network([-1, -1, -1, 3]))) == [(1, 256, 256, 3)] * 8
    assert _shapes(_inputs(_network([-1, 32, 32, 3]))) == [(16, 32, 32, 3)] * 8
    assert _shapes(_inputs(_network([2, 32, 32, 3]))) == [(2, 32, 32, 3)] * 8


@pytest.mark.parametrize(("width", "rows"), [(10, 256), (784, 256), (2048, 128), (16000, 64)])
def test_vectors_come_by_the_hundred(width: int, rows: int) -> None:
    """More of them than a layer has inputs, in bounded memory."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, width])
    b.matmul("y", x, b.const("w", random_weight((width, 3))))
    assert _shapes(_inputs(b.graph(), 2)) == [(rows, width)] * 2


def test_normalization_by_the_batch_gets_one_image_at_a_time() -> None:
    """Images in one batch would be normalized together, which no user does."""
    assert _shapes(_inputs(_network([-1, 32, 32, 3], norm=True))) == [(1, 32, 32, 3)] * 8


def _grain(image: np.ndarray) -> int:
    """How often pixels repeat."""
    changes = np.flatnonzero(np.abs(np.diff(image[0, 0, :, 0])) > 0) + 1
    return int(np.gcd.reduce(changes))


def _range(image: np.ndarray) -> Tuple[bool, bool]:
    """Whether values are negative, and whether they are large."""
    return bool(image.min() < -0.3), bool(image.max() > 2)


_BYTES, _UNIT, _SIGNED = (False, True), (False, False), (True, False)


def test_three_of_four_colour_images_are_pictures() -> None:
    """In 0..255, 0..1 and -1..1 in turn; the fourth is noise."""
    images = [sample["x:0"] for sample in _inputs(_network([-1, 64, 64, 3]), 16).samples]
    noise, scenes = images[3::4], [image for n, image in enumerate(images) if n % 4 < 3]
    assert [_grain(image) for image in noise] == [1, 2, 4, 8]
    assert [_range(image) for image in noise] == [_BYTES, _UNIT, _SIGNED, _BYTES]
    assert [_range(image) for image in scenes[:6]] == [_BYTES, _UNIT, _SIGNED] + [
        _UNIT,
        _SIGNED,
        _BYTES,
    ]
    for image in scenes:
        assert _grain(image) == 1
        assert _roughness(image) < 0.25


def test_every_second_grey_image_is_a_picture() -> None:
    """One channel may be anything."""
    feeds = Feeds(({"x:0": np.zeros((1, 64, 64, 1), np.float32)},) * 8, "synthetic")
    images = [sample["x:0"] for sample in with_images(feeds, 0).samples]
    assert max(map(_roughness, images[::2])) < 0.25
    assert [_grain(image) for image in images[1::2]] == [1, 2, 4, 8]


def _roughness(image: np.ndarray) -> float:
    """Differences of neighbours as part of the spread."""
    return float(np.abs(np.diff(image[:, ::8, :, 0], axis=2)).mean() / image.std())


def test_rows_that_may_be_flattened_images() -> None:
    """784 values are 28 x 28: every second sample has pictures; 785, 225 and whole numbers not."""
    sample = {
        "square:0": np.ones((3, 784), np.float32),
        "other:0": np.ones((3, 785), np.float32),
        "small:0": np.ones((3, 225), np.float32),
        "whole:0": np.ones((3, 784), np.int32),
    }
    made = with_images(Feeds((sample,) * 4, "synthetic"), 0).samples
    for number, changed in enumerate(made):
        for name, value in changed.items():
            assert value.shape == sample[name].shape
            assert value.dtype == sample[name].dtype
            same = name != "square:0" or number % 2
            assert np.array_equal(value, sample[name]) == bool(same)
        if not number % 2:
            for row in changed["square:0"]:
                assert _roughness(row.reshape(1, 28, 28, 1)) < 0.5


def test_ranges_and_grains_are_paired_in_every_way() -> None:
    """Twelve images are enough for 3 ranges x 4 grains, twenty-four where 2 ranges are likely."""
    for count, ranges in ((12, RANGES), (24, RANGES[:2])):
        feeds = Feeds(({"x:0": np.zeros((1, 32, 32, 5), np.float32)},) * count, "synthetic")
        images = [sample["x:0"] for sample in with_images(feeds, 0, ranges).samples]
        assert len({(_range(image), _grain(image)) for image in images}) == 4 * len(ranges)


def test_images_of_other_layouts() -> None:
    """Channels first are pictures too; five channels, or few pixels, are noise."""
    shapes = [(2, 3, 32, 32), (2, 32, 32, 1), (2, 32, 32, 5), (1, 9, 9, 3)]
    values = {f"x{number}:0": np.zeros(shape, np.float32) for number, shape in enumerate(shapes)}
    (sample,) = with_images(Feeds((values,), "synthetic"), 0, ((0.0, 1.0),)).samples
    assert [sample[name].shape for name in values] == shapes
    rough = [
        float(np.abs(np.diff(array, axis=axis)).mean() / array.std())
        for array, axis in zip(sample.values(), (3, 2, 2, 2))
    ]
    assert max(rough[:2]) < 0.6 < 0.9 < min(rough[2:])


def test_images_leave_vectors_and_whole_numbers_alone() -> None:
    """Only images of floats have a range that is guessed."""
    sample = {"v": np.ones((4, 9), np.float32), "n": np.ones((1, 32, 32, 3), np.int32)}
    feeds = Feeds((sample,) * 8, "synthetic")
    for changed in with_images(feeds, 0).samples:
        assert all(np.array_equal(changed[name], sample[name]) for name in sample)


def test_images_of_one_pixel_are_no_evidence() -> None:
    """Two inputs of unrelated sizes: what runs are single pixels, and they are refused."""
    b = GraphBuilder()
    x, half = b.placeholder("x", [-1, -1, -1, 3]), b.placeholder("half", [-1, -1, -1, 4])
    y = b.conv("conv", x, b.const("w", random_weight((3, 3, 3, 4))), stride=2)
    b.op("y", "Add", [y, half])
    with pytest.raises(InputError, match="give inputs with --calibration"):
        _inputs(b.graph())


def test_the_same_seed_gives_the_same_inputs() -> None:
    """And another seed others."""
    graph = _network([-1, 32, 32, 3])
    assert _inputs(graph).digest == _inputs(graph).digest
    assert _inputs(graph).digest != _inputs(graph, seed=1).digest


def test_labels_in_the_file_are_left_out(tmp_path: Path) -> None:
    """verify takes them from there; a tensor of that name is fed."""
    graph = _network([-1, 32, 32, 3])
    path = tmp_path / "feeds.npz"
    np.savez(path, x=np.ones((2, 32, 32, 3), np.float32), labels=np.arange(2))
    view = build(graph)
    with Runner(graph) as runner:
        feeds = calibration_inputs(runner, view, find_interface(graph, view), path, 0, 1)
        assert [list(sample) for sample in feeds.samples] == [["x:0"]]
        np.savez(path, x=np.ones((2, 32, 32, 3), np.float32), other=np.arange(2))
        with pytest.raises(InputError, match="no tensor 'other'"):
            calibration_inputs(runner, view, find_interface(graph, view), path, 0, 1)


def test_a_graph_that_reads_files_is_not_run() -> None:
    """Calibration runs graphs of strangers: not those that reach out of themselves."""
    b = GraphBuilder()
    path = b.placeholder("path", [], 7)
    b.op("read", "ReadFile", [path])
    graph = b.graph()
    view = build(graph)
    with pytest.raises(InputError, match="reads files"):
        calibration_inputs(None, view, find_interface(graph, view), None, 0, 1)  # type: ignore
