"""Calibrated quantization from end to end: better where it can be, a named reason where not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run
from conftest import ROOT

import graphwq
from graphwq.calibration import Calibrated, carry_out_plan, quantize_calibrated
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.quant.scale import project_scale
from graphwq.quant.scheme import max_code
from graphwq.rewrite.options import Options
from graphwq.rewrite.recover import recover_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner
from graphwq.verify.weights import check_weights

pytestmark = pytest.mark.tf

_W = random_weight((30, 40), 3)


def dense(weight: np.ndarray, strange: bool = False) -> Graph:
    """x -> MatMul(w) -> y, perhaps behind an op that TensorFlow does not know."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, len(weight)])
    if strange:
        b.op("odd", "NoSuchOp", [])
    b.matmul("y", x, b.const("w", weight))
    return b.graph()


def _sqnr(reference: Graph, candidate: Graph, feeds: Dict[str, np.ndarray], tensor: str) -> float:
    with Runner(reference) as first, Runner(candidate) as second:
        old, new = (runner.run([tensor], feeds)[tensor] for runner in (first, second))
    return float(10 * np.log10(np.square(old).sum() / np.square(old - new).sum()))


def _check_laws(reference: Graph, made: Calibrated) -> None:
    """What every written result promises."""
    view = build(reference)
    sites = {site.weight: site for site in locate_in(view).sites}
    for name, quantized in made.result.quantized.items():
        weight = view.scopes[sites[name].scope].nodes[sites[name].node].tensor().numpy()
        assert np.isfinite(quantized.scale).all()
        assert np.array_equal(
            project_scale(quantized.scale, quantized.scheme.num_bits), quantized.scale
        )
        assert np.abs(quantized.codes.astype(int)).max() == max_code(quantized.scheme.num_bits)
        assert not quantized.codes[weight == 0].any()
    recovered = recover_surveyed(
        reference, view, locate_in(view), build(made.result.graph), made.plan
    )
    assert not recovered.missing
    assert check_weights(view, locate_in(view).sites, build(made.result.graph), recovered).passed


@pytest.mark.parametrize("storage", ["dequant", "bake"])
def test_better_than_absmax_on_images_that_nobody_calibrated_on(
    storage: str, fixtures: Path
) -> None:
    """A trained network at 4 bits, made-up inputs: at least 3 dB nearer on real digits."""
    from sklearn.datasets import load_digits

    reference = graphwq.load(fixtures / "digits_mlp.pb")
    view = build(reference).main
    (x,) = [n for n in view.scope.nodes if n.op == "Placeholder"]
    images = (load_digits().data / 16.0).astype(np.float32)
    shape = [dim.size for dim in x.attr("shape").shape.dim]
    feeds = {f"{x.name}:0": images.reshape([-1, *shape[1:]])}
    logits = next(
        n.name for n in reversed(view.scope.nodes) if n.op in ("BiasAdd", "Add", "AddV2", "MatMul")
    )
    made = quantize_calibrated(reference, Options(bits=4, storage=storage))
    plain = graphwq.quantize(reference, bits=4, storage=storage).graph
    gains = [_sqnr(reference, graph, feeds, f"{logits}:0") for graph in (plain, made.result.graph)]
    assert gains[1] > gains[0] + 3, gains
    assert all(outcome.method == "gptq" and not outcome.reason for outcome in made.outcomes)
    _check_laws(reference, made)


@pytest.mark.parametrize("name", ["digits_cnn", "digits_lstm", "digits_embedding"])
@pytest.mark.parametrize("bits", [2, 8])
def test_the_laws_hold_on_every_fixture(name: str, bits: int, fixtures: Path) -> None:
    """Codes, scales, zeros; whatever fell back has a reason and is absmax."""
    reference = graphwq.load(fixtures / f"{name}.pb")
    made = quantize_calibrated(reference, Options(bits=bits), samples=4)
    for outcome, item in zip(made.outcomes, made.plan.items):
        assert outcome.method == item.scheme.method
        assert bool(outcome.reason) == (outcome.method == "absmax")
    _check_laws(reference, made)
    assert graphwq.Plan.loads(made.plan.dumps()) == made.plan


