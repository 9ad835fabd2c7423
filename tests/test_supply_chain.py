"""No command opens a socket, and nothing that is read from a file is ever run as code."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from builders import GraphBuilder, random_weight
from checkpoints import meta_graph, write_bundle
from commandline import environment
from conftest import FIXTURES, ROOT

from graphwq.cli.main import COMMANDS

#: What a child process runs before anything else: every way to the network is written down, then
#: refused. ``import socket`` alone is no offence; making one is.
_SITE = """
import os, socket, sys

def _offence(what):
    with open(os.environ["GRAPHWQ_SOCKETS"], "a") as log:
        log.write(what + "\\n")
    raise OSError("no network in this test: " + what)

class _Refused(socket.socket):
    def __init__(self, *args, **options):
        _offence("socket")

def _refuse(name):
    return lambda *args, **options: _offence(name)

socket.socket = _Refused
for name in ("create_connection", "getaddrinfo", "gethostbyname", "socketpair", "fromfd"):
    setattr(socket, name, _refuse(name))
if hasattr(sys, "addaudithook"):
    sys.addaudithook(lambda event, _: event.startswith(("socket.", "urllib.")) and _offence(event))
"""

_FEEDS = ["--inputs", "fixtures/digits_mlp_test.npz"]
_GRAPH, _OUT = "fixtures/digits_mlp.pb", "out.pb"
#: Every command, in an order in which later ones find what earlier ones wrote.
COMMAND_LINES: List[List[str]] = [
    ["--version"],
    ["--help"],
    ["inspect", _GRAPH],
    ["inspect", "model"],
    ["plan", _GRAPH, "-o", "plan.json"],
    ["quantize", _GRAPH, "-o", _OUT, "--bits", "4"],
    ["quantize", "model", "-o", "variables.pb"],
    ["verify", _GRAPH, _OUT, "--static", "--report", "report.json"],
    ["report", "report.json", "--html", "report.html", "--markdown", "report.md"],
    ["diff", _GRAPH, _OUT],
    ["diff", _GRAPH, _OUT, "-o", "diff.html"],
    ["diff", _GRAPH, _OUT, "-o", "diff.json"],
    ["diff", _GRAPH, "--apply", "diff.json", "-o", "again.pb"],
    ["git", "enable"],
    ["git", "status"],
    ["git", "driver", "a.pb", _GRAPH, "0" * 40, "100644", _OUT, "0" * 40, "100644"],
    ["git", "textconv", _GRAPH],
    ["git", "disable"],
    ["mnn", "lint", _GRAPH, "--no-converter"],
    ["mnn", "command", _GRAPH, "-o", "baked.pb"],
]
WITH_MNN = [["mnn", "lint", _GRAPH], ["mnn", "convert", _GRAPH, "-o", "out.mnn", "--no-run"]]
WITH_TENSORFLOW = [
    ["quantize", _GRAPH, "-o", "gptq.pb", "--method", "gptq", "--bits", "4"],
    ["verify", _GRAPH, _OUT, *_FEEDS, "--layers", "--save-golden", "golden.npz"],
    ["verify", "--golden", "golden.npz", _OUT],
]
WITH_BOTH = [["mnn", "convert", _GRAPH, "-o", "run.mnn", "--force"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the fixtures, a model with variables, and the watched start-up."""
    path = tmp_path_factory.mktemp("offline")
    shutil.copytree(str(FIXTURES), str(path / "fixtures"))
    (path / "site").mkdir()
    (path / "site" / "sitecustomize.py").write_text(_SITE)
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    b = GraphBuilder()
    b.placeholder("x", [-1, 40])
    b.variable("w", (40, 30))
    b.matmul("y", "x", "w")
    write_bundle(path / "model", {"w": random_weight((40, 30))})
    (path / "model.meta").write_bytes(meta_graph(b.to_bytes()))
    return path


def _watched(folder: Path) -> Dict[str, str]:
    return {
        **environment(),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)]),
        "GRAPHWQ_SOCKETS": str(folder / "sockets"),
    }


