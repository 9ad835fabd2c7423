"""Sources written by TensorFlow 1.15: read as its readers read them, frozen as its tools freeze."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from checkpoints import write_bundle, write_v1
from hypothesis import given, settings
from hypothesis import strategies as st

import graphwq
from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef.checkpoint import open_checkpoint
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.opening import Request, open_source
from graphwq.graphdef.source import load, save
from graphwq.graphdef.variable import VARIABLE_OPS
from graphwq.tf1.session import Runner, tensorflow

pytestmark = [pytest.mark.tf, pytest.mark.tf1]  # the models are made with layers that only 1.x has

_FEED = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
_SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
_DTYPES = ["f4", "f8", "f2", "i4", "i8", "i2", "i1", "u1", "?", "c8"]


def _variable(name: str, shape: Sequence[int], seed: int = 0, **options: Any) -> Any:
    tf = tensorflow()
    value = np.random.RandomState(seed).randn(*shape).astype(np.float32)
    return tf.get_variable(name, initializer=value, **options)


class Trained:
    """A model with a saver and an optimizer, saved; and what it computes."""

    def __init__(
        self,
        folder: Path,
        build: Callable[[Any], Any],
        feeds: Optional[Dict[str, Any]] = None,
        version: int = 2,
        sharded: bool = False,
        optimizer: bool = True,
    ) -> None:
        tf = tensorflow()
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(1)
            x = tf.placeholder(tf.float32, [None, 4], "x")
            y = tf.identity(build(x), "y")
            if optimizer:
                loss = tf.reduce_mean(tf.square(y), name="loss")
                step = tf.train.AdamOptimizer(0.01).minimize(loss)
            saver = tf.train.Saver(write_version=version, sharded=sharded)
            with tf.Session(graph=self.graph) as session:
                session.run(tf.global_variables_initializer())
                if optimizer:
                    session.run(step, {"x:0": _FEED, **(feeds or {})})
                self.prefix = saver.save(session, str(folder / "model.ckpt"))
                self.expected = session.run("y:0", {"x:0": _FEED, **(feeds or {})})
                self.definition = self.graph.as_graph_def()
                self.session_freeze = None
                try:
                    self.session_freeze = tf.graph_util.convert_variables_to_constants(
                        session, self.definition, ["y"]
                    )
                except (ValueError, KeyError, tf.errors.OpError):
                    pass


def _check(made: Graph, trained: Trained, feeds: Optional[Dict[str, Any]] = None) -> None:
    """No variable is left, and the graph computes the same, bit for bit."""
    for scope in made.scopes:
        assert not [node.name for node in scope.nodes if node.op in VARIABLE_OPS]
    with Runner(made) as runner:
        found = runner.run(["y:0"], {"x:0": _FEED, **(feeds or {})})["y:0"]
    assert found.tobytes() == trained.expected.tobytes()


def _same_as_tensorflow(made: Graph, theirs: Any) -> None:
    """The nodes of TensorFlow's own tool: names, order, ops, inputs, constants."""
    other = Graph.parse(theirs.SerializeToString())
    assert [node.name for node in made.nodes] == [node.name for node in other.nodes]
    for ours, node in zip(made.nodes, other.nodes):
        assert (ours.op, ours.inputs) == (node.op, node.inputs), ours.name
        if ours.op == "Const":
            left, right = ours.tensor(), node.tensor()
            assert left is not None
            assert right is not None
            assert (left.dtype, left.shape) == (right.dtype, right.shape)
            assert left.numpy().tobytes() == right.numpy().tobytes(), ours.name


