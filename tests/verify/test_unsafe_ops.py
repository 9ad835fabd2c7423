"""Ops that reach out of the graph are not run for strangers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from commandline import assert_one_line, run

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import AttrValue
from graphwq.survey.view import build
from graphwq.verify.unsafe_ops import UNSAFE, check_safe, find_unsafe


def _reading(op: str = "ReadFile") -> Graph:
    b = GraphBuilder()
    name = b.placeholder("name", [], dtypes.DT_STRING)
    content = b.op("content", op, [name])
    b.op("y", "DecodeRaw", [content])
    b.op("z", "Relu", [b.placeholder("x", [3])])
    return b.graph()


@pytest.mark.parametrize("op", ["ReadFile", "PyFunc", "WriteFile", "RestoreV2", "Rpc", "Abort"])
def test_an_output_that_needs_such_an_op(op: str) -> None:
    """Refused, with the op, the node and the reason; unless it is allowed."""
    view = build(_reading(op))
    with pytest.raises(InputError, match=f"{op} 'content'.*{UNSAFE[op][:9]}") as caught:
        check_safe(view, ["z:0", "y:0"])
    assert "\n" not in str(caught.value)
    check_safe(view, ["y:0"], allow_unsafe_ops=True)


def test_other_outputs_may_be_run() -> None:
    """TensorFlow runs what is fetched and no more; a feed cuts off what is upstream."""
    view = build(_reading())
    check_safe(view, ["z:0"])
    check_safe(view, ["y:0"], frozenset(["content:0"]))


def test_an_op_that_is_only_waited_for() -> None:
    """Control edges make ops run as well."""
    b = GraphBuilder()
    b.op("write", "WriteFile", [b.placeholder("name", [], dtypes.DT_STRING)])
    b.op("y", "Relu", [b.placeholder("x", [3]), "^write"])
    with pytest.raises(InputError, match="writes files"):
        check_safe(build(b.graph()), ["y:0"])


def _calling(op: str) -> Graph:
    b = GraphBuilder()
    inner, outer = GraphBuilder(), GraphBuilder()
    inner.op("evil", op, ["t"])
    b.function("inner", [("t", dtypes.DT_STRING)], inner, [("r", "evil:output:0", 7)])
    outer.call("again", "inner", ["t"], types=[7], results=[7])
    b.function("outer", [("t", dtypes.DT_STRING)], outer, [("r", "again:output:0", 7)])
    b.function("unused", [("t", dtypes.DT_STRING)], inner, [("r", "evil:output:0", 7)])
    text = b.placeholder("text", [], dtypes.DT_STRING)
    b.call("y", "outer", [text], types=[7], results=[7])
    return b.graph()


def test_functions_that_are_called() -> None:
    """Through two calls; functions that nobody calls do no harm."""
    found = find_unsafe(build(_calling("ReadFile")), ["y:0"])
    assert [(scope, node.name) for scope, node in found] == [("inner", "evil")]
    assert find_unsafe(build(_calling("StringLower")), ["y:0"]) == ()


def test_functions_named_in_any_attribute() -> None:
    """A dataset that maps a function, a While with two of them, a list of functions."""
    b = GraphBuilder()
    body = GraphBuilder()
    body.op("evil", "ReadFile", ["t"])
    b.function("mapped", [("t", dtypes.DT_STRING)], body, [("r", "evil:contents:0", 7)])
    b.op("y", "MapDataset", [b.placeholder("x", [3])], f=("func", "mapped"))
    assert len(find_unsafe(build(b.graph()), ["y:0"])) == 1
    attr = AttrValue()
    attr.list.func.add().name = "mapped"
    b.op("z", "Case", ["x"], branches=attr)
    assert len(find_unsafe(build(b.graph()), ["z:0"])) == 1


def test_printing_is_harmless_unless_it_goes_to_a_file() -> None:
    """PrintV2 writes where its attribute says."""
    for stream, count in (("stderr", 0), ("file:///tmp/x", 1)):
        b = GraphBuilder()
        b.op("print", "PrintV2", [b.placeholder("t", [], 7)], output_stream=stream)
        b.op("y", "Relu", [b.placeholder("x", [3]), "^print"])
        assert len(find_unsafe(build(b.graph()), ["y:0"])) == count


def test_sampling_is_harmless_unless_it_reads_a_vocabulary() -> None:
    """FixedUnigramCandidateSampler takes its frequencies from an attribute or from a file."""
    for vocabulary, count in ((None, 0), ("", 0), ("/etc/passwd", 1)):
        b = GraphBuilder()
        attrs = {} if vocabulary is None else {"vocab_file": vocabulary}
        b.op("sampled", "FixedUnigramCandidateSampler", [b.placeholder("t", [1, 1], 9)], **attrs)
        assert len(find_unsafe(build(b.graph()), ["sampled:0"])) == count


#: Names of inputs and attributes that stand for a file, a folder, an address or code.
_OUTSIDE = re.compile(
    r"(^|_)(file|files|filename|filenames|filepattern|path|paths|directory|dir|address|url|urls"
    r"|prefix|prefixes|server|module)(_|$)"
)
#: Ops with such a name that reach for nothing: looked at one by one.
_HARMLESS = {
    "CTCBeamSearchDecoder",  # top_paths: a number
    "ExperimentalSetStatsAggregatorDataset",  # counter_prefix: of names in a summary
    "SetStatsAggregatorDataset",
    "ShardedFilename",  # makes a name
    "ShardedFilespec",
    "TensorSliceDataset",  # is_files: a hint
    "_TPUCompileMlir",  # no kernel without a TPU
    "_XlaHostComputeMlir",
}


@pytest.mark.tf
def test_every_op_that_takes_a_file_or_an_address_is_listed() -> None:
    """All op definitions of the TensorFlow that is installed."""
    from graphwq.tf1.load import every_op, tensorflow

    names = every_op(tensorflow())
    assert len(names) > 1000
    for name, op in names.items():
        words = [item.name for item in (*op.input_arg, *op.attr) if _OUTSIDE.search(item.name)]
        if name.startswith("Bigtable"):
            continue  # of contrib, where a test has loaded it: all of them need a BigtableTable
        assert not words or name in UNSAFE or name in _HARMLESS, (name, words)


@pytest.mark.tf
def test_tensorflow_knows_the_ops_by_these_names() -> None:
    """Those of its core; the others are in libraries, or in another TensorFlow."""
    from graphwq.tf1.load import every_op, tensorflow

    known = set(every_op(tensorflow()))
    assert {"ReadFile", "SaveV2", "PyFunc", "RestoreV2", "WriteFile", "RecordInput"} <= known
    assert len(set(UNSAFE) & known) > 100


def writing(path: Path) -> Graph:
    """y = relu(x w), which also writes a file when it runs."""
    b = GraphBuilder()
    for name, text in (("name", str(path)), ("text", "x")):
        value = AttrValue()
        value.tensor.dtype = dtypes.DT_STRING
        value.tensor.tensor_shape.SetInParent()
        value.tensor.string_val.append(text.encode())
        b.op(name, "Const", [], dtype=("type", dtypes.DT_STRING), value=value)
    b.op("write", "WriteFile", ["name", "text"])
    b.matmul("product", b.placeholder("x", [1, 40]), b.const("w", random_weight((40, 30))))
    b.op("y", "Relu", ["product", "^write"])
    return b.graph()


@pytest.mark.tf
def test_a_refusal_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The flag is named and the graph is not run; with the flag it is."""
    written, graph = tmp_path / "written", tmp_path / "graph.pb"
    graph.write_bytes(writing(written).to_bytes())
    said = ("WriteFile 'write'", "writes files", "--allow-unsafe-ops", "--static")
    found = run(capsys, "verify", graph, graph)
    assert [text for text in said if text not in found.out] == []
    found = run(capsys, "verify", graph, graph, "--min-sqnr", 1)
    assert found.status == 2
    assert_one_line(found.err, *said)
    run(capsys, "verify", graph, graph, "--static")
    assert not written.exists()
    run(capsys, "verify", graph, graph, "--allow-unsafe-ops")
    assert written.read_text() == "x"


