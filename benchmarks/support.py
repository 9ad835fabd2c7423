"""What all benchmarks share: processes with their time and memory, tables, targets, the machine.

Importing this module makes ``graphwq`` importable from the checkout. It must stay small: a child's
peak memory as the kernel reports it is never below what its parent held when it was started.
"""

from __future__ import annotations

import compileall
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

sys.path.insert(0, str(ROOT))

_WATCH_SECONDS = 0.002


@dataclass(frozen=True)
class Run:
    """One process from start to end.

    Attributes:
        wall, cpu: seconds; cpu is user + system of the process and all its threads.
        rss: peak resident memory in bytes, the mapped pages of files included.
        anonymous: peak of the memory that is no page of a file.
    """

    wall: float
    cpu: float
    rss: int
    anonymous: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of text under a title; a column whose name ends in ``>`` is aligned to the right."""

    title: str
    columns: Tuple[str, ...]
    rows: Tuple[Tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown."""
        rules = ["---:" if column.endswith(">") else "---" for column in self.columns]
        names = [column.rstrip(">") for column in self.columns]
        lines = [_line(names), _line(rules), *(_line(row) for row in self.rows)]
        return f"**{self.title}**\n\n" + "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


@dataclass(frozen=True)
class Target:
    """A number that must not exceed its limit."""

    name: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does not."""
        return self.value <= self.limit


@dataclass(frozen=True)
class Part:
    """The outcome of one part of the benchmark."""

    name: str
    tables: Tuple[Table, ...]
    targets: Tuple[Target, ...]
    notes: Tuple[str, ...]
    data: Dict[str, Any]

    def target_table(self) -> Table:
        """The targets as a table."""
        rows = [
            (t.name, f"{t.value:.4f}", f"{t.limit:g}", "yes" if t.holds else "NO")
            for t in self.targets
        ]
        return Table("targets", ("target", "measured>", "at most>", "holds"), tuple(rows))

    def markdown(self) -> str:
        """The part as a section of Markdown."""
        tables = [table.markdown() for table in (*self.tables, self.target_table())]
        notes = "\n".join(f"* {note}" for note in self.notes)
        return "\n\n".join([f"## {self.name}", *tables, *([notes] if notes else [])]) + "\n"

    def show(self) -> None:
        """Print the part as tables."""
        for table in (*self.tables, self.target_table()):
            _print_table(f"{self.name}: {table.title}", table)
        for note in self.notes:
            print(f"  {note}")

    def to_json(self) -> Dict[str, Any]:
        """The numbers as JSON data."""
        targets = [dict(asdict(target), holds=target.holds) for target in self.targets]
        return {"part": self.name, "targets": targets, "notes": list(self.notes), **self.data}


def _print_table(title: str, table: Table) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in table.columns:
        right = column.endswith(">")
        shown.add_column(Text(column.rstrip(">")), justify="right" if right else "left")
    for row in table.rows:
        shown.add_row(*[Text(cell) for cell in row])
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(shown)


def measure(
    argv: Sequence[str],
    environment: Dict[str, str],
    folder: Path = HERE,
    seconds: Optional[float] = None,
    memory: Optional[int] = None,
) -> Run:
    """Run a process to its end, in this folder: ``python -m`` looks where it is started first.

    Args:
        argv, environment, folder: of the process.
        seconds: it is killed after so many.
        memory: bytes of address space that it may have.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """

    def limit() -> None:
        os.setpgrp()
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        process = subprocess.Popen(
            argv, stdout=log, stderr=log, env=environment, cwd=str(folder), preexec_fn=limit
        )
        watch = _Watch(process.pid, seconds)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = status
        watch.stop()
        if watch.killed:
            raise RuntimeError(f"not done after {seconds:.0f} s")
        if status:
            log.seek(0)
            tail = log.read().decode("utf-8", "replace")[-2000:]
            raise RuntimeError(f"{' '.join(argv)} failed (status {status}):\n{tail}")
    cpu = usage.ru_utime + usage.ru_stime
    return Run(wall, cpu, usage.ru_maxrss * 1024, watch.anonymous)


class _Watch(threading.Thread):
    """Looks at a process and its children every 2 ms: the peak of their anonymous memory.

    The kernel keeps no such peak; ``RssAnon`` of /proc/PID/status is its value at an instant. What
    lives for less than 2 ms can be missed.
    """

    def __init__(self, pid: int, seconds: Optional[float]) -> None:
        super().__init__(daemon=True)
        self.anonymous = 0
        self.killed = False
        self._pid = pid
        self._end = None if seconds is None else time.monotonic() + seconds
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Look until the process is over."""
        while not self._over.wait(_WATCH_SECONDS):
            self.anonymous = max(self.anonymous, sum(map(_anonymous, _family(self._pid))))
            if self._end is not None and time.monotonic() > self._end:
                self.killed = True
                os.killpg(self._pid, signal.SIGKILL)
                return

    def stop(self) -> None:
        """End the watch."""
        self._over.set()
        self.join()


