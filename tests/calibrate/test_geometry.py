"""Rows times vectors are what TensorFlow's op computes, for every op that is calibrated."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

import graphwq.calibrate.geometry as geometry_module
from graphwq.calibrate.activations import Activations
from graphwq.calibrate.geometry import geometry
from graphwq.calibrate.layer import layer_of, observe
from graphwq.errors import UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.quant.scheme import PerChannel, PerGroup
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.tf1.session import Runner, tensorflow

pytestmark = pytest.mark.tf


def _graph(make: Any) -> Graph:
    """The graph that a function of ``tf`` builds."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        make(tf)
    return Graph.parse(graph.as_graph_def().SerializeToString())


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def _conv(tf: Any, x: Any, **options: Any) -> None:
    tf.nn.conv2d(x, tf.constant(_random(1, 3, 2, 4, 5), name="w"), name="y", **options)


def _depthwise(tf: Any, x: Any, **options: Any) -> None:
    w = tf.constant(_random(1, 3, 3, 4, 2), name="w")
    tf.nn.depthwise_conv2d_native(x, w, name="y", **options)


def _conv3d(tf: Any, x: Any, **options: Any) -> None:
    tf.nn.conv3d(x, tf.constant(_random(1, 2, 3, 2, 4, 5), name="w"), name="y", **options)


_IMAGE = (2, 7, 8, 4)
_CASES: List[Tuple[str, Any, Tuple[int, ...], Dict[str, Any]]] = [
    ("same", _conv, _IMAGE, {"strides": [1, 1, 1, 1], "padding": "SAME"}),
    ("valid, stride 2", _conv, _IMAGE, {"strides": [1, 2, 2, 1], "padding": "VALID"}),
    ("same, stride 2 and 3", _conv, _IMAGE, {"strides": [1, 2, 3, 1], "padding": "SAME"}),
    (
        "dilated",
        _conv,
        _IMAGE,
        {"strides": [1, 1, 1, 1], "padding": "SAME", "dilations": [1, 2, 2, 1]},
    ),
    (
        "explicit",
        _conv,
        _IMAGE,
        {"strides": [1, 1, 1, 1], "padding": [[0, 0], [2, 1], [0, 3], [0, 0]]},
    ),
    ("depthwise", _depthwise, _IMAGE, {"strides": [1, 1, 1, 1], "padding": "SAME"}),
    ("depthwise, stride", _depthwise, _IMAGE, {"strides": [1, 2, 2, 1], "padding": "VALID"}),
    ("3d", _conv3d, (2, 4, 5, 6, 4), {"strides": [1, 1, 2, 1, 1], "padding": "SAME"}),
]


def _products(graph: Graph, feeds: Dict[str, np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """All outputs of the weight's op, sorted, and all products of its rows and vectors, sorted."""
    view = build(graph)
    (site,) = locate_in(view).sites
    (consumer,) = site.consumers
    node = view.main.nodes[consumer.node]
    how = geometry(node, consumer)
    weight = view.main.nodes["w"].tensor().numpy()
    products = []
    with Runner(graph) as runner:
        tensor = node.data_inputs[how.activation]
        values = runner.run([f"{tensor}:0", "y:0"], feeds)
        for block in how.blocks(weight.shape):
            rows, vectors = block.arrange(weight), block.unfold(values[f"{tensor}:0"])
            products.append(np.matmul(vectors, rows.swapaxes(1, 2)).reshape(-1))
    return np.sort(values["y:0"].reshape(-1)), np.sort(np.concatenate(products))


@pytest.mark.parametrize(
    ("make", "shape", "options"),
    [case[1:] for case in _CASES],
    ids=[case[0] for case in _CASES],
)
def test_convolutions(make: Any, shape: Tuple[int, ...], options: Dict[str, Any]) -> None:
    """Every output value is the product of one row and one vector."""
    graph = _graph(lambda tf: make(tf, tf.placeholder(tf.float32, shape, name="x"), **options))
    outputs, products = _products(graph, {"x:0": _random(2, *shape)})
    assert np.allclose(products, outputs, atol=1e-4)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("is_left", [False, True])
def test_matrices(transpose_a: bool, transpose_b: bool, is_left: bool) -> None:
    """MatMul with the weight on either side and every transposition."""
    left = (6, 5) if transpose_a else (5, 6)
    right = (3, 6) if transpose_b else (6, 3)

    def make(tf: Any) -> None:
        x = tf.placeholder(tf.float32, right if is_left else left, name="x")
        w = tf.constant(_random(1, *(left if is_left else right)), name="w")
        pair = (w, x) if is_left else (x, w)
        tf.matmul(*pair, transpose_a=transpose_a, transpose_b=transpose_b, name="y")

    outputs, products = _products(_graph(make), {"x:0": _random(2, *(right if is_left else left))})
    assert np.allclose(products, outputs, atol=1e-4)


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 3), (2, 4), (3, 5), (3, 2)])
def test_transposed_convolutions(stride: int, kernel: int) -> None:
    """Of the full products of all phases those inside the output are the output's values."""
    side = 4

    def make(tf: Any) -> None:
        x = tf.placeholder(tf.float32, (1, side, side, 3), name="x")
        w = tf.constant(_random(1, kernel, kernel, 2, 3), name="w")
        full = (side - 1) * stride + kernel
        tf.nn.conv2d_transpose(x, w, [1, full, full, 2], [1, stride, stride, 1], "VALID", name="y")

    graph = _graph(make)
    outputs, products = _products(graph, {"x:0": _random(2, 1, side, side, 3)})
    outputs = outputs[np.abs(outputs) > 1e-6]  # a stride beyond the kernel leaves gaps
    found = [products[np.abs(products - value).argmin()] for value in outputs]
    assert np.allclose(found, outputs, atol=1e-4)
    assert len(products) >= len(outputs)


