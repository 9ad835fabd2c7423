"""Pruned weights stay pruned: what is zero when training starts is set to zero after each step.

All ops are made with the quantizer, so that a finalized graph (MonitoredTrainingSession) needs no
new ones. The masks themselves are numpy arrays that are fed, one byte a weight, and only those of
weights that hold zeros at all: they take part in no checkpoint and need no initialization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

import numpy as np

from graphwq.errors import CallOrderError
from graphwq.tf1.live import creating, raw_run
from graphwq.tf1.load import training_tensorflow as tensorflow

#: A weight of at most this magnitude counts as pruned (mnncompress.tensorflow.weight_quantizer).
PRUNED = 1e-9


@dataclass(frozen=True)
class _Prunable:
    """One variable: its value, the mask (True: kept) to feed, and the op that applies it."""

    name: str
    value: Any
    mask: Any
    apply: Any


class Masks:
    """The masks of the variables of one graph.

    Args:
        graph: gets the ops.
        variables: names of variable nodes; those that are not trained need no mask.
    """

    def __init__(self, graph: Any, variables: Sequence[str]) -> None:
        trained = {item.op.name for item in graph.get_collection("trainable_variables")}
        names = [name for name in variables if not trained or name in trained]
        self._prunable = [_prunable(graph, name) for name in names]
        self._feeds: Dict[Any, np.ndarray] = {}
        self._ops: List[Any] = []

    def find(self, session: Any) -> Dict[str, float]:
        """Look for zeros; returns the part that is zero of each variable.

        Raises:
            CallOrderError: a variable is not initialized.
        """
        tf = tensorflow()
        sparsity: Dict[str, float] = {}
        for item in self._prunable:
            try:
                value = raw_run(session, item.value)
            except tf.errors.FailedPreconditionError as error:
                raise CallOrderError(
                    f"variable {item.name!r} is not initialized: restore the checkpoint, or run "
                    "the initializer, before WeightQuantizer.init"
                ) from error
            kept = np.abs(value) > PRUNED
            sparsity[item.name] = 1.0 - np.count_nonzero(kept) / kept.size
            if not kept.all():
                self._feeds[item.mask] = kept
                self._ops.append(item.apply)
        return sparsity

    def apply(self, session: Any) -> None:
        """Set to zero what was zero."""
        if self._ops:
            raw_run(session, self._ops, self._feeds)


def _prunable(graph: Any, name: str) -> _Prunable:
    tf = tensorflow()
    variable = graph.get_operation_by_name(name)
    (output,) = variable.outputs
    with creating(graph, f"{name}/prune", variable):
        if variable.type == "VarHandleOp":
            dtype, shape = variable.get_attr("dtype"), variable.get_attr("shape")
            value = tf.raw_ops.ReadVariableOp(resource=output, dtype=dtype)
            value.set_shape(shape)
        else:
            value, shape = tf.identity(output), output.shape
        mask = tf.placeholder(tf.bool, shape, name="mask")
        pruned = tf.where(mask, value, tf.zeros_like(value))
        if variable.type == "VarHandleOp":
            apply = tf.raw_ops.AssignVariableOp(resource=output, value=pruned)
        else:
            apply = tf.assign(output, pruned).op
    return _Prunable(name, value, mask, apply)
