"""Train a small convolutional network in float, finetune it to 4 and 2 bits, ship it.

    python examples/train_mnist.py                     # scikit-learn's 8x8 digits
    python examples/train_mnist.py --data mnist.npz    # x uint8 [n, height, width], y [n]

The only lines about quantization are marked with (1) to (5). Without --data the MNIST images of
../shared/data are used where they exist. Everything is seeded.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tensorflow_module

import graphwq
from graphwq import WeightQuantizer
from graphwq.mnn import child, model

tf = tensorflow_module.compat.v1
tf.logging.set_verbosity(tf.logging.ERROR)

MNIST = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "mnist_10k.npz"
BATCH = 64


class Data(NamedTuple):
    """Images float32 [n, height, width, 1] in 0..1 and labels; test images are never trained on."""

    name: str
    train: Tuple[np.ndarray, np.ndarray]
    test: Tuple[np.ndarray, np.ndarray]


class Options(NamedTuple):
    """How long to train."""

    float_epochs: int
    finetune_epochs: int
    channels: int


def load(path: Optional[Path]) -> Data:
    """The given images, those of MNIST where they are, or scikit-learn's digits."""
    if path is None and not MNIST.is_file():
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.RandomState(0).permutation(len(digits.target))
        images, labels, name = digits.images[order] / 16.0, digits.target[order], "digits"
    else:
        path = path or MNIST
        with np.load(path, allow_pickle=False) as arrays:
            images, labels, name = arrays["x"] / 255.0, arrays["y"], path.name
    images = images[..., None].astype(np.float32)
    cut = len(images) * 4 // 5
    return Data(name, (images[:cut], labels[:cut]), (images[cut:], labels[cut:]))


def network(images: Any, channels: int) -> Any:
    """Two convolutions and two dense layers."""
    h = tf.layers.conv2d(images, channels, 3, padding="same", activation=tf.nn.relu)
    h = tf.layers.max_pooling2d(h, 2, 2)
    h = tf.layers.conv2d(h, 2 * channels, 3, padding="same", activation=tf.nn.relu)
    h = tf.layers.flatten(tf.layers.max_pooling2d(h, 2, 2))
    h = tf.layers.dense(h, 8 * channels, activation=tf.nn.relu)
    return tf.identity(tf.layers.dense(h, 10), name="logits")


def session_config() -> Any:
    """One thread: the same numbers in every run."""
    return tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def train(
    data: Data, options: Options, folder: Path, bits: Optional[int] = None
) -> Tuple[Path, Optional[Path]]:
    """Train in float, or finetune the float checkpoint to ``bits``.

    Returns:
        the frozen float graph (of the weights that were trained), and the quantized one.
    """
    images, labels = data.train
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        tf.set_random_seed(1)
        x = tf.placeholder(tf.float32, [None, *images.shape[1:]], name="images")
        y = tf.placeholder(tf.int32, [None])
        logits = network(x, options.channels)
        saver = tf.train.Saver(tf.trainable_variables())
        quantizer = WeightQuantizer(bits=bits) if bits else None  # (1) before the optimizer
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
        )
        epochs = options.finetune_epochs if bits else options.float_epochs
        steps = epochs * (len(images) // BATCH)
        count = tf.train.get_or_create_global_step()
        rate = tf.train.cosine_decay(2e-3, count, steps)
        step = tf.train.AdamOptimizer(rate).minimize(loss, global_step=count)
        session.run(tf.global_variables_initializer())
        if quantizer is not None:
            saver.restore(session, str(folder / "float"))
            quantizer.init(session)  # (2) after restoring
        random = np.random.RandomState(2)
        for _ in range(epochs):
            for some in np.array_split(random.permutation(len(images)), len(images) // BATCH):
                session.run(step, {x: images[some], y: labels[some]})
                if quantizer is not None:
                    quantizer.update(session)  # (3) after each step
        if quantizer is None:
            saver.save(session, str(folder / "float"))
            frozen = tf.graph_util.convert_variables_to_constants(
                session, session.graph.as_graph_def(), ["logits"]
            )
            path = folder / "float.pb"
            path.write_bytes(frozen.SerializeToString())
            return path, None
        path, baked = folder / f"float_{bits}bit.pb", folder / f"baked_{bits}bit.pb"
        quantizer.export(session, ["logits"], path, bake=False)  # (4) strips and freezes
        quantizer.export(session, ["logits"], baked, bake=True)
        return path, baked


def accuracy(path: Path, data: Data) -> float:
    """Part of the test images that a frozen graph gets right."""
    images, labels = data.test
    with tf.Graph().as_default(), tf.Session(config=session_config()) as session:
        tf.import_graph_def(tf.GraphDef.FromString(path.read_bytes()), name="")
        logits = session.run("logits:0", {"images:0": images})
    return float(np.mean(logits.argmax(1) == labels))


def mnn_accuracy(path: Path, data: Data) -> float:
    """The same of an MNN model, in MNN's own runtime."""
    images, labels = data.test
    outputs = model.read(path).outputs  # the converter has its own names
    (logits,) = child.run(path, {"images": images}, outputs, path.parent).values()
    return float(np.mean(logits.argmax(1) == labels))


def run(
    data: Data, options: Options, folder: Path, widths: Tuple[int, ...] = (4, 2)
) -> Dict[str, Any]:
    """Every stage and its (accuracy, file)."""
    stages: Dict[str, Tuple[float, Path]] = {}
    plain, _ = train(data, options, folder)
    stages["float"] = accuracy(plain, data), plain
    for bits in widths:
        after = folder / f"post_training_{bits}bit.pb"
        graphwq.quantize(plain, bits, keep_larger=True).save(after)
        stages[f"{bits} bits, without training"] = accuracy(after, data), after
        _, baked = train(data, options, folder, bits)
        assert baked is not None
        small = folder / f"small_{bits}bit.pb"
        graphwq.quantize(baked, bits).save(small)  # (5) the same weights as integers
        stages[f"{bits} bits, finetuned, baked"] = accuracy(baked, data), baked
        stages[f"{bits} bits, finetuned, integers"] = accuracy(small, data), small
        if child.is_installed():
            shipped = folder / f"{bits}bit.mnn"
            graphwq.convert_mnn(baked, shipped, bits)  # proves every code and scale
            stages[f"{bits} bits, finetuned, MNN"] = mnn_accuracy(shipped, data), shipped
    return stages


def main(arguments: Optional[List[str]] = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="an .npz with x and y")
    parser.add_argument("--float-epochs", type=int, default=10)
    parser.add_argument("--finetune-epochs", type=int, default=6)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--out", type=Path, help="folder to keep the files in")
    chosen = parser.parse_args(arguments)
    options = Options(chosen.float_epochs, chosen.finetune_epochs, chosen.channels)
    data = load(chosen.data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{data.name}: {len(data.train[0])} images to train on, {len(data.test[0])} to test")
        for stage, (part, path) in run(data, options, folder).items():
            print(f"{stage:32} {part:8.2%} {path.stat().st_size:10,} bytes")


if __name__ == "__main__":
    sys.exit(main())
