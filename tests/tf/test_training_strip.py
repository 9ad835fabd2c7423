"""Stripping, in every place where the quantization lives: edges, sessions, exported graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import process

import graphwq
from graphwq import ArgumentError, InputError, WeightQuantizer, strip_wq_ops
from graphwq.tf1.session import Runner
from graphwq.tf1.strip import is_stripped, stripped_graph_def

from .training import BATCH, Net, Trained, config, fed, ids, run_pb, tensorflow, train, variable

pytestmark = [pytest.mark.tf, pytest.mark.tf1]


def _net() -> Net:
    """A table (rows), a convolution used twice, a resource matrix: every kind of insertion."""
    tf = tensorflow()
    rows, feeds = ids("ids", 20)
    other = variable("other", [20, 8], True)
    h = tf.gather(variable("table", [20, 8]), rows) + tf.nn.embedding_lookup(other, rows)
    image = tf.reshape(h, [BATCH, 2, 2, 2])
    kernel = variable("kernel", [1, 1, 2, 2])
    image = tf.nn.conv2d(tf.nn.conv2d(image, kernel, 1, "SAME"), kernel, 1, "SAME")
    flat = tf.reshape(image, [BATCH, 8])
    return Net(tf.matmul(flat, variable("matrix", [8, 5], True), name="out"), feeds)


def _float(trained: Trained) -> np.ndarray:
    """What the net computes with the trained float weights, in a graph without a quantizer."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session(config=config()) as session:
        net = _net()
        for item in tf.global_variables():
            item.load(trained.after[item.op.name], session)
        return session.run(net.output, net.feeds)


def test_evaluation_in_the_same_session() -> None:
    """mnncompress: still the quantized numbers (TensorFlow 1 ignores edges of ops it has run)."""
    trained = train(_net)
    quantized, plain = trained.run(), _float(trained)
    assert not np.allclose(quantized, plain, rtol=1e-3)
    with trained.session.graph.as_default():
        strip_wq_ops()
    np.testing.assert_array_equal(trained.run(), plain)


def test_a_new_session_after_strip() -> None:
    """The edges are the original ones: a session that knows nothing of the switch is float too."""
    tf = tensorflow()
    trained = train(_net)
    trained.quantizer.strip_wq_ops()
    graph = trained.session.graph
    with tf.Session(graph=graph, config=config()) as session, graph.as_default():
        for item in tf.global_variables():
            item.load(trained.after[item.op.name], session)
        np.testing.assert_array_equal(
            session.run(trained.net.output, trained.net.feeds), _float(trained)
        )


def test_a_session_that_no_quantizer_has_seen() -> None:
    """A running session of one's own is named, or is the default session."""
    tf = tensorflow()
    for named in (True, False):
        with tf.Graph().as_default(), tf.Session(config=config()) as session:
            net = _net()
            WeightQuantizer(bits=2)
            session.run(tf.global_variables_initializer())
            quantized = session.run(net.output, net.feeds)
            if named:
                strip_wq_ops(session.graph, session)
            else:
                strip_wq_ops()
            assert not np.allclose(session.run(net.output, net.feeds), quantized, rtol=1e-3)


def test_strip_and_resume() -> None:
    """resume_wq_ops gives the quantized numbers back, bit for bit, as often as one likes."""
    trained = train(_net)
    quantized = trained.run()
    for _ in range(2):
        trained.quantizer.strip_wq_ops()
        trained.quantizer.strip_wq_ops()
        assert not np.array_equal(trained.run(), quantized)
        assert is_stripped(trained.session.graph)
        trained.quantizer.resume_wq_ops()
        assert not is_stripped(trained.session.graph)
        np.testing.assert_array_equal(trained.run(), quantized)
    with tensorflow().Session(graph=trained.session.graph, config=config()) as session:
        session.run("init")
        first = session.run(trained.net.output, trained.net.feeds)
        trained.quantizer.strip_wq_ops(session)
        assert not np.array_equal(session.run(trained.net.output, trained.net.feeds), first)


