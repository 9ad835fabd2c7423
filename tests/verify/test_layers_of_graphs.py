"""Where the error comes from: numbers by hand, every kind of path, and the weights to keep."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import CASES, NO_CPU_KERNEL, function_graph

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner
from graphwq.verify import sinks
from graphwq.verify.analysis import analyse_layers
from graphwq.verify.feeds import FILE, Feeds
from graphwq.verify.interface import find_interface
from graphwq.verify.keep import KeepResult, _shortest_prefix, _without_needless, fewest_to_keep
from graphwq.verify.lab import Lab, changed_weights, chunked
from graphwq.verify.layers import FUNCTION, UNUSED, LayersResult, NodeError
from graphwq.verify.outputs import compare_outputs

pytestmark = pytest.mark.tf


def _feeds(*samples: Mapping[str, np.ndarray]) -> Feeds:
    return Feeds(tuple(dict(sample) for sample in samples), FILE)


def _analyse(graph: Graph, made: Graph, feeds: Feeds, **options: Any) -> LayersResult:
    view = build(graph)
    sites = locate_in(view).sites
    tensors = options.pop("tensors", None) or find_interface(graph, view).tensors
    found = analyse_layers(graph, made, view, build(made), sites, tensors, feeds, Runner, **options)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert LayersResult.from_json(json.loads(text)) == found, "the JSON form loses nothing"
    return found


def _chain(sizes: Sequence[int] = (6, 5, 4)) -> Graph:
    """x -> MatMul(w0) + b0 -> MatMul(w1) + b1 -> ... -> y."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, sizes[0]])
    for index, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        w = b.const(f"w{index}", random_weight((rows, columns), index, std=0.5))
        x = b.matmul(f"m{index}", x, b.op(f"w{index}/read", "Identity", [w]))
        bias = b.const(f"b{index}", random_weight((columns,), 50 + index))
        x = b.op(f"a{index}", "Add", [x, bias])
    b.op("y", "Identity", [x])
    return b.graph()


def _with_const(graph: Graph, name: str, value: np.ndarray) -> Graph:
    return graph.edited({"": {name: (new_const(name, 1, value.shape, value),)}})


def _x(rows: int = 3, columns: int = 6, seed: int = 0) -> Dict[str, np.ndarray]:
    return {"x:0": random_weight((rows, columns), seed, std=1.0)}


def _value(graph: Graph, name: str) -> np.ndarray:
    tensor = {node.name: node for node in graph.nodes}[name].tensor()
    assert tensor is not None
    return tensor.numpy()


def _noise(one: np.ndarray, two: np.ndarray) -> Tuple[float, float]:
    one, two = one.astype(np.float64), two.astype(np.float64)
    return float((one**2).sum()), float(((one - two) ** 2).sum())


def test_the_errors_by_hand() -> None:
    """Two matrices, both changed: isolated with one of them, accumulated with both."""
    graph = _chain()
    w0, w1, b0, b1 = (_value(graph, name) for name in ("w0", "w1", "b0", "b1"))
    v0, v1 = w0 * np.float32(1.1), w1 + np.float32(0.05)
    made = _with_const(_with_const(graph, "w0", v0), "w1", v1)
    samples = [_x(seed=1), _x(2, seed=2)]
    found = _analyse(graph, made, _feeds(*samples))
    assert [(item.weight, item.node, item.op, item.reason) for item in found.nodes] == [
        ("w0", "m0", "MatMul", ""),
        ("w1", "m1", "MatMul", ""),
    ]
    x = np.concatenate([sample["x:0"] for sample in samples])
    inner, bent = x @ w0 + b0, x @ v0 + b0
    expected: List[Tuple[np.ndarray, np.ndarray, Any]] = [
        (x @ w0, x @ v0, found.nodes[0].isolated),
        (x @ w0, x @ v0, found.nodes[0].accumulated),
        (inner @ w1, inner @ v1, found.nodes[1].isolated),
        (inner @ w1, bent @ v1, found.nodes[1].accumulated),
        (inner @ w1 + b1, bent @ w1 + b1, found.effects[0].outputs),
        (inner @ w1 + b1, inner @ v1 + b1, found.effects[1].outputs),
    ]
    for one, two, (difference,) in expected:
        signal, noise = _noise(one, two)
        assert difference.sum_squares == pytest.approx(signal, rel=1e-5)
        assert difference.sum_squared_errors == pytest.approx(noise, rel=1e-3)
        assert difference.samples == 2
    assert found.nodes[0].isolated[0].sqnr_db == pytest.approx(20, abs=1e-3), "a tenth off"
    assert found.passed
    order = sorted(found.effects, key=lambda effect: effect.sqnr_db or 0)
    assert found.worst(1) == (order[0],)


