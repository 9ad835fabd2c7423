"""Mixed precision: widths by a cost table beside one width for all, in a file that is no larger.

    python benchmarks/mixed.py [--corpus DIR] [--bits 4] [--method absmax] [--out mixed.md]

Every graph of the corpus that runs and comes with inputs is quantized with ``--bits`` and with
``--target-bits`` (the errors of the weights' values alone, nothing is run for the choice). Both are
run on the inputs of the corpus. Losses are part of the table.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, List, Optional, Tuple

import lowbits
import numpy as np
import support
from support import HERE, ROOT, Table

import graphwq
from graphwq.errors import GraphWQError

_EQUAL = 0.05


def main() -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="Measure mixed precision.")
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--method", default="absmax", choices=("absmax", "mse", "squant"))
    parser.add_argument("--most-bytes", type=int, default=1 << 40, help="leave out larger graphs")
    parser.add_argument("--minutes", type=float, help="begin no further graph after so long")
    parser.add_argument("--out", type=Path, default=HERE / "mixed.md")
    arguments = parser.parse_args()
    entries = json.loads((arguments.corpus / "manifest.json").read_text())
    rows: List[Tuple[str, ...]] = []
    gains: List[float] = []
    begin, late = time.time(), 0
    for entry in sorted(entries, key=lambda entry: entry["bytes"]):
        sensitive = any(entry.get("input_sensitive") or [])
        if not (entry["run_ok"] and entry.get("feed_file") and sensitive):
            continue
        timeout = arguments.minutes is not None and time.time() - begin > 60 * arguments.minutes
        if timeout or entry["bytes"] > arguments.most_bytes:
            late += 1
            continue
        try:
            found = _graph(arguments, entry)
        except (GraphWQError, ValueError) as error:  # feeds of text are no plain arrays
            support.note(f"{entry['file']} left out: {error}")
            continue
        if found is not None:
            rows.append(found[0])
            gains.append(found[1])
            support.note(" ".join(found[0]))
    differing = [gain for gain in gains if abs(gain) > _EQUAL]
    said = (
        f"{len(gains)} graphs of two or more weights: median gain {median(gains):+.2f} dB, mean "
        f"{np.mean(gains):+.2f} dB, least {min(gains):+.1f} dB, most {max(gains):+.1f} dB; better "
        f"on {sum(gain > _EQUAL for gain in gains)}, worse on "
        f"{sum(gain < -_EQUAL for gain in gains)}, alike on {len(gains) - len(differing)}."
    )
    if differing:
        said += f" Median of those that differ: {median(differing):+.1f} dB."
    if late:
        said += f" Not measured: the {late} largest."
    columns = (
        "graph",
        "weights>",
        "average bits>",
        "bytes>",
        "mixed>",
        "dB>",
        "mixed dB>",
        "gain>",
    )
    title = f"Output SQNR, {arguments.bits} bits for all and mixed, {arguments.method}"
    table = Table(title, columns, tuple(rows)).markdown()
    text = f"# Mixed precision\n\nWritten by `python benchmarks/mixed.py`.\n\n{table}\n\n{said}\n"
    arguments.out.write_text(text, encoding="utf-8")
    print(said)
    return 0


def _graph(arguments: argparse.Namespace, entry: Any) -> Optional[Tuple[Tuple[str, ...], float]]:
    graph = graphwq.load(arguments.corpus / entry["file"])
    method = arguments.method
    plain = graphwq.quantize(graph, bits=arguments.bits, method=method)
    if len(plain.weights) < 2:
        return None
    mixed = graphwq.quantize(graph, target_bits=arguments.bits, method=method)
    assert mixed.mixture is not None
    with np.load(arguments.corpus / entry["feed_file"], allow_pickle=False) as data:
        feeds = [{name: data[name] for name in data.files}]
    before = lowbits._outputs(graph, entry["outputs"], feeds)
    scores = [
        lowbits._score(before, lowbits._outputs(one, entry["outputs"], feeds))
        for one in (plain.graph, mixed.graph)
    ]
    if any(math.isnan(score) for score in scores):
        return None
    gain = scores[1] - scores[0]
    cells = (
        entry["file"],
        str(len(plain.weights)),
        f"{mixed.mixture.average_bits:.2f}",
        str(plain.graph.nbytes),
        str(mixed.graph.nbytes),
        *(f"{score:.1f}" for score in scores),
        f"{gain:+.1f}",
    )
    return cells, gain


if __name__ == "__main__":
    sys.exit(main())
