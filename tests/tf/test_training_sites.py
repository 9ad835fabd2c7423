"""Every kind of weight in a live graph; beside each what mnncompress 0.3.2 does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest

from .training import BATCH, Net, check, fed, ids, kinds, tensorflow, train, variable

pytestmark = [pytest.mark.tf, pytest.mark.tf1]

_CASES: Dict[str, Callable[[], Net]] = {}


def case(build: Callable[[], Net]) -> Callable[[], Net]:
    """Register a net."""
    _CASES[build.__name__] = build
    return build


def _pooled(tensor: Any) -> Any:
    tf = tensorflow()
    return tf.reduce_mean(tensor, list(range(1, tensor.shape.ndims - 1)), name="out")


@case
def conv2d_ref() -> Net:
    """Works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    return Net(_pooled(tf.nn.conv2d(x, variable("w", [3, 3, 4, 8]), 1, "SAME")), feeds)


@case
def conv2d_resource() -> Net:
    """mnncompress: TypeError on construction."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    return Net(_pooled(tf.nn.conv2d(x, variable("w", [3, 3, 4, 8], True), 1, "SAME")), feeds)


@case
def matmul_ref() -> Net:
    """Works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.matmul(x, variable("w", [16, 8]), name="out"), feeds)


@case
def matmul_resource() -> Net:
    """mnncompress: TypeError on construction."""
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.matmul(x, variable("w", [16, 8], True), name="out"), feeds)


@case
def matmul_transposed() -> Net:
    """The output channels are the rows. Works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.matmul(x, variable("w", [8, 16]), transpose_b=True, name="out"), feeds)


@case
def matmul_weight_on_the_left() -> Net:
    """Works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.matmul(variable("w", [8, 16]), x, transpose_b=True, name="out"), feeds)


@case
def depthwise() -> Net:
    """Works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 6))
    y = tf.nn.depthwise_conv2d(x, variable("w", [3, 3, 6, 1]), [1, 1, 1, 1], "SAME")
    return Net(_pooled(y), feeds)


@case
def depthwise_multiplier() -> Net:
    """mnncompress: one scale per input channel for all its outputs."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 6))
    y = tf.nn.depthwise_conv2d(x, variable("w", [3, 3, 6, 3]), [1, 1, 1, 1], "SAME")
    return Net(_pooled(y), feeds)


@case
def conv1d() -> Net:
    """mnncompress: InvalidArgumentError (it takes the tensor before the ExpandDims)."""
    tf = tensorflow()
    x, feeds = fed((12, 4))
    return Net(_pooled(tf.nn.conv1d(x, variable("w", [3, 4, 8]), 1, "SAME")), feeds)


@case
def conv3d() -> Net:
    """mnncompress: not quantized."""
    tf = tensorflow()
    x, feeds = fed((4, 4, 4, 3))
    y = tf.nn.conv3d(x, variable("w", [2, 2, 2, 3, 5]), [1, 1, 1, 1, 1], "SAME")
    return Net(_pooled(y), feeds)


@case
def conv2d_transpose() -> Net:
    """mnncompress: ValueError "gradient op found" (Conv2DBackpropInput)."""
    tf = tensorflow()
    x, feeds = fed((4, 4, 6))
    w = variable("w", [3, 3, 5, 6])
    y = tf.nn.conv2d_transpose(x, w, [BATCH, 8, 8, 5], 2, "SAME")
    return Net(_pooled(y), feeds)


@case
def atrous() -> Net:
    """Space to batch around the convolution; works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    y = tf.nn.atrous_conv2d(x, variable("w", [3, 3, 4, 8]), 2, "SAME")
    return Net(_pooled(y), feeds)


@case
def grouped() -> Net:
    """A kernel that is split for two convolutions. mnncompress: TypeError."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    parts = zip(tf.split(x, 2, 3), tf.split(variable("w", [3, 3, 2, 8]), 2, 3))
    y = tf.concat([tf.nn.conv2d(a, b, 1, "SAME") for a, b in parts], 3)
    return Net(_pooled(y), feeds)


