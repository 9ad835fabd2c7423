"""Low bits without data: what calibrated rounding gains over absmax on real graphs.

    python benchmarks/lowbits.py [--corpus DIR] [--bits 4] [--only TEXT] [--out lowbits.md]

Every graph of the corpus that has a convolution, runs, and comes with inputs is quantized twice:
with absmax, and with ``--method auto`` calibrated on made-up inputs. Both results are run on the
inputs of the corpus, which neither has seen. Graphs whose outputs do not depend on the inputs are
left out. Then graphs that take images: without data and calibrated on pieces of one photograph,
both evaluated on pieces of another. Then the pose network at 8, 4, 3 and 2 bits on two photographs,
and graphs that read MNIST digits at 2 bits by their accuracy, without data and with 32 real digits.
Losses are part of the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import support
from support import HERE, ROOT, Table

import graphwq
from graphwq.calibrate.ranges import Range, likely_ranges
from graphwq.calibration import quantize_calibrated
from graphwq.errors import GraphWQError
from graphwq.graphdef.graph import Graph
from graphwq.quant.metrics import sqnr_db
from graphwq.rewrite.options import Options
from graphwq.survey.view import build
from graphwq.tf1.session import Runner

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3D", "_FusedConv2D")
_LIMIT = 100.0
_POSE = "mobilenet_v2_small"
#: Rows and columns of the photographs that it is shown; 427x640 is their own size.
_POSE_SIZES = ((128, 128), (224, 224), (240, 320), (368, 432), (427, 640))
#: Images in a part of real ones; smaller images and larger graphs are left out there.
_SHOTS = 8
_LEAST_SIDE = 24
_LARGEST = 5_000_000
#: Real digits that are calibrated on.
_DIGITS = 32
Arrays = Mapping[str, np.ndarray]


def main() -> int:
    """Run the parts and write the table."""
    parser = argparse.ArgumentParser(description="Measure low bits without data.")
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--only", default="", help="graphs whose name holds this")
    parser.add_argument("--minutes", type=float, help="begin no further graph after so long")
    parser.add_argument("--skip-graphs", action="store_true", help="the parts with real data only")
    parser.add_argument("--out", type=Path, default=HERE / "lowbits.md")
    arguments = parser.parse_args()
    entries = json.loads((arguments.corpus / "manifest.json").read_text())
    tables: List[Tuple[str, Table]] = []
    if not arguments.skip_graphs:
        tables.append(_graphs(arguments, entries))
    for part in (_photographs, _pose, _digits):
        found = part(arguments, entries)
        if found is not None:
            tables.append(found)
    text = "# Low bits without data\n\nWritten by `python benchmarks/lowbits.py`.\n\n"
    text += "\n\n".join(f"{table.markdown()}\n\n{summary}" for summary, table in tables) + "\n"
    arguments.out.write_text(text, encoding="utf-8")
    for summary, _ in tables:
        print(summary)
    return 0


def _outputs(graph: Graph, tensors: Sequence[str], samples: Sequence[Arrays]) -> List[Arrays]:
    with Runner(graph) as runner:
        return [runner.run(tensors, sample) for sample in samples]


def _score(before: Sequence[Arrays], after: Sequence[Arrays]) -> float:
    """Mean SQNR over the float outputs, each over all samples; within +-100 dB."""
    scores = []
    for name in before[0]:
        old = [np.asarray(sample[name]) for sample in before]
        new = [np.asarray(sample[name], old[0].dtype) for sample in after]
        if old[0].dtype.kind != "f" or not all(np.isfinite(one).all() for one in old):
            continue
        signal = sum(float(np.square(one, dtype=np.float64).sum()) for one in old)
        noise = math.inf
        if all(one.shape == two.shape and np.isfinite(two).all() for one, two in zip(old, new)):
            noise = sum(
                float(np.square(one.astype(np.float64) - two).sum()) for one, two in zip(old, new)
            )
        if signal > 0:
            scores.append(min(max(sqnr_db(signal, noise), -_LIMIT), _LIMIT))
    return float(np.mean(scores)) if scores else math.nan


def _auto(
    graph: Graph, bits: int, samples: Sequence[Arrays] = ()
) -> Tuple[Graph, float, Dict[str, int]]:
    """The calibrated graph, seconds, and how many weights have which method.

    Calibrated on ``samples``, or where there are none on made-up inputs.
    """
    begin = time.time()
    options = Options(bits=bits, storage="bake")
    with TemporaryDirectory() as folder:
        feeds = None
        if samples:
            feeds = Path(folder) / "feeds.npz"
            np.savez(feeds, **_joined(samples))
        made = quantize_calibrated(graph, options, feeds, auto=True)
    methods: Dict[str, int] = {}
    for outcome in made.outcomes:
        methods[outcome.method] = methods.get(outcome.method, 0) + 1
    return made.result.graph, time.time() - begin, methods


def _joined(samples: Sequence[Arrays]) -> Dict[str, np.ndarray]:
    """Samples as a file of feeds has them: one batch, or one value for all."""
    return {
        name: np.concatenate([one[name] for one in samples]) if value.ndim else value
        for name, value in samples[0].items()
    }


def _graphs(arguments: argparse.Namespace, entries: Sequence[Any]) -> Tuple[str, Table]:
    rows: List[Tuple[str, ...]] = []
    gains: List[float] = []
    begin, late = time.time(), 0
    for entry in sorted(entries, key=lambda entry: entry["bytes"]):
        if not _wanted(entry, arguments):
            continue
        if arguments.minutes is not None and time.time() - begin > 60 * arguments.minutes:
            late += 1
            continue
        support.note(entry["file"])
        try:
            row = _graph(arguments, entry)
        except GraphWQError as error:
            support.note(f"  left out: {error}")
            continue
        if row is not None:
            rows.append(row[0])
            gains.append(row[1])
            support.note("  " + " ".join(row[0][1:]))
    losses = sum(gain < -1 for gain in gains)
    summary = (
        f"{len(gains)} graphs at {arguments.bits} bits: median gain {median(gains):.1f} dB, mean "
        f"{np.mean(gains):.1f} dB, least {min(gains):.1f} dB; more than 1 dB lost on {losses}."
    )
    if late:
        summary += f" Not measured, for want of time: the {late} largest."
    columns = ("graph", "weights>", "gptq>", "absmax dB>", "auto dB>", "gain>", "seconds>")
    return summary, Table(f"Output SQNR at {arguments.bits} bits, no data", columns, tuple(rows))


def _wanted(entry: Any, arguments: argparse.Namespace) -> bool:
    runs = entry["run_ok"] and entry.get("feed_file") and any(entry.get("input_sensitive") or [])
    has = any(op in entry["op_histogram"] for op in _CONVOLUTIONS)
    return bool(runs and has and arguments.only in entry["file"])


def _graph(arguments: argparse.Namespace, entry: Any) -> Optional[Tuple[Tuple[str, ...], float]]:
    graph = graphwq.load(arguments.corpus / entry["file"])
    with np.load(arguments.corpus / entry["feed_file"], allow_pickle=False) as data:
        feeds = {name: data[name] for name in data.files}
    tensors = entry["outputs"]
    before = _outputs(graph, tensors, [feeds])
    plain = graphwq.quantize(graph, bits=arguments.bits, storage="bake")
    if not plain.weights:
        return None
    absmax = _score(before, _outputs(plain.graph, tensors, [feeds]))
    if math.isnan(absmax):
        return None
    made, seconds, methods = _auto(graph, arguments.bits)
    auto = _score(before, _outputs(made, tensors, [feeds]))
    cells = (
        entry["file"],
        str(len(plain.weights)),
        str(methods.get("gptq", 0)),
        f"{absmax:.1f}",
        f"{auto:.1f}",
        f"{auto - absmax:+.1f}",
        f"{seconds:.0f}",
    )
    return cells, auto - absmax


def _photographs(
    arguments: argparse.Namespace, entries: Sequence[Any]
) -> Optional[Tuple[str, Table]]:
    """Graphs with one image among their inputs: noise is not what they are for."""
    rows: List[Tuple[str, ...]] = []
    gains: List[Tuple[float, float]] = []
    for entry in sorted(entries, key=lambda entry: entry["bytes"]):
        image = _image(entry)
        if image is None or not _wanted(entry, arguments) or entry["bytes"] > _LARGEST:
            continue
        support.note(f"{entry['file']} on photographs")
        try:
            scores = _photographed(arguments, entry, image)
        except GraphWQError as error:
            support.note(f"  left out: {error}")
            continue
        if any(map(math.isnan, scores)):
            continue
        rows.append((entry["file"], *(f"{score:.1f}" for score in scores)))
        gains.append((scores[1] - scores[0], scores[2] - scores[0]))
        support.note("  " + " ".join(rows[-1][1:]))
    if not rows:
        return None
    free, real = zip(*gains)
    summary = (
        f"{len(rows)} graphs at {arguments.bits} bits: median gain without data {median(free):.1f} "
        f"dB (least {min(free):.1f}), with {_SHOTS} pieces of a photograph {median(real):.1f} dB "
        f"(least {min(real):.1f})."
    )
    columns = ("graph", "absmax dB>", "no data dB>", "photograph dB>")
    title = f"Output SQNR at {arguments.bits} bits on pieces of another photograph"
    return summary, Table(title, columns, tuple(rows))


def _image(entry: Any) -> Optional[Tuple[str, int]]:
    """The feed that is an image of colours or grey, and the axis of its channels."""
    found = []
    for name, (dtype, shape) in (entry.get("feed") or {}).items():
        if dtype == "float32" and len(shape) == 4:
            for axis, sides in ((3, shape[1:3]), (1, shape[2:4])):
                if shape[axis] in (1, 3) and min(sides) >= _LEAST_SIDE:
                    found.append((name, axis))
    return found[0] if len(found) == 1 else None


def _photographed(
    arguments: argparse.Namespace, entry: Any, image: Tuple[str, int]
) -> Tuple[float, float, float]:
    """SQNR of absmax, calibrated without data, and calibrated on the first photograph."""
    from sklearn.datasets import load_sample_images

    graph = graphwq.load(arguments.corpus / entry["file"])
    with np.load(arguments.corpus / entry["feed_file"], allow_pickle=False) as data:
        feeds = {name: data[name] for name in data.files}
    name, axis = image
    shape = entry["feed"][name][1]
    view = build(graph)
    random = np.random.RandomState(0)
    first, second = load_sample_images().images
    with Runner(graph) as runner:

        def sample(each: Range) -> Arrays:
            return {**feeds, name: _pieces(first, shape, axis, each, random)}

        likely = likely_ranges(runner, view.main, entry["outputs"], sample)[0]
    shots = [
        [{**feeds, name: _pieces(photo, shape, axis, likely, random)} for _ in range(_SHOTS)]
        for photo in (first, second)
    ]
    before = _outputs(graph, entry["outputs"], shots[1])
    plain = graphwq.quantize(graph, bits=arguments.bits, storage="bake").graph
    made = [plain, _auto(graph, arguments.bits)[0], _auto(graph, arguments.bits, shots[0])[0]]
    scores = [_score(before, _outputs(one, entry["outputs"], shots[1])) for one in made]
    return scores[0], scores[1], scores[2]


def _pieces(
    photo: np.ndarray, shape: Sequence[int], axis: int, each: Range, random: np.random.RandomState
) -> np.ndarray:
    """A batch of pieces of a photograph, of any place and size, in a range of values."""
    from PIL import Image

    sides = shape[1:3] if axis == 3 else shape[2:4]
    batch = []
    for _ in range(shape[0]):
        size = random.randint(min(photo.shape[:2]) // 3, min(photo.shape[:2]) + 1)
        top, left = (random.randint(0, whole - size + 1) for whole in photo.shape[:2])
        piece = Image.fromarray(photo[top : top + size, left : left + size])
        pixels = np.asarray(piece.resize((sides[1], sides[0])), np.float64)
        batch.append(pixels if shape[axis] == 3 else pixels.mean(2, keepdims=True))
    low, high = each
    values = low + (high - low) / 255 * np.moveaxis(np.stack(batch), 3, axis)
    return np.asarray(values, np.float32)


def _pose(arguments: argparse.Namespace, entries: Sequence[Any]) -> Optional[Tuple[str, Table]]:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    entry = next((entry for entry in entries if _POSE in entry["file"]), None)
    if entry is None:
        return None
    graph = graphwq.load(arguments.corpus / entry["file"])
    tensors, rows = entry["outputs"], []
    (feed,) = entry["feed"]
    photos = load_sample_images().images
    samples = {
        (height, width): [
            {feed: np.asarray(Image.fromarray(photo).resize((width, height)), np.float32)[None]}
            for photo in photos
        ]
        for height, width in _POSE_SIZES
    }
    before = {size: _outputs(graph, tensors, shown) for size, shown in samples.items()}
    means = [_score(old, _constant(old)) for old in before.values()]
    rows.append(("channel means", *(f"{score:.1f}" for score in means), "", ""))
    for bits in (8, 4, 3, 2):
        support.note(f"pose network at {bits} bits")
        plain = graphwq.quantize(graph, bits=bits, storage="bake").graph
        made, seconds, methods = _auto(graph, bits)
        for name, one in ((f"absmax, {bits} bits", plain), (f"auto, {bits} bits", made)):
            scores = [
                _score(before[size], _outputs(one, tensors, shown))
                for size, shown in samples.items()
            ]
            cells = [str(methods.get("gptq", 0)), f"{seconds:.0f}"] if one is made else ["", ""]
            rows.append((name, *(f"{score:.1f}" for score in scores), *cells))
    sizes = [f"{height}x{width}>" for height, width in _POSE_SIZES]
    said = (
        "Two photographs, shown in several sizes, errors of both together. The output of this "
        "network is nearly constant: the first row is what its channel means alone score."
    )
    columns = ("", *sizes, "gptq weights>", "seconds>")
    return said, Table("Pose network, no data, output SQNR in dB", columns, tuple(rows))


def _constant(outputs: Sequence[Arrays]) -> List[Arrays]:
    """Outputs of images with each channel's mean everywhere."""
    return [
        {name: np.broadcast_to(value.mean((0, 1, 2)), value.shape) for name, value in one.items()}
        for one in outputs
    ]


