"""The survey of real graphs: what is expected of each is written down in expectations.json.

``pytest --update-golden`` rewrites the file; a change in locate is then a diff to be reviewed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from graphwq.graphdef.dtypes import dtype_name
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.source import load
from graphwq.survey.locate import locate
from graphwq.survey.sites import Survey, WeightSite

pytestmark = pytest.mark.corpus

EXPECTATIONS = Path(__file__).resolve().parent / "expectations.json"
#: Graphs with more sites than this are written down as a digest.
MOST_LINES = 120
#: Skips that nobody reviews by name.
COUNTED = ("scalar", "not_a_weight", "empty")

# --------------------------------------------------------------------------------- expectations


def _line(site: WeightSite) -> str:
    """``name [3,3,16,32] keep 3: Conv2D[1]<-Identity``, consumers alike counted."""
    uses: Dict[str, int] = {}
    for consumer in site.consumers:
        chain = "<-".join([f"{consumer.op}[{consumer.slot}]", *reversed(consumer.path_ops)])
        if consumer.kept_axes != site.kept_axes:
            chain += f" keep {','.join(map(str, consumer.kept_axes))}"
        uses[chain] = uses.get(chain, 0) + 1
    users = "; ".join(chain + (f" x{count}" if count > 1 else "") for chain, count in uses.items())
    shape = ",".join(map(str, site.shape))
    dtype = "" if dtype_name(site.dtype) == "float32" else f" {dtype_name(site.dtype)}"
    source = "" if site.source.value == "CONST" else f" {site.source.value}"
    kept = ",".join(map(str, site.kept_axes))
    return f"{site.weight} [{shape}]{dtype}{source} keep {kept}: {users}"


def describe(graph: Graph, survey: Survey) -> Dict[str, Any]:
    """A graph's survey in few lines."""
    lines = [_line(site) for site in survey.sites]
    sites: Any = lines
    if len(lines) > MOST_LINES:
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        sites = {"count": len(lines), "sha256": digest, "first": lines[:3], "last": lines[-3:]}
    skips: Dict[str, Any] = {}
    for skip in survey.skips:
        if skip.reason in COUNTED:
            skips[skip.reason] = skips.get(skip.reason, 0) + 1
        else:
            skips.setdefault(skip.reason, []).append(skip.node)
    nodes = [len(scope.nodes) for scope in graph.scopes]
    return {"nodes": nodes if len(nodes) > 1 else nodes[0], "sites": sites, "skips": skips}


def _read() -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(EXPECTATIONS.read_text()) if EXPECTATIONS.exists() else {}
    return found


def _write(expected: Dict[str, Any]) -> None:
    text = json.dumps(expected, indent=1, sort_keys=True, ensure_ascii=False)
    EXPECTATIONS.write_text(text + "\n", encoding="utf-8")


def _update(key: str, value: Dict[str, Any]) -> None:
    """Change one entry; several processes may do so at a time."""
    with open(str(EXPECTATIONS) + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write({**_read(), key: value})
    Path(lock.name).unlink()


def test_a_survey_is_as_expected(
    entry: Dict[str, Any], corpus: Path, request: pytest.FixtureRequest
) -> None:
    """Nodes, sites with their channels and ways, and skips with their reasons."""
    path = corpus / entry["file"]
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    graph = load(path)
    found = {"file": entry["file"], **describe(graph, locate(graph))}
    if request.config.getoption("--update-golden"):
        _update(key, found)
    expected = _read()
    assert key in expected, "a graph without expectations: run pytest --update-golden and look"
    assert found == expected[key]


def test_no_expectation_is_left_over(corpus: Path, request: pytest.FixtureRequest) -> None:
    """Every entry of expectations.json is of a graph that is there."""
    entries = json.loads((corpus / "manifest.json").read_text())
    known = {entry["sha256"] for entry in entries}
    if request.config.getoption("--update-golden"):
        _write({key: value for key, value in _read().items() if key in known})
    assert set(_read()) <= known


# -------------------------------------------------------------------------------- without graphwq

FLOATS = {1: "float", 2: "double", 14: "bfloat16", 19: "half"}
VARIABLES = ("Const", "Variable", "VariableV2", "TemporaryVariable", "VarHandleOp")


def _floats(nodes: Any) -> Iterator[str]:
    for node in nodes:
        if node.op in VARIABLES and node.attr["dtype"].type % 100 in FLOATS:
            yield node.name


def test_every_float_constant_is_a_site_or_a_skip(entry: Dict[str, Any], corpus: Path) -> None:
    """Exactly once each, counted by protobuf alone, in the main graph and in every function."""
    path = corpus / entry["file"]
    proto = GraphDef.FromString(path.read_bytes())
    expected = Counter(_floats(proto.node))
    for function in proto.library.function:
        expected.update(f"{function.signature.name}:{name}" for name in _floats(function.node_def))
    survey = locate(load(path))
    found = Counter([site.weight for site in survey.sites])
    found.update(skip.node for skip in survey.skips)
    assert found == expected


def test_reading_and_writing_changes_nothing(entry: Dict[str, Any], corpus: Path) -> None:
    """The bytes that come out are the bytes that went in."""
    path = corpus / entry["file"]
    data = path.read_bytes()
    graph = load(path)
    assert graph.to_bytes() == data
    assert graph.digest == hashlib.sha256(data).hexdigest() == entry["sha256"]


#: Ops of the manifest's patterns behind which a weight is no weight any more.
COMPUTING = ("Add", "AddV2", "Mul", "Greater", "Relu", "FakeQuantWithMinMaxVars", "Dequantize")


def _ways(survey: Survey) -> Counter:
    """consumer[input]<-ops<-Const:dtype, as the manifest writes it."""
    names = {"float32": "float", "float64": "double", "float16": "half"}
    found: Counter = Counter()
    for site in survey.sites:
        for consumer in site.consumers:
            path: List[str] = [
                "<arg>" if op.endswith("PartitionedCall") else op
                for op in reversed(consumer.path_ops)
            ]
            end = f"Const:{names[dtype_name(site.dtype)]}"
            found["<-".join([f"{consumer.op}[{consumer.slot}]", *path, end])] += 1
    return found


def test_sites_agree_with_the_manifest(entry: Dict[str, Any], corpus: Path) -> None:
    """The manifest's patterns were found by another program: each is a site, or a skip says why.

    Further ways are allowed through joining ops only, whose pieces the manifest counts once.
    """
    survey = locate(load(corpus / entry["file"]))
    found = _ways(survey)
    told = {key: count for key, count in entry["patterns"] if "quint8" not in key}
    missing = Counter(told) - found
    reasons = Counter(skip.reason for skip in survey.skips)
    unexplained = sum(
        count for key, count in missing.items() if not set(key.split("<-")) & set(COMPUTING)
    )
    assert unexplained <= reasons["no_data"] + reasons["axis_lost"], missing
    further = found - Counter(told)
    assert all("<-ConcatV2" in key for key in further), further
