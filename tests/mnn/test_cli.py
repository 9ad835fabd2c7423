"""``graphwq mnn`` on the command line: golden texts, files, exit codes, bad input."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder
from commandline import assert_one_line, leftovers, run
from conftest import FIXTURES

from graphwq.mnn import child, command, compress_params
from graphwq.mnn.compress_params import Record

from .layers import graph_of, matmul, relu

FIXTURE_NAMES = ["digits_cnn", "digits_mlp", "digits_embedding", "digits_lstm"]


@pytest.fixture(autouse=True)
def _plain_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """x -> MatMul(w) -> Relu, as a file."""
    path = tmp_path / "in.pb"
    path.write_bytes(graph_of(lambda b: relu(b, matmul(b))).to_bytes())
    return path


@pytest.mark.parametrize("name", FIXTURE_NAMES)
def test_lint_golden(name: str, capsys: Any, golden: Any, monkeypatch: Any) -> None:
    """What lint says of the fixtures, word for word, without the converter."""
    monkeypatch.chdir(FIXTURES.parent)
    found = run(capsys, "mnn", "lint", f"fixtures/{name}.pb", "--bits", 4, "--no-converter")
    assert (found.status, found.err) == (0, "")
    lines = [line.rstrip() for line in found.out.splitlines()]
    golden(f"mnn_lint_{name}.txt", "\n".join(lines) + "\n")


@pytest.mark.mnn
@pytest.mark.parametrize("name", FIXTURE_NAMES)
def test_lint_with_the_converter(name: str, capsys: Any) -> None:
    """The same verdicts, and the size within 2 % of what convert then makes."""
    path = FIXTURES / f"{name}.pb"
    plain = json.loads(run(capsys, "mnn", "lint", path, "--json", "--no-converter").out)
    asked = json.loads(run(capsys, "mnn", "lint", path, "--json").out)
    assert plain["layers"] == asked["layers"]
    assert (plain["measured"], asked["measured"]) == (False, True)
    assert abs(plain["predicted_bytes"] / asked["predicted_bytes"] - 1) < 0.1


@pytest.mark.mnn
@pytest.mark.tf
def test_convert(small: Path, tmp_path: Path, capsys: Any) -> None:
    """A model, a compression file, a table; as JSON all numbers."""
    out, params = tmp_path / "out.mnn", tmp_path / "out.json"
    found = run(capsys, "mnn", "convert", small, "-o", out, "--bits", 4, "--params", params)
    assert (found.status, found.err) == (0, "")
    assert "128 of 128" in found.out
    assert "as close" in found.out
    assert compress_params.read(params) == [Record("c__matmul_converted", "", 4)]
    again = run(capsys, "mnn", "convert", small, "-o", out, "--bits", 4)
    assert_one_line(again.err, "exists", "--force")
    data = run(capsys, "mnn", "convert", small, "-o", out, "--bits", 4, "--json", "--force")
    report = json.loads(data.out)
    assert report["equal_codes"] == report["codes"] == 128
    assert report["bytes"] == out.stat().st_size
    assert report["passed"] is True
    assert leftovers(tmp_path) == []


@pytest.mark.mnn
@pytest.mark.tf
def test_feeds(small: Path, tmp_path: Path, capsys: Any) -> None:
    """Feeds by tensor name; an .npz that names no tensor, or is none, is bad input."""
    out, feeds = tmp_path / "out.mnn", tmp_path / "feeds.npz"
    np.savez(str(feeds), **{"x:0": np.ones((1, 8), np.float32), "labels": np.ones(3)})
    found = run(capsys, "mnn", "convert", small, "-o", out, "--feeds", feeds, "--json")
    assert [output["name"] for output in json.loads(found.out)["outputs"]] == ["y:0"]
    assert found.status == 0
    np.savez(str(feeds), **{"x:0": np.ones((3, 8), np.float32)})
    found = run(capsys, "mnn", "convert", small, "-o", out, "--feeds", feeds, "--force")
    assert found.status == 1  # feeds were given, and nothing could be compared on them
    assert "outputs not compared: TensorFlow cannot run the graph" in found.out
    np.savez(str(feeds), nothing=np.ones(3))
    found = run(capsys, "mnn", "convert", small, "-o", out, "--feeds", feeds, "--force")
    assert found.status == 2
    assert_one_line(found.err, "feeds.npz", "tensor")
    feeds.write_text("no npz")
    found = run(capsys, "mnn", "convert", small, "-o", out, "--feeds", feeds, "--force")
    assert_one_line(found.err, "feeds.npz")


@pytest.mark.mnn
def test_worse_outputs_are_findings(
    small: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """Exit status 1 where an output is not as close as that of the float model."""
    pytest.importorskip("tensorflow")
    from graphwq.mnn import convert

    monkeypatch.setattr(
        convert, "check_outputs", lambda *_: [convert.OutputCheck("y:0", 20.0, 30.0)]
    )
    found = run(capsys, "mnn", "convert", small, "-o", tmp_path / "out.mnn")
    assert found.status == 1
    assert "NOT as close" in found.out


def _unreadable(tmp_path: Path) -> Path:
    b = GraphBuilder()
    b.op("y", "NoSuchOpAnywhere", [matmul(b)])
    path = tmp_path / "odd.pb"
    path.write_bytes(b.to_bytes())
    return path


@pytest.mark.mnn
def test_a_graph_that_mnn_cannot_read(tmp_path: Path, capsys: Any) -> None:
    """convert: exit 2 with the converter's reason and no file; lint says it, exit 1."""
    path, out = _unreadable(tmp_path), tmp_path / "out.mnn"
    found = run(capsys, "mnn", "convert", path, "-o", out)
    assert found.status == 2
    assert_one_line(found.err, "odd.pb", "Tensorflow::NoSuchOpAnywhere")
    assert not out.exists()
    found = run(capsys, "mnn", "lint", path)
    assert found.status == 1
    assert "MNN cannot read this graph: These Op Not Support" in found.out


