"""Mixed plans: within the target, never worse than one width, and the same after JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Sequence

import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.mixture import Mixture
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan, Rule
from graphwq.rewrite.planning import make_plan
from graphwq.rewrite.target import BYTES, SHARE, Target, target_size


def _network(sizes: Sequence[int] = (64, 256, 256, 96, 96, 96, 40)) -> Graph:
    """Layers of these sizes, one after the other."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, sizes[0]])
    for number, (rows, columns) in enumerate(zip(sizes, sizes[1:])):
        x = b.matmul(f"y{number}", x, b.const(f"w{number}", random_weight((rows, columns), number)))
    return b.graph()


def _mixture(plan: Plan) -> Mixture:
    assert plan.mixture is not None
    return plan.mixture


@pytest.mark.parametrize("bits", [2.0, 3.0, 3.4, 4.0, 5.5, 8.0, 12.0])
def test_an_average_is_no_larger_on_disk_than_one_width(bits: float) -> None:
    """The written file is what the plan says, and not above the uniform files around it."""
    graph = _network()
    plan = make_plan(graph, Options(target_bits=bits))
    size = graphwq.quantize(graph, plan=plan).graph.nbytes
    assert size == _mixture(plan).nbytes
    ends = [graphwq.quantize(graph, bits=min(int(bits) + more, 8)).graph.nbytes for more in (0, 1)]
    if bits == int(bits) <= 8:
        assert size <= ends[0] == _mixture(plan).uniform_bytes
    elif bits < 8:
        assert size <= ends[0] + (bits - int(bits)) * (ends[1] - ends[0])
    else:
        assert size < graph.nbytes


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_never_more_error_than_one_width(bits: int) -> None:
    """By its own table the mixed plan is at least as good as the uniform one."""
    mixture = _mixture(make_plan(_network(), Options(target_bits=bits)))
    uniform = sum(one.choices[bits - 2].error for one in mixture.weights)
    assert mixture.error <= uniform * (1 + 1e-12)


def test_small_layers_get_more_bits_where_there_are_many() -> None:
    """One bit less for the large layer pays for two more for each of twelve small ones."""
    network = _network([400, 160, *[64] * 12])
    mixture = _mixture(make_plan(network, Options(target_bits=4)))
    uniform = sum(one.choices[2].error for one in mixture.weights)
    chosen = [one.chosen or 32 for one in mixture.weights]
    assert chosen[0] < min(chosen[2:])
    assert mixture.error < 0.8 * uniform


@pytest.mark.parametrize("share", ["12%", "20%", "33%", "60%"])
def test_a_size_is_kept(share: str) -> None:
    """The file is within the share, and a larger share is never a larger error."""
    graph = _network()
    plan = make_plan(graph, Options(target_size=share))
    made = graphwq.quantize(graph, plan=plan).graph
    assert made.nbytes == _mixture(plan).nbytes <= graph.nbytes * float(share[:-1]) / 100
    more = _mixture(make_plan(graph, Options(target_size=f"{float(share[:-1]) + 5}%")))
    assert more.error <= _mixture(plan).error


@pytest.mark.parametrize("bits", [5, 6, 7])
def test_whole_bytes_hold_eight_bits(bits: int) -> None:
    """Where packing does not pay, the codes take all of their bytes."""
    graph = _network((40, 40))
    items = make_plan(graph, Options(target_bits=bits)).items
    assert [(item.stored_bits, item.scheme.num_bits) for item in items] == [(8, 8)]
    assert make_plan(graph, Options(bits=bits)).items[0].scheme.num_bits == bits


def test_also_those_that_were_chosen_narrower() -> None:
    """The allocation gives a small layer 6 bits; as bytes they may as well be 8."""
    options = Options(target_bits=6.5, min_elements=1)
    items = make_plan(_network((100, 24, 33, 64, 100)), options).items
    assert sorted((item.stored_bits, item.scheme.num_bits) for item in items) == [
        *[(6, 6)] * 3,
        (8, 8),
    ]


def test_baked_codes_count_as_bits() -> None:
    """Without integers in the file the average is that of the codes, to the letter."""
    mixture = _mixture(make_plan(_network(), Options(target_bits=3.5, storage="bake")))
    assert 3.0 < mixture.average_bits <= 3.5


@pytest.mark.parametrize("storage", ["bake", "fake_quant"])
def test_the_bytes_of_a_mixture_are_those_of_its_file(storage: str) -> None:
    """A file of another storage is as large as it is, whatever the widths are."""
    graph = _network()
    plan = make_plan(graph, Options(target_bits=4, storage=storage))
    size = graphwq.quantize(graph, plan=plan).graph.nbytes
    assert _mixture(plan).nbytes == size
    uniform = graphwq.quantize(graph, bits=4, storage=storage).graph.nbytes
    assert _mixture(plan).uniform_bytes == uniform


