"""Telling git about graphwq, and taking it back: configuration and attributes.

Nothing that was there is lost: a value that is in the way is kept under ``graphwq.saved`` and comes
back, and the attributes stand between two marks.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional

from graphwq.errors import InputError
from graphwq.graphdef.atomic import write_atomically

_BEGIN = "# graphwq: begin (graphwq git disable takes this out)"
_BEGIN_JOINED = "# graphwq: begin after a line without end (graphwq git disable takes this out)"
_END = "# graphwq: end"
_ATTRIBUTES = ("*.pb diff=graphwq",)
_SAVED = "graphwq.saved"


class Place:
    """Where the settings go: this repository, or the user's own configuration."""

    def __init__(self, is_global: bool) -> None:
        self.is_global = is_global
        self._option = "--global" if is_global else "--local"

    def __str__(self) -> str:
        return "every repository of this user" if self.is_global else "this repository"

    def get(self, key: str) -> Optional[str]:
        """The value of a key at this place; None where it is not set."""
        done = _git("config", self._option, "--get", key)
        return done.stdout.rstrip("\n") if done.returncode == 0 else None

    def set(self, key: str, value: str) -> None:
        """Set a key."""
        self._must("config", self._option, "--replace-all", key, value)

    def unset(self, key: str) -> None:
        """Take a key out, and its section where that is empty then."""
        done = _git("config", self._option, "--unset-all", key)
        if done.returncode not in (0, 5):
            raise InputError(f"git config --unset-all {key} failed: {done.stderr.strip()}")
        section = key.rpartition(".")[0]
        rest = _git("config", self._option, "--get-regexp", f"^{section}\\.")
        if rest.returncode == 1:
            _git("config", self._option, "--remove-section", section)

    def attributes(self) -> Path:
        """The file with the attributes of this place.

        Raises:
            InputError: not in a repository.
        """
        if not self.is_global:
            return Path(self._must("rev-parse", "--git-path", "info/attributes"))
        done = _git("config", "--global", "--type=path", "--get", "core.attributesFile")
        if done.returncode == 0 and done.stdout.strip():
            return Path(done.stdout.rstrip("\n"))
        base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
        return Path(base) / "git" / "attributes"

    def check(self) -> None:
        """Refuse to go on where there is no git, or no repository.

        Raises:
            InputError: which of them is missing.
        """
        self._must("--version")
        if not self.is_global and _git("rev-parse", "--git-dir").returncode:
            raise InputError("this is no git repository: change into one, or use --global")

    def _must(self, *arguments: str) -> str:
        done = _git(*arguments)
        if done.returncode:
            raise InputError(f"git {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")


def _git(*arguments: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(
            ["git", *arguments],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise InputError(f"cannot run git ({error.strerror}): install git") from error


def settings() -> Dict[str, str]:
    """What git is told: the driver of ``git diff``, the text of ``git log -p``, the difftool."""
    command = f"{shlex.quote(sys.executable)} -m graphwq git"
    return {
        "diff.graphwq.command": f"{command} driver",
        "diff.graphwq.textconv": f"{command} textconv",
        "diff.graphwq.cachetextconv": "true",
        "difftool.graphwq.cmd": f'{command} difftool "$LOCAL" "$REMOTE"',
    }


def enable(place: Place) -> bool:
    """Set everything; return whether anything was not as it must be."""
    place.check()
    modified = False
    for key, value in settings().items():
        known = place.get(key)
        if known == value:
            continue
        if known is not None and " -m graphwq git" not in known:
            place.set(f"{_SAVED}.{key}", known)
        place.set(key, value)
        modified = True
    return _put_attributes(place.attributes()) or modified


def disable(place: Place) -> bool:
    """Take everything back; return whether there was anything."""
    place.check()
    modified = _take_attributes(place.attributes())
    for key in settings():
        known = place.get(key)
        saved = place.get(f"{_SAVED}.{key}")
        ours = known is not None and (known == settings()[key] or " -m graphwq git" in known)
        if saved is not None:
            place.unset(f"{_SAVED}.{key}")
        if ours and known is not None:
            place.unset(key)
            modified = True
            if saved is not None:
                place.set(key, saved)
    return modified


def problems(place: Place) -> List[str]:
    """What is not as ``enable`` sets it; nothing where it is enabled."""
    place.check()
    found = [f"{key} is not set" for key in settings() if place.get(key) != settings()[key]]
    text = _read(place.attributes())
    if _END not in text:
        found.append("no attributes for *.pb")
    return found


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (text.encode("utf-8", "surrogateescape"),), True)


def _put_attributes(path: Path) -> bool:
    text = _read(path)
    if _END in text:
        return False
    joined = bool(text) and not text.endswith("\n")
    lines = [_BEGIN_JOINED if joined else _BEGIN, *_ATTRIBUTES, _END]
    _write(path, text + ("\n" if joined else "") + "\n".join(lines) + "\n")
    return True


def _take_attributes(path: Path) -> bool:
    text = _read(path)
    begin = max(text.find(_BEGIN), text.find(_BEGIN_JOINED))
    end = text.find(_END, begin)
    if begin < 0 or end < 0:
        return False
    joined = text.startswith(_BEGIN_JOINED, begin)
    rest = text[: begin - 1 if joined else begin] + text[end + len(_END) + 1 :]
    if rest:
        _write(path, rest)
    else:
        path.unlink()
    return True
