"""By which tensors codes are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.calibrate.evidence import float_outputs
from graphwq.calibrate.inputs import halves
from graphwq.calibration import quantize_calibrated
from graphwq.rewrite.options import Options
from graphwq.survey.view import build
from graphwq.tf1.session import Runner
from graphwq.verify.feeds import Feeds
from graphwq.verify.interface import find_interface

pytestmark = pytest.mark.tf
_INT64, _FLOAT = ("type", 9), ("type", 1)


def _scores() -> GraphBuilder:
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 20])
    b.op("scores", "MatMul", [x, b.const("w", random_weight((20, 10)))])
    return b


def _classes(b: GraphBuilder) -> str:
    axis = b.const("axis", np.asarray(1, np.int32))
    kinds = {"T": _FLOAT, "Tidx": ("type", 3), "output_type": _INT64}
    return b.op("classes", "ArgMax", ["scores", axis], **kinds)


def _outputs(b: GraphBuilder, tensors: Sequence[str]) -> Tuple[str, ...]:
    graph = b.graph()
    sample = {"x:0": np.ones((3, 20), np.float32)}
    with Runner(graph) as runner:
        return float_outputs(runner, build(graph).main, tensors, sample)


def test_floats_are_taken_as_they_are() -> None:
    """Nothing is gone back behind."""
    b = _scores()
    b.op("y", "Relu", ["scores"])
    assert _outputs(b, ["y:0"]) == ("y:0",)


def test_behind_an_index_are_the_scores() -> None:
    """Also behind what is computed from the index; constants say nothing."""
    b = _scores()
    _classes(b)
    right = b.op("right", "Equal", ["classes", b.const("two", np.asarray(2))], T=_INT64)
    limit = b.const("limit", np.full(10, 0.5, np.float32))
    above = b.op("above", "Greater", ["scores", limit], T=_FLOAT)
    assert _outputs(b, ["classes:0"]) == ("scores:0",)
    assert _outputs(b, [f"{above}:0"]) == ("scores:0",)
    assert _outputs(b, [f"{right}:0"]) == ("scores:0",)
    assert _outputs(b, ["scores:0", "classes:0"]) == ("scores:0",)


def test_an_output_that_no_float_leads_to() -> None:
    """There is nothing to judge by, and no error."""
    b = _scores()
    b.op("size", "Shape", [b.placeholder("n", [-1], 3)], T=("type", 3))
    graph = b.graph()
    with Runner(graph) as runner:
        sample = {"n:0": np.ones(3, np.int32)}
        assert float_outputs(runner, build(graph).main, ["size:0"], sample) == ()


def test_a_classifier_of_indices_is_calibrated() -> None:
    """It used to fall back to rounding to nearest: its outputs have no SQNR."""
    b = _scores()
    _classes(b)
    made = quantize_calibrated(b.graph(), Options(bits=2, keep_larger=True), auto=True)
    assert [outcome.method for outcome in made.outcomes] == ["gptq"]


def test_few_real_inputs_do_not_prove_their_own_codes(tmp_path: Path) -> None:
    """Codes for two lone samples fit them alone: the other half of the file tells."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 512])
    b.op("y", "MatMul", [x, b.const("w", random_weight((512, 32)))])
    graph = b.graph()
    random = np.random.RandomState(3)
    path = tmp_path / "feeds.npz"
    np.savez(path, x=random.standard_normal((2, 512)).astype(np.float32))
    made = quantize_calibrated(graph, Options(bits=4), path, auto=True)
    assert [outcome.method for outcome in made.outcomes] == ["absmax"]
    assert "calibration does not gain 1 dB" in made.outcomes[0].reason
    rows = random.standard_normal((2000, 512)) @ random.standard_normal((512, 512))
    np.savez(path, x=rows.astype(np.float32) * np.geomspace(1, 0.01, 512, dtype=np.float32))
    made = quantize_calibrated(graph, Options(bits=4), path, auto=True)
    assert [outcome.method for outcome in made.outcomes] == ["gptq"]


def test_halves_of_samples_of_rows_and_of_one_row() -> None:
    """Every second one; one row cannot be divided."""
    graph = _scores().graph()
    interface = find_interface(graph, build(graph))
    ten = tuple({"x:0": np.full((3, 20), number, np.float32)} for number in range(5))
    fit, judge = halves(Feeds(ten, "file"), interface)
    assert [int(one["x:0"][0, 0]) for one in fit] == [0, 2, 4]
    assert [int(one["x:0"][0, 0]) for one in judge] == [1, 3]
    one = {"x:0": np.arange(60, dtype=np.float32).reshape(3, 20)}
    (fitted,), (judged,) = halves(Feeds((one,), "file"), interface)
    assert np.array_equal(fitted["x:0"], one["x:0"][::2])
    assert np.array_equal(judged["x:0"], one["x:0"][1::2])
    alone = Feeds(({"x:0": np.ones((1, 20), np.float32)},), "file")
    assert halves(alone, interface)[0] is halves(alone, interface)[1] is alone.samples
