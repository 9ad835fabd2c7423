"""TensorFlow takes 1.5 s to load; the commands that need none must never load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from builders import GraphBuilder, random_weight
from checkpoints import meta_graph, write_bundle
from commandline import process

_CODE = """
import json, sys
before = set(sys.modules)
{body}
loaded = sorted(set(sys.modules) - before)
json.dump(loaded, sys.stderr)
"""

_COMMAND = """
from graphwq.cli.main import main
status = main(sys.argv[1:])
assert status == {status}, status
"""


def _loaded(body: str, *arguments: Any) -> List[str]:
    found = process(*arguments, code=_CODE.format(body=body))
    assert found.status == 0, found.err[-2000:]
    loaded: List[str] = json.loads(found.err.splitlines()[-1])
    return loaded


def _heavy(modules: List[str], *more: str) -> List[str]:
    """The first parts of module names that have no business here."""
    unwanted = {"tensorflow", "tensorflow_core", "tensorflow_estimator", "keras", "MNN", *more}
    return sorted({name.split(".")[0] for name in modules} & unwanted)


@pytest.fixture
def files(tmp_path: Path, fixtures: Path) -> Dict[str, Path]:
    """A graph, and where to write."""
    return {
        "graph": fixtures / "digits_mlp.pb",
        "plan": tmp_path / "plan.json",
        "out": tmp_path / "out.pb",
        "text": tmp_path / "out.pbtxt",
        "report": tmp_path / "report.json",
        "page": tmp_path / "report.html",
        "notes": tmp_path / "report.md",
    }


def test_import_loads_next_to_nothing() -> None:
    """``import graphwq`` loads neither TensorFlow nor numpy, networkx or protobuf."""
    loaded = _loaded("import graphwq")
    assert _heavy(loaded, "numpy", "networkx", "google", "tensorboard", "rich") == []
    assert [name for name in loaded if name.startswith("graphwq.")] == []


def test_version_loads_little() -> None:
    """``graphwq --version`` needs no graph and no table."""
    body = """
from graphwq.cli.main import main
try:
    main(["--version"])
except SystemExit:
    pass
"""
    assert _heavy(_loaded(body), "rich", "networkx") == []


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_the_commands_load_no_tensorflow(json_flag: List[str], files: Dict[str, Path]) -> None:
    """Every command, with tables and with JSON, binary and text, to its end."""
    graph, plan, out = files["graph"], files["plan"], files["out"]
    for arguments in (
        ["inspect", graph],
        ["plan", graph, "-o", plan, "--bits", "4"],
        ["quantize", graph, "--plan", plan, "-o", out],
        ["quantize", graph, "-o", files["text"], "--bits", "3", "--granularity", "group"],
        ["inspect", out],
        ["inspect", files["text"]],
        ["diff", graph, out, "--fail-on", "breaking"],
        ["verify", graph, out, "--plan", plan, "--static", "--report", files["report"]],
        ["report", files["report"], "--html", files["page"], "--markdown", files["notes"]],
    ):
        loaded = _loaded(_COMMAND.format(status=0), *arguments, *json_flag)
        assert "graphwq.graphdef.graph" in loaded
        # stdout is no terminal, and nothing asks for the networkx view
        assert _heavy(loaded, "rich", "networkx") == [], arguments[0]


def test_sources_load_no_tensorflow(tmp_path: Path) -> None:
    """A MetaGraph with its checkpoint is inspected, planned and quantized without TensorFlow."""
    b = GraphBuilder()
    b.placeholder("x", [-1, 40])
    b.variable("w", (40, 30))
    b.matmul("y", "x", "w")
    write_bundle(tmp_path / "model", {"w": random_weight((40, 30))})
    (tmp_path / "model.meta").write_bytes(meta_graph(b.to_bytes()))
    for arguments in (["inspect"], ["plan"], ["quantize", "-o", tmp_path / "out.pb"]):
        command = [arguments[0], tmp_path / "model", *arguments[1:]]
        found = process(*command, code=_CODE.format(body=_COMMAND.format(status=0)))
        assert found.status == 0, found.err[-2000:]
        loaded = json.loads(found.err.splitlines()[-1])
        assert "graphwq.graphdef.freeze" in loaded
        assert _heavy(loaded) == []


def test_errors_load_no_tensorflow(tmp_path: Path) -> None:
    """A refused file is refused without TensorFlow's help."""
    path = tmp_path / "bad.pb"
    path.write_bytes(b"no graph")
    found = process("inspect", path, code=_CODE.format(body=_COMMAND.format(status=2)))
    assert found.status == 0
    loaded = json.loads(found.err.splitlines()[-1])
    assert _heavy(loaded, "rich") == []


def test_the_python_api_loads_no_tensorflow(files: Dict[str, Path]) -> None:
    """load, locate, plan, quantize and save."""
    body = """
import graphwq
graph = graphwq.load(sys.argv[1])
graphwq.locate(graph)
for storage in ("dequant", "bake", "fake_quant"):
    result = graphwq.quantize(graph, 4, storage)
result.save(sys.argv[2])
for name in graphwq.__all__:
    getattr(graphwq, name)
"""
    assert _heavy(_loaded(body, files["graph"], files["out"])) == []
    assert files["out"].is_file()


def test_it_works_where_tensorflow_cannot_be_imported(files: Dict[str, Path]) -> None:
    """Python 3.8 has no TensorFlow 1.15: an import of it would fail there, so none is tried."""
    body = """
for name in ("tensorflow", "tensorflow_core", "tensorflow_estimator"):
    sys.modules[name] = None
from graphwq.cli.main import main
assert main(["quantize", sys.argv[1], "-o", sys.argv[2]]) == 0
from graphwq.errors import MissingDependencyError
from graphwq.tf1.session import tensorflow
try:
    tensorflow()
except MissingDependencyError as error:
    assert "graphwq[tf]" in str(error), error
else:
    raise AssertionError("no error")
from graphwq import WeightQuantizer, strip_wq_ops
for call in (WeightQuantizer, strip_wq_ops):
    try:
        call()
    except MissingDependencyError as error:
        assert "graphwq[tf]" in str(error), error
    else:
        raise AssertionError("no error")
"""
    assert "graphwq.tf1.session" in _loaded(body, files["graph"], files["out"])
