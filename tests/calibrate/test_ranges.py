"""Which range of pixel values a graph was trained on, by its moments and biases."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.calibrate.ranges import RANGES, Range, likely_ranges
from graphwq.graphdef.graph import Graph
from graphwq.survey.view import build
from graphwq.tf1.session import Runner

pytestmark = pytest.mark.tf
_BYTES, _UNIT, _SIGNED = RANGES
_WEIGHT = random_weight((3, 3, 3, 4))


def _sample(each: Range) -> Mapping[str, np.ndarray]:
    noise = np.random.RandomState(0).random_sample((1, 32, 32, 3))
    return {"x:0": np.asarray(each[0] + (each[1] - each[0]) * noise, np.float32)}


def _graph(bias: float = 0.0, moments: Optional[Tuple[np.ndarray, np.ndarray]] = None) -> Graph:
    b = GraphBuilder()
    y = b.conv("conv", b.placeholder("x", [-1, 32, 32, 3]), b.const("w", _WEIGHT))
    if bias:
        y = b.op("biased", "BiasAdd", [y, b.const("bias", np.full(4, bias, np.float32))])
    if moments is not None:
        ones = np.ones(4, np.float32)
        stats = [b.const(name, value) for name, value in zip("gbmv", (ones, ones, *moments))]
        y = b.op("norm", "FusedBatchNorm", [y, *stats], is_training=False, T=("type", 1))
    b.op("y", "Relu", [y])
    return b.graph()


def _likely(graph: Graph) -> Tuple[Range, ...]:
    view = build(graph)
    with Runner(graph) as runner:
        return likely_ranges(runner, view.main, ["y:0"], _sample)


def _moments(each: Range) -> Tuple[np.ndarray, np.ndarray]:
    with Runner(_graph()) as runner:
        values: Dict[str, np.ndarray] = dict(runner.run(["conv:0"], _sample(each)))
    rows = values["conv:0"].reshape(-1, 4)
    return rows.mean(0), rows.var(0)


def test_stored_moments_tell_bytes_from_units() -> None:
    """A layer whose stored mean and variance are those of one range."""
    assert _likely(_graph(moments=_moments(_BYTES))) == (_BYTES,)
    assert _BYTES not in _likely(_graph(moments=_moments(_UNIT)))


def test_biases_tell_bytes_from_units() -> None:
    """Biases that are as large as what they are added to; 0..1 and -1..1 are alike to them."""
    assert _likely(_graph(bias=0.5)) == (_UNIT, _SIGNED)
    assert _likely(_graph(bias=100.0)) == (_BYTES,)


def test_a_graph_that_says_nothing_gets_all_ranges() -> None:
    """Neither moments nor biases, and a bias between the ranges."""
    assert _likely(_graph()) == RANGES
    assert set(_likely(_graph(bias=8.0))) == set(RANGES)


def test_values_that_are_not_finite_say_nothing() -> None:
    """Stored moments of NaN: no range is preferred, nothing fails."""
    nothing = np.full(4, np.nan, np.float32)
    assert _likely(_graph(moments=(nothing, nothing))) == RANGES
