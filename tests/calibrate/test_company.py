"""Made-up pictures beside a file of few real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from commandline import run

from graphwq import calibration
from graphwq.calibrate.company import company, missing
from graphwq.calibrate.inputs import one_by_one
from graphwq.calibration import Calibrated, carry_out_plan, quantize_calibrated
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import save
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.survey.view import build
from graphwq.tf1.session import Runner
from graphwq.verify.feeds import FILE, Feeds, Sample
from graphwq.verify.interface import find_interface

pytestmark = pytest.mark.tf


def _network(rows: int = -1, channels: int = 3) -> Graph:
    """x -> conv -> conv -> y, with a bias; and a number that scales x."""
    b = GraphBuilder()
    x = b.placeholder("x", [rows, 24, 24, channels])
    scaled = b.op("scaled", "Mul", [x, b.placeholder("by", [])], T=("type", 1))
    y = b.conv("first", scaled, b.const("w", random_weight((3, 3, channels, 6), 1)))
    y = b.op("biased", "BiasAdd", [y, b.const("bias", np.ones(6, np.float32))], T=("type", 1))
    y = b.conv("second", b.op("relu", "Relu", [y]), b.const("v", random_weight((3, 3, 6, 5), 2)))
    b.op("y", "Identity", [y], T=("type", 1))
    return b.graph()


def _feeds(samples: int, rows: int, channels: int = 3) -> Feeds:
    random = np.random.RandomState(0)
    shape = (samples, rows, 24, 24, channels)
    images = random.uniform(-1, 7, shape).astype(np.float32)
    images[0, 0, 0, 0, 0], images[-1, 0, 0, 0, 0] = 7, -3
    return Feeds(
        tuple({"x:0": one, "by:0": np.float32(2 + n)} for n, one in enumerate(images)), FILE
    )


@pytest.mark.parametrize(
    ("graph_rows", "samples", "rows", "made_up"),
    [
        (-1, 1, 1, 8),  # one image
        (-1, 1, 3, 3),  # three in a batch: three batches of three
        (-1, 1, 31, 1),
        (-1, 1, 32, 0),  # enough
        (-1, 31, 1, 8),
        (-1, 32, 1, 0),
        (50, 8, 50, 8),  # batches that the graph asks for: eight images
        (50, 32, 50, 0),
    ],
)
def test_how_many(graph_rows: int, samples: int, rows: int, made_up: int) -> None:
    """As long as there are fewer than 32 images, so many samples as hold eight."""
    interface = find_interface(_network(graph_rows))
    assert missing(_feeds(samples, rows), interface, 8) == made_up


def test_a_placeholder_without_a_shape_counts_rows() -> None:
    """Many images stay alone, also in the parts that they are cut into."""
    b = GraphBuilder()
    x = b.op("x", "Placeholder", [], dtype=("type", 1))
    b.conv("y", x, b.const("w", random_weight((3, 3, 3, 6))))
    for rows, made_up in ((31, 8), (40, 0)):
        batch = Feeds(({"x:0": _feeds(1, rows).samples[0]["x:0"]},), FILE)
        assert missing(_cut(b.graph(), batch), find_interface(b.graph()), 8) == made_up


def test_what_is_no_picture_has_no_company() -> None:
    """Made-up vectors and feature maps tell nothing of real ones."""
    assert missing(_feeds(2, 1, 5), find_interface(_network(-1, 5)), 8) == 0
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [-1, 784]), b.const("w", random_weight((784, 3))))
    rows = Feeds(({"x:0": np.zeros((4, 784), np.float32)},), FILE)
    assert missing(rows, find_interface(b.graph()), 8) == 0


def test_like_the_file() -> None:
    """In its shape, dtype and range; all that is no picture is taken over; the seed decides."""
    feeds = _feeds(2, 3)
    made = company(feeds, 5, 4)
    assert len(made) == 4
    images = np.stack([sample["x:0"] for sample in made])
    assert images.shape == (4, 3, 24, 24, 3)
    assert images.dtype == np.float32
    assert -3 <= images.min() < -1.5
    assert 5 < images.max() <= 7
    assert [sample["by:0"] for sample in made] == [2, 3, 2, 3]
    assert len({image.tobytes() for image in images}) == 4
    assert [one["x:0"].tobytes() for one in company(feeds, 5, 4)] == [
        image.tobytes() for image in images
    ]
    assert company(feeds, 6, 1)[0]["x:0"].tobytes() != images[0].tobytes()


def _cut(graph: Graph, feeds: Feeds) -> Feeds:
    with Runner(graph) as runner:
        return one_by_one(runner, build(graph), find_interface(graph), feeds)


@pytest.mark.parametrize(("rows", "parts"), [(1, [1]), (3, [1, 1, 1]), (31, [1] * 31), (34, None)])
def test_a_batch_of_pictures_one_by_one(rows: int, parts: Optional[List[int]]) -> None:
    """All of its rows, in their order; what is no batch goes with each of them."""
    feeds = _feeds(1, rows)
    cut = _cut(_network(), feeds)
    sizes = [len(one["x:0"]) for one in cut.samples]
    assert sizes == (parts or [4, 4, 4, 5, 4, 4, 4, 5])
    assert np.array_equal(
        np.concatenate([one["x:0"] for one in cut.samples]), feeds.samples[0]["x:0"]
    )
    assert all(one["by:0"] == 2 for one in cut.samples)


def test_what_is_not_cut() -> None:
    """Batches of a fixed size, several samples, other data, normalization by the batch."""
    fixed, several, maps = _feeds(1, 4), _feeds(2, 4), _feeds(1, 4, 5)
    assert _cut(_network(4), fixed) is fixed
    assert _cut(_network(), several) is several
    assert _cut(_network(-1, 5), maps) is maps
    b = GraphBuilder()
    y = b.conv("y", b.placeholder("x", [-1, 24, 24, 3]), b.const("w", random_weight((3, 3, 3, 6))))
    stats = [b.const(f"s{n}", np.ones(6 if n < 2 else 0, np.float32)) for n in range(4)]
    b.op("norm", "FusedBatchNorm", [y, *stats], is_training=True, T=("type", 1))
    batch = Feeds(({"x:0": fixed.samples[0]["x:0"]},), FILE)
    assert _cut(b.graph(), batch) is batch


@pytest.mark.parametrize("inside", [False, True])
def test_a_batch_of_any_shape_is_cut_where_the_graph_runs_on_a_part(inside: bool) -> None:
    """A placeholder without a shape; its number of rows may stand in a Reshape."""
    b = GraphBuilder()
    x = b.op("x", "Placeholder", [], dtype=("type", 1))
    if inside:
        sizes = b.const("sizes", np.asarray([4, 24, 24, 3], np.int32))
        x = b.op("fixed", "Reshape", [x, sizes], T=("type", 1), Tshape=("type", 3))
    b.conv("y", x, b.const("w", random_weight((3, 3, 3, 6))))
    batch = Feeds(({"x:0": _feeds(1, 4).samples[0]["x:0"]},), FILE)
    assert len(_cut(b.graph(), batch).samples) == (1 if inside else 4)


def _write(folder: Path, samples: int) -> Tuple[Path, Dict[str, np.ndarray]]:
    feeds = _feeds(samples, 1)
    arrays = {
        "x:0": np.concatenate([one["x:0"] for one in feeds.samples]),
        "by:0": np.float32(2),
    }
    path = folder / f"{samples}.npz"
    np.savez(path, **arrays)
    return path, arrays


def _codes(made: Calibrated) -> Dict[str, bytes]:
    return {name: one.codes.tobytes() for name, one in made.result.quantized.items()}


def test_company_changes_codes_and_a_plan_remembers_it(tmp_path: Path) -> None:
    """The same plan gives the same bytes, whatever seed and number the caller has in mind."""
    graph, options = _network(), Options(bits=3, storage="dequant")
    path, _ = _write(tmp_path, 2)
    alone = quantize_calibrated(graph, options, path, samples=0)
    assert alone.plan.calibration is not None
    assert alone.plan.calibration.made_up == 0
    made = quantize_calibrated(graph, options, path, seed=3)
    calibration = made.plan.calibration
    assert calibration is not None
    assert (calibration.samples, calibration.made_up, calibration.seed) == (1, 8, 3)
    assert _codes(made) != _codes(alone)
    plan = Plan.loads(made.plan.dumps())
    again = carry_out_plan(graph, plan, calibration=path, seed=9, samples=2)
    assert again.result.graph.digest == made.result.graph.digest
    plain = Plan.loads(alone.plan.dumps())
    assert _codes(carry_out_plan(graph, plain, calibration=path)) == _codes(alone)


def test_made_up_inputs_have_none() -> None:
    """They are made up as it is."""
    made = quantize_calibrated(_network(1), Options(bits=3), samples=2)
    assert made.plan.calibration is not None
    assert (made.plan.calibration.samples, made.plan.calibration.made_up) == (2, 0)


def test_the_evidence_has_company_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes for one half of a file are made with pictures like that half: the other one judges."""
    _, arrays = _write(tmp_path, 2)
    arrays.pop("by:0")
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    b = GraphBuilder()
    b.conv("y", b.placeholder("x", [-1, 24, 24, 3]), b.const("w", random_weight((3, 3, 3, 6))))
    seen: List[Tuple[int, int, Tuple[Sample, ...]]] = []

    class Spy(calibration.Sweep):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            beside = named.get("company", arguments[4] if len(arguments) > 4 else ())
            if arguments[3]:
                seen.append((len(arguments[3]), len(arguments[3][0]["x:0"]), beside))

    monkeypatch.setattr(calibration, "Sweep", Spy)
    quantize_calibrated(b.graph(), Options(bits=3, keep_larger=True), path, auto=True)
    whole, half = seen[:2]
    assert whole[:2] == (2, 1)
    assert half[:2] == (1, 1)
    assert (len(whole[2]), len(half[2])) == (8, 8)
    assert max(one["x:0"].max() for one in half[2]) <= arrays["x:0"][0].max()
    assert min(one["x:0"].min() for one in half[2]) >= arrays["x:0"][0].min() > -3