@pytest.mark.tf
def test_calibration_refuses_too(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """quantize --method gptq runs no such graph; it says so and what else to choose."""
    written, graph = tmp_path / "written", tmp_path / "graph.pb"
    graph.write_bytes(writing(written).to_bytes())
    found = run(capsys, "quantize", graph, "-o", tmp_path / "out.pb", "--method", "gptq")
    assert "WriteFile 'write'" in found.out
    assert "choose --method absmax" in found.out
    assert not written.exists()


@pytest.mark.tf
def test_mnn_convert_refuses_too(tmp_path: Path) -> None:
    """TensorFlow, run beside the MNN model, does not carry out what the converter left out."""
    from graphwq.mnn.model import Model
    from graphwq.mnn.runtime import run_both

    graph = writing(tmp_path / "written")
    feeds = {"x:0": np.ones((1, 40), np.float32)}
    model = Model.__new__(Model)  # the graph comes first
    with pytest.raises(InputError, match="WriteFile 'write'.*codes and scales were compared"):
        run_both(graph, tmp_path / "model.mnn", model, feeds, ["y:0"], tmp_path)
    assert not (tmp_path / "written").exists()


@pytest.mark.corpus
def test_no_real_graph_is_refused(entry: dict, corpus) -> None:  # type: ignore[no-untyped-def]
    """The outputs of all graphs that run need none of these ops."""
    import graphwq
    from graphwq.verify.interface import find_interface

    if not entry["run_ok"]:
        return
    graph = graphwq.load(corpus / entry["file"])
    view = build(graph)
    fed = frozenset(entry.get("feed") or ())
    check_safe(view, find_interface(graph, view).tensors, fed)
