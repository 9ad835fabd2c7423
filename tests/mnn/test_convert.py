"""Through the real converter: fixtures, storage forms, mixed bits, blocks, groups, bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from conftest import FIXTURES

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.mnn import child, compare, compress_params, size
from graphwq.mnn import convert as module
from graphwq.mnn.compare import MARGIN_DB, ROUNDING_DB
from graphwq.mnn.convert import ConversionError, convert
from graphwq.mnn.model import Model, parse
from graphwq.mnn.prepare import Prepared, prepare
from graphwq.mnn.report import lint_graph
from graphwq.mnn.verdict import Fate
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan

from .layers import OUT, bias, conv, graph_of, matmul, norm, relu, transposed

pytestmark = [pytest.mark.mnn]

NAMES = ["digits_cnn", "digits_mlp", "digits_embedding", "digits_lstm"]


def _feeds(name: str) -> Any:
    with np.load(str(FIXTURES / f"{name}_test.npz")) as data:
        return {"input:0": data["input:0"][:16]}


def _check(prepared: Prepared, result: module.Converted) -> Model:
    """Every code and scale as planned, in the bytes that would be written."""
    model = parse(memoryview(result.data))
    stored = {(layer.subgraph, layer.name): layer.quantized for layer in model.layers}
    wanted = [layer for layer in prepared.layers if layer.is_quantized]
    for layer in wanted:
        found = stored.pop((layer.subgraph, layer.name))
        assert found is not None
        assert np.array_equal(found.codes, layer.codes)
        used = found.codes.any(1)
        if layer.factor is None:
            assert np.array_equal(found.scale[used], layer.scale[used])  # type: ignore[index]
        else:
            assert np.allclose(found.scale[used], layer.scale[used], rtol=2e-6)  # type: ignore
    assert all(item is None for item in stored.values())
    data = result.to_json()
    assert data["equal_codes"] == data["codes"] == sum(layer.codes.size for layer in wanted)  # type: ignore[union-attr]
    assert data["equal_scales"] == data["scales"]
    return model


@pytest.mark.tf
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("name", NAMES)
def test_fixtures(name: str, bits: int) -> None:
    """All codes and scales arrive, the outputs are as close as those of the float model.

    The converter gets the weights as bake and as dequant: the codes are the same either way.
    """
    graph = graphwq.load(FIXTURES / f"{name}.pb")
    prepared = prepare(graph, options=Options(bits=bits))
    result = convert(prepared, _feeds(name))
    model = _check(prepared, result)
    assert result.not_run == ""
    assert [check.name for check in result.outputs] == ["softmax:0"]
    assert result.passed
    assert model.uuid == prepared.uuid
    predicted = size.from_float_model(result.float_nbytes, prepared.layers)
    assert abs(predicted / len(result.data) - 1) < 0.02
    assert lint_graph(prepared, use_converter=True).predicted_nbytes == predicted
    other = prepare(graph, options=Options(bits=bits), storage="dequant")
    assert other.result.graph.to_bytes() != prepared.result.graph.to_bytes()
    _check(other, convert(other, run=False))


def test_the_same_bytes_every_time() -> None:
    """Two conversions of one graph and plan give the same file, model id included."""
    prepared = prepare(graphwq.load(FIXTURES / "digits_mlp.pb"), options=Options(bits=4))
    assert convert(prepared, run=False).data == convert(prepared, run=False).data


def test_an_input_that_is_quantized_already() -> None:
    """A dequant graph converts to the very model of the graph that it was made from."""
    graph = graphwq.load(FIXTURES / "digits_cnn.pb")
    quantized = graphwq.quantize(graph, 3, keep_larger=True).graph
    models = []
    for source in (graph, quantized):
        prepared = prepare(source, options=Options(bits=3))
        models.append(_check(prepared, convert(prepared, run=False)))
    for left, right in zip(models[0].layers, models[1].layers):
        assert left.quantized is not None
        assert right.quantized is not None
        assert np.array_equal(left.quantized.codes, right.quantized.codes)


@pytest.mark.parametrize("storage", ["bake", "dequant"])
def test_mixed_bits(storage: str) -> None:
    """Some layers 8, some 4, some 2, one float: in the model as in the plan."""
    graph = graphwq.load(FIXTURES / "digits_cnn.pb")
    rules = (
        graphwq.Rule("conv*", 4),
        graphwq.Rule("pointwise/*", 2),
        graphwq.Rule("output*", None),
    )
    plan = graphwq.plan(graph, 8, rules=rules, keep_larger=True)
    prepared = prepare(graph, Plan.loads(plan.dumps()), storage=storage)
    model = _check(prepared, convert(prepared, run=False))
    found = {layer.name: layer.quantized and layer.quantized.num_bits for layer in model.layers}
    assert found == {
        "conv1/Conv2D": 4,
        "depthwise/depthwise": 8,
        "pointwise/Conv2D": 2,
        "conv2/BiasAdd": 4,
        "logits__matmul_converted": None,
    }


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
@pytest.mark.parametrize("method", ["absmax", "mse", "squant"])
def test_a_mixed_plan(name: str, method: str) -> None:
    """Widths that a target chose, codes of each method that needs no data: in the model."""
    graph = graphwq.load(FIXTURES / f"{name}.pb")
    plan = graphwq.plan(graph, storage="bake", target_bits=3.5, method=method, keep_larger=True)
    prepared = prepare(graph, Plan.loads(plan.dumps()))
    model = _check(prepared, convert(prepared, run=False))
    widths = {layer.quantized.num_bits for layer in model.layers if layer.quantized is not None}
    assert widths == {item.scheme.num_bits for item in plan.items}
    assert len(widths) > 1


def _blocks(b: GraphBuilder) -> None:
    c = b.op("sum", "BiasAdd", [conv(b, (3, 3, 64, OUT), 64), bias(b)])
    flat = b.op("flat", "Reshape", [relu(b, c), b.const("shape", [1, 1024])])
    relu(b, b.matmul("d", flat, b.const("w2", random_weight((1024, OUT)))), "z")


def _grouped(b: GraphBuilder) -> None:
    relu(b, norm(b, "n", b.op("sum", "BiasAdd", [conv(b, (3, 3, 4, OUT)), bias(b)])))


def _negative_norm(b: GraphBuilder) -> None:
    gamma = np.linspace(-2, 2, OUT).astype(np.float32)
    gamma[3] = 0
    relu(b, norm(b, "n", conv(b), gamma))


def _transposed_one(b: GraphBuilder) -> None:
    relu(b, transposed(b, 1))


def _transposed_many(b: GraphBuilder) -> None:
    relu(b, transposed(b, 4))


def _half_shared(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((8, OUT)))
    for index in range(3):
        relu(b, b.matmul(f"c{index}", b.placeholder(f"x{index}", [2, 8]), w), f"y{index}")


@pytest.mark.tf
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize(
    ("build", "options", "count"),
    [
        (_blocks, {"granularity": "group", "group_size": 16}, 2),
        (_blocks, {"granularity": "group", "group_size": 32}, 2),
        (_grouped, {}, 2),
        (_negative_norm, {}, 1),
        (_transposed_one, {}, 1),
        (_transposed_many, {}, 0),
        (_half_shared, {}, 3),
    ],
)
def test_special_layers(build: Any, options: Any, count: int, bits: int) -> None:
    """Blocks, groups, folded norms of either sign, transposed and shared weights."""
    prepared = prepare(graph_of(build), options=Options(bits=bits, **options))
    assert sum(layer.is_quantized for layer in prepared.layers) == count
    result = convert(prepared)
    _check(prepared, result)
    if build is _grouped:  # TensorFlow 1.15 has no grouped convolution on a CPU
        assert "TensorFlow cannot" in result.not_run
    else:
        assert result.outputs
    assert result.passed


@pytest.mark.tf
def test_half_and_double_weights() -> None:
    """Weights of double precision are floats on the same grid in MNN."""

    def build(b: GraphBuilder) -> None:
        w = b.const("w", random_weight((8, OUT)).astype(np.float64))
        cast = b.cast("cast", w, 2, 1)
        relu(b, b.matmul("c", b.placeholder("x", [1, 8]), cast))

    prepared = prepare(graph_of(build), options=Options(bits=4))
    result = convert(prepared)
    _check(prepared, result)
    assert result.passed


def _unreadable() -> Graph:
    b = GraphBuilder()
    x = matmul(b)
    b.op("y", "NoSuchOpAnywhere", [x])
    return b.graph()


def test_a_graph_that_cannot_be_read() -> None:
    """The converter returns 0 and writes nothing: its reason is the error."""
    with pytest.raises(child.ConverterError) as caught:
        convert(prepare(_unreadable()))
    assert caught.value.reason == "These Op Not Support: Tensorflow::NoSuchOpAnywhere"
    assert isinstance(caught.value, InputError)
    report = lint_graph(prepare(_unreadable()), use_converter=True)
    assert report.refusal == caught.value.reason
    assert report.predicted_nbytes == 0


def test_a_converter_that_crashes() -> None:
    """A half Const makes the converter 3.6.0 die of a signal: in the child, with a message."""

    def build(b: GraphBuilder) -> None:
        w = b.const("w", random_weight((8, OUT)).astype(np.float16))
        cast = b.cast("cast", w, 19, 1)
        relu(b, b.matmul("c", b.placeholder("x", [1, 8]), cast))

    with pytest.raises(child.ConverterError, match="signal 11"):
        convert(prepare(graph_of(build)))


def test_a_converter_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit the child is killed."""
    monkeypatch.setattr(child, "TIME_LIMIT", 0.02)
    with pytest.raises(child.ConverterError, match="did not finish within"):
        convert(prepare(graph_of(lambda b: relu(b, matmul(b)))))


