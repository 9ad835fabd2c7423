"""The rewrite over the whole corpus of real graphs, and what TensorFlow makes of it.

At the widths of ``--corpus-widths`` (8 by default) every graph is quantized as dequant and as bake,
and run in both forms. One more combination of width, storage form and granularity per graph is
chosen by its sha256, so that CI sees all of them without seeing them all on every graph.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from rewriting import (
    COMBINATIONS,
    assert_only_edits_changed,
    assert_second_run_does_nothing,
    folding_limit,
)

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.plan import Rows, Split
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.sites import qualified
from graphwq.survey.view import build
from graphwq.tf1.session import Runner

pytestmark = [pytest.mark.corpus, pytest.mark.tf]

#: How often two runs may differ before it counts: TensorFlow's AddN adds into whichever input's
#: buffer is free first, so the order of its sums depends on scheduling even on one thread.
_TRIES = 5
#: float32 rounding, as a part of the largest output, with the optimizers on.
_ROUNDING = 1e-5

Outputs = Dict[str, np.ndarray]


def _widths(config: pytest.Config) -> List[int]:
    return [int(width) for width in config.getoption("--corpus-widths").split(",")]


def _feeds(entry: Dict[str, Any], corpus: Path) -> Optional[Outputs]:
    """The feed of the corpus, or one from its description; None where there is neither."""
    spec = entry.get("feed") or {}
    path = corpus / entry["feed_file"] if entry.get("feed_file") else None
    if path is not None and path.is_file():
        try:
            with np.load(path, allow_pickle=False) as data:
                return {key: data[key] for key in data.files}
        except ValueError:  # an array of Python objects (strings): made anew below
            pass
    random = np.random.RandomState(int(entry["sha256"][:8], 16))
    feeds = {}
    for name, (dtype, shape) in spec.items():
        if dtype in ("string", "object"):
            feeds[name] = np.full(shape, b"graphwq", object)
        elif dtype == "bool":
            feeds[name] = np.asarray(random.rand(*shape) < 0.5)
        elif np.dtype(dtype).kind in "iu":
            feeds[name] = np.asarray(random.randint(0, 2, size=shape), dtype)
        else:
            feeds[name] = np.asarray(random.rand(*shape), dtype)
    return feeds if spec or entry.get("run_ok") else None


def _load(entry: Dict[str, Any], corpus: Path) -> Graph:
    path = corpus / entry["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], "not the file it was"
    return graphwq.load(path)


def _refused(graph: Graph) -> str:
    """The message where graphwq refuses a graph: only for a fault that TensorFlow sees as well."""
    view = build(graph)
    if not any(scope.dangling for scope in view.scopes.values()):
        return ""
    with pytest.raises(InputError) as caught:
        graphwq.quantize(graph)
    message = str(caught.value)
    assert "\n" not in message
    assert "no such node exists" in message
    assert "export it again" in message
    return message


def _fetchable(graph: Graph, result: RewriteResult) -> List[str]:
    """The quantized weights of the main graph that are in no loop frame and no branch."""
    nodes = {node.name: node for node in graph.nodes}
    return [
        f"{weight.item.weight}:0"
        for weight in result.weights
        if weight.item.weight in nodes and not nodes[weight.item.weight].control_inputs
    ]


def _run(graph: Graph, outputs: List[str], feeds: Outputs, optimize: bool) -> Outputs:
    with Runner(graph, optimize) as runner:
        return runner.run(outputs, feeds)


def _same_bits(left: Outputs, right: Outputs) -> List[str]:
    return [
        name
        for name in left
        if left[name].dtype != right[name].dtype
        or left[name].shape != right[name].shape
        or left[name].tobytes() != right[name].tobytes()
    ]


def _far_apart(left: Outputs, right: Outputs) -> List[str]:
    found = []
    for name, one in left.items():
        other = right[name]
        assert one.dtype == other.dtype, name
        assert one.shape == other.shape, name
        if one.dtype.kind != "f":
            if one.tobytes() != other.tobytes():
                found.append(f"{name} ({one.dtype})")
            continue
        if not np.array_equal(np.isnan(one), np.isnan(other)):
            found.append(f"{name} (NaN)")
            continue
        finite = np.isfinite(one) & np.isfinite(other)
        if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
            found.append(f"{name} (Inf)")
            continue
        if finite.any():
            largest = float(np.abs(other[finite]).max())
            worst = float(np.abs(one[finite].astype(np.float64) - other[finite]).max())
            if worst > _ROUNDING * max(largest, 1e-30):
                found.append(f"{name}: {worst / max(largest, 1e-30):.2g} of the largest")
    return found


def _retried(compare: Callable[[], List[str]]) -> List[str]:
    """What differs in each of several comparisons with fresh sessions; see _TRIES."""
    differing: List[str] = []
    for _ in range(_TRIES):
        differing = compare()
        if not differing:
            break
    return differing


def _is_sure(entry: Dict[str, Any]) -> bool:
    """Whether two runs of the float graph give the same; random ops would make any test fail."""
    return bool(entry.get("deterministic", True))


def _check_rewrite(graph: Graph, result: RewriteResult, **options: Any) -> None:
    assert_only_edits_changed(graph, result)
    assert_second_run_does_nothing(result, **options)
    fates = [weight.item.weight for weight in result.weights] + [skip.node for skip in result.skips]
    assert len(set(fates)) == len(fates)
    survey = graphwq.locate(graph)
    everything = {site.weight for site in survey.sites} | {skip.node for skip in survey.skips}
    assert set(fates) == everything
    for scope in result.graph.scopes:
        for node in scope.nodes:
            assert qualified(scope.name, node.name)


def _compare(
    entry: Dict[str, Any],
    corpus: Path,
    graph: Graph,
    one: RewriteResult,
    other: RewriteResult,
    optimized_too: bool = True,
) -> None:
    """Run both forms: bit for bit with the optimizers off, up to rounding with them on."""
    if not (entry["import_ok"] or entry["run_ok"]):
        return  # custom ops, broken imports: not even the float graph can be loaded
    weights = _fetchable(graph, one)
    feeds = _feeds(entry, corpus) if entry["run_ok"] else None
    outputs = list(entry["outputs"]) if feeds is not None else []
    if not _is_sure(entry):
        for result in (one, other):
            found = _run(result.graph, outputs, feeds or {}, optimize=True)
            assert set(found) == set(outputs)
        outputs = []
    fetched = sorted(set(outputs) | set(weights))
    if fetched:

        def plain() -> List[str]:
            left = _run(one.graph, fetched, feeds or {}, optimize=False)
            return _same_bits(left, _run(other.graph, fetched, feeds or {}, optimize=False))

        assert _retried(plain) == []
    if outputs and optimized_too:

        def optimized() -> List[str]:
            left = _run(one.graph, outputs, feeds or {}, optimize=True)
            return _far_apart(left, _run(other.graph, outputs, feeds or {}, optimize=True))

        assert _retried(optimized) == []


def test_dequant_and_bake_agree(
    entry: Dict[str, Any], corpus: Path, request: pytest.FixtureRequest
) -> None:
    """Law 4 on real graphs: TensorFlow imports and runs both forms, and they agree.

    Laws 2 and 3 as well: nodes outside the edits keep their bytes, a second run changes nothing. A
    graph that no runtime can load is refused with a message that says why.
    """
    graph = _load(entry, corpus)
    if _refused(graph):
        assert not entry["import_ok"]
        return
    for bits in _widths(request.config):
        plan = graphwq.plan(graph, bits)
        results = {
            storage: graphwq.quantize(graph, plan=plan, storage=storage)
            for storage in ("dequant", "bake")
        }
        for storage, result in results.items():
            _check_rewrite(graph, result, bits=bits, storage=storage)
        assert results["dequant"].modified == bool(plan.items)
        _compare(entry, corpus, graph, results["dequant"], results["bake"])


def _chosen(entry: Dict[str, Any]) -> Tuple[int, str, str]:
    """Another width, storage form and granularity for every graph, always the same."""
    others = [item for item in COMBINATIONS if item[0] != 8 or item[1:] != ("dequant", "channel")]
    return others[int(entry["sha256"][8:16], 16) % len(others)]


def test_one_more_combination(entry: Dict[str, Any], corpus: Path) -> None:
    """The same for a width, form and granularity that the sha256 of the graph picks."""
    bits, storage, granularity = _chosen(entry)
    graph = _load(entry, corpus)
    if _refused(graph):
        return
    options: Dict[str, Any] = {"granularity": granularity, "group_size": 16}
    plan = graphwq.plan(graph, bits, storage, **options)
    result = graphwq.quantize(graph, plan=plan)
    _check_rewrite(graph, result, bits=bits, storage=storage, **options)
    other = "bake" if storage != "bake" else "dequant"
    reference = graphwq.quantize(graph, plan=plan, storage=other)
    _compare(entry, corpus, graph, result, reference, optimized_too=False)


def test_in_pieces(entry: Dict[str, Any], corpus: Path) -> None:
    """A quarter of the graphs with a folding limit of 64 kB: larger weights are cut or gathered.

    Loops, branches, grouped and transposed convolutions of real graphs go through split and rows
    that way. The outputs are those of the uncut graph up to rounding: a cut may change the order of
    a sum.
    """
    if int(entry["sha256"][16:18], 16) % 4:
        pytest.skip("another quarter of the corpus")
    graph = _load(entry, corpus)
    if _refused(graph):
        return
    with folding_limit(65536):
        for bits in (8, 4):
            plan = graphwq.plan(graph, bits)
            if not any(isinstance(item.form, (Split, Rows)) for item in plan.items):
                return
            result = graphwq.quantize(graph, plan=plan)
            _check_rewrite(graph, result, bits=bits)
        baked = graphwq.quantize(graph, plan=plan, storage="bake").graph
    runs = entry["run_ok"] and _is_sure(entry)
    feeds = _feeds(entry, corpus) if runs else None
    if feeds is None:
        return
    outputs, fed = list(entry["outputs"]), feeds

    def compare() -> List[str]:
        left = _run(result.graph, outputs, fed, optimize=False)
        return _far_apart(left, _run(baked, outputs, fed, optimize=False))

    assert _retried(compare) == []
