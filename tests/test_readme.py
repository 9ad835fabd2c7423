"""The README keeps its word: commands print what it shows, links and tests exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _console_blocks() -> List[Tuple[str, str]]:
    """(command, output shown) of every console block that shows an output."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        first, _, shown = block.partition("\n")
        if shown.strip():
            found.append((first.replace("$ ", "", 1), shown))
    return found


def _blocks(program: str) -> Dict[str, Any]:
    """The console blocks of one program as parameters of a test."""
    chosen = [block for block in _console_blocks() if block[0].startswith(program)]
    runs = [" verify " in command and "--static" not in command for command, _ in chosen]
    converts = [" mnn " in command for command, _ in chosen]
    marked = [
        pytest.param(*block, marks=[pytest.mark.tf] * tf + [pytest.mark.mnn] * mnn)
        for block, tf, mnn in zip(chosen, runs, converts)
    ]
    return {"argvalues": marked, "ids": [" ".join(block[0].split()[:3]) for block in chosen]}


def _normal(text: str) -> List[str]:
    """Lines without trailing blanks; runs of blank lines count as one."""
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    return [line for line in lines if line]


def _run(command: str, folder: Path) -> str:
    words = command.split()
    if words[0] == "graphwq":
        words[:1] = [sys.executable, "-m", "graphwq"]
    elif words[0] == "python":
        words[0] = sys.executable
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONIOENCODING="utf-8")
    done = subprocess.run(
        words, cwd=str(folder), env=environment, stdout=subprocess.PIPE, timeout=120
    )
    assert done.returncode in (0, 1)  # 1: findings
    return done.stdout.decode("utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of fixtures/, with the 8-bit graph that the second example measures."""
    path = tmp_path_factory.mktemp("readme")
    shutil.copytree(str(ROOT / "fixtures"), str(path / "fixtures"))
    (path / "out").mkdir()
    _run("graphwq quantize fixtures/digits_cnn.pb -o out/digits_cnn_8bit.pb", path)
    _run("graphwq quantize fixtures/digits_cnn.pb -o out/digits_cnn_4bit.pb --bits 4", path)
    return path


def _check(config: pytest.Config, command: str, shown: str, printed: str) -> None:
    """Compare, or with --update-golden put what was printed into the README."""
    if config.getoption("--update-golden"):
        path = ROOT / "README.md"
        text = path.read_text(encoding="utf-8")
        lines = "".join(line.rstrip() + "\n" for line in printed.strip("\n").splitlines())
        path.write_text(text.replace(f"$ {command}\n{shown}", f"$ {command}\n{lines}"), "utf-8")
        return
    assert _normal(printed) == _normal(shown)


@pytest.mark.parametrize(("command", "shown"), **_blocks("graphwq"))
def test_commands_print_what_the_readme_shows(
    command: str, shown: str, folder: Path, pytestconfig: pytest.Config
) -> None:
    """A graphwq command of the README prints the very output that stands below it."""
    again = command + " --force" if " -o " in command else command
    _check(pytestconfig, command, shown, _run(again, folder))


@pytest.mark.tf
@pytest.mark.parametrize(("command", "shown"), **_blocks("python"))
def test_scripts_print_what_the_readme_shows(
    command: str, shown: str, folder: Path, pytestconfig: pytest.Config
) -> None:
    """A script of the README, accuracy included, prints the very output that stands below it."""
    _check(pytestconfig, command, shown, _run(command, folder))


def test_the_readme_shows_outputs() -> None:
    """The two tests above have something to do."""
    assert len(_console_blocks()) >= 3


def _examples() -> List[Any]:
    """The Python blocks; those that run a graph are marked."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    runs = ["graphwq.testing" in block for block in blocks]
    return [pytest.param(b, marks=[pytest.mark.tf] if tf else []) for b, tf in zip(blocks, runs)]


@pytest.mark.parametrize("block", _examples())
def test_python_examples_run(block: str, folder: Path) -> None:
    """The Python examples of the README run as they stand."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run(
        [sys.executable, "-c", block], cwd=str(folder), env=environment, check=True, timeout=60
    )


def test_tests_and_folders_that_the_readme_names_exist() -> None:
    """Every path in backquotes that looks like one of ours, and every link, is there."""
    paths = set(re.findall(r"`((?:tests|graphwq|fixtures|benchmarks)/[\w/.]*)`", README))
    paths |= {link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link}
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
