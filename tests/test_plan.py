"""Plans: plain data with a JSON form, the rules that make them, and what is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, dense, random_weight
from hypothesis import given
from hypothesis import strategies as st
from rewriting import CASES, examples, folding_limit, value

import graphwq
from graphwq.api import with_storage
from graphwq.errors import GraphWQError, InputError, QuantizationError, UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantScheme
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import STORAGES, Plan, PlanItem, Rows, Rule, Split, Whole
from graphwq.rewrite.planning import make_plan
from graphwq.survey.sites import Reason, Skip

_TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
_SMALL = st.integers(0, 10)
_AXES = st.lists(_SMALL, max_size=4, unique=True).map(tuple)
_GRANULARITY = st.one_of(
    st.just(PerTensor()),
    st.builds(PerChannel, _AXES),
    st.builds(PerGroup, _AXES, _SMALL, st.integers(1, 1 << 20)),
)
_SIZES = st.lists(st.integers(1, 1 << 40), max_size=5).map(tuple)
_FORM = st.one_of(st.just(Whole()), st.builds(Split, _SMALL, _SIZES), st.builds(Rows, _SIZES))


@st.composite
def _items(draw: Any) -> PlanItem:
    bits = draw(st.integers(2, 8))
    scheme = QuantScheme(
        bits, draw(_GRANULARITY), scale_bits=draw(st.sampled_from([*range(13, 17), 24]))
    )
    stored = draw(st.sampled_from([8, bits]))
    return PlanItem(draw(_TEXT), draw(st.sampled_from(STORAGES)), scheme, stored, draw(_FORM))


_PLANS = st.builds(
    Plan,
    st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64)),
    st.lists(_items(), max_size=4, unique_by=lambda item: item.weight).map(tuple),
    st.lists(st.builds(Skip, _TEXT, _TEXT, _TEXT), max_size=4).map(tuple),
)


@given(_PLANS)
def test_round_trip(plan: Plan) -> None:
    """Law: loads(dumps(plan)) == plan, for names in any script, and dumps is plain JSON."""
    text = plan.dumps()
    assert Plan.loads(text) == plan
    assert Plan.loads(json.dumps(json.loads(text))) == plan
    assert Plan.loads(text).dumps() == text


def test_json_shape() -> None:
    """The JSON form has exactly these fields, so that other tools can read it."""
    data = make_plan(dense(128, 64), Options(bits=4)).to_json()
    assert list(data) == ["format", "version", "graph_digest", "items", "skips"]
    assert data["format"] == "graphwq-plan"
    assert data["version"] == 1
    assert data["graph_digest"] == dense(128, 64).digest
    assert data["items"] == [
        {
            "weight": "w",
            "storage": "dequant",
            "num_bits": 4,
            "granularity": {"kind": "per_channel", "axes": [1]},
            "symmetric": True,
            "narrow_range": True,
            "method": "absmax",
            "scale_bits": 24,
            "stored_bits": 4,
            "form": {"kind": "whole"},
            "layout": "planes",
        }
    ]
    assert json.loads(json.dumps(data)) == data


def test_the_layout_of_packed_codes() -> None:
    """Bits where that saves nodes and is folded; planes otherwise."""
    for bits in range(2, 9):
        for shape in ((128, 64), (127, 63)):
            (item,) = make_plan(dense(*shape), Options(bits=bits, keep_larger=True)).items
            assert item.layout == ("bits" if bits in (3, 5, 6, 7) else "planes")
            assert item.stored_bits == bits
    with folding_limit(128 * 64 * 4 * 3):
        assert make_plan(dense(128, 64), Options(bits=3)).items[0].layout == "planes"
    with folding_limit(128 * 64 * 4 * 3 + 1):
        assert make_plan(dense(128, 64), Options(bits=3)).items[0].layout == "bits"
    (item,) = make_plan(dense(8, 8), Options(bits=3, keep_larger=True)).items
    assert (item.stored_bits, item.layout) == (3, "bits")


def test_a_plan_without_a_layout_means_planes() -> None:
    """Plans of an earlier graphwq hold no layout."""
    plan = make_plan(dense(128, 64), Options(bits=3))
    data = plan.to_json()
    del data["items"][0]["layout"]
    old = Plan.loads(json.dumps(data))
    assert old.items[0].layout == "planes"
    one, two = (graphwq.quantize(dense(128, 64), plan=item) for item in (plan, old))
    assert one.quantized["w"].codes.tolist() == two.quantized["w"].codes.tolist()
    assert one.graph.to_bytes() != two.graph.to_bytes()


def _sample() -> Dict[str, Any]:
    digest, skip = "0" * 64, Skip("b", "scalar", "a single number")
    scheme = QuantScheme(4, PerGroup((1,), 0, 32))
    items = (
        PlanItem("w", "dequant", scheme, 4, Split(1, (3, 4))),
        PlanItem("v", "bake", QuantScheme(8, PerChannel((0,))), 8, Rows((2, 2))),
    )
    data: Dict[str, Any] = json.loads(Plan(digest, items, (skip,)).dumps())
    return data


def _drop(*path: Any) -> Callable[[Dict[str, Any]], None]:
    def change(data: Dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def _put(new: Any, *path: Any) -> Callable[[Dict[str, Any]], None]:
    def change(data: Dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = new

    return change


_ITEM = ("items", 0)
_DAMAGE = {
    "no format": _drop("format"),
    "other format": _put("onnx-plan", "format"),
    "no version": _drop("version"),
    "later version": _put(2, "version"),
    "version as text": _put("1", "version"),
    "no digest": _drop("graph_digest"),
    "digest a number": _put(12, "graph_digest"),
    "no items": _drop("items"),
    "items null": _put(None, "items"),
    "items a number": _put(3, "items"),
    "items a table": _put({"weight": "w"}, "items"),
    "item a text": _put("w", *_ITEM),
    "item a list": _put([], *_ITEM),
    "item null": _put(None, *_ITEM),
    "no skips": _drop("skips"),
    "skips null": _put(None, "skips"),
    "skip without node": _drop("skips", 0, "node"),
    "skip without reason": _drop("skips", 0, "reason"),
    "skip without detail": _drop("skips", 0, "detail"),
    "skip a text": _put("b", "skips", 0),
    **{
        f"no {key}": _drop(*_ITEM, key)
        for key in [
            "weight",
            "storage",
            "num_bits",
            "granularity",
            "symmetric",
            "narrow_range",
            "method",
            "scale_bits",
            "stored_bits",
            "form",
        ]
    },
    "weight twice": lambda data: data["items"].append(copy.deepcopy(data["items"][0])),
    "weight a number": _put(7, *_ITEM, "weight"),
    "weight a list": _put(["w"], *_ITEM, "weight"),
    "unknown storage": _put("int4", *_ITEM, "storage"),
    "storage a list": _put(["bake"], *_ITEM, "storage"),
    "1 bit": _put(1, *_ITEM, "num_bits"),
    "9 bits": _put(9, *_ITEM, "num_bits"),
    "4.0 bits": _put(4.0, *_ITEM, "num_bits"),
    "bits as text": _put("4", *_ITEM, "num_bits"),
    "bits true": _put(True, *_ITEM, "num_bits"),
    "asymmetric": _put(False, *_ITEM, "symmetric"),
    "symmetric as text": _put("false", *_ITEM, "symmetric"),
    "wide range": _put(False, *_ITEM, "narrow_range"),
    "unknown method": _put("magic", *_ITEM, "method"),
    "method a number": _put(1, *_ITEM, "method"),
    "scale of 9 bits": _put(9, *_ITEM, "scale_bits"),
    "scale of 17 bits": _put(17, *_ITEM, "scale_bits"),
    "scale of 23 bits": _put(23, *_ITEM, "scale_bits"),
    "scale of 25 bits": _put(25, *_ITEM, "scale_bits"),
    "scale bits null": _put(None, *_ITEM, "scale_bits"),
    "stored in 5 of 4 bits": _put(5, *_ITEM, "stored_bits"),
    "stored in 0 bits": _put(0, *_ITEM, "stored_bits"),
    "granularity a text": _put("per_channel", *_ITEM, "granularity"),
    "granularity null": _put(None, *_ITEM, "granularity"),
    "unknown granularity": _put({"kind": "per_row"}, *_ITEM, "granularity"),
    "granularity without kind": _put({"axes": [1]}, *_ITEM, "granularity"),
    "granularity without axes": _put({"kind": "per_channel"}, *_ITEM, "granularity"),
    "axes a number": _put(1, *_ITEM, "granularity", "axes"),
    "axis a text": _put(["one"], *_ITEM, "granularity", "axes"),
    "axis 1.5": _put([1.5], *_ITEM, "granularity", "axes"),
    "axis infinite": _put([float("inf")], *_ITEM, "granularity", "axes"),
    "axis not a number": _put([float("nan")], *_ITEM, "granularity", "axes"),
    "axis twice": _put([1, 1], *_ITEM, "granularity", "axes"),
    "group size infinite": _put(float("inf"), *_ITEM, "granularity", "group_size"),
    "group size 0": _put(0, *_ITEM, "granularity", "group_size"),
    "group size negative": _put(-4, *_ITEM, "granularity", "group_size"),
    "group size 2.5": _put(2.5, *_ITEM, "granularity", "group_size"),
    "group axis missing": _drop(*_ITEM, "granularity", "axis"),
    "form a text": _put("split", *_ITEM, "form"),
    "form null": _put(None, *_ITEM, "form"),
    "unknown form": _put({"kind": "columns"}, *_ITEM, "form"),
    "form without kind": _put({}, *_ITEM, "form"),
    "split without axis": _put({"kind": "split", "sizes": [1, 2]}, *_ITEM, "form"),
    "split without sizes": _put({"kind": "split", "axis": 1}, *_ITEM, "form"),
    "split axis as text": _put("1", *_ITEM, "form", "axis"),
    "split size 2.0": _put([2.0, 5], *_ITEM, "form", "sizes"),
    "split sizes a number": _put(7, *_ITEM, "form", "sizes"),
    "unknown layout": _put("rows", *_ITEM, "layout"),
    "layout null": _put(None, *_ITEM, "layout"),
    "row size true": _put([True], "items", 1, "form", "sizes"),
}


def _refused(text: str) -> str:
    with pytest.raises(InputError) as caught:
        Plan.loads(text)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("name", sorted(_DAMAGE))
def test_a_damaged_plan_is_refused(name: str) -> None:
    """Every way to damage a plan is an InputError of one line, and never another exception."""
    data = _sample()
    Plan.loads(json.dumps(data))
    _DAMAGE[name](data)
    _refused(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", '"plan"', "{}", "\ufeff{}", "[" * 100_000, "not json", "\x00"],
)
def test_no_plan_at_all(text: str) -> None:
    """What is no JSON, or JSON of something else, is an InputError of one line."""
    _refused(text)


def test_messages_say_what_to_do() -> None:
    """A file of another kind and a plan of a later version are told apart."""
    assert "graphwq plan" in _refused('{"format": "x"}')
    assert "version 7" in _refused('{"format": "graphwq-plan", "version": 7}')
    data = _sample()
    data["items"][0]["storage"] = "packed"
    assert "'packed'" in _refused(json.dumps(data))
    assert "dequant, bake, fake_quant" in _refused(json.dumps(data))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.sampled_from([10**30, -(10**30), 2**31, 2**63])
    | st.floats()
    | st.sampled_from(["", "w", "v", "bake", "dequant", "whole", "per_tensor", "absmax"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "axes", "sizes", "axis"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def _paths(data: Any, path: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(data, dict):
        for key, inner in data.items():
            found += _paths(inner, (*path, key))
    elif isinstance(data, list):
        for index, inner in enumerate(data):
            found += _paths(inner, (*path, index))
    return found


@examples(400)
@given(st.data(), st.sampled_from(["matmul", "tied", "gather", "conv2d"]))
def test_any_hand_edit_is_carried_out_or_refused(data: Any, case: str) -> None:
    """Whatever is changed in a plan: it is refused, or the graph it makes holds what it says.

    Never another exception (exit 70), and never a graph whose weight is not what was computed.
    """
    made = CASES[case]()
    result, refused = None, ""
    with folding_limit(made.limit):
        edited = make_plan(made.graph, Options(bits=5, keep_larger=True)).to_json()
        for _ in range(data.draw(st.integers(1, 2))):
            path = data.draw(st.sampled_from(_paths(edited)))
            _put(data.draw(_JSON), *path)(edited)
        try:
            changed = Plan.loads(json.dumps(edited))
            result = graphwq.quantize(made.graph, plan=changed)
        except (InputError, QuantizationError, UnsupportedError) as error:
            refused = str(error)
    assert "\n" not in refused
    if result is not None:
        for weight, quantized in result.quantized.items():
            assert np.array_equal(value(result.graph, weight), quantized.dequantize())
        for item in result.graph.nodes:
            assert item.op != "ConcatV2" or len(item.data_inputs) > 2, item.name


_Edit = Callable[[Dict[str, Any]], None]


def _form(**new: Any) -> _Edit:
    return lambda item: item["form"].update(new)


_MISFITS: Dict[str, Tuple[str, _Edit]] = {
    "split along the summed axis": ("matmul", _form(axis=0, sizes=[12, 12])),
    "split of too few channels": ("matmul", _form(sizes=[20, 20])),
    "split of too many channels": ("matmul", _form(sizes=[40, 2])),
    "split with an empty piece": ("matmul", _form(sizes=[41, 0])),
    "split with a negative piece": ("matmul", _form(sizes=[42, -1])),
    "split into nothing": ("matmul", _form(sizes=[])),
    "split axis beyond the rank": ("matmul", _form(axis=2, sizes=[1])),
    "split along the groups": (
        "matmul",
        lambda item: item.update(
            granularity={"kind": "per_group", "axes": [0], "axis": 1, "group_size": 4}
        ),
    ),
    "split of a weight in a branch": (
        "branch",
        lambda item: item.update(form={"kind": "split", "axis": 1, "sizes": [12, 12]}),
    ),
    "split of a weight used crosswise": (
        "shared_crosswise",
        lambda item: item.update(form={"kind": "split", "axis": 1, "sizes": [20, 20]}),
    ),
    "rows of a MatMul weight": (
        "matmul",
        lambda item: item.update(form={"kind": "rows", "sizes": []}),
    ),
    "rows with a scale per column": (
        "gather",
        lambda item: item.update(granularity={"kind": "per_channel", "axes": [1]}),
    ),
    "rows with groups": (
        "gather",
        lambda item: item.update(
            granularity={"kind": "per_group", "axes": [0], "axis": 1, "group_size": 4}
        ),
    ),
    "rows of another table size": ("tied", _form(sizes=[17, 17])),
    "rows with a negative piece": ("tied", _form(sizes=[51, -1])),
    "rows with an empty piece": ("tied", _form(sizes=[50, 0])),
    "tied rows without pieces": ("tied", _form(sizes=[])),
    "axes beyond the rank": (
        "matmul",
        lambda item: item.update(granularity={"kind": "per_channel", "axes": [2]}),
    ),
    "negative axes": (
        "matmul",
        lambda item: item.update(granularity={"kind": "per_channel", "axes": [-1]}),
    ),
    "groups along a kept axis": (
        "shared_crosswise",
        lambda item: item.update(
            granularity={"kind": "per_group", "axes": [1], "axis": 1, "group_size": 4}
        ),
    ),
    "fake_quant of groups": (
        "shared_crosswise",
        lambda item: item.update(
            storage="fake_quant",
            granularity={"kind": "per_group", "axes": [1], "axis": 0, "group_size": 4},
        ),
    ),
    "bits of a cut weight": ("matmul", lambda item: item.update(layout="bits")),
    "bits of rows": ("tied", lambda item: item.update(layout="bits")),
    "no such weight": ("matmul", lambda item: item.update(weight="kernel")),
    "a node that is no weight": ("matmul", lambda item: item.update(weight="x")),
}


@pytest.mark.parametrize("name", sorted(_MISFITS))
def test_a_form_that_does_not_fit_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan edited by hand into something that the graph cannot carry is bad input, not a bug."""
    case, edit = _MISFITS[name]
    made = CASES[case]()
    monkeypatch.setattr("graphwq.rewrite.split.FOLDING_LIMIT", made.limit)
    data = make_plan(made.graph, Options(bits=4, keep_larger=True)).to_json()
    graphwq.quantize(made.graph, plan=Plan.loads(json.dumps(data)))
    edit(data["items"][0])
    with pytest.raises(GraphWQError) as caught:
        graphwq.quantize(made.graph, plan=Plan.loads(json.dumps(data)))
    assert caught.value.exit_code == 2, caught.value
    assert "\n" not in str(caught.value)
    assert data["items"][0]["weight"] in str(caught.value) or name.startswith("fake_quant")