def _digits(arguments: argparse.Namespace, entries: Sequence[Any]) -> Optional[Tuple[str, Table]]:
    """Graphs with one input of 784 values a row and one output of 10: digits, most likely."""
    path = arguments.data / "mnist_10k.npz"
    if not path.is_file():
        return None
    with np.load(path) as data:
        images, labels = data["x"] / np.float32(255), data["y"]
    rows = []
    for entry in entries:
        feeds = entry.get("feed") or {}
        if not (entry["run_ok"] and len(feeds) == 1 and len(entry["outputs"]) == 1):
            continue
        ((name, (_, shape)),) = feeds.items()
        if int(np.prod(shape[1:])) != 784:
            continue
        try:
            row = _digit_graph(arguments, entry, name, shape, images, labels)
        except GraphWQError as error:
            support.note(f"{entry['file']} left out: {error}")
            continue
        if row is not None:
            rows.append(row)
    if not rows:
        return None
    columns = ("graph", "float %>", "absmax %>", "no data %>", f"{_DIGITS} digits %>")
    said = "500 images of the MNIST test set, others than those calibrated on."
    return said, Table("Digits at 2 bits", columns, tuple(rows))


def _digit_graph(
    arguments: argparse.Namespace,
    entry: Any,
    name: str,
    shape: Sequence[int],
    images: np.ndarray,
    labels: np.ndarray,
) -> Optional[Tuple[str, ...]]:
    graph = graphwq.load(arguments.corpus / entry["file"])
    every = [{name: image.reshape(1, *shape[1:])} for image in images]
    samples = every[8000:8500]

    def accuracy(one: Graph) -> float:
        outputs = _outputs(one, entry["outputs"], samples)
        found = [np.asarray(next(iter(item.values()))).reshape(-1) for item in outputs]
        if len(found[0]) != 10:
            return math.nan
        right = [int(row.argmax()) == label for row, label in zip(found, labels[8000:])]
        return 100.0 * float(np.mean(right))

    exact = accuracy(graph)
    if not exact > 80:  # other digits, another range, or no classifier
        return None
    plain = graphwq.quantize(graph, bits=2, storage="bake").graph
    made = [plain, _auto(graph, 2)[0], _auto(graph, 2, every[:_DIGITS])[0]]
    return (entry["file"], *(f"{x:.1f}" for x in (exact, *map(accuracy, made))))


if __name__ == "__main__":
    sys.exit(main())
