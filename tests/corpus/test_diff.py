"""The diff over the real graphs: versions of one model, and graphwq's own rewrites.

Versions are the graphs of one repository of the corpus; every ordered pair of neighbours in the
manifest is compared (all ordered pairs with GRAPHWQ_ALL_PAIRS=1: about six minutes).
"""

from __future__ import annotations

import hashlib
import os
from itertools import permutations
from pathlib import Path
from typing import Any, Dict, List

import pytest
from diff.planting import prefixed
from laws.test_diff_patch import law

import graphwq
from graphwq.diff.compare import diff_graphs
from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import to_text

pytestmark = [pytest.mark.corpus]

_FORMS = [(bits, storage) for bits in range(2, 9) for storage in ("dequant", "bake", "fake_quant")]


@pytest.fixture(scope="module")
def versions(corpus: Path) -> Dict[str, List[str]]:
    """Repository -> its files."""
    import json

    found: Dict[str, List[str]] = {}
    for entry in json.loads((corpus / "manifest.json").read_text()):
        found.setdefault(entry["repo"], []).append(entry["file"])
    return found


def test_versions(entry: Dict[str, Any], corpus: Path, versions: Dict[str, List[str]]) -> None:
    """The laws hold both ways between a graph and the next one of its repository."""
    files = versions[entry["repo"]]
    if os.environ.get("GRAPHWQ_ALL_PAIRS"):
        pairs = [pair for pair in permutations(files, 2) if pair[0] == entry["file"]]
    else:
        other = files[(files.index(entry["file"]) + 1) % len(files)]
        pairs = [(entry["file"], other), (other, entry["file"])]
    for old, new in pairs:
        law(graphwq.load(corpus / old), graphwq.load(corpus / new))


def test_rewrites_are_explained(entry: Dict[str, Any], corpus: Path) -> None:
    """One width and storage form per graph, chosen by its sha256: explained, also when renamed."""
    old = graphwq.load(corpus / entry["file"])
    seed = int(hashlib.sha256(entry["sha256"].encode()).hexdigest()[:8], 16)
    bits, storage = _FORMS[seed % len(_FORMS)]
    try:
        result = graphwq.quantize(old, bits, storage)
    except GraphWQError:
        return
    new = Graph.parse(result.graph.to_bytes())
    comparison = law(old, new)
    assert [item for item in comparison.changes if item.explained_by is None] == []
    assert bool(comparison.changes) == result.modified
    law(new, old)
    renamed = diff_graphs(old, prefixed(new))
    left = [item for item in renamed.changes if item.explained_by is None]
    assert [item for item in left if item.severity.value == "numeric"] == [], left[:3]


def test_text_is_the_same_graph(entry: Dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    """Through pbtxt: at most benign changes of the encoding."""
    old = graphwq.load(corpus / entry["file"])
    if old.nbytes > 1_000_000:
        return
    path = tmp_path / "graph.pbtxt"
    try:
        path.write_text(to_text(old), encoding="utf-8")
    except InputError:
        return
    changes = law(old, graphwq.load(path)).changes
    assert {item.kind.value for item in changes} <= {"encoding_changed"}, changes[:3]
