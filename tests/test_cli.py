"""The command line: what it prints, what it writes, and the shapes of its JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight
from commandline import environment, leftovers, process, run
from conftest import ROOT
from rewriting import BITS, STORAGES, function_graph, gather, through_identity, value

import graphwq
from graphwq import text
from graphwq.cli import options as cli_options
from graphwq.cli.main import COMMANDS, build_parser
from graphwq.graphdef.graph import Graph


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A MatMul with a bias: one weight, one constant that is none."""
    b = GraphBuilder()
    w = b.op("w/read", "Identity", [b.const("w", random_weight((96, 64)))])
    y = b.matmul("y", b.placeholder("x", [-1, 96]), w)
    b.op("z", "BiasAdd", [y, b.const("bias", random_weight((64,)))])
    path = tmp_path / "in.pb"
    path.write_bytes(b.to_bytes())
    return path


def _json(capsys: Any, *arguments: Any) -> Any:
    found = run(capsys, *arguments, "--json")
    assert found.status == 0, found.err
    assert found.err == ""
    return json.loads(found.out)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse lays its help out anew")
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, capsys: Any, golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help texts, word for word: what people read first."""
    monkeypatch.setenv("COLUMNS", "100")
    found = run(capsys, *([command] if command else []), "--help")
    assert (found.status, found.err) == (0, "")
    newer = found.out.replace("optional arguments:", "options:")  # Python 3.10 and later
    golden(f"help/{command or 'graphwq'}.txt", newer)


def test_help_names_every_option() -> None:
    """Every option has a help text, and every command says what it is for."""
    for command in COMMANDS:
        parser = build_parser(command)
        (sub,) = [
            action.choices[command]
            for action in parser._actions
            if isinstance(action.choices, dict) and command in action.choices
        ]
        pending = [sub]
        while pending:
            current = pending.pop()
            assert current.description
            for action in current._actions:
                if isinstance(action.choices, dict):  # commands of a command
                    pending.extend(action.choices.values())
                else:
                    assert action.help, (command, action.dest)


def test_version(capsys: Any) -> None:
    """--version prints name and version on stdout."""
    found = run(capsys, "--version")
    assert (found.status, found.out) == (0, f"graphwq {graphwq.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["quantize"], ["quantize", "in.pb"], ["inspect", "--bits", "8"]],
)
def test_wrong_usage(arguments: List[str], capsys: Any) -> None:
    """A command that is none or lacks an argument: exit 2, nothing on stdout."""
    found = run(capsys, *arguments)
    assert (found.status, found.out) == (2, "")
    assert "graphwq" in found.err


def test_inspect_json(graph: Path, capsys: Any) -> None:
    """The JSON of inspect has the fields of the issue, in its types."""
    data = _json(capsys, "inspect", graph)
    assert {"sites", "skips"} <= set(data)
    (site,) = data["sites"]
    assert {"weight", "shape", "dtype", "source", "path", "consumers"} <= set(site)
    assert site["weight"] == "w"
    assert site["shape"] == [96, 64]
    assert site["dtype"] == "float32"
    assert site["source"] == "CONST"
    assert site["path"] == ["Identity"]
    (consumer,) = site["consumers"]
    assert {"node", "op", "slot", "kept_axes"} <= set(consumer)
    assert (consumer["node"], consumer["op"]) == ("y", "MatMul")
    assert (consumer["slot"], consumer["kept_axes"]) == (1, [1])
    (skip,) = data["skips"]
    assert list(skip) == ["node", "reason", "detail"]
    assert (skip["node"], skip["reason"]) == ("bias", "not_a_weight")
    assert data["bytes"] == graph.stat().st_size
    assert data["problems"] == []
    assert data["quantized"] == []


def test_quantize_json(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """The JSON of quantize has exactly the fields of the issue for weights and skips."""
    out = tmp_path / "out.pb"
    data = _json(capsys, "quantize", graph, "-o", out)
    required = ["input", "output", "bytes_before", "bytes_after", "weights", "skips"]
    assert set(required) <= set(data)
    assert set(data) - set(required) <= {"shared_bytes", "modified"}
    assert (data["input"], data["output"]) == (str(graph), str(out))
    assert data["bytes_before"] == graph.stat().st_size
    assert data["bytes_after"] == out.stat().st_size
    (weight,) = data["weights"]
    assert list(weight) == [
        "weight",
        "num_bits",
        "storage",
        "sqnr_db",
        "max_abs_error",
        "bytes_before",
        "bytes_after",
    ]
    assert (weight["weight"], weight["num_bits"], weight["storage"]) == ("w", 8, "dequant")
    original = value(graphwq.load(graph), "w").astype(np.float64)
    error = original - value(graphwq.load(out), "w")
    expected = 10 * np.log10((original**2).sum() / (error**2).sum())
    assert weight["sqnr_db"] == pytest.approx(expected, abs=0.01)
    assert weight["max_abs_error"] == pytest.approx(np.abs(error).max(), rel=1e-4)
    saved = weight["bytes_before"] - weight["bytes_after"]
    assert data["bytes_before"] - data["bytes_after"] == saved - data.get("shared_bytes", 0)
    assert [list(skip) for skip in data["skips"]] == [["node", "reason", "detail"]]


def test_plan_json_is_the_plan(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """plan --json prints what -o writes, and what the API makes."""
    out = tmp_path / "plan.json"
    data = _json(capsys, "plan", graph, "-o", out, "--bits", "4")
    assert json.loads(out.read_text(encoding="utf-8")) == data
    assert graphwq.Plan.loads(out.read_text(encoding="utf-8")) == graphwq.plan(graph, 4)


def test_json_is_strict(capsys: Any, tmp_path: Path) -> None:
    """An exact weight has no SQNR in dB: null, and never Infinity or NaN."""
    b = GraphBuilder()
    signs = np.sign(random_weight((64, 64)))
    b.matmul("y", b.placeholder("x", [-1, 64]), b.const("w", signs))
    path = tmp_path / "in.pb"
    path.write_bytes(b.to_bytes())
    for arguments in (["inspect", path], ["quantize", path, "-o", tmp_path / "out.pb"]):
        found = run(capsys, *arguments, "--json")
        json.loads(found.out, parse_constant=_no_constant)
        if arguments[0] == "quantize":
            (weight,) = json.loads(found.out)["weights"]
            assert weight["sqnr_db"] is None
            assert weight["max_abs_error"] == 0


@pytest.mark.parametrize("command", ["inspect", "plan", "quantize"])
def test_json_is_alone_on_stdout(command: str, graph: Path, capsys: Any, tmp_path: Path) -> None:
    """With --json stdout is one JSON value and stderr is empty."""
    out = ["-o", tmp_path / "out"] if command != "inspect" else []
    found = run(capsys, command, graph, *out, "--json")
    assert found.err == ""
    json.loads(found.out)
    assert found.out.endswith("\n")


def test_tables(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """The tables name every weight, the sizes before and after, and what was left alone."""
    found = run(capsys, "inspect", graph)
    assert "1 weight" in found.out
    assert "96x64" in found.out
    assert "MatMul[1] <- Identity" in found.out
    assert "not quantized: every weight is plain float" in found.out
    assert "1 not_a_weight" in found.out
    found = run(capsys, "plan", graph, "--bits", "4")
    assert "1 weight to quantize" in found.out
    assert re.search(r"w +4 +dequant +per channel 1 +packed 4 bit", found.out)
    found = run(capsys, "quantize", graph, "-o", tmp_path / "out.pb")
    assert "1 weight quantized" in found.out
    assert re.search(r"in\.pb 25\.\d kB -> .*out\.pb \d\.\d kB \(\d\d\.\d %\)", found.out)
    found = run(capsys, "inspect", tmp_path / "out.pb")
    assert "1 stored quantized" in found.out
    assert "quantized: 1 of 1 weight as integers, 0 as floats on a grid" in found.out


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("storage", STORAGES)
def test_inspect_says_what_quantize_did(
    bits: int, storage: str, capsys: Any, tmp_path: Path
) -> None:
    """The width and the axis of every quantized weight are found again from the file alone."""
    for name, made in (("dense", dense(96, 64)), ("conv", convolution((3, 3, 16, 64)))):
        path, out = tmp_path / f"{name}.pb", tmp_path / f"{name}_out.pb"
        path.write_bytes(made.to_bytes())
        done = run(capsys, "quantize", path, "-o", out, "--bits", bits, "--storage", storage)
        assert done.status == 0, done.err
        data = _json(capsys, "inspect", out)
        axes = [1] if name == "dense" else [3]
        if storage == "bake":
            (site,) = data["sites"]
            assert (site["grid"]["num_bits"], site["grid"]["axes"]) == (bits, axes)
        else:
            (found,) = data["quantized"]
            assert (found["weight"], found["storage"]) == ("w", storage)
            assert (found["num_bits"], found["axes"]) == (bits, axes)
            assert not data["sites"]


def test_inspect_of_plain_floats_sees_no_grid(fixtures: Path, capsys: Any) -> None:
    """Trained weights are on no grid."""
    for path in sorted(fixtures.glob("*.pb")):
        data = _json(capsys, "inspect", path)
        assert data["sites"]
        assert all(site["grid"] is None for site in data["sites"])
        assert data["quantized"] == []


def test_quantize_twice(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """The second time there is nothing to do: the output is a copy, and says so."""
    for storage in STORAGES:
        first, second = tmp_path / f"{storage}1.pb", tmp_path / f"{storage}2.pb"
        assert run(capsys, "quantize", graph, "-o", first, "--storage", storage).status == 0
        done = run(capsys, "quantize", first, "-o", second, "--storage", storage)
        assert (done.status, done.err) == (0, "")
        assert "the output is a copy of the input" in done.out
        assert first.read_bytes() == second.read_bytes()
        third = tmp_path / f"{storage}3.pb"
        data = _json(capsys, "quantize", second, "-o", third, "--storage", storage)
        assert data.get("modified") is False
        assert data["bytes_before"] == data["bytes_after"]


def test_plan_and_quantize_agree(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """quantize --plan writes the bytes that quantize with the same options writes."""
    for number, options in enumerate(
        (["--bits", "4"], ["--rule", "w=3"], ["--granularity", "group", "--group-size", "16"])
    ):
        plan, one, two = (tmp_path / f"{number}{end}" for end in (".json", "a.pb", "b.pb"))
        assert run(capsys, "plan", graph, "-o", plan, *options).status == 0
        assert run(capsys, "quantize", graph, "--plan", plan, "-o", one).status == 0
        assert run(capsys, "quantize", graph, "-o", two, *options).status == 0
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_overrides_the_plan(storage: str, graph: Path, capsys: Any, tmp_path: Path) -> None:
    """--storage beside --plan changes the storage form; the plan file stays as it is."""
    plan, out, direct = tmp_path / "plan.json", tmp_path / "out.pb", tmp_path / "direct.pb"
    assert run(capsys, "plan", graph, "-o", plan, "--bits", "4").status == 0
    before = plan.read_bytes()
    data = _json(capsys, "quantize", graph, "--plan", plan, "-o", out, "--storage", storage)
    assert [weight["storage"] for weight in data["weights"]] == [storage]
    assert plan.read_bytes() == before
    run(capsys, "quantize", graph, "-o", direct, "--bits", "4", "--storage", storage)
    assert out.read_bytes() == direct.read_bytes()


def test_a_plan_edited_by_hand(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """A plan is a file to be edited: another width, or a weight taken out, is carried out."""
    plan, out = tmp_path / "plan.json", tmp_path / "out.pb"
    data = _json(capsys, "plan", graph, "-o", plan)
    data["items"][0].update(num_bits=5, stored_bits=5)
    plan.write_text(json.dumps(data))
    report = _json(capsys, "quantize", graph, "--plan", plan, "-o", out)
    assert report["weights"][0]["num_bits"] == 5
    data["items"] = []
    plan.write_text(json.dumps(data))
    report = _json(capsys, "quantize", graph, "--plan", plan, "-o", out, "--force")
    assert report["weights"] == []
    assert out.read_bytes() == graph.read_bytes()


def test_rules_on_the_command_line(capsys: Any, tmp_path: Path) -> None:
    """--rule, --include, --exclude, --ops and --min-elements as documented; = in a name is fine."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 64])
    for name in ("fc/a", "fc/b", "x=y"):
        x = b.matmul(f"{name}/y", x, b.const(name, random_weight((64, 64), len(name))))
    path = tmp_path / "in.pb"
    path.write_bytes(b.to_bytes())

    def widths(*arguments: str) -> Dict[str, int]:
        data = _json(capsys, "plan", path, *arguments)
        return {item["weight"]: item["num_bits"] for item in data["items"]}

    assert widths() == {"fc/a": 8, "fc/b": 8, "x=y": 8}
    assert widths("--rule", "fc/*=4") == {"fc/a": 4, "fc/b": 4, "x=y": 8}
    assert widths("--rule", "fc/*=4", "--rule", "fc/b=float") == {"fc/a": 4, "x=y": 8}
    assert widths("--rule", "fc/b=float", "--rule", "fc/*=4") == {"fc/a": 4, "fc/b": 4, "x=y": 8}
    assert widths("--rule", "x=y=3", "--bits", "6") == {"fc/a": 6, "fc/b": 6, "x=y": 3}
    assert widths("--include", "fc/a", "--include", "x*") == {"fc/a": 8, "x=y": 8}
    assert widths("--exclude", "fc/*") == {"x=y": 8}
    assert widths("--ops", "MatMul , Mat*") == {"fc/a": 8, "fc/b": 8, "x=y": 8}
    assert widths("--min-elements", "4097") == {}


