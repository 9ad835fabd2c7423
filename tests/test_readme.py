"""README and docs/ keep their word: commands print what they show, links and tests exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pages
import pytest
from conftest import FIXTURES, ROOT, _is_installed
from pages import CHINESE, EVERY_PAGE, PAGES, README

import graphwq
from graphwq.cli.main import build_parser

_MODULES = {"tf": "tensorflow", "mnn": "_tools"}
#: Console commands that set up or test the project itself.
_TARGETS = re.compile(r"make ([\w-]+)$")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _missing(packages: List[str]) -> List[str]:
    return [item for item in packages if not _is_installed(_MODULES[item])]


def _update(page: Path, command: pages.Command, printed: str) -> None:
    lines = "".join(line.rstrip() + "\n" for line in printed.strip("\n").splitlines())
    old, new = (f"$ {command.line}\n{part}" for part in (command.shown, lines))
    for path in [page, *([CHINESE] if page == README else [])]:
        path.write_text(pages.text(path).replace(old, new), "utf-8")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_does_as_it_says(page: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Every command of a page, in order, prints the very output that stands below it.

    Afterwards its Python examples run as they stand. What needs a package that is not installed is
    left out.
    """
    folder = pages.sandbox(tmp_path)
    for command in pages.commands(page):
        target = _TARGETS.match(command.line)
        if target is not None:
            assert f"\n{target.group(1)}:" in (ROOT / "Makefile").read_text(), command.line
            continue
        if command.line.startswith("pip install") or _missing(pages.needs(command.line)):
            continue
        status, out, err = pages.run(command.line, folder)
        said = out + err if status == 2 else out
        assert status in (0, 1) or (status == 2 and command.shown), (command.line, err)
        if pytestconfig.getoption("--update-golden") and command.shown:
            _update(page, command, said)
        elif command.shown:
            assert pages.normal(said) == pages.normal(command.shown), command.line
    for language, code in pages.blocks(page):
        if language == "py":
            ast.parse(code)
        if language == "python":
            runs = "import tensorflow" in code or "graphwq.testing" in code
            if _missing(["tf"] if runs else []):
                continue
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=str(folder), env=pages.environment(), capture_output=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr.decode()[-2000:]


def test_the_pages_show_outputs() -> None:
    """The test above has something to do on every page of the user's way."""
    shown = {_name(page): sum(bool(c.shown) for c in pages.commands(page)) for page in PAGES}
    assert shown["README.md"] >= 4
    assert sum(shown.values()) >= 15
    assert len(PAGES) >= 9


def test_both_readmes_have_the_same_blocks() -> None:
    """Commands, outputs and code are the same in both languages; so are the tables' rows."""
    assert pages.blocks(CHINESE) == pages.blocks(README)
    for pattern in (r"^\|", r"^#+ ", r"^- ", r"^    \S"):
        counts = [len(re.findall(pattern, pages.text(p), re.MULTILINE)) for p in (README, CHINESE)]
        assert counts[0] == counts[1], pattern
    links = [re.findall(r"\]\(([^)]+)\)", pages.text(page)) for page in (README, CHINESE)]
    assert sorted(set(links[0]) - {"README.zh-CN.md"}) == sorted(set(links[1]) - {"README.md"})


@pytest.mark.parametrize("page", EVERY_PAGE, ids=_name)
def test_what_a_page_names_exists(page: Path) -> None:
    """Paths in backquotes that look like ours, and links with their anchors."""
    content = pages.text(page)
    paths = set(re.findall(r"`((?:tests|graphwq|fixtures|benchmarks|examples)/[\w/.-]*)`", content))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    for link in re.findall(r"\]\(([^)\s]+)\)", content):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", pages.text(target), re.MULTILINE)
            known = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in known, link


@pytest.mark.parametrize("page", EVERY_PAGE, ids=_name)
def test_options_in_the_text_exist(page: Path) -> None:
    """``graphwq quantize --bits``: the command has that option."""
    parser = build_parser()
    (commands,) = [action for action in parser._actions if hasattr(action, "choices") and
                   isinstance(action.choices, dict)]  # fmt: skip
    for command, option in pages.named_options(page):
        texts = [commands.choices[command].format_help()]  # type: ignore[index]
        for action in commands.choices[command]._actions:  # type: ignore[index]
            if isinstance(action.choices, dict):
                texts += [sub.format_help() for sub in action.choices.values()]
        assert any(re.search(rf"{option}\b", item) for item in texts), f"{command} {option}"


def test_every_page_is_linked() -> None:
    """The index of docs/ and the README lead to every page."""
    index = pages.text(ROOT / "docs" / "README.md")
    for page in pages.DOCS:
        assert page.name == "README.md" or f"]({page.name})" in index, page
    assert "](docs/README.md)" in pages.text(README)


@pytest.mark.parametrize("name", ["reviewing.md", "diff-format.md"])
def test_the_hooks_of_the_pages(name: str, tmp_path: Path) -> None:
    """A pre-commit hook lets a quantization pass, and nothing else that changes a model."""
    folder = pages.sandbox(tmp_path)
    (hook,) = [code for language, code in pages.blocks(ROOT / "docs" / name) if language == "sh"]
    path = folder / ".git" / "hooks" / "pre-commit"
    path.write_text(hook)
    program = tmp_path / "bin" / "graphwq"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m graphwq "$@"\n')
    for file in (path, program):
        file.chmod(0o755)
    environment = pages.environment()
    environment["PATH"] = f"{program.parent}{os.pathsep}{environment['PATH']}"

    def commit(model: bytes) -> int:
        (folder / "model.pb").write_bytes(model)
        return subprocess.run(
            ["git", "commit", "-q", "-a", "-m", "new"],
            cwd=str(folder), env=environment, capture_output=True, timeout=120,
        ).returncode  # fmt: skip

    graph = graphwq.load(folder / "model.pb")
    quantized = graphwq.quantize(graph, 4).graph.to_bytes()
    padding = quantized.replace(b"SAME", b"VALI")  # of the same length: another padding
    assert padding != quantized
    assert commit(padding) != 0
    assert commit(quantized) == 0


_ROW = re.compile(r"^\| (\d) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


@pytest.mark.tf
def test_the_accuracies_of_the_choosing_page(pytestconfig: pytest.Config) -> None:
    """The table of bits, bytes and accuracies is what graphwq measures."""
    page = ROOT / "docs" / "choosing.md"
    cnn = graphwq.load(FIXTURES / "digits_cnn.pb")
    rows = []
    for bits in (8, 6, 4, 3, 2):
        cells = [str(bits)]
        for method in ("absmax", "squant"):
            result = graphwq.quantize(cnn, bits, method=method)
            report = graphwq.verify(cnn, result.graph, inputs=FIXTURES / "digits_cnn_test.npz")
            size = f"{len(result.graph.to_bytes()) / 1000:.1f} kB"
            cells[1:2] = [size]
            cells.append(f"{100 * report.accuracy.candidate:.2f} %")
        rows.append(cells)
    shown = [list(row) for row in _ROW.findall(pages.text(page))]
    if pytestconfig.getoption("--update-golden"):
        lines = ["| " + " | ".join(cells) + " |" for cells in rows]
        first, *others = [match.group(0) for match in _ROW.finditer(pages.text(page))]
        text = pages.text(page)
        for line in others:
            text = text.replace(line + "\n", "")
        page.write_text(text.replace(first, "\n".join(lines)), "utf-8")
        return
    assert shown == rows
