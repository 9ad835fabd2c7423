"""Structure and weights together: exactness both ways, unrelated graphs, broken references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import dense
from rewriting import double_matmul, half_matmul

import graphwq
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_node
from graphwq.verify.static import check_static
from verify.test_weights import changed

_GRAPHS = {
    "single": lambda: dense(64, 50),
    "half": lambda: half_matmul().graph,
    "double": lambda: double_matmul().graph,
}


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("name", sorted(_GRAPHS))
def test_bake_and_dequant_hold_the_same_values(name: str, granularity: str, bits: int) -> None:
    """Exact, whichever of them is the reference; against the float graph neither is."""
    graph = _GRAPHS[name]()
    options = {"granularity": granularity, "keep_larger": True}
    baked = graphwq.quantize(graph, bits, "bake", **options).graph
    stored = graphwq.quantize(graph, bits, "dequant", **options).graph
    forward, backward = (
        check_static(baked, stored, exact=True),
        check_static(stored, baked, exact=True),
    )
    assert forward.passed
    assert not forward.swapped
    assert backward.passed
    assert backward.swapped
    assert [item.error.sum_squared_errors for item in forward.weights.weights] == [0.0]
    assert not check_static(graph, stored, exact=True).passed
    assert check_static(graph, stored).passed


def test_exact_finds_a_single_bit() -> None:
    """One scale by one unit in the last place: named, with the number of values that differ."""
    graph = dense(64, 50)
    baked = graphwq.quantize(graph, 8, "bake").graph
    made = graphwq.quantize(graph, 8)
    scale = next(
        edit.node.name
        for edit in made.edits
        if edit.node.tensor() is not None and edit.node.tensor().shape == (50,)
    )

    def next_up(values: np.ndarray) -> None:
        values[7] = np.nextafter(values[7], np.float32(9))

    found = check_static(baked, changed(made.graph, scale, next_up), exact=True)
    (problem,) = found.weights.problems
    assert (problem.kind, problem.where) == ("not_exact", "w")
    codes, step = made.quantized["w"].codes[:, 7], made.quantized["w"].scale[0, 7]
    other = codes * np.nextafter(step, np.float32(9))
    different = int((codes.astype(np.float32) * step != other.astype(np.float32)).sum())
    assert different > 32
    assert f"in {different} of 3200 values" in problem.message


def test_unrelated_graphs_are_refused(fixtures: Path) -> None:
    """With the numbers, and where to look for renamed nodes."""
    left = graphwq.load(fixtures / "digits_cnn.pb")
    with pytest.raises(InputError, match=r"nothing to do with each other: 0 of .*graphwq diff"):
        check_static(left, dense(64, 50))


def test_a_broken_reference_is_refused() -> None:
    """A reference that no runtime loads proves nothing."""
    graph = dense(64, 50)
    broken = graph.edited({"": {"y": [new_node("y", "MatMul", ("x", "missing"))]}})
    with pytest.raises(InputError, match="no such node exists"):
        check_static(broken, graph)


def test_the_empty_graph() -> None:
    """Nothing is compared, nothing passes."""
    assert not check_static(Graph(()), Graph(())).passed
