"""A float checkpoint that no GraphDef could hold, straight to a pb: time and peak memory.

    python benchmarks/sources.py [--gigabytes 3] [--layers 96] [--bits 8] [--folder FOLDER]

The checkpoint (format V2, one data file) and its MetaGraph are synthetic and deleted at the end,
the result too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, Tuple

import numpy as np
import support

sys.path.insert(0, str(support.ROOT / "tests"))

from builders import GraphBuilder
from checkpoints import checksum, entry, header, meta_graph, table

from graphwq.graphdef.dtypes import DT_FLOAT

_GIGABYTE = 1 << 30
_LIMIT = 1.5


def main() -> int:
    """Write the checkpoint, quantize it in a process of its own, report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--layers", type=int, default=96)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where there is room (a temporary one)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="graphwq-", dir=arguments.folder))
    try:
        size, width = write(folder / "model", arguments.gigabytes, arguments.layers)
        support.note(f"{size / _GIGABYTE:.2f} GiB of floats, {arguments.layers} x {width}x{width}")
        model = str(folder / "model")
        commands = (
            ["inspect", model],
            ["plan", model, "-o", str(folder / "plan.json")],
            ["quantize", model, "-o", str(folder / "out.pb"), "--bits", str(arguments.bits)],
        )
        return 0 if all(tuple(map(_measured, commands))) else 1
    finally:
        shutil.rmtree(folder)


def _measured(command: List[str]) -> bool:
    """Run one command in a process of its own; whether it ended well within the limit."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "graphwq", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=str(support.ROOT),
    )
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - began
    peak = usage.ru_maxrss * 1024 / _GIGABYTE
    held = status == 0 and peak < _LIMIT
    print(
        f"{command[0]:8} {seconds:6.1f} s, peak memory {peak:.2f} GiB (limit {_LIMIT}): "
        f"{'held' if held else 'MISSED'}"
    )
    return held


def write(prefix: Path, gigabytes: float, layers: int) -> Tuple[int, int]:
    """Write checkpoint and MetaGraph; return the bytes of the floats and the width of a layer."""
    width = int((gigabytes * _GIGABYTE / 4 / layers) ** 0.5)
    random = np.random.RandomState(0)
    b = GraphBuilder()
    x = b.placeholder("x", [-1, width])
    items: List[Tuple[bytes, bytes]] = [(b"", header())]
    offset = 0
    with open(f"{prefix}.data-00000-of-00001", "wb") as file:
        for layer in range(layers):
            name = f"layer_{layer:03d}/w"
            values = random.standard_normal((width, width)).astype(np.float32)
            values *= np.float32(0.02)
            data = values.tobytes()
            file.write(data)
            crc = checksum(data)
            items.append((name.encode(), entry(DT_FLOAT, values.shape, 0, offset, len(data), crc)))
            offset += len(data)
            b.variable(name, values.shape)
            x = b.matmul(f"layer_{layer:03d}/y", x, b.op(f"{name}/read", "Identity", [name]))
    Path(f"{prefix}.index").write_bytes(table(items))
    signatures = {"serving_default": {"y": f"{x}:0"}}
    Path(f"{prefix}.meta").write_bytes(meta_graph(b.to_bytes(), (), signatures))
    return offset, width


if __name__ == "__main__":
    sys.exit(main())