def test_training_goes_on_after_strip() -> None:
    """A loop that strips and exports after each epoch keeps training quantized.

    It does with mnncompress too, because stripping has no effect on the session. Here ``update``
    puts the quantization back.
    """
    trained = train(_net)
    quantized = trained.run()
    trained.quantizer.strip_wq_ops()
    trained.quantizer.update(trained.session)
    np.testing.assert_array_equal(trained.run(), quantized)


def test_stripping_without_a_quantizer() -> None:
    """Nothing happens, also where the graph is empty."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        strip_wq_ops()
        _net()
        before = graph.as_graph_def().SerializeToString(deterministic=True)
        strip_wq_ops()
        strip_wq_ops(graph)
        assert graph.as_graph_def().SerializeToString(deterministic=True) == before


def test_the_stripped_graph_def_is_the_graph_before() -> None:
    """stripped_graph_def: node for node what the graph was without a quantizer (and training)."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        net = _net()
        tf.global_variables_initializer()
        before = graph.as_graph_def()
        WeightQuantizer(bits=3)
        assert stripped_graph_def() == before
        tf.train.AdamOptimizer().minimize(tf.reduce_mean(net.output), name="train")
        names = {node.name for node in stripped_graph_def().node}
        assert {node.name for node in before.node} <= names
        assert not [name for name in names if "graphwq" in name or name == "train"]
        strip_wq_ops()
        assert {node.name for node in stripped_graph_def(graph).node} == names


def test_freezing_by_hand(tmp_path: Path) -> None:
    """strip_wq_ops, then TensorFlow's own freezing, as in the documentation of mnncompress."""
    tf = tensorflow()
    trained = train(_net)
    graph = trained.session.graph
    with graph.as_default(), trained.session.as_default():
        strip_wq_ops()
        frozen = tf.graph_util.convert_variables_to_constants(
            trained.session, graph.as_graph_def(), ["out"]
        )
    text = frozen.SerializeToString()
    assert b"graphwq" not in text
    (tmp_path / "frozen.pb").write_bytes(text)
    np.testing.assert_array_equal(run_pb(tmp_path / "frozen.pb", trained.net), _float(trained))
    trained.quantizer.export(trained.session, "out", tmp_path / "exported.pb", bake=False)
    exported = graphwq.load(tmp_path / "exported.pb")
    assert [node.name for node in exported.nodes] == [node.name for node in frozen.node]


def test_a_meta_graph_of_another_program(tmp_path: Path) -> None:
    """The ops are found by their marks: under another scope, without a WeightQuantizer object."""
    tf = tensorflow()
    trained = train(_net)
    with trained.session.graph.as_default():
        saver = tf.train.Saver()
        saver.save(trained.session, str(tmp_path / "model"))
    for scope in ("", "imported"):
        prefix = f"{scope}/" if scope else ""
        feeds = {prefix + name: value for name, value in trained.net.feeds.items()}
        with tf.Graph().as_default() as graph, tf.Session(config=config()) as session:
            saver = tf.train.import_meta_graph(str(tmp_path / "model.meta"), import_scope=scope)
            saver.restore(session, str(tmp_path / "model"))
            np.testing.assert_array_equal(session.run(f"{prefix}out:0", feeds), trained.run())
            strip_wq_ops()
            np.testing.assert_array_equal(session.run(f"{prefix}out:0", feeds), _float(trained))
            assert not [node for node in stripped_graph_def(graph).node if "graphwq" in node.name]


def test_export_leaves_the_graph_alone(tmp_path: Path) -> None:
    """Exporting in the middle of training changes no edge, no op and no number."""
    trained = train(_net)
    graph = trained.session.graph
    before, quantized = graph.as_graph_def(), trained.run()
    for name, bake in (("a.pb", True), ("b.pbtxt", False)):
        trained.quantizer.export(trained.session, ["out:0"], tmp_path / name, bake)
    assert graph.as_graph_def() == before
    np.testing.assert_array_equal(trained.run(), quantized)
    np.testing.assert_array_equal(run_pb(tmp_path / "b.pbtxt", trained.net), _float(trained))


