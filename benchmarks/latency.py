"""How long a step of inference takes in TensorFlow 1.15: quantized graphs against the float one.

    python benchmarks/latency.py CASE [--rounds N]        one case; prints JSON

All variants of a case are sessions of one process. Each turn of a variant stands between two turns
of the float graph, and its ratio is to the mean of these two: what disturbs the machine for longer
than a turn disturbs both sides. Where a session's memory and threads happen to lie can make it
faster or slower for as long as it lives, so that a case is measured in several processes; the
result is the median of the ratios of all rounds of all processes. The float graph runs in a second
session as well, which is treated like the other variants: its ratio is the noise.
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
_PROCESSES = 5


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
    ratios: Dict[str, List[float]] = {name: [] for name in variants}
    others = [name for name in variants if name != _FLOAT]
    for number in range(rounds):
        shift = number % len(others)
        before = variants[_FLOAT].turn(steps[_FLOAT])
        for name in [*others, *others][shift : shift + len(others)]:
            mine = variants[name].turn(steps[name])
            after = variants[_FLOAT].turn(steps[_FLOAT])
            times[name].append(mine)
            times[_FLOAT].append(after)
            ratios[name].append(2 * mine / (before + after))
            before = after
    return {
        name: {
            "times": times[name],
            "ratios": ratios[name],
            "first_run_seconds": variant.first,
            "output_sqnr_db": _sqnr(variants[_FLOAT].result, variant.result),
            "bytes": len(variant.data),
        }
        for name, variant in variants.items()
    }


def _pooled(runs: List[Dict[str, Any]]) -> Dict[str, Any]:
    """The runs of a case in several processes as one result per variant."""
    return {name: _summary([run[name] for run in runs if name in run]) for name in runs[0]}


def _summary(runs: List[Dict[str, Any]]) -> Dict[str, Any]:
    times = [each for run in runs for each in run["times"]]
    ratios = [each for run in runs for each in run["ratios"]]
    medians = [median(run["ratios"]) for run in runs if run["ratios"]]
    return {
        "milliseconds": median(times) * 1e3,
        "ratio": median(ratios) if ratios else 1.0,
        "ratio_low": min(medians, default=1.0),
        "ratio_high": max(medians, default=1.0),
        "first_run_seconds": median(run["first_run_seconds"] for run in runs),
        "output_sqnr_db": runs[0]["output_sqnr_db"],
        "bytes": runs[0]["bytes"],
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


def latency(rounds: int = 9) -> Part:
    """Measure all cases, each in several processes of its own."""
    measured: Dict[str, Dict[str, Any]] = {}
    rows, targets = [], []
    for case, (_, named) in CASES.items():
        note(f"latency of {case}")
        once = ("latency.py", case, "--rounds", str(rounds))
        measured[case] = _pooled([json.loads(child(*once)) for _ in range(_PROCESSES)])
        rows.append(_row(case, measured[case]))
        if named:
            for bits in _WIDTHS:
                ratio = measured[case][f"{bits} bits"]["ratio"]
                targets.append(Target(f"{case}, {bits} bits / float", ratio, _LIMIT))
    columns = ["case", "float ms>", "float again, ratio>", "processes>"]
    for bits in _WIDTHS:
        columns += [f"{bits} bits ms>", "ratio>", "processes>"]
    columns += [f"{_PEER} ms>", "ratio>"]
    title = (
        "Session.run, batch 1, default session: the median of all rounds, and the lowest and "
        f"highest median of {_PROCESSES} processes of {rounds} rounds"
    )
    first = Table(
        "the first run, in which TensorFlow folds the constants, in seconds",
        ("case", "float>", *(f"{bits} bits>" for bits in _WIDTHS), f"{_PEER}>"),
        tuple(_first_row(case, each) for case, each in measured.items()),
    )
    table = Table(title, tuple(columns), tuple(rows))
    return Part("latency", (table, first), tuple(targets), (), {"cases": measured})


def _row(case: str, measured: Dict[str, Any]) -> Tuple[str, ...]:
    cells = [case, f"{measured[_FLOAT]['milliseconds']:.2f}", *_ratio(measured[_AGAIN])]
    for bits in _WIDTHS:
        each = measured[f"{bits} bits"]
        cells += [f"{each['milliseconds']:.2f}", *_ratio(each)]
    peer = measured.get(_PEER)
    cells += [f"{peer['milliseconds']:.2f}", f"{peer['ratio']:.2f}"] if peer else ["failed", ""]
    return tuple(cells)


def _ratio(each: Dict[str, Any]) -> Tuple[str, str]:
    return f"{each['ratio']:.3f}", f"{each['ratio_low']:.2f}..{each['ratio_high']:.2f}"


def _first_row(case: str, measured: Dict[str, Any]) -> Tuple[str, ...]:
    names = [_FLOAT, *(f"{bits} bits" for bits in _WIDTHS), _PEER]
    first = [measured[name]["first_run_seconds"] if name in measured else None for name in names]
    return (case, *("failed" if value is None else f"{value:.2f}" for value in first))


def main() -> None:
    """Measure one case and print the numbers."""
    parser = argparse.ArgumentParser(description="Measure one case of the latency benchmark.")
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    json.dump(run_case(arguments.case, arguments.rounds), sys.stdout)


if __name__ == "__main__":
    main()