def test_an_edited_bias_shows_where_it_is() -> None:
    """It is no weight: isolated it does nothing, accumulated it shows from there on."""
    graph = _chain((6, 5, 4, 3))
    made = _with_const(graph, "b0", _value(graph, "b0") + np.float32(1))
    for index in range(3):
        weight = _value(graph, f"w{index}")
        made = _with_const(made, f"w{index}", weight * np.float32(1.0001))
    found = {item.node: item for item in _analyse(graph, made, _feeds(_x())).nodes}
    levels = [found[f"m{index}"].accumulated[0].sqnr_db or 0 for index in range(3)]
    assert levels[0] > 75
    assert max(levels[1:]) < 30
    assert min(item.isolated[0].sqnr_db or 0 for item in found.values()) > 75


def test_nothing_changed() -> None:
    """It is said."""
    graph = _chain()
    found = _analyse(graph, graph, _feeds(_x()), keep="float", min_sqnr=30.0)
    assert found.nodes == found.effects == ()
    assert found.keep is None
    assert "no weight is changed" in found.notes[0]


def test_a_weight_that_becomes_nan() -> None:
    """The op is named."""
    graph = _chain()
    bad = _value(graph, "w0").copy()
    bad[0, 0] = math.nan
    found = _analyse(graph, _with_const(graph, "w0", bad), _feeds(_x()))
    assert not found.passed
    assert [(item.kind, item.where) for item in found.problems] == [("non_finite", "m0:0")]
    assert found.effects[0].noise == math.inf


def test_an_op_that_no_output_needs() -> None:
    """Its placeholder is not fed; the reason is given."""
    b = GraphBuilder()
    w = b.const("w", random_weight((6, 4)))
    b.matmul("y", b.placeholder("x", [-1, 6]), w)
    b.matmul("z", b.placeholder("other", [-1, 6]), w)
    graph = b.graph()
    made = graphwq.quantize(graph, 4, keep_larger=True).graph
    found = _analyse(graph, made, _feeds(_x()), tensors=["y:0"])
    assert {item.node: item.reason for item in found.nodes} == {"y": "", "z": UNUSED}


@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_the_budget_changes_nothing(budget: int) -> None:
    """Piece by piece or at once: the same numbers."""
    graph = _chain((6, 5, 4, 3))
    made = graphwq.quantize(graph, 3, keep_larger=True).graph
    seen: List[Tuple[int, int, str]] = []
    found = _analyse(
        graph,
        made,
        _feeds(_x(), _x(seed=5)),
        budget=budget,
        progress=lambda *step: seen.append(step),
    )
    assert found == _analyse(graph, made, _feeds(_x(), _x(seed=5)))
    assert [step[0] for step in seen] == list(range(1, 7))
    assert {step[1] for step in seen} == {6}


def test_chunks() -> None:
    """Within the budget, at least one each, everything once."""
    assert chunked([], 10) == []
    assert chunked([5, 5, 5], 10) == [(0, 2), (2, 3)]
    assert chunked([50, 5, 5, 50], 10) == [(0, 1), (1, 3), (3, 4)]


def _only(graph: Graph, weight: str, values: Mapping[str, np.ndarray]) -> Graph:
    """The graph with one weight replaced, as bake does it."""
    site = {site.weight: site for site in graphwq.locate(graph).sites}[weight]
    for scope in graph.scopes:
        for node in scope.nodes:
            if scope.name == site.scope and node.name == site.node:
                new = new_const(
                    node.name, site.dtype, site.shape, values[weight], node.control_inputs
                )
                return graph.edited({scope.name: {node.name: (new,)}})
    raise AssertionError(weight)


def _check_effects(graph: Graph, feeds: Feeds, tensors: Sequence[str]) -> LayersResult:
    """Every effect is that of a graph in which only this weight is replaced."""
    made = graphwq.quantize(graph, 4, keep_larger=True).graph
    found = _analyse(graph, made, feeds, tensors=list(tensors))
    values = changed_weights(build(graph), build(made), graphwq.locate(graph).sites)
    assert sorted(values) == sorted(effect.weight for effect in found.effects)
    assert values
    for effect in found.effects:
        with Runner(graph, False) as one, Runner(_only(graph, effect.weight, values), False) as two:
            expected = compare_outputs(one, two, tensors, feeds)
        for got, wanted in zip(effect.outputs, expected.outputs):
            assert got.tensor == wanted.tensor
            assert got.sum_squares == pytest.approx(wanted.sum_squares, rel=1e-5)
            assert got.sum_squared_errors == pytest.approx(
                wanted.sum_squared_errors, rel=1e-3, abs=1e-10 * wanted.sum_squares
            )
    return found


