"""Running a command in a child process that may use so much memory and CPU and no more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from commandline import environment

#: Bytes that a command may need beside what Python and numpy take; seconds of CPU after which the
#: child is killed.
MEMORY, KILL = 512 << 20, 30

_CHILD = """
import json, os, resource, sys, time
import numpy
from graphwq.cli.main import main
memory, kill = int(sys.argv[1]), int(sys.argv[2])
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + memory, now + memory))
spent = time.process_time()
resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + kill, int(spent) + kill + 1))
status = main(sys.argv[3:])
sys.stdout.flush()
usage = resource.getrusage(resource.RUSAGE_SELF)
spent, memory = time.process_time() - spent, usage.ru_maxrss << 10
os.write(2, json.dumps([status, spent, memory]).encode())
"""


class Spent(NamedTuple):
    """What a command did and what it took.

    Attributes:
        status: exit status; -9 or -24 where the limit of CPU time ended it.
        out, err: what it printed.
        seconds: of CPU, without starting Python.
        memory: bytes, the peak of the whole process.
    """

    status: int
    out: str
    err: str
    seconds: float
    memory: int


def limited(*arguments: Any, folder: Path, memory: int = MEMORY, kill: int = KILL) -> Spent:
    """Run ``graphwq ARGUMENTS`` in ``folder`` under limits."""
    command: Sequence[str] = [sys.executable, "-c", _CHILD, str(memory), str(kill)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env={**environment(), "OPENBLAS_NUM_THREADS": "1"},
        cwd=str(folder),
        capture_output=True,
        timeout=20 * kill,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    if done.returncode:
        return Spent(done.returncode, out, err, float(kill), 0)
    said, _, numbers = err.rpartition("[")
    status, seconds, peak = json.loads("[" + numbers)
    return Spent(status, out, said, seconds, peak)
