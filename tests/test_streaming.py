"""Writing a quantized graph while its values are computed."""

from __future__ import annotations

import errno
import threading
import tracemalloc
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder
from commandline import assert_one_line, leftovers, run
from hypothesis import given
from hypothesis import strategies as st
from rewriting import GRANULARITIES, STORAGES, assert_same_bits, examples, folding_limit

import graphwq
from graphwq import api
from graphwq.errors import InputError, InvariantError, QuantizationError
from graphwq.graphdef import atomic
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.later import Later
from graphwq.graphdef.source import load
from graphwq.quant import blocks, packing, scratch
from graphwq.quant.metrics import WeightError
from graphwq.quant.scheme import QuantizedTensor, QuantScheme
from graphwq.rewrite import parallel
from graphwq.rewrite.options import Options
from graphwq.rewrite.run import write
from graphwq.rewrite.values import Job


def network(seed: int = 0) -> Graph:
    """A convolution, MatMuls of several sizes, an embedding and a function with a weight."""
    random = np.random.RandomState(seed)
    b = GraphBuilder()
    image = b.placeholder("image", [1, 8, 8, 8])
    y = b.conv("conv", image, b.const("conv/w", random.randn(3, 3, 8, 64).astype(np.float32)))
    b.op("conv/out", "Relu", [y])
    x = x0 = b.placeholder("x", [-1, 200])
    for number, columns in enumerate((200, 200, 131)):
        weight = random.randn(200, columns).astype(np.float32)
        x = b.matmul(f"mm{number}", x, b.const(f"w{number}", weight))
    ids = b.placeholder("ids", [4])
    table = b.const("table", random.randn(500, 40).astype(np.float32))
    b.op("rows", "Gather", [table, ids], Tparams=("type", 1), Tindices=("type", 3))
    body = GraphBuilder()
    inner = body.const("inner/w", random.randn(200, 96).astype(np.float32))
    body.matmul("inner/mm", "arg", f"{inner}:output:0")
    b.function("f", [("arg", 1)], body, [("result", "inner/mm:product:0", 1)])
    b.call("called", "f", [x0])
    return b.graph()


def streamed(graph: Graph, path: Path, options: Options) -> bytes:
    """What ``write`` makes of a graph."""
    write(api.draft_with(graph, options), path, force=True)
    return path.read_bytes()


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("storage", STORAGES)
def test_same_bytes_as_in_memory(
    storage: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A streamed file is what the graph in memory serializes to, on any number of threads."""
    monkeypatch.setattr(parallel, "_SMALL", 1)
    cases = [(8, "channel", 10 << 20), (8, "channel", 40_000), (5, "channel", 10 << 20)]
    cases += [(3, "tensor", 40_000)] + [(4, "group", 10 << 20)] * (storage != "fake_quant")
    for bits, granularity, limit in cases:
        with folding_limit(limit):
            options = Options(bits=bits, storage=storage, granularity=granularity)
            monkeypatch.setenv("GRAPHWQ_THREADS", "1")
            result = api.quantize_with(network(), options)
            assert {"f:inner/w", "table", "conv/w", "w2"} <= set(result.quantized)
            expected = result.graph.to_bytes()
            monkeypatch.setenv("GRAPHWQ_THREADS", str(threads))
            assert streamed(network(), tmp_path / "out.pb", options) == expected
            assert api.quantize_with(network(), options).graph.to_bytes() == expected


def test_the_report_is_the_same(tmp_path: Path) -> None:
    """Weights, errors and sizes are those that the rewrite in memory reports."""
    memory = graphwq.quantize(network(), 4)
    file = write(api.draft_with(network(), Options(bits=4)), tmp_path / "out.pb")
    assert file.weights == memory.weights
    assert file.skips == memory.skips
    assert file.shared_bytes == memory.shared_bytes
    assert file.modified
    assert memory.modified
    assert file.nbytes == (tmp_path / "out.pb").stat().st_size


def _floats(layers: int) -> bytes:
    """A chain of MatMuls of 512 x 512: 1 MB each."""
    random = np.random.RandomState(0)
    b = GraphBuilder()
    x = b.placeholder("x", [1, 512])
    for number in range(layers):
        weight = random.randn(512, 512).astype(np.float32)
        x = b.matmul(f"mm{number}", x, b.const(f"w{number}", weight))
    return b.to_bytes()


def _peak(source: Path, target: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The most that numpy and Python held at once while a file was quantized."""
    monkeypatch.setenv("GRAPHWQ_THREADS", str(threads))
    graph = load(source)
    tracemalloc.start()
    try:
        write(api.draft_with(graph, Options()), target, force=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_does_not_grow_with_the_graph(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty weights take hardly more memory than twenty, although their codes take 10 MB more."""
    monkeypatch.setattr(scratch, "LIMIT", 1 << 20)
    peaks = []
    for layers in (20, 60):
        source = tmp_path / f"{layers}.pb"
        source.write_bytes(_floats(layers))
        peaks.append(_peak(source, tmp_path / "out.pb", threads, monkeypatch))
    assert peaks[1] - peaks[0] < 4_000_000
    assert peaks[1] < 15_000_000  # a few weights of 1 MB with their codes, and what stays the same


def _with_a_nan() -> Graph:
    """The network of the tests with a NaN in the last MatMul's weight."""
    random = np.random.RandomState(0)
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 200])
    for number in range(4):
        weight = random.randn(200, 200).astype(np.float32)
        weight[7, 7] = np.nan if number == 3 else 0
        x = b.matmul(f"mm{number}", x, b.const(f"w{number}", weight))
    return b.graph()


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    """A weight that cannot be quantized is found while writing: nothing is written then."""
    target = tmp_path / "out.pb"
    with pytest.raises(QuantizationError, match="'w3'"):
        write(api.draft_with(_with_a_nan(), Options()), target)
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"old")
    with pytest.raises(QuantizationError, match="'w3'"):
        write(api.draft_with(_with_a_nan(), Options()), target, force=True)
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []


