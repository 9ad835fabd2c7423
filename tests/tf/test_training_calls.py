"""The calls of WeightQuantizer: their order, their errors, and what they add to a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import graphwq
from graphwq import ArgumentError, CallOrderError, InputError, WeightQuantizer

from .training import Net, Trained, config, fed, tensorflow, train, variable

pytestmark = [pytest.mark.tf, pytest.mark.tf1]


def _dense(resource: bool = False) -> Net:
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.matmul(x, variable("w", [16, 8], resource), name="out"), feeds)


def _sparse() -> Net:
    """Half of the weights are pruned, and a bias that is no weight is zero."""
    tf = tensorflow()
    x, feeds = fed((16,))
    value = np.random.RandomState(0).randn(16, 8).astype(np.float32)
    value[::2] = 0
    w = tf.get_variable("w", initializer=value)
    r = tf.get_variable("r", initializer=value[:8, :4].copy(), use_resource=True)
    bias = tf.get_variable("bias", [4], initializer=tf.zeros_initializer())
    return Net(tf.add(tf.matmul(tf.tanh(tf.matmul(x, w)), r), bias, name="out"), feeds)


def _message(error: Any) -> str:
    return str(error.value)


@pytest.mark.parametrize("bits", [1, 9, 0, -4, 3.5, "4", None, True, 100])
def test_bits_out_of_range(bits: Any) -> None:
    """Bits outside of 2..8 are a ValueError, as in mnncompress, and an InputError."""
    with tensorflow().Graph().as_default():
        _dense()
        with pytest.raises(ValueError, match="from 2 to 8") as error:
            WeightQuantizer(bits=bits)
        assert isinstance(error.value, InputError)


def test_whole_floats_are_bits() -> None:
    """bits=4.0 works in mnncompress."""
    with tensorflow().Graph().as_default():
        _dense()
        assert WeightQuantizer(bits=4.0).bits == 4


def test_initializing_twice() -> None:
    """A RuntimeError, as in mnncompress, and an InputError."""
    trained = train(_dense, steps=1)
    with pytest.raises(RuntimeError, match="only once") as error:
        trained.quantizer.init(trained.session)
    assert isinstance(error.value, (CallOrderError, InputError))


def test_updating_before_initializing() -> None:
    """A RuntimeError, as in mnncompress, that says what to call."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        _dense()
        quantizer = WeightQuantizer()
        with pytest.raises(RuntimeError, match=r"init\(sess\) before update"):
            quantizer.update(session)


def test_initializing_before_the_variables() -> None:
    """The variable is named. mnncompress: TensorFlow's FailedPreconditionError."""
    tf = tensorflow()
    for resource in (False, True):
        with tf.Graph().as_default(), tf.Session() as session:
            _dense(resource)
            quantizer = WeightQuantizer()
            with pytest.raises(CallOrderError, match="'w' is not initialized"):
                quantizer.init(session)
            session.run(tf.global_variables_initializer())
            quantizer.init(session)


def _gradients(net: Net) -> None:
    tensorflow().gradients(net.output, tensorflow().trainable_variables())


def _gradients_of_another_name(net: Net) -> None:
    tf = tensorflow()
    tf.gradients(net.output, tf.trainable_variables(), name="backward")  # a MatMul alone


def _adam(net: Net) -> None:
    tensorflow().train.AdamOptimizer().minimize(tensorflow().reduce_mean(net.output))


def _only_an_update(net: Net) -> None:
    tf = tensorflow()
    (w,) = tf.trainable_variables()
    tf.raw_ops.ApplyGradientDescent(
        var=w._ref(), alpha=tf.constant(0.1), delta=tf.zeros_like(w) + tf.reduce_mean(net.output)
    )


@pytest.mark.parametrize("build", [_gradients, _gradients_of_another_name, _adam, _only_an_update])
def test_after_the_optimizer(build: Callable[[Net], None]) -> None:
    """A ValueError that names the op; the gradients would go past the quantization."""
    with tensorflow().Graph().as_default() as graph:
        build(_dense())
        with pytest.raises(ValueError, match="before the optimizer") as error:
            WeightQuantizer()
        assert isinstance(error.value, ArgumentError)
        nodes = {op.name for op in graph.get_operations()}
        assert not [name for name in nodes if name.startswith("graphwq")]


def test_after_the_optimizer_in_a_meta_graph() -> None:
    """Gradients that were built in another program are found by type and by name."""
    tf = tensorflow()
    with tf.Graph().as_default():
        _gradients(_dense())  # a MatMul alone: no op type tells
        meta = tf.train.export_meta_graph()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)
        with pytest.raises(ValueError, match="gradients/out_grad/"):
            WeightQuantizer()


def test_what_only_looks_like_a_gradient() -> None:
    """mnncompress: "gradient op found" for a transposed convolution and for PreventGradient."""
    tf = tensorflow()
    with tf.Graph().as_default():
        x, _ = fed((8, 8, 4))
        with tf.name_scope("gradients_of_color/my_grad"):
            y = tf.nn.conv2d_transpose(x, variable("w", [3, 3, 5, 4]), [6, 16, 16, 5], 2)
            y = tf.stop_gradient(y) + tf.raw_ops.PreventGradient(input=y, message="")
        tf.identity(y, name="Grad")
        assert WeightQuantizer().weights == ("w",)


