"""What is disturbed: every command that writes, with its inputs and the files that it makes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from builders import GraphBuilder, random_weight
from commandline import environment
from fuzz import seeds

from graphwq.graphdef.source import save
from graphwq.graphdef.wire import delimited

#: Marks an old file; its permissions.
OLD, MODE = b"old, and precious\n" * 1000, 0o640
SUFFIX = ".graphwq-tmp"


class Scene(NamedTuple):
    """A command that is run again and again in one folder.

    Attributes:
        folder: with the inputs.
        arguments: of graphwq.
        outputs: the files that it writes, all of them replaced with --force.
        new: their contents after an undisturbed run.
        seconds: how long that took.
    """

    folder: Path
    arguments: Tuple[str, ...]
    outputs: Tuple[str, ...]
    new: Dict[str, bytes]
    seconds: float

    def reset(self) -> None:
        """Put the old files there."""
        for name in self.outputs:
            path = self.folder / name
            if path.exists():
                path.unlink()
            path.write_bytes(OLD)
            path.chmod(MODE)

    def start(self, before: Optional[Callable[[], None]] = None) -> subprocess.Popen:  # type: ignore[type-arg]
        """Start the command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "graphwq", *self.arguments],
            cwd=str(self.folder),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=before,
            start_new_session=True,
        )

    def temporaries(self) -> List[str]:
        """The temporary files that are there."""
        return [name for name in os.listdir(str(self.folder)) if name.endswith(SUFFIX)]

    def states(self) -> List[str]:
        """Of each output: ``old``, ``new``, or what is wrong with it."""
        found = []
        for name in self.outputs:
            path = self.folder / name
            if not path.exists():
                found.append(f"{name} is missing")
                continue
            content, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
            state = "old" if content == OLD else "new" if content == self.new[name] else "broken"
            found.append(state if mode == MODE else f"{state} with permissions {mode:o}")
        return found


def _large(layers: int) -> bytes:
    b = GraphBuilder()
    name = b.placeholder("x", [-1, 1024])
    for index in range(layers):
        weight = b.const(f"w{index}", random_weight((1024, 1024), index))
        name = b.matmul(f"m{index}", name, weight)
    return b.to_bytes()


def _inputs(folder: Path, layers: int) -> None:
    graph = seeds.small_graph()
    save(graph, folder / "small.pb", force=True)
    known = seeds.graphs()
    (folder / "small8.pb").write_bytes(known["small-8-dequant"])
    (folder / "diff.json").write_bytes(seeds.diffs()["small-8-dequant"])
    (folder / "report.json").write_bytes(seeds.reports()["bake"])
    (folder / "pruned.bin").write_bytes(seeds.compressions()["pruned"])
    (folder / "g.pb").write_bytes(seeds.variables_graph())
    (folder / "m.index").write_bytes(seeds.bundle()[0])
    (folder / "m.data-00000-of-00001").write_bytes(seeds.bundle()[1])
    (folder / "large.pb").write_bytes(_large(layers))
    (folder / "other.pb").write_bytes(_large(1) + delimited(1000, b"x"))


#: Name -> arguments and outputs.
COMMANDS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "quantize": ("quantize large.pb -o out.pb --force", ("out.pb",)),
    "quantize, plan": (
        "quantize small.pb -o out.pb --keep-larger --save-plan plan.json --force",
        ("out.pb", "plan.json"),
    ),
    "quantize, text": ("quantize small.pb -o out.pbtxt --keep-larger --force", ("out.pbtxt",)),
    "quantize, checkpoint": (
        "quantize g.pb --checkpoint m --outputs y -o out.pb --keep-larger --force",
        ("out.pb",),
    ),
    "plan": ("plan large.pb -o plan.json --force", ("plan.json",)),
    "verify, pages": (
        "verify small.pb small8.pb --static --report r.json --html r.html --markdown r.md --force",
        ("r.json", "r.md", "r.html"),
    ),
    "report": (
        "report report.json --html r.html --markdown r.md --force",
        ("r.md", "r.html"),
    ),
    "diff": ("diff large.pb other.pb --format html -o d.html --force", ("d.html",)),
    "diff, apply": ("diff small.pb --apply diff.json -o out.pb --force", ("out.pb",)),
    "mnn command": (
        "mnn command small.pb -o out.pb --params p.bin --append pruned.bin --force",
        ("out.pb", "p.bin"),
    ),
}
#: These need TensorFlow or MNN.
WITH_TENSORFLOW: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "verify, golden": (
        "verify small.pb small8.pb --save-golden golden.npz --force",
        ("golden.npz",),
    ),
}
WITH_MNN: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "mnn convert": (
        "mnn convert small.pb -o out.mnn --params p.json --no-run --force",
        ("out.mnn", "p.json"),
    ),
}


def scene(name: str, folder: Path, layers: int = 8) -> Scene:
    """Make the inputs, run the command once undisturbed and remember what it wrote."""
    line, outputs = {**COMMANDS, **WITH_TENSORFLOW, **WITH_MNN}[name]
    _inputs(folder, layers)
    made = Scene(folder, tuple(line.split()), outputs, {}, 0.0)
    began = time.monotonic()
    child = made.start()
    _, err = child.communicate()
    seconds = time.monotonic() - began
    assert child.returncode in (0, 1), err.decode()
    new = {item: (folder / item).read_bytes() for item in outputs}
    return made._replace(new=new, seconds=seconds)
