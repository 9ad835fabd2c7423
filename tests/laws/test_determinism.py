"""Law 8: the same input gives the same bytes in every process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
from builders import GraphBuilder, random_weight
from conftest import ROOT
from rewriting import function_graph

_SCRIPT = """
import contextlib, hashlib, io, sys
from pathlib import Path
from graphwq.cli.main import main

folder, out = Path(sys.argv[1]), Path(sys.argv[2])


def run(*arguments):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = main([str(item) for item in arguments])
    assert status == 0, arguments
    return text.getvalue().replace(str(out), "OUT")


for path in sorted(folder.glob("*.pb*")):
    for number, arguments in enumerate([
        ["--bits", 8],
        ["--bits", 3],
        ["--bits", 6, "--granularity", "group", "--group-size", 8, "--keep-larger"],
        ["--bits", 4, "--storage", "bake"],
        ["--bits", 5, "--storage", "fake_quant", "--scale-bits", 16],
    ]):
        target = out / (path.stem + str(number) + path.suffix)
        report = run("quantize", path, "-o", target, "--json", *arguments)
        print(target.name, hashlib.sha256(target.read_bytes()).hexdigest())
        print(target.name, hashlib.sha256(report.encode()).hexdigest())
    plan = out / (path.stem + ".json")
    reports = {
        "inspect": run("inspect", path, "--json"),
        "table": run("inspect", path),
        "plan": run("plan", path, "-o", plan, "--json"),
        "plan file": plan.read_text(),
    }
    for name, text in reports.items():
        print(path.name, name, hashlib.sha256(text.encode()).hexdigest())
"""


def _process(folder: Path, out: Path, seed: str) -> str:
    out.mkdir()
    environment: Dict[str, str] = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "120",
    }
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder), str(out)],
        env=environment,
        cwd=str(ROOT),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained networks, a graph with a function, many shared consumers, and a text graph."""
    import graphwq

    folder = tmp_path_factory.mktemp("graphs")
    for name in ("digits_cnn", "digits_lstm", "digits_embedding"):
        (folder / f"{name}.pb").write_bytes((ROOT / "fixtures" / f"{name}.pb").read_bytes())
    (folder / "function.pb").write_bytes(function_graph(shape=(64, 96)).to_bytes())
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 64])
    weights = [b.const(f"w{index}", random_weight((64, 64), index)) for index in range(9)]
    for index in range(30):
        b.matmul(f"y{index}", x, weights[index % 9], tb=index % 3 == 0)
    (folder / "many.pb").write_bytes(b.to_bytes())
    graphwq.save(b.graph(), folder / "text.pbtxt")
    return folder


def test_any_hash_seed_gives_the_same_bytes(graphs: Path, tmp_path: Path) -> None:
    """Law 8: graphs, plans and reports of two processes with other hash seeds are identical."""
    first = _process(graphs, tmp_path / "one", "0")
    second = _process(graphs, tmp_path / "two", "4242")
    assert len(first.splitlines()) == 6 * (5 * 2 + 4)
    assert first == second


def test_any_number_of_threads_gives_the_same_bytes(
    graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 8: one core or many, the same graph and the same measured errors."""
    import graphwq

    for path in sorted(graphs.glob("*.pb")):
        found = set()
        for threads in ("1", "2", "8"):
            monkeypatch.setenv("GRAPHWQ_THREADS", threads)
            result = graphwq.quantize(path, 4, keep_larger=True)
            state = hashlib.sha256(result.graph.to_bytes())
            state.update(repr([weight.error for weight in result.weights]).encode())
            found.add(state.hexdigest())
        assert len(found) == 1, path.name


def test_the_same_graph_twice_in_one_process(graphs: Path) -> None:
    """Nothing is left over from one run to the next: names start at 0 again."""
    import graphwq

    path = graphs / "many.pb"
    assert graphwq.quantize(path, 3).graph.to_bytes() == graphwq.quantize(path, 3).graph.to_bytes()
