"""Bias correction: by hand, in every form, better on inputs that nobody measured, and explained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run
from conftest import FIXTURES

import graphwq
from graphwq.calibrate.evidence import output_sqnr
from graphwq.calibration import Calibrated, quantize_calibrated
from graphwq.diff.compare import diff_graphs
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const
from graphwq.graphdef.protos import AttrValue
from graphwq.quant.shift import Shift, step_of
from graphwq.rewrite.options import Options
from graphwq.rewrite.run import Given, rebuild
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner
from graphwq.verify.static import check_static

pytestmark = pytest.mark.tf

_CNN = FIXTURES / "digits_cnn.pb"


def _constant(graph: Graph, name: str) -> np.ndarray:
    tensor = build(graph).main.nodes[name].tensor()
    assert tensor is not None
    return tensor.numpy()


def _made(reference: Graph, folder: Path, inputs: np.ndarray, **options: Any) -> Calibrated:
    path = folder / "inputs.npz"
    np.savez(str(path), **{"x:0": inputs})
    wishes = Options(correct_bias=True, keep_larger=True, **options)
    return quantize_calibrated(reference, wishes, path)


def _dense() -> Tuple[Graph, np.ndarray]:
    b = GraphBuilder()
    weight = random_weight((6, 4), 1)
    y = b.matmul("y", b.placeholder("x", [-1, 6]), b.const("w", weight))
    b.op("z", "BiasAdd", [y, b.const("c", np.array([1.0, -2.0, 0.5, 0.0], np.float32))])
    return b.graph(), weight


def test_the_correction_by_hand(tmp_path: Path) -> None:
    """c' = c - mean(x) (W' - W), within half a unit of the largest change / 128."""
    reference, weight = _dense()
    inputs = (1 + np.random.RandomState(0).rand(10, 6)).astype(np.float32)
    made = _made(reference, tmp_path, inputs, bits=3)
    quantized = made.result.quantized["w"].dequantize()
    wanted = -inputs.mean(0).astype(np.float64) @ (quantized.astype(np.float64) - weight)
    found = _constant(made.result.graph, "c").astype(np.float64) - _constant(reference, "c")
    assert np.abs(wanted).max() > 0.01
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 256 + 1e-6
    (one,) = made.result.weights
    assert one.shift is not None
    assert one.shift.largest == pytest.approx(np.abs(found).max(), rel=1e-4)
    assert one.to_json()["bias"] == "c"
    (item,) = made.plan.items
    assert item.bias == "c"
    assert item.scheme.method == "absmax"
    with Runner(reference) as first, Runner(made.result.graph) as second:
        old, new = (runner.run(["z:0"], {"x:0": inputs})["z:0"] for runner in (first, second))
    assert np.abs((new - old).mean(0)).max() < 0.01 * np.abs(wanted).max()


def _normed(folder: Path, data_format: str = "NHWC") -> Graph:
    epsilon = AttrValue()
    epsilon.f = 1e-3
    b = GraphBuilder()
    y = b.conv("y", b.placeholder("x", [-1, 6, 6, 3]), b.const("w", random_weight((3, 3, 3, 5))))
    constants = [
        b.const("gamma", np.array([1, -2, 0.5, 3, 1], np.float32)),
        b.const("beta", random_weight((5,), 2)),
        b.const("mean", random_weight((5,), 3)),
        b.const("variance", np.full(5, 0.5, np.float32)),
    ]
    n = b.op("n", "FusedBatchNorm", [y, *constants], epsilon=epsilon, is_training=False,
             T=("type", 1), data_format=data_format)  # fmt: skip
    b.op("z", "Relu", [n])
    return b.graph()


def test_a_moving_mean_by_hand(tmp_path: Path) -> None:
    """mean' = mean + mean error of the convolution, measured here by running both."""
    reference = _normed(tmp_path)
    inputs = (1 + np.random.RandomState(0).rand(8, 6, 6, 3)).astype(np.float32)
    made = _made(reference, tmp_path, inputs, bits=3)
    with Runner(reference) as first, Runner(made.result.graph) as second:
        old, new = (runner.run(["y:0"], {"x:0": inputs})["y:0"] for runner in (first, second))
    wanted = (new.astype(np.float64) - old).mean((0, 1, 2))
    found = _constant(made.result.graph, "mean").astype(np.float64) - _constant(reference, "mean")
    assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 256 + 1e-6
    for name in ("gamma", "beta", "variance"):
        assert np.array_equal(_constant(made.result.graph, name), _constant(reference, name))


def test_halves_that_do_not_agree(tmp_path: Path) -> None:
    """A mean error that turns its sign from one half of the inputs to the other is no mean."""
    reference, _ = _dense()
    rows = np.random.RandomState(0).rand(8, 6).astype(np.float32)
    made = _made(reference, tmp_path, np.concatenate([rows, -rows]), bits=3)
    assert "do not agree" in made.outcomes[0].bias
    assert made.plan.items[0].bias == ""
    assert _constant(made.result.graph, "c").tolist() == _constant(reference, "c").tolist()