# ------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("version", [1, 2])
@settings(max_examples=25)
@given(data=st.data())
def test_tensors_that_tensorflow_writes(
    tmp_path_factory: pytest.TempPathFactory, version: int, data: st.DataObject
) -> None:
    """Any dtypes and shapes, whole or sharded, both formats: the very bytes."""
    tf = tensorflow()
    folder = tmp_path_factory.mktemp("tensors")
    values = {}
    for number in range(data.draw(st.integers(1, 6))):
        dtype = data.draw(st.sampled_from(_DTYPES))
        shape = data.draw(_SHAPES)
        raw = np.random.RandomState(number).bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
        array = np.frombuffer(raw, dtype).reshape(shape)
        array = np.frombuffer(raw, "u1").reshape(shape) % 2 == 0 if dtype == "?" else array
        values[f"scope_{number}/v"] = np.nan_to_num(array) if dtype in ("f2", "c8") else array
    with tf.Graph().as_default():
        for name, value in values.items():
            tf.get_variable(name, initializer=tf.constant(value))
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            saver = tf.train.Saver(write_version=version, sharded=data.draw(st.booleans()))
            prefix = saver.save(session, str(folder / "model.ckpt"))
    checkpoint = open_checkpoint(Path(prefix))
    assert set(checkpoint.tensors) == set(values)
    for name, value in values.items():
        tensor = checkpoint.tensors[name]
        assert tensor.shape == value.shape
        assert bytes(tensor.content()) == value.tobytes(), (name, value.dtype)
    shutil.rmtree(folder)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("form", ["bundle", "bundle of two", "v1"])
def test_tensorflow_reads_what_the_tests_write(tmp_path: Path, form: str, compress: bool) -> None:
    """The writers of tests/checkpoints.py are right, snappy included: TensorFlow says so."""
    tf = tensorflow()
    values = {f"layer{n}/kernel": np.random.RandomState(n).randn(n + 1, 7) for n in range(60)}
    values["f"] = np.arange(5, dtype=np.float32)
    prefix = tmp_path / "model"
    if form == "v1":
        write_v1(prefix, values, compress=compress, block_size=700)
    else:
        write_bundle(prefix, values, 1 + form.endswith("two"), compress=compress, block_size=300)
    reader = tf.train.load_checkpoint(str(prefix))
    assert set(reader.get_variable_to_shape_map()) == set(values)
    ours = open_checkpoint(prefix)
    for name, value in values.items():
        assert reader.get_tensor(name).tobytes() == value.tobytes()
        assert bytes(ours.tensors[name].content()) == value.tobytes()


# ----------------------------------------------------------------------------- freezing


def _dense(x: Any) -> Any:
    tf = tensorflow()
    hidden = tf.nn.relu(tf.matmul(x, _variable("w1", (4, 5))) + _variable("b1", (5,), 1))
    return tf.matmul(hidden, _variable("w2", (5, 2), 2))


def _resource_dense(x: Any) -> Any:
    tf = tensorflow()
    with tf.variable_scope("r", use_resource=True):
        w = _variable("w", (4, 6))
        table = _variable("table", (10, 6), 1)
    rows = tf.nn.embedding_lookup(table, tf.cast(tf.abs(x[:, 0]) * 9, tf.int32))
    return tf.matmul(x, w) + rows + tf.cast(tf.shape(table)[0], tf.float32)


def _batch_norm(x: Any) -> Any:
    tf = tensorflow()
    y = tf.layers.batch_normalization(tf.layers.dense(x, 3), training=False)
    return tf.layers.dense(y, 2, use_bias=True)


def _partitioned(x: Any) -> Any:
    tf = tensorflow()
    parts = tf.fixed_size_partitioner(3)
    columns = tf.fixed_size_partitioner(2, axis=1)
    w = tf.get_variable("w", (4, 7), partitioner=columns)
    table = tf.get_variable("t", (11, 7), partitioner=parts)
    ids = tf.cast(tf.abs(x[:, 1]) * 10, tf.int32)
    return tf.matmul(x, w) + tf.nn.embedding_lookup(table, ids, partition_strategy="div")


