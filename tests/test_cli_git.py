"""``graphwq git``: in real repositories, with a configuration of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from commandline import GIT, assert_one_line, run
from conftest import ROOT
from diff.planting import PLANTED, edited, model, prefixed

import graphwq
from graphwq.cli.gitconfig import settings

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


class Repository:
    """A repository in a folder, with a home of its own."""

    def __init__(self, folder: Path, environment: Dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def git(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=str(self.folder),
            env=self.environment,
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == status, done.stderr.decode()
        return done.stdout.decode()

    def commit(self, **files: bytes) -> None:
        for name, data in files.items():
            (self.folder / f"{name}.pb").write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-qm", "change")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty repository; nobody's configuration is read or written."""
    home, folder = tmp_path / "home", tmp_path / "repository"
    home.mkdir()
    folder.mkdir()
    for name in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "xdg"),
        **GIT,
        "PYTHONPATH": str(ROOT),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    made = Repository(folder, dict(os.environ))
    made.git("init", "-q", ".")
    return made


def snapshot(*folders: Path) -> Dict[str, bytes]:
    """Every configuration file."""
    found: Dict[str, bytes] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "objects" not in path.parts and "hooks" not in path.parts:
                found[str(path)] = path.read_bytes()
    return found


@pytest.mark.parametrize("where", [[], ["--global"]])
@pytest.mark.parametrize("before", ["", "*.txt text\n", "*.txt text"])
def test_enable_and_disable(
    where: List[str], before: str, repository: Repository, capsys: Any
) -> None:
    """Twice is once, and disable leaves every file as it was."""
    attributes = {
        (): repository.folder / ".git" / "info" / "attributes",
        ("--global",): repository.folder.parent / "home" / "xdg" / "git" / "attributes",
    }[tuple(where)]
    if before:
        attributes.parent.mkdir(parents=True, exist_ok=True)
        attributes.write_text(before)
    repository.git("config", *(where or ["--local"]), "diff.other.textconv", "cat")
    folders = (repository.folder / ".git", repository.folder.parent / "home")
    first = snapshot(*folders)
    assert run(capsys, "git", "status", *where).status == 1
    assert run(capsys, "git", "enable", *where).out.startswith("enabled in ")
    enabled = snapshot(*folders)
    assert enabled != first
    assert run(capsys, "git", "enable", *where).out.startswith("already enabled")
    assert snapshot(*folders) == enabled
    assert run(capsys, "git", "status", *where).status == 0
    assert "graphwq" in repository.git("check-attr", "diff", "x.pb")
    assert run(capsys, "git", "disable", *where).out.startswith("disabled in ")
    assert snapshot(*folders) == first
    assert run(capsys, "git", "disable", *where).out.startswith("was not enabled")
    assert snapshot(*folders) == first


def test_settings_that_were_there_come_back(repository: Repository, capsys: Any) -> None:
    """Another driver of the same name is kept and restored."""
    repository.git("config", "diff.graphwq.command", "mine --old")
    run(capsys, "git", "enable")
    assert "mine" not in repository.git("config", "diff.graphwq.command")
    run(capsys, "git", "enable")
    run(capsys, "git", "disable")
    assert repository.git("config", "diff.graphwq.command").strip() == "mine --old"
    assert repository.git("config", "--get-regexp", "^graphwq", status=1) == ""


def test_a_setting_of_another_python_is_replaced(repository: Repository, capsys: Any) -> None:
    """Enabled from an old virtual environment: the new one takes over, nothing is kept."""
    repository.git("config", "diff.graphwq.command", "/gone/python -m graphwq git driver")
    assert "not set" in run(capsys, "git", "status").out
    run(capsys, "git", "enable")
    assert sys.executable in repository.git("config", "diff.graphwq.command")
    run(capsys, "git", "disable")
    assert repository.git("config", "--get-regexp", "graphwq", status=1) == ""