@pytest.mark.mnn
def test_nothing_is_written_when_codes_differ(
    small: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """A broken promise is one line of error, and leaves an existing model as it was."""
    from graphwq.mnn import lint

    real = lint.layers

    def renamed(*arguments: Any) -> Any:
        from dataclasses import replace

        return [replace(layer, name="unknown") for layer in real(*arguments)]

    monkeypatch.setattr(lint, "layers", renamed)
    out = tmp_path / "out.mnn"
    out.write_bytes(b"the old one")
    found = run(capsys, "mnn", "convert", small, "-o", out, "--force")
    assert found.status == 2
    assert_one_line(found.err, "unknown", "knows no layer", "--exclude")
    assert out.read_bytes() == b"the old one"
    assert leftovers(tmp_path) == []
    data = json.loads(run(capsys, "mnn", "lint", small, "--json").out)
    assert [layer["fate"] for layer in data["layers"]] == ["unknown_layer"]


def test_command(small: Path, tmp_path: Path, capsys: Any) -> None:
    """Graph and compression file are written, the command names them; with --json as data."""
    out = tmp_path / "with space.pb"
    found = run(capsys, "mnn", "command", small, "-o", out, "--bits", 4)
    assert (found.status, found.err) == (0, "")
    line, note = found.out.splitlines()
    words = shlex.split(line)
    assert words[:5] == ["mnnconvert", "-f", "TF", "--modelFile", str(out)]
    params = tmp_path / "with space.params.bin"
    assert words[5:9] == ["--MNNModel", str(tmp_path / "with space.mnn"), "--bizCode", "graphwq"]
    assert words[9:] == ["--weightQuantBits", "4", "--compressionParamsFile", str(params)]
    assert note.startswith("# for converters before 2.8.4 and from 3.0.4 on")
    records = compress_params.read(tmp_path / "with space.params.bin")
    assert records == [Record("c__matmul_converted", "", 4)]
    found = run(capsys, "mnn", "command", small, "-o", out, "--bits", 4, "--json", "--force")
    assert json.loads(found.out)["command"] == words


@pytest.mark.mnn
def test_the_printed_command_works(small: Path, tmp_path: Path, capsys: Any) -> None:
    """Given to the real converter word by word, it makes the model with the planned codes."""
    out = tmp_path / "out.pb"
    data = json.loads(run(capsys, "mnn", "command", small, "-o", out, "--bits", 3, "--json").out)
    target = tmp_path / "own.mnn"
    child.convert(out, target, data["command"][9:])
    from graphwq.mnn.model import read

    (layer,) = read(target).layers
    assert layer.quantized is not None
    assert (layer.quantized.num_bits, layer.quantized.asymmetric) == (3, False)
    assert int(np.abs(layer.quantized.codes).max()) == 3


PATHS = [Path(name) for name in ("a.pb", "a.mnn", "a.bin")]
UNIFORM = [Record("a", "", 4), Record("b", "loop/body", 4)]


@pytest.mark.parametrize(
    ("version", "last"),
    [
        (None, ["--weightQuantBits", "4", "--compressionParamsFile", "a.bin"]),
        ("2.7", ["--weightQuantBits", "4"]),
        ("2.8.3", ["--weightQuantBits", "4"]),
        ("2.8.4", ["--weightQuantBits", "4", "--weightQuantAsymmetric=0"]),
        ("3.0.3", ["--weightQuantBits", "4", "--weightQuantAsymmetric=0"]),
        ("3.0.4", ["--compressionParamsFile", "a.bin", "--weightQuantAsymmetric=0"]),
        ("3.6.0", ["--compressionParamsFile", "a.bin", "--weightQuantAsymmetric=0"]),
    ],
)
def test_commands_by_version(version: Any, last: Any) -> None:
    """Before 2.8.4 the flag's mere presence means asymmetric; from there on it must be =0."""
    parsed = None if version is None else command.parse_version(version)
    found = command.make(*PATHS, UNIFORM, parsed)
    assert list(found.argv[9:]) == last
    assert bool(found.notes) == (version is None)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([Record("a", "", 4), Record("b", "", 8)], "4 and 8 bits"),
        ([Record("a", "", 4), Record("b", "", 0)], "'b' has to stay float"),
        ([Record("a", "", 4, 32)], "per block"),
        ([], "nothing is quantized"),
    ],
)
def test_what_old_converters_cannot_do(records: Any, said: str) -> None:
    """Mixed bits, float layers and blocks need the records: a note, or an error for an old one."""
    found = command.make(*PATHS, records)
    assert found.argv[9:] == ("--compressionParamsFile", "a.bin")
    assert said in found.notes[0]
    with pytest.raises(Exception, match=said):
        command.make(*PATHS, records, (2, 7, 0))


