"""Law 1: write(read(bytes)) == bytes for every graph, unknown fields included."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
from builders import convolution, dense
from hypothesis import given
from hypothesis import strategies as st
from strategies import UNKNOWN_FIELDS, graph_bytes, mutated

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.source import load, save

_SOURCES = [convolution((1, 1, 2, 3)).to_bytes(), dense(2, 3).to_bytes(), *UNKNOWN_FIELDS]


@given(graph_bytes())
def test_every_graph_is_written_as_it_was_read(data: bytes) -> None:
    """Odd field order, padded lengths, unknown fields, several libraries: the same bytes."""
    graph = Graph.parse(data)
    assert graph.to_bytes() == data
    assert b"".join(graph.chunks()) == data
    assert graph.nbytes == len(data)


@given(graph_bytes())
def test_reading_twice_gives_the_same_graph(data: bytes) -> None:
    """What was written reads as the graph that wrote it."""
    graph = Graph.parse(data)
    again = Graph.parse(graph.to_bytes())
    assert again == graph
    assert again.digest == graph.digest


@given(graph_bytes())
def test_looking_at_attributes_changes_nothing(data: bytes) -> None:
    """Parsing an attribute is a view: the bytes stay (the map-order trap of protobuf)."""
    graph = Graph.parse(data)
    for scope in graph.scopes:
        for node in scope.nodes:
            for key in node.attr_bytes():
                assert node.attr(key) is not None
    assert graph.to_bytes() == data


@given(mutated(_SOURCES))
def test_whatever_is_accepted_is_written_as_it_was(data: bytes) -> None:
    """Also a damaged file that still is a graph comes out byte for byte."""
    try:
        graph = Graph.parse(data)
    except InputError:
        return
    assert graph.to_bytes() == data


@given(st.lists(graph_bytes(max_nodes=2), min_size=2, max_size=2))
def test_joined_messages(parts: Any) -> None:
    """Two messages one behind the other are one message: the fields of both in order."""
    whole = Graph.parse(b"".join(parts))
    assert whole.layout == tuple(item for part in parts for item in Graph.parse(part).layout)
    assert whole.to_bytes() == b"".join(parts)


@given(graph_bytes())
def test_replacing_nodes_by_themselves_is_no_edit(data: bytes) -> None:
    """The main graph keeps its bytes; a function body at least its meaning (its length is new)."""
    graph = Graph.parse(data)
    names = [(scope.name, node.name) for scope in graph.scopes for node in scope.nodes]
    same: Dict[str, Dict[str, Any]] = {}
    for scope in graph.scopes:
        for node in scope.nodes:
            if names.count((scope.name, node.name)) == 1:
                same.setdefault(scope.name, {})[node.name] = [node]
    edited = graph.edited(same).to_bytes()
    assert GraphDef.FromString(edited) == GraphDef.FromString(data)
    assert graph.edited({"": same.get("", {})}).to_bytes() == data


def test_the_fixtures_come_out_as_they_went_in(fixtures: Path, tmp_path: Path) -> None:
    """The project's own frozen graphs, through files."""
    paths = sorted(fixtures.glob("*.pb"))
    assert paths
    for path in paths:
        save(load(path), tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.corpus
def test_the_corpus_comes_out_as_it_went_in(corpus: Path, entry: Dict[str, Any]) -> None:
    """Real graphs of many writers: digest of the graph = sha256 of the file."""
    path = corpus / entry["file"]
    graph = load(path)
    assert graph.digest == entry["sha256"]
    assert graph.nbytes == path.stat().st_size
    assert len(graph.nodes) == entry["nodes"]