def test_the_command_names_the_graph(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """An error that comes while writing is still about the input."""
    source = tmp_path / "in.pb"
    source.write_bytes(_with_a_nan().to_bytes())
    result = run(capsys, "quantize", source, "-o", tmp_path / "out.pb")
    assert result.status == 2
    assert_one_line(result.err, "in.pb", "w3", "--exclude")


def test_a_full_disk_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays, no thread goes on and no temporary file is left."""
    monkeypatch.setattr(parallel, "_SMALL", 1)
    monkeypatch.setenv("GRAPHWQ_THREADS", "3")
    target = tmp_path / "out.pb"
    target.write_bytes(b"old")
    written: List[int] = []
    original = atomic._write_chunk

    def full(file: Any, chunk: memoryview) -> int:
        written.append(chunk.nbytes)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(file, chunk)

    monkeypatch.setattr(atomic, "_write_chunk", full)
    before = threading.active_count()
    with pytest.raises(InputError, match="No space left"):
        write(api.draft_with(network(), Options()), target, force=True)
    assert target.read_bytes() == b"old"
    assert leftovers(tmp_path) == []
    assert threading.active_count() == before


@pytest.mark.parametrize("baked", [False, True])
def test_progress_counts_each_weight_once(baked: bool, tmp_path: Path) -> None:
    """Also the weights that are left as they are."""
    graph = graphwq.quantize(network(), 8, "bake").graph if baked else network()
    steps: List[Tuple[int, int, str]] = []
    draft = api.draft_with(graph, Options(storage="bake"))
    write(draft, tmp_path / "out.pb", True, lambda *step: steps.append(step))
    count = len(draft.weights)
    assert [step[:2] for step in steps] == [(n, count) for n in range(1, count + 1)]
    assert {step[2] for step in steps} == {weight.item.weight for weight in draft.weights}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("changed", [None, (0, 0), (150, 130)])
def test_baking_again_sees_every_value(granularity: str, changed: Any, tmp_path: Path) -> None:
    """A baked weight is left as it is unless one of its values, any one, is off the grid."""
    graph = graphwq.quantize(network(), 8, "bake", granularity=granularity).graph
    if changed is not None:
        node = next(node for node in graph.nodes if node.name == "w2")
        tensor = node.tensor()
        assert tensor is not None
        values = tensor.numpy().copy()
        values[changed] *= np.float32(0.99)
        other = GraphBuilder()
        other.const("w2", values)
        graph = graph.edited({"": {"w2": [other.graph().nodes[0]]}})
    options = Options(storage="bake", granularity=granularity)
    result = write(api.draft_with(graph, options), tmp_path / "out.pb")
    assert result.modified is (changed is not None)
    assert {w.item.weight for w in result.weights if w.changed} == ({"w2"} if changed else set())
    memory = api.quantize_with(graph, options)
    assert memory.graph.to_bytes() == (tmp_path / "out.pb").read_bytes()
    assert memory.modified is result.modified


def test_a_draft_is_written_once(tmp_path: Path) -> None:
    """Values that are gone are missed, not written as something else."""
    draft = api.draft_with(network(), Options())
    write(draft, tmp_path / "one.pb")
    with pytest.raises(InvariantError):
        write(draft, tmp_path / "two.pb")
    assert not (tmp_path / "two.pb").exists()


def test_sizes_are_known_before_the_values() -> None:
    """A graph can be asked for its size without computing anything."""
    draft = api.draft_with(network(), Options(bits=3))
    from graphwq.rewrite.draft import applied

    graph = applied(draft.graph, draft.edits)
    late = [part for part in graph.parts() if isinstance(part, Later)]
    assert late
    assert all(weight.job.error is None for weight in draft.weights)
    assert graph.nbytes == len(graphwq.quantize(network(), 3).graph.to_bytes())


def test_a_job_is_done_when_its_arrays_are_there() -> None:
    """Another thread that sees the error of a job finds its arrays."""
    seen: List[Any] = []
    codes = QuantizedTensor(np.zeros((2, 2), np.int8), np.ones((1, 1), np.float32), QuantScheme())
    job = Job(lambda: (codes, WeightError(1.0, 0.0, 0.0)))
    take = job.values(lambda quantized: seen.append(job.error) or quantized.codes)
    job.run()
    assert seen == [None]
    assert np.array_equal(take(), codes.codes)
    with pytest.raises(InvariantError):
        take()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_in_order_is_in_order(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small and large items come out as they went in, and each is computed once."""
    monkeypatch.setenv("GRAPHWQ_THREADS", str(threads))
    sizes = [1, 1 << 20, 5, 60 << 20, 200 << 20, 1, 1, 60 << 20, 60 << 20, 1 << 20, 3]
    computed: List[int] = []
    numbers = range(len(sizes))
    result = parallel.in_order(lambda n: computed.append(n) or n, numbers, lambda n: sizes[n])
    assert list(result) == list(numbers)
    assert sorted(computed) == list(numbers)


@pytest.mark.parametrize(("size", "most"), [(1 << 20, 6), (40 << 20, 3), (200 << 20, 2)])
def test_in_order_is_not_far_ahead(size: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the number of large results nor in their bytes."""
    monkeypatch.setenv("GRAPHWQ_THREADS", "4")
    started: List[int] = []
    running = parallel.in_order(lambda n: started.append(n) or n, range(50), lambda _: size)
    for number in range(20):
        assert next(running) == number
        assert len(started) <= number + most
    running.close()


def test_small_items_need_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed by the thread that asks."""
    monkeypatch.setenv("GRAPHWQ_THREADS", "4")
    own = threading.get_ident()
    where = list(parallel.in_order(lambda _: threading.get_ident(), range(9), lambda _: 100))
    assert where == [own] * 9
    where = list(parallel.in_order(lambda _: threading.get_ident(), range(9), lambda _: 1 << 20))
    assert own not in where


def test_an_error_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its turn, not before."""
    monkeypatch.setenv("GRAPHWQ_THREADS", "3")

    def fail(number: int) -> int:
        if number == 4:
            raise QuantizationError("four")
        return number

    running = parallel.in_order(fail, range(9), lambda _: 1 << 20)
    assert [next(running) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(QuantizationError, match="four"):
        next(running)


@examples(100)
@given(st.data())
def test_contiguous_copies_any_views(data: st.DataObject) -> None:
    """Slices along any axis, transposed or whole arrays: the same values, one after another."""
    shape = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    array = np.arange(np.prod(shape), dtype=data.draw(st.sampled_from([np.int8, np.float32])))
    array = array.reshape(shape)
    views = []
    for _ in range(data.draw(st.integers(1, 5))):
        axis = data.draw(st.integers(0, len(shape) - 1))
        begin = data.draw(st.integers(0, shape[axis]))
        view = array[(slice(None),) * axis + (slice(begin, begin + 3),)]
        views.append(view.T if data.draw(st.booleans()) else view)
    copies = blocks.contiguous(views)
    for copy, view in zip(copies, views):
        assert copy.flags.c_contiguous
        assert_same_bits(copy, np.ascontiguousarray(view))


@pytest.mark.parametrize("bits", range(2, 8))
def test_packing_does_not_see_its_blocks(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that fill several blocks and a part of one are packed as if they were one."""
    codes = np.random.RandomState(bits).randint(-(1 << bits - 1), 1 << bits - 1, 1003)
    codes = codes.astype(np.int8)
    whole = packing.pack(codes, bits), packing.pack_bits(codes, bits)
    monkeypatch.setattr(packing, "BLOCK_ELEMENTS", 64)
    for one, other in zip(whole[0], packing.pack(codes, bits)):
        assert_same_bits(one, other)
    assert_same_bits(whole[1], packing.pack_bits(codes, bits))
    assert np.array_equal(packing.unpack(whole[0], bits, codes.size), codes)
