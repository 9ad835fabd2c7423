"""Mixed precision: widths by a cost table beside one width for all, in a file that is no larger.

    python benchmarks/mixed.py [--corpus DIR] [--bits 4] [--method absmax] [--out mixed.md]
    python benchmarks/mixed.py --measured [--every 2 --first 1] [--out mixed_measured.md]

Every graph of the corpus that runs and comes with inputs is quantized with ``--bits`` and with
``--target-bits`` (the errors of the weights' values alone, nothing is run for the choice). Both are
run on the inputs of the corpus. Losses are part of the table. ``--measured`` adds the widths that
``--calibration synthetic`` chooses by what they cost the outputs on made-up inputs.
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
from graphwq.allocation import plan_measured
from graphwq.calibration import Wishes
from graphwq.errors import GraphWQError
from graphwq.rewrite.options import Options

_EQUAL = 0.05
#: Made-up inputs by which costs are measured, and as many others that decide.
_SAMPLES = 4


def main() -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description="Measure mixed precision.")
    parser.add_argument("--corpus", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--method", default="absmax", choices=("absmax", "mse", "squant"))
    parser.add_argument("--most-bytes", type=int, default=1 << 40, help="leave out larger graphs")
    parser.add_argument("--minutes", type=float, help="begin no further graph after so long")
    parser.add_argument("--measured", action="store_true", help="also by measured costs")
    parser.add_argument("--every", type=int, default=1, help="only every so manieth graph")
    parser.add_argument("--first", type=int, default=0, help="and of those from this one on")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or HERE / ("mixed_measured.md" if arguments.measured else "mixed.md")
    entries = json.loads((arguments.corpus / "manifest.json").read_text())
    rows: List[Tuple[str, ...]] = []
    gains: List[Tuple[float, ...]] = []
    begin, late = time.time(), 0
    wanted = [entry for entry in sorted(entries, key=lambda one: one["bytes"]) if _wanted(entry)]
    for entry in wanted[arguments.first :: arguments.every]:
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
    names = ("mixed", "measured")[: len(gains[0])]
    said = [_summary(name, [own[place] for own in gains]) for place, name in enumerate(names)]
    if late:
        said.append(f"Not measured: the {late} largest.")
    columns = [
        "graph",
        "weights>",
        "average bits>",
        "bytes>",
        "mixed>",
        "dB>",
        "mixed dB>",
        "gain>",
    ]
    if arguments.measured:
        columns += ["measured>", "measured dB>", "gain>", "taken"]
    title = f"Output SQNR, {arguments.bits} bits for all and mixed, {arguments.method}"
    table = Table(title, tuple(columns), tuple(rows)).markdown()
    told = "\n\n".join(said)
    words = " ".join(["python benchmarks/mixed.py", *sys.argv[1:]])
    text = f"# Mixed precision\n\nWritten by `{words}`.\n\n{table}\n\n{told}\n"
    out.write_text(text, encoding="utf-8")
    print(told)
    return 0


def _wanted(entry: Any) -> bool:
    sensitive = any(entry.get("input_sensitive") or [])
    return bool(entry["run_ok"] and entry.get("feed_file") and sensitive)


def _summary(name: str, gains: List[float]) -> str:
    differing = [gain for gain in gains if abs(gain) > _EQUAL]
    said = (
        f"{name}: {len(gains)} graphs of two or more weights: median gain {median(gains):+.2f} dB, "
        f"mean {np.mean(gains):+.2f} dB, least {min(gains):+.1f} dB, most {max(gains):+.1f} dB; "
        f"better on {sum(gain > _EQUAL for gain in gains)}, worse on "
        f"{sum(gain < -_EQUAL for gain in gains)}, alike on {len(gains) - len(differing)}."
    )
    if differing:
        said += f" Median of those that differ: {median(differing):+.1f} dB."
    return said


def _graph(
    arguments: argparse.Namespace, entry: Any
) -> Optional[Tuple[Tuple[str, ...], Tuple[float, ...]]]:
    graph = graphwq.load(arguments.corpus / entry["file"])
    method = arguments.method
    plain = graphwq.quantize(graph, bits=arguments.bits, method=method)
    if len(plain.weights) < 2:
        return None
    mixed = graphwq.quantize(graph, target_bits=arguments.bits, method=method)
    made, taken = [plain.graph, mixed.graph], ""
    if arguments.measured:
        options = Options(target_bits=float(arguments.bits), method=method)
        plan, reason = plan_measured(graph, options, Wishes("synthetic", 0, _SAMPLES), None)
        made.append(graphwq.quantize(graph, plan=plan).graph)
        assert plan.mixture is not None
        trials = plan.mixture.trials
        taken = "values (nothing measured)" if reason else trials[0].cost
    assert mixed.mixture is not None
    with np.load(arguments.corpus / entry["feed_file"], allow_pickle=False) as data:
        feeds = [{name: data[name] for name in data.files}]
    before = lowbits._outputs(graph, entry["outputs"], feeds)
    scores = [
        lowbits._score(before, lowbits._outputs(one, entry["outputs"], feeds)) for one in made
    ]
    if any(math.isnan(score) for score in scores):
        return None
    gains = tuple(score - scores[0] for score in scores[1:])
    cells = [
        entry["file"],
        str(len(plain.weights)),
        f"{mixed.mixture.average_bits:.2f}",
        str(plain.graph.nbytes),
        str(mixed.graph.nbytes),
        *(f"{score:.1f}" for score in scores[:2]),
        f"{gains[0]:+.1f}",
    ]
    if arguments.measured:
        cells += [str(made[2].nbytes), f"{scores[2]:.1f}", f"{gains[1]:+.1f}", taken]
    return tuple(cells), gains


if __name__ == "__main__":
    sys.exit(main())
