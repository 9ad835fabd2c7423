"""The fake-quantization of one tensor as ops of a live graph.

    scale = absmax / T            T = 2^(bits-1) - 1, absmax over the axes that are not kept
    codes = clip(round_half_even(w / scale), -T, T)
    value = codes * scale

in the arithmetic of graphwq.quant, so that a frozen graph quantizes to the same numbers. The
gradient passes Round as if it were Identity and is the true one everywhere else: it also flows
through the absmax and both uses of the scale, as in mnncompress.tensorflow.weight_quantizer. The
override names TensorFlow's own "Identity", so that a MetaGraph of this graph can be differentiated
in a program that never heard of graphwq.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from graphwq.quant.scheme import max_code
from graphwq.tf1.load import training_tensorflow as tensorflow

#: Below the smallest normal float32 a group counts as all zero: scale 1, codes 0 (quant/scale.py).
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class FakeQuant:
    """Tensors of one fake-quantization.

    Attributes:
        scale: float32, rank of the weight, 1 on the reduced axes.
        codes: whole numbers -T..T as floats, shape of the weight.
        value: codes * scale, shape and dtype of the weight.
    """

    scale: Any
    codes: Any
    value: Any


def fake_quant(tensor: Any, reduced: Sequence[int], bits: int, epsilon: float = 0.0) -> FakeQuant:
    """Fake-quantize ``tensor``, one scale for all values along the ``reduced`` axes.

    Args:
        tensor: float16, float32 or float64.
        reduced: axes, may count from the end; none gives every value a scale of its own.
        bits: 2..8.
        epsilon: added to the scale, as mnncompress does (1e-9); 0 guards groups of zeros instead.
    """
    tf = tensorflow()
    top = float(max_code(bits))
    dtype = tensor.dtype.base_dtype
    work = tf.cast(tensor, tf.float32) if dtype == tf.float16 else tensor
    absmax = tf.reduce_max(tf.abs(work), axis=tuple(reduced), keepdims=True)
    scale = _with_epsilon(absmax, top, epsilon) if epsilon else _exact(absmax, top)
    with tf.get_default_graph().gradient_override_map({"Round": "Identity"}):
        rounded = tf.round(work / tf.cast(scale, work.dtype.base_dtype))
    codes = tf.cast(tf.clip_by_value(rounded, -top, top), tf.float32)
    return FakeQuant(scale, codes, tf.cast(codes * scale, dtype))


def _with_epsilon(absmax: Any, top: float, epsilon: float) -> Any:
    """As mnncompress writes it; TensorFlow's optimizer makes absmax * (1 / top) of it."""
    return tensorflow().cast(absmax / top, "float32") + epsilon


def _exact(absmax: Any, top: float) -> Any:
    """fl(absmax / T), as graphwq.quant.scale and the MNN converter compute it.

    The optimizer replaces a division by a constant by a product with its reciprocal, which differs
    in the last bit; DivNoNan it leaves alone. A float32 quotient is a scale that the converter
    derives again; a rounded float64 one becomes so by going once through the converter's formula.
    """
    tf = tensorflow()
    scale = tf.cast(tf.div_no_nan(absmax, tf.constant(top, absmax.dtype)), tf.float32)
    if absmax.dtype == tf.float64:
        scale = tf.div_no_nan(scale * top, tf.constant(top))
    return tf.where(scale < _SMALLEST, tf.ones_like(scale), scale)