def test_a_layout_without_packing_is_refused() -> None:
    """Codes of 8 bits are not packed at all."""
    plan = make_plan(dense(8, 8), Options(keep_larger=True))
    wrong = replace(plan, items=(replace(plan.items[0], layout="bits"),))
    with pytest.raises(InputError, match=r"'w' does not fit.*make a new plan"):
        graphwq.quantize(dense(8, 8), plan=wrong)


def test_a_plan_for_a_variable_is_refused() -> None:
    """A weight whose values are in a checkpoint cannot be quantized, whatever a plan says."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 64])
    shape = _shape_attr(64, 64)
    w = b.op("w", "VariableV2", [], dtype=("type", 1), shape=shape, container=b"", shared_name=b"")
    b.matmul("y", x, w)
    graph = b.graph()
    assert [skip.reason for skip in make_plan(graph, Options()).skips] == [Reason.NO_VALUE.value]
    item = PlanItem("w", "dequant", QuantScheme(8, PerChannel((1,))), 8)
    with pytest.raises(InputError, match="'w'"):
        graphwq.quantize(graph, plan=Plan(graph.digest, (item,), ()))


def _shape_attr(*dims: int) -> Any:
    from graphwq.graphdef.protos import AttrValue

    attr = AttrValue()
    for dim in dims:
        attr.shape.dim.add().size = dim
    return attr


def test_another_graphs_plan_is_refused() -> None:
    """A plan is bound to its graph by sha256; one different byte is another graph."""
    plan = make_plan(dense(64, 32, seed=0), Options())
    with pytest.raises(InputError, match="another graph.*make a new plan"):
        graphwq.quantize(dense(64, 32, seed=1), plan=plan)
    assert graphwq.quantize(dense(64, 32, seed=0), plan=plan).modified


def test_a_plan_is_carried_out_as_it_is() -> None:
    """quantize(plan) and quantize(options) of the same wishes write the same bytes."""
    graph = dense(128, 64)
    for bits in (8, 3):
        plan = Plan.loads(graphwq.plan(graph, bits).dumps())
        assert graphwq.quantize(graph, plan=plan).graph.to_bytes() == (
            graphwq.quantize(graph, bits).graph.to_bytes()
        )


def test_storage_overrides_the_plan() -> None:
    """with_storage changes the storage form of every weight and nothing else."""
    plan = make_plan(_three(), Options(bits=4))
    baked = with_storage(plan, "bake")
    assert [item.storage for item in baked.items] == ["bake"] * 3
    assert with_storage(baked, "dequant") == plan
    assert with_storage(plan, None) is plan
    with pytest.raises(InputError, match="no storage 'zip'"):
        with_storage(plan, "zip")
    result = graphwq.quantize(_three(), plan=plan, storage="bake")
    assert {node.op for node in result.graph.nodes} == {node.op for node in _three().nodes}


def _three() -> Graph:
    """a -> MatMul, conv -> Conv2D, table -> GatherV2, each large enough to be worth it."""
    b = GraphBuilder()
    b.matmul("dense", b.placeholder("x", [-1, 64]), b.const("fc/a", random_weight((64, 128), 1)))
    image = b.placeholder("image", [1, 8, 8, 32])
    b.conv("conv", image, b.const("conv1/kernel", random_weight((3, 3, 32, 64), 2)))
    ids, axis = b.placeholder("ids", [3], 3), b.const("axis", 0)
    table = b.const("table", random_weight((256, 64), 3))
    int32 = ("type", 3)
    attrs = {"Tparams": ("type", 1), "Tindices": int32, "Taxis": int32}
    b.op("rows", "GatherV2", [table, ids, axis], **attrs)
    return b.graph()


def _bits(**options: Any) -> Dict[str, int]:
    plan = make_plan(_three(), Options(**options))
    return {item.weight: item.scheme.num_bits for item in plan.items}


def test_the_last_rule_wins() -> None:
    """Of several rules that match a weight the last one decides; the others keep --bits."""
    rules = (Rule("*", 6), Rule("fc/*", 4), Rule("conv1/kernel", 5))
    assert _bits(rules=rules) == {"fc/a": 4, "conv1/kernel": 5, "table": 6}
    assert _bits(rules=rules[::-1]) == {"fc/a": 6, "conv1/kernel": 6, "table": 6}
    assert _bits(rules=rules[1:]) == {"fc/a": 4, "conv1/kernel": 5, "table": 8}


def test_a_rule_can_keep_a_weight_float() -> None:
    """'float' (None) keeps a weight, with that reason; a later rule can take it back."""
    plan = make_plan(_three(), Options(rules=(Rule("fc/*", None),)))
    assert [item.weight for item in plan.items] == ["conv1/kernel", "table"]
    assert ("fc/a", Reason.KEPT_FLOAT.value) in [(skip.node, skip.reason) for skip in plan.skips]
    assert "fc/a" in _bits(rules=(Rule("*", None), Rule("fc/*", 4)))
    assert _bits(rules=(Rule("fc/*", 4), Rule("*", None))) == {}


def test_a_rule_for_an_op() -> None:
    """A rule with an op pattern holds for the weights that such an op uses."""
    assert _bits(rules=(Rule("*", 4, "Conv2D"),)) == {"fc/a": 8, "conv1/kernel": 4, "table": 8}
    assert _bits(rules=(Rule("*", 4, "*M*"),)) == {"fc/a": 4, "conv1/kernel": 8, "table": 8}
    assert _bits(rules=(Rule("fc/*", 4, "Conv2D"),)) == {"fc/a": 8, "conv1/kernel": 8, "table": 8}


def test_patterns_are_for_the_whole_name_and_case_counts() -> None:
    """A pattern must match the whole name; it has no hidden * and does not fold case."""
    for pattern in ("fc", "a", "FC/a", "fc/?a"):
        with pytest.raises(InputError):
            _bits(rules=(Rule(pattern, 4),))
    assert _bits(rules=(Rule("fc/[ab]", 4),))["fc/a"] == 4
    assert _bits(rules=(Rule("*/*", 4),)) == {"fc/a": 4, "conv1/kernel": 4, "table": 8}


def test_include_exclude_ops_and_minimum() -> None:
    """Each wish leaves out what it says, and the skip names the option."""
    for options, left, said in (
        ({"include": ("fc/*",)}, {"fc/a"}, "--include"),
        ({"include": ("fc/*", "table")}, {"fc/a", "table"}, "--include"),
        ({"exclude": ("fc/*",)}, {"conv1/kernel", "table"}, "--exclude"),
        ({"include": ("*",), "exclude": ("t*",)}, {"fc/a", "conv1/kernel"}, "--exclude"),
        ({"ops": ("Conv2D",)}, {"conv1/kernel"}, "--ops"),
        ({"ops": ("Gather*", "MatMul")}, {"fc/a", "table"}, "--ops"),
        ({"min_elements": 16384}, {"conv1/kernel", "table"}, "the minimum is 16384"),
        ({"min_elements": 16385}, {"conv1/kernel"}, "the minimum is 16385"),
    ):
        plan = make_plan(_three(), Options(**options))  # type: ignore[arg-type]
        assert {item.weight for item in plan.items} == left, options
        gone = {"fc/a", "conv1/kernel", "table"} - left
        details = {skip.node: skip.detail for skip in plan.skips}
        assert all(said in details[name] for name in gone), options


def test_every_weight_has_one_fate() -> None:
    """Items and skips together name every float constant exactly once, whatever is asked for."""
    everything = ["axis", "conv1/kernel", "fc/a", "table"]
    for options in (
        Options(),
        Options(include=("fc/*",)),
        Options(rules=(Rule("*", None),)),
        Options(min_elements=10**9),
    ):
        plan = make_plan(_three(), options)
        fates = [item.weight for item in plan.items] + [skip.node for skip in plan.skips]
        assert sorted(fates) == [name for name in everything if name != "axis"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"include": ("conv1/kernl",)},
            ["--include", "'conv1/kernl'", "'conv1/kernel'", "inspect"],
        ),
        ({"exclude": ("conv2/*",)}, ["--exclude", "'conv2/*'", "graphwq inspect"]),
        ({"rules": (Rule("tabel", 4),)}, ["--rule", "'tabel'", "'table'"]),
        ({"rules": (Rule("*", 4, "Conv3D"),)}, ["'Conv3D'", "Conv2D, GatherV2, MatMul"]),
        ({"ops": ("matmul",)}, ["'matmul'", "Conv2D, GatherV2, MatMul"]),
        ({"include": ("",)}, ["--include", "''"]),
    ],
)
def test_a_pattern_that_matches_nothing(options: Dict[str, Any], said: List[str]) -> None:
    """It is an error that names the option, the pattern, and the nearest name if there is one."""
    with pytest.raises(InputError) as caught:
        make_plan(_three(), Options(**options))
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pattern_that_matches_a_skip_says_so() -> None:
    """A pattern for a constant that is no weight says why it is none."""
    b = GraphBuilder()
    y = b.matmul("y", b.placeholder("x", [-1, 64]), b.const("w", random_weight((64, 64))))
    b.op("z", "BiasAdd", [y, b.const("bias", random_weight((64,)))])
    with pytest.raises(InputError, match=r"bias is skipped: not_a_weight"):
        make_plan(b.graph(), Options(include=("bias",)))


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 1},
        {"bits": 9},
        {"bits": 4.0},
        {"bits": True},
        {"bits": "8"},
        {"bits": None},
        {"rules": (Rule("*", 1),)},
        {"rules": (Rule("*", 9),)},
        {"storage": "int8"},
        {"granularity": "row"},
        {"group_size": 0},
        {"group_size": -1},
        {"min_elements": -1},
        {"scale_bits": 9},
        {"scale_bits": 17},
        {"scale_bits": 25},
        {"storage": "fake_quant", "granularity": "group"},
    ],
)
def test_wrong_options(options: Dict[str, Any]) -> None:
    """Every wrong option is an InputError of one line, from plan and from quantize."""
    for function in (graphwq.plan, graphwq.quantize):
        with pytest.raises(InputError) as caught:
            function(_three(), **options)
        assert "\n" not in str(caught.value)


def test_not_smaller_is_skipped_with_both_numbers() -> None:
    """A weight whose integer form is not smaller on disk stays, whatever the storage form."""
    graph = dense(4, 8)
    for storage in STORAGES:
        plan = make_plan(graph, Options(storage=storage))
        assert plan.items == ()
        (skip,) = plan.skips
        assert skip.reason == Reason.NOT_SMALLER.value
        before = next(node for node in graph.nodes if node.name == "w").frame
        assert before is not None
        assert skip.detail.startswith(f"{before.nbytes} bytes as it is, ")
    assert len(make_plan(graph, Options(keep_larger=True)).items) == 1


def test_packing_that_does_not_pay_becomes_int8() -> None:
    """Codes stay int8 where packing with its tables would cost more than it saves."""
    assert make_plan(dense(16, 64), Options(bits=4)).items[0].stored_bits == 8
    assert make_plan(dense(256, 256), Options(bits=4)).items[0].stored_bits == 4


def test_granularity_of_a_plan() -> None:
    """channel, tensor and group become what the weight's consumer allows."""
    graph = _three()
    for granularity, expected in (
        ("channel", [PerChannel((1,)), PerChannel((3,)), PerChannel((0,))]),
        ("tensor", [PerTensor()] * 3),
        ("group", [PerGroup((1,), 0, 16), PerGroup((3,), 2, 16), PerGroup((0,), 1, 16)]),
    ):
        options = Options(granularity=granularity, group_size=16)
        plan = make_plan(graph, options)
        assert [item.scheme.granularity for item in plan.items] == expected
    whole = make_plan(graph, Options(granularity="group", group_size=64)).items
    assert [item.scheme.granularity for item in whole] == [
        PerChannel((1,)),
        PerChannel((3,)),
        PerChannel((0,)),
    ]


def test_a_plan_survives_a_file(tmp_path: Path) -> None:
    """A plan written as UTF-8 and read again is the plan."""
    plan = replace(make_plan(_three(), Options()), skips=(Skip("é/名", "scalar", "Ω"),))
    path = tmp_path / "plan.json"
    path.write_text(plan.dumps(), encoding="utf-8")
    assert Plan.loads(path.read_text(encoding="utf-8")) == plan
