"""What is installed is complete: data files beside the modules, and the tools the tests name."""

from __future__ import annotations

import ast
from pathlib import PurePosixPath
from typing import Any, List

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
