"""The fuzzer: ``python -m fuzz.run [--scale 1.0] [--folder DIR] [TARGET ...]``, from tests/.

Every target runs in a child process (``fuzz.engine``) until it has had its share of runs; a child
that dies is a find and is followed by another. Exit status 1 where there is any find. ``--table
FILE`` writes what was measured as Markdown; ``--keep`` puts the smallest inputs that reach
everything into tests/fuzz/corpus.zip, which the normal tests run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

from fuzz.kept import keep

TESTS = Path(__file__).resolve().parent.parent

#: Target -> runs at --scale 1; together more than a million.
SHARES: Dict[str, int] = {
    "tensor": 200_000,
    "plan": 150_000,
    "mnn_model": 150_000,
    "table": 120_000,
    "compression": 100_000,
    "patch": 100_000,
    "wire": 60_000,
    "npz": 40_000,
    "text": 30_000,
    "golden": 20_000,
    "checkpoint": 20_000,
    "meta": 15_000,
    "report": 15_000,
    "inspect": 12_000,
    "quantize": 25_000,
    "verify": 10_000,
    "diff": 8_000,
    "lint": 10_000,
}
_CRASHES = 20


def fuzz(name: str, folder: Path, runs: int, seconds: int) -> Dict[str, Any]:
    """Fuzz one target until it has had ``runs`` runs or ``seconds``; returns its counters."""
    folder.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + seconds
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    for _ in range(_CRASHES):
        left = runs - int(_stats(folder).get("runs", 0))
        time_left = int(until - time.monotonic())
        if left <= 0 or time_left <= 0:
            break
        command = [
            sys.executable,
            "-m",
            "fuzz.engine",
            name,
            str(folder),
            str(left),
            str(time_left),
        ]
        with open(folder / "log", "ab") as log:
            done = subprocess.run(command, stderr=log, stdout=log, cwd=str(TESTS), env=environment)
        if done.returncode == 0 and left <= 500:
            break
    return {**_stats(folder), "crashes": len(list((folder / "finds").glob("crash-*")))}


def _stats(folder: Path) -> Dict[str, Any]:
    path = folder / "stats.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _line(name: str, found: Dict[str, Any]) -> List[str]:
    runs, seconds = found.get("runs", 0), found.get("seconds", 0.0)
    return [
        name,
        f"{runs:,}",
        f"{100 * found.get('results', 0) / max(runs, 1):.0f} %",
        f"{runs / max(seconds, 1e-9):.0f}",
        f"{found.get('slowest', 0):.2f} s",
        f"{found.get('peak_mb', 0)} MB",
        str(len(found.get("finds", {})) + found.get("crashes", 0)),
    ]


def table(found: Dict[str, Dict[str, Any]]) -> str:
    """The counters as Markdown."""
    head = ["target", "runs", "accepted", "runs/s", "slowest input (CPU)", "peak memory", "finds"]
    rows = [_line(name, item) for name, item in found.items()]
    total = sum(item.get("runs", 0) for item in found.values())
    finds = sum(int(row[-1]) for row in rows)
    rows.append(["**all**", f"**{total:,}**", "", "", "", "", f"**{finds}**"])
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    text = "\n".join("| " + " | ".join(row) + " |" for row in lines)
    made = f"Python {platform.python_version()}, atheris, one process, {time.strftime('%Y-%m-%d')}"
    return f"{text}\n\n{made}.\n"


def main(arguments: Sequence[str]) -> int:
    """Fuzz all targets, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("targets", nargs="*", default=[], metavar="TARGET", help=" ".join(SHARES))
    parser.add_argument("--folder", type=Path, default=TESTS.parent / "out" / "fuzz")
    parser.add_argument("--scale", type=float, default=1.0, help="of the runs of every target")
    parser.add_argument("--runs", type=int, help="of every target, instead of its share")
    parser.add_argument("--seconds", type=int, default=100_000, help="of every target at most")
    parser.add_argument("--table", type=Path, help="write what was measured as Markdown")
    parser.add_argument("--keep", action="store_true", help="make tests/fuzz/corpus.zip anew")
    options = parser.parse_args(arguments)
    found: Dict[str, Dict[str, Any]] = {}
    for name in options.targets or SHARES:
        runs = options.runs or int(SHARES[name] * options.scale)
        found[name] = fuzz(name, options.folder.resolve() / name, runs, options.seconds)
        print("  ".join(_line(name, found[name])), flush=True)
        for place, count in sorted(found[name].get("finds", {}).items()):
            print(f"    {count}x {place}", flush=True)
    if options.table is not None:
        options.table.write_text(table(found))
    if options.keep:
        print(keep(options.folder, list(found)))
    return 1 if any(item.get("finds") or item.get("crashes") for item in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
