"""The public names of the package and what they promise."""

from __future__ import annotations

import inspect as python_inspect
from pathlib import Path

import numpy as np
import pytest
from builders import dense
from rewriting import STORAGES, value

import graphwq
from graphwq.errors import GraphWQError, InputError, InvariantError


def test_every_public_name_is_there() -> None:
    """Everything in __all__ can be got, and dir() shows it."""
    for name in graphwq.__all__:
        assert getattr(graphwq, name) is not None
        assert name in dir(graphwq)
    assert graphwq.__all__[0] == "__version__"
    assert {"load", "locate", "plan", "quantize", "save"} <= set(graphwq.__all__)
    assert sorted(graphwq.__all__[1:]) == list(graphwq.__all__[1:])


def test_every_public_name_is_documented() -> None:
    """Classes and functions have a docstring; functions have their types written down."""
    for name in graphwq.__all__[1:]:
        thing = getattr(graphwq, name)
        assert (thing.__doc__ or "").strip(), name
        if python_inspect.isfunction(thing):
            assert "return" in thing.__annotations__, name


def test_unknown_names_are_attribute_errors() -> None:
    """A wrong name is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="quantise"):
        graphwq.quantise  # noqa: B018


def test_quantize_from_path_and_from_graph(tmp_path: Path) -> None:
    """A path (text or Path) and a graph give the same; save writes and refuses to overwrite."""
    path = tmp_path / "in.pb"
    path.write_bytes(dense(64, 64).to_bytes())
    results = [graphwq.quantize(source) for source in (path, str(path), graphwq.load(path))]
    assert len({result.graph.to_bytes() for result in results}) == 1
    out = tmp_path / "out.pb"
    size = results[0].save(out)
    assert size == out.stat().st_size
    assert out.read_bytes() == results[0].graph.to_bytes()
    with pytest.raises(InputError, match="exists"):
        results[0].save(str(out))
    assert results[0].save(out, force=True) == size


def test_a_result_says_what_happened() -> None:
    """weights, quantized, skips, edits and modified hold what the docstring says."""
    result = graphwq.quantize(dense(64, 64), bits=5)
    (weight,) = result.weights
    assert (weight.item.weight, weight.item.scheme.num_bits, weight.changed) == ("w", 5, True)
    tensor = result.quantized["w"]
    assert tensor.codes.dtype == np.int8
    assert tensor.codes.shape == (64, 64)
    assert tensor.scale.dtype == np.float32
    assert tensor.scale.shape == (1, 64)
    assert tensor.zero_point == 0
    assert np.abs(tensor.codes).max() == 15
    assert np.array_equal(tensor.dequantize(), value(result.graph, "w"))
    assert result.modified
    assert {type(edit).__name__ for edit in result.edits} == {"AddNode", "ReplaceNode"}


@pytest.mark.parametrize("storage", STORAGES)
def test_codes_do_not_depend_on_the_storage(storage: str) -> None:
    """The codes and scales of a weight are the same in every storage form."""
    tensor = graphwq.quantize(dense(64, 64), 4, storage).quantized["w"]
    other = graphwq.quantize(dense(64, 64), 4).quantized["w"]
    assert np.array_equal(tensor.codes, other.codes)
    assert np.array_equal(tensor.scale, other.scale)


def test_plan_then_quantize() -> None:
    """graphwq.plan gives a plan that graphwq.quantize carries out, here with another storage."""
    graph = dense(64, 64)
    plan = graphwq.plan(graph, 6, "bake")
    assert graphwq.Plan.loads(plan.dumps()) == plan
    result = graphwq.quantize(graph, plan=plan)
    assert [node.op for node in result.graph.nodes] == [node.op for node in graph.nodes]
    assert graphwq.quantize(graph, plan=plan, storage="dequant").graph.nodes[-1] is graph.nodes[-1]


def test_a_misspelt_option_is_a_type_error() -> None:
    """An option that does not exist is a mistake in the caller's program."""
    with pytest.raises(TypeError, match="bit"):
        graphwq.quantize(dense(), bit=4)


def test_errors_have_their_exit_codes() -> None:
    """Every error is a GraphWQError; only our own bug is another exit code than 2."""
    for name in graphwq.__all__:
        thing = getattr(graphwq, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert issubclass(thing, GraphWQError)
            assert thing.exit_code == (70 if issubclass(thing, InvariantError) else 2)


def test_values_are_immutable() -> None:
    """Graphs, nodes, plans and surveys cannot be changed in place."""
    graph = dense()
    plan = graphwq.plan(graph, keep_larger=True)
    survey = graphwq.locate(graph)
    for thing, name in (
        (graph, "layout"),
        (graph.nodes[0], "name"),
        (plan, "items"),
        (plan.items[0], "weight"),
        (survey.sites[0], "shape"),
    ):
        with pytest.raises(AttributeError):
            setattr(thing, name, None)


def test_the_package_is_typed() -> None:
    """py.typed stands in the package, so that type checkers use its annotations."""
    assert graphwq.__file__ is not None
    assert (Path(graphwq.__file__).parent / "py.typed").is_file()
