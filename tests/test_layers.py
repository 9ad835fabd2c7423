"""The house rules of the code, checked on its syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import pytest
from conftest import ROOT

_PACKAGE = ROOT / "graphwq"

#: Part -> the parts that it may import. Data flows one way: bytes, graph, survey, plan, edits.
_MAY_IMPORT: Dict[str, Set[str]] = {
    "": set(),
    "errors": set(),
    "text": set(),
    "graphdef": {"errors"},
    "quant": {"errors"},
    "survey": {"errors", "graphdef"},
    "rewrite": {"errors", "graphdef", "quant", "survey"},
    "tf1": {"errors", "text", "graphdef", "quant", "survey", "rewrite", "api", "mnn"},
    "diff": {"errors", "text", "graphdef", "quant", "survey", "rewrite"},
    "verify": {"errors", "text", "graphdef", "quant", "survey", "rewrite", "diff", "verification"},
    "verification": {"errors", "graphdef", "rewrite", "verify", "tf1"},
    "calibrate": {"errors", "graphdef", "quant", "survey", "rewrite", "verify"},
    "calibration": {
        "errors",
        "api",
        "graphdef",
        "quant",
        "survey",
        "rewrite",
        "verify",
        "calibrate",
        "tf1",
    },
    "allocation": {
        "errors",
        "graphdef",
        "survey",
        "rewrite",
        "verify",
        "calibrate",
        "calibration",
        "tf1",
    },
    "testing": {"verify", "verification"},
    "mnn": {
        "errors",
        "graphdef",
        "quant",
        "survey",
        "rewrite",
        "verify",
        "calibration",
        "tf1",
    },
    "tradeoff": {"errors", "text", "graphdef", "quant", "survey", "rewrite"},
    "api": {"errors", "graphdef", "quant", "survey", "rewrite"},
    "cli": {
        "",
        "errors",
        "text",
        "graphdef",
        "quant",
        "survey",
        "rewrite",
        "diff",
        "verify",
        "mnn",
        "tradeoff",
        "api",
        "verification",
        "calibration",
        "allocation",
    },
    "__main__": {"cli"},
}

#: Modules that run code from data, or open a shell.
_FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
_FORBIDDEN_MODULES |= {"subprocess", "pty", "commands", "socket", "urllib", "http", "requests"}
#: Module -> what it may import of those, and why.
_EXCEPTIONS = {
    # git config, without a shell.
    "cli/gitconfig.py": {"subprocess"},
    # The MNN converter is native code that crashes on about a tenth of real graphs and returns 0 on
    # errors: it runs in a child process, which this one module starts (without a shell).
    "mnn/child.py": {"subprocess"},
}
_FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
_FORBIDDEN_ATTRIBUTES = {("os", name) for name in ("system", "popen", "execv", "execvp", "fork")}
_FORBIDDEN_ATTRIBUTES |= {("os", name) for name in ("spawnl", "spawnv", "startfile", "putenv")}


class Import(NamedTuple):
    """One import: of what, in which line, and inside a function or not."""

    module: str
    line: int
    level: int


def _modules() -> List[Path]:
    return sorted(_PACKAGE.rglob("*.py"))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, 0)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield Import(base, node.lineno, node.level)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno, node.level)


def _part(module: str) -> str:
    """graphwq.survey.locate -> survey; graphwq -> ""."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def _part_of(path: Path) -> str:
    relative = path.relative_to(_PACKAGE)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return "" if relative.stem == "__init__" else relative.stem


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    """A module imports only from the layers below it, also inside functions."""
    part = _part_of(path)
    assert part in _MAY_IMPORT, f"say in test_layers.py what {part} may import"
    known = set(_MAY_IMPORT) | {"__version__"}
    for found in _imports(_tree(path)):
        assert not found.level, f"{path.name}:{found.line}: write the whole name of the module"
        if found.module.split(".")[0] != "graphwq":
            continue
        target = _part(found.module)
        if target not in known and part == "cli":
            continue
        if target == "__version__":
            target = ""
        allowed = target == part or target in _MAY_IMPORT[part]
        if found.module == "graphwq":  # ``from graphwq import x`` yields graphwq.x as well
            continue
        assert allowed, f"{path.name}:{found.line}: {part} may not import {found.module}"


