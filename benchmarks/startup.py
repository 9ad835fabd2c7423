"""The start-up: how long whole processes take on a small graph."""

from __future__ import annotations

import sys
from typing import Dict, Sequence

from support import (
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

_START_UP_SECONDS = 0.6


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


def _json(run: Run) -> Dict[str, float]:
    return {"wall": run.wall, "cpu": run.cpu, "rss": run.rss}