@pytest.mark.parametrize("name", sorted(set(CASES) - set(NO_CPU_KERNEL)))
def test_every_kind_of_path(name: str) -> None:
    """Loops, branches, splits, ties: effects as with a graph of its own for each weight."""
    case = CASES[name]()
    found = _check_effects(case.graph, _feeds(case.feeds), case.outputs)
    for item in found.nodes:
        assert bool(item.reason) is (not item.isolated)
        assert len(item.accumulated) == len(item.isolated)
    reasons = {item.reason for item in found.nodes}
    if "while_loop" in name:
        assert reasons == {sinks.LOOP}
    if name == "inside_branch":
        assert reasons == {sinks.CONDITIONAL}


def test_a_weight_in_a_function() -> None:
    """Its op cannot be fetched; what it does to the outputs is measured all the same."""
    graph = function_graph()
    feeds = _feeds({"x:0": random_weight((2, 24), 9, std=1.0)})
    found = _check_effects(graph, feeds, ["y:0"])
    assert [(item.node, item.reason) for item in found.nodes] == [("dense:product", FUNCTION)]
    assert found.effects[0].noise > 0


# ---------------------------------------------------------------------------- weights to keep


def _wide() -> Graph:
    """Six matrices side by side, each with another influence on the one output."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 8])
    total: Optional[str] = None
    for index in range(6):
        w = b.const(f"w{index}", random_weight((8, 4), index, std=2.0**-index))
        y = b.matmul(f"m{index}", x, w)
        total = y if total is None else b.op(f"sum{index}", "Add", [total, y])
    b.op("y", "Identity", [str(total)])
    return b.graph()


def _sqnr(graph: Graph, made: Graph, keep: Sequence[str], feeds: Feeds) -> float:
    for name in keep:
        made = _with_const(made, name, _value(graph, name))
    with Runner(graph, False) as one, Runner(made, False) as two:
        found = compare_outputs(one, two, ["y:0"], feeds).worst_sqnr_db
    assert found is not None
    return found


@pytest.mark.parametrize("min_sqnr", [-20.0, 5.0, 12.0, 20.0, 30.0, 200.0])
def test_the_fewest_weights_to_keep_float(min_sqnr: float) -> None:
    """As few as the smallest of all sets, and the set really reaches the limit."""
    graph = _wide()
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    feeds = _feeds(_x(4, 8), _x(4, 8, 3))
    keep = _analyse(graph, made, feeds, keep="float", min_sqnr=min_sqnr).keep
    assert keep is not None
    assert keep.reached
    names = [f"w{index}" for index in range(6)]
    smallest = next(
        size
        for size in range(7)
        if any(
            _sqnr(graph, made, chosen, feeds) >= min_sqnr
            for chosen in itertools.combinations(names, size)
        )
    )
    assert len(keep.weights) == smallest
    true = _sqnr(graph, made, keep.weights, feeds)
    assert true >= min_sqnr
    assert keep.sqnr_db == pytest.approx(true, abs=1e-3) or true == keep.sqnr_db == math.inf
    assert KeepResult.from_json(json.loads(json.dumps(keep.to_json()))) == keep


def test_weights_to_keep_at_eight_bits() -> None:
    """Kept at 8 bits they reach what a plan with those weights at 8 bits reaches."""
    graph = _wide()
    feeds = _feeds(_x(4, 8))
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    keep = _analyse(graph, made, feeds, keep="8", min_sqnr=20.0).keep
    assert keep is not None
    assert keep.at == "8"
    assert 0 < len(keep.weights) < 6
    eight = graphwq.quantize(graph, 8, "bake", keep_larger=True).graph
    mixed = made
    for name in keep.weights:
        mixed = _with_const(mixed, name, _value(eight, name))
    assert keep.sqnr_db == pytest.approx(_sqnr(graph, mixed, (), feeds), abs=1e-3)
    assert keep.sqnr_db >= 20
    fewer = list(keep.weights[1:])
    assert _sqnr(graph, made, fewer, feeds) < 20, "the worst one is needed"


def test_a_limit_that_nothing_reaches() -> None:
    """Not even everything at 8 bits: all weights, and ``reached`` is False."""
    graph = _wide()
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    keep = _analyse(graph, made, _feeds(_x(4, 8)), keep="8", min_sqnr=150.0).keep
    assert keep is not None
    assert not keep.reached
    assert len(keep.weights) == 6
    assert keep.evaluations == 1


def test_few_trials_still_give_a_set_that_holds() -> None:
    """A bound on the trials makes the set larger, never wrong."""
    graph = _wide()
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    view, feeds = build(graph), _feeds(_x(4, 8))
    sites = locate_in(view).sites
    changed = changed_weights(view, build(made), sites)
    with Lab(graph, view, sites, Runner) as lab:
        for limit in range(1, 8):
            keep = fewest_to_keep(
                lab, sites, changed, {}, ["y:0"], feeds, 12.0, max_evaluations=limit
            )
            assert keep.evaluations <= limit
            assert _sqnr(graph, made, keep.weights, feeds) >= 12


def test_a_ranking_that_misleads() -> None:
    """Ranked the wrong way round, everything is needed at first; what is not is dropped again."""
    graph = _wide()
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    view, feeds = build(graph), _feeds(_x(4, 8))
    sites = locate_in(view).sites
    changed = changed_weights(view, build(made), sites)
    wrong = {f"w{index}": float(index) for index in range(6)}
    with Lab(graph, view, sites, Runner) as lab:
        keep = fewest_to_keep(lab, sites, changed, wrong, ["y:0"], feeds, 12.0)
    assert 0 < len(keep.weights) < 6
    assert "w5" not in keep.weights
    for name in keep.weights:
        fewer = [other for other in keep.weights if other != name]
        assert _sqnr(graph, made, fewer, feeds) < 12, "none of them can be left out"


class _Known:
    """Trials of which the outcome is known: a set holds where it has all of ``needed``."""

    def __init__(self, needed: Sequence[str]) -> None:
        self.needed, self.exhausted, self.count = set(needed), False, 0

    def of(self, names: Sequence[str]) -> Any:
        self.count += 1
        return type("Trial", (), {"ok": self.needed <= set(names)})


@pytest.mark.parametrize("length", range(12))
def test_the_shortest_prefix(length: int) -> None:
    """Exactly as long as needed, found in few trials."""
    names = [f"{index:02}" for index in range(11)]
    trials: Any = _Known(names[:length])
    assert _shortest_prefix(trials, list(names)) == names[:length]
    assert trials.count <= 4


@pytest.mark.parametrize("needed", [[], ["00"], ["03", "07"], ["10"], ["00", "05", "10"]])
def test_what_is_not_needed_is_dropped(needed: List[str]) -> None:
    """Wherever it stands in the ranking."""
    trials: Any = _Known(needed)
    names = [f"{index:02}" for index in range(11)]
    assert _without_needless(trials, names) == needed


def test_wishes_that_make_no_sense() -> None:
    """A limit is needed, and one of the two ways to keep; a float output as well."""
    graph = _wide()
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    with pytest.raises(InputError, match="which SQNR"):
        _analyse(graph, made, _feeds(_x(4, 8)), keep="float")
    with pytest.raises(InputError, match="'float' or '8'"):
        _analyse(graph, made, _feeds(_x(4, 8)), keep="7", min_sqnr=3.0)
    b = GraphBuilder()
    y = b.matmul("y", b.placeholder("x", [-1, 8]), b.const("w", random_weight((8, 9))))
    b.op("best", "ArgMax", [y, b.const("axis", 1)], T=("type", 1), Tidx=("type", 3))
    graph = b.graph()
    made = graphwq.quantize(graph, 2, "bake", keep_larger=True).graph
    with pytest.raises(InputError, match="no float output"):
        _analyse(graph, made, _feeds(_x(4, 8)), keep="float", min_sqnr=3.0)


@pytest.mark.parametrize("data", [None, {}, [], {"nodes": 1}])
def test_damaged_json(data: Any) -> None:
    """An InputError, not a KeyError."""
    with pytest.raises(InputError):
        LayersResult.from_json(data)


def test_results_are_values() -> None:
    """Frozen, and equal where their numbers are."""
    one = NodeError("w", "m", "MatMul", "")
    assert one == NodeError("w", "m", "MatMul", "")
    with pytest.raises(AttributeError):
        one.node = "other"  # type: ignore[misc]