def test_group_size_means_groups(graph: Path, capsys: Any) -> None:
    """--group-size alone is enough to ask for groups."""
    (item,) = _json(capsys, "plan", graph, "--group-size", "24")["items"]
    assert item["granularity"] == {"kind": "per_group", "axes": [1], "axis": 0, "group_size": 24}
    (item,) = _json(capsys, "plan", graph, "--granularity", "group")["items"]
    assert item["granularity"]["group_size"] == 32


def test_given_options() -> None:
    """The options that clash with --plan are all that there are, --storage apart."""
    import argparse

    parser = argparse.ArgumentParser()
    cli_options.configure(parser)
    every = {action.option_strings[-1] for action in parser._actions} - {"--help", "--storage"}
    values = ["--bits", "8", "--granularity", "group", "--group-size", "8", "--rule", "a=4"]
    values += ["--include", "a", "--exclude", "b", "--ops", "c", "--min-elements", "1"]
    values += ["--keep-larger", "--scale-bits", "16", "--method", "mse"]
    values += ["--target-bits", "4", "--target-size", "20%", "--correct-bias"]
    assert set(cli_options.given(parser.parse_args(values))) == every
    assert cli_options.given(parser.parse_args(["--storage", "bake"])) == ()


def test_text_in_and_out(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """.pbtxt is read and written; both forms hold the same graph."""
    as_text, out, back = tmp_path / "in.pbtxt", tmp_path / "out.pbtxt", tmp_path / "out.pb"
    graphwq.save(graphwq.load(graph), as_text)
    assert run(capsys, "quantize", as_text, "-o", out).status == 0
    assert run(capsys, "quantize", as_text, "-o", back).status == 0
    assert out.read_text().startswith("node {")
    one, other = value(graphwq.load(out), "w"), value(graphwq.load(back), "w")
    assert np.array_equal(one, other)


def test_functions_and_tables_have_names(capsys: Any, tmp_path: Path) -> None:
    """A weight in a function is called function:node; both spellings work in patterns."""
    path = tmp_path / "in.pb"
    path.write_bytes(function_graph(shape=(64, 64)).to_bytes())
    (site,) = _json(capsys, "inspect", path)["sites"]
    assert site["weight"] == "dense:w"
    (item,) = _json(capsys, "plan", path, "--rule", "dense:*=4")["items"]
    assert (item["weight"], item["num_bits"]) == ("dense:w", 4)


def test_file_names_with_spaces_and_signs(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """A path may hold spaces, non-ASCII letters and quotes."""
    folder = tmp_path / "a folder, 'é' 名"
    folder.mkdir()
    path, out = folder / "i n.pb", folder / "o,ut.pb"
    path.write_bytes(graph.read_bytes())
    data = _json(capsys, "quantize", path, "-o", out)
    assert data["output"] == str(out)
    assert out.stat().st_size == data["bytes_after"]
    assert leftovers(folder) == []


def test_permissions_of_the_output(graph: Path, capsys: Any, tmp_path: Path) -> None:
    """A new file gets the permissions that any new file gets, not those of a temporary one."""
    import os
    import stat

    out = tmp_path / "out.pb"
    old = os.umask(0o027)
    try:
        assert run(capsys, "quantize", graph, "-o", out).status == 0
    finally:
        os.umask(old)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640


def test_internal_errors(graph: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own bug is exit 70 and one line that says so; the traceback on request."""
    from graphwq.cli import inspect as command

    def broken(_arguments: Any) -> int:
        raise KeyError("surprise\nin two lines")

    monkeypatch.setattr(command, "run", broken)
    found = run(capsys, "inspect", graph)
    assert (found.status, found.out) == (70, "")
    assert found.err.count("\n") == 1
    assert "internal error: KeyError" in found.err
    assert "GRAPHWQ_DEBUG=1" in found.err
    monkeypatch.setenv("GRAPHWQ_DEBUG", "1")
    assert "Traceback" in run(capsys, "inspect", graph).err


def test_interrupt_and_memory(graph: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends in 130, too little memory in 2; one line each."""
    from graphwq.cli import inspect as command

    for error, status, said in (
        (KeyboardInterrupt(), 130, "is as it was"),
        (MemoryError(), 2, "not enough memory"),
    ):

        def broken(_arguments: Any, error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr(command, "run", broken)
        found = run(capsys, "inspect", graph)
        assert (found.status, found.out) == (status, "")
        assert said in found.err
        assert found.err.count("\n") == 1


def test_no_progress_bar_in_a_pipe(graph: Path, tmp_path: Path) -> None:
    """Where stderr is no terminal there is no progress bar and no escape sequence."""
    found = process("quantize", graph, "-o", tmp_path / "out.pb")
    assert (found.status, found.err) == (0, "")
    assert "\x1b" not in found.out


def test_as_a_process(graph: Path, tmp_path: Path) -> None:
    """The whole way through processes: plan, quantize, inspect."""
    plan, out = tmp_path / "plan.json", tmp_path / "out.pb"
    assert process("plan", graph, "-o", plan, "--bits", "4").status == 0
    done = process("quantize", graph, "--plan", plan, "-o", out, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["bytes_after"] == out.stat().st_size
    (found,) = json.loads(process("inspect", out, "--json").out)["quantized"]
    assert found["num_bits"] == 4
    assert Graph.parse(out.read_bytes()).nodes


def test_an_output_that_cannot_be_printed(tmp_path: Path) -> None:
    """A terminal without UTF-8 is no reason to fail."""
    b = GraphBuilder()
    b.matmul("é名", b.placeholder("x", [-1, 64]), b.const("w名", random_weight((64, 64))))
    path = tmp_path / "in.pb"
    path.write_bytes(b.to_bytes())
    for arguments in (["inspect"], ["inspect", "--json"], ["plan"]):
        done = subprocess.run(
            [sys.executable, "-m", "graphwq", *arguments, str(path)],
            env={**environment(), "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
            cwd=str(ROOT),
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-500:]


def test_text_helpers() -> None:
    """Sizes, ratios, SQNR and names for people."""
    assert [text.size(n) for n in (0, 999, 1000, 25_000, 10**6, 2 * 10**9)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "25.0 kB",
        "1.0 MB",
        "2000.0 MB",
    ]
    assert text.ratio(25, 100) == "25.0 %"
    assert text.ratio(1, 0) == "-"
    assert text.decibel(float("inf")) == "exact"
    assert text.decibel(42.464) == "42.5"
    assert text.shape([]) == "scalar"
    assert text.shape([3, 3, 64]) == "3x3x64"
    assert text.plural(1, "weight") == "1 weight"
    assert text.plural(0, "weight") == "0 weights"
    assert text.printable("a\x1b[2Jb") == "a\\x1b[2Jb"
    long = text.name("x" * 500)
    assert len(long) <= text.MAX_NAME
    assert "..." in long
    assert text.one_line("a\n  b\tc") == "a b c"


def test_cases_run_through_the_command_line(capsys: Any, tmp_path: Path) -> None:
    """Tables, casts and reads through the whole command, at every width."""
    for number, case in enumerate((gather(row=(64,)), through_identity())):
        path = tmp_path / f"{number}.pb"
        path.write_bytes(case.graph.to_bytes())
        for bits in BITS:
            out = tmp_path / f"{number}_{bits}.pb"
            done = run(capsys, "quantize", path, "-o", out, "--bits", bits, "--keep-larger")
            assert done.status == 0
            assert graphwq.load(out).nodes