def test_recurrent_weights_and_tables_fall_back_with_a_reason(fixtures: Path) -> None:
    """A kernel inside a while loop and an embedding table cannot be looked into."""
    made = quantize_calibrated(graphwq.load(fixtures / "digits_embedding.pb"), Options(), samples=2)
    reasons = {outcome.weight: outcome.reason for outcome in made.outcomes}
    assert any("embedding table" in reason for reason in reasons.values()), reasons


def test_a_pruned_weight_keeps_its_zeros() -> None:
    """Half of the values are zeros before and after, also where inputs are alike and 2 bits few."""
    weight = random_weight((40, 24)).copy()
    weight[np.random.RandomState(1).uniform(size=weight.shape) < 0.5] = 0
    reference = dense(weight)
    random = np.random.RandomState(2)
    inputs = random.randn(500, 4) @ random.randn(4, 40) + 0.1 * random.randn(500, 40)
    made = _with_file(
        reference, Options(bits=2, keep_larger=True), {"x:0": inputs.astype(np.float32)}
    )
    (codes,) = made.result.quantized.values()
    assert made.outcomes[0].method == "gptq"
    assert not codes.codes[weight == 0].any()


def test_each_layer_sees_the_quantized_layers_before_it() -> None:
    """What is said of the last layer is the SQNR of the graph's output, measured on its own."""
    b = GraphBuilder()
    h = b.op("h", "Relu", [b.matmul("a", b.placeholder("x", [-1, 30]), b.const("w", _W))])
    b.matmul("y", h, b.const("v", random_weight((40, 20), 4)))
    reference = b.graph()
    inputs = np.random.RandomState(5).randn(600, 30).astype(np.float32)
    options = Options(bits=2, keep_larger=True, storage="bake")
    made = _with_file(reference, options, {"x:0": inputs})
    told = {outcome.weight: outcome.sqnr_db for outcome in made.outcomes}
    measured = _sqnr(reference, made.result.graph, {"x:0": inputs}, "y:0")
    assert told["v"] == pytest.approx(measured, abs=0.05)


def test_dead_inputs_and_dead_channels() -> None:
    """Constant zero feeds leave nothing to weigh by: absmax, with the reason; no NaN."""
    weight = random_weight((40, 24)).copy()
    weight[:, 3] = 0
    reference = dense(weight)
    options = Options(bits=4, keep_larger=True)
    made = quantize_calibrated(reference, options)
    _check_laws(reference, made)
    for values, reason in (
        (np.zeros((5, 40), np.float32), "inputs are zero"),
        (np.full((5, 40), np.nan, np.float32), "NaN or Inf"),
        (np.ones((5, 40), np.float32), ""),
    ):
        made = _with_file(reference, options, {"x:0": values})
        assert reason in made.outcomes[0].reason
        assert made.outcomes[0].method == ("absmax" if reason else "gptq")
        _check_laws(reference, made)


def _with_file(reference: Graph, options: Options, feeds: Dict[str, np.ndarray]) -> Calibrated:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "feeds.npz"
        np.savez(str(path), **feeds)
        return quantize_calibrated(reference, options, path)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"nowhere:0": np.ones((2, 40), np.float32)}, "no tensor"),
        ({}, "leave out 'x:0'"),
        ({"x:0": np.ones((2, 41), np.float32)}, "shape"),
        ({"x:0": np.ones((0, 40), np.float32)}, "empty"),
    ],
)
def test_feeds_that_do_not_fit(feeds: Dict[str, Any], message: str) -> None:
    """A wrong name, shape or nothing at all is bad input: one sentence."""
    reference = dense(random_weight((40, 24)))
    with pytest.raises(InputError, match=message):
        _with_file(reference, Options(bits=4), feeds)


def test_a_graph_that_cannot_be_run_falls_back() -> None:
    """An op that TensorFlow does not know: everything is absmax, and the result says why."""
    strange = dense(random_weight((40, 24)), strange=True)
    made = quantize_calibrated(strange, Options(bits=4, keep_larger=True))
    assert made.outcomes[0].method == "absmax"
    assert "cannot be run" in made.outcomes[0].reason
    plain = graphwq.quantize(strange, bits=4, keep_larger=True)
    assert made.result.graph.to_bytes() == plain.graph.to_bytes()