def test_git_diff_log_and_show(repository: Repository, capsys: Any) -> None:
    """git diff prints the diff in words, git log -p and git show a line a node."""
    run(capsys, "git", "enable")
    old = model()
    repository.commit(model=old.to_bytes())
    small = graphwq.quantize(old, 4).graph.to_bytes()
    (repository.folder / "model.pb").write_bytes(small)
    out = repository.git("diff")
    assert "a/model.pb -> b/model.pb" in out
    assert "3 weights quantized (4 bits, dequant)" in out
    assert "only what the plan recovered from NEW says was changed" in out
    assert "Binary files" not in out
    repository.commit(model=small)
    for command in (["log", "-p", "-1"], ["show"]):
        out = repository.git(*command)
        assert "-conv1/weights = Const() float32 [3,3,3,16]" in out
        assert "+conv1/weights = Mul(" in out
        assert "Binary files" not in out
    assert "3 weights quantized" in repository.git("show", "--ext-diff")
    assert "3 weights quantized" in repository.git("diff", "HEAD~", "HEAD")


def test_new_removed_and_renamed_files(repository: Repository, capsys: Any) -> None:
    """/dev/null sides, and a file that moved."""
    run(capsys, "git", "enable")
    repository.commit(first=model().to_bytes())
    repository.git("mv", "first.pb", "second.pb")
    (repository.folder / "second.pb").write_bytes(edited(model(), PLANTED["bias"].apply).to_bytes())
    repository.git("add", "-A")
    out = repository.git("diff", "--cached", "-M10")
    assert "a/first.pb b/second.pb" in out
    assert "conv1/bias" in out
    out = repository.git("diff", "--cached", "--no-renames")
    assert "the whole graph is new" in out
    assert "the whole graph was removed" in out


def test_a_conflict(repository: Repository, capsys: Any) -> None:
    """An unmerged file does not stop git diff."""
    run(capsys, "git", "enable")
    repository.commit(model=model().to_bytes())
    repository.git("checkout", "-qb", "other")
    repository.commit(model=edited(model(), PLANTED["bias"].apply).to_bytes())
    repository.git("checkout", "-q", "-")
    repository.commit(model=edited(model(), PLANTED["op"].apply).to_bytes())
    repository.git("merge", "other", status=1)
    assert "model.pb" in repository.git("diff")
    assert "conv1/Relu" in repository.git("diff", "--theirs")
    assert "unmerged model.pb" in run(capsys, "git", "driver", "model.pb").out


@pytest.mark.parametrize("data", [b"", b"no graph", b"\x00\x01\x02" * 50, b"\n\x02\x08\x01"])
def test_other_pb_files(data: bytes, repository: Repository, capsys: Any) -> None:
    """A .pb that is no graph gets a clear line; the files after it are shown all the same."""
    run(capsys, "git", "enable")
    repository.commit(a=b"first", z=model().to_bytes())
    repository.commit(a=data, z=edited(model(), PLANTED["bias"].apply).to_bytes())
    out = repository.git("diff", "HEAD~", "HEAD")
    assert "Binary files differ; graphwq: " in out
    assert "conv1/bias" in out
    out = repository.git("show")
    assert "+no frozen graph: " in out
    assert "conv1/bias" in out


def test_lfs_pointers(repository: Repository, capsys: Any) -> None:
    """Pointers instead of models: sizes, and what to do."""
    run(capsys, "git", "enable")
    first, second = (POINTER.format(letter * 64, size) for letter, size in (("a", 5000), ("b", 99)))
    repository.commit(model=first.encode())
    repository.commit(model=second.encode())
    out = repository.git("diff", "HEAD~", "HEAD")
    assert "run `git lfs pull`" in out
    assert "a/model.pb: Git LFS pointer to 5.0 kB, aaaaaaaaaaaa" in out
    assert "b/model.pb: Git LFS pointer to 99 B, bbbbbbbbbbbb" in out
    assert "+Git LFS pointer to 99 B" in repository.git("show")
    repository.commit(model=model().to_bytes())
    out = repository.git("diff", "HEAD~", "HEAD")
    assert "run `git lfs pull`" in out
    repository.commit(model=POINTER.format("x", "y").encode())
    assert "a damaged Git LFS pointer" in repository.git("diff", "HEAD~", "HEAD")


