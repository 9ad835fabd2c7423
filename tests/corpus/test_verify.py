"""verify over the whole corpus: what quantize makes passes, to the last node and the last code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
from verify.test_structure import structure_of
from verify.test_weights import weights_of

import graphwq
from graphwq.survey.view import build

pytestmark = pytest.mark.corpus


@pytest.mark.parametrize(("bits", "storage"), [(8, "dequant"), (4, "bake"), (2, "fake_quant")])
def test_structure_and_weights_pass(
    bits: int, storage: str, entry: Dict[str, Any], corpus: Path
) -> None:
    """The plan is recovered and explains every change; every code is where rounding puts it."""
    graph = graphwq.load(corpus / entry["file"])
    if any(scope.dangling for scope in build(graph).scopes.values()):
        pytest.skip("the graph is broken: an input names no node")
    made = graphwq.quantize(graph, bits, storage)
    structure = structure_of(graph, made.graph)
    assert structure.problems == ()
    assert structure.changes == ()
    weights = weights_of(graph, made.graph)
    assert weights.problems == ()
    changed = {item.item.weight for item in made.weights if item.changed}
    assert {item.weight for item in weights.weights} == changed