def test_biases_take_no_means_of_made_up_pictures(tmp_path: Path) -> None:
    """What a bias is corrected by is the same with and without company."""
    graph = _network()
    path, _ = _write(tmp_path, 4)
    options = Options(bits=3, method="absmax", correct_bias=True)
    shifts = []
    for samples in (0, 8):
        made = quantize_calibrated(graph, options, path, samples=samples)
        assert made.plan.calibration is not None
        assert (made.plan.calibration.made_up > 0) == (samples > 0)
        shifts.append([one.shift.codes.tobytes() for one in made.result.weights if one.shift])
    assert shifts[0]
    assert shifts[0] == shifts[1]


def test_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    """It is said; ``--samples 0`` leaves it out, but only beside a file."""
    graph = tmp_path / "in.pb"
    save(_network(), graph)
    path, _ = _write(tmp_path, 2)
    common = ("quantize", graph, "-o", tmp_path / "out.pb", "--force", "--method", "gptq")
    status, out, _ = run(capsys, *common, "--calibration", path)
    assert status == 0
    assert "calibrated on 1 input (file) and 8 made up beside them" in out
    status, out, _ = run(capsys, *common, "--calibration", path, "--samples", "0")
    assert status == 0
    assert "made up" not in out
    status, _, error = run(capsys, *common, "--samples", "0")
    assert status == 2
    assert "--samples must be at least 1, not 0" in error
    status, _, error = run(capsys, *common, "--calibration", path, "--samples", "-1")
    assert status == 2
    assert "--samples must be at least 0, not -1" in error
