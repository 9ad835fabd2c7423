"""Small live graphs and what must hold of every one of them after some steps of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np

import graphwq
from graphwq.graphdef.dtypes import NUMPY
from graphwq.graphdef.node import TensorRef
from graphwq.tf1.session import Runner
from graphwq.tf1.sites import COMPUTED, WHOLE

BATCH = 6


class Net(NamedTuple):
    """A forward graph: its output, and what is fed, by tensor name."""

    output: Any
    feeds: Dict[str, np.ndarray]


def tensorflow() -> Any:
    """tf.compat.v1, quiet."""
    import tensorflow as tf

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    return tf.compat.v1


def config() -> Any:
    """One thread: sums have one order."""
    return tensorflow().ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}
    )


def fed(shape: Sequence[int], name: str = "x", seed: int = 0) -> Any:
    """(placeholder with an open batch, values)."""
    tf = tensorflow()
    value = np.random.RandomState(seed).randn(BATCH, *shape).astype(np.float32)
    return tf.placeholder(tf.float32, [None, *shape], name=name), {f"{name}:0": value}


def ids(name: str, limit: int, length: int = 0) -> Any:
    """(placeholder of indices, values), some of them twice."""
    tf = tensorflow()
    shape = (BATCH, length) if length else (BATCH,)
    value = np.random.RandomState(1).randint(0, limit, shape).astype(np.int32)
    value[1] = value[0]
    return tf.placeholder(tf.int32, [None, *shape[1:]], name=name), {f"{name}:0": value}


def variable(name: str, shape: Sequence[int], resource: bool = False, **options: Any) -> Any:
    """A trainable variable of Gaussian values."""
    tf = tensorflow()
    tf.set_random_seed(3)
    start = tf.random_normal_initializer(stddev=0.3, seed=sum(map(ord, name)))
    return tf.get_variable(
        name, shape, initializer=start, use_resource=resource, trainable=True, **options
    )


class Trained(NamedTuple):
    """A live graph after some steps, its session still open."""

    quantizer: Any
    session: Any
    net: Net
    before: Dict[str, np.ndarray]
    after: Dict[str, np.ndarray]

    def run(self, *more: Any) -> Any:
        """The output (and other tensors) on the net's feeds."""
        fetches = [self.net.output, *more]
        values = self.session.run(fetches, self.net.feeds)
        return values if more else values[0]


def train(build: Callable[[], Net], bits: int = 4, steps: int = 3, **options: Any) -> Trained:
    """Build a graph, quantize it, train it a little."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        net = build()
        quantizer = graphwq.WeightQuantizer(bits=bits, **options)
        loss = tf.reduce_mean(tf.square(tf.cast(net.output, tf.float32) - 0.5))
        trained = tf.trainable_variables()
        step = tf.train.GradientDescentOptimizer(0.1).minimize(loss) if trained else tf.no_op()
        start = tf.global_variables_initializer()
        session = tf.Session(config=config())
    session.run(start)
    before = {item.op.name: session.run(item) for item in trained}
    quantizer.init(session)
    for _ in range(steps):
        session.run(step, net.feeds)
        quantizer.update(session)
    after = {item.op.name: session.run(item) for item in trained}
    return Trained(quantizer, session, net, before, after)


def value(graph: Any, name: str) -> np.ndarray:
    """The array of a Const of a graphwq graph."""
    (node,) = [node for node in graph.nodes if node.name == name]
    tensor = node.tensor()
    return tensor.numpy().astype(NUMPY[tensor.dtype], copy=False).reshape(tensor.shape)


def run_pb(path: Path, net: Net) -> np.ndarray:
    """What a pb computes on the net's feeds."""
    with Runner(graphwq.load(path)) as runner:
        return runner.run([net.output.name], net.feeds)[net.output.name]


def check(trained: Trained, folder: Path, bits: int = 4) -> None:
    """Training, export, ``graphwq quantize`` and strip agree, bit for bit where they can.

    1. Every trained variable has moved.
    2. The exported float pb, baked by graphwq.quantize, is the exported baked pb, byte for byte.
    3. Its weights are what the training graph computes with, bit for bit.
    4. Its output is that of the training graph; that of the float pb is another.
    5. After stripping, the same session computes what the float pb does; resumed, what it did.
    6. No trace of the quantizer is in the exported graphs, nor a node that no output needs.
    """
    quantizer, net = trained.quantizer, trained.net
    for name, old in trained.before.items():
        assert not np.array_equal(old, trained.after[name]), f"{name} was not trained"
    quantized = trained.run()
    paths = {True: folder / "baked.pb", False: folder / "float.pb"}
    for bake, path in paths.items():
        quantizer.export(trained.session, [net.output.op.name], path, bake=bake)
        text = path.read_bytes()
        assert b"_graphwq" not in text
        assert b"Select" not in text
        assert _unused(path, net.output.op.name) == []
    again = graphwq.quantize(paths[False], bits, "bake", keep_larger=True)
    assert again.graph.to_bytes() == paths[True].read_bytes()
    assert again.modified
    _check_weights(trained, again)
    baked, plain = run_pb(paths[True], net), run_pb(paths[False], net)
    np.testing.assert_allclose(baked, quantized, rtol=1e-5, atol=1e-6)
    assert np.abs(plain - quantized).max() > 1e-4 * np.abs(quantized).max()
    quantizer.strip_wq_ops()
    np.testing.assert_allclose(trained.run(), plain, rtol=1e-5, atol=1e-6)
    quantizer.resume_wq_ops()
    np.testing.assert_array_equal(trained.run(), quantized)


def _unused(path: Path, output: str) -> List[str]:
    nodes = {node.name: node for node in graphwq.load(path).nodes}
    pending, seen = [output], {output}
    while pending:
        sources = {TensorRef.parse(item).node for item in nodes[pending.pop()].inputs}
        pending.extend(sources - seen)
        seen |= sources
    return sorted(set(nodes) - seen)


def _check_weights(trained: Trained, again: Any) -> None:
    graph = trained.session.graph
    for item in trained.quantizer.inserted:
        insertion, made = item.insertion, item.fake_quant
        if insertion.kind not in (WHOLE, COMPUTED) or not graph.is_fetchable(made.value):
            continue
        computed = trained.run(made.value, made.scale, made.codes)[1:]
        name = insertion.weight
        exact = again.quantized[name]
        np.testing.assert_array_equal(value(again.graph, name), computed[0])
        np.testing.assert_array_equal(exact.scale, computed[1])
        np.testing.assert_array_equal(exact.codes, computed[2])


def kinds(trained: Trained) -> List[str]:
    """How each weight was quantized."""
    return [item.insertion.kind for item in trained.quantizer.inserted]