def _cond(x: Any, use_resource: bool) -> Any:
    tf = tensorflow()
    with tf.variable_scope("c", use_resource=use_resource):
        w, v = _variable("w", (4, 3)), _variable("v", (4, 3), 1)
    return tf.cond(tf.reduce_sum(x) > -100, lambda: tf.matmul(x, w), lambda: tf.matmul(x, v))


def _loop(x: Any, use_resource: bool) -> Any:
    tf = tensorflow()
    with tf.variable_scope("l", use_resource=use_resource):
        w = _variable("w", (4, 4))
        table = _variable("t", (5, 4), 1)

    def body(i: Any, h: Any) -> Tuple[Any, Any]:
        return i + 1, tf.tanh(tf.matmul(h, w) + tf.gather(table, i))

    return tf.while_loop(lambda i, h: i < 3, body, [0, x])[1]


def _lstm(x: Any) -> Any:
    tf = tensorflow()
    sequence = tf.stack([x, x * 2, x * 3], axis=1)
    return tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(5), sequence, dtype=tf.float32)[0]


_MODELS: Dict[str, Callable[[Any], Any]] = {
    "dense": _dense,
    "resource": _resource_dense,
    "batch norm": _batch_norm,
    "partitioned": _partitioned,
    "cond": lambda x: _cond(x, False),
    "cond with resources": lambda x: _cond(x, True),
    "loop": lambda x: _loop(x, False),
    "loop with resources": lambda x: _loop(x, True),
    "dynamic lstm": _lstm,
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", sorted(_MODELS))
def test_frozen_models_compute_the_same(tmp_path: Path, name: str, version: int) -> None:
    """From the MetaGraph with its checkpoint, and from a GraphDef with --checkpoint."""
    trained = Trained(tmp_path, _MODELS[name], version=version, sharded=version == 2)
    made = load(trained.prefix, outputs=["y"])
    _check(made, trained)
    assert not [node for node in made.nodes if "Adam" in node.name or "save" in node.name]
    definition = tmp_path / "graph.pb"
    save(Graph.parse(trained.definition.SerializeToString()), definition)
    plain = load(definition, trained.prefix, ["y:0"])
    assert [node.name for node in plain.nodes] == [node.name for node in made.nodes]
    _check(plain, trained)
    text = tmp_path / "graph.pbtxt"
    tensorflow().io.write_graph(trained.definition, str(tmp_path), "graph.pbtxt")
    _check(load(text, trained.prefix, ["y"]), trained)
    guessed = open_source(trained.prefix)
    assert "loss" in guessed.outputs
    _check(guessed.graph, trained)


@pytest.mark.parametrize("name", ["dense", "batch norm", "partitioned", "cond", "dynamic lstm"])
def test_frozen_like_tensorflow(tmp_path: Path, name: str) -> None:
    """convert_variables_to_constants leaves the same nodes, inputs and constants."""
    trained = Trained(tmp_path, _MODELS[name])
    assert trained.session_freeze is not None
    _same_as_tensorflow(load(trained.prefix, outputs=["y"]), trained.session_freeze)


def test_resources_frozen_like_tensorflow(tmp_path: Path) -> None:
    """The same for resource variables; only VariableShape is beyond TensorFlow's tool."""

    def build(x: Any) -> Any:
        tf = tensorflow()
        with tf.variable_scope("r", use_resource=True):
            w, table = _variable("w", (4, 6)), _variable("table", (10, 6), 1)
        return tf.matmul(x, w) + tf.gather(table, tf.cast(tf.abs(x[:, 0]) * 9, tf.int32))

    trained = Trained(tmp_path, build)
    assert trained.session_freeze is not None
    made = load(trained.prefix, outputs=["y"])
    _same_as_tensorflow(made, trained.session_freeze)
    _check(made, trained)


def test_a_partitioned_variable_restored_whole(tmp_path: Path) -> None:
    """Saved in three parts, needed whole (and in two): TensorFlow restores that, so do we."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        w = tf.get_variable("w", (7, 4), partitioner=tf.fixed_size_partitioner(3))
        session.run(tf.global_variables_initializer())
        expected = session.run(tf.convert_to_tensor(w))
        prefix = tf.train.Saver().save(session, str(tmp_path / "three"))
    for count in (1, 2, 4):
        with tf.Graph().as_default() as graph:
            partitioner = tf.fixed_size_partitioner(count, axis=count % 2) if count > 1 else None
            w = tf.get_variable("w", (7, 4), partitioner=partitioner)
            tf.identity(tf.convert_to_tensor(w), "y")
            saver = tf.train.Saver()
            meta = tmp_path / f"whole{count}.meta"
            tf.train.export_meta_graph(str(meta), saver_def=saver.saver_def, graph=graph)
        with Runner(load(meta, prefix, ["y"])) as runner:
            assert runner.run(["y:0"])["y:0"].tobytes() == expected.tobytes()


def test_updates_that_are_only_waited_for_go(tmp_path: Path) -> None:
    """contrib.layers.batch_norm with updates in place: TensorFlow's own tool leaves them broken."""

    def build(x: Any) -> Any:
        tf = tensorflow()
        from tensorflow import contrib

        training = tf.placeholder_with_default(False, [], "training")
        return contrib.layers.batch_norm(
            tf.layers.dense(x, 3), is_training=training, updates_collections=None
        )

    trained = Trained(tmp_path, build)
    made = load(trained.prefix, outputs=["y"])
    _check(made, trained)
    assert not [node.name for node in made.nodes if node.op.startswith("Assign")]


def test_a_variable_that_the_outputs_change(tmp_path: Path) -> None:
    """Its value cannot be a constant: the error names the op and the variable."""

    def build(x: Any) -> Any:
        tf = tensorflow()
        counter = _variable("counter", (4,))
        return x + tf.assign_add(counter, tf.ones([4]), name="count")

    trained = Trained(tmp_path, build, optimizer=False)
    with pytest.raises(UnsupportedError, match=r"AssignAdd 'count', which changes .*'counter'"):
        load(trained.prefix, outputs=["y"])


def test_a_saver_with_other_names(tmp_path: Path) -> None:
    """The restore ops of the graph say which tensor is which variable."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        w = _variable("w", (4, 3))
        x = tf.placeholder(tf.float32, [None, 4], "x")
        tf.matmul(x, w, name="y")
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver({"another/name": w}).save(session, str(tmp_path / "m"))
        expected = session.run(w)
    made = load(prefix, outputs=["y"])
    tensor = {node.name: node for node in made.nodes}["w"].tensor()
    assert tensor is not None
    assert tensor.numpy().tobytes() == expected.tobytes()
    bare = tmp_path / "bare.meta"  # without a saver the name is not known ...
    with tf.Graph().as_default() as graph:
        w = _variable("w", (4, 3))
        tf.matmul(tf.placeholder(tf.float32, [None, 4], "x"), w, name="y")
        tf.train.export_meta_graph(str(bare), graph=graph)
    with pytest.raises(InputError, match="variable 'w' is not in the checkpoint"):
        load(bare, prefix, ["y"])
    made = load(bare, prefix, ["y"], rename={"w": "another/name"})
    tensor = {node.name: node for node in made.nodes}["w"].tensor()
    assert tensor is not None
    assert tensor.numpy().tobytes() == expected.tobytes()


def test_moving_averages(tmp_path: Path) -> None:
    """--ema takes the shadow variables where there are any, as variables_to_restore does."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        w, b = (
            _variable("w", (4, 3)),
            tf.get_variable("b", initializer=np.ones(3, np.float32), trainable=False),
        )
        ema = tf.train.ExponentialMovingAverage(0.5)
        update = ema.apply([w])
        tf.add(tf.matmul(tf.placeholder(tf.float32, [None, 4], "x"), w), b, name="y")
        session.run(tf.global_variables_initializer())
        session.run(w.assign(w * 3))
        session.run(update)
        prefix = tf.train.Saver().save(session, str(tmp_path / "m"))
        plain, average = session.run([w, ema.average(w)])
    assert plain.tobytes() != average.tobytes()

    def value(**options: Any) -> bytes:
        made = {node.name: node for node in load(prefix, outputs=["y"], **options).nodes}
        tensor = made["w"].tensor()
        assert tensor is not None
        return tensor.numpy().tobytes()

    assert value() == plain.tobytes()
    assert value(ema="ExponentialMovingAverage") == average.tobytes()
    assert value(rename={"w": "w/ExponentialMovingAverage"}) == average.tobytes()
    with pytest.raises(InputError, match="no variable has a moving average"):
        value(ema="Polyak")


