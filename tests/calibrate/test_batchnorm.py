"""Which outputs lose their mean to a batch normalization that follows."""

from __future__ import annotations

from typing import List

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.calibrate.activations import Activations
from graphwq.calibrate.layer import layer_of, observe
from graphwq.quant.scheme import PerChannel
from graphwq.survey.batchnorm import loses_its_mean
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner

pytestmark = pytest.mark.tf


def _norm(b: GraphBuilder, name: str, x: str, training: bool = True) -> str:
    ones, nothing = np.ones(4, np.float32), np.zeros(0, np.float32)
    stats = [b.const(f"{name}_{each}", ones) for each in "gb"]
    stats += [b.const(f"{name}_{each}", nothing if training else ones) for each in "mv"]
    return b.op(name, "FusedBatchNorm", [x, *stats], is_training=training, T=("type", 1))


def _answer(b: GraphBuilder) -> bool:
    return loses_its_mean(build(b.graph()).main, "conv")


def _conv() -> GraphBuilder:
    b = GraphBuilder()
    b.conv("conv", b.placeholder("x", [-1, 8, 8, 3]), b.const("w", random_weight((3, 3, 3, 4))))
    return b


@pytest.mark.parametrize("between", [[], ["BiasAdd"], ["Add"], ["Identity", "AddV2"]])
def test_in_front_of_normalization_by_the_batch(between: List[str]) -> None:
    """Behind a bias, too: it shifts a channel as a whole."""
    b, y = _conv(), "conv"
    for number, op in enumerate(between):
        inputs = [y] if op == "Identity" else [y, b.const(f"c{number}", np.ones(4, np.float32))]
        y = b.op(f"o{number}", op, inputs)
    _norm(b, "norm", y)
    assert _answer(b)


def test_two_normalizations() -> None:
    """All that reads the output has to take the mean off."""
    b = _conv()
    _norm(b, "norm", "conv")
    _norm(b, "other", "conv")
    assert _answer(b)
    b.op("y", "Relu", ["conv"])
    assert not _answer(b)


def test_not_in_front_of_stored_moments_a_sum_or_nothing() -> None:
    """Stored moments keep errors of the mean, and so does a shortcut."""
    b = _conv()
    _norm(b, "norm", "conv", training=False)
    assert not _answer(b)
    b = _conv()
    _norm(b, "norm", b.op("sum", "Add", ["conv", b.op("other", "Relu", ["conv"])]))
    assert not _answer(b)
    b = _conv()
    _norm(b, "norm", b.op("sum", "Add", ["conv", b.placeholder("z", [-1, 6, 6, 4])]))
    assert not _answer(b)
    assert not _answer(_conv())


def test_an_output_that_scales_a_normalization() -> None:
    """Only what is normalized loses its mean."""
    b = _conv()
    nothing = [b.const(name, np.zeros(0, np.float32)) for name in "mv"]
    ones = b.const("ones", np.ones(4, np.float32))
    inputs = [b.placeholder("z", [-1, 6, 6, 4]), "conv", ones, *nothing]
    b.op("norm", "FusedBatchNorm", inputs, is_training=True, T=("type", 1))
    assert not _answer(b)


def test_moments_in_front_of_it_are_about_the_mean() -> None:
    """What a layer saw is weighed without the mean of each column, and with it elsewhere."""
    for normed in (True, False):
        b = _conv()
        if normed:
            _norm(b, "norm", "conv")
        else:
            b.op("y", "Relu", ["conv"])
        graph = b.graph()
        view = build(graph)
        (site,) = locate_in(view).sites
        image = 5 + np.random.RandomState(0).random_sample((1, 8, 8, 3)).astype(np.float32)
        with Runner(graph) as runner:
            layer = layer_of(runner, view.main, site, np.dtype(np.float32), PerChannel((3,)))
            ((seen,),) = observe(layer, Activations(runner, view.main, [{"x:0": image}]))
        rows = layer.uses[0].block.unfold(image)[0].astype(np.float64)
        rows = rows - rows.mean(0) if normed else rows
        wanted = rows.T @ rows
        assert seen.own[0] == pytest.approx(wanted / np.trace(wanted), rel=1e-3, abs=1e-6)


def test_a_control_input_reads_nothing() -> None:
    """It orders, it does not read."""
    b = _conv()
    _norm(b, "norm", "conv")
    b.op("later", "NoOp", ["^conv"])
    assert _answer(b)
