"""How far the target is corrected: judged by samples that it was not fitted to."""

from __future__ import annotations

import math
from typing import Any, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.calibrate import choose as choose_module
from graphwq.calibrate.choose import RIDGES, best_ridge, output_error
from graphwq.calibrate.layer import Seen, together
from graphwq.calibration import quantize_calibrated
from graphwq.rewrite.options import Options
from graphwq.survey.batchnorm import by_batch

_INDEX = np.arange(40).reshape(1, 4, 10)


def _half(inputs: np.ndarray, originals: np.ndarray) -> List[Seen]:
    return [
        Seen(
            _INDEX,
            (inputs.T @ inputs)[None],
            (originals.T @ inputs)[None],
            (originals.T @ originals)[None],
        )
    ]


def _halves(noise: float, count: int) -> Tuple[List[List[Seen]], np.ndarray]:
    """Inputs that were scaled by 0.7 and disturbed on their way through the quantized layers."""
    random = np.random.RandomState(0)
    halves = []
    for _ in range(2):
        originals = random.randn(count, 10)
        halves.append(_half(0.7 * originals + noise * random.randn(count, 10), originals))
    return halves, random.randn(40)


def test_a_correction_that_holds_is_taken() -> None:
    """A scaled input is undone by a small ridge; 5000 samples agree on that."""
    halves, weight = _halves(0.01, 5000)
    assert best_ridge(halves, weight) == RIDGES[0]


def test_a_correction_that_does_not_hold_is_left_out() -> None:
    """Two halves that were turned in opposite directions: what undoes one doubles the other."""
    random = np.random.RandomState(1)
    halves = []
    for angle in (0.3, -0.3):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        originals = random.randn(2000, 10)
        halves.append(_half(originals @ np.kron(np.eye(5), turn), originals))
    assert math.isinf(best_ridge(halves, random.randn(40)))


def test_both_halves_judge_and_are_judged() -> None:
    """Exchanging the halves changes nothing, whichever ridge wins."""
    winners = set()
    for seed in range(40):
        random = np.random.RandomState(seed)
        halves = []
        for count in (6, 14):
            originals = random.randn(count, 10)
            halves.append(_half(originals + 0.4 * random.randn(count, 10), originals))
        weight = random.randn(40)
        found = best_ridge(halves, weight)
        assert best_ridge(halves[::-1], weight) == found
        winners.add(found)
    assert len(winners) > 1


def test_one_half_gives_a_ridge_in_the_middle() -> None:
    """Without anything to judge by, neither extreme."""
    halves, weight = _halves(0.1, 50)
    assert RIDGES[0] < best_ridge(halves[:1], weight) < math.inf


def test_output_error_is_that_of_the_outputs() -> None:
    """The quadratic forms are the sums of squares of the outputs themselves, of both halves."""
    random = np.random.RandomState(2)
    pairs = [(random.randn(20, 10), random.randn(20, 10)) for _ in range(2)]
    seen = together([_half(inputs, originals) for inputs, originals in pairs])
    weight, values = random.randn(40), random.randn(40)
    rows, new = weight.reshape(4, 10), values.reshape(4, 10)
    signal = sum(np.square(originals @ rows.T).sum() for _, originals in pairs)
    noise = sum(np.square(originals @ rows.T - x @ new.T).sum() for x, originals in pairs)
    assert output_error(seen, weight, values) == pytest.approx((signal, noise))


def test_normalization_by_the_batch_is_recognized() -> None:
    """is_training is true where it is not written down."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4, 4, 3])
    for name, attrs in (("no", {"is_training": False}), ("yes", {"is_training": True}), ("by", {})):
        b.op(name, "FusedBatchNorm", [x] * 5, **attrs)
    b.op("other", "Relu", [x])
    found = {node.name: by_batch(node) for node in b.graph().nodes}
    assert found == {"x": False, "no": False, "yes": True, "by": True, "other": False}


def test_with_normalization_by_the_batch_a_correction_has_to_be_worth_it() -> None:
    """What wins by a little is left; what wins by much is taken."""
    clearly = []
    for noise in (0.01, 0.1):
        halves, weight = _halves(noise, 400)
        assert best_ridge(halves, weight) == RIDGES[0]
        clearly.append(best_ridge(halves, weight, 0.8))
    assert clearly[0] == RIDGES[0] < clearly[1]


@pytest.mark.tf
@pytest.mark.parametrize("training", [True, False])
def test_which_layers_that_is_asked_of(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a graph that normalizes by the batch, which also gets less damping."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 16, 16, 3])
    y = b.conv("conv", x, b.const("w", random_weight((3, 3, 3, 4))))
    stats = [
        b.const(name, np.ones(0 if training and name in "mv" else 4, np.float32)) for name in "gbmv"
    ]
    b.op("norm", "FusedBatchNorm", [y, *stats], is_training=training, T=("type", 1))
    asked, damped = [], []
    second_order = choose_module.second_order

    def damping(*arguments: Any) -> Any:
        damped.append(arguments[3])
        return second_order(*arguments)

    def spy(halves: Any, weight: Any, clearly: float) -> float:
        asked.append(clearly)
        return 0.03

    monkeypatch.setattr(choose_module, "best_ridge", spy)
    monkeypatch.setattr(choose_module, "second_order", damping)
    quantize_calibrated(b.graph(), Options(bits=4), samples=2)
    assert len(asked) == 1
    assert (asked[0] < 1) == training
    assert (damped[0] < choose_module.DAMP) == training
