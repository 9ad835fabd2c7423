"""Calibration by batch norms alone: what a graph says of its activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Sequence

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run

from graphwq.calibrate.geometry import geometry
from graphwq.calibrate.layer import Use
from graphwq.calibrate.stored import Stored
from graphwq.calibrate.unseen import _columns
from graphwq.calibration import STORED, Calibrated, carry_out_plan, quantize_calibrated
from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.quant.moments import Moments
from graphwq.rewrite.options import Options
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner

pytestmark = pytest.mark.tf
_CHANNELS = 6
_FLOAT = ("type", 1)
_SCALE = np.geomspace(0.1, 3.0, _CHANNELS).astype(np.float32)
_OFFSET = np.linspace(-1.0, 2.0, _CHANNELS).astype(np.float32)


def _norm(b: GraphBuilder, x: str, name: str = "norm", training: bool = False, **attrs: Any) -> str:
    stats = [b.const(f"{name}_scale", _SCALE), b.const(f"{name}_offset", _OFFSET)]
    for each, value in (("mean", 0.0), ("variance", 1.0)):
        held = np.zeros(0) if training else np.full(_CHANNELS, value)
        stats.append(b.const(f"{name}_{each}", held.astype(np.float32)))
    attrs = {"is_training": training, "T": _FLOAT, **attrs}
    return b.op(name, "FusedBatchNorm", [x, *stats], **attrs)


def _network(op: str = "Conv2D", relu: str = "Relu", weight: Optional[np.ndarray] = None) -> Graph:
    b = GraphBuilder()
    y = b.op("act", relu, [_norm(b, b.placeholder("x", [-1, 12, 12, _CHANNELS]))], T=_FLOAT)
    shape = (3, 3, _CHANNELS, 16 if op == "Conv2D" else 4)
    held = random_weight(shape) if weight is None else weight
    attrs = {"strides": [1, 1, 1, 1], "padding": b"SAME", "T": _FLOAT}
    b.op("y", op, [y, b.const("w", held)], **attrs)
    return b.graph()


def _of(b: GraphBuilder, tensor: str) -> Moments:
    return Stored(build(b.graph()).main).moments(f"{tensor}:0")


def _made(graph: Graph, bits: int = 3, auto: bool = False) -> Calibrated:
    options = Options(bits=bits, storage="bake")
    return quantize_calibrated(graph, options, STORED, auto=auto)


def _samples(count: int) -> np.ndarray:
    """Normal inputs in which neighbours are alike."""
    random = np.random.RandomState(5)
    shape = (count, 1, 1, _CHANNELS)
    fine = random.standard_normal((count, 12, 12, _CHANNELS))
    return np.asarray((random.standard_normal(shape) + fine) / np.sqrt(2), np.float32)


@pytest.mark.parametrize("training", [False, True])
def test_moments_are_those_of_a_run(training: bool) -> None:
    """Through ReLU6, a pad-free sum and a join: means and variances of 2000 images."""
    b = GraphBuilder()
    x, z = (b.placeholder(name, [-1, 12, 12, _CHANNELS]) for name in "xz")
    one = b.op("one", "Relu6", [_norm(b, x, "a", training)], T=_FLOAT)
    other = b.op("other", "Identity", [_norm(b, z, "b", training)], T=_FLOAT)
    both = b.op("sum", "Add", [one, other], T=_FLOAT)
    axis = b.const("axis", np.asarray(3, np.int32))
    b.op("y", "ConcatV2", [both, one, axis], N=2, T=_FLOAT, Tidx=("type", 3))
    made = _of(b, "y")
    feeds = {"x:0": _samples(2000), "z:0": _samples(4000)[2000:]}
    with Runner(b.graph()) as runner:
        seen = np.asarray(runner.run(["y:0"], feeds)["y:0"], np.float64)
    assert made.mean == pytest.approx(seen.mean((0, 1, 2)), abs=0.05)
    assert made.variance == pytest.approx(seen.var((0, 1, 2)), rel=0.05, abs=0.01)


def test_what_no_batch_norm_tells() -> None:
    """The input itself, an op that is not known, a sum with one side unknown, other layouts."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 12, 12, _CHANNELS])
    known = _norm(b, x)
    b.op("tanh", "Tanh", [known])
    b.op("sum", "Add", [known, x])
    _norm(b, x, "first", data_format=b"NCHW")
    for name in ("x", "tanh", "sum", "first", "nowhere"):
        with pytest.raises(UnsupportedError, match="no batch norm says"):
            _of(b, name)
    with pytest.raises(UnsupportedError, match="no batch norm says"):
        Stored(build(b.graph()).main).moments("norm:1")


def _use(op: str, weight: Sequence[int], **attrs: Any) -> Use:
    b = GraphBuilder()
    attrs = {"strides": [1, 1, 1, 1], "padding": b"SAME", **attrs}
    x = b.placeholder("x", [-1, 12, 12, _CHANNELS])
    b.op("y", op, [x, b.const("w", random_weight(tuple(weight)))], **attrs)
    view = build(b.graph())
    (site,) = locate_in(view).sites
    (block,) = geometry(view.main.nodes["y"], site.consumers[0]).blocks(weight)
    index = block.arrange(np.arange(np.prod(weight)).reshape(weight))
    return Use("y", "x:0", block, index, False)


