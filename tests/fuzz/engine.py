"""One target under atheris (libFuzzer): ``python -m fuzz.engine TARGET FOLDER RUNS SECONDS``.

Run from tests/ by ``fuzz.run``, in a process of its own. The folder gets ``queue/`` (inputs that
reach something new), ``finds/`` (inputs that break a promise, one for each place) and
``stats.json``. A find does not stop the run; a crash or an input that takes more memory than
allowed ends the process, and ``fuzz.run`` starts another.
"""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import resource
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any, Dict

#: What one input may cost: CPU seconds of this (instrumented) process, bytes of memory.
SECONDS, BYTES = 2.0, 512 << 20
_EVERY = 500
#: Targets that also start from the small graphs of the corpus, and what stands before each.
REAL = {"wire": b"", "inspect": b"", "quantize": b"\x06\x18", "lint": b"\x06\x00"}


def _import_instrumented() -> Any:
    import atheris

    with atheris.instrument_imports(include=["graphwq"], enable_loader_override=False):
        import graphwq

        for module in pkgutil.walk_packages(graphwq.__path__, "graphwq."):
            if ".tf1" not in module.name and not module.name.endswith("__main__"):
                import_module(module.name)
    return atheris


def place_of(error: BaseException) -> str:
    """Where an exception comes from: its kind and the last line of graphwq on its way."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "graphwq" in Path(frame.filename).parts] or frames
    return f"{type(error).__name__}@{Path(own[-1].filename).name}:{own[-1].lineno}"


class Session:
    """The counters of one run and what it finds."""

    def __init__(self, name: str, folder: Path, runs: int) -> None:
        from fuzz.targets import TARGETS

        self._name = name
        self._target = TARGETS[name]
        self._folder = folder
        self._stats: Dict[str, Any] = {"runs": 0, "results": 0, "slowest": 0.0, "finds": {}}
        known = folder / "stats.json"
        if known.is_file():
            self._stats.update(json.loads(known.read_text()))
        self._stats.setdefault("seconds", 0.0)
        self._last = self._stats["runs"] + runs
        self._began = time.monotonic() - self._stats["seconds"]

    def one(self, data: bytes) -> None:
        """Run one input."""
        from fuzz.targets import outcome

        began = time.process_time()
        try:
            refused = outcome(self._target, data)
            self._stats["results"] += refused is None
        except Exception as error:
            self._found(data, place_of(error), "".join(traceback.format_exc()))
        spent = time.process_time() - began
        self._stats["slowest"] = max(self._stats["slowest"], spent)
        if spent > SECONDS:
            self._found(data, f"slow-{int(spent)}", f"{spent:.1f} s of CPU")
        self._stats["runs"] += 1
        if self._stats["runs"] % _EVERY == 0 or self._stats["runs"] == self._last:
            self.save()

    def _found(self, data: bytes, place: str, trace: str) -> None:
        count = self._stats["finds"].get(place, 0)
        self._stats["finds"][place] = count + 1
        if count < 3:
            digest = hashlib.sha256(data).hexdigest()[:10]
            stem = self._folder / "finds" / f"{place.replace(os.sep, '_')}-{digest}"
            stem.with_name(stem.name + ".bin").write_bytes(data)
            stem.with_name(stem.name + ".txt").write_text(trace, errors="backslashreplace")

    def save(self) -> None:
        """Write the counters."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._stats["seconds"] = time.monotonic() - self._began
        self._stats["peak_mb"] = max(self._stats.get("peak_mb", 0), usage.ru_maxrss // 1024)
        path = self._folder / "stats.json"
        temporary = path.with_name("stats.new")
        temporary.write_text(json.dumps(self._stats, indent=1))
        temporary.replace(path)


def _limit_memory() -> None:
    """512 MB beyond what the process has when it starts: a larger wish is a MemoryError, a find."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, now + BYTES))


def main(name: str, folder: Path, runs: int, seconds: int) -> None:
    """Fuzz one target until ``runs`` more runs or ``seconds`` are over."""
    atheris = _import_instrumented()
    from fuzz import seeds
    from fuzz.mutate import once
    from fuzz.targets import TARGETS

    target = TARGETS[name]
    for part in ("queue", "finds"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    started = target.seeds()
    if name in REAL:
        real = seeds.real_graphs(target.max_bytes - 2)
        started.update({title: REAL[name] + data for title, data in real.items()})
    for title, data in started.items():
        (folder / "queue" / f"seed-{title}").write_bytes(data)
    session = Session(name, folder, runs)

    def custom(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 6 == 0:
            return bytes(atheris.Mutate(data, max_size))
        changed = once(target.mutate, data, seed)
        return changed if len(changed) <= max_size else data

    arguments = [
        sys.argv[0],
        f"-runs={runs}",
        f"-max_total_time={seconds}",
        f"-max_len={target.max_bytes}",
        f"-artifact_prefix={folder / 'finds'}/crash-",
        "-timeout=60",
        f"-rss_limit_mb={4 * BYTES >> 20}",
        "-print_final_stats=1",
        "-len_control=0",
        "-mutate_depth=1",
        str(folder / "queue"),
    ]
    atheris.Setup(arguments, session.one, custom_mutator=custom)
    _limit_memory()
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
