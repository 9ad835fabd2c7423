"""The training runs that are compared with mnncompress 0.3.2, bit for bit.

Used by ``record_mnncompress.py``, which records what mnncompress computes, and by
``test_parity.py``. Conv2D, depthwise with multiplier 1 and MatMul with reference variables: what
mnncompress can do. One thread, so that sums have one order.
"""

from __future__ import annotations

import hashlib
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np

STEPS = 200
#: name -> bits, optimizer, part of the weights that is pruned before finetuning
CASES: Dict[str, Tuple[int, str, float]] = {
    "8_bits_sgd": (8, "sgd", 0.0),
    "4_bits_adam": (4, "adam", 0.0),
    "2_bits_momentum": (2, "momentum", 0.0),
    "4_bits_pruned": (4, "adam", 0.5),
}
FLOAT = "float"
_SHAPES = {
    "conv": (3, 3, 3, 8), "depthwise": (3, 3, 8, 1), "pointwise": (1, 1, 8, 16), "dense": (16, 5)
}  # fmt: skip


def train(make_quantizer: Optional[Callable[[int], Any]], case: str) -> Dict[str, np.ndarray]:
    """Train 200 steps; returns the weights. Without ``make_quantizer`` it trains in float."""
    import tensorflow as tf

    tf = tf.compat.v1
    bits, rule, pruned = CASES["4_bits_adam" if case == FLOAT else case]
    random = np.random.RandomState(7)
    images = random.rand(640, 8, 8, 3).astype(np.float32)
    labels = (images.mean((1, 2)).argmax(1) + 2 * (images[:, 0, 0, 0] > 0.5)).astype(np.int32)
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        y = tf.placeholder(tf.int32, [None], name="y")
        weights = {
            name: tf.get_variable(name, initializer=_initial(random, shape, pruned))
            for name, shape in _SHAPES.items()
        }
        h = tf.nn.relu(tf.nn.conv2d(x, weights["conv"], 1, "SAME"))
        h = tf.nn.depthwise_conv2d(h, weights["depthwise"], [1, 1, 1, 1], "SAME")
        h = tf.nn.relu(tf.nn.conv2d(tf.nn.relu(h), weights["pointwise"], 2, "SAME"))
        logits = tf.matmul(tf.reduce_mean(h, [1, 2]), weights["dense"])
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        )
        quantizer = make_quantizer(bits) if make_quantizer is not None else None
        step = _optimizer(tf, rule).minimize(loss)
        start = tf.global_variables_initializer()
    config = tf.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}
    )
    with tf.Session(graph=graph, config=config) as session:
        session.run(start)
        if quantizer is not None:
            quantizer.init(session)
        for index in range(STEPS):
            some = slice(index % 20 * 32, index % 20 * 32 + 32)
            session.run(step, {x: images[some], y: labels[some]})
            if quantizer is not None:
                quantizer.update(session)
        return dict(zip(weights, session.run(list(weights.values()))))


def _initial(random: Any, shape: Tuple[int, ...], pruned: float) -> np.ndarray:
    value = random.randn(*shape) * np.sqrt(2 / np.prod(shape[:-1]))
    return np.where(random.rand(*shape) < pruned, 0, value).astype(np.float32)


def _optimizer(tf: Any, rule: str) -> Any:
    if rule == "sgd":
        return tf.train.GradientDescentOptimizer(0.1)
    if rule == "momentum":
        return tf.train.MomentumOptimizer(0.05, 0.9)
    return tf.train.AdamOptimizer(0.01)


def fingerprint(weights: Dict[str, np.ndarray]) -> str:
    """sha256 over all weights; -0 counts as 0 (mnncompress multiplies by its masks)."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update((weights[name] + np.float32(0)).tobytes())
    return digest.hexdigest()
