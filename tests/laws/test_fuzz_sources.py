"""Law 9 for sources: damaged checkpoints, MetaGraphs and SavedModels give a graph or an error.

Every example is bounded in time, and what a small file makes graphwq allocate is bounded too.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from checkpoints import (
    entry,
    header,
    meta_graph,
    number,
    snappy,
    table,
    v1_table,
    write_bundle,
    write_saved_model,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import mutated

from graphwq.errors import GraphWQError
from graphwq.graphdef import dtypes
from graphwq.graphdef.checkpoint import open_checkpoint
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.opening import Request, open_source
from graphwq.graphdef.snappy import uncompress
from graphwq.graphdef.wire import delimited, varint
from graphwq.survey.locate import locate

_SECONDS = 10.0
_TENSORS = {
    "w": random_weight((4, 3)),
    "part": ((4, 6), {((0, 4), (0, 2)): random_weight((4, 2)),
                      ((0, 4), (2, 4)): random_weight((4, 4))}),
    "i": np.arange(9, dtype=np.int32),
    "h": np.ones(3, np.float16),
}  # fmt: skip


def _graph() -> bytes:
    b = GraphBuilder()
    b.placeholder("x", [-1, 4])
    b.variable("w", (4, 3))
    b.variable("handle", (4, 6), op="VarHandleOp")
    b.op("read", "ReadVariableOp", ["handle"], dtype=("type", dtypes.DT_FLOAT))
    body = GraphBuilder()
    body.op("get", "ReadVariableOp", ["a"], dtype=("type", dtypes.DT_FLOAT))
    b.function("f", [("a", dtypes.DT_RESOURCE)], body, [("r", "get:value:0", 1)])
    b.call("called", "f", ["handle"], types=[dtypes.DT_RESOURCE])
    b.matmul("y", "x", "w")
    b.matmul("z", "x", "read")
    b.matmul("u", "x", "called")
    b.op("update", "Assign", ["w", "w"])
    return b.to_bytes()


def _read_all(prefix: Path, check: bool) -> None:
    for tensor in open_checkpoint(prefix, check).tensors.values():
        try:
            tensor.content()
        except GraphWQError:
            continue


def _bounded(call: Callable[[], Any], limit: float = 64e6) -> None:
    """A result or a GraphWQError with a message, soon, and in little memory."""
    tracemalloc.start()
    began = time.perf_counter()
    refused = None
    try:
        call()
    except GraphWQError as error:
        refused = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert refused is None or (str(refused) and refused.exit_code == 2)
    assert time.perf_counter() - began < _SECONDS
    assert peak < limit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def _tables(folder: Path) -> Dict[str, bytes]:
    write_bundle(folder / "seed", _TENSORS)
    write_bundle(folder / "small", _TENSORS, compress=True, block_size=60)
    return {
        "bundle": (folder / "seed.index").read_bytes(),
        "compressed": (folder / "small.index").read_bytes(),
        "data": (folder / "seed.data-00000-of-00001").read_bytes(),
        "v1": v1_table(_TENSORS, block_size=100),
    }


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("kind", ["bundle", "compressed", "data", "v1"])
def test_damaged_checkpoints(folder: Path, kind: str, check: bool) -> None:
    """Cut, flipped, spliced: tensors or an error. Without checksums the damage goes deeper."""
    seeds = _tables(folder)

    @settings(max_examples=max(150, settings().max_examples))
    @given(mutated([seeds[kind]]))
    def run(data: bytes) -> None:
        if kind == "v1":
            (folder / "m").write_bytes(data)
            _bounded(lambda: _read_all(folder / "m", check))
            return
        write_bundle(folder / "b", _TENSORS)
        name = "b.data-00000-of-00001" if kind == "data" else "b.index"
        (folder / name).write_bytes(data)
        _bounded(lambda: _read_all(folder / "b", check))

    run()


_KEYS = [b"", b"w", b"v", b"\x00w\x00\x01\x01\x02\x80\x84\x80\x83"]
_NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 24, 48, -1, 2**31, 2**62, -(2**63)])


@st.composite
def _messages(draw: st.DrawFn, depth: int = 2) -> bytes:
    """A message whose fields have the numbers of those that matter, and wild values."""
    parts: List[bytes] = []
    for _ in range(draw(st.integers(0, 6))):
        field = draw(st.integers(1, 7))
        if depth and draw(st.booleans()):
            parts.append(delimited(field, draw(_messages(depth=depth - 1))))
        elif draw(st.booleans()):
            parts.append(number(field, draw(_NUMBERS)))
        else:
            parts.append(delimited(field, draw(st.sampled_from([b"", b"w", b"\xff", b"serve"]))))
    return b"".join(parts)


@given(items=st.dictionaries(st.sampled_from(_KEYS), _messages(), min_size=1), data=st.data())
def test_tables_that_mean_harm(
    folder: Path, items: Dict[bytes, bytes], data: st.DataObject
) -> None:
    """Good tables, checksums and all, whose messages lie."""
    good = {b"": header(), b"w": entry(1, (4, 3), 0, 0, 48, 0)}
    mixed = {**good, **items} if data.draw(st.booleans()) else items
    content = table(mixed.items())
    (folder / "h.index").write_bytes(content)
    (folder / "h.data-00000-of-00001").write_bytes(bytes(96))
    (folder / "one").write_bytes(content)
    _bounded(lambda: _read_all(folder / "h", False))
    _bounded(lambda: _read_all(folder / "one", False))


@pytest.mark.parametrize("form", ["meta", "saved model", "graph"])
def test_damaged_graphs(folder: Path, form: str) -> None:
    """A graph with a good checkpoint: frozen and surveyed, or an error."""
    tensors = {"w": random_weight((4, 3)), "handle": random_weight((4, 6))}
    place = folder / form.replace(" ", "_")
    place.mkdir()
    write_bundle(place / "model", tensors)
    meta = meta_graph(_graph(), ("serve",), {"s": {"y": "y:0", "z": "z:0", "u": "u:0"}})
    write_saved_model(place / "saved", (meta,), tensors)
    assert len(open_source(place / "saved").variables) == 2
    path, seed, request = {
        "meta": (place / "model.meta", meta, Request()),
        "saved model": (
            place / "saved" / "saved_model.pb",
            (place / "saved" / "saved_model.pb").read_bytes(),
            Request(),
        ),
        "graph": (place / "g.pb", _graph(), Request(place / "model")),
    }[form]

    def survey() -> None:
        graph = open_source(path, request).graph
        assert Graph.parse(graph.to_bytes()).digest == graph.digest
        locate(graph)

    @settings(max_examples=max(200, settings().max_examples))
    @given(mutated([seed]))
    def run(data: bytes) -> None:
        path.write_bytes(data)
        _bounded(survey)

    run()


@given(st.binary(max_size=60), st.integers(0, 2**40))
def test_any_bytes_as_snappy(data: bytes, size: int) -> None:
    """Bounded by the size of what is given."""
    _bounded(lambda: uncompress(memoryview(data)), 1e6)
    _bounded(lambda: uncompress(memoryview(varint(size) + data)), 1e6)


def _bomb(entries: Sequence[bytes]) -> bytes:
    """A table of one block with these raw entries."""
    from checkpoints import checksum

    def block(content: bytes) -> bytes:
        whole = content + bytes(4) + b"\x01\x00\x00\x00" + b"\x00"
        return whole + checksum(whole).to_bytes(4, "little")

    first = block(b"".join(entries))
    handle = b"\x00" + varint(len(first) - 5)
    index = block(b"\x00\x01" + varint(len(handle)) + b"z" + handle)
    place = varint(len(first)) + varint(len(index) - 5)
    footer = b"\x00\x00" + place
    return first + index + footer + bytes(40 - len(footer)) + bytes.fromhex("57fb808b247547db")


def test_keys_that_grow(folder: Path) -> None:
    """Each entry repeats the long key before it: quadratic memory for a small file, refused."""
    key = b"\x00" + varint(900_000) + b"\x00" + b"k" * 900_000
    more = [varint(900_000) + b"\x01\x00" + bytes([n % 250]) for n in range(5000)]
    (folder / "bomb.index").write_bytes(_bomb([key, *more]))
    _bounded(lambda: open_checkpoint(folder / "bomb"), 150e6)
    with pytest.raises(GraphWQError, match="more entries than any checkpoint"):
        open_checkpoint(folder / "bomb")


def test_a_compressed_block_that_grows(folder: Path) -> None:
    """Snappy grows 64 to 3 at the most; a table of it is read, a lie about the size is not."""
    plain = table([(b"k", b"v" * 100_000)], compress=True)
    assert len(plain) < 6000
    assert uncompress(memoryview(snappy(b"v" * 100_000))) == b"v" * 100_000
    (folder / "s.index").write_bytes(plain)
    _bounded(lambda: open_checkpoint(folder / "s"), 4e6)