def test_rules_and_patterns_stand() -> None:
    """A rule's width, a weight that is kept float and one left out are not chosen."""
    options = Options(target_bits=4, rules=(Rule("w0", 7), Rule("w1", None)), exclude=("w2",))
    plan = make_plan(_network(), options)
    bits = {item.weight: item.scheme.num_bits for item in plan.items}
    assert bits["w0"] == 7
    assert not {"w1", "w2"} & set(bits)
    assert [one.weight for one in _mixture(plan).weights] == ["w3", "w4", "w5"]


@pytest.mark.parametrize("method", ["absmax", "mse", "squant", "gptq"])
def test_the_plan_survives_json_and_is_the_same_twice(method: str) -> None:
    """The table and the choice are part of the plan; the same wish gives the same text."""
    one = make_plan(_network(), Options(target_bits=3.2, method=method))
    assert Plan.loads(one.dumps()) == one
    assert make_plan(_network(), Options(target_bits=3.2, method=method)).dumps() == one.dumps()
    assert {item.scheme.method for item in one.items} == {method}
    chosen = {w.weight: w.chosen for w in _mixture(one).weights if w.chosen is not None}
    assert chosen == {item.weight: item.scheme.num_bits for item in one.items}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"cost": "taste"}, "costs of the kind"),
        ({"target": {"kind": "luck", "value": 1}}, "target"),
        ({"bytes": "many"}, "whole number"),
    ],
)
def test_a_damaged_mixture_is_refused(change: Dict[str, Any], message: str) -> None:
    """Each part of the section is checked when a plan is read."""
    data = json.loads(make_plan(_network(), Options(target_bits=4)).dumps())
    data["mixture"].update(change)
    with pytest.raises(InputError, match=message):
        Plan.loads(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("20%", SHARE, 0.2),
        ("1.2MB", BYTES, 1200000),
        ("300 kB", BYTES, 300000),
        ("2KiB", BYTES, 2048),
        ("777", BYTES, 777),
    ],
)
def test_sizes(text: str, kind: str, value: float) -> None:
    """Per cent, powers of 1000 and of 1024, plain bytes."""
    assert target_size(text) == Target(kind, pytest.approx(value))


@pytest.mark.parametrize("text", ["", "%", "0%", "100%", "-3kB", "3 apples", "nan", "0", "1e3"])
def test_what_is_no_size(text: str) -> None:
    """One sentence that says what to write."""
    with pytest.raises(InputError, match="size"):
        target_size(text)


def test_bad_targets_on_the_command_line(
    tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture
) -> None:
    """Too small, too large, two at once, a width beside it, nothing to choose: status 2."""
    source, out = fixtures / "digits_mlp.pb", tmp_path / "x.pb"
    for extra, said in (
        (("--target-size", "2%"), "smallest file that the weights allow has"),
        (("--target-size", "1GB"), "as it is"),
        (("--target-bits", 1.9), "from 2 bits"),
        (("--target-bits", 33), "float"),
        (("--target-bits", "nan"), "not possible"),
        (("--target-bits", 4, "--target-size", "20%"), "one of them"),
        (("--target-bits", 4, "--bits", 4), "leave out --bits"),
        (("--target-size", "20%", "--storage", "bake"), "no size to aim at"),
        (("--target-bits", 4, "--exclude", "*"), "no weight whose width"),
    ):
        for command in (("plan", source), ("quantize", source, "-o", out)):
            outcome = run(capsys, *command, *extra)
            assert outcome.status == 2, (extra, outcome.out)
            assert_one_line(outcome.err, said)
    assert not out.exists()


def test_from_the_command_line_and_back(
    tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture
) -> None:
    """plan, quantize --plan, quantize --target-size: one file; verify passes with the plan."""
    source = fixtures / "digits_cnn.pb"
    plan, saved = tmp_path / "plan.json", tmp_path / "saved.json"
    one, two = tmp_path / "one.pb", tmp_path / "two.pb"
    told = run(capsys, "plan", source, "-o", plan, "--target-size", "20%")
    assert told.status == 0, told.err
    assert "error by width" in told.out
    assert "bits on average" in told.out
    assert run(capsys, "quantize", source, "-o", one, "--plan", plan).status == 0
    direct = run(
        capsys, "quantize", source, "-o", two, "--target-size", "20%", "--save-plan", saved
    )
    assert direct.status == 0, direct.err
    assert "mixed for 20 %" in direct.out
    assert one.read_bytes() == two.read_bytes()
    assert plan.read_text() == saved.read_text()
    assert one.stat().st_size <= 0.2 * source.stat().st_size
    checked = run(capsys, "verify", source, one, "--plan", plan, "--static")
    assert checked.status == 0, checked.out + checked.err