# ---------------------------------------------------------------------------- SavedModels


def test_simple_save(tmp_path: Path) -> None:
    """tf.saved_model.simple_save: outputs from the signature, values from variables/."""
    tf = tensorflow()
    folder = tmp_path / "model"
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4], "x")
        y = tf.identity(_dense(x), "y")
        tf.identity(y, "unrelated")
        session.run(tf.global_variables_initializer())
        tf.saved_model.simple_save(session, str(folder), {"x": x}, {"y": y})
        expected = session.run(y, {x: _FEED})
    opened = open_source(folder)
    assert opened.outputs == ("y",)
    assert set(opened.variables) == {"w1", "b1", "w2"}
    with Runner(opened.graph) as runner:
        assert runner.run(["y:0"], {"x:0": _FEED})["y:0"].tobytes() == expected.tobytes()
    assert load(folder / "saved_model.pb").digest == opened.graph.digest
    text = tmp_path / "text"
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4], "x")
        y = tf.identity(_dense(x), "y")
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(str(text))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save(as_text=True)
    assert (text / "saved_model.pbtxt").is_file()
    with Runner(load(text, outputs=["y"])) as runner:
        assert runner.run(["y:0"], {"x:0": _FEED})["y:0"].tobytes() == expected.tobytes()


def test_several_tags_and_signatures(tmp_path: Path) -> None:
    """The graph of the tags, the outputs of the signature; what there is stands in the errors."""
    tf = tensorflow()
    folder = tmp_path / "model"
    builder = tf.saved_model.Builder(str(folder))
    for tags in (["train"], ["serve"], ["serve", "gpu"]):
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, [None, 4], "x")
            y = _dense(x)
            signatures = {
                name: tf.saved_model.predict_signature_def({"x": x}, {"out": out})
                for name, out in (
                    ("serving_default", tf.nn.softmax(y, name="soft")),
                    ("logits", tf.identity(y, "_".join(tags))),
                )
            }
            if tags == ["train"]:
                session.run(tf.global_variables_initializer())
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
    builder.save()
    assert open_source(folder).outputs == ("serve", "soft")
    assert open_source(folder, Request(tags=("gpu", "serve"))).outputs == ("serve_gpu", "soft")
    assert open_source(folder, Request(signature="serving_default")).outputs == ("soft",)
    with pytest.raises(InputError, match="with the tags tpu: give --tags as one of train; serve;"):
        load(folder, tags=["tpu"])
    with pytest.raises(InputError, match="no signature 'x': there are 'logits', 'serving_default'"):
        load(folder, signature="x")


