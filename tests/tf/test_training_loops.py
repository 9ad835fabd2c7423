"""Other people's training loops: MonitoredTrainingSession, Estimator, tf.keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

import graphwq
from graphwq import CallOrderError, WeightQuantizer
from graphwq.tf1.strip import strip_wq_ops

from .training import Net, config, fed, run_pb, tensorflow

pytestmark = [pytest.mark.tf, pytest.mark.tf1]


def _pruned(shape: Any, resource: bool = False, name: str = "w") -> Any:
    tf = tensorflow()
    value = np.random.RandomState(0).randn(*shape).astype(np.float32)
    value[::2] = 0
    return tf.get_variable(name, initializer=value, use_resource=resource)


def _net(resource: bool = False) -> Net:
    tf = tensorflow()
    x, feeds = fed((16,))
    return Net(tf.matmul(x, _pruned((16, 8), resource), name="out"), feeds)


def _odd_rows_only(weight: np.ndarray) -> bool:
    used = np.abs(weight).max(1) > 0
    return bool((used == (np.arange(len(weight)) % 2 == 1)).all())


def _step(output: Any) -> Any:
    tf = tensorflow()
    loss = tf.reduce_mean(tf.square(output - 0.5))
    return tf.train.AdamOptimizer(0.01).minimize(
        loss, global_step=tf.train.get_or_create_global_step()
    )


@pytest.mark.parametrize("resource", [False, True])
@pytest.mark.parametrize("with_hook", [False, True])
def test_monitored_training_session(resource: bool, with_hook: bool, tmp_path: Path) -> None:
    """mnncompress: init fails, because the graph is finalized.

    The calls can be made by hand, or by a hook. ``update`` runs behind the hooks' backs: one that
    stops after five steps counts the steps of the optimizer only.
    """
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        net = _net(resource)
        quantizer = WeightQuantizer(bits=4)
        step = _step(net.output)
        runs: List[int] = []

        class Counts(tf.train.SessionRunHook):  # type: ignore[name-defined,misc]
            def after_run(self, *_args: Any) -> None:
                runs.append(1)

        hooks = [tf.train.StopAtStepHook(last_step=5), Counts()]
        hooks += [quantizer.hook()] if with_hook else []
        with tf.train.MonitoredTrainingSession(hooks=hooks, config=config()) as session:
            count = len(graph.get_operations())
            if not with_hook:
                quantizer.init(session)
            while not session.should_stop():
                session.run(step, net.feeds)
                quantizer.update(session)
                if len(runs) == 4:
                    weight = session.run_step_fn(
                        lambda step_context: step_context.session.run(
                            "w/read:0" if not resource else "w/Read/ReadVariableOp:0"
                        )
                    )
                    quantizer.export(session, "out", tmp_path / "baked.pb")
        assert len(runs) == 5
        assert len(graph.get_operations()) == count
        assert _odd_rows_only(weight)
        assert graphwq.quantize(tmp_path / "baked.pb", 4, "bake", keep_larger=True).quantized
        quantizer.strip_wq_ops()


def test_strip_in_a_monitored_session() -> None:
    """The switch turns in a MonitoredSession as well, and with update it turns back."""
    tf = tensorflow()
    with tf.Graph().as_default():
        net = _net()
        quantizer = WeightQuantizer(bits=2)
        tf.train.get_or_create_global_step()
        with tf.train.MonitoredTrainingSession(config=config()) as session:
            quantizer.init(session)
            quantized = session.run(net.output, net.feeds)
            strip_wq_ops()
            assert not np.array_equal(session.run(net.output, net.feeds), quantized)
            quantizer.update(session)
            np.testing.assert_array_equal(session.run(net.output, net.feeds), quantized)


def test_a_session_made_anew_keeps_the_masks(tmp_path: Path) -> None:
    """After a failure TensorFlow makes a new session: the hook does not initialize twice."""
    tf = tensorflow()
    with tf.Graph().as_default():
        net = _net()
        quantizer = WeightQuantizer(bits=4)
        step = _step(net.output)
        failures = [1]

        class Fails(tf.train.SessionRunHook):  # type: ignore[name-defined,misc]
            def before_run(self, *_args: Any) -> None:
                if failures:
                    failures.pop()
                    raise tf.errors.AbortedError(None, None, "the machine went away")

        hooks = [tf.train.StopAtStepHook(num_steps=3), Fails(), quantizer.hook()]
        with tf.train.MonitoredTrainingSession(
            checkpoint_dir=str(tmp_path), hooks=hooks, config=config()
        ) as session:
            while not session.should_stop():
                session.run(step, net.feeds)
        assert not failures
        with pytest.raises(CallOrderError):
            quantizer.init(session)


#: The quantizers that model functions have built: Estimator copies its params.
_BUILT: List[Any] = []


def _model(features: Any, labels: Any, mode: str, params: Dict[str, Any]) -> Any:
    tf = tensorflow()
    logits = tf.matmul(features["x"], _pruned((16, 4)), name="logits")
    quantizer = WeightQuantizer(bits=4)
    _BUILT.append(quantizer)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, {"logits": logits})
    loss = tf.reduce_mean(tf.square(logits - labels))
    saver = tf.train.CheckpointSaverHook(
        params["folder"], save_steps=1, listeners=[quantizer.saver_listener()]
    )
    return tf.estimator.EstimatorSpec(
        mode,
        loss=loss,
        train_op=_step(logits),
        training_hooks=[quantizer.hook()],
        training_chief_hooks=[saver],
    )


def test_estimator(tmp_path: Path) -> None:
    """mnncompress: init fails, because the graph is finalized. Checkpoints keep the zeros."""
    tf = tensorflow()
    random = np.random.RandomState(0)
    data = {"x": random.randn(32, 16).astype(np.float32)}
    labels = random.randn(32, 4).astype(np.float32)
    _BUILT.clear()
    params = {"folder": str(tmp_path)}
    estimator = tf.estimator.Estimator(_model, str(tmp_path), params=params)
    feed = tf.estimator.inputs.numpy_input_fn(data, labels, 8, None, shuffle=False)

    estimator.train(feed, steps=3)
    assert len(_BUILT) == 1
    assert _BUILT[0].sparsity == {"w": 0.5}
    saved = tf.train.get_checkpoint_state(str(tmp_path)).all_model_checkpoint_paths
    assert [path.rsplit("-", 1)[1] for path in saved] == ["0", "1", "2", "3"]
    for path in saved:  # each was written before the hooks had their turn
        assert _odd_rows_only(tf.train.load_variable(path, "w")), path
    estimator.evaluate(feed, steps=1)
    once = tf.estimator.inputs.numpy_input_fn(data, None, 8, 1, shuffle=False)
    logits = np.stack([item["logits"] for item in estimator.predict(once)])
    weight = estimator.get_variable_value("w")
    scale = np.abs(weight).max(0) / np.float32(7)
    on_grid = np.round(weight / scale) * scale
    np.testing.assert_allclose(logits, data["x"] @ on_grid, rtol=1e-4, atol=1e-5)


def test_keras_fit(tmp_path: Path) -> None:
    """Conv2D, Dense and Embedding in Model.fit with the callback.

    mnncompress: TypeError on Conv2D, Dense skipped in silence.
    """
    tf = tensorflow()
    keras = tf.keras
    with tf.Graph().as_default(), tf.Session(config=config()) as session:
        keras.backend.set_session(session)
        words = keras.layers.Input((9,), dtype="int32", name="words")
        h = keras.layers.Embedding(12, 4)(words)
        h = keras.layers.Reshape((3, 3, 4))(h)
        h = keras.layers.Conv2D(6, 2, activation="relu")(h)
        logits = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(h))
        model = keras.models.Model(words, logits)
        model.compile("adam", "mse")
        quantizer = WeightQuantizer(bits=4)
        assert sorted(quantizer.weights) == [
            "conv2d/kernel",
            "embedding/embeddings",
            "logits/kernel",
        ]
        dense = model.get_layer("logits")
        kernel, bias = dense.get_weights()
        kernel[::2] = 0
        dense.set_weights([kernel, bias])
        random = np.random.RandomState(0)
        x, y = random.randint(0, 12, (32, 9)), random.randn(32, 3)
        losses = model.fit(
            x, y, batch_size=8, epochs=3, verbose=0, callbacks=[quantizer.keras_callback()]
        ).history["loss"]
        assert losses[-1] < losses[0]
        assert quantizer.sparsity["logits/kernel"] == 0.5
        assert not dense.get_weights()[0][::2].any()
        assert dense.get_weights()[0][1::2].all()
        quantized = model.predict(x[:6])
        net = Net(model.output, {"words:0": x[:6].astype(np.int32)})
        quantizer.export(session, [model.output.op.name], tmp_path / "baked.pb")
        np.testing.assert_allclose(
            run_pb(tmp_path / "baked.pb", net), quantized, rtol=1e-5, atol=1e-6
        )
        quantizer.strip_wq_ops()
        quantizer.export(session, [model.output.op.name], tmp_path / "float.pb", bake=False)
        plain = model.predict(x[:6])
        assert not np.allclose(plain, quantized, rtol=1e-3)
        np.testing.assert_allclose(run_pb(tmp_path / "float.pb", net), plain, rtol=1e-5, atol=1e-6)
