"""Calibrated codes through the real converter: those of ``quantize``, each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from commandline import assert_one_line, run
from conftest import FIXTURES

import graphwq
from graphwq.calibration import Wishes, quantize_calibrated
from graphwq.errors import InputError
from graphwq.mnn.convert import convert
from graphwq.mnn.model import Model, parse
from graphwq.mnn.prepare import Prepared, prepare
from graphwq.quant.scheme import QuantizedTensor
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.readback import read_back
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build

pytestmark = [pytest.mark.mnn, pytest.mark.tf]

_CNN = FIXTURES / "digits_cnn.pb"


def _check(model: Model, prepared: Prepared) -> None:
    """Codes and scales in the model are those of the plan, layer by layer."""
    stored = {layer.name: layer.quantized for layer in model.layers}
    wanted = [layer for layer in prepared.layers if layer.is_quantized]
    assert wanted
    for layer in wanted:
        found = stored[layer.name]
        assert found is not None
        assert layer.scale is not None
        used = found.codes.any(1)
        assert np.array_equal(found.codes, layer.codes)
        if layer.factor is None:
            assert np.array_equal(found.scale[used], layer.scale[used])


def _same(one: Dict[str, QuantizedTensor], other: Dict[str, QuantizedTensor]) -> None:
    assert sorted(one) == sorted(other)
    for name, quantized in one.items():
        assert np.array_equal(quantized.codes, other[name].codes), name
        assert np.array_equal(quantized.scale, other[name].scale), name


@pytest.mark.parametrize("storage", ["bake", "dequant"])
@pytest.mark.parametrize(("name", "bits"), [("digits_cnn", 4), ("digits_mlp", 2)])
def test_a_calibrated_plan_arrives(name: str, bits: int, storage: str) -> None:
    """The plan of ``quantize --method gptq`` gives the model the very codes of its .pb."""
    graph = graphwq.load(FIXTURES / f"{name}.pb")
    options = Options(bits=bits, keep_larger=True)
    made = quantize_calibrated(graph, options, samples=3, seed=1)
    plain = graphwq.quantize(graph, bits=bits, keep_larger=True).quantized
    assert any((plain[w].codes != made.result.quantized[w].codes).any() for w in plain)
    prepared = prepare(graph, Plan.loads(made.plan.dumps()), storage=storage)
    _same(prepared.result.quantized, made.result.quantized)
    assert prepared.plan.calibration == made.plan.calibration
    result = convert(prepared, run=False)
    _check(parse(memoryview(result.data)), prepared)
    assert result.to_json()["equal_codes"] == sum(q.codes.size for q in plain.values())
    direct = prepare(graph, options=Options(bits=bits, method="gptq"), wishes=Wishes(None, 1, 3))
    _same(direct.result.quantized, made.result.quantized)
    assert direct.plan.calibration == made.plan.calibration


def test_weights_that_fall_back_arrive_as_absmax() -> None:
    """A kernel in a while loop is not calibrated; its absmax codes are in the model."""
    graph = graphwq.load(FIXTURES / "digits_lstm.pb")
    prepared = prepare(graph, options=Options(bits=4, method="gptq"), wishes=Wishes(None, 0, 2))
    assert prepared.calibrated is not None
    methods = {one.weight: one.method for one in prepared.calibrated.outcomes}
    assert set(methods.values()) == {"absmax", "gptq"}
    _check(parse(memoryview(convert(prepared, run=False).data)), prepared)


def _feeds(folder: Path, count: int = 24) -> Path:
    path = folder / "feeds.npz"
    with np.load(str(FIXTURES / "digits_cnn_test.npz")) as data:
        np.savez(str(path), **{"input:0": data["input:0"][:count]})
    return path


def _codes_of_pb(path: Path) -> List[QuantizedTensor]:
    view = build(graphwq.load(_CNN))
    other = build(graphwq.load(path))
    found = [read_back(view, other, site, None) for site in locate_in(view).sites]
    return [item.quantized for item in found if item is not None]


@pytest.mark.parametrize("method", ["gptq", "auto"])
def test_the_same_options_the_same_codes(method: str, tmp_path: Path, capsys: Any) -> None:
    """quantize, convert, and convert --plan of what quantize saved: one set of codes."""
    feeds, plan, pb = _feeds(tmp_path), tmp_path / "plan.json", tmp_path / "out.pb"
    asked = ("--bits", 3, "--method", method, "--calibration", feeds)
    kept = ("--keep-larger", "--save-plan", plan)
    first = run(capsys, "quantize", _CNN, "-o", pb, *asked, *kept)
    assert first.status == 0, first.err
    models = []
    for number, options in enumerate((asked, ("--plan", plan, "--calibration", feeds))):
        out = tmp_path / f"{number}.mnn"
        told = run(capsys, "mnn", "convert", _CNN, "-o", out, "--no-run", *options)
        assert told.status == 0, told.err
        assert "calibrated on 1 input (file)" in told.out
        models.append(parse(memoryview(out.read_bytes())))
    wanted = _codes_of_pb(pb)
    assert len(wanted) == 5
    for model in models:
        found = [layer.quantized for layer in model.layers]
        for quantized in wanted:
            sizes = np.sort(np.abs(quantized.codes.reshape(-1)))  # MNN folds norms: signs turn
            assert any(
                item is not None and np.array_equal(np.sort(np.abs(item.codes.reshape(-1))), sizes)
                for item in found
            )
    told = run(capsys, "mnn", "lint", _CNN, "--no-converter", "--json", *asked)
    assert json.loads(told.out)["calibration"]["origin"] == "file"


def test_a_calibration_that_is_not_at_hand(tmp_path: Path, capsys: Any) -> None:
    """The inputs of the plan, a file that is missing, options without a method: one line each."""
    feeds, plan, pb = _feeds(tmp_path), tmp_path / "plan.json", tmp_path / "out.pb"
    asked = ("--bits", 3, "--method", "gptq", "--calibration", feeds, "--save-plan", plan)
    assert run(capsys, "quantize", _CNN, "-o", pb, *asked).status == 0
    out = tmp_path / "out.mnn"
    with np.load(str(feeds)) as data:
        np.savez(str(tmp_path / "others.npz"), **{"input:0": data["input:0"] + 1})
    for options, said in (
        (("--plan", plan), "calibrated on a file: give it"),
        (("--plan", plan, "--calibration", tmp_path / "others.npz"), "not those of the plan"),
        (("--bits", 4, "--calibration", feeds), "--calibration has no effect"),
        (("--bits", 4, "--method", "gptq", "--samples", 0), "at least 1"),
        (("--bits", 4, "--method", "gptq", "--calibration", tmp_path / "no.npz"), "no.npz"),
    ):
        told = run(capsys, "mnn", "convert", _CNN, "-o", out, *options)
        assert told.status == 2
        assert_one_line(told.err, said)
        assert not out.exists()
    told = run(capsys, "mnn", "convert", _CNN, "-o", feeds, "--force", *asked[:6])
    assert told.status == 2
    assert_one_line(told.err, "is the input itself")
    made = quantize_calibrated(graphwq.load(_CNN), Options(bits=4), samples=2)
    with pytest.raises(InputError, match="synthetic"):
        prepare(graphwq.load(_CNN), made.plan, wishes=Wishes(feeds))