@case
def shared() -> Net:
    """One variable, two ops. mnncompress: only the second is quantized; strip crashes."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    w = variable("w", [3, 3, 4, 4])
    return Net(_pooled(tf.nn.conv2d(tf.nn.conv2d(x, w, 1, "SAME"), w, 1, "SAME")), feeds)


@case
def shared_resource() -> Net:
    """The same with two reads of a resource variable. mnncompress: TypeError."""
    tf = tensorflow()
    x, feeds = fed((8,))
    w = variable("w", [8, 8], True)
    return Net(tf.matmul(tf.nn.relu(tf.matmul(x, w)), w, name="out"), feeds)


@case
def tied() -> Net:
    """Embedding and output layer. mnncompress: strip crashes (OutOfRangeError)."""
    tf = tensorflow()
    rows, feeds = ids("ids", 20)
    table = variable("table", [20, 8])
    h = tf.nn.relu(tf.nn.embedding_lookup(table, rows))
    return Net(tf.matmul(h, table, transpose_b=True, name="out"), feeds)


@case
def tied_resource() -> Net:
    """The same with a resource variable."""
    tf = tensorflow()
    rows, feeds = ids("ids", 20)
    table = variable("table", [20, 8], True)
    h = tf.nn.relu(tf.nn.embedding_lookup(table, rows))
    return Net(tf.matmul(h, table, transpose_b=True, name="out"), feeds)


@case
def tied_along_other_axes() -> Net:
    """One weight, channels along both axes: the frozen graph has one grid, so has training."""
    tf = tensorflow()
    x, feeds = fed((8,))
    w = variable("w", [8, 8])
    h = tf.nn.relu(tf.matmul(x, w))
    return Net(tf.matmul(h, w, transpose_b=True, name="out"), feeds)


def _tied_table_first_used_by_column(resource: bool) -> Net:
    tf = tensorflow()
    x, feeds = fed((20,))
    table = variable("table", [20, 8], resource)
    h = tf.matmul(x, table)
    rows = tf.argmax(h, 1)
    return Net(tf.identity(h + tf.nn.embedding_lookup(table, rows), name="out"), feeds)


@case
def table_with_scales_per_column() -> Net:
    """A table that a MatMul uses first: the rows that are gathered have the scales of columns."""
    return _tied_table_first_used_by_column(False)


@case
def resource_table_with_scales_per_column() -> Net:
    """The same with a resource variable: the gather reads the quantized table."""
    return _tied_table_first_used_by_column(True)


@case
def embedding() -> Net:
    """mnncompress: not quantized."""
    tf = tensorflow()
    rows, feeds = ids("ids", 30, 5)
    return Net(
        tf.reduce_mean(tf.nn.embedding_lookup(variable("t", [30, 8]), rows), 1, name="out"), feeds
    )


@case
def embedding_is_the_output() -> Net:
    """The program holds the output of the gather itself."""
    tf = tensorflow()
    rows, feeds = ids("ids", 30)
    return Net(tf.gather(variable("t", [30, 8]), rows, name="out"), feeds)


@case
def embedding_resource() -> Net:
    """mnncompress: not quantized."""
    tf = tensorflow()
    rows, feeds = ids("ids", 30, 5)
    table = variable("t", [30, 8], True)
    return Net(tf.reduce_mean(tf.nn.embedding_lookup(table, rows), 1, name="out"), feeds)


@case
def embedding_partitioned() -> Net:
    """mnncompress: not quantized."""
    tf = tensorflow()
    rows, feeds = ids("ids", 30, 5)
    table = variable("t", [30, 8], partitioner=tf.fixed_size_partitioner(3))
    return Net(tf.identity(tf.nn.embedding_lookup(table, rows), name="out"), feeds)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("resource", [False, True])
def test_partitioned(axis: int, resource: bool, tmp_path: Path) -> None:
    """A variable in parts, along inputs or outputs. mnncompress: AttributeError 'assign'."""

    def build() -> Net:
        tf = tensorflow()
        x, feeds = fed((16,))
        parts = tf.fixed_size_partitioner(2, axis=axis)
        w = variable("w", [16, 8], resource, partitioner=parts)
        return Net(tf.matmul(x, w, name="out"), feeds)

    trained = train(build)
    assert len(trained.quantizer.weights) == 2
    check(trained, tmp_path)


@case
def masked() -> Net:
    """A pruning mask in the graph. mnncompress: AttributeError 'assign'."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    keep = (np.random.RandomState(5).rand(3, 3, 4, 8) > 0.5).astype(np.float32)
    mask = tf.get_variable("mask", initializer=keep, trainable=False)
    w = tf.multiply(variable("w", [3, 3, 4, 8]), mask, name="masked")
    return Net(_pooled(tf.nn.conv2d(x, w, 1, "SAME")), feeds)