def test_exported_weights_are_on_their_grid(tmp_path: Path) -> None:
    """bake: 4 bits hold every weight exactly; the size that is returned is that of the file."""
    trained = train(_net)
    path = tmp_path / "baked.pb"
    assert trained.quantizer.export(trained.session, "out", path) == path.stat().st_size
    result = graphwq.quantize(path, 4, "bake", keep_larger=True)
    assert not result.modified
    assert len(result.weights) == 4


def test_the_command_line_makes_the_exported_file(tmp_path: Path) -> None:
    """``graphwq quantize --storage bake`` of the float export is the baked export, byte for byte.

    Small weights need --keep-larger: without it the command leaves those float whose integers
    would take more room than they do.
    """
    trained = train(_net)
    for name, bake in (("float.pb", False), ("baked.pb", True)):
        trained.quantizer.export(trained.session, "out", tmp_path / name, bake)
    files = [tmp_path / "float.pb", "-o", tmp_path / "made.pb"]
    made = process("quantize", *files, "--bits", "4", "--storage", "bake", "--keep-larger")
    assert made.status == 0
    assert (tmp_path / "made.pb").read_bytes() == (tmp_path / "baked.pb").read_bytes()


def test_large_weights_need_no_option(tmp_path: Path) -> None:
    """The same without --keep-larger, where integers are smaller."""

    def build() -> Net:
        tf = tensorflow()
        x, feeds = fed((64,))
        return Net(tf.matmul(x, variable("w", [64, 32]), name="out"), feeds)

    trained = train(build)
    for name, bake in (("float.pb", False), ("baked.pb", True)):
        trained.quantizer.export(trained.session, "out", tmp_path / name, bake)
    result = graphwq.quantize(tmp_path / "float.pb", 4, "bake")
    assert result.graph.to_bytes() == (tmp_path / "baked.pb").read_bytes()
    integers = graphwq.quantize(tmp_path / "baked.pb", 4)
    codes = trained.run(trained.quantizer.inserted[0].fake_quant.codes)[1]
    np.testing.assert_array_equal(integers.quantized["w"].codes, codes)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["oud"], "no node 'oud' .*'out' meant"),
        ([], "no output"),
        (["graphwq/flag/stripped"], "no node"),
        (["graphwq/kernel/read/weight"], "no node"),
    ],
)
def test_unknown_outputs(outputs: Any, message: str, tmp_path: Path) -> None:
    """An unknown output is named, with the nearest name; nothing is written."""
    trained = train(_net, steps=0)
    with pytest.raises(ArgumentError, match=message):
        trained.quantizer.export(trained.session, outputs, tmp_path / "a.pb")
    assert list(tmp_path.iterdir()) == []


def test_existing_files(tmp_path: Path) -> None:
    """An existing file is kept unless ``force`` is given, and is never half written."""
    trained = train(_net, steps=0)
    path = tmp_path / "a.pb"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="exists"):
        trained.quantizer.export(trained.session, "out", path)
    assert path.read_bytes() == b"old"
    trained.quantizer.export(trained.session, "out", path, force=True)
    with Runner(graphwq.load(path)) as runner:
        runner.run(["out:0"], trained.net.feeds)
    with pytest.raises(InputError, match="no folder"):
        trained.quantizer.export(trained.session, "out", tmp_path / "no" / "a.pb")


def test_exporting_what_is_not_initialized(tmp_path: Path) -> None:
    """The message says what is missing."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        x, _ = fed((16,))
        tf.matmul(x, variable("w", [16, 8]), name="out")
        with pytest.raises(InputError, match="initialized"):
            WeightQuantizer().export(session, "out", tmp_path / "a.pb")
