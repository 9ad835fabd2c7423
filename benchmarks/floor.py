"""The floor: what any program that quantizes weights in numpy has to do at least.

    python benchmarks/floor.py IN.pb OUT

It imports numpy, reads every byte of the file once as floats from a map (it takes their maximum)
and writes a quarter of the bytes. It does not sync the file, which graphwq does.
"""

from __future__ import annotations

import mmap
import sys

import numpy as np

_PIECE = 1 << 20


def main(source: str, target: str) -> None:
    """Run as a script."""
    with open(source, "rb") as file, open(target, "wb") as out:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        floats = np.frombuffer(mapped, np.float32, len(mapped) // 4)
        for begin in range(0, floats.size, _PIECE):
            piece = floats[begin : begin + _PIECE]
            piece.max()
            out.write(piece[: -(-piece.size // 4)])


if __name__ == "__main__":
    main(*sys.argv[1:])