def _family(pid: int) -> List[int]:
    """A process and its descendants."""
    found = [pid]
    for parent in found:  # which grows meanwhile
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except OSError:
            continue
        found.extend(map(int, children.split()))
    return found


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def interleaved(
    commands: Dict[str, Sequence[str]],
    rounds: int,
    environment: Dict[str, str],
    outputs: Sequence[Path] = (),
) -> Dict[str, List[Run]]:
    """Run each command once per round, so that a disturbance hits all of them: A B A B ...

    ``outputs`` are removed before each round: replacing a file takes longer than making one.
    """
    runs: Dict[str, List[Run]] = {name: [] for name in commands}
    for number in range(rounds):
        for path in outputs:
            if path.exists():
                path.unlink()
        for name, argv in commands.items():
            note(f"{name}: run {number + 1} of {rounds}")
            runs[name].append(measure(argv, environment))
    return runs


def middle(runs: Sequence[Run]) -> Run:
    """The medians of several runs."""
    return Run(
        median(run.wall for run in runs),
        median(run.cpu for run in runs),
        int(median(run.rss for run in runs)),
        int(median(run.anonymous for run in runs)),
    )


def fastest(runs: Sequence[Run]) -> float:
    """The wall time of the run that was disturbed least."""
    return min(run.wall for run in runs)


@contextmanager
def installed() -> Iterator[Tuple[Path, Dict[str, str]]]:
    """A scratch folder and an environment in which graphwq is compiled, as pip leaves it.

    A checkout may lie without byte code (with PYTHONDONTWRITEBYTECODE it always does); compiling
    50 modules at each start is no part of what a user waits for.
    """
    with tempfile.TemporaryDirectory(prefix="graphwq-bench-") as name:
        folder = Path(name)
        library = folder / "lib"
        shutil.copytree(
            str(ROOT / "graphwq"),
            str(library / "graphwq"),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        compileall.compile_dir(str(library), quiet=1)
        environment = {
            **os.environ,
            "PYTHONPATH": str(library),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        yield folder, environment


def child(script: str, *arguments: str, timeout: Optional[float] = None) -> str:
    """Run a script of this folder and return what it prints.

    Raises:
        RuntimeError: it failed or took too long; with the end of its error output.
    """
    argv = [sys.executable, str(HERE / script), *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(argv, capture_output=True, env=environment, timeout=timeout)
    if done.returncode:
        tail = done.stderr.decode("utf-8", "replace")[-2000:]
        raise RuntimeError(
            f"{script} {' '.join(arguments)} failed (status {done.returncode}):\n{tail}"
        )
    return done.stdout.decode("utf-8")


def note(message: str) -> None:
    """Say on stderr what is going on."""
    print(f"bench: {message}", file=sys.stderr, flush=True)


def machine() -> Dict[str, str]:
    """What the numbers were measured on."""
    import pkg_resources  # type: ignore[import]

    versions = []
    for package in ("numpy", "protobuf", "networkx", "tensorflow"):
        try:
            versions.append(f"{package} {pkg_resources.get_distribution(package).version}")
        except pkg_resources.DistributionNotFound:
            versions.append(f"no {package}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}; {', '.join(versions)}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def load_average() -> float:
    """Runnable processes during the last minute: far above 1 means that others disturb."""
    return os.getloadavg()[0]
