"""The quantizer in the training loops of others: MonitoredTrainingSession, Estimator, tf.keras."""

from __future__ import annotations

from typing import Any, Dict, Optional

from graphwq.tf1.load import training_tensorflow

tf: Any = training_tensorflow()


class WeightQuantizerHook(tf.train.SessionRunHook):  # type: ignore[misc]
    """Calls ``init`` when the session is there (restored) and ``update`` after each step.

    A session that is made anew after a failure keeps the masks of the first.
    """

    def __init__(self, quantizer: Any) -> None:
        self._quantizer = quantizer

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Called by TensorFlow."""
        del coord
        self._quantizer.attach(session)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Called by TensorFlow."""
        del run_values
        self._quantizer.update(run_context.session)


class WeightQuantizerSaverListener(tf.train.CheckpointSaverListener):  # type: ignore[misc]
    """Calls ``update`` before each checkpoint: TensorFlow writes it before hooks have their turn.

    Without it a pruned weight may be saved in the state between the optimizer and ``update``. In a
    model_fn: ``training_chief_hooks=[tf.train.CheckpointSaverHook(folder, save_steps=1000,
    listeners=[quantizer.saver_listener()])]``.
    """

    def __init__(self, quantizer: Any) -> None:
        self._quantizer = quantizer

    def before_save(self, session: Any, global_step_value: Any) -> None:
        """Called by TensorFlow."""
        del global_step_value
        self._quantizer.attach(session)  # the first checkpoint is written before the first step
        self._quantizer.update(session)


class WeightQuantizerCallback(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Calls ``init`` when ``fit`` begins and ``update`` after each batch."""

    def __init__(self, quantizer: Any) -> None:
        super().__init__()
        self._quantizer = quantizer

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Called by Keras."""
        del logs
        self._quantizer.attach(tf.keras.backend.get_session())

    def on_train_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Called by Keras."""
        del batch, logs
        self._quantizer.update(tf.keras.backend.get_session())