@pytest.mark.parametrize("place", ["before", "while", "after"])
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The graph is not blamed: the converter does not look whether its writes arrive."""

    def full(*_: Any, **_arrays: Any) -> None:
        raise OSError(28, "No space left on device")

    target = {"before": (Path, "write_bytes"), "while": (os, "posix_fallocate")}
    if place == "after":
        monkeypatch.setattr(np, "savez", full)
    else:
        monkeypatch.setattr(*target[place], full)
    with pytest.raises(
        InputError, match="temporary files .* cannot be written: No space"
    ) as caught:
        convert(prepare(graph_of(lambda b: relu(b, matmul(b)))))
    assert not isinstance(caught.value, child.ConverterError)


def _forged(prepared: Prepared, **changes: Any) -> Prepared:
    """The same with another idea of its first layer."""
    from dataclasses import replace

    first = replace(prepared.layers[0], **changes)
    return replace(prepared, layers=(first, *prepared.layers[1:]))


def _flipped(codes: np.ndarray) -> np.ndarray:
    changed = codes.copy()
    changed[3, 5] += 1 if changed[3, 5] <= 0 else -1
    return changed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "unknown"}, "knows no layer of this name"),
        ({"subgraph": "other/body"}, "knows no layer of this name"),
        ({"codes": _flipped}, "1 of 128 codes differ"),
        ({"scale": lambda scale: scale * np.float32(1.0000002)}, "scales differ"),
        ({"block_size": 0, "num_bits": 5}, "codes differ"),
        ({"fate": Fate.PLANNED_FLOAT}, "plan does not name"),
    ],
)
def test_differences_are_found(changes: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One code, one scale, another name: the comparison of plan and model does not let it pass."""
    prepared = prepare(graph_of(lambda b: relu(b, matmul(b))), options=Options(bits=4))
    layer = prepared.layers[0]
    made = {
        key: value(getattr(layer, key)) if callable(value) else value
        for key, value in changes.items()
    }
    forged = _forged(prepared, **made)
    if "fate" in changes:
        records = prepared.records()
        monkeypatch.setattr(Prepared, "records", lambda self: records)
        said = "but the plan keeps it float"
    with pytest.raises(ConversionError, match=said):
        convert(forged, run=False)


