"""The switch between quantized and float weights that a running session obeys.

TensorFlow 1 ignores a change of the graph's edges in a session that has run the ops before. So the
choice is made by an op that is evaluated in every step. It asks whether a variable of graphwq's is
initialized: it is not, in any new session, so nothing has to be initialized or saved for training;
stripping assigns it, resuming destroys it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphwq.tf1.live import FLAG_MARK, creating, mark, mark_of, raw_run
from graphwq.tf1.load import training_tensorflow as tensorflow

_SWITCHING = ("AssignVariableOp", "DestroyResourceOp")


@dataclass(frozen=True)
class Flag:
    """The switch of one quantizer.

    Attributes:
        stripped: scalar bool tensor; true: the weights are float.
    """

    stripped: Any


def new_flag(graph: Any) -> Flag:
    """Add a switch to the graph."""
    tf = tensorflow()
    with creating(graph, "flag"), graph.device("/device:CPU:0"):
        name = graph.unique_name("graphwq/flag/stripped", mark_as_used=False)
        handle = tf.raw_ops.VarHandleOp(
            dtype=tf.float32, shape=(), container="", shared_name=name, name="handle"
        )
        stripped = tf.raw_ops.VarIsInitializedOp(resource=handle, name="stripped")
        strip = tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(1.0), name="strip")
        mark(strip, FLAG_MARK, "strip")
        resume = tf.raw_ops.DestroyResourceOp(
            resource=handle, ignore_lookup_error=True, name="resume"
        )
        mark(resume, FLAG_MARK, "resume")
    return Flag(stripped)


def turn(graph: Any, session: Any, to: str) -> None:
    """Turn all switches of a graph in one session to "strip" or "resume"."""
    found = [
        op
        for op in graph.get_operations()
        if op.type in _SWITCHING and mark_of(op, FLAG_MARK) == to
    ]
    if found:
        raw_run(session, found)