@pytest.mark.parametrize("text", ["", "three", "3.x", "3.6.0.1", "-1", "3..6", "٣"])
def test_versions(text: str, small: Path, tmp_path: Path, capsys: Any) -> None:
    """A version is up to three numbers."""
    found = run(capsys, "mnn", "command", small, "-o", tmp_path / "o.pb", f"--converter={text}")
    assert found.status == 2
    assert_one_line(found.err, "version")


BAD = [
    (["lint", "missing.pb"], "cannot read missing.pb"),
    (["lint", "in.pb", "--bits", "9"], "from 2 to 8"),
    (["lint", "in.pb", "--storage", "fake_quant"], "storage"),
    (["lint", "in.pb", "--plan", "text"], "not a plan"),
    (["lint", "in.pb", "--plan", "other.json"], "another graph"),
    (["lint", "in.pb", "--plan", "other.json", "--bits", "4"], "--bits has no effect"),
    (["lint", "text"], "text"),
    (["command", "in.pb", "-o", "in.pb"], "is the input"),
    (["command", "in.pb", "-o", "o.pb", "--params", "o.pb"], "three names"),
    (["command", "in.pb", "-o", "o.pb", "--append", "gone.bin"], "cannot read gone.bin"),
    (["command", "in.pb", "-o", "o.pb", "--append", "text"], "not an MNN compression file"),
    (["command", "in.pb", "-o", "o.pb", "--append", "a.json"], "both end in .json"),
    (["command", "in.pb", "-o", "nowhere/o.pb"], "no folder"),
    (["nothing"], "invalid choice"),
    ([], "required"),
]
CONVERT_BAD = [
    (["convert", "in.pb"], "-o"),
    (["convert", "in.pb", "-o", "in.pb"], "is the input"),
    (["convert", "in.pb", "-o", "o.mnn", "--append", "gone.bin"], "cannot read gone.bin"),
    (["convert", "in.pb", "-o", "o.mnn", "--append", "text"], "not an MNN compression file"),
    (["convert", "in.pb", "-o", "o.mnn", "--plan", "other.json"], "another graph"),
    (["convert", "in.pb", "-o", "o.mnn", "--feeds", "gone.npz"], "gone.npz"),
    (["convert", "in.pb", "-o", "o.mnn", "--params", "p.json", "--append", "p.bin"], "json"),
    (["convert", "text", "-o", "o.mnn"], "text"),
]


