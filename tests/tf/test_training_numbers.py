"""The arithmetic of the fake-quantization: the grid of graphwq.quant, and its gradient."""

from __future__ import annotations

from typing import Any, Tuple

import numpy as np
import pytest

from graphwq.quant.quantize import quantize
from graphwq.quant.scheme import PerChannel, QuantScheme, max_code
from graphwq.tf1.insert import fake_quant

from .training import config, tensorflow

pytestmark = [pytest.mark.tf, pytest.mark.tf1]

_BITS = range(2, 9)


def _run(weight: np.ndarray, bits: int, epsilon: float = 0.0) -> Tuple[np.ndarray, ...]:
    """(scale, codes, value) of a weight [n, channels], in a session with all optimizers on."""
    tf = tensorflow()
    with tf.Graph().as_default():
        given = tf.placeholder(weight.dtype, weight.shape)
        made = fake_quant(given, (-2,), bits, epsilon)
        with tf.Session(config=config()) as session:
            return session.run((made.scale, made.codes, made.value), {given: weight})


def _weights(seed: int) -> np.ndarray:
    """[64, 4096]: magnitudes from 1e-30 to 1e30, zeros, ties, powers of two."""
    random = np.random.RandomState(seed)
    weight = random.randn(64, 4096) * 10.0 ** random.uniform(-3, 1, 4096)
    weight[:, :64] *= 10.0 ** random.uniform(-30, 30, 64)
    weight[:, 64:80] = 0
    weight[:, 80:96] = np.round(weight[:, 80:96])
    weight[:, 96:112] = 2.0 ** random.randint(-8, 8, (64, 16))
    return weight


@pytest.mark.parametrize("bits", _BITS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_grid_is_that_of_quantize(bits: int, dtype: Any) -> None:
    """Scale, codes and values equal graphwq.quant bit for bit, on 262144 values a case."""
    with np.errstate(over="ignore"):
        weight = _weights(bits).astype(dtype)
    weight[~np.isfinite(weight)] = 1
    scale, codes, value = _run(weight, bits)
    expected = quantize(weight, QuantScheme(bits, PerChannel((1,))))
    np.testing.assert_array_equal(scale, expected.scale)
    np.testing.assert_array_equal(codes, expected.codes)
    np.testing.assert_array_equal(value, expected.dequantize().astype(dtype))


@pytest.mark.parametrize("bits", _BITS)
def test_the_scale_is_the_quotient(bits: int) -> None:
    """fl(absmax / T), not absmax * fl(1 / T), for a million magnitudes."""
    absmax = np.random.RandomState(bits).uniform(0.5, 1, (1, 1 << 20)).astype(np.float32)
    scale = _run(absmax, bits)[0]
    np.testing.assert_array_equal(scale, absmax / np.float32(max_code(bits)))
    top = np.float32(max_code(bits))
    np.testing.assert_array_equal(scale, (scale * top) / top)  # the converter derives it again


def test_small_and_zero_groups() -> None:
    """All-zero and subnormal groups have scale 1 and codes 0, without NaN."""
    tiny = np.float32(1e-40)
    weight = np.array([[0, tiny, 1e-30, 0.5], [0, -tiny, 0, 0]], np.float32)
    scale, codes, value = _run(weight, 4)
    np.testing.assert_array_equal(codes, [[0, 0, 7, 7], [0, 0, 0, 0]])
    np.testing.assert_array_equal(scale[0, :2], [1, 1])
    assert np.isfinite(value).all()


def test_half_to_even() -> None:
    """Ties round to the even code, as tf.round does (the MNN converter rounds them away)."""
    weight = np.array([[7, 0.5, 1.5, 2.5, -0.5, -2.5]], np.float32).T
    assert _run(weight, 4)[1].ravel().tolist() == [7, 0, 2, 2, 0, -2]


def test_the_epsilon_is_added_to_the_scale() -> None:
    """epsilon is mnncompress' 1e-9: all-zero channels divide by it instead of by a guard."""
    weight = np.array([[0, 1e-6]], np.float32)
    scale, _, value = _run(weight, 8, 1e-9)
    assert scale[0, 0] == np.float32(1e-9)
    np.testing.assert_allclose(scale[0, 1], 1e-6 / 127 + 1e-9, rtol=1e-6)
    assert value[0, 0] == 0


@pytest.mark.parametrize("epsilon", [0.0, 1e-9])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_gradient(bits: int, epsilon: float) -> None:
    """Straight through the rounding, and the true one through both uses of the scale.

    With value = q * s, q = round(w / s), s = max|w| / T and the gradient g of the values:
    dw_i = g_i + [i is the largest] * sign(w_i) / T * sum_j g_j * (q_j - w_j / s).
    """
    tf = tensorflow()
    random = np.random.RandomState(bits)
    weight = random.randn(40, 5).astype(np.float32)
    upstream = random.randn(40, 5).astype(np.float32)
    with tf.Graph().as_default():
        given = tf.placeholder(tf.float32, weight.shape)
        made = fake_quant(given, (-2,), bits, epsilon)
        (gradient,) = tf.gradients(made.value, given, upstream)
        with tf.Session(config=config()) as session:
            found, scale, codes = session.run((gradient, made.scale, made.codes), {given: weight})
    through_scale = (upstream * (codes - weight / scale)).sum(0) / max_code(bits)
    expected = upstream.astype(np.float64)
    largest = np.abs(weight).argmax(0)
    columns = np.arange(5)
    expected[largest, columns] += np.sign(weight[largest, columns]) * through_scale
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    assert np.abs(through_scale).max() > 1e-3


def test_zero_channels_have_a_gradient() -> None:
    """An all-zero channel passes its gradient on unchanged, and can leave zero."""
    tf = tensorflow()
    with tf.Graph().as_default():
        given = tf.placeholder(tf.float32, [3, 1])
        made = fake_quant(given, (-2,), 4)
        (gradient,) = tf.gradients(made.value, given, tf.constant([[1.0], [2.0], [3.0]]))
        with tf.Session(config=config()) as session:
            found = session.run(gradient, {given: np.zeros((3, 1), np.float32)})
    assert found.ravel().tolist() == [1, 2, 3]


def test_no_gradient_function_of_our_own() -> None:
    """The override is TensorFlow's own Identity: a MetaGraph differentiates without graphwq."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        fake_quant(tf.placeholder(tf.float32, [3, 1]), (-2,), 4)
        (op,) = [op for op in graph.get_operations() if op.type == "Round"]
        assert op.get_attr("_gradient_op_type") == b"Identity"