@case
def masked_resource() -> Net:
    """The same with resource variables."""
    tf = tensorflow()
    x, feeds = fed((16,))
    keep = (np.random.RandomState(5).rand(16, 8) > 0.5).astype(np.float32)
    mask = tf.get_variable("mask", initializer=keep, trainable=False, use_resource=True)
    return Net(tf.matmul(x, variable("w", [16, 8], True) * mask, name="out"), feeds)


@case
def weight_norm() -> Net:
    """A weight that is computed: g * v / |v|. mnncompress: AttributeError 'assign'."""
    tf = tensorflow()
    x, feeds = fed((16,))
    w = tf.nn.l2_normalize(variable("v", [16, 8]), 0) * variable("g", [8])
    return Net(tf.matmul(x, w, name="out"), feeds)


@case
def transposed_by_an_op() -> Net:
    """A Transpose on the way. mnncompress: AttributeError 'assign'."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    w = tf.transpose(variable("w", [8, 4, 3, 3]), [2, 3, 1, 0])
    return Net(_pooled(tf.nn.conv2d(x, w, 1, "SAME")), feeds)


@case
def double() -> Net:
    """float64. mnncompress: TypeError (mask of float32)."""
    tf = tensorflow()
    x, feeds = fed((16,))
    w = tf.get_variable(
        "w", [16, 8], tf.float64, tf.random_normal_initializer(seed=1, dtype=tf.float64)
    )
    return Net(tf.matmul(tf.cast(x, tf.float64), w, name="out"), feeds)


@case
def half() -> Net:
    """float16. mnncompress: TypeError (mask of float32)."""
    tf = tensorflow()
    x, feeds = fed((16,))
    w = tf.get_variable(
        "w", [16, 8], tf.float16, tf.random_normal_initializer(seed=1, dtype=tf.float16)
    )
    return Net(tf.matmul(tf.cast(x, tf.float16), w, name="out"), feeds)


def _branch(resource: bool, mask: bool) -> Net:
    tf = tensorflow()
    x, feeds = fed((16,))
    choose = tf.placeholder_with_default(True, [], name="choose")
    outer = variable("outer", [16, 8], resource)
    keep = tf.constant((np.random.RandomState(5).rand(16, 8) > 0.5).astype(np.float32))

    def left() -> Any:
        return tf.matmul(x, outer * keep if mask else outer)

    def right() -> Any:
        return tf.matmul(x, outer, name="right") + 1.0

    return Net(tf.identity(tf.cond(choose, left, right), name="out"), feeds)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_cond(resource: bool, mask: bool, tmp_path: Path) -> None:
    """A weight in the branches of tf.cond. mnncompress: AttributeError 'assign'."""
    check(train(lambda: _branch(resource, mask)), tmp_path)


def _loop(resource: bool, mask: bool) -> Net:
    tf = tensorflow()
    x, feeds = fed((8,))
    w = variable("w", [8, 8], resource)
    keep = tf.constant((np.random.RandomState(5).rand(8, 8) > 0.5).astype(np.float32))

    def body(step: Any, state: Any) -> Any:
        return step + 1, tf.tanh(tf.matmul(state, w * keep if mask else w))

    final = tf.while_loop(lambda step, _: step < 4, body, [0, x])[1]
    return Net(tf.identity(final, name="out"), feeds)


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_while_loop(resource: bool, mask: bool, tmp_path: Path) -> None:
    """A weight in the body of tf.while_loop. mnncompress: AttributeError 'assign'."""
    check(train(lambda: _loop(resource, mask)), tmp_path)


@case
def masked_in_nested_loops() -> Net:
    """A mask on a weight in a loop in a loop: its constant has to be led into both."""
    tf = tensorflow()
    x, feeds = fed((8,))
    w = variable("w", [8, 8])
    keep = tf.constant((np.random.RandomState(5).rand(8, 8) > 0.5).astype(np.float32))

    def inner(step: Any, state: Any) -> Any:
        return step + 1, tf.tanh(tf.matmul(state, w * keep))

    def outer(step: Any, state: Any) -> Any:
        return step + 1, tf.while_loop(lambda step, _: step < 2, inner, [0, state])[1]

    final = tf.while_loop(lambda step, _: step < 2, outer, [0, x])[1]
    return Net(tf.identity(final, name="out"), feeds)


@case
def loop_in_a_branch() -> Net:
    """A loop inside of a branch, the weight a resource that both lead in."""
    tf = tensorflow()
    x, feeds = fed((8,))
    w = variable("w", [8, 8], True)

    def loop() -> Any:
        return tf.while_loop(
            lambda step, _: step < 3,
            lambda step, state: (step + 1, tf.tanh(tf.matmul(state, w))),
            [0, x],
        )[1]

    choose = tf.placeholder_with_default(True, [], name="choose")
    return Net(tf.identity(tf.cond(choose, loop, lambda: x), name="out"), feeds)


@case
def dynamic_rnn() -> Net:
    """An LSTM in a while loop. mnncompress: AttributeError 'assign'."""
    tf = tensorflow()
    x, feeds = fed((5, 6))
    cell = tf.nn.rnn_cell.BasicLSTMCell(8)
    return Net(tf.identity(tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)[1].h, name="out"), feeds)


def _table_in_a_loop(resource: bool) -> Net:
    tf = tensorflow()
    rows, feeds = ids("ids", 8)
    table = variable("table", [8, 8], resource)

    def body(step: Any, state: Any) -> Any:
        return step + 1, state + tf.tanh(tf.nn.embedding_lookup(table, rows) + state)

    start = tf.zeros_like(tf.one_hot(rows, 8))
    final = tf.while_loop(lambda step, _: step < 3, body, [0, start])[1]
    return Net(tf.identity(final, name="out"), feeds)


@case
def table_in_a_loop() -> Net:
    """A decoder's embedding. mnncompress: not quantized."""
    return _table_in_a_loop(False)


