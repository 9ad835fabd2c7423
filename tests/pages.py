"""What the tests of README and docs/ share: the blocks of a page, and a place to run them in."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import commandline
from builders import GraphBuilder, random_weight
from checkpoints import meta_graph, write_bundle, write_saved_model
from conftest import FIXTURES, ROOT

README = ROOT / "README.md"
CHINESE = ROOT / "README.zh-CN.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
EVERY_PAGE = [README, CHINESE, ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *DOCS]

_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`(graphwq [a-z][^`]*)`")


class Command(NamedTuple):
    """A command of a page, and the output that stands below it ("" where none is shown)."""

    line: str
    shown: str


def text(page: Path) -> str:
    """The page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> List[Tuple[str, str]]:
    """(language, content) of the fenced blocks."""
    return _BLOCK.findall(text(page))


def commands(page: Path) -> List[Command]:
    """The commands of the console blocks; a block may have several."""
    found = []
    for language, content in blocks(page):
        if language == "console":
            assert content.startswith("$ "), f"{page}: a console block begins with a command"
            for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                line, _, shown = part.partition("\n")
                found.append(Command(line.partition("  #")[0].strip(), shown))
    return found


def named_options(page: Path) -> List[Tuple[str, str]]:
    """(command, option) of the ``graphwq ...`` that stand in the running text."""
    return [
        (words.split()[1], option)
        for words in _INLINE.findall(text(page))
        for option in re.findall(r"(--[a-z][\w-]*)", words)
    ]


def needs(line: str) -> List[str]:
    """The packages, beyond the core, without which a command does not run: "tf", "mnn"."""
    runs = " verify " in line and "--static" not in line
    runs = runs or any(word in line for word in ("--method gptq", "--method auto", "--calibration"))
    runs = runs or ("mnn convert" in line and "--no-run" not in line)
    converts = "mnn convert" in line or ("mnn lint" in line and "--no-converter" not in line)
    return ["tf"] * runs + ["mnn"] * converts


def environment() -> Dict[str, str]:
    """Finds the package that is tested; git says nothing of its own."""
    return {**commandline.environment(), **commandline.GIT, "PYTHONIOENCODING": "utf-8"}


def run(line: str, folder: Path) -> Tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command, without a shell."""
    words = shlex.split(line)
    if words[0] == "graphwq":
        words[:1] = [sys.executable, "-m", "graphwq"]
    elif words[0] == "python":
        words[0] = sys.executable
    done = subprocess.run(
        words, cwd=str(folder), env=environment(), capture_output=True, timeout=300
    )
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


def sandbox(path: Path) -> Path:
    """A git repository with fixtures/, out/, and a small model in every form that IN may have."""
    shutil.copytree(str(FIXTURES), str(path / "fixtures"))
    (path / "out").mkdir()
    b = GraphBuilder()
    b.placeholder("input", [-1, 40])
    b.variable("dense/kernel", (40, 64))
    b.matmul("logits", "input", "dense/kernel")
    graph = b.to_bytes()
    values = {"dense/kernel": random_weight((40, 64))}
    average = {"dense/kernel/ExponentialMovingAverage": random_weight((40, 64), seed=1)}
    (path / "train").mkdir()
    write_bundle(path / "train" / "model.ckpt-100", {**values, **average})
    (path / "train" / "model.ckpt-100.meta").write_bytes(meta_graph(graph))
    signatures = {"serving_default": {"logits": "logits:0"}}
    write_saved_model(path / "export" / "1", [meta_graph(graph, ["serve"], signatures)], values)
    (path / "graph.pb").write_bytes(graph)
    run("git init -q .", path)
    shutil.copy(str(FIXTURES / "digits_cnn.pb"), str(path / "model.pb"))
    run("git add model.pb", path)
    run("git commit -q -m float", path)
    return path


def normal(output: str) -> List[str]:
    """Lines without trailing blanks; empty lines do not count."""
    return [line.rstrip() for line in output.splitlines() if line.strip()]
