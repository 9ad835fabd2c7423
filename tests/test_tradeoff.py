"""plan --sweep: the sizes are those of the files, the picture is drawn to scale, twice the same."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple
from xml.etree import ElementTree

import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run
from conftest import ROOT

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.options import Options
from graphwq.tradeoff.measure import EXACT_DB, TARGETS, Point, TradeOff, measure
from graphwq.tradeoff.render import to_csv, to_svg

_SVG = "{http://www.w3.org/2000/svg}"


def _network() -> Graph:
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 48])
    for number, (rows, columns) in enumerate([(48, 200), (200, 160), (160, 64), (64, 24)]):
        x = b.matmul(f"y{number}", x, b.const(f"w{number}", random_weight((rows, columns), number)))
    return b.graph()


@pytest.mark.parametrize("method", ["absmax", "mse"])
def test_sizes_and_errors_are_those_of_quantize(method: str) -> None:
    """Every row, mixed and uniform, is the file that the option with that number gives."""
    graph = _network()
    trade = measure(graph, Options(method=method), (2.0, 3.5, 4.0, 6.2))
    for point in trade.mixed:
        made = graphwq.quantize(graph, target_bits=point.target, method=method)
        assert made.mixture is not None
        assert point.nbytes == made.graph.nbytes
        assert point.error == made.mixture.error
        assert point.average_bits == made.mixture.average_bits
    for point in trade.uniform:
        made = graphwq.quantize(graph, bits=int(point.target), method=method)
        assert point.nbytes == made.graph.nbytes
        errors = [w.error.sum_squared_errors / w.error.sum_squares for w in made.weights]
        assert point.error == pytest.approx(sum(errors), rel=1e-12)
        assert point.average_bits == point.target
    assert [point.target for point in trade.uniform] == [2, 3, 4, 5, 6, 7, 8]
    assert trade.nbytes == graph.nbytes
    assert trade.graph_digest == graph.digest


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp", "digits_embedding", "digits_lstm"])
def test_more_bytes_less_error(name: str, fixtures: Path) -> None:
    """Sizes rise with the target, errors fall, and mixed is nowhere behind uniform."""
    trade = measure(graphwq.load(fixtures / f"{name}.pb"), Options())
    assert tuple(point.target for point in trade.mixed) == TARGETS
    for points in (trade.mixed, trade.uniform):
        sizes = [one.nbytes for one in points]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
        errors = [one.error for one in points]
        assert errors == sorted(errors, reverse=True)
    beside = {one.target: one for one in trade.mixed}
    for other in trade.uniform:
        assert beside[other.target].nbytes <= other.nbytes
        assert beside[other.target].error <= other.error * (1 + 1e-12)


def test_a_rule_stands_on_both_sides() -> None:
    """A weight with a width of its own counts in the sizes, not among the free ones."""
    rules = (graphwq.Rule("w1", 8),)
    trade = measure(_network(), Options(rules=rules), (3.0,))
    plain = measure(_network(), Options(), (3.0,))
    assert trade.uniform[1].nbytes > plain.uniform[1].nbytes
    assert trade.uniform[1].average_bits == 3.0
    made = graphwq.quantize(_network(), bits=3, rules=rules)
    assert trade.uniform[1].nbytes == made.graph.nbytes


def _trade(*errors: float) -> TradeOff:
    points = tuple(Point(2.0 + n, 1000 * (n + 1), 2.0 + n, error) for n, error in enumerate(errors))
    return TradeOff("0" * 64, 9000, "weights", "absmax", points, points[:1])


def test_the_csv_holds_the_numbers() -> None:
    """One line per plan, with the share of the float file and the error in dB."""
    rows = list(csv.DictReader(io.StringIO(to_csv(_trade(0.1, 0.001, 0.0)))))
    assert [row["plan"] for row in rows] == ["mixed"] * 3 + ["uniform"]
    assert rows[1]["bytes"] == "2000"
    assert float(rows[1]["share"]) == pytest.approx(2 / 9, abs=1e-6)
    assert [float(row["sqnr_db"]) for row in rows] == [10, 30, EXACT_DB, 10]


def _places(svg: str, tag: str) -> List[Tuple[float, float]]:
    keys = {"circle": ("cx", "cy"), "rect": ("x", "y")}[tag]
    return [
        (float(item.get(keys[0], "")), float(item.get(keys[1], "")))
        for item in ElementTree.fromstring(svg).iter(_SVG + tag)
        if item.find(_SVG + "title") is not None
    ]


def test_the_picture_is_to_scale() -> None:
    """Equal steps of bytes and dB are equal steps in the picture; more bytes stand to the right."""
    svg = to_svg(_trade(0.1, 0.01, 0.001), "net.pb")
    (a, b, c) = _places(svg, "circle")
    assert a[0] < b[0] < c[0]
    assert a[1] > b[1] > c[1]
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.02)
    assert b[1] - a[1] == pytest.approx(c[1] - b[1], abs=0.02)
    assert _places(svg, "rect") == [a]
    root = ElementTree.fromstring(svg)
    ticks = [e for e in root.iter(_SVG + "text") if e.get("text-anchor") == "end" and e.get("dy")]
    level = {float(e.text or ""): float(e.get("y", "")) for e in ticks if e.get("class") == "axis"}
    assert level[20.0] == pytest.approx(b[1], abs=0.02)
    ranges = [(64, 696), (64, 384)]
    for point in (a, b, c):
        assert all(low <= at <= high for at, (low, high) in zip(point, ranges))


@pytest.mark.parametrize("errors", [(0.0,), (0.1,), (0.1, 0.1, 0.1), (1e-9, 0.0), (50.0, 3.0)])
def test_few_or_equal_points_are_drawn(errors: Tuple[float, ...]) -> None:
    """One plan, plans alike, no error at all: a picture without NaN."""
    svg = to_svg(_trade(*errors), "net.pb")
    assert len(_places(svg, "circle")) == len(errors)
    assert not re.search(r"\b(nan|inf)\b", svg)


def test_a_hostile_name_is_text() -> None:
    """The name of the file can hold anything; in the picture it is text of bounded length."""
    svg = to_svg(_trade(0.1), "<script>alert(1)</script>\x1b[31m" + "x" * 5000)
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert len(svg) < 20000
    ElementTree.fromstring(svg)


def test_from_the_command_line(tmp_path: Path, fixtures: Path, capsys: Any) -> None:
    """Table, JSON, CSV and picture say the same."""
    source = fixtures / "digits_cnn.pb"
    table, svg = tmp_path / "t.csv", tmp_path / "t.svg"
    told = run(capsys, "plan", source, "--sweep", "--csv", table, "--svg", svg)
    assert told.status == 0, told.err
    data = json.loads(run(capsys, "plan", source, "--sweep", "--json").out)
    trade = measure(graphwq.load(source), Options())
    assert data == trade.to_json()
    assert table.read_text() == to_csv(trade)
    assert svg.read_text() == to_svg(trade, "digits_cnn.pb")
    rows = [line.split() for line in told.out.splitlines() if re.match(r" +\d", line)]
    assert [float(row[0]) for row in rows] == list(TARGETS)
    assert [row[1] for row in rows][:2] == ["30.6", "34.2"]  # kB
    out = tmp_path / "four.pb"
    assert run(capsys, "quantize", source, "-o", out, "--target-bits", 4.5).status == 0
    (four,) = [one for one in trade.mixed if one.target == 4.5]
    assert out.stat().st_size == four.nbytes


def test_the_same_bytes_in_every_process(tmp_path: Path, fixtures: Path) -> None:
    """Another hash seed, one picture and one table; it is the one that the page shows."""
    found = set()
    for seed in "01":
        svg = tmp_path / f"{seed}.svg"
        command = [sys.executable, "-m", "graphwq", "plan", str(fixtures / "digits_cnn.pb")]
        command += ["--sweep", "--svg", str(svg), "--csv", str(tmp_path / f"{seed}.csv")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        found.add(svg.read_bytes() + (tmp_path / f"{seed}.csv").read_bytes())
    assert len(found) == 1


def test_the_page_shows_the_picture(fixtures: Path, pytestconfig: pytest.Config) -> None:
    """docs/tradeoff.svg is what the command above it draws."""
    page = ROOT / "docs" / "tradeoff.svg"
    source = fixtures / "digits_cnn.pb"
    drawn = to_svg(measure(graphwq.load(source), Options()), source.name)
    if pytestconfig.getoption("--update-golden"):
        page.write_text(drawn, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == drawn


def test_options_that_mean_nothing_are_refused(tmp_path: Path, fixtures: Path, capsys: Any) -> None:
    """Widths beside a sweep, a picture without one, a form that saves nothing, files that exist."""
    source, there = fixtures / "digits_mlp.pb", tmp_path / "there.svg"
    there.write_text("mine")
    cases: Dict[Tuple[Any, ...], str] = {
        ("--sweep", "--bits", 4): "--bits has no effect with --sweep",
        ("--sweep", "--target-bits", 4): "--target-bits has no effect with --sweep",
        ("--sweep", "--target-size", "20%"): "--target-size has no effect with --sweep",
        ("--sweep", "-o", tmp_path / "p.json"): "--output has no effect with --sweep",
        ("--svg", tmp_path / "a.svg"): "--svg has no effect without --sweep",
        ("--csv", tmp_path / "a.csv"): "--csv has no effect without --sweep",
        ("--sweep", "--storage", "bake"): "no sizes to compare",
        ("--sweep", "--exclude", "*"): "no weight whose width",
        ("--sweep", "--include", "nothing"): "matches no weight",
        ("--sweep", "--svg", there): "exists",
        ("--sweep", "--svg", source): "is the input itself",
        ("--sweep", "--method", "auto"): "--method auto decides by running",
    }
    before = sorted(tmp_path.iterdir())
    for extra, said in cases.items():
        outcome = run(capsys, "plan", source, *extra)
        assert outcome.status == 2, extra
        assert_one_line(outcome.err, said)
    assert sorted(tmp_path.iterdir()) == before
    assert there.read_text() == "mine"
