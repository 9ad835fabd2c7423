"""Widths by what they cost the outputs: the table, the choice, and what was tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run
from conftest import FIXTURES

import graphwq
from graphwq.allocation import plan_measured
from graphwq.calibrate.sensitivity import (
    between,
    blended,
    output_errors,
    relative_error,
    typical_gain,
)
from graphwq.calibration import Wishes
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.mixed import Mixer
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.planning import make_plan
from graphwq.rewrite.weigh import WIDTHS
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner

pytestmark = pytest.mark.tf

_CNN = FIXTURES / "digits_cnn.pb"


def test_the_relative_error_by_hand() -> None:
    """Each output counts the same; integers, zeros and NaN of the reference say nothing."""
    before = {
        "a": np.array([3.0, 4.0]),
        "b": np.array([100.0]),
        "c": np.array([1, 2]),
        "d": np.zeros(2),
        "e": np.array([np.nan]),
    }
    after = {**before, "a": np.array([3.0, 3.0]), "c": np.array([5, 5]), "d": np.ones(2)}
    assert relative_error(before, after) == pytest.approx((1 / 25 + 0) / 2)
    assert relative_error({"d": np.zeros(2)}, after) is None
    lost = relative_error(before, {**after, "b": np.array([np.inf])})
    assert lost == pytest.approx((1 / 25 + 1e4) / 2)


def _network(amplify: float = 30.0) -> Graph:
    """Two branches of equal weights; the second one counts ``amplify`` times as much."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 40])
    one = b.matmul("one", x, b.const("w1", random_weight((40, 400), 1)))
    two = b.matmul("two", x, b.const("w2", random_weight((40, 400), 2)))
    loud = b.op("loud", "Mul", [two, b.const("factor", np.float32(amplify))])
    total = b.op("total", "Add", [one, loud])
    b.matmul("y", total, b.const("w3", random_weight((400, 30), 3)))
    return b.graph()