def test_columns_of_a_convolution() -> None:
    """Rows of the kernel, its columns, then channels: also strided and dilated."""
    moments = Moments(np.zeros(_CHANNELS), np.ones(_CHANNELS))
    for attrs in ({}, {"strides": [1, 2, 2, 1]}, {"dilations": [1, 5, 5, 1]}):
        channel, place = _columns(_use("Conv2D", (3, 3, _CHANNELS, 4), **attrs), moments, 2)
        assert channel.tolist() == [list(range(_CHANNELS)) * 9]
        assert len(np.unique(place)) == 9
        assert (place.reshape(9, _CHANNELS) == place.reshape(9, _CHANNELS)[:, :1]).all()


def test_columns_of_a_depthwise_convolution() -> None:
    """One problem for each channel."""
    moments = Moments(np.zeros(_CHANNELS), np.ones(_CHANNELS))
    use = _use("DepthwiseConv2dNative", (3, 3, _CHANNELS, 2))
    channel, place = _columns(use, moments, 2)
    assert channel.tolist() == [[each] * 9 for each in range(_CHANNELS)]
    assert len(np.unique(place)) == 9


def test_moments_of_another_number_of_channels() -> None:
    """Nothing is guessed."""
    moments = Moments(np.zeros(_CHANNELS + 1), np.ones(_CHANNELS + 1))
    with pytest.raises(UnsupportedError, match="the way in which it takes its inputs"):
        _columns(_use("Conv2D", (3, 3, _CHANNELS, 4)), moments, 2)


@pytest.mark.parametrize("op", ["Conv2D", "DepthwiseConv2dNative"])
@pytest.mark.parametrize("relu", ["Relu", "Relu6"])
def test_outputs_gain(op: str, relu: str) -> None:
    """On inputs that are as the batch norm says, 2 dB at 3 bits over rounding to nearest."""
    graph = _network(op, relu)
    made = _made(graph)
    assert [(outcome.method, outcome.reason) for outcome in made.outcomes] == [("gptq", "")]
    plain = quantize_calibrated(graph, Options(bits=3, storage="bake"), STORED)
    assert plain.result.graph.digest == made.result.graph.digest
    feeds = {"x:0": _samples(200)}

    def outputs(one: Graph) -> np.ndarray:
        with Runner(one) as runner:
            return np.asarray(runner.run(["y:0"], feeds)["y:0"], np.float64)

    import graphwq

    exact = outputs(graph)
    nearest = graphwq.quantize(graph, bits=3, storage="bake").graph
    errors = [np.square(outputs(one) - exact).sum() for one in (made.result.graph, nearest)]
    assert 10 * np.log10(errors[1] / errors[0]) > 2


def test_a_layer_of_which_nothing_is_known_falls_back() -> None:
    """With its reason; and auto keeps what is as good."""
    b = GraphBuilder()
    b.conv("y", b.placeholder("x", [-1, 8, 8, 3]), b.const("w", random_weight((3, 3, 3, 8))))
    (outcome,) = _made(b.graph()).outcomes
    assert outcome.method == "absmax"
    assert "no batch norm says what it sees" in outcome.reason
    held = np.full((3, 3, _CHANNELS, 16), 0.25, np.float32)
    (outcome,) = _made(_network(weight=held), auto=True).outcomes
    assert (outcome.method, outcome.reason) == ("absmax", "rounding to nearest does as well")


def test_a_plan_of_batch_norms_is_carried_out_again() -> None:
    """Without inputs; others are refused."""
    graph = _network()
    made = _made(graph)
    assert made.plan.calibration is not None
    assert made.plan.calibration.origin == STORED
    assert carry_out_plan(graph, made.plan).result.graph.digest == made.result.graph.digest
    with pytest.raises(InputError, match="leave out --calibration"):
        carry_out_plan(graph, made.plan, calibration="feeds.npz")


def test_biases_need_real_inputs() -> None:
    """Means of what rounding does to outputs are not stored anywhere."""
    options = Options(bits=3, correct_bias=True)
    b = GraphBuilder()
    y = b.conv("conv", b.placeholder("x", [-1, 8, 8, 3]), b.const("w", random_weight((3, 3, 3, 8))))
    b.op("y", "BiasAdd", [y, b.const("b", np.ones(8, np.float32))])
    with pytest.raises(InputError, match="give inputs with --calibration"):
        quantize_calibrated(b.graph(), options, STORED)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """--calibration bn says that nothing was run; with a target it is refused."""
    source, out = tmp_path / "in.pb", tmp_path / "out.pb"
    source.write_bytes(_network().to_bytes())
    words = ["quantize", str(source), "-o", str(out), "--bits", "3", "--calibration", "bn"]
    result = run(capsys, *words, "--method", "gptq")
    assert result.status == 0, result.err
    assert "weighed by what batch norms say of the layers; nothing was run" in result.out
    again = run(capsys, *words[:4], "--target-bits", "4", "--calibration", "bn", "--force")
    assert again.status == 2
    assert_one_line(again.err, "--calibration", "has no effect")
