"""``graphwq git``: git shows changes to graphs with ``graphwq diff``."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import List, Optional

from graphwq.cli import gitconfig
from graphwq.cli.diff import colours, compare, rendered
from graphwq.diff.document import document
from graphwq.diff.listing import listing
from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef.mapping import read_file
from graphwq.graphdef.source import load
from graphwq.text import one_line, size

_LFS = b"version https://git-lfs"
_DIFFTOOL = "git-difftool--helper"
_OURS = ("driver", "textconv", "difftool")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, help="what to do"
    )
    for name, about in (
        ("enable", "git diff, git log -p and git show print the changes of *.pb in words"),
        ("disable", "take that back; what was set before comes back"),
        ("status", "say whether it is enabled (exit status 1 where not)"),
    ):
        action = actions.add_parser(name, help=about, description=about[0].upper() + about[1:])
        action.add_argument(
            "--global",
            dest="is_global",
            action="store_true",
            help="in every repository of this user, not only in this one",
        )
    for name in _OURS:
        action = actions.add_parser(name, description="Called by git.")
        action.add_argument("files", nargs="*", help="what git gives a driver")


def run(arguments: argparse.Namespace) -> int:
    """Do one of the actions."""
    if arguments.action == "driver":
        return _driver(arguments.files)
    if arguments.action == "textconv":
        return _textconv(arguments.files)
    if arguments.action == "difftool":
        return _difftool(arguments.files)
    place = gitconfig.Place(arguments.is_global)
    if arguments.action == "status":
        found = gitconfig.problems(place)
        print(f"{'not enabled' if found else 'enabled'} in {place}")
        for problem in found:
            print(f"  {problem}")
        return 1 if found else 0
    if arguments.action == "enable":
        done = gitconfig.enable(place)
        print(f"{'enabled' if done else 'already enabled'} in {place}")
    else:
        done = gitconfig.disable(place)
        print(f"{'disabled' if done else 'was not enabled'} in {place}")
    return 0


def _driver(files: List[str]) -> int:
    """Git's external diff: path, old file, hex, mode, new file, hex, mode (and the new path).

    The exit status is always 0: git would stop at the first file otherwise.
    """
    if len(files) not in (7, 9):
        if len(files) == 1:
            print(f"* unmerged {one_line(files[0])}")
            return 0
        raise InputError("driver is for git: set it up with graphwq git enable")
    path, old, new = files[0], Path(files[1]), Path(files[4])
    if os.environ.get("GIT_EXTERNAL_DIFF") == _DIFFTOOL:  # a driver comes before git's own helper
        return _difftool([files[1], files[4]])
    target = files[7] if len(files) == 9 else path
    print(f"diff --graphwq a/{one_line(path)} b/{one_line(target)}", flush=True)
    print(_text(old, new, f"a/{path}", f"b/{target}"), end="")
    return 0


def _text(old: Path, new: Path, old_name: str, new_name: str) -> str:
    pointers = [pointer(side) for side in (old, new)]
    if any(item is not None for item in pointers):
        sides = [
            f"{one_line(name)}: {item or _plain(path)}"
            for name, path, item in zip((old_name, new_name), (old, new), pointers)
        ]
        return "\n".join(["Git LFS: the models are not here, run `git lfs pull`", *sides]) + "\n"
    try:
        comparison = compare(old, new)
        diff = document(comparison, old_name, new_name)
        shown = bool(os.environ.get("GIT_PAGER_IN_USE")) or sys.stdout.isatty()
        return rendered(diff, comparison, "text", shown and colours())
    except GraphWQError as error:
        return f"Binary files differ; graphwq: {one_line(str(error))}\n"


def pointer(path: Path) -> Optional[str]:
    """What a Git LFS pointer says; None where the file is none."""
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from error
    if not start.startswith(_LFS):
        return None
    found = re.search(rb"oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})", start)
    if found is None:
        return "a damaged Git LFS pointer"
    return f"Git LFS pointer to {size(int(found.group(2)))}, {found.group(1).decode()[:12]}"


def _plain(path: Path) -> str:
    return "no such file" if str(path) == os.devnull else size(path.stat().st_size)


def _textconv(files: List[str]) -> int:
    """Git's text of one file: a line a node; of another ``.pb`` one line."""
    if len(files) != 1:
        raise InputError("textconv is for git: set it up with graphwq git enable")
    path = Path(files[0])
    about = pointer(path)
    if about is not None:
        print(about)
        return 0
    try:
        for line in listing(load(path)):
            print(line)
    except GraphWQError:
        print(f"no frozen graph: {_plain(path)}, sha256 {_sha256(path)}")
    return 0


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest() if path.stat().st_size else "of nothing"


def _difftool(files: List[str]) -> int:
    """Open the page of a diff in the browser."""
    if len(files) != 2:
        raise InputError("difftool is for git: git difftool --tool=graphwq")
    import webbrowser

    old, new = Path(files[0]), Path(files[1])
    comparison = compare(old, new)
    diff = document(comparison, old.name, new.name)
    with tempfile.NamedTemporaryFile(
        "w", prefix="graphwq-diff-", suffix=".html", delete=False, encoding="utf-8"
    ) as file:
        file.write(rendered(diff, comparison, "html"))
    print(f"wrote {file.name}")
    webbrowser.open(Path(file.name).as_uri())
    return 0
