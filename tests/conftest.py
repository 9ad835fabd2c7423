"""Shared fixtures: where the corpus is, golden files, and what is needed to run TensorFlow."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, settings

try:
    from importlib import metadata
except ImportError:  # Python 3.7
    import importlib_metadata as metadata  # type: ignore[no-redef]

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
GOLDEN = Path(__file__).resolve().parent / "golden"

sys.path.insert(0, str(Path(__file__).resolve().parent))

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", max_examples=100, deadline=None, suppress_health_check=_QUIET, derandomize=True
)
settings.register_profile("long", max_examples=3000, deadline=None, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--corpus", help="folder of real graphs with a manifest.json")
    parser.addoption(
        "--corpus-widths", default="8", help="bit widths of the whole-corpus tests: 8 or 2,3,...,8"
    )
    parser.addoption(
        "--mnn-widths", help="convert every graph of the corpus at these widths: 8,4,3,2"
    )
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def corpus_folder(config: pytest.Config) -> Path:
    """--corpus, GRAPHWQ_CORPUS, or ../shared/corpus."""
    chosen = config.getoption("--corpus") or os.environ.get("GRAPHWQ_CORPUS")
    return Path(chosen) if chosen else ROOT.parent / "shared" / "corpus"


def corpus_entries(config: pytest.Config) -> List[Dict[str, Any]]:
    """The manifest, or nothing where there is no corpus."""
    manifest = corpus_folder(config) / "manifest.json"
    if not manifest.is_file():
        return []
    entries: List[Dict[str, Any]] = json.loads(manifest.read_text())
    return entries


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an ``entry`` argument runs once for every graph of the corpus."""
    if "entry" not in metafunc.fixturenames:
        return
    entries = corpus_entries(metafunc.config)
    if not entries:
        reason = f"no corpus at {corpus_folder(metafunc.config)}: give --corpus or GRAPHWQ_CORPUS"
        metafunc.parametrize("entry", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
        return
    metafunc.parametrize("entry", entries, ids=[entry["file"][:80] for entry in entries])


def pytest_collection_modifyitems(config: pytest.Config, items: List[pytest.Item]) -> None:
    """Tests marked ``tf`` or ``mnn`` are skipped, with the reason, where that is not installed."""
    needed = {
        "tf": ("tensorflow", "TensorFlow is not installed: install graphwq[tf] or graphwq[tf2]"),
        "mnn": ("_tools", "MNN is not installed: install graphwq[mnn]"),
    }
    for marker, (module, reason) in needed.items():
        if _is_installed(module):
            continue
        for item in items:
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))
    if is_tensorflow_2():
        for item in items:
            if item.get_closest_marker("tf1") is not None:
                item.add_marker(pytest.mark.skip(reason="this is about TensorFlow 1.15"))


def is_tensorflow_2() -> bool:
    """Whether the TensorFlow that is installed is one of 2.x (it is not loaded to find out)."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(name).startswith("2.")
        except metadata.PackageNotFoundError:
            continue
    return False


def _is_installed(module: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest) -> Path:
    """The corpus folder; the test is skipped where there is none."""
    folder = corpus_folder(request.config)
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no corpus at {folder}: give --corpus or GRAPHWQ_CORPUS")
    return folder


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder of the project's own frozen graphs."""
    return FIXTURES


@pytest.fixture
def golden(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    """``golden(name, text)`` compares with tests/golden/name; --update-golden rewrites it."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"no golden file {name}: run pytest --update-golden and look at it"
        assert text == path.read_text(encoding="utf-8")

    return check