def _run(folder: Path, arguments: List[str], before: List[str]) -> Any:
    """One command, watched; what it did besides is in the log of sockets."""
    command = [*before, sys.executable, "-m", "graphwq", *arguments]
    return subprocess.run(
        command, cwd=str(folder), env=_watched(folder), capture_output=True, timeout=300
    )


def _check(folder: Path, lines: List[List[str]]) -> None:
    """All of them, in a network of their own where that can be had; none makes a socket."""
    isolated = shutil.which("unshare") is not None and (
        subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0
    )
    for arguments in lines:
        done = _run(folder, arguments, ["unshare", "-n"] if isolated else [])
        assert done.returncode in (0, 1), (arguments, done.stderr[-2000:])
        log = folder / "sockets"
        assert not log.exists(), (arguments, log.read_text())


def test_the_watch_sees_a_socket(tmp_path: Path, folder: Path) -> None:
    """The start-up code of these tests notices and refuses what the commands must not do."""
    for number, code in enumerate(
        (
            "import socket; socket.socket()",
            "import socket; socket.create_connection(('localhost', 9))",
            "import urllib.request; urllib.request.urlopen('http://localhost:9')",
        )
    ):
        log = tmp_path / str(number)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**_watched(folder), "GRAPHWQ_SOCKETS": str(log)},
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 1
        assert log.is_file()


def test_no_command_opens_a_socket(folder: Path) -> None:
    """Every command, from start to end, its children included."""
    _check(folder, COMMAND_LINES)
    assert {line[0] for line in COMMAND_LINES} >= set(COMMANDS)


@pytest.mark.mnn
def test_the_converter_opens_no_socket(folder: Path) -> None:
    """mnn lint and convert: the parent and the child in which the converter runs."""
    _check(folder, WITH_MNN)


@pytest.mark.tf
def test_tensorflow_opens_no_socket(folder: Path) -> None:
    """verify with a session, calibration, golden data."""
    _run(folder, ["quantize", _GRAPH, "-o", _OUT, "--bits", "4"], [])
    _check(folder, WITH_TENSORFLOW)


@pytest.mark.tf
@pytest.mark.mnn
def test_both_runtimes_open_no_socket(folder: Path) -> None:
    """mnn convert runs graph and model beside one another."""
    _check(folder, WITH_BOTH)


def _calls() -> Iterator[Any]:
    """(place, call) of every call in the package."""
    for path in sorted((ROOT / "graphwq").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_numpy_never_unpickles() -> None:
    """Each np.load says allow_pickle=False: numpy before 1.16.3 would unpickle if not told."""
    loads = [
        (place, node)
        for place, node in _calls()
        if isinstance(node.func, ast.Attribute)
        and node.func.attr == "load"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("np", "numpy")
    ]
    assert loads
    for place, node in loads:
        given = {item.arg: ast.literal_eval(item.value) for item in node.keywords}
        assert given.get("allow_pickle") is False, place


def test_no_dangerous_name_is_imported_by_itself() -> None:
    """``from os import system`` would pass by the checks of calls in test_layers.py."""
    dangerous = {"system", "popen", "execv", "execve", "spawnv", "mktemp", "check_output", "call"}
    for path in sorted((ROOT / "graphwq").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in ("os", "subprocess", "tempfile"):
                names = {alias.name for alias in node.names}
                assert not names & dangerous, f"{path}:{node.lineno}"


def test_pages_escape_what_they_show() -> None:
    """Every jinja2 environment has autoescape on: names of nodes come from strangers."""
    found = 0
    for place, node in _calls():
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name == "Environment":
            given = {item.arg: item.value for item in node.keywords}
            assert ast.literal_eval(given["autoescape"]) is True, place
            found += 1
    assert found > 0


def test_extras_that_messages_name_exist() -> None:
    """``install graphwq[x]``: x is an extra of setup.py."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (extras,) = [
        item.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for item in node.keywords
        if item.arg == "extras_require" and isinstance(item.value, ast.Dict)
    ]
    known = {ast.literal_eval(key) for key in extras.keys if key is not None}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "graphwq").rglob("*.py")]
    for path in pages:
        for named in re.findall(r"graphwq\[([\w,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= known, f"{path}: graphwq[{named}]"
