"""Did a change make graphwq slower? Two commits, by numbers that a noisy machine does not move.

    python benchmarks/regress.py [OLD [NEW]] [--time ROUNDS] [--limit 1.05]

OLD and NEW are commits; HEAD~1 and the working tree where they are not given. Each is laid out in
a folder of its own, compiled, and quantizes the same graphs. What is compared:

* instructions, where valgrind is installed: cachegrind counts them without looking at a clock, with
  one thread and a fixed hash seed. Two runs of one commit differ by less than 0.1 %. The start-up
  is counted apart and taken off the other cases, so that it does not hide what they do.
* with --time (or without valgrind): CPU seconds. The two take turns, the order changes with each
  round, and the ratio is the median of the ratios of the rounds; it counts only where nine tenths
  of the rounds agree that NEW is slower. It also sees what no instruction shows (memory, caches).

Exit status 1 if a ratio is above the limit.
"""

from __future__ import annotations

import argparse
import compileall
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median
from typing import Dict, List, Optional, Sequence, Tuple

from support import ROOT, child, measure, note

_LIMIT = 1.05
_ROUNDS = 15
#: Of the rounds in which NEW must be slower for a ratio of times to count.
_AGREE = 0.9
_TREE = "working tree"
_START = "start-up"
#: Case -> graph of models.py, number of its layers, options.
_CASES: Dict[str, Tuple[str, int, Tuple[str, ...]]] = {
    "8 MatMuls of 1024, 8 bits": ("chain", 8, ()),
    "8 MatMuls of 1024, 3 bits": ("chain", 8, ("--bits", "3")),
    "400 small layers, 8 bits": ("many", 400, ()),
}


def lay_out(commit: str, folder: Path) -> Path:
    """Put the package of a commit into a folder, compiled; the folder."""
    if commit == _TREE:
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(str(ROOT / "graphwq"), str(folder / "graphwq"), ignore=skipped)
    else:
        command = ["git", "-C", str(ROOT), "archive", commit, "graphwq"]
        archive = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(str(folder))
    compileall.compile_dir(str(folder), quiet=1)
    return folder


def command(case: str, folder: Path) -> List[str]:
    """What a case runs."""
    start = [sys.executable, "-m", "graphwq"]
    if case == _START:
        return [*start, "quantize", "--help"]
    model, layers, options = _CASES[case]
    source, target = folder / f"{model}{layers}.pb", folder / "out.pb"
    return [*start, "quantize", str(source), "-o", str(target), "--force", *options]


def environment(package: Path) -> Dict[str, str]:
    """One thread, and dictionaries that are alike in every run."""
    fixed = {"PYTHONPATH": str(package), "PYTHONHASHSEED": "0", "GRAPHWQ_THREADS": "1"}
    return {**os.environ, **fixed}


def instructions(argv: Sequence[str], package: Path) -> int:
    """Instructions of a process, counted by valgrind."""
    counter = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*counter, *argv], env=environment(package), cwd=str(package), capture_output=True
    )
    said = done.stderr.decode("utf-8", "replace")
    found = re.search(r"I\s+refs:\s+([\d,]+)", said)
    if done.returncode or found is None:
        raise RuntimeError(f"{' '.join(argv)} failed under valgrind:\n{said[-2000:]}")
    return int(found.group(1).replace(",", ""))


def count(packages: Dict[str, Path], folder: Path) -> Dict[str, float]:
    """Case -> instructions of NEW over those of OLD; the start-up is taken off the others."""
    counts: Dict[str, List[int]] = {}
    for case in (_START, *_CASES):
        note(f"counting instructions: {case}")
        counts[case] = [instructions(command(case, folder), each) for each in packages.values()]
    start = counts.pop(_START)
    ratios = {_START: start[1] / start[0]}
    for case, (old, new) in counts.items():
        ratios[case] = (new - start[1]) / (old - start[0])
    return ratios


def times(packages: Dict[str, Path], folder: Path, rounds: int) -> Dict[str, Tuple[float, float]]:
    """Case -> median of the ratios of CPU seconds, and the part of the rounds with NEW slower."""
    found: Dict[str, Tuple[float, float]] = {}
    old, new = packages.values()
    for case in (_START, *_CASES):
        ratios = []
        for number in range(rounds):
            note(f"{case}: round {number + 1} of {rounds}")
            order = (old, new) if number % 2 else (new, old)
            cpu = {
                each: measure(command(case, folder), environment(each), each).cpu for each in order
            }
            ratios.append(cpu[new] / cpu[old])
        found[case] = median(ratios), sum(ratio > 1 for ratio in ratios) / rounds
    return found


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Compare two commits."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("old", nargs="?", default="HEAD~1")
    parser.add_argument("new", nargs="?", default=_TREE)
    parser.add_argument("--time", type=int, metavar="ROUNDS", help="compare CPU seconds")
    parser.add_argument("--limit", type=float, default=_LIMIT)
    arguments = parser.parse_args(argv)
    by_time = arguments.time or (None if shutil.which("valgrind") else _ROUNDS)
    slower = False
    with tempfile.TemporaryDirectory(prefix="graphwq-regress-") as name:
        folder = Path(name)
        packages = {
            side: lay_out(commit, folder / side)
            for side, commit in (("old", arguments.old), ("new", arguments.new))
        }
        for model, layers, _ in _CASES.values():
            child("models.py", model, str(folder / f"{model}{layers}.pb"), str(layers))
        print(f"{arguments.new} against {arguments.old}, limit {arguments.limit:g}")
        if by_time is None:
            for case, ratio in count(packages, folder).items():
                slower |= ratio > arguments.limit
                print(f"  {case:28} instructions x {ratio:.4f}{_mark(ratio > arguments.limit)}")
        else:
            for case, (ratio, agree) in times(packages, folder, by_time).items():
                worse = ratio > arguments.limit and agree >= _AGREE
                slower |= worse
                print(
                    f"  {case:28} CPU x {ratio:.3f}, slower in {agree:.0%} of the rounds"
                    f"{_mark(worse)}"
                )
    return 1 if slower else 0


def _mark(worse: bool) -> str:
    return "  SLOWER" if worse else ""


if __name__ == "__main__":
    sys.exit(main())
