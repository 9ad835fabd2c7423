"""How long ``graphwq diff`` takes: real graphs, 100,000 nodes, 200 MB.

    python benchmarks/diffing.py [--rounds 3]

Whole processes, from ``exec`` to exit: wall and CPU time and the peak of the resident memory, the
fastest run. ``inspect --help`` stands beside them as what any command costs, reading both large
files (their digests) as what reading costs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import support
from models import matmul_chain

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE.parent / "tests"))

from builders import GraphBuilder  # noqa: E402

import graphwq  # noqa: E402

_READ = """
import sys
sys.path.insert(0, sys.argv[1])
from graphwq.graphdef.source import load
for path in sys.argv[2:]:
    load(path).digest
"""


def layers(nodes: int, prefix: str = "", edited: int = 0) -> bytes:
    """Layers of six nodes each (a Conv2D with its weight and bias); some weights are edited."""
    b = GraphBuilder()
    x = b.placeholder(f"{prefix}x", [-1, 8, 8, 4])
    weights = np.random.RandomState(0).randn(nodes // 6 + 1, 1, 1, 4, 4).astype(np.float32)
    for number, weight in enumerate(weights):
        scope = f"{prefix}block{number // 50}/layer{number}"
        shift = np.float32(edited > 0 and number % edited == 0)
        read = b.op(f"{scope}/read", "Identity", [b.const(f"{scope}/w", weight + shift)])
        y = b.conv(f"{scope}/conv", x, read)
        y = b.op(f"{scope}/add", "BiasAdd", [y, b.const(f"{scope}/b", weight[0, 0, 0])])
        x = b.op(f"{scope}/relu", "Relu", [y])
    return b.to_bytes()


def cases(folder: Path) -> List[Tuple[str, Path, Path]]:
    """(what, old, new)."""
    found: List[Tuple[str, Path, Path]] = []
    corpus = Path(os.environ.get("GRAPHWQ_CORPUS", HERE.parent.parent / "shared" / "corpus"))
    real = [
        corpus / f"taigw+brats17__model17_msnet_{name}_20000.ckpt.frozen.pb"
        for name in ("en32", "en32cr")
    ]
    if all(path.is_file() for path in real):
        found.append(("two real graphs of 953 nodes, retrained", real[0], real[1]))
        small = folder / "real_4.pb"
        graphwq.quantize(real[0], 4).save(small)
        found.append(("a real graph of 953 nodes, quantized to 4 bits", real[0], small))
    many = {name: folder / f"{name}.pb" for name in ("many", "many_edited", "many_renamed")}
    many["many"].write_bytes(layers(100_000))
    many["many_edited"].write_bytes(layers(100_000, edited=7))
    many["many_renamed"].write_bytes(layers(100_000, "import/", edited=7))
    found.append(("100,000 nodes, 2,400 weights edited", many["many"], many["many_edited"]))
    found.append(("the same under a prefix", many["many"], many["many_renamed"]))
    large = {name: folder / f"large_{name}.pb" for name in ("float", "edited", "8", "4", "baked")}
    data = bytearray(matmul_chain())
    large["float"].write_bytes(data)
    floats = np.frombuffer(data, np.uint8)
    floats[len(data) // 2 :: 1 << 16] ^= 1
    large["edited"].write_bytes(data)
    for bits, storage, name in ((8, "dequant", "8"), (4, "dequant", "4"), (4, "bake", "baked")):
        graphwq.quantize(large["float"], bits, storage).save(large[name])
    found.append(("210 MB, half of the weights edited", large["float"], large["edited"]))
    found.append(("210 MB, quantized to 8 bits", large["float"], large["8"]))
    found.append(("210 MB, quantized to 4 bits", large["float"], large["4"]))
    found.append(("210 MB, baked at 4 bits", large["float"], large["baked"]))
    return found


def main() -> None:
    """Print a row per case."""
    parser = argparse.ArgumentParser(description="Measure graphwq diff.")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with tempfile.TemporaryDirectory() as name:
        print(f"load average {support.load_average():.1f}")
        print("| what | wall s | CPU s | reading both, CPU s | peak MB |\n|---|---|---|---|---|")
        for what, old, new in cases(Path(name)):
            commands: Dict[str, List[str]] = {
                "diff": [sys.executable, "-m", "graphwq", "diff", str(old), str(new)],
                "read": [sys.executable, "-c", _READ, str(HERE.parent), str(old), str(new)],
            }
            commands["diff"] += ["--fail-on", "breaking", "--ignore", "scope_renamed"]
            runs = support.interleaved(commands, rounds, environment)
            wall = min(run.wall for run in runs["diff"])
            cpu = min(run.cpu for run in runs["diff"])
            read = min(run.cpu for run in runs["read"])
            peak = max(run.rss for run in runs["diff"]) / 1e6
            print(f"| {what} | {wall:.2f} | {cpu:.2f} | {read:.2f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
