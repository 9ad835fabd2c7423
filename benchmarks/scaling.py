"""How the time of graphwq grows with the bytes of weights and with the number of nodes: a plot.

    python benchmarks/scaling.py [--rounds 3]

Writes scaling.svg and scaling.csv beside itself. Whole processes, the fastest of some rounds.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import List, Tuple

from support import HERE, child, fastest, installed, measure, note

#: (model, layers): 1 MB .. 1.9 GB of weights, then 100 .. 100,000 nodes.
_WEIGHTS = (("chain", 1), ("chain", 5), ("chain", 50), ("huge", 8), ("huge", 28))
_NODES = tuple(("many", layers) for layers in (20, 200, 2000, 6000, 20000))

Row = Tuple[str, int, int, float, float]


def run(rounds: int) -> List[Row]:
    """(what grows, bytes, nodes, wall seconds, anonymous bytes) of each graph."""
    rows: List[Row] = []
    for kind, cases in (("weights", _WEIGHTS), ("nodes", _NODES)):
        for model, layers in cases:
            with installed() as (folder, environment):
                source, target = folder / "in.pb", folder / "out.pb"
                child("models.py", model, str(source), str(layers))
                argv = [sys.executable, "-m", "graphwq", "quantize", str(source), "-o", str(target)]
                runs = []
                for number in range(rounds):
                    note(f"{model} of {layers}: run {number + 1} of {rounds}")
                    if target.exists():
                        target.unlink()
                    runs.append(measure(argv, environment, folder))
                nodes = (5 if model == "many" else 2) * layers + 2
                peak = max(each.anonymous for each in runs)
                rows.append((kind, source.stat().st_size, nodes, fastest(runs), peak))
    return rows


def draw(rows: List[Row], target: Path) -> None:
    """Two panels, both axes logarithmic; the dashed line is start-up + a cost per unit."""
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "graphwq"
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    labels = (("weights", 1, "bytes of the graph"), ("nodes", 2, "nodes"))
    for axis, (kind, column, label) in zip(axes, labels):
        own = [row for row in rows if row[0] == kind]
        size = np.array([row[column] for row in own], float)
        wall = np.array([row[3] for row in own])
        start = wall[0]
        slope = float(np.median((wall[2:] - start) / (size[2:] - size[0])))
        line = np.geomspace(size[0], size[-1], 50)
        axis.plot(line, start + slope * (line - size[0]), "--", color="0.6", label="linear")
        axis.plot(size, wall, "o-", label="graphwq quantize")
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="wall seconds")
        axis.grid(True, which="both", alpha=0.2)
        axis.legend()
    figure.tight_layout()
    figure.savefig(str(target), metadata={"Date": None})


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    rows = run(parser.parse_args().rounds)
    with open(HERE / "scaling.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("grows", "bytes", "nodes", "wall_seconds", "anonymous_bytes"))
        writer.writerows((*row[:3], f"{row[3]:.3f}", row[4]) for row in rows)
    draw(rows, HERE / "scaling.svg")


if __name__ == "__main__":
    main()