def test_the_lazy_names_exist() -> None:
    """graphwq/__init__.py names modules as text; each is a module of the package."""
    import graphwq

    for name, module in graphwq._PUBLIC.items():
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), name


def test_only_tf1_imports_tensorflow() -> None:
    """TensorFlow is imported in graphwq/tf1/ alone, whatever the spelling."""
    for path in _modules():
        for found in _imports(_tree(path)):
            root = found.module.split(".")[0]
            if root.startswith("tensorflow"):
                assert _part_of(path) == "tf1", f"{path}:{found.line} imports {found.module}"
                assert path.name == "load.py" or found.module.startswith("tensorflow."), (
                    f"{path}:{found.line}: take TensorFlow from graphwq/tf1/load.py"
                )
        if _part_of(path) != "tf1":
            for node in ast.walk(_tree(path)):
                if isinstance(node, ast.Call) and _called(node)[1] == "import_module":
                    arguments = [ast.dump(item) for item in node.args]
                    assert not any("tensorflow" in item for item in arguments), path


def test_quant_knows_arrays_only() -> None:
    """graphwq/quant/ imports numpy, the standard library and errors: no graph, no protobuf."""
    for path in (_PACKAGE / "quant").glob("*.py"):
        for found in _imports(_tree(path)):
            root = found.module.split(".")[0]
            assert root not in ("google", "tensorboard", "networkx"), f"{path}:{found.line}"
            if root == "graphwq" and found.module != "graphwq":
                assert _part(found.module) in ("quant", "errors"), f"{path}:{found.line}"


def _called(node: ast.Call) -> Tuple[str, str]:
    """(object, name) of a call: ("os", "system"), ("", "eval")."""
    function = node.func
    if isinstance(function, ast.Name):
        return "", function.id
    if isinstance(function, ast.Attribute):
        owner = function.value
        return (owner.id if isinstance(owner, ast.Name) else "?"), function.attr
    return "?", "?"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_from_data_no_shell_no_network(path: Path) -> None:
    """No pickle, eval, exec, shell or network: graphs come from strangers, and nothing goes out."""
    excepted = _EXCEPTIONS.get(path.relative_to(_PACKAGE).as_posix(), set())
    for found in _imports(_tree(path)):
        root = found.module.split(".")[0]
        assert root not in _FORBIDDEN_MODULES - excepted, f"{path}:{found.line}"
    for node in ast.walk(_tree(path)):
        if not isinstance(node, ast.Call):
            continue
        owner, name = _called(node)
        assert owner or name not in _FORBIDDEN_CALLS, f"{path}:{node.lineno}"
        assert (owner, name) not in _FORBIDDEN_ATTRIBUTES, f"{path}:{node.lineno}"
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle":
                assert ast.literal_eval(keyword.value) is False
            assert keyword.arg != "shell", f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_documented(path: Path) -> None:
    """A module is one idea: at most 400 lines, with a docstring that says which."""
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400
    tree = _tree(path)
    if tree.body:
        assert ast.get_docstring(tree), path
        annotated = any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
        )
        assert annotated or path.name in ("__main__.py", "__init__.py")


def test_no_print_outside_the_command_line() -> None:
    """The library returns and raises; only graphwq/cli/ prints."""
    for path in _modules():
        if _part_of(path) in ("cli", "__main__"):
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call):
                assert _called(node) != ("", "print"), f"{path}:{node.lineno}"


def test_nothing_swallows_every_error() -> None:
    """No bare ``except`` and no ``except BaseException``: errors have a family."""
    for path in _modules():
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno}"
                names = {item.id for item in ast.walk(node.type) if isinstance(item, ast.Name)}
                assert "BaseException" not in names, f"{path}:{node.lineno}"
                if "Exception" in names:
                    assert path.name == "main.py", f"{path}:{node.lineno}"
