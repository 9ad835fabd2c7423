"""The decoding tables: made by the graph, equal to packing.table, shared where they can be."""

from __future__ import annotations

import re
from typing import Any, List

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import assert_same_bits, function_graph, value

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.wire import delimited
from graphwq.quant.packing import Plane, planes, table
from graphwq.rewrite.builder import Builder, Place
from graphwq.rewrite.cost import table_nbytes
from graphwq.rewrite.edits import AddNode
from graphwq.rewrite.plan import Rule
from graphwq.rewrite.tables import Tables
from graphwq.survey.evaluate import evaluate
from graphwq.survey.view import build

_PLANES = sorted({plane for bits in range(2, 8) for plane in planes(bits)}, key=repr)


def _builder(scope: str = "", device: str = "", control: Any = ()) -> Builder:
    return Builder(Place(scope, "w", device, tuple(control), {}), "q0")


def _graph(builder: Builder) -> Graph:
    return Graph.parse(b"".join(delimited(1, bytes(node.to_bytes())) for node in builder.nodes))


@pytest.mark.parametrize("plane", _PLANES, ids=str)
def test_a_table_is_what_packing_says(plane: Plane) -> None:
    """Law: the nodes of a table compute packing.table bit for bit, float32 [256, per_byte]."""
    builder = _builder()
    name = Tables("q").table(builder, plane)
    found = evaluate(build(_graph(builder)).main, name)
    assert found is not None
    assert_same_bits(found, table(plane), str(plane))


def test_all_tables_in_one_graph() -> None:
    """Tables of all widths stand side by side and share the 0..255.

    2 and 6 bits both have a plane of 2 bits at shift 0, 3 and 7 bits one of 2 bits at shift 1; only
    the offsets tell them apart.
    """
    builder, tables = _builder(), Tables("q")
    refs = {plane: tables.table(builder, plane) for plane in _PLANES}
    graph = _graph(builder)
    assert [node.op for node in graph.nodes].count("Range") == 1
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert len(set(refs.values())) == len(_PLANES)
    for plane, name in refs.items():
        found = evaluate(build(graph).main, name)
        assert found is not None
        assert_same_bits(found, table(plane), str(plane))


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_what_bits_count(bits: int) -> None:
    """One constant float32 [1, bits] per width and place."""
    tables, builder = Tables("q"), _builder()
    name = tables.bit_weights(builder, bits)
    assert tables.bit_weights(builder, bits) == name != tables.bit_weights(builder, bits - 1)
    found = evaluate(build(_graph(builder)).main, name)
    assert found is not None
    assert found.tolist() == [[1, 2, 4, 8, 16, 32, 64][: bits - 1] + [-(2 ** (bits - 1))]]


def test_a_table_is_made_once_per_place() -> None:
    """The second weight on the same device uses the table of the first; nothing is added."""
    tables = Tables("q")
    first, second = _builder(), _builder()
    plane = planes(4)[0]
    assert tables.table(first, plane) == tables.table(second, plane)
    assert first.nodes
    assert not second.nodes


def test_another_device_or_frame_has_its_own_table() -> None:
    """A table is not shared across devices, control inputs (frames, branches) or functions."""
    tables = Tables("q")
    plane = planes(4)[0]
    builders = [
        _builder(),
        _builder(device="/device:GPU:0"),
        _builder(control=("^switch",)),
        _builder(scope="f"),
    ]
    refs = [tables.table(builder, plane).split(":")[0] for builder in builders]
    assert len(set(refs)) == len(refs)
    for builder in builders:
        assert len(builder.nodes) == len(builders[0].nodes)
        for node in builder.nodes:
            assert node.device == builder.place.device
            if node.op == "Const":
                assert node.control_inputs == builder.place.control


def _shared(result: Any) -> List[str]:
    """The added nodes that belong to no single weight: their prefix has no number of a weight."""
    names = [edit.node.name for edit in result.edits if isinstance(edit, AddNode)]
    return [name for name in names if not re.match(r"q_*[0-9a-z]+/", name)]


def _network(count: int, bits: int) -> Any:
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 160])
    for index in range(count):
        x = b.matmul(f"y{index}", x, b.const(f"w{index}", random_weight((160, 160), index)))
    return graphwq.quantize(b.graph(), bits)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7])
def test_weights_share_the_tables_of_a_graph(bits: int) -> None:
    """Ten weights hold as many table nodes as three, and shared_bytes is the size of the tables."""
    few, many = _network(3, bits), _network(10, bits)
    assert few.weights[0].item.stored_bits == bits

    assert _shared(few) == _shared(many)
    assert few.shared_bytes == many.shared_bytes
    one_shape = 80
    slack = 4 * len(_shared(few))
    table = table_nbytes(bits, few.weights[0].item.layout)
    assert table - slack <= few.shared_bytes <= table + one_shape
    assert table < 2048


def test_all_widths_in_one_graph() -> None:
    """Rules may give every weight another width; the tables of all widths live in one graph."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 160])
    for index in range(12):
        x = b.matmul(f"y{index}", x, b.const(f"w{index}", random_weight((160, 160), index)))
    rules = tuple(Rule(f"w{index}", 2 + index % 6) for index in range(12))
    result = graphwq.quantize(b.graph(), rules=rules)
    assert {weight.item.stored_bits for weight in result.weights} == set(range(2, 8))
    for name, quantized in result.quantized.items():
        assert_same_bits(value(result.graph, name), quantized.dequantize(), name)


def test_a_function_has_its_own_table() -> None:
    """A weight in a body decodes with a table in that body, and main weights with their own."""
    graph = function_graph(shape=(64, 64))
    result = graphwq.quantize(graph, 3, keep_larger=True)
    assert_same_bits(value(result.graph, "dense:w"), result.quantized["dense:w"].dequantize())
    assert any(edit.node.op == "FloorMod" for edit in result.edits)
    assert {edit.scope for edit in result.edits} == {"dense"}


def test_the_byte_is_exact() -> None:
    """0..255 through Mul by a power of two, FloorMod and Floor has no rounding at all."""
    byte = np.arange(256, dtype=np.float32)
    for plane in _PLANES:
        for digit in range(plane.per_byte):
            shifted = byte * np.float32(2.0 ** -(plane.bits * digit))
            exact = [int(item) >> plane.bits * digit & (1 << plane.bits) - 1 for item in byte]
            assert np.floor(np.mod(shifted, np.float32(1 << plane.bits))).tolist() == exact
