"""How long whole processes take: graphwq against the Graph Transform Tool, and the start-up."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Dict, List, Sequence

from support import (
    HERE,
    Part,
    Run,
    Table,
    Target,
    child,
    fastest,
    installed,
    interleaved,
    middle,
)

_OURS, _PEER = "graphwq quantize", "Graph Transform Tool"
_WALL_RATIO, _RSS_RATIO, _START_UP_SECONDS = 0.1, 0.2, 0.6


def speed(rounds: int = 7) -> Part:
    """Quantize a chain of fifty 1024 x 1024 MatMuls (200 MB) to 8 bits."""
    with installed() as (folder, environment):
        source = folder / "chain.pb"
        child("models.py", "chain", str(source))
        outputs = {_OURS: folder / "ours.pb", _PEER: folder / "peer.pb"}
        graphwq = [sys.executable, "-m", "graphwq", "quantize", str(source), "-o"]
        peer = [sys.executable, str(HERE / "gtt.py"), str(source)]
        commands: Dict[str, Sequence[str]] = {
            _OURS: [*graphwq, str(outputs[_OURS])],
            _PEER: [*peer, str(outputs[_PEER])],
        }
        own = _own_rss()
        runs = interleaved(commands, rounds, environment, list(outputs.values()))
        sizes = {name: path.stat().st_size for name, path in outputs.items()}
        before = source.stat().st_size
    ours, theirs = middle(runs[_OURS]), middle(runs[_PEER])
    best = fastest(runs[_OURS]) / fastest(runs[_PEER])
    paired = sorted(a.wall / b.wall for a, b in zip(runs[_OURS], runs[_PEER]))
    rows = [_row(name, middle(each), each, sizes[name]) for name, each in runs.items()]
    rows.append(
        (
            "ratio",
            f"{ours.wall / theirs.wall:.3f}",
            f"{best:.3f}",
            f"{ours.cpu / theirs.cpu:.3f}",
            f"{ours.rss / theirs.rss:.3f}",
            f"{sizes[_OURS] / sizes[_PEER]:.3f}",
        )
    )
    columns = ("process", "wall s>", "fastest s>", "CPU s>", "peak memory MB>", "output MB>")
    title = f"{before / 1e6:.0f} MB, fifty 1024 x 1024 MatMuls, 8 bits, medians of {rounds} runs"
    targets = (
        Target("fastest wall time, graphwq / Graph Transform Tool", best, _WALL_RATIO),
        Target("peak memory, graphwq / Graph Transform Tool", ours.rss / theirs.rss, _RSS_RATIO),
    )
    notes = [
        f"wall ratio of each pair of runs: {', '.join(f'{ratio:.3f}' for ratio in paired)}",
    ]
    if own > ours.rss / 2:
        notes.append(f"this process held {own / 1e6:.0f} MB: the peak of graphwq may be overstated")
    data = {
        "bytes_before": before,
        "runs": {
            name: [_json(run) for run in each] + [{"output_bytes": sizes[name]}]
            for name, each in runs.items()
        },
    }
    return Part("speed", (Table(title, columns, tuple(rows)),), targets, tuple(notes), data)


def startup(rounds: int = 10) -> Part:
    """What a user waits for on a small graph."""
    with installed() as (folder, environment):
        source, output = folder / "small.pb", folder / "small-8bit.pb"
        child("models.py", "small", str(source))
        base = [sys.executable, "-m", "graphwq"]
        commands: Dict[str, Sequence[str]] = {
            "python -c 'import numpy'": [sys.executable, "-c", "import numpy"],
            "graphwq --version": [*base, "--version"],
            "graphwq inspect": [*base, "inspect", str(source)],
            "graphwq quantize": [*base, "quantize", str(source), "-o", str(output)],
        }
        runs = interleaved(commands, rounds, environment, [output])
        size = source.stat().st_size
    rows, targets = [], []
    for name, each in runs.items():
        typical = middle(each)
        best = fastest(each)
        rows.append((name, f"{typical.wall:.3f}", f"{best:.3f}", f"{typical.rss / 1e6:.0f}"))
        if name.startswith("graphwq"):
            targets.append(Target(f"{name}, fastest, seconds", best, _START_UP_SECONDS))
    columns = ("process", "wall s>", "fastest s>", "peak memory MB>")
    table = Table(f"a graph of {size // 1000} kB, medians of {rounds} runs", columns, tuple(rows))
    data = {"runs": {name: [_json(run) for run in each] for name, each in runs.items()}}
    return Part("startup", (table,), tuple(targets), (), data)


def _row(name: str, typical: Run, runs: List[Run], size: int) -> tuple:
    return (
        name,
        f"{typical.wall:.2f}",
        f"{fastest(runs):.2f}",
        f"{typical.cpu:.2f}",
        f"{typical.rss / 1e6:.0f}",
        f"{size / 1e6:.2f}",
    )


def _json(run: Run) -> Dict[str, float]:
    return {"wall": run.wall, "cpu": run.cpu, "rss": run.rss}


def _own_rss() -> int:
    """What this process holds: no child's peak is reported below it."""
    status = Path(f"/proc/{os.getpid()}/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