def test_asymmetric_records_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that the converter quantized with its own default is not what was planned."""
    prepared = prepare(graph_of(lambda b: relu(b, matmul(b))), options=Options(bits=4))
    real = child.convert

    def careless(source: Path, target: Path, options: Any = ()) -> str:
        return real(source, target, ["--weightQuantBits", "4"] if options else ())

    monkeypatch.setattr(child, "convert", careless)
    with pytest.raises(ConversionError, match="asymmetrically"):
        convert(prepared, run=False)


def test_append_to_a_pruners_file(tmp_path: Path) -> None:
    """The uuid and the algorithms of an earlier step reach the converter along with our records."""
    path = tmp_path / "pruner.json"
    text = {"version": "0.0.0", "mnnUuid": "of-the-pruner", "algo": [{"type": "PRUNE"}]}
    path.write_text(json.dumps(text))
    prepared = prepare(graph_of(lambda b: relu(b, matmul(b))), options=Options(bits=4))
    result = convert(prepared, run=False, append_to=path)
    assert parse(memoryview(result.data)).uuid == "of-the-pruner"
    _check(prepared, result)
    assert json.loads(result.records)["algo"][0] == {"type": "PRUNE"}
    path.write_text("no compression file")
    with pytest.raises(InputError, match="not an MNN compression file"):
        convert(prepared, run=False, append_to=path)


def test_records_for_a_converter_of_ones_own(tmp_path: Path) -> None:
    """The universal command (bits, no asymmetric flag, records) gives the very same codes."""
    prepared = prepare(graphwq.load(FIXTURES / "digits_mlp.pb"), options=Options(bits=4))
    source, target, params = (tmp_path / name for name in ("a.pb", "a.mnn", "a.bin"))
    prepared.result.save(source)
    records = prepared.records(keep_float=True)
    params.write_bytes(compress_params.create(records, prepared.uuid, as_json=False))
    child.convert(
        source, target, ["--weightQuantBits", "4", "--compressionParamsFile", str(params)]
    )
    checks = compare.check_layers(prepared.layers, parse(memoryview(target.read_bytes())))
    assert checks
    assert [check.problem for check in checks] == [""] * len(checks)


def test_the_child_has_no_network(tmp_path: Path) -> None:
    """Sockets are gone in the child, and nothing is left in the folder but what was asked for."""
    code = "import worker, sys; sys.argv[1:] = ['convert', '--version']; sys.path.insert(0, '');"
    code += "worker.main();\ntry:\n import socket\nexcept ImportError: print('no sockets')"
    import subprocess
    import sys

    found = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv.pop(1));" + code]
        + [str(Path(child.__file__).parent)],
        cwd=str(tmp_path), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert b"no sockets" in found.stdout


def test_sqnr() -> None:
    """By hand: an error of a hundredth is 40 dB; NaN against a number is the worst there is."""
    ones = np.ones(4, np.float32)
    assert compare.sqnr_db(ones, ones) == np.inf
    assert abs(compare.sqnr_db(ones, ones * np.float32(1.01)) - 40) < 1e-3
    assert compare.sqnr_db(ones, np.array([1, 1, 1, np.nan])) == -np.inf
    assert compare.sqnr_db(np.zeros(4), ones) == -np.inf
    nan = np.array([1, np.nan])
    assert compare.sqnr_db(nan, nan) == np.inf


@pytest.mark.parametrize(
    ("quantized", "floats", "passed"),
    [
        (50.0, 50.0, True),
        (47.0, 50.0, True),
        (46.9, 50.0, False),
        (ROUNDING_DB, 150.0, True),
        (ROUNDING_DB - 0.1, 150.0, False),
        (ROUNDING_DB - MARGIN_DB, ROUNDING_DB, True),
        (-np.inf, 30.0, False),
        (50.0, 19.9, False),
        (np.inf, np.inf, True),
    ],
)
def test_the_margin(quantized: float, floats: float, passed: bool) -> None:
    """Within 3 dB of the float pair; above 100 dB both are float32 rounding."""
    check = compare.OutputCheck("y:0", quantized, floats)
    assert check.passed is passed
    assert check.is_float_wrong is (floats < 20)


def test_rounding_of_the_quantized_graph() -> None:
    """What the unquantized model of the quantized graph differs by is no loss on the way."""
    assert not compare.OutputCheck("y:0", 86.0, 111.0).passed
    assert compare.OutputCheck("y:0", 86.0, 111.0, 88.9).passed
    assert not compare.OutputCheck("y:0", 86.0, 111.0, 89.1).passed


def test_the_functions_of_the_package(tmp_path: Path) -> None:
    """graphwq.lint_mnn and graphwq.convert_mnn: from a path, with the options of graphwq.plan."""
    source, target = FIXTURES / "digits_mlp.pb", tmp_path / "out.mnn"
    report = graphwq.lint_mnn(source, 4, rules=(graphwq.Rule("output*", 8),))
    assert [layer.num_bits for layer in report.layers] == [4, 4, 8]
    result = graphwq.convert_mnn(source, target, 4, rules=(graphwq.Rule("output*", 8),))
    assert target.read_bytes() == result.data
    assert abs(report.predicted_nbytes / len(result.data) - 1) < 0.02
    with pytest.raises(InputError, match="exists"):
        graphwq.convert_mnn(source, target)
    plan = graphwq.plan(source, 2, keep_larger=True)
    again = graphwq.convert_mnn(graphwq.load(source), target, plan=plan, force=True)
    assert len(again.data) < len(result.data)
    assert graphwq.lint_mnn(source, use_converter=False).float_nbytes == 0