def test_auto_takes_absmax_where_it_is_better(
    monkeypatch: pytest.MonkeyPatch, fixtures: Path
) -> None:
    """The gate compares the whole graph; what loses is not written."""
    import graphwq.calibration as calibration

    reference = graphwq.load(fixtures / "digits_mlp.pb")
    good = quantize_calibrated(reference, Options(bits=3), auto=True)
    assert all(outcome.method == "gptq" for outcome in good.outcomes)
    assert "output SQNR" in good.notes[-1]
    plain = graphwq.quantize(reference, bits=3)
    for pair, falls_back in (([1.0, 2.0], True), ([2.5, 2.0], True), ([3.5, 2.0], False)):
        scores = iter(pair)
        monkeypatch.setattr(calibration, "output_sqnr", lambda *_args, it=scores: next(it))
        made = quantize_calibrated(reference, Options(bits=3), auto=True)
        same = made.result.graph.to_bytes() == plain.graph.to_bytes()
        assert same is falls_back
        assert all(bool(outcome.reason) is falls_back for outcome in made.outcomes)


def test_the_same_bytes_on_any_number_of_threads(tmp_path: Path, fixtures: Path) -> None:
    """One thread, two, another hash seed: one file."""
    found = set()
    for number, threads in enumerate("12"):
        path = tmp_path / f"{threads}.pb"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": str(number),
            "OPENBLAS_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
        }
        command = [sys.executable, "-m", "graphwq", "quantize", str(fixtures / "digits_cnn.pb")]
        command += ["-o", str(path), "--bits", "3", "--method", "gptq", "--samples", "4"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.add(path.read_bytes())
    assert len(found) == 1


def test_a_saved_plan_gives_the_same_file(
    tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture
) -> None:
    """--save-plan holds methods, fallbacks and the calibration; --plan does it again."""
    source = fixtures / "digits_mlp.pb"
    one, two, plan = tmp_path / "one.pb", tmp_path / "two.pb", tmp_path / "plan.json"
    options = ("--bits", 3, "--method", "gptq", "--samples", 3, "--seed", 5)
    first = run(capsys, "quantize", source, "-o", one, "--save-plan", plan, *options)
    assert first.status == 0, first.err
    assert "calibrated on 3 inputs (synthetic)" in first.out
    assert run(capsys, "quantize", source, "-o", two, "--plan", plan).status == 0
    assert one.read_bytes() == two.read_bytes()
    made = graphwq.Plan.loads(plan.read_text())
    assert made.calibration is not None
    assert (made.calibration.samples, made.calibration.seed) == (3, 5)
    changed = replace(made, calibration=replace(made.calibration, digest="0" * 64))
    with pytest.raises(InputError, match="not those of the plan"):
        carry_out_plan(graphwq.load(source), changed)
    other = carry_out_plan(graphwq.load(source), made)
    assert other.result.graph.to_bytes() == one.read_bytes()


def test_options_that_mean_nothing_are_refused(
    tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture
) -> None:
    """Calibration without a method that uses it, numbers out of range, auto in a plan."""
    source, out = fixtures / "digits_mlp.pb", tmp_path / "x.pb"
    for extra, said in (
        (("--calibration", "synthetic"), "no effect without --method gptq"),
        (("--method", "gptq", "--samples", 0), "--samples must be at least 1"),
        (("--method", "gptq", "--seed", -1), "--seed cannot be negative"),
        (("--method", "gptq", "--calibration", tmp_path / "no.npz"), "no.npz"),
    ):
        outcome = run(capsys, "quantize", source, "-o", out, *extra)
        assert outcome.status == 2
        assert_one_line(outcome.err, said)
        assert not out.exists()
    outcome = run(capsys, "plan", source, "--method", "auto")
    assert outcome.status == 2
    assert_one_line(outcome.err, "--save-plan")