def _bad(arguments: Any, said: str, small: Path, capsys: Any, monkeypatch: Any) -> None:
    folder = small.parent
    monkeypatch.chdir(folder)
    (folder / "text").write_text("just some text, no graph and no plan")
    (folder / "a.json").write_text('{"version": "0.0.0"}')
    from builders import dense

    import graphwq

    (folder / "other.json").write_text(graphwq.plan(dense()).dumps())
    before = sorted(item.name for item in folder.iterdir())
    found = run(capsys, "mnn", *arguments)
    assert found.status == 2
    assert_one_line(found.err, said)
    assert sorted(item.name for item in folder.iterdir()) == before


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_bad_input(arguments: Any, said: str, small: Path, capsys: Any, monkeypatch: Any) -> None:
    """One line, exit status 2, and not one file more than before."""
    _bad(arguments, said, small, capsys, monkeypatch)


@pytest.mark.mnn
@pytest.mark.parametrize(("arguments", "said"), CONVERT_BAD)
def test_bad_input_of_convert(
    arguments: Any, said: str, small: Path, capsys: Any, monkeypatch: Any
) -> None:
    """The same for convert: no half-written model, no compression file."""
    _bad(arguments, said, small, capsys, monkeypatch)


def test_without_the_mnn_package(
    small: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """lint and command work, convert says which extra to install."""
    monkeypatch.setattr(child, "is_installed", lambda: False)
    found = run(capsys, "mnn", "lint", small)
    assert found.status == 0
    assert "an estimate" in found.out
    assert run(capsys, "mnn", "command", small, "-o", tmp_path / "o.pb").status == 0
    found = run(capsys, "mnn", "convert", small, "-o", tmp_path / "o.mnn")
    assert found.status == 2
    assert_one_line(found.err, "graphwq[mnn]")


def test_hostile_names(tmp_path: Path, capsys: Any) -> None:
    """Escape sequences, line feeds and very long names do not reach the terminal."""
    b = GraphBuilder()
    from builders import random_weight

    name = "w\x1b[31m\nred" + "x" * 5000
    w = b.const(name, random_weight((8, 16)))
    relu(b, b.matmul("c\x1b[0m", b.placeholder("x", [1, 8]), w))
    path = tmp_path / "in.pb"
    path.write_bytes(b.to_bytes())
    for arguments in (["lint", path, "--no-converter"], ["command", path, "-o", tmp_path / "o.pb"]):
        found = run(capsys, "mnn", *arguments)
        assert found.status == 0
        assert "\x1b" not in found.out
        assert max(len(line) for line in found.out.splitlines()) < 1000


def test_the_core_is_enough(small: Path, tmp_path: Path) -> None:
    """lint and command load neither TensorFlow nor MNN."""
    from commandline import process

    code = (
        "import sys; from graphwq.cli.main import main;"
        "status = main(sys.argv[1:]);"
        "assert not {'tensorflow', 'MNN', '_tools'} & set(sys.modules), sorted(sys.modules);"
        "sys.exit(status)"
    )
    found = process("mnn", "lint", small, "--no-converter", code=code)
    assert found.status == 0, found.err
    found = process("mnn", "command", small, "-o", tmp_path / "o.pb", code=code)
    assert found.status == 0, found.err
    assert sys.executable
