"""What a storage form costs is known before anything is computed; and it is within the size law."""

from __future__ import annotations

import re
from typing import Any, Dict, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from rewriting import BITS, CASES, GRANULARITIES, folding_limit, function_graph

import graphwq
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import attr_of_type
from graphwq.rewrite.builder import Place
from graphwq.rewrite.cost import dequant_nbytes, table_nbytes
from graphwq.rewrite.options import Options
from graphwq.rewrite.planning import make_plan
from graphwq.rewrite.run import RewriteResult
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build

_SHAPES = [(128, 128), (64, 256), (100, 77), (1, 5), (3, 3, 16, 32), (1, 1, 7, 9), (2, 3, 3, 4, 5)]


def _network(
    shape: Tuple[int, ...], name: str = "w", count: int = 1, dtype: Any = np.float32
) -> Graph:
    b = GraphBuilder()
    for index in range(count):
        w = b.const(name if count == 1 else f"{name}_{index}", random_weight(shape, index, dtype))
        x = b.placeholder(f"x_{index}", [-1] + [1] * (len(shape) - 3) + [shape[-2]])
        if len(shape) == 2:
            b.matmul(f"y_{index}", x, w)
        else:
            op = "Conv2D" if len(shape) == 4 else "Conv3D"
            b.op(f"y_{index}", op, [x, w], strides=[1] * len(shape), padding="SAME")
    return b.graph()


def _predicted(graph: Graph, result: RewriteResult) -> Dict[str, int]:
    view = build(graph)
    found = {}
    sites = {site.weight: site for site in locate_in(view).sites}
    for weight in result.weights:
        site = sites[weight.item.weight]
        node = view.scopes[site.scope].nodes[site.node]
        found[site.weight] = dequant_nbytes(Place.of(site.scope, node), site, weight.item)
    return found


def _shapes(result: RewriteResult) -> int:
    """Bytes of the shapes that weights share: predicted for each of them, written once."""
    return sum(
        len(bytes(edit.node.to_bytes())) + 2
        for edit in result.edits
        if edit.node.op == "Const"
        and not re.match(r"q_*[0-9a-z]+/", edit.node.name)
        and not edit.node.name.endswith("/axis")
        and attr_of_type(edit.node, "dtype") == dtypes.DT_INT32
    )


def _compare(graph: Graph, result: RewriteResult, limit: float) -> None:
    predicted = _predicted(graph, result)
    assert predicted
    for weight in result.weights:
        guess = predicted[weight.item.weight]
        real = weight.bytes_after + _shapes(result)
        assert abs(guess - real) <= max(limit, 0.02 * real), (weight.item, guess, real)


def _nodes(result: RewriteResult) -> int:
    return len(result.edits)


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_predicted_bytes_are_the_real_ones(shape: Tuple[int, ...], granularity: str) -> None:
    """The cost of every width is predicted within 2 % or 8 bytes a node (lengths, short names)."""
    graph = _network(shape)
    for bits in BITS:
        result = graphwq.quantize(
            graph, bits, keep_larger=True, granularity=granularity, group_size=5
        )
        assert result.weights[0].item.stored_bits == bits
        _compare(graph, result, 8 * _nodes(result))


@pytest.mark.parametrize("name", ["w", "a/long/scope/of/names/" * 4 + "kernel", "é名"])
def test_names_of_any_length(name: str) -> None:
    """A long name stands in the file once for the weight, and is counted."""
    for bits in (8, 3):
        graph = _network((64, 64), name)
        result = graphwq.quantize(graph, bits, keep_larger=True)
        _compare(graph, result, 8 * _nodes(result))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double(dtype: Any) -> None:
    """The Cast back to half or double is counted."""
    for bits in (8, 5):
        graph = _network((64, 64), dtype=dtype)
        result = graphwq.quantize(graph, bits, keep_larger=True)
        _compare(graph, result, 8 * _nodes(result))


def test_functions() -> None:
    """References in a function body are longer (``node:output:0``), and counted."""
    for bits in (8, 3):
        graph = function_graph(shape=(64, 64))
        result = graphwq.quantize(graph, bits, keep_larger=True)
        _compare(graph, result, 8 * _nodes(result))


def test_many_weights() -> None:
    """With 120 weights (prefixes of other lengths) each prediction still holds."""
    graph = _network((32, 40), count=120)
    result = graphwq.quantize(graph, 4, keep_larger=True)
    assert len(result.weights) == 120
    _compare(graph, result, 60)


@pytest.mark.parametrize("case", ["matmul", "conv2d", "conv3d", "gather_v2", "tied", "shared"])
@pytest.mark.parametrize("bits", [8, 5])
def test_pieces_and_rows(case: str, bits: int) -> None:
    """Split and row forms: predicted without what is added to the consumers, so never too much."""
    made = CASES[case]()
    with folding_limit(made.limit):
        result = graphwq.quantize(made.graph, bits, keep_larger=True)
        (predicted,) = _predicted(made.graph, result).values()
    weight = result.weights[0]
    consumers = {edit.node.name for edit in result.edits} & {
        consumer.node for site in graphwq.locate(made.graph).sites for consumer in site.consumers
    }
    assert consumers
    assert predicted <= weight.bytes_after + 8 * _nodes(result)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