def _layer(graph: Graph, granularity: Any = None) -> Any:
    granularity = granularity or PerChannel((3,))
    view = build(graph)
    site = next(site for site in locate_in(view).sites if site.node == "w")
    with Runner(graph) as runner:
        return layer_of(runner, view.main, site, np.dtype(np.float32), granularity)


def test_a_split_weight_is_found_in_its_pieces() -> None:
    """A grouped convolution: each piece meets its own inputs, all values are covered once."""

    def make(tf: Any) -> None:
        x = tf.placeholder(tf.float32, (1, 5, 5, 32), name="x")
        w = tf.constant(_random(1, 3, 3, 16, 24), name="w")
        pieces = zip(tf.split(x, 2, 3), tf.split(w, 2, 3))
        tf.concat([tf.nn.conv2d(a, b, [1, 1, 1, 1], "SAME") for a, b in pieces], 3, name="y")

    layer = _layer(_graph(make))
    assert len(layer.uses) == 2
    together = np.concatenate([use.index.reshape(-1) for use in layer.uses])
    assert sorted(together) == list(range(3 * 3 * 16 * 24))
    channels = {tuple(np.unique(use.index % 24)) for use in layer.uses}
    assert channels == {tuple(range(12)), tuple(range(12, 24))}
    for use in layer.uses:  # the columns of a row are the same inputs for every row
        assert (use.index[0] // 24 == use.index[0, 0] // 24).all()


def test_conv1d_goes_through_its_reshape() -> None:
    """ExpandDims on weight and input: the index map follows."""

    def make(tf: Any) -> None:
        x = tf.placeholder(tf.float32, (2, 9, 3), name="x")
        tf.nn.conv1d(x, tf.constant(_random(1, 3, 3, 4), name="w"), 1, "SAME", name="y")

    layer = _layer(_graph(make), PerChannel((2,)))
    assert layer.uses[0].index.shape == (1, 4, 9)
    assert (layer.uses[0].index[0] % 4 == np.arange(4)[:, None]).all()


def test_a_shared_weight_adds_what_both_ops_see() -> None:
    """Two convolutions of one weight: one problem whose Hessian is the sum."""

    def make(tf: Any) -> None:
        w = tf.constant(_random(1, 1, 1, 3, 2), name="w")
        for name in "ab":
            x = tf.placeholder(tf.float32, (1, 4, 4, 3), name=name)
            tf.nn.conv2d(x, w, [1, 1, 1, 1], "SAME", name=f"y{name}")

    graph = _graph(make)
    view = build(graph)
    (site,) = locate_in(view).sites
    feeds = {f"{name}:0": _random(index, 1, 4, 4, 3) for index, name in enumerate("ab")}
    with Runner(graph) as runner:
        layer = layer_of(runner, view.main, site, np.dtype(np.float32), PerChannel((3,)))
        ((seen,),) = observe(layer, Activations(runner, view.main, [feeds]))
    expected = sum(
        value.reshape(-1, 3).T @ value.reshape(-1, 3) / np.square(value).sum()
        for value in feeds.values()
    )
    assert np.allclose(seen.hessian[0], expected, rtol=1e-3, atol=1e-5)
    assert np.array_equal(seen.hessian, seen.own)


def test_what_cannot_be_calibrated_says_why() -> None:
    """Groups of inputs, tables, and operands that are computed."""

    def gather(tf: Any) -> None:
        tf.gather(tf.constant(_random(1, 50, 8), name="w"), tf.placeholder(tf.int32, (3,)))

    with pytest.raises(UnsupportedError, match="embedding table"):
        _layer(_graph(gather), PerChannel((0,)))

    def plain(tf: Any) -> None:
        _conv(tf, tf.placeholder(tf.float32, _IMAGE), strides=[1, 1, 1, 1], padding="SAME")

    with pytest.raises(UnsupportedError, match="no scales per group"):
        _layer(_graph(plain), PerGroup((3,), 2, 2))


def test_a_layer_of_too_many_inputs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded: the size that would be needed is named."""
    import graphwq.calibrate.layer as layer_module

    monkeypatch.setattr(layer_module, "MAX_COLUMNS", 10)

    def plain(tf: Any) -> None:
        _conv(tf, tf.placeholder(tf.float32, _IMAGE), strides=[1, 1, 1, 1], padding="SAME")

    with pytest.raises(UnsupportedError, match="24 inputs per output"):
        _layer(_graph(plain))


def test_positions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large image gives no more vectors than the limit."""
    monkeypatch.setattr(geometry_module, "POSITIONS", 11)
    graph = _graph(
        lambda tf: _conv(
            tf, tf.placeholder(tf.float32, _IMAGE, name="x"), strides=[1, 1, 1, 1], padding="SAME"
        )
    )
    view = build(graph)
    (site,) = locate_in(view).sites
    block = geometry(view.main.nodes["y"], site.consumers[0]).blocks(site.shape)[0]
    assert block.unfold(_random(1, *_IMAGE)).shape == (1, 11, 24)


def test_long_vectors_are_taken_less_often() -> None:
    """X^T X takes n^2 products a vector; half as many vectors as numbers in a sample at least."""
    assert [geometry_module.positions(n) for n in (1, 9, 576, 780)] == [8192] * 4
    assert geometry_module.positions(1000) == 5000
    assert geometry_module.positions(4096) == 2048
