"""The outputs layer over the real graphs: recorded feeds, made-up feeds, exactness, layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.survey.locate import locate_in
from graphwq.survey.view import View, build
from graphwq.tf1.session import Runner
from graphwq.verify.analysis import analyse_layers
from graphwq.verify.feeds import Feeds, load_feeds
from graphwq.verify.interface import Interface, find_interface
from graphwq.verify.layers import LayersResult
from graphwq.verify.outputs import OutputsResult, compare_outputs
from graphwq.verify.trial import find_feeds
from graphwq.verify.unsafe_ops import check_safe

pytestmark = [pytest.mark.corpus, pytest.mark.tf]

#: Graphs on which no made-up input is run, by the beginning of their sha256, with the reason. A
#: graph that is not listed must run; one that is listed must not.
NO_INPUT: Dict[str, str] = {
    "7de00be1a21f": "three inputs of unknown rank, all of them of rank 3",
    "1327b2e86825": "two images, one four times as large as the other",
}


def _opened(entry: Dict[str, Any], corpus: Path) -> Tuple[Graph, View, Interface]:
    graph = graphwq.load(corpus / entry["file"])
    view = build(graph)
    return graph, view, find_interface(graph, view)


def _recorded(
    entry: Dict[str, Any], corpus: Path, runner: Runner, view: View, found: Interface
) -> List[Feeds]:
    path = corpus / str(entry.get("feed_file"))
    if not path.is_file():
        return []
    declared = {name: runner.declared(name) for name in entry["feed"]}
    arguments = (path, view.main, found.placeholders, found.tensors, declared)
    try:
        return [load_feeds(*arguments)]
    except InputError:  # strings that were pickled, or feeds for fewer outputs
        with pytest.raises(InputError, match="Python objects|leave out"):
            load_feeds(*arguments)
        return []


def test_outputs_of_real_graphs(entry: Dict[str, Any], corpus: Path) -> None:
    """Float against its 8-bit form, on the feeds of the corpus and on made-up ones.

    Nothing becomes NaN, no dtype or shape changes, and the result survives JSON.
    """
    if not entry["run_ok"]:
        return
    graph, view, found = _opened(entry, corpus)
    made = graphwq.quantize(graph, 8).graph
    with Runner(graph) as one, Runner(made) as two:
        every = _recorded(entry, corpus, one, view, found)
        try:
            arguments = (view.main, found.placeholders, found.tensors)
            every.append(find_feeds(one, *arguments, samples=2))
        except InputError:
            assert entry["sha256"][:12] in NO_INPUT
        else:
            assert entry["sha256"][:12] not in NO_INPUT
        assert every
        for feeds in every:
            check_safe(view, found.tensors, frozenset(feeds.tensors))
            result = compare_outputs(one, two, found.tensors, feeds)
            assert result.passed, result.problems
            assert len(result.outputs) == len(found.tensors)
            text = json.dumps(result.to_json(), allow_nan=False)
            assert OutputsResult.from_json(json.loads(text)) == result


def test_bake_against_dequant_is_exact(entry: Dict[str, Any], corpus: Path) -> None:
    """A quarter of the graphs at 4 bits: not a bit of an output differs, and with float it does."""
    if int(entry["sha256"][20:22], 16) % 4 or not entry["run_ok"] or not entry["deterministic"]:
        pytest.skip("another part of the corpus")
    graph, view, found = _opened(entry, corpus)
    plan = graphwq.plan(graph, 4)
    forms = [graphwq.quantize(graph, plan=plan, storage=form).graph for form in ("bake", "dequant")]
    with Runner(forms[0], False) as one, Runner(forms[1], False) as two:
        recorded = _recorded(entry, corpus, one, view, found)
        feeds = recorded[0] if recorded else find_feeds(
            one, view.main, found.placeholders, found.tensors, samples=1
        )  # fmt: skip
        result = compare_outputs(one, two, found.tensors, feeds, exact=True)
        assert result.passed, result.problems
        assert result.exact


def test_layers_of_real_graphs(entry: Dict[str, Any], corpus: Path) -> None:
    """A tenth of the graphs at 4 bits: every op and every weight, or the reason why not."""
    if int(entry["sha256"][22:24], 16) % 10 or not entry["run_ok"] or not entry["deterministic"]:
        pytest.skip("another part of the corpus")
    graph, view, found = _opened(entry, corpus)
    made = graphwq.quantize(graph, 4).graph
    sites = locate_in(view).sites
    with Runner(graph, False) as runner:
        feeds = (
            _recorded(entry, corpus, runner, view, found)
            or [find_feeds(runner, view.main, found.placeholders, found.tensors, samples=1)]
        )[0]
    result = analyse_layers(graph, made, view, build(made), sites, found.tensors, feeds, Runner)
    text = json.dumps(result.to_json(), allow_nan=False)
    assert LayersResult.from_json(json.loads(text)) == result
    changed = len(graphwq.plan(graph, 4).items)
    assert len(result.effects) == changed
    for item in result.nodes:
        assert bool(item.reason) is not bool(item.isolated)
        assert len(item.isolated) == len(item.accumulated)
        for difference in item.isolated:
            assert difference.elements
            assert np.isfinite(difference.sum_squared_errors)
    assert all(len(effect.outputs) == len(found.tensors) for effect in result.effects)
