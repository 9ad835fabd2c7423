"""All disturbances, with figures: ``python -m faults.harness [--kills N] [--table FILE]``.

Run in tests/. Exit status 1 where anything was broken: an output that is neither the old nor the
complete new file, lost permissions, a temporary file that stays after the next run, a wrong exit
status, a traceback.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
import tempfile
from pathlib import Path
from typing import Iterator, List, Sequence

from faults import disturb
from faults.disturb import Row
from faults.scenes import COMMANDS, WITH_MNN, WITH_TENSORFLOW, scene

_ELSEWHERE = Path("/dev/shm")


def rows(kills: int, few: int) -> Iterator[Row]:
    """Every disturbance; ``kills`` times SIGKILL to quantize, ``few`` times what is the same."""
    with tempfile.TemporaryDirectory() as name:
        made = scene("quantize", Path(name))
        yield disturb.stopped(made, signal.SIGKILL, kills, 1, "quantize")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            yield disturb.stopped(made, number, 2 * few, 2, "quantize")
        for number in (signal.SIGINT, signal.SIGTERM):
            yield disturb.on_a_terminal(made, number, few, "quantize")
        yield disturb.truncated(made, "large.pb", 2 * few, 3, "quantize")
        yield disturb.two_at_once(made, few, True, "quantize")
        yield disturb.two_at_once(made, few, False, "quantize")
        if _ELSEWHERE.is_dir():
            with tempfile.TemporaryDirectory(dir=str(_ELSEWHERE)) as elsewhere:
                yield from disturb.through_links(made, Path(elsewhere), "quantize")
    commands = list(COMMANDS)[1:]
    for optional, module in ((WITH_TENSORFLOW, "tensorflow"), (WITH_MNN, "_tools")):
        if importlib.util.find_spec(module) is not None:
            commands += list(optional)
    for command in commands:
        with tempfile.TemporaryDirectory() as name:
            made = scene(command, Path(name))
            yield disturb.stopped(made, signal.SIGKILL, few, 4, command)
            yield disturb.stopped(made, signal.SIGTERM, few, 5, command)
    yield from _disks(["quantize", *commands])


def _disks(commands: Sequence[str]) -> Iterator[Row]:
    """Full and read-only disks, for every command."""
    for command in commands:
        with tempfile.TemporaryDirectory() as name:
            made = scene(command, Path(name))
            largest = max(map(len, made.new.values()))
            limit = disturb.file_size_limit(min(largest // 2, 1 << 20))
            if largest > 4096:
                yield disturb.refused(made, "no room (RLIMIT_FSIZE)", command, "large", limit)
        with tempfile.TemporaryDirectory() as name, disturb.small_disk(Path(name), 64) as mounted:
            if not mounted:
                continue
            made = scene(command, Path(name))
            made.reset()
            disturb.remounted_read_only(Path(name))
            yield disturb.refused(made, "read-only file system", command, "")
    with tempfile.TemporaryDirectory() as name, disturb.small_disk(Path(name), 48) as mounted:
        if mounted:
            made = scene("quantize", Path(name))
            made.reset()
            filler = Path(name) / "filler"
            with open(filler, "wb") as file:
                try:
                    while True:
                        file.write(bytes(1 << 16))
                        file.flush()
                except OSError:
                    pass
            with open(filler, "r+b") as file:
                file.truncate(max(0, filler.stat().st_size - (1 << 20)))
            yield disturb.refused(made, "full disk (tmpfs)", "quantize", "No space left")


def table(found: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| fault | command | trials | while writing | old file | new file | broken |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        old, new = row.outcomes.get("old", 0), row.outcomes.get("new", 0)
        cells = (row.what, row.command, row.trials, row.during or "", old, new, len(row.broken))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    trials, broken = sum(row.trials for row in found), sum(len(row.broken) for row in found)
    lines.append(f"| **all** | | **{trials}** | | | | **{broken}** |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Disturb, print, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args(arguments)
    found: List[Row] = []
    for row in rows(options.kills, options.few):
        found.append(row)
        print(row.what, "|", row.command, "|", row.trials, row.outcomes, row.during, flush=True)
        for line in row.broken:
            print("    BROKEN:", line, flush=True)
    if options.table is not None:
        options.table.write_text(_HEAD + table(found), encoding="utf-8")
    return 1 if any(row.broken for row in found) else 0


_HEAD = """# Faults

What `make faults` did: every command that writes is disturbed over existing outputs (with
`--force`), and afterwards each output must be the complete old or the complete new file, with its
permissions; exit status and messages must be right; and the next run must leave no temporary file
of a process that was killed. "While writing": trials that came while a temporary file was there.

"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
