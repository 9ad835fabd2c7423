"""What is fuzzed: one function per way in, each with the promises that hold for what it accepts.

A target takes bytes. It returns, or raises a GraphWQError that says something; an InvariantError,
any other exception, and a broken promise (AssertionError) are finds.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Tuple, Type

from fuzz import mutate, seeds
from fuzz.files import unpack
from fuzz.mutate import Mutator
from graphwq.api import quantize_with
from graphwq.cli import inspect as cli_inspect
from graphwq.cli.main import build_parser
from graphwq.diff import render_html, render_markdown, render_text
from graphwq.diff.compare import diff_graphs
from graphwq.diff.document import document, loads
from graphwq.diff.patch import applied
from graphwq.errors import GraphWQError, InputError, InvariantError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.opening import Request, open_source
from graphwq.graphdef.snappy import uncompress
from graphwq.graphdef.source import read_graph, to_text
from graphwq.graphdef.sstable import entries
from graphwq.graphdef.tensor import parse_shape, parse_tensor
from graphwq.mnn import compress_params, model
from graphwq.mnn.flat import FlatError
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.run import rewrite
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.verify.feeds import bind_feeds
from graphwq.verify.golden import load_golden
from graphwq.verify.interface import find_interface
from graphwq.verify.npz import read_npz
from graphwq.verify.render.html import to_html
from graphwq.verify.render.markdown import to_markdown
from graphwq.verify.report import Report
from graphwq.verify.run import verify

#: What a run may end with beside a result.
ALLOWED: Tuple[Type[Exception], ...] = (GraphWQError,)
EXPANSION = 64 << 20


class Target(NamedTuple):
    """One way in: what is run, what it starts from, how its inputs are changed."""

    run: Callable[[bytes], None]
    seeds: Callable[[], Dict[str, bytes]]
    mutate: Mutator
    max_bytes: int = 8192


def outcome(target: Target, data: bytes) -> Optional[str]:
    """Run one input; None, or the message of the error that it is allowed to end with."""
    said = None
    try:
        target.run(data)
    except InvariantError:
        raise
    except ALLOWED as error:
        said = str(error)
    assert said is None or said.strip(), "an error without a message helps nobody"
    return said


_FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None


@contextmanager
def folder() -> Iterator[Path]:
    """A folder in memory."""
    made = tempfile.mkdtemp(prefix="graphwq-fuzz-", dir=_FOLDER)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _written(base: Path, name: str, data: bytes) -> Path:
    path = base / name
    path.write_bytes(data)
    return path


# ------------------------------------------------------------------------------------- readers


def _wire(data: bytes) -> None:
    graph = Graph.parse(data)
    assert graph.to_bytes() == data
    assert graph.nbytes == len(data)
    if sum(data) % 4:  # looking at every attribute takes most of the time
        return
    for scope in graph.scopes:
        for node in scope.nodes:
            for key in node.attr_bytes():
                node.attr(key)
            tensor = node.tensor()
            if tensor is not None and tensor.size <= EXPANSION:
                tensor.numpy()


def _tensor(data: bytes) -> None:
    if data[:1] == b"\0":
        parse_shape(memoryview(data)[1:])
        return
    tensor = parse_tensor(memoryview(data)[1:])
    assert tensor.has_values in (True, False)
    array = tensor.numpy()
    assert array.shape == tensor.shape
    assert not array.flags.writeable


def _text(data: bytes) -> None:
    with folder() as base:
        graph = read_graph(_written(base, "g.pbtxt", data))
    again = to_text(graph)
    assert isinstance(again, str)


def _plan(data: bytes) -> None:
    plan = Plan.loads(data.decode("utf-8", "surrogateescape"))
    assert Plan.loads(plan.dumps()) == plan
    result = rewrite(seeds.small_graph(), replace(plan, graph_digest=None))
    Graph.parse(result.graph.to_bytes())


def _npz(data: bytes) -> None:
    with folder() as base:
        arrays = read_npz(_written(base, "f.npz", data), 256 << 20)
    graph = seeds.fed_graph()
    view = build(graph).main
    interface = find_interface(graph)
    feeds = bind_feeds(arrays, view, interface.placeholders, ["y:0"])
    assert feeds.digest
    json.dumps(feeds.to_json(), allow_nan=False)


def _golden(data: bytes) -> None:
    with folder() as base:
        found = load_golden(_written(base, "golden.npz", data))
    assert found.tensors
    assert found.feeds.digest


def _compression(data: bytes) -> None:
    name = "c.json" if data[:1] == b"{" else "c.bin"
    with folder() as base:
        path = _written(base, name, data)
        before = compress_params.read(path)
        new = compress_params.Record("fuzz", "", 4, 32)
        path.write_bytes(compress_params.append(path, [new]))
        after = compress_params.read(path)
    assert after[0] == new
    keys = {record.key for record in after}
    assert {record.key for record in before} <= keys


def _report(data: bytes) -> None:
    report = Report.loads(data.decode("utf-8", "surrogateescape"))
    assert report.passed in (True, False)
    to_html(report, "0")
    to_markdown(report)
    json.dumps(report.to_json(), allow_nan=False)


def _mnn_model(data: bytes) -> None:
    try:
        model.parse(memoryview(data))
    except FlatError as error:  # ``model.read`` makes an InputError of it, with the path
        raise InputError(str(error)) from error


def _table(data: bytes) -> None:
    if data[:1] == b"s":
        uncompress(memoryview(data)[1:])
        return
    for entry in entries(memoryview(data)):
        assert len(entry.key) <= 1 << 20


# ------------------------------------------------------------------------------------- sources


def _opened(base: Path, name: str, request: Request) -> None:
    opened = open_source(base / name if name else base, request)
    assert opened.graph.to_bytes() is not None
    locate_in(build(opened.graph))


def _checkpoint(data: bytes) -> None:
    """A graph with variables and the checkpoint that has them, of either format."""
    files = unpack(data)
    with folder() as base:
        _written(base, "g.pb", files.get("graph", b"") or seeds.variables_graph())
        if "index" in files:
            _written(base, "m.index", files["index"])
            _written(base, "m.data-00000-of-00001", files.get("data", b""))
        else:
            _written(base, "m", files.get("v1", b""))
        check = bool(files.get("check", b"1") == b"1")
        _opened(base, "g.pb", Request(base / "m", outputs=("y",), check=check))


def _meta(data: bytes) -> None:
    """A SavedModel or a MetaGraph, binary or text."""
    files = unpack(data)
    kinds = {"saved": "saved_model.pb", "saved_text": "saved_model.pbtxt", "meta": "m.meta"}
    with folder() as base:
        name = next((kind for kind in kinds if kind in files), "saved")
        path = _written(base, kinds[name], files.get(name, b""))
        prefix = base / "m"
        if name != "meta":
            (base / "variables").mkdir()
            prefix = base / "variables" / "variables"
        _written(prefix.parent, prefix.name + ".index", seeds.bundle()[0])
        _written(prefix.parent, prefix.name + ".data-00000-of-00001", seeds.bundle()[1])
        signature = files.get("signature", b"").decode("latin-1") or None
        _opened(base, path.name, Request(signature=signature))


# ------------------------------------------------------------------------------------- the paths


def _inspect(data: bytes) -> None:
    """``graphwq inspect``, as a table and as JSON."""
    with folder() as base:
        path = str(_written(base, "g.pb", data))
        for options in ([path], [path, "--json"]):
            arguments = build_parser("inspect").parse_args(["inspect", *options])
            with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
                cli_inspect.run(arguments)
            printed = out.getvalue() + err.getvalue()
            assert printed.replace("\n", "").isprintable()


_STORAGES = ("dequant", "bake", "fake_quant")
_GRANULARITIES = ("channel", "tensor", "group")
_METHODS = ("absmax", "absmax", "mse", "squant")


def options_of(first: int, second: int) -> Options:
    """The options that two bytes stand for."""
    storage = _STORAGES[first // 7 % 3]
    granularity = _GRANULARITIES[second % 3]
    if storage == "fake_quant" and granularity == "group":
        granularity = "channel"
    return Options(
        bits=2 + first % 7,
        storage=storage,
        granularity=granularity,
        group_size=(1, 2, 3, 32)[second // 3 % 4],
        keep_larger=second // 12 % 3 > 0,
        scale_bits=(24, 16, 24)[second // 36 % 3],
        method=_METHODS[second // 64 % 4],
    )


def _quantize(data: bytes) -> None:
    """quantize, then verify --static, diff and patch on what it made."""
    first, second = (data + b"\0\0")[:2]
    graph = Graph.parse(data[2:])
    result = quantize_with(graph, options_of(first, second))
    new = Graph.parse(result.graph.to_bytes())
    before, after = find_interface(graph), find_interface(new)
    assert [item.tensor for item in before.placeholders] == [
        item.tensor for item in after.placeholders
    ]
    assert before.tensors == after.tensors
    plan = Plan(graph.digest, tuple(weight.item for weight in result.weights), result.skips)
    plan = Plan.loads(plan.dumps())
    report = verify(graph, new, ("old", "new"), plan, None, False, _no_runner)
    assert Report.loads(report.dumps()) == report
    assert report.passed or not graph.nodes, [str(problem) for problem in report.problems][:3]
    comparison = diff_graphs(graph, new)
    data_of = document(comparison, "old", "new", with_patch=True).to_json()
    again = applied(graph, loads(json.dumps(data_of, allow_nan=False)))
    assert again.to_bytes() == new.to_bytes()


def _no_runner(*_: Any, **__: Any) -> Any:
    raise AssertionError("a static verification runs nothing")


def _verify(data: bytes) -> None:
    """Any two graphs through verify --static."""
    files = unpack(data)
    old, new = Graph.parse(files.get("old", b"")), Graph.parse(files.get("new", b""))
    report = verify(old, new, ("old", "new"), None, None, False, _no_runner)
    json.dumps(report.to_json(), allow_nan=False)
    to_markdown(report)


def _diff(data: bytes) -> None:
    """Any two graphs: diff, every renderer, patch."""
    files = unpack(data)
    old, new = Graph.parse(files.get("old", b"")), Graph.parse(files.get("new", b""))
    comparison = diff_graphs(old, new)
    diff = document(comparison, "old", "new", with_patch=True)
    form = loads(json.dumps(diff.to_json(), allow_nan=False))
    assert applied(old, form).to_bytes() == new.to_bytes()
    assert bool(diff.changes) == (old.to_bytes() != new.to_bytes())
    assert all(line.isprintable() for line in render_text.render(diff).splitlines())
    render_markdown.render(diff)
    if sum(data) % 16 == 0:  # takes ten times as long as everything before it
        render_html.render(diff, comparison)


def _patch(data: bytes) -> None:
    """The JSON of a diff on a fixed graph; its digests are put right."""
    form = loads(data.decode("utf-8", "surrogateescape"))
    if isinstance(form.get("old"), dict):
        form["old"]["digest"] = seeds.small_graph().digest
    applied(seeds.small_graph(), form)


def _lint(data: bytes) -> None:
    """What ``graphwq mnn lint`` does without the converter."""
    from graphwq.mnn.prepare import prepare
    from graphwq.mnn.report import lint_graph

    first, _ = (data + b"\0\0")[:2]
    prepared = prepare(Graph.parse(data[2:]), options=Options(bits=2 + first % 7))
    found = lint_graph(prepared, use_converter=False)
    json.dumps(found.to_json(), allow_nan=False)
    prepared.records()


_GRAPH = mutate.message("Graph")
_SECOND = mutate.several(old=_GRAPH, new=_GRAPH)

TARGETS: Dict[str, Target] = {
    "wire": Target(_wire, seeds.graphs, _GRAPH),
    "tensor": Target(
        _tensor, seeds.tensors, mutate.behind_one_byte(mutate.message("Tensor")), 2048
    ),
    "text": Target(_text, seeds.texts, mutate.tokens),
    "plan": Target(_plan, seeds.plans, mutate.structured),
    "npz": Target(_npz, seeds.feeds, mutate.archive(mutate.npy)),
    "golden": Target(_golden, seeds.goldens, mutate.archive(mutate.npy)),
    "compression": Target(_compression, seeds.compressions, mutate.either("Pipeline"), 4096),
    "report": Target(_report, seeds.reports, mutate.structured, 16384),
    "mnn_model": Target(_mnn_model, seeds.mnn_models, mutate.plain),
    "table": Target(_table, seeds.tables, mutate.sorted_table("BundleEntry"), 4096),
    "checkpoint": Target(
        _checkpoint,
        seeds.checkpoints,
        mutate.several(
            index=mutate.sorted_table("BundleEntry"),
            v1=mutate.sorted_table("SavedSlices"),
            graph=_GRAPH,
            data=mutate.plain,
        ),
    ),
    "meta": Target(
        _meta,
        seeds.metas,
        mutate.several(
            saved=mutate.message("SavedModel"),
            meta=mutate.message("MetaGraph"),
            saved_text=mutate.tokens,
            signature=mutate.plain,
        ),
    ),
    "inspect": Target(_inspect, seeds.graphs, _GRAPH),
    "quantize": Target(_quantize, seeds.graphs_with_options, mutate.with_options(_GRAPH)),
    "verify": Target(_verify, seeds.pairs, _SECOND, 16384),
    "diff": Target(_diff, seeds.pairs, _SECOND, 16384),
    "patch": Target(_patch, seeds.diffs, mutate.structured, 16384),
    "lint": Target(_lint, seeds.graphs_with_options, mutate.with_options(_GRAPH)),
}