def test_no_weight() -> None:
    """mnncompress builds a quantizer of nothing."""
    tf = tensorflow()
    for build in (lambda: tf.placeholder(tf.float32, [2, 2]) * 2.0, lambda: None):
        with tf.Graph().as_default():
            build()
            with pytest.raises(ValueError, match="no weight found"):
                WeightQuantizer()


def test_two_quantizers() -> None:
    """A second one on the same graph would quantize twice; after stripping it is welcome."""
    tf = tensorflow()
    with tf.Graph().as_default():
        _dense()
        WeightQuantizer(bits=4)
        with pytest.raises(RuntimeError, match="strip_wq_ops before"):
            WeightQuantizer(bits=2)
        graphwq.strip_wq_ops()
        second = WeightQuantizer(bits=2)
        assert second.weights == ("w",)
        assert [item.insertion.kind for item in second.inserted] == ["whole"]


def test_another_graph_than_the_default(tmp_path: Path) -> None:
    """mnncompress strips the default graph, whatever graph it was given."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        net = _dense()
    other = tf.Graph()
    with other.as_default():
        quantizer = WeightQuantizer(graph, bits=4)
        assert other.get_operations() == []
        session = tf.Session(graph=graph)
        with graph.as_default():
            session.run(tf.global_variables_initializer())
        quantizer.init(session)
        quantizer.update(session)
        quantized = session.run(net.output, net.feeds)
        quantizer.strip_wq_ops()
        assert not np.array_equal(session.run(net.output, net.feeds), quantized)
        quantizer.update(session)
        np.testing.assert_array_equal(session.run(net.output, net.feeds), quantized)
        graphwq.strip_wq_ops(graph)
        quantizer.export(session, ["out"], tmp_path / "a.pb")
        assert other.get_operations() == []


def test_wherever_it_is_called() -> None:
    """Control dependencies, scopes and devices of the caller do not get into the new ops."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        net = _dense()
        fails = tf.Assert(False, ["never"], name="fails")
        with tf.control_dependencies([fails]), tf.name_scope("mine"), tf.device("/gpu:7"):
            WeightQuantizer()
        new = [op for op in graph.get_operations() if op.name.startswith("graphwq/")]
        assert len(new) > 5
        assert all("gpu" not in op.device.lower() for op in new)
        assert not [op for op in graph.get_operations() if op.name.startswith("mine")]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run(net.output, net.feeds)


def test_a_finalized_graph() -> None:
    """init, update and strip add no op. mnncompress: init fails (it adds Assign ops)."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        net = _sparse()
        quantizer = WeightQuantizer(bits=4)
        step = tf.train.AdamOptimizer().minimize(tf.reduce_mean(net.output))
        session.run(tf.global_variables_initializer())
        graph.finalize()
        count = len(graph.get_operations())
        quantizer.init(session)
        for _ in range(2):
            session.run(step, net.feeds)
            quantizer.update(session)
        quantizer.strip_wq_ops()
        quantizer.update(session)
        quantizer.strip_wq_ops()
        assert len(graph.get_operations()) == count


def test_nothing_new_to_initialize_or_to_save(tmp_path: Path) -> None:
    """Checkpoints hold the program's variables only, and old ones restore into the new graph."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        _dense()
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "float"))
    with tf.Graph().as_default(), tf.Session() as session:
        net = _dense()
        quantizer = WeightQuantizer(bits=4)
        assert [item.op.name for item in tf.global_variables()] == ["w"]
        assert tf.local_variables() == []
        tf.train.Saver().restore(session, str(tmp_path / "float"))
        assert session.run(tf.report_uninitialized_variables()).tolist() == []
        quantizer.init(session)
        session.run(net.output, net.feeds)
        tf.train.Saver().save(session, str(tmp_path / "quantized"))
    names = tf.train.list_variables(str(tmp_path / "quantized"))
    assert names == [("w", [16, 8])]


def test_pruned_weights_stay_zero(tmp_path: Path) -> None:
    """Training, baking and integers keep the zeros that were there at init, and no others."""
    trained = train(_sparse, steps=5)
    assert trained.quantizer.sparsity == {"w": 0.5, "r": 0.5}
    for name in ("w", "r"):
        rows = np.abs(trained.after[name]).max(1) == 0
        np.testing.assert_array_equal(rows, np.arange(len(rows)) % 2 == 0)
    assert trained.after["bias"].all()
    for bake in (True, False):
        trained.quantizer.export(trained.session, "out", tmp_path / f"{bake}.pb", bake)
    for storage in ("bake", "dequant"):
        made = graphwq.quantize(tmp_path / "False.pb", 4, storage, keep_larger=True)
        assert not made.quantized["w"].codes[::2].any()
        assert not made.quantized["r"].codes[::2].any()