@case
def resource_table_in_a_loop() -> Net:
    """The same with a resource variable that is gathered in the loop."""
    return _table_in_a_loop(True)


@case
def handed_to_a_function() -> Net:
    """A weight that a tf.function gets as a value. mnncompress: AttributeError 'assign'."""
    import tensorflow as tensorflow_2

    tf = tensorflow()
    x, feeds = fed((16,))
    w = variable("w", [16, 8])

    @tensorflow_2.function
    def layer(value: Any, weight: Any) -> Any:
        return tf.matmul(value, weight)

    return Net(tf.identity(layer(x, w.value()), name="out"), feeds)


@case
def tensordot() -> Net:
    """A dense layer on rank 3: Transpose and Reshape on the way."""
    tf = tensorflow()
    x, feeds = fed((5, 6))
    return Net(tf.tensordot(x, variable("w", [6, 8]), 1, name="out"), feeds)


@case
def keras_conv2d() -> Net:
    """mnncompress: TypeError on construction."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    return Net(_pooled(tf.keras.layers.Conv2D(8, 3)(x)), feeds)


@case
def keras_separable() -> Net:
    """Depthwise and pointwise kernel. mnncompress: TypeError on construction."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 4))
    return Net(_pooled(tf.keras.layers.SeparableConv2D(8, 3, depth_multiplier=2)(x)), feeds)


@case
def keras_dense() -> Net:
    """mnncompress: skipped silently, 0 weights."""
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.identity(tf.keras.layers.Dense(8, name="d")(x), name="out"), feeds)


@case
def keras_dense_on_sequences() -> Net:
    """Dense on rank 3 is a tensordot. mnncompress: skipped silently."""
    tf = tensorflow()
    x, feeds = fed((5, 16))
    return Net(tf.identity(tf.keras.layers.Dense(8, name="d")(x), name="out"), feeds)


@case
def keras_embedding() -> Net:
    """mnncompress: not quantized."""
    tf = tensorflow()
    rows, feeds = ids("ids", 30, 5)
    return Net(tf.identity(tf.keras.layers.Embedding(30, 8)(rows), name="out"), feeds)