def test_hostile_names_in_git(repository: Repository, capsys: Any) -> None:
    """Neither git's path nor a node's name controls the terminal."""
    from builders import GraphBuilder

    run(capsys, "git", "enable")
    graphs = []
    for op in ("Relu", "Relu6"):
        b = GraphBuilder()
        b.op("y\x1b[31m\n", op, [b.placeholder("x\x1b", [1])])
        graphs.append(b.to_bytes())
    path = repository.folder / "a\x1b[31m.pb"
    path.write_bytes(graphs[0])
    repository.commit()
    path.write_bytes(graphs[1])
    assert "\x1b" not in repository.git("diff")
    repository.commit()
    assert "\x1b" not in repository.git("show", "--no-color")


def test_colours_follow_git(repository: Repository, capsys: Any) -> None:
    """In git's pager the diff has colours; NO_COLOR takes them away."""
    run(capsys, "git", "enable")
    repository.commit(model=model().to_bytes())
    (repository.folder / "model.pb").write_bytes(edited(model(), PLANTED["bias"].apply).to_bytes())
    repository.environment.update(GIT_PAGER_IN_USE="true", TERM="xterm")
    assert "\x1b[1;33m" in repository.git("diff")
    repository.environment["NO_COLOR"] = "1"
    assert "\x1b" not in repository.git("diff")


def test_difftool(repository: Repository, tmp_path: Path, capsys: Any) -> None:
    """git difftool writes the page and opens the browser."""
    pytest.importorskip("jinja2")
    run(capsys, "git", "enable")
    repository.commit(model=model().to_bytes())
    (repository.folder / "model.pb").write_bytes(prefixed(model()).to_bytes())
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    repository.environment.update(BROWSER=f"{browser} %s", TMPDIR=str(tmp_path))
    out = repository.git("difftool", "--no-prompt", "--tool=graphwq")
    page = Path(re.search(r"wrote (\S+)", out)[1])  # type: ignore[index]
    assert opened.read_text().strip() == page.as_uri()
    assert "got the prefix import/" in page.read_text()


def test_no_repository_and_no_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Both are one clear line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for action in ("enable", "disable", "status"):
        found = run(capsys, "git", action)
        assert found.status == 2
        assert_one_line(found.err, "no git repository")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = run(capsys, "git", "enable", "--global")
    assert found.status == 2
    assert_one_line(found.err, "install git")


@pytest.mark.parametrize("action", ["driver", "textconv", "difftool"])
def test_the_hidden_actions_say_what_they_are(action: str, capsys: Any) -> None:
    """Called by hand with nothing, they tell how they are meant."""
    found = run(capsys, "git", action)
    assert found.status == 2
    assert_one_line(found.err, "git")


def test_the_pre_commit_hook_of_the_docs(repository: Repository, tmp_path: Path) -> None:
    """The recipe of docs/diff-format.md lets a quantization pass and refuses anything else."""
    page = (ROOT / "docs" / "diff-format.md").read_text()
    recipe = re.search(r"```sh\n(.*?)```", page, re.S)
    assert recipe is not None
    hook = repository.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(recipe[1])
    hook.chmod(0o755)
    command = tmp_path / "bin" / "graphwq"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m graphwq "$@"\n')
    command.chmod(0o755)
    repository.environment["PATH"] = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    repository.commit(model=model().to_bytes())
    repository.commit(model=graphwq.quantize(model(), 4).graph.to_bytes())
    tampered = edited(graphwq.load(repository.folder / "model.pb"), PLANTED["bias"].apply)
    (repository.folder / "model.pb").write_bytes(tampered.to_bytes())
    repository.git("add", "-A")
    repository.git("commit", "-qm", "no", status=1)


def test_the_settings_are_quoted() -> None:
    """A Python in a folder with a space is still one word for the shell that git uses."""
    import shlex

    for key, value in settings().items():
        if key != "diff.graphwq.cachetextconv":
            assert shlex.split(value)[0] == sys.executable