def _split(folder: Path, name: str) -> Tuple[Path, Dict[str, np.ndarray]]:
    """The test images of a fixture: some to measure by, the others to judge by."""
    path = folder / f"{name}.npz"
    with np.load(str(FIXTURES / f"{name}_test.npz")) as data:
        np.savez(str(path), **{"input:0": data["input:0"][:64]})
        return path, {"input:0": data["input:0"][64:]}


def _sqnr(reference: Graph, candidate: Graph, feeds: Dict[str, np.ndarray]) -> float:
    with Runner(reference) as first, Runner(candidate) as second:
        old, new = (runner.run(["softmax:0"], feeds)["softmax:0"] for runner in (first, second))
    return float(10 * np.log10(np.square(old).sum() / np.square(old - new).sum()))


@pytest.mark.parametrize(("name", "gain"), [("digits_cnn", 10.0), ("digits_mlp", 4.0)])
def test_better_on_images_that_nobody_measured(name: str, gain: float, tmp_path: Path) -> None:
    """Trained networks at 3 bits, absmax: so many dB, judged on the other images."""
    reference = graphwq.load(FIXTURES / f"{name}.pb")
    measured, others = _split(tmp_path, name)
    made = quantize_calibrated(reference, Options(bits=3, correct_bias=True), measured)
    plain = graphwq.quantize(reference, bits=3)
    scores = [_sqnr(reference, graph, others) for graph in (plain.graph, made.result.graph)]
    assert scores[1] > scores[0] + gain, scores
    for weight, codes in plain.quantized.items():
        assert np.array_equal(codes.codes, made.result.quantized[weight].codes)


@pytest.mark.parametrize("method", ["absmax", "gptq"])
def test_the_forms_agree(method: str, tmp_path: Path) -> None:
    """dequant, bake and fake_quant hold the same biases, and give the same outputs."""
    reference = graphwq.load(_CNN)
    measured, others = _split(tmp_path, "digits_cnn")
    outputs, changed = [], []
    for storage in ("dequant", "bake", "fake_quant"):
        options = Options(bits=4, method=method, correct_bias=True, storage=storage)
        made = quantize_calibrated(reference, options, measured)
        names = [item.bias for item in made.plan.items if item.bias]
        assert len(names) >= 3
        changed.append([_constant(made.result.graph, name).tobytes() for name in names])
        with Runner(made.result.graph) as runner:
            outputs.append(runner.run(["softmax:0"], others)["softmax:0"])
    assert changed[0] == changed[1] == changed[2]
    assert np.array_equal(outputs[0], outputs[1])
    assert np.allclose(outputs[0], outputs[2], atol=1e-5)


@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
def test_the_change_is_explained(storage: str, tmp_path: Path) -> None:
    """Recovered from the file alone, with the bias and how far it went; also with the plan."""
    reference = graphwq.load(_CNN)
    measured, _ = _split(tmp_path, "digits_cnn")
    options = Options(bits=4, correct_bias=True, storage=storage)
    made = quantize_calibrated(reference, options, measured)
    candidate = Graph.parse(made.result.graph.to_bytes())
    for plan in (None, made.plan):
        found = check_static(reference, candidate, plan)
        assert found.passed, [*found.structure.problems, *found.weights.problems]
        assert not found.structure.changes
        said = {check.weight: check.bias for check in found.weights.weights}
        assert said == {item.weight: item.bias for item in made.plan.items}
        assert all(check.bias_shift > 0 for check in found.weights.weights if check.bias)
    changes = diff_graphs(reference, candidate).changes
    assert {change.kind.value for change in changes} == {"weight_quantized"}
    assert all(change.explained_by for change in changes)
    corrected = [change for change in changes if "corrected by up to" in change.message]
    assert len(corrected) == sum(bool(item.bias) for item in made.plan.items)


def _with_constant(graph: Graph, name: str, values: np.ndarray) -> Graph:
    node = build(graph).main.nodes[name]
    changed = new_const(name, 1, values.shape, values.astype(np.float32), node.control_inputs)
    return Graph.parse(graph.edited({"": {name: [changed]}}).to_bytes())


