"""From training to MNN: the compression file, and the codes that arrive in the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from graphwq import CallOrderError, InputError, WeightQuantizer
from graphwq.mnn import child, compress_params, model

from .training import Net, Trained, config, fed, tensorflow, train, variable

pytestmark = [pytest.mark.tf, pytest.mark.tf1]


def _net() -> Net:
    """A convolution with bias, one without, a depthwise one, a dense layer with bias."""
    tf = tensorflow()
    x, feeds = fed((8, 8, 3))
    h = tf.nn.conv2d(x, variable("first/kernel", [3, 3, 3, 8]), 2, "SAME", name="first/conv")
    h = tf.nn.relu(tf.nn.bias_add(h, variable("first/bias", [8]), name="first/biased"))
    h = tf.nn.depthwise_conv2d(
        h, variable("deep/kernel", [3, 3, 8, 1]), [1, 1, 1, 1], "SAME", name="deep"
    )
    h = tf.nn.conv2d(
        tf.nn.relu(h), variable("point/kernel", [1, 1, 8, 16], True), 1, "SAME", name="point"
    )
    h = tf.reduce_mean(tf.nn.relu(h), [1, 2])
    logits = tf.nn.bias_add(
        tf.matmul(h, variable("dense/kernel", [16, 5]), name="dense/product"),
        variable("dense/bias", [5]),
        name="dense/logits",
    )
    return Net(tf.nn.softmax(logits, name="out"), feeds)


#: what the converter calls the layers
_NAMES = {
    "first/biased": "first/kernel",
    "deep": "deep/kernel",
    "point": "point/kernel",
    "dense/logits__matmul_converted": "dense/kernel",
}


def _records(path: Path) -> Dict[str, int]:
    return {record.op_name: record.num_bits for record in compress_params.read(path)}


def _rows(codes: np.ndarray) -> np.ndarray:
    """[output channels, values] in the order of MNN."""
    if codes.ndim == 2:
        return codes.T
    order = (2, 3, 0, 1) if codes.shape[3] == 1 else (3, 2, 0, 1)
    return codes.transpose(order).reshape(codes.shape[2 if order[0] == 2 else 3], -1)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("bake", [True, False])
def test_codes_arrive_in_the_model(bits: int, bake: bool, tmp_path: Path) -> None:
    """pb and compression file go through mnnconvert; every code and scale is that of training.

    mnncompress: save_compress_params is an AttributeError, always.
    """
    if not child.is_installed():
        pytest.skip("the MNN package is not installed")
    trained = train(_net, bits)
    quantizer = trained.quantizer
    quantizer.save_compress_params(tmp_path / "params.bin")
    quantizer.export(trained.session, "out", tmp_path / "frozen.pb", bake)
    assert _records(tmp_path / "params.bin") == dict.fromkeys(_NAMES, bits)
    child.convert(
        tmp_path / "frozen.pb",
        tmp_path / "out.mnn",
        ["--compressionParamsFile", str(tmp_path / "params.bin")],
    )
    converted = {layer.name: layer for layer in model.read(tmp_path / "out.mnn").layers}
    computed = {item.insertion.weight: item.fake_quant for item in quantizer.inserted}
    assert set(converted) == set(_NAMES)
    for name, weight in _NAMES.items():
        stored = converted[name].quantized
        assert stored is not None
        scale, codes = trained.run(computed[weight].scale, computed[weight].codes)[1:]
        np.testing.assert_array_equal(stored.codes, _rows(codes), name)
        np.testing.assert_array_equal(stored.scale, scale.ravel(), name)
    result = child.run(tmp_path / "out.mnn", {"x": trained.net.feeds["x:0"]}, ["out"], tmp_path)
    np.testing.assert_allclose(result["out"], trained.run(), rtol=1e-4, atol=1e-5)


def test_pruned_weights_arrive_as_zeros(tmp_path: Path) -> None:
    """Zeros that were there at init are zeros in the model."""
    if not child.is_installed():
        pytest.skip("the MNN package is not installed")

    def build() -> Net:
        tf = tensorflow()
        x, feeds = fed((32,))
        value = np.random.RandomState(0).randn(32, 16).astype(np.float32)
        value[::2] = 0
        w = tf.get_variable("w", initializer=value)
        return Net(tf.matmul(x, w, name="out"), feeds)

    trained = train(build)
    trained.quantizer.save_compress_params(tmp_path / "p.json")
    trained.quantizer.export(trained.session, "out", tmp_path / "a.pb")
    child.convert(
        tmp_path / "a.pb", tmp_path / "a.mnn", ["--compressionParamsFile", str(tmp_path / "p.json")]
    )
    (layer,) = model.read(tmp_path / "a.mnn").layers
    assert layer.quantized is not None
    assert not layer.quantized.codes[:, ::2].any()
    assert layer.quantized.codes[:, 1::2].any()


def test_names_with_and_without_outputs(tmp_path: Path) -> None:
    """Named outputs, those of the last export, or the ends of the graph: the same records."""
    trained = train(_net)
    quantizer, path = trained.quantizer, tmp_path / "a.json"
    for options in (
        {},
        {"output_names": ["out"]},
        {"output_names": "out", "sess": trained.session},
    ):
        quantizer.save_compress_params(path, **options)
        assert sorted(_records(path)) == sorted(_NAMES)
    quantizer.export(trained.session, "point", tmp_path / "a.pb")
    quantizer.save_compress_params(path)
    assert sorted(_records(path)) == ["deep", "first/biased", "point"]
    assert json.loads(path.read_text())["forGuide"] is True


@pytest.mark.parametrize("name", ["p.bin", "p.json"])
def test_appending(name: str, tmp_path: Path) -> None:
    """What a pruner has written stays; the records of the last training win."""
    path = tmp_path / name
    other = compress_params.Record("other", "", 8)
    path.write_bytes(compress_params.create([other], "id", compress_params.is_json(path)))
    four, two, three = train(_net, 4), train(_net, 2), train(_net, 3)
    four.quantizer.save_compress_params(path, append=True)
    two.quantizer.save_compress_params(str(path), append=True)
    assert _records(path) == {**dict.fromkeys(_NAMES, 2), "other": 8}
    three.quantizer.save_compress_params(path)
    assert _records(path) == dict.fromkeys(_NAMES, 3)


def test_appending_to_a_pruner_of_mnncompress(tmp_path: Path) -> None:
    """A Pipeline of version, prune algorithm and uuid, as mnncompress writes it, keeps them."""
    from graphwq.graphdef.wire import delimited

    pruned = delimited(2, b"\x08\x01" + delimited(3, b"\x08\x01"))
    path = tmp_path / "pruner.bin"
    path.write_bytes(delimited(1, b"0.0.0") + pruned + delimited(3, b"the-uuid"))
    trained = train(_net)
    trained.quantizer.save_compress_params(path, append=True)
    data = path.read_bytes()
    assert pruned in data
    assert delimited(3, b"the-uuid") in data
    assert sorted(_records(path)) == sorted(_NAMES)


def test_bad_calls(tmp_path: Path) -> None:
    """Before init, with a closed session, on a file that is none: an error, the old file stays.

    mnncompress, with its attribute mended: ZeroDivisionError before init.
    """
    tf = tensorflow()
    path = tmp_path / "p.bin"
    with tf.Graph().as_default():
        _net()
        quantizer = WeightQuantizer()
        with pytest.raises(CallOrderError, match="before save_compress_params"):
            quantizer.save_compress_params(path)
    trained: Trained = train(_net)
    path.write_bytes(b"no compression file")
    with pytest.raises(InputError, match="not an MNN compression file"):
        trained.quantizer.save_compress_params(path, append=True)
    assert path.read_bytes() == b"no compression file"
    with pytest.raises(InputError, match="cannot read"):
        trained.quantizer.save_compress_params(tmp_path / "no.bin", append=True)
    trained.session.close()
    with pytest.raises(CallOrderError, match="closed"):
        trained.quantizer.save_compress_params(path)
    with tf.Session(graph=trained.session.graph, config=config()) as session:
        session.run("init")
        trained.quantizer.save_compress_params(path, sess=session)
    assert _records(path)


def test_partitioned_weights_stay_float(tmp_path: Path) -> None:
    """The converter joins the parts and would choose other scales: no record promises otherwise."""

    def build() -> Net:
        tf = tensorflow()
        x, feeds = fed((32,))
        parts: Any = tf.fixed_size_partitioner(2, axis=0)
        h = tf.matmul(x, variable("w", [32, 8], partitioner=parts), name="joined")
        return Net(tf.matmul(h, variable("v", [8, 4]), name="out"), feeds)

    trained = train(build)
    trained.quantizer.save_compress_params(tmp_path / "p.bin")
    assert sorted(_records(tmp_path / "p.bin")) == ["out__matmul_converted"]