def _outputs(graph: Graph, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    with Runner(graph) as runner:
        return np.asarray(runner.run(["y:0"], feeds)["y:0"], np.float64)


def test_the_costs_are_those_of_graphs_with_one_weight_quantized() -> None:
    """Each number of the table, by writing that graph and running it."""
    graph = _network()
    view = build(graph)
    mixer = Mixer(graph, view, locate_in(view), Options())
    samples = [{"x:0": np.random.RandomState(n).randn(9, 40).astype(np.float32)} for n in (0, 1)]
    steps: List[str] = []
    with Runner(graph, optimize=False) as runner:
        table = output_errors(
            runner, view, mixer.sites, mixer.errors, ["y:0"], samples,
            lambda _done, _total, weight: steps.append(weight),
        )  # fmt: skip
    assert table is not None
    assert steps == ["w1", "w2", "w3"]
    for weight in ("w1", "w3"):
        for bits in (2, 4, 8):
            made = graphwq.quantize(graph, bits=bits, include=(weight,), keep_larger=True).graph
            errors = []
            for sample in samples:
                old, new = _outputs(graph, sample), _outputs(made, sample)
                errors.append(np.square(new - old).sum() / np.square(old).sum())
            assert table[weight][WIDTHS.index(bits)] == pytest.approx(np.mean(errors), rel=1e-3)
    assert min(np.divide(table["w2"], table["w1"])) > 100


def test_widths_that_were_not_measured() -> None:
    """Between them the cost of an error is interpolated; wider is never dearer."""
    known = [4.0**-bits for bits in WIDTHS]
    exact = between({bits: 7 * 4.0**-bits for bits in (2, 4, 6)}, known)
    assert exact == pytest.approx([7 * error for error in known])
    assert between({2: 0.1, 4: 0.4, 6: 0.0}, known)[0] == 0.4
    assert between({2: 0.0, 4: 0.0, 6: 0.0}, known) == [0.0] * 7
    rising = between({bits: 1.0 + bits for bits in WIDTHS}, known)
    assert rising == [9.0] * 7


def test_a_weight_without_effect_is_not_free() -> None:
    """In the table of both it costs a part of its error, in the unit of the others."""
    known = {"a": [1.0] * 7, "b": [0.5] * 7}
    table = {"a": [3.0] * 7, "b": [0.0] * 7}
    assert typical_gain(table, known) == 3.0
    assert blended(table, known, 0.1)["b"] == pytest.approx([0.15] * 7)
    assert blended(table, known, 0.1)["a"] == pytest.approx([3.3] * 7)
    assert typical_gain({"a": [0.0] * 7}, known) == 1.0


def _feeds(folder: Path, feeds: Mapping[str, np.ndarray]) -> Path:
    path = folder / "feeds.npz"
    np.savez(str(path), **feeds)
    return path


def _mixture(plan: Plan) -> Any:
    assert plan.mixture is not None
    return plan.mixture


@pytest.mark.parametrize("bits", [4, 5])
def test_what_counts_gets_the_bits(bits: int, tmp_path: Path) -> None:
    """Weights that are alike by value: the one that is amplified is the wider, and it is better."""
    graph = _network()
    inputs = np.random.RandomState(0).randn(64, 40).astype(np.float32)
    path = _feeds(tmp_path, {"x:0": inputs})
    options = Options(target_bits=float(bits), keep_larger=True)
    plan, reason = plan_measured(graph, options, Wishes(path), None)
    assert reason == ""
    widths = {one.weight: one.chosen or 32 for one in _mixture(plan).weights}
    assert widths["w2"] > widths["w1"]
    assert _mixture(plan).cost in ("outputs", "both")
    trials = _mixture(plan).trials
    assert sorted(one.cost for one in trials) == ["both", "outputs", "uniform", "weights"]
    assert [one.sqnr_db for one in trials] == sorted((one.sqnr_db for one in trials), reverse=True)
    made = graphwq.quantize(graph, plan=plan).graph
    plain = graphwq.quantize(graph, bits=bits, keep_larger=True).graph
    assert made.nbytes == trials[0].nbytes <= plain.nbytes
    others = {"x:0": np.random.RandomState(7).randn(64, 40).astype(np.float32)}
    old = _outputs(graph, others)
    errors = [np.square(_outputs(one, others) - old).sum() for one in (plain, made)]
    assert errors[1] < 0.8 * errors[0]
    fed = {"x:0": inputs[1::2]}  # the rows that decide
    old = _outputs(graph, fed)
    wanted = np.square(old).sum() / np.square(_outputs(made, fed) - old).sum()
    assert trials[0].sqnr_db == pytest.approx(10 * np.log10(wanted), abs=0.01)


def test_samples_of_a_file_are_shared_out(tmp_path: Path) -> None:
    """Every second one decides: a change of those leaves the table as it is."""
    graph = _network()
    stack = np.random.RandomState(0).randn(4, 16, 40).astype(np.float32)
    tables, scores = [], []
    for factor in (1.0, 50.0):
        changed = stack.copy()
        changed[1::2, :, ::3] *= factor
        path = _feeds(tmp_path, {"x:0": changed})
        plan, _ = plan_measured(graph, Options(target_bits=4.0), Wishes(path), None)
        tables.append({one.weight: one.choices for one in _mixture(plan).weights})
        scores.append([one.sqnr_db for one in _mixture(plan).trials])
    assert tables[0] == tables[1]
    assert scores[0] != scores[1]


def test_never_worse_than_one_width_on_the_inputs_that_decide(fixtures: Path) -> None:
    """Made-up inputs, every fixture: the plan that is taken is the best of those that were run."""
    for name in ("digits_cnn", "digits_mlp", "digits_embedding", "digits_lstm"):
        graph = graphwq.load(fixtures / f"{name}.pb")
        options = Options(target_bits=3.0)
        plan, reason = plan_measured(graph, options, Wishes(None, 3, 2), graph.digest)
        assert reason == ""
        scores = {one.cost: one.sqnr_db for one in _mixture(plan).trials}
        taken = _mixture(plan).trials[0]
        assert taken.sqnr_db >= scores["uniform"]
        assert taken.sqnr_db >= max(scores.values()) - 2
        if taken.cost in ("outputs", "both"):  # made-up inputs are no proof of less than 2 dB
            assert taken.sqnr_db >= max(scores["uniform"], scores["weights"]) + 2
        assert Plan.loads(plan.dumps()) == plan
        again, _ = plan_measured(graph, options, Wishes(None, 3, 2), graph.digest)
        assert again.dumps() == plan.dumps()


def _sqnr(reference: Graph, candidate: Graph, feeds: Dict[str, np.ndarray]) -> float:
    with Runner(reference) as first, Runner(candidate) as second:
        old, new = (runner.run(["softmax:0"], feeds)["softmax:0"] for runner in (first, second))
    return float(10 * np.log10(np.square(old).sum() / np.square(old - new).sum()))


def test_better_on_images_that_nobody_measured(tmp_path: Path) -> None:
    """A trained network at 3 bits: at least 10 dB, in a file that is not larger."""
    graph = graphwq.load(_CNN)
    with np.load(str(FIXTURES / "digits_cnn_test.npz")) as data:
        path = _feeds(tmp_path, {"input:0": data["input:0"][:64]})
        others = {"input:0": data["input:0"][64:]}
    plan, _ = plan_measured(graph, Options(target_bits=3.0), Wishes(path), None)
    made, plain = graphwq.quantize(graph, plan=plan).graph, graphwq.quantize(graph, bits=3).graph
    assert made.nbytes <= plain.nbytes
    assert _sqnr(graph, made, others) > 10 + _sqnr(graph, plain, others)


def test_a_graph_that_cannot_be_run(tmp_path: Path) -> None:
    """Without a file the values decide and the reason is told; with one it is an error."""
    b = GraphBuilder()
    b.op("odd", "NoSuchOp", [])
    x = b.placeholder("x", [-1, 40])
    b.matmul("y", b.matmul("h", x, b.const("w", random_weight((40, 50)))),
             b.const("v", random_weight((50, 30))))  # fmt: skip
    graph = b.graph()
    options = Options(target_bits=4.0)
    plan, reason = plan_measured(graph, options, Wishes(), None)
    assert "cannot be run" in reason
    assert plan == make_plan(graph, options, digest=False)
    assert not _mixture(plan).trials
    path = _feeds(tmp_path, {"x:0": np.ones((2, 40), np.float32)})
    with pytest.raises(graphwq.GraphWQError, match="NoSuchOp"):
        plan_measured(graph, options, Wishes(path), None)


def test_from_the_command_line_and_back(tmp_path: Path, capsys: Any) -> None:
    """plan, quantize --plan, quantize: one file; the table and what was tried are printed."""
    with np.load(str(FIXTURES / "digits_cnn_test.npz")) as data:
        path = _feeds(tmp_path, {"input:0": data["input:0"][:64]})
    asked = ("--target-bits", 3, "--calibration", path)
    plan, one, two = tmp_path / "plan.json", tmp_path / "one.pb", tmp_path / "two.pb"
    told = run(capsys, "plan", _CNN, "-o", plan, *asked)
    assert told.status == 0, told.err
    assert "squared error of the outputs" in told.out
    assert "run on inputs, the first is taken: outputs" in told.out
    assert run(capsys, "quantize", _CNN, "-o", one, "--plan", plan).status == 0
    direct = run(capsys, "quantize", _CNN, "-o", two, *asked)
    assert direct.status == 0, direct.err
    assert "run on inputs" in direct.out
    assert one.read_bytes() == two.read_bytes()
    assert run(capsys, "verify", _CNN, one, "--plan", plan, "--static").status == 0
    data = json.loads(plan.read_text())
    assert data["mixture"]["cost"] == data["mixture"]["trials"][0]["cost"] == "outputs"
    data["mixture"]["trials"][0]["cost"] = "luck"
    with pytest.raises(InputError, match="costs of the kind"):
        Plan.loads(json.dumps(data))


@pytest.mark.parametrize("method", ["gptq", "auto"])
def test_calibrated_codes_in_widths_of_their_own(method: str, tmp_path: Path, capsys: Any) -> None:
    """Widths and codes from the same inputs; the saved plan gives the same file."""
    with np.load(str(FIXTURES / "digits_cnn_test.npz")) as data:
        path = _feeds(tmp_path, {"input:0": data["input:0"][:64]})
    one, two, plan = tmp_path / "one.pb", tmp_path / "two.pb", tmp_path / "plan.json"
    asked = ("--target-bits", 3, "--method", method, "--calibration", path)
    told = run(capsys, "quantize", _CNN, "-o", one, *asked, "--save-plan", plan)
    assert told.status == 0, told.err
    assert "run on inputs" in told.out
    assert "calibrated on 1 input (file)" in told.out
    again = run(capsys, "quantize", _CNN, "-o", two, "--plan", plan, "--calibration", path)
    assert again.status == 0, again.err
    assert one.read_bytes() == two.read_bytes()


def test_options_that_mean_nothing_are_refused(tmp_path: Path, capsys: Any) -> None:
    """Inputs for a plan that measures nothing, or for a sweep."""
    for extra, said in (
        (("--calibration", "synthetic"), "--calibration has no effect on a plan"),
        (("--target-bits", 4, "--seed", 3), "--seed has no effect on a plan"),
        (("--sweep", "--calibration", "synthetic"), "--calibration has no effect with --sweep"),
        (("--target-bits", 4, "--calibration", tmp_path / "no.npz"), "no.npz"),
    ):
        told = run(capsys, "plan", _CNN, *extra)
        assert told.status == 2, extra
        assert_one_line(told.err, said)
