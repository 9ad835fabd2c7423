"""What is installed is complete: data files beside the modules, and the tools the tests name."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import PurePosixPath
from typing import Any, List, Tuple

from conftest import ROOT


def _keyword(name: str) -> Any:
    """A keyword of the call of setup(), where it is written out."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = [
        node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "setup"
    ]
    (value,) = [item.value for item in call.keywords if item.arg == name]
    return ast.literal_eval(value)


def test_every_data_file_is_in_the_package() -> None:
    """Schemas, templates and styles are matched by package_data, level for level."""
    patterns: List[str] = _keyword("package_data")["graphwq"]
    folder = ROOT / "graphwq"
    others = [
        PurePosixPath(path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert len(others) > 4
    for path in others:
        matching = [
            pattern
            for pattern in patterns
            if len(PurePosixPath(pattern).parts) == len(path.parts) and path.match(pattern)
        ]
        assert matching, f"setup.py does not install graphwq/{path}"


def test_every_folder_with_modules_is_a_package() -> None:
    """find_packages sees a folder only where it has an __init__.py."""
    for path in (ROOT / "graphwq").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), path


def _requirements() -> List[Tuple[str, str]]:
    """(requirement, comment in the line above or "") of setup.py."""
    lines = (ROOT / "setup.py").read_text(encoding="utf-8").splitlines()
    found: List[Tuple[str, str]] = []
    comment, reason = False, ""
    for line in map(str.strip, lines):
        if line.startswith("#"):
            reason = f"{reason} {line[1:].strip()}" if comment else line[1:].strip()
        elif re.match(r'"[A-Za-z][\w-]*[<>=]', line):
            found.append((line.strip('",').split(";")[0], reason))
        else:
            reason = ""
        comment = line.startswith("#")
    return found


def test_every_dependency_has_a_range_and_a_reason() -> None:
    """A lower and an upper end (or one version), and a comment above it, or above its twin."""
    found = _requirements()
    assert len(found) > 15
    for requirement, reason in found:
        ends = re.findall(r"([<>=]=?)[\d.]+", requirement)
        assert ends == ["=="] or ends == [">=", "<"], requirement
        assert len(reason) > 5, f"{requirement}: say in setup.py why"


def test_the_core_imports_nothing_else() -> None:
    """What graphwq imports is in the standard library, required, or in an extra with a message."""
    import sys

    required = {re.split(r"[<>=]", item)[0].lower() for item, _ in _requirements()}
    known = required | {"google", "graphwq", "mnn", "_tools", "typing_extensions"}
    standard = set(getattr(sys, "stdlib_module_names", ()))
    for path in (ROOT / "graphwq").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: List[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                root = name.split(".")[0]
                in_standard = root in standard if standard else _is_standard(root)
                assert in_standard or root.lower() in known, f"{path}: {name}"


def _is_standard(module: str) -> bool:
    """Python 3.7 has no list of its own modules: they are not among the installed ones."""
    spec = importlib.util.find_spec(module)
    return spec is not None and "site-packages" not in (spec.origin or "")