def _keras(tf: Any) -> Any:
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Dense(12, activation="relu", input_shape=(4,)),
            layers.Reshape((3, 4)),
            layers.Conv1D(5, 2),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dense(2),
        ]
    )


def test_a_keras_model(tmp_path: Path) -> None:
    """tf.keras in a session (resource variables), by simple_save and by a Saver."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        model = _keras(tf)
        session.run(tf.global_variables_initializer())
        folder = tmp_path / "model"
        tf.saved_model.simple_save(session, str(folder), {"x": model.input}, {"y": model.output})
        prefix = tf.train.Saver().save(session, str(tmp_path / "m"))
        feeds = {model.input.name: _FEED}
        output = model.output.name
        expected = session.run(model.output, feeds)
    for made in (load(folder), load(prefix, outputs=[output])):
        with Runner(made) as runner:
            found = runner.run([output], feeds)[output]
        assert found.tobytes() == expected.tobytes()
        assert len(graphwq.locate(made).sites) >= 3


def test_keras_exports_of_its_own(tmp_path: Path) -> None:
    """tf.keras.experimental.export_saved_model: an object-based checkpoint."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        model = _keras(tf)
        session.run(tf.global_variables_initializer())
        expected = session.run(model.output, {model.input.name: _FEED})
        folder = tmp_path / "model"
        tf.keras.experimental.export_saved_model(model, str(folder), serving_only=True)
    tf.keras.backend.clear_session()
    opened = open_source(folder)
    with Runner(opened.graph) as runner:
        placeholder = [node.name for node in opened.graph.nodes if node.op == "Placeholder"]
        output = f"{opened.outputs[0]}:0"
        found = runner.run([output], {f"{placeholder[0]}:0": _FEED})[output]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_variables_behind_functions(tmp_path: Path) -> None:
    """tf.function in graph mode: resources as arguments of functions, nested."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4], "x")
        with tf.variable_scope("f", use_resource=True):
            w, v = _variable("w", (4, 4)), _variable("v", (6, 4), 1)

        @tf.function
        def inner(a: Any) -> Any:
            return tf.matmul(a, w) + tf.gather(v, [0, 1, 2])

        @tf.function
        def outer(a: Any) -> Any:
            return inner(tf.nn.relu(a)) * tf.reduce_sum(v)

        tf.identity(outer(x), "y")
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "m"))
        expected = session.run("y:0", {x: _FEED})
    made = load(prefix, outputs=["y"])
    with Runner(made) as runner:
        found = runner.run(["y:0"], {"x:0": _FEED})["y:0"]
    assert found.tobytes() == expected.tobytes()
    weights: List[str] = [site.weight for site in graphwq.locate(made).sites]
    assert sorted(weights) == ["f/v", "f/w"]


@pytest.mark.parametrize("kind", ["if", "while"])
def test_variables_in_functional_control_flow(tmp_path: Path, kind: str) -> None:
    """If and While ops of control flow v2 take the values as they took the handles."""
    tf = tensorflow()
    from tensorflow.python.ops import control_flow_util

    with tf.Graph().as_default(), tf.Session() as session:
        switched = control_flow_util.ENABLE_CONTROL_FLOW_V2
        control_flow_util.ENABLE_CONTROL_FLOW_V2 = True
        try:
            x = tf.placeholder(tf.float32, [None, 4], "x")
            with tf.variable_scope("f", use_resource=True):
                w, v = _variable("w", (4, 4)), _variable("v", (4, 4), 1)
            if kind == "if":
                out = tf.cond(tf.reduce_sum(x) > 9, lambda: tf.matmul(x, w), lambda: x @ v)
            else:
                out = tf.while_loop(
                    lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h @ w)), [0, x]
                )[1]
            tf.identity(out, "y")
        finally:
            control_flow_util.ENABLE_CONTROL_FLOW_V2 = switched
        session.run(tf.global_variables_initializer())
        prefix = tf.train.Saver().save(session, str(tmp_path / "m"))
        expected = session.run("y:0", {x: _FEED})
    made = load(prefix, outputs=["y"])
    assert {node.op for node in made.nodes} & {"If", "While", "StatelessIf", "StatelessWhile"}
    with Runner(made) as runner:
        found = runner.run(["y:0"], {"x:0": _FEED})["y:0"]
    assert found.tobytes() == expected.tobytes()
