"""The one place that imports TensorFlow: 1.15, or 2.x through ``tensorflow.compat.v1``.

Under TensorFlow 2 graphs are built and run inside ``with graph.as_default()``, where nothing is
eager; no switch of the program's (``disable_v2_behavior``) is touched.
"""

from __future__ import annotations

import os
import warnings
from types import ModuleType
from typing import Any, Dict

from graphwq.errors import MissingDependencyError

#: Set before the first import, unless the user has set them. The log level hides all but errors;
#: oneDNN (TensorFlow 2) sums in an order of its own, so that graphs which hold the same weights in
#: two forms would not compute the same bits.
_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}


def tensorflow() -> ModuleType:
    """``tf.compat.v1`` with its log turned down, for commands that run a graph.

    Raises:
        MissingDependencyError: TensorFlow is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = _import("running a graph")
    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf


def training_tensorflow() -> ModuleType:
    """``tf.compat.v1`` as the training program has it, its settings left alone.

    Raises:
        MissingDependencyError: TensorFlow 1.15 is not installed.
    """
    tf = _import("training")
    if major(tf) > 1:
        raise MissingDependencyError(
            f"training needs TensorFlow 1.15, and this is TensorFlow {tf.VERSION}: train on Python "
            "3.7 with graphwq[tf]; quantize and verify run here"
        )
    return tf


def major(tf: ModuleType) -> int:
    """1 or 2."""
    return int(tf.VERSION.partition(".")[0])


def every_op(tf: ModuleType) -> Dict[str, Any]:
    """Name -> OpDef of every op that this TensorFlow has, those of loaded libraries included."""
    from tensorflow.core.framework import op_def_pb2

    if major(tf) > 1:
        from tensorflow.python.client import pywrap_tf_session as library
    else:
        from tensorflow.python import pywrap_tensorflow as library
    buffer = library.TF_GetAllOpList()
    try:
        listed = op_def_pb2.OpList.FromString(bytes(library.TF_GetBuffer(buffer)))
    finally:
        library.TF_DeleteBuffer(buffer)
    return {op.name: op for op in listed.op}


def _import(purpose: str) -> ModuleType:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs TensorFlow, which is not installed: install graphwq[tf] on Python "
            "3.7; on later Pythons graphwq[tf2] runs graphs, but does not train"
        ) from error
    return tf.compat.v1  # type: ignore[no-any-return]