def test_another_change_of_a_bias_is_not(tmp_path: Path) -> None:
    """Of a corrected bias and of one that was not: named, and the verdict is no."""
    reference = graphwq.load(_CNN)
    measured, _ = _split(tmp_path, "digits_cnn")
    made = quantize_calibrated(reference, Options(bits=4, correct_bias=True), measured)
    plain = graphwq.quantize(reference, bits=4).graph
    for graph in (made.result.graph, plain):
        values = _constant(graph, "conv1/bn/mean").copy()
        values[3] += np.float32(0.0123)
        found = check_static(reference, _with_constant(graph, "conv1/bn/mean", values))
        assert not found.passed
        assert any("conv1/bn/mean" in problem.where for problem in found.structure.problems)
        changes = diff_graphs(reference, _with_constant(graph, "conv1/bn/mean", values)).changes
        (change,) = [item for item in changes if item.path == "conv1/bn/mean"]
        assert change.explained_by is None
    shifted = _with_constant(plain, "conv1/bn/variance", _constant(plain, "conv1/bn/variance") * 2)
    assert not check_static(reference, shifted).passed


def test_a_plan_that_was_not_followed(tmp_path: Path) -> None:
    """The plan corrects biases, the file does not: a problem of the weights, a line of the diff."""
    reference = graphwq.load(_CNN)
    measured, _ = _split(tmp_path, "digits_cnn")
    made = quantize_calibrated(reference, Options(bits=4, correct_bias=True), measured)
    plain = Graph.parse(graphwq.quantize(reference, bits=4).graph.to_bytes())
    found = check_static(reference, plain, made.plan)
    kinds = [problem.kind for problem in found.weights.problems]
    assert kinds == ["bias_not_corrected"] * len([i for i in made.plan.items if i.bias])
    changes = diff_graphs(reference, plain, plan=made.plan).changes
    assert any(change.kind.value == "plan_not_followed" for change in changes)
    other_way = check_static(
        reference,
        Graph.parse(made.result.graph.to_bytes()),
        graphwq.plan(reference, bits=4),
    )
    assert not other_way.passed


def test_from_the_command_line_and_back(tmp_path: Path, capsys: Any) -> None:
    """One file from the options, from its plan, and from a plan made before; all of it passes."""
    measured, _ = _split(tmp_path, "digits_cnn")
    one, two, three = (tmp_path / f"{name}.pb" for name in ("one", "two", "three"))
    saved, before = tmp_path / "saved.json", tmp_path / "before.json"
    asked = ("--bits", 3, "--method", "mse", "--correct-bias")
    feeds = ("--calibration", measured)
    told = run(capsys, "quantize", _CNN, "-o", one, *asked, *feeds, "--save-plan", saved)
    assert told.status == 0, told.err
    assert "5 biases corrected" in told.out
    assert "conv1/bn/mean" in told.out
    assert run(capsys, "quantize", _CNN, "-o", two, "--plan", saved, *feeds).status == 0
    assert run(capsys, "plan", _CNN, "-o", before, *asked).status == 0
    assert '"bias": "conv1/bn/mean"' in before.read_text()
    assert run(capsys, "quantize", _CNN, "-o", three, "--plan", before, *feeds).status == 0
    assert one.read_bytes() == two.read_bytes() == three.read_bytes()
    checked = run(capsys, "verify", _CNN, one, "--static")
    assert checked.status == 0
    assert "5 with a corrected bias, by at most" in checked.out
    data = json.loads(run(capsys, "verify", _CNN, one, "--static", "--json").out)
    assert data["weights"]["weights"][0]["bias"] == "conv1/bn/mean"
    shown = run(capsys, "diff", _CNN, one, "--plan", saved)
    assert "no change is unexplained" in shown.out
    assert "conv1/bn/mean corrected by up to" in shown.out


@pytest.mark.mnn
def test_through_mnn(tmp_path: Path, capsys: Any) -> None:
    """The model has the corrected biases: its outputs are those of the corrected graph."""
    measured, _ = _split(tmp_path, "digits_cnn")
    asked = ("--bits", 3, "--correct-bias", "--calibration", measured)
    out = tmp_path / "out.mnn"
    told = run(capsys, "mnn", "convert", _CNN, "-o", out, "--feeds", measured, *asked)
    assert told.status == 0, told.out + told.err
    assert "as close" in told.out
    assert "5 biases corrected" in told.out


def test_options_that_mean_nothing_are_refused(tmp_path: Path, capsys: Any) -> None:
    """No inputs, made-up ones, a plan without its inputs, a plan of another bias: one line each."""
    measured, _ = _split(tmp_path, "digits_cnn")
    plan, bent, out = tmp_path / "p.json", tmp_path / "b.json", tmp_path / "x.pb"
    assert run(capsys, "plan", _CNN, "-o", plan, "--correct-bias").status == 0
    bent.write_text(plan.read_text().replace("conv1/bn/mean", "conv1/bn/variance"))
    for extra, said in (
        (("--correct-bias",), "needs real inputs"),
        (("--correct-bias", "--calibration", "synthetic"), "needs real inputs"),
        (("--plan", plan), "made-up inputs have other means"),
        (("--plan", plan, "--correct-bias"), "--correct-bias has no effect with --plan"),
        (("--plan", bent, "--calibration", measured), "no bias of 'conv1/kernel' alone"),
    ):
        told = run(capsys, "quantize", _CNN, "-o", out, *extra)
        assert told.status == 2, extra
        assert_one_line(told.err, said)
        assert not out.exists()
    with pytest.raises(InputError, match="by what the layer sees"):
        graphwq.quantize(graphwq.load(_CNN), correct_bias=True)