def test_the_bytes_add_up(bits: int, storage: str) -> None:
    """Law: file after = file before + what the weights report + the shared bytes, to the byte."""
    graph = _network((128, 96), count=4)
    result = graphwq.quantize(graph, bits, storage)
    grown = sum(weight.bytes_after - weight.bytes_before for weight in result.weights)
    assert len(result.graph.to_bytes()) == len(graph.to_bytes()) + grown + result.shared_bytes


@pytest.mark.parametrize("case", ["matmul", "tied", "gather_rank3", "while_loop", "double"])
def test_the_bytes_add_up_in_pieces(case: str) -> None:
    """The same where weights are cut or gathered: changed consumers count for their weight."""
    made = CASES[case]()
    for bits in (8, 3):
        with folding_limit(made.limit):
            result = graphwq.quantize(made.graph, bits, keep_larger=True)
        grown = sum(weight.bytes_after - weight.bytes_before for weight in result.weights)
        total = len(made.graph.to_bytes()) + grown + result.shared_bytes
        assert len(result.graph.to_bytes()) == total


@pytest.mark.parametrize("bits", range(2, 8))
def test_tables_cost_what_is_predicted(bits: int) -> None:
    """The tables of a width are predicted within 4 bytes a node."""
    result = graphwq.quantize(_network((256, 256)), bits)
    assert result.weights[0].item.stored_bits == bits
    real = result.shared_bytes - _shapes(result)
    assert abs(real - table_nbytes(bits, result.weights[0].item.layout)) <= 4 * _nodes(result)


@pytest.mark.parametrize("bits", range(2, 8))
def test_packing_never_makes_the_file_larger(bits: int) -> None:
    """Law: whatever the size of a weight, b bits give a file no larger than 8 bits."""
    for rows in (8, 16, 24, 32, 48, 64, 96, 160):
        graph = _network((rows, 64))
        packed = graphwq.quantize(graph, bits).graph
        assert len(packed.to_bytes()) <= len(graphwq.quantize(graph, 8).graph.to_bytes()) + 8


def test_quantizing_never_makes_the_file_larger() -> None:
    """Law: without --keep-larger no width and no form of scale makes a file larger."""
    for shape in ((1, 3), (4, 4), (7, 300), (300, 7), (16, 16), (3, 3, 1, 8), (40, 33)):
        graph = _network(shape)
        for bits in BITS:
            for granularity in GRANULARITIES:
                options = Options(bits=bits, granularity=granularity, group_size=4)
                made = make_plan(graph, options)
                result = graphwq.quantize(graph, plan=made)
                assert len(result.graph.to_bytes()) <= len(graph.to_bytes()), (shape, options)


def _share(shape: Tuple[int, ...], bits: int, count: int = 1) -> Tuple[float, float]:
    """(a weight's bytes, all bytes with the shared tables) as a part of the float bytes."""
    result = graphwq.quantize(_network(shape, count=count), bits)
    floats = 4 * int(np.prod(shape))
    own = max(weight.bytes_after for weight in result.weights)
    total = sum(weight.bytes_after for weight in result.weights) + result.shared_bytes
    return own / floats, total / (floats * count)


_LARGE = [(128, 128), (256, 64), (256, 256), (3, 3, 64, 128), (1024, 512)]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", _LARGE, ids=str)
def test_size_law(shape: Tuple[int, ...], bits: int) -> None:
    """Size law: b bits cost at most b/32 + 0.02 of the float bytes, scales and nodes included.

    For weights from 64 kB on with 128 elements a channel and more, in a graph of eight; what all
    weights share is counted in the next test.
    """
    own, _ = _share(shape, bits, count=8)
    assert own <= bits / 32 + 0.02


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", _LARGE[2:], ids=str)
def test_size_law_with_tables(shape: Tuple[int, ...], bits: int) -> None:
    """From 256 kB on the law holds with the shared tables, divided among eight weights."""
    _, total = _share(shape, bits, count=8)
    assert total <= bits / 32 + 0.02


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("shape", [(512, 256), (3, 3, 128, 128), (1024, 1024)], ids=str)
def test_size_law_alone(shape: Tuple[int, ...], bits: int) -> None:
    """From half a megabyte on the law holds for one weight alone with its tables."""
    _, total = _share(shape, bits)
    assert total <= bits / 32 + 0.02


#: What a weight [64, 256] takes beyond b/32, as a part of its float bytes. The scales alone are
#: 1/64, and 2, 4 and 8 bits keep the law of 0.02. The other widths need a node more, 46 bytes.
_AT_64 = {2: 0.02, 3: 0.0208, 4: 0.02, 5: 0.0208, 6: 0.0208, 7: 0.0208, 8: 0.02}


@pytest.mark.parametrize("bits", BITS)
def test_size_of_64_elements_a_channel(bits: int) -> None:
    """[64, 256] in a graph of eight costs what the table above says, and no more."""
    own, _ = _share((64, 256), bits, count=8)
    assert own <= bits / 32 + _AT_64[bits]
    assert own > bits / 32 + _AT_64[bits] - 0.0015
