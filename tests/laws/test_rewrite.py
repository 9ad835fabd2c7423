"""Laws 2, 3 and 4: nothing else moves, twice is once, and the storage forms agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from hypothesis import given
from hypothesis import strategies as st
from rewriting import (
    BITS,
    CASES,
    COMBINATIONS,
    GRANULARITIES,
    STORAGES,
    assert_only_edits_changed,
    assert_same_bits,
    assert_second_run_does_nothing,
    examples,
    folding_limit,
    function_graph,
    gather,
    value,
)

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import attr_of_type
from graphwq.survey.view import build

_FIXTURES = ("digits_cnn", "digits_mlp", "digits_lstm", "digits_embedding")


def _mixed() -> Graph:
    """Weights of three dtypes, one of them shared, and nodes of no interest."""
    b = GraphBuilder()
    single, half, double = (("type", kind) for kind in (1, dtypes.DT_HALF, dtypes.DT_DOUBLE))
    x = b.placeholder("x", [-1, 64])
    w = b.const("shared", random_weight((64, 64), 1))
    read = b.op("shared/read", "Identity", [w])
    h = b.matmul("h", b.matmul("g", x, read), read)
    h16 = b.op("h16", "Cast", [h], SrcT=single, DstT=half)
    w16 = b.const("w16", random_weight((64, 70), 2, np.float16))
    y16 = b.op("y16", "MatMul", [h16, w16], T=half)
    y64 = b.op("y64", "Cast", [y16], SrcT=half, DstT=double)
    w64 = b.const("w64", random_weight((70, 33), 3, np.float64))
    b.op("y", "MatMul", [y64, w64], T=double)
    b.op("summary", "NoOp", ["^y"])
    return b.graph()


_GRAPHS = {
    "dense": lambda: dense(64, 50),
    "convolution": lambda: convolution((3, 3, 7, 9)),
    "table": lambda: gather(row=(33,)).graph,
    "function": lambda: function_graph(shape=(64, 64)),
    "half function": lambda: function_graph(np.float16, (64, 64)),
    "mixed": _mixed,
}


@pytest.mark.parametrize(("bits", "storage", "granularity"), COMBINATIONS)
@pytest.mark.parametrize("name", sorted(_GRAPHS))
def test_laws_2_and_3(name: str, bits: int, storage: str, granularity: str) -> None:
    """Law 2: nodes that no edit names are byte-identical. Law 3: a second run changes nothing."""
    graph = _GRAPHS[name]()
    options = {"granularity": granularity, "group_size": 9, "keep_larger": True}
    result = graphwq.quantize(graph, bits, storage, **options)
    assert result.modified
    assert result.weights
    assert_only_edits_changed(graph, result)
    assert_second_run_does_nothing(result, bits=bits, storage=storage, **options)


def _load(name: str, folder: Path) -> Graph:
    return graphwq.load(folder / f"{name}.pb")


@pytest.mark.parametrize(("bits", "storage", "granularity"), COMBINATIONS)
@pytest.mark.parametrize("name", _FIXTURES)
def test_laws_2_and_3_on_real_networks(
    name: str, bits: int, storage: str, granularity: str, fixtures: Path
) -> None:
    """The same for the trained networks of fixtures/."""
    graph = _load(name, fixtures)
    options = {"granularity": granularity, "group_size": 16}
    result = graphwq.quantize(graph, bits, storage, **options)
    assert result.modified
    assert_only_edits_changed(graph, result)
    assert_second_run_does_nothing(result, bits=bits, storage=storage, **options)


@pytest.mark.parametrize("group_size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("bits", BITS)
def test_law_3_for_small_groups(bits: int, group_size: int) -> None:
    """With groups so small that there are as many scales as bytes of codes, the second run still
    knows scales from weights."""
    options = {"bits": bits, "granularity": "group", "group_size": group_size, "keep_larger": True}
    result = graphwq.quantize(dense(64, 64), **options)
    assert result.modified
    assert_second_run_does_nothing(result, **options)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8])
def test_law_3_for_short_channels(rows: int, bits: int, storage: str) -> None:
    """The same for weights with few values a channel, which are quantized without being asked to
    keep larger forms: 2 x 1000 at 4 bits holds as many scales as bytes of codes."""
    options = {"bits": bits, "storage": storage, "keep_larger": rows == 1}
    result = graphwq.quantize(dense(rows, 1000), **options)
    assert_second_run_does_nothing(result, **options)
    assert result.modified or rows < 3


@pytest.mark.parametrize("first", STORAGES)
@pytest.mark.parametrize("second", STORAGES)
def test_another_form_the_second_time(first: str, second: str) -> None:
    """What is stored as integers is left alone whatever is asked for the second time."""
    graph = dense(64, 64)
    once = graphwq.quantize(graph, 8, first)
    twice = graphwq.quantize(once.graph, 8, second)
    if first == "bake":
        assert twice.modified == (second != "bake")
        baked = value(once.graph, "w")
        assert_same_bits(value(twice.graph, "w"), baked)
        return
    assert not twice.modified
    assert twice.graph.to_bytes() == once.graph.to_bytes()
    assert {skip.reason for skip in twice.skips} <= {
        "already_quantized",
        "scalar",
        "arithmetic_on_path",
        "not_a_weight",
    }


@pytest.mark.parametrize("bits", BITS)
def test_fewer_bits_the_second_time(bits: int) -> None:
    """A packed weight is not packed again at another width: its bits are what they are."""
    once = graphwq.quantize(dense(128, 128), 4)
    assert not graphwq.quantize(once.graph, bits, keep_larger=True).modified


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", sorted(_GRAPHS))
def test_law_4(name: str, bits: int, granularity: str) -> None:
    """Law 4: dequant, bake and fake_quant of one plan are the same weights, bit for bit."""
    graph = _GRAPHS[name]()
    options = {"granularity": granularity, "group_size": 9, "keep_larger": True}
    plan = graphwq.plan(graph, bits, **options)
    storages = STORAGES if granularity != "group" else STORAGES[:2]
    results = {storage: graphwq.quantize(graph, plan=plan, storage=storage) for storage in storages}
    for item in plan.items:
        baked = value(results["bake"].graph, item.weight)
        for storage in storages:
            assert_same_bits(value(results[storage].graph, item.weight), baked, item.weight)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", _FIXTURES)
def test_law_4_on_real_networks(name: str, bits: int, fixtures: Path) -> None:
    """The same for the trained networks of fixtures/."""
    plan = graphwq.plan(_load(name, fixtures), bits)
    results = {
        storage: graphwq.quantize(_load(name, fixtures), plan=plan, storage=storage).graph
        for storage in STORAGES
    }
    assert plan.items
    for item in plan.items:
        baked = value(results["bake"], item.weight)
        assert_same_bits(value(results["dequant"], item.weight), baked, item.weight)
        assert_same_bits(value(results["fake_quant"], item.weight), baked, item.weight)


@pytest.mark.parametrize("bits", [8, 3])
@pytest.mark.parametrize("name", sorted(set(CASES) - {"product_of_weights"}))
def test_law_4_in_pieces(name: str, bits: int) -> None:
    """The same where dequant cuts or gathers and the other forms do not."""
    case = CASES[name]()
    with folding_limit(case.limit):
        plan = graphwq.plan(case.graph, bits, keep_larger=True)
        results = {
            storage: graphwq.quantize(case.graph, plan=plan, storage=storage).graph
            for storage in STORAGES
        }
    baked = value(results["bake"], "w")
    assert_same_bits(value(results["dequant"], "w"), baked)
    assert_same_bits(value(results["fake_quant"], "w"), baked)


_OPTIONS = st.fixed_dictionaries(
    {
        "bits": st.sampled_from(BITS),
        "storage": st.sampled_from(STORAGES),
        "granularity": st.sampled_from(GRANULARITIES),
        "group_size": st.integers(1, 40),
        "keep_larger": st.booleans(),
        "min_elements": st.sampled_from([0, 30, 1000]),
        "scale_bits": st.sampled_from([24, 16, 13]),
    }
)


@st.composite
def _networks(draw: Any) -> Graph:
    """A chain of dense layers, with reads, control inputs, devices and odd constants between."""
    b = GraphBuilder()
    width = draw(st.integers(1, 24))
    x = b.placeholder("x", [-1, width])
    b.op("gate", "NoOp", [])
    for layer in range(draw(st.integers(1, 4))):
        following = draw(st.integers(1, 24))
        name = draw(
            st.sampled_from([f"w{layer}", f"q{layer}", f"scope/{layer}/kernel", f"q-{layer}/4"])
        )
        data = random_weight((width, following), draw(st.integers(0, 99)), std=draw(_STD))
        if draw(st.booleans()):
            data[np.abs(data) < np.median(np.abs(data))] = 0
        transposed = draw(st.booleans())
        control = ["gate"] if draw(st.booleans()) else []
        device = draw(st.sampled_from(["", "/device:CPU:0"]))
        w = b.const(name, data.T if transposed else data, control, device)
        if draw(st.booleans()):
            w = b.op(f"{name}/read", "Identity", [w])
        x = b.matmul(f"y{layer}", x, w, tb=transposed)
        if draw(st.booleans()):
            x = b.op(
                f"bias{layer}", "BiasAdd", [x, b.const(f"b{layer}", random_weight((following,)))]
            )
        width = following
    return b.graph()


_STD = st.sampled_from([1e-30, 1e-6, 0.1, 1.0, 1e6, 1e30])


@examples(150)
@given(_networks(), _OPTIONS)
def test_laws_on_random_networks(graph: Graph, options: Dict[str, Any]) -> None:
    """Laws 2, 3 and 4 for random chains of layers and random wishes."""
    if options["storage"] == "fake_quant" and options["granularity"] == "group":
        options["granularity"] = "channel"
    result = graphwq.quantize(graph, **options)
    assert_only_edits_changed(graph, result)
    assert_second_run_does_nothing(result, **options)
    for name, quantized in result.quantized.items():
        assert_same_bits(value(result.graph, name), quantized.dequantize(), name)
    fates = {weight.item.weight for weight in result.weights} | {skip.node for skip in result.skips}
    floats = {
        item.name
        for item in graph.nodes
        if item.op == "Const" and attr_of_type(item, "dtype") == dtypes.DT_FLOAT
    }
    assert fates == floats


def test_the_graph_that_is_given_stays_as_it_is() -> None:
    """A rewrite makes a new graph; the old one keeps its bytes."""
    graph = dense(64, 64)
    before = graph.to_bytes()
    for storage in STORAGES:
        graphwq.quantize(graph, 4, storage)
    assert graph.to_bytes() == before


def test_the_result_is_a_graph_without_faults() -> None:
    """The result passes the checks that an input has to pass: no cycle, no lost input."""
    for name, make in _GRAPHS.items():
        for bits in (8, 3):
            view = build(graphwq.quantize(make(), bits, keep_larger=True).graph)
            view.check()
            assert name


def test_nothing_to_do_gives_the_very_same_bytes(tmp_path: Path) -> None:
    """A graph without weights is written as it was read, and modified is False."""
    b = GraphBuilder()
    b.op("y", "Relu", [b.placeholder("x", [-1, 3])])
    result = graphwq.quantize(b.graph())
    assert not result.modified
    assert (result.edits, result.weights, result.shared_bytes) == ((), (), 0)
    result.save(tmp_path / "out.pb")
    assert (tmp_path / "out.pb").read_bytes() == b.to_bytes()


def test_error_measures() -> None:
    """sqnr_db and max_abs_error of a result are those of the weights in the new graph."""
    graph = dense(64, 64)
    original = value(graph, "w").astype(np.float64)
    for bits in BITS:
        result = graphwq.quantize(graph, bits)
        error = original - value(result.graph, "w")
        expected = 10 * np.log10((original**2).sum() / (error**2).sum())
        assert result.weights[0].error.sqnr_db == pytest.approx(expected, abs=1e-3)
        assert result.weights[0].error.max_abs_error == pytest.approx(np.abs(error).max(), rel=1e-5)
        scale = result.quantized["w"].scale
        assert (np.abs(error) <= scale / 2 * (1 + 1e-6)).all()


def test_progress_is_told_once_a_weight() -> None:
    """progress(done, total, weight) is called in the order of the plan."""
    calls = []

    def progress(done: int, total: int, weight: str) -> None:
        calls.append((done, total, weight))

    result = graphwq.quantize(_mixed(), progress=progress)
    expected: Tuple[Tuple[int, int, str], ...] = tuple(
        (number, len(result.weights), weight.item.weight)
        for number, weight in enumerate(result.weights, 1)
    )
    assert tuple(calls) == expected
    assert len(calls) == 3