def _zeros(x: Any, count: int) -> Any:
    """Initial states; TensorFlow 1.15 cannot make them itself with a numpy from 1.20 on."""
    return [tensorflow().tile(x[:, 0, :1] * 0, [1, 8])] * count


@case
def keras_lstm() -> Net:
    """Its kernels are read, split and sliced in a while loop. mnncompress: TypeError."""
    tf = tensorflow()
    x, feeds = fed((5, 6))
    return Net(
        tf.identity(tf.keras.layers.LSTM(8)(x, initial_state=_zeros(x, 2)), name="out"), feeds
    )


@case
def keras_gru() -> Net:
    """mnncompress: TypeError on construction."""
    tf = tensorflow()
    x, feeds = fed((5, 6))
    return Net(
        tf.identity(tf.keras.layers.GRU(8)(x, initial_state=_zeros(x, 1)), name="out"), feeds
    )


@case
def layers_conv1d() -> Net:
    """tf.layers.conv1d. mnncompress: InvalidArgumentError."""
    tf = tensorflow()
    x, feeds = fed((12, 4))
    return Net(_pooled(tf.layers.conv1d(x, 8, 3)), feeds)


@case
def layers_dense() -> Net:
    """tf.layers.dense: a reference variable, MatMul and BiasAdd. Works in mnncompress."""
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.identity(tf.layers.dense(x, 8), name="out"), feeds)


@pytest.mark.parametrize("name", _CASES)
def test_case(name: str, tmp_path: Path) -> None:
    """Training, export, ``graphwq quantize``, strip and resume agree; see ``training.check``."""
    check(train(_CASES[name]), tmp_path)


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_width(bits: int, tmp_path: Path) -> None:
    """2..8 bits."""
    check(train(_CASES["conv2d_ref"], bits), tmp_path, bits)


@pytest.mark.parametrize("through", ["directly", "Identity"])
def test_direct_const(through: str, tmp_path: Path) -> None:
    """A Const as weight. mnncompress: IndexError, and AttributeError 'assign' behind Identity."""

    def build() -> Net:
        tf = tensorflow()
        x, feeds = fed((16,))
        w = tf.constant(np.random.RandomState(2).randn(16, 8).astype(np.float32), name="w")
        w = tf.identity(w, name="read") if through == "Identity" else w
        return Net(tf.matmul(x, w, name="out"), feeds)

    check(train(build), tmp_path)


def test_how_they_are_quantized() -> None:
    """Rows of tables after gathering them, masked weights where they are used, others whole."""
    assert kinds(train(_CASES["shared"])) == ["whole"]
    assert kinds(train(_CASES["shared_resource"])) == ["whole", "whole"]
    assert kinds(train(_CASES["embedding"])) == ["rows"]
    assert kinds(train(_CASES["embedding_resource"])) == ["gathered"]
    assert sorted(kinds(train(_CASES["tied"]))) == ["rows", "whole"]
    assert kinds(train(_CASES["masked"])) == ["computed"]
    assert kinds(train(_CASES["table_with_scales_per_column"])) == ["whole"]


def test_depthwise_scales_are_per_output_channel() -> None:
    """mnncompress has one scale per input channel across the multiplier: shape (1, 1, 6, 1)."""
    trained = train(_CASES["depthwise_multiplier"])
    (item,) = trained.quantizer.inserted
    assert trained.run(item.fake_quant.scale)[1].shape == (1, 1, 6, 3)
    trained = train(_CASES["conv1d"])
    (item,) = trained.quantizer.inserted
    assert trained.run(item.fake_quant.scale)[1].shape == (1, 1, 8)


def test_gradients_of_tables_stay_sparse() -> None:
    """The gradient of an embedding table holds the gathered rows only, as without a quantizer."""
    tf = tensorflow()
    for name in ("embedding", "embedding_resource"):
        with tf.Graph().as_default() as graph:
            net = _CASES[name]()
            from graphwq import WeightQuantizer

            WeightQuantizer(bits=4)
            (gradient,) = tf.gradients(net.output, tf.trainable_variables())
            assert isinstance(gradient, tf.IndexedSlices), (name, graph)
