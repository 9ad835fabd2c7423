"""Low bits without data: what calibrated rounding gains over absmax on real graphs.

    python benchmarks/lowbits.py [--corpus DIR] [--bits 4] [--only TEXT] [--out lowbits.md]

Every graph of the corpus that has a convolution, runs, and comes with inputs is quantized twice:
with absmax, and with ``--method auto`` calibrated on made-up inputs. Both results are run on the
inputs of the corpus, which neither has seen. Graphs whose outputs do not depend on the inputs are
left out. Then the pose network at 8, 4, 3 and 2 bits on two photographs, and graphs that read MNIST
digits at 2 bits by their accuracy. Losses are part of the table.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import support
from support import HERE, ROOT, Table

import graphwq
from graphwq.calibration import quantize_calibrated
from graphwq.errors import GraphWQError
from graphwq.graphdef.graph import Graph
from graphwq.quant.metrics import sqnr_db
from graphwq.rewrite.options import Options
from graphwq.tf1.session import Runner

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "Conv3D", "_FusedConv2D")
_LIMIT = 100.0
_POSE = "mobilenet_v2_small"
Arrays = Mapping[str, np.ndarray]


def main() -> int:
    """Run the parts and write the table."""
    parser = argparse.ArgumentParser(description="Measure low bits without data.")
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--only", default="", help="graphs whose name holds this")
    parser.add_argument("--minutes", type=float, help="begin no further graph after so long")
    parser.add_argument("--skip-graphs", action="store_true", help="pose network and digits only")
    parser.add_argument("--out", type=Path, default=HERE / "lowbits.md")
    arguments = parser.parse_args()
    entries = json.loads((arguments.corpus / "manifest.json").read_text())
    tables: List[Tuple[str, Table]] = []
    if not arguments.skip_graphs:
        tables.append(_graphs(arguments, entries))
    for part in (_pose, _digits):
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


def _auto(graph: Graph, bits: int, auto: bool = True) -> Tuple[Graph, float, Dict[str, int]]:
    """The calibrated graph, seconds, and how many weights have which method."""
    begin = time.time()
    made = quantize_calibrated(graph, Options(bits=bits, storage="bake"), auto=auto)
    methods: Dict[str, int] = {}
    for outcome in made.outcomes:
        methods[outcome.method] = methods.get(outcome.method, 0) + 1
    return made.result.graph, time.time() - begin, methods


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


def _pose(arguments: argparse.Namespace, entries: Sequence[Any]) -> Optional[Tuple[str, Table]]:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    entry = next((entry for entry in entries if _POSE in entry["file"]), None)
    if entry is None:
        return None
    graph = graphwq.load(arguments.corpus / entry["file"])
    tensors, rows = entry["outputs"], []
    (feed,) = entry["feed"]
    samples = [
        {feed: np.asarray(Image.fromarray(image).resize((432, 368)), np.float32)[None]}
        for image in load_sample_images().images
    ]
    before = _outputs(graph, tensors, samples)
    for bits in (8, 4, 3, 2):
        support.note(f"pose network at {bits} bits")
        plain = graphwq.quantize(graph, bits=bits, storage="bake").graph
        made, seconds, methods = _auto(graph, bits)
        scores = [_score(before, _outputs(one, tensors, samples)) for one in (plain, made)]
        cells = [str(bits), *(f"{score:.1f}" for score in scores), str(methods.get("gptq", 0))]
        rows.append((*cells, f"{seconds:.0f}"))
    columns = ("bits>", "absmax dB>", "auto dB>", "gptq weights>", "seconds>")
    return "Evaluated on two photographs, 368x432.", Table(
        "Pose network, no data", columns, tuple(rows)
    )


def _digits(arguments: argparse.Namespace, entries: Sequence[Any]) -> Optional[Tuple[str, Table]]:
    """Graphs with one input of 784 values a row and one output of 10: digits, most likely."""
    path = arguments.data / "mnist_10k.npz"
    if not path.is_file():
        return None
    with np.load(path) as data:
        images, labels = data["x"][8000:] / np.float32(255), data["y"][8000:]
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
    columns = ("graph", "float %>", "absmax 2 bits %>", "auto 2 bits %>")
    return "2000 images of the MNIST test set.", Table("Digits, no data", columns, tuple(rows))


def _digit_graph(
    arguments: argparse.Namespace,
    entry: Any,
    name: str,
    shape: Sequence[int],
    images: np.ndarray,
    labels: np.ndarray,
) -> Optional[Tuple[str, ...]]:
    graph = graphwq.load(arguments.corpus / entry["file"])
    samples = [{name: image.reshape(1, *shape[1:])} for image in images[:500]]

    def accuracy(one: Graph) -> float:
        outputs = _outputs(one, entry["outputs"], samples)
        found = [np.asarray(next(iter(item.values()))).reshape(-1) for item in outputs]
        if len(found[0]) != 10:
            return math.nan
        right = [int(row.argmax()) == label for row, label in zip(found, labels)]
        return 100.0 * float(np.mean(right))

    exact = accuracy(graph)
    if not exact > 80:  # other digits, another range, or no classifier
        return None
    plain = graphwq.quantize(graph, bits=2, storage="bake").graph
    made, _, _ = _auto(graph, 2)
    return (entry["file"], *(f"{x:.1f}" for x in (exact, accuracy(plain), accuracy(made))))


if __name__ == "__main__":
    sys.exit(main())
