"""What is made up for a calibration, and what of a file is refused."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.calibrate.inputs import calibration_inputs, with_other_ranges
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
    """About 16384 pixels in a run; 128 x 128 where the graph takes any size."""
    assert _shapes(_inputs(_network([-1, -1, -1, 3]))) == [(1, 128, 128, 3)] * 8
    assert _shapes(_inputs(_network([-1, 32, 32, 3]))) == [(16, 32, 32, 3)] * 8
    assert _shapes(_inputs(_network([2, 32, 32, 3]))) == [(2, 32, 32, 3)] * 8


def test_normalization_by_the_batch_gets_one_image_at_a_time() -> None:
    """Images in one batch would be normalized together, which no user does."""
    assert _shapes(_inputs(_network([-1, 32, 32, 3], norm=True))) == [(1, 32, 32, 3)] * 8


def test_every_range_in_fine_and_in_coarse_grain() -> None:
    """Eight images: 0..1, -1..1 and 0..255, each of them in two grains at least."""
    ranges = []
    for sample in _inputs(_network([-1, 64, 64, 3])).samples:
        low, high = float(sample["x:0"].min()), float(sample["x:0"].max())
        ranges.append((round(low), round(high)))
    assert ranges[:4] == [(0, 1), (0, 1), (-1, 1), (0, 255)]
    assert ranges[4:] == [(0, 255), (0, 255), (0, 1), (-1, 1)]


def test_other_ranges_leave_vectors_and_whole_numbers_alone() -> None:
    """Only images of floats have a range that is guessed."""
    sample = {"v": np.ones((4, 9), np.float32), "n": np.ones((1, 9, 9, 3), np.int32)}
    feeds = Feeds((sample,) * 8, "synthetic")
    for changed in with_other_ranges(feeds).samples:
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


def test_a_graph_that_reads_files_is_not_run() -> None:
    """Calibration runs graphs of strangers: not those that reach out of themselves."""
    b = GraphBuilder()
    path = b.placeholder("path", [], 7)
    b.op("read", "ReadFile", [path])
    graph = b.graph()
    view = build(graph)
    with pytest.raises(InputError, match="reads files"):
        calibration_inputs(None, view, find_interface(graph, view), None, 0, 1)  # type: ignore