def test_auto_keeps_a_correction_only_where_it_wins(tmp_path: Path) -> None:
    """Absmax, absmax with corrected biases, calibrated codes: the best on the inputs is written."""
    reference = graphwq.load(_CNN)
    measured, others = _split(tmp_path, "digits_cnn")
    options = Options(bits=4, method="gptq", correct_bias=True)
    made = quantize_calibrated(reference, options, measured, auto=True)
    plain = graphwq.quantize(reference, bits=4)
    assert _sqnr(reference, made.result.graph, others) > 10 + _sqnr(reference, plain.graph, others)


def test_the_evidence_counts_the_biases(tmp_path: Path) -> None:
    """What auto decides by is the SQNR of the graph that would be written, biases included."""
    reference = graphwq.load(_CNN)
    measured, others = _split(tmp_path, "digits_cnn")
    made = quantize_calibrated(reference, Options(bits=3, correct_bias=True), measured)
    given = {
        one.item.weight: Given(made.result.quantized[one.item.weight], one.error, shift=one.shift)
        for one in made.result.weights
    }
    view = build(reference)
    sites = locate_in(view).sites
    with Runner(reference) as runner:
        said = output_sqnr(runner, view.main, sites, ["softmax:0"], [others], given)
    assert said == pytest.approx(_sqnr(reference, made.result.graph, others), abs=0.05)


@pytest.mark.parametrize(("scores", "corrected"), [((1, 5, 9), True), ((1, 9, 5), False)])
def test_auto_falls_back_to_the_better_absmax(
    scores: Tuple[int, ...], corrected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where calibrated codes lose, absmax with or without corrected biases is written."""
    import graphwq.calibration as calibration

    reference = graphwq.load(FIXTURES / "digits_mlp.pb")
    measured, _ = _split(tmp_path, "digits_mlp")
    told = iter(scores)
    monkeypatch.setattr(calibration, "output_sqnr", lambda *_args: next(told))
    options = Options(bits=3, method="gptq", correct_bias=True)
    made = quantize_calibrated(reference, options, measured, auto=True)
    if corrected:
        wanted = quantize_calibrated(reference, Options(bits=3, correct_bias=True), measured).result
    else:
        wanted = graphwq.quantize(reference, bits=3)
    assert made.result.graph.to_bytes() == wanted.graph.to_bytes()


def test_a_bias_takes_the_error_of_one_weight() -> None:
    """Where two weights meet in one op, the first has the bias."""
    b = GraphBuilder()
    one, two = b.const("w1", random_weight((30, 40))), b.const("w2", random_weight((40, 20)))
    y = b.matmul("y", one, two)
    b.op("z", "BiasAdd", [y, b.const("c", np.ones(20, np.float32))])
    plan = graphwq.plan(b.graph(), bits=4, correct_bias=True, keep_larger=True)
    assert [item.weight for item in plan.items] == ["w1", "w2"]
    assert [item.bias for item in plan.items] == ["c", ""]


def test_a_corrected_bias_is_not_exact() -> None:
    """--exact: the values of the weights are the same, the bias is not, and that is said."""
    reference = graphwq.quantize(graphwq.load(_CNN), bits=4, storage="bake").graph
    reference = Graph.parse(reference.to_bytes())
    plan = graphwq.plan(reference, bits=4, correct_bias=True)
    made = graphwq.quantize(reference, bits=4)
    shift = Shift(np.array([100] * 32), 0.125, -9)
    given = {
        one.item.weight: Given(
            made.quantized[one.item.weight],
            one.error,
            shift=shift if one.item.weight == "conv1/kernel" else None,
        )
        for one in made.weights
    }
    items = tuple(replace(i, bias=i.bias if given[i.weight].shift else "") for i in plan.items)
    view = build(reference)
    step = step_of(made.quantized["conv1/kernel"])
    shift = replace(shift, step=step)
    given["conv1/kernel"] = replace(given["conv1/kernel"], shift=shift)
    sites = locate_in(view).sites
    candidate = rebuild(reference, view, sites, replace(plan, items=items), given).graph
    candidate = Graph.parse(candidate.to_bytes())
    assert check_static(reference, candidate).passed
    found = check_static(reference, candidate, exact=True)
    assert not found.passed
    assert [problem.kind for problem in found.weights.problems] == ["not_exact"]
    assert "conv1/bn/mean" in found.weights.problems[0].message