def test_update_before_the_optimizer_moves_nothing() -> None:
    """Masks are exact: what is not pruned keeps every bit, and -0 is no residue."""
    trained = train(_sparse, steps=1)
    before = trained.session.run("w:0")
    trained.quantizer.update(trained.session)
    assert trained.session.run("w:0").tobytes() == before.tobytes()
    assert not np.signbit(before[::2]).any()


def test_dense_weights_cost_nothing_to_update() -> None:
    """Without zeros update runs nothing at all in the session."""
    trained = train(_dense, steps=1)

    class Refuses:
        def run(self, *_args: Any, **_more: Any) -> None:
            raise AssertionError

    trained.quantizer.update(Refuses())


def test_state_that_is_not_trained_is_not_masked() -> None:
    """A matrix of state starts as zeros and must not be kept there. mnncompress keeps it zero."""
    tf = tensorflow()
    with tf.Graph().as_default(), tf.Session() as session:
        state = tf.get_variable(
            "state", [4, 4], trainable=False, initializer=tf.zeros_initializer()
        )
        tf.matmul(state, variable("w", [4, 4]), name="out")
        quantizer = WeightQuantizer(bits=4)
        change = tf.assign_add(state, tf.ones([4, 4]))
        session.run(tf.global_variables_initializer())
        quantizer.init(session)
        session.run(change)
        quantizer.update(session)
        assert session.run(state).min() == 1
        assert list(quantizer.sparsity) == ["w"]


def test_debug_info(capfd: pytest.CaptureFixture) -> None:
    """debug_info names the weights and their zeros on stderr; without it nothing is printed."""
    train(_sparse, steps=0, debug_info=True)
    found = capfd.readouterr()
    assert "graphwq: w: 4 bits" in found.err
    assert "graphwq: r: 50.0% zeros" in found.err
    assert found.out == ""
    train(_sparse, steps=0)
    assert "graphwq" not in capfd.readouterr().err


def test_skips_say_why() -> None:
    """What stays float has a reason, and weights behind arithmetic are not among it."""
    tf = tensorflow()
    with tf.Graph().as_default():
        x, _ = fed((16,))
        tf.matmul(x, tf.abs(variable("w", [16, 8]))) + variable("bias", [8])
        quantizer = WeightQuantizer()
        reasons = {skip.node: skip.reason for skip in quantizer.skips}
        assert reasons["bias"] == "not_a_weight"
        assert "w" not in reasons
        assert quantizer.weights == ("Abs",)


def test_of_two_computed_inputs_the_right_one_is_the_weight() -> None:
    """The left one may be a state: learned, but no matrix of weights."""
    tf = tensorflow()
    with tf.Graph().as_default():
        state, w = tf.abs(variable("state", [4, 8])), tf.exp(variable("w", [8, 3]))
        product = tf.matmul(state, w).op
        quantizer = WeightQuantizer(bits=4)
        assert quantizer.weights == ("Exp",)
        assert product.inputs[0] is state
        assert product.inputs[1] is not w


def test_random_and_fed_weights_are_left_alone() -> None:
    """Noise on a weight, a weight that is fed or chosen, FakeQuant: no place for a fixed grid."""
    tf = tensorflow()
    with tf.Graph().as_default():
        x, _ = fed((16,))
        w = variable("w", [16, 8])
        tf.matmul(x, w * tf.random.uniform([16, 8]), name="noise")
        tf.matmul(x, w * tf.placeholder(tf.float32, [16, 8]), name="fed")
        choose = tf.placeholder(tf.bool, [])
        tf.matmul(x, tf.cond(choose, lambda: w + 1.0, lambda: w - 1.0), name="chosen")
        tf.matmul(x, tf.quantization.fake_quant_with_min_max_args(w), name="fake")
        with pytest.raises(ValueError, match="no weight found"):
            WeightQuantizer()


def test_functions_are_left_alone_with_a_reason() -> None:
    """A resource that is read inside of a tf.function cannot be rewired; it is said so."""
    import tensorflow as tensorflow_2

    tf = tensorflow()
    with tf.Graph().as_default():
        x, _ = fed((16,))
        inside = variable("inside", [16, 8], True)
        outside = variable("outside", [8, 8])

        @tensorflow_2.function
        def layer(value: Any) -> Any:
            return tf.matmul(value, inside)

        tf.matmul(layer(x), outside)
        quantizer = WeightQuantizer()
        assert quantizer.weights == ("outside",)
        (skip,) = [skip for skip in quantizer.skips if skip.node == "inside"]
        assert skip.reason == "unsupported_form"
        assert "function" in skip.detail


def test_a_closed_session_is_no_obstacle() -> None:
    """Sessions are forgotten when they are closed or gone."""
    trained: Trained = train(_dense, steps=1)
    trained.session.close()
    trained.quantizer.strip_wq_ops()
    with tensorflow().Session(graph=trained.session.graph, config=config()) as session:
        session.run("init")
        session.run(trained.net.output, trained.net.feeds)
