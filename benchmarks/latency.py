"""How long a step of inference takes in TensorFlow 1.15: quantized graphs against the float one.

    python benchmarks/latency.py CASE [--rounds N]        one case; prints JSON

All variants of a case are sessions of one process and take turns, so that whatever disturbs the
machine disturbs all of them. A round gives one median per variant and the ratio of each to the
float graph; the result is the median of these ratios over the rounds. The float
graph runs in a second session as well: its ratio to the first shows what the noise is.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Tuple

import models
import numpy as np
from support import Part, Table, Target, child, note

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.tf1.session import tensorflow

#: Name, how to make it, and whether the target of the project names it.
CASES: Dict[str, Tuple[Callable[[], bytes], bool]] = {
    "MatMul 1024x1024": (lambda: models.matmul(1024), True),
    "MatMul 2048x2048": (lambda: models.matmul(2048), True),
    "MatMul 4096x4096": (lambda: models.matmul(4096), True),
    "Conv2D 3x3x1024x1024 on 14x14": (lambda: models.convolution((3, 3, 1024, 1024), 14), True),
    "Conv2D 3x3x1024x1024 on 7x7": (lambda: models.convolution((3, 3, 1024, 1024), 7), True),
    "Gather 50000x768, 128 ids": (models.embedding, False),
    "tied embedding 50000x768": (lambda: models.embedding(tied=True), False),
}

_FLOAT, _AGAIN, _PEER = "float", "float again", "Graph Transform Tool"
_WIDTHS = (8, 4)
_LIMIT = 1.05
#: One turn of a variant lasts about this long, but has at least so many steps.
_TURN_SECONDS, _TURN_STEPS = 0.03, 3


class _Variant:
    """A graph in a session with TensorFlow's default options, as a user runs it."""

    def __init__(self, data: bytes, feeds: Dict[str, np.ndarray]) -> None:
        tf = tensorflow()
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(tf.GraphDef.FromString(data), name="")
        session = tf.Session(graph=graph)
        fed = [graph.get_tensor_by_name(f"{name}:0") for name in feeds]
        call = session.make_callable(graph.get_tensor_by_name("out:0"), feed_list=fed)
        values = list(feeds.values())
        self._step: Callable[[], np.ndarray] = lambda: call(*values)
        self.data = data
        begin = time.perf_counter()
        self.result = self._step()
        self.first = time.perf_counter() - begin

    def turn(self, steps: int) -> float:
        """Median seconds of a step; the first one, which refills the caches, does not count."""
        self._step()
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            self._step()
            times.append(time.perf_counter() - begin)
        return median(times)


def run_case(case: str, rounds: int) -> Dict[str, Any]:
    """Measure one case in this process."""
    data = CASES[case][0]()
    feeds = models.feeds(data)
    graph = Graph.parse(data)
    variants = {_FLOAT: _Variant(data, feeds), _AGAIN: _Variant(data, feeds)}
    for bits in _WIDTHS:
        quantized = graphwq.quantize(graph, bits=bits).graph.to_bytes()
        variants[f"{bits} bits"] = _Variant(quantized, feeds)
    peer = _peer(data, list(feeds))
    if peer is not None:
        variants[_PEER] = _Variant(peer, feeds)
    pace = {name: variant.turn(5) for name, variant in variants.items()}
    steps = {name: max(_TURN_STEPS, int(_TURN_SECONDS / each)) for name, each in pace.items()}
    times: Dict[str, List[float]] = {name: [] for name in variants}
    for number in range(rounds):
        shift = number % len(variants)
        for name in [*variants, *variants][shift : shift + len(variants)]:
            times[name].append(variants[name].turn(steps[name]))
    return {name: _summary(variants, times, name) for name in variants}


def _summary(
    variants: Dict[str, _Variant], times: Dict[str, List[float]], name: str
) -> Dict[str, Any]:
    ratios = [mine / base for mine, base in zip(times[name], times[_FLOAT])]
    return {
        "milliseconds": median(times[name]) * 1e3,
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "first_run_seconds": variants[name].first,
        "output_sqnr_db": _sqnr(variants[_FLOAT].result, variants[name].result),
        "bytes": len(variants[name].data),
    }


def _sqnr(reference: np.ndarray, value: np.ndarray) -> Optional[float]:
    """Signal to noise of an output in dB, to show that the right graph was measured."""
    noise = float(np.square(reference.astype(np.float64) - value).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return None if noise == 0 else float(10 * np.log10(signal / noise))


def _peer(data: bytes, inputs: List[str]) -> Optional[bytes]:
    with tempfile.TemporaryDirectory(prefix="graphwq-bench-") as folder:
        source, target = Path(folder) / "in.pb", Path(folder) / "out.pb"
        source.write_bytes(data)
        try:
            child("gtt.py", str(source), str(target), ",".join(inputs), "out")
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return None
        return target.read_bytes()


def latency(rounds: int = 41) -> Part:
    """Measure all cases, each in a process of its own."""
    measured: Dict[str, Dict[str, Any]] = {}
    rows, targets = [], []
    for case, (_, named) in CASES.items():
        note(f"latency of {case}")
        measured[case] = json.loads(child("latency.py", case, "--rounds", str(rounds)))
        rows.append(_row(case, measured[case]))
        if named:
            for bits in _WIDTHS:
                ratio = measured[case][f"{bits} bits"]["ratio"]
                targets.append(Target(f"{case}, {bits} bits / float", ratio, _LIMIT))
    columns = ["case", "float ms>", "float again, ratio>"]
    for bits in _WIDTHS:
        columns += [f"{bits} bits ms>", "ratio>", "min..max>"]
    columns += [f"{_PEER} ms>", "ratio>"]
    title = f"Session.run, batch 1, default session, medians of {rounds} rounds"
    first = Table(
        "the first run, in which TensorFlow folds the constants, in seconds",
        ("case", "float>", *(f"{bits} bits>" for bits in _WIDTHS), f"{_PEER}>"),
        tuple(_first_row(case, each) for case, each in measured.items()),
    )
    table = Table(title, tuple(columns), tuple(rows))
    return Part("latency", (table, first), tuple(targets), (), {"cases": measured})


def _row(case: str, measured: Dict[str, Any]) -> Tuple[str, ...]:
    cells = [case, f"{measured[_FLOAT]['milliseconds']:.2f}", f"{measured[_AGAIN]['ratio']:.3f}"]
    for bits in _WIDTHS:
        each = measured[f"{bits} bits"]
        cells += [
            f"{each['milliseconds']:.2f}",
            f"{each['ratio']:.3f}",
            f"{each['ratio_low']:.2f}..{each['ratio_high']:.2f}",
        ]
    peer = measured.get(_PEER)
    cells += [f"{peer['milliseconds']:.2f}", f"{peer['ratio']:.2f}"] if peer else ["failed", ""]
    return tuple(cells)


def _first_row(case: str, measured: Dict[str, Any]) -> Tuple[str, ...]:
    names = [_FLOAT, *(f"{bits} bits" for bits in _WIDTHS), _PEER]
    first = [measured[name]["first_run_seconds"] if name in measured else None for name in names]
    return (case, *("failed" if value is None else f"{value:.2f}" for value in first))


def main() -> None:
    """Measure one case and print the numbers."""
    parser = argparse.ArgumentParser(description="Measure one case of the latency benchmark.")
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=41)
    arguments = parser.parse_args()
    json.dump(run_case(arguments.case, arguments.rounds), sys.stdout)


if __name__ == "__main__":
    main()
