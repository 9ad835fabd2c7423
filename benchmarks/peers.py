"""One table: graphwq against the other tools that quantize the weights of a frozen graph.

    python benchmarks/bench.py peers

Whole processes from ``exec`` to exit, which take turns. README.md says how to read it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from support import (
    HERE,
    ROOT,
    Part,
    Run,
    Table,
    Target,
    child,
    fastest,
    installed,
    measure,
    middle,
    note,
)

OURS, GTT, LITE, MNN, FLOOR = (
    "graphwq",
    "Graph Transform Tool",
    "TFLite converter",
    "mnnconvert",
    "floor",
)
PEERS = (GTT, LITE, MNN)

#: What a peer may take: seconds, and bytes of address space.
_SECONDS, _MEMORY = 180.0, 12 << 30
_MOST_OF_FLOOR, _MOST_OF_PEER, _MOST_LATENCY = 2.0, 0.1, 1.05
_MOST_ANONYMOUS = 150e6


@dataclass(frozen=True)
class Model:
    """A graph that is measured.

    Attributes:
        name: in models.py.
        title: in the table.
        largest: bytes of its largest tensor.
        rounds: how often graphwq and the floor run, and how often each peer.
        large: whether the targets against the floor are for it.
    """

    name: str
    title: str
    largest: int
    rounds: Tuple[int, int]
    large: bool


MODELS = (
    Model("chain", "MatMul chain, 210 MB", 1 << 22, (9, 3), True),
    Model("convnet", "100 convolutions, 102 MB", 9 * 168 * 168 * 4, (9, 3), True),
    Model("huge", "28 MatMuls of 64 MiB, 1.9 GB", 1 << 26, (7, 1), True),
    Model("many", "20,000 nodes of small weights, 19 MB", 1 << 12, (5, 3), False),
)


@dataclass(frozen=True)
class Outcome:
    """What one tool did with one model; ``failure`` says why nothing else is there."""

    runs: Tuple[Run, ...] = ()
    nbytes: int = 0
    failure: str = ""


def peers() -> Part:
    """Measure all tools on all models."""
    rows: List[Tuple[str, ...]] = []
    targets: List[Target] = []
    data: Dict[str, Any] = {}
    for model in MODELS:
        with installed() as (folder, environment):
            note(f"{model.title}: making it")
            source = folder / "in.pb"
            child("models.py", model.name, str(source))
            outcomes = _run_all(model, source, folder, environment)
            inference = _inference(model, source, folder, outcomes)
        rows += [_row(model, tool, outcomes, inference.get(tool, {})) for tool in outcomes]
        targets += _targets(model, outcomes, inference)
        data[model.name] = {
            tool: {
                "failure": each.failure,
                "output_bytes": each.nbytes,
                "runs": [asdict(run) for run in each.runs],
                "inference": inference.get(tool),
            }
            for tool, each in outcomes.items()
        }
    columns = ("model", "tool", "wall s>", "of floor>", "CPU s>", "peak MB>", "anonymous MB>")
    columns += ("output MB>", "output SQNR dB>", "step, of float>")
    title = "8 bits, whole processes: fastest wall, other medians"
    table = Table(title, columns, tuple(rows))
    return Part("peers", (table,), tuple(targets), _NOTES, {"models": data})


_NOTES = (
    "peak: resident memory with the mapped pages of files; anonymous: without, seen every 2 ms",
    f"a peer may take {_SECONDS:.0f} s and {_MEMORY >> 30} GiB of address space",
    "step: the time of a step of inference against the float graph in TensorFlow, batch 1",
)


def _commands(source: Path, folder: Path) -> Dict[str, Tuple[Sequence[str], Path]]:
    """How each tool is started, and what it writes."""
    python, given = sys.executable, str(source)
    ours, gtt = folder / "ours.pb", folder / "gtt.pb"
    lite, mnn, floor = folder / "lite.tflite", folder / "mnn.mnn", folder / "floor.out"
    convert = [python, str(ROOT / "graphwq/mnn/worker.py"), "convert", "-f", "TF"]
    convert += ["--modelFile", given, "--MNNModel", str(mnn), "--bizCode", "graphwq"]
    return {
        FLOOR: ([python, str(HERE / "floor.py"), given, str(floor)], floor),
        OURS: ([python, "-m", "graphwq", "quantize", given, "-o", str(ours)], ours),
        GTT: ([python, str(HERE / "gtt.py"), given, str(gtt)], gtt),
        LITE: ([python, str(HERE / "tflite.py"), given, str(lite), "x", "out"], lite),
        MNN: ([*convert, "--weightQuantBits", "8"], mnn),
    }


def _run_all(
    model: Model, source: Path, folder: Path, environment: Dict[str, str]
) -> Dict[str, Outcome]:
    commands = _commands(source, folder)
    runs: Dict[str, List[Run]] = {tool: [] for tool in commands}
    failures: Dict[str, str] = {}
    for number in range(max(model.rounds)):
        for tool, (argv, target) in commands.items():
            if tool in failures or number >= model.rounds[tool in PEERS]:
                continue
            note(f"{model.title}: {tool}, run {number + 1}")
            if target.exists():
                target.unlink()
            memory = _MEMORY if tool in PEERS else None
            try:
                run = measure(argv, environment, folder, _SECONDS, memory)
            except RuntimeError as error:
                failures[tool] = _reason(str(error))
                continue
            if target.exists() and target.stat().st_size:
                runs[tool].append(run)
            else:
                failures[tool] = "it wrote nothing and gave no reason"
    return {
        tool: Outcome(failure=failures[tool])
        if tool in failures
        else Outcome(tuple(runs[tool]), target.stat().st_size)
        for tool, (_, target) in commands.items()
    }


def _reason(text: str) -> str:
    """Why a tool failed, in a few words: the last line that says something."""
    for sign in ("bad_alloc", "MemoryError", "out of memory", "Cannot allocate memory"):
        if sign in text:
            return f"needs more than {_MEMORY >> 30} GiB ({sign})"
    lines = [line.strip() for line in text.splitlines() if line.strip(" \n^~")]
    died = [line for line in lines if "(status -" in line or "(status 1)" not in line]
    words = (died or lines)[-1]
    for line in reversed(lines):
        if "Error" in line or "Check failed" in line:
            words = line
            break
    return words[-140:]


def _inference(
    model: Model, source: Path, folder: Path, outcomes: Dict[str, Outcome]
) -> Dict[str, Dict[str, Any]]:
    files = _commands(source, folder)
    done = [tool for tool in (OURS, *PEERS) if outcomes[tool].runs]
    given = [f"float again={source}"] if model.name != "huge" else []
    given += [f"{tool}={files[tool][1]}" for tool in done]
    found: Dict[str, Dict[str, Any]] = {}
    # The largest graph is in memory twice as it is; a process for each tool keeps it at that.
    for batch in [given] if model.name != "huge" else [[one] for one in given]:
        note(f"{model.title}: inference of {', '.join(one.split('=')[0] for one in batch)}")
        try:
            found.update(json.loads(child("inference.py", str(source), *batch, timeout=900)))
        except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
            found.update({one.split("=")[0]: {"failure": _reason(str(error))} for one in batch})
    return found


def _row(
    model: Model, tool: str, outcomes: Dict[str, Outcome], inference: Dict[str, Any]
) -> Tuple[str, ...]:
    each = outcomes[tool]
    if each.failure:
        return (model.title, tool, each.failure, *[""] * 8)
    typical = middle(each.runs)
    of_floor = fastest(each.runs) / fastest(outcomes[FLOOR].runs)
    if "sqnr_db" in inference:
        last = (f"{inference['sqnr_db']:.1f}", f"{inference['ratio']:.2f}")
    else:
        last = ("-", "-") if tool == FLOOR else (inference.get("failure", "not run"), "")
    return (
        model.title,
        tool,
        f"{fastest(each.runs):.2f}",
        f"{of_floor:.2f}",
        f"{typical.cpu:.2f}",
        f"{typical.rss / 1e6:.0f}",
        f"{typical.anonymous / 1e6:.0f}",
        f"{each.nbytes / 1e6:.1f}",
        *last,
    )


def _targets(
    model: Model, outcomes: Dict[str, Outcome], inference: Dict[str, Dict[str, Any]]
) -> List[Target]:
    ours = outcomes[OURS]
    if ours.failure:
        return [Target(f"{model.title}: graphwq failed", 1, 0)]
    best = fastest(ours.runs)
    targets = []
    if model.large:
        ratio = best / fastest(outcomes[FLOOR].runs)
        targets.append(Target(f"{model.title}: wall, of the floor's", ratio, _MOST_OF_FLOOR))
    for tool in PEERS:
        if outcomes[tool].runs:
            ratio = best / fastest(outcomes[tool].runs)
            targets.append(Target(f"{model.title}: wall, of {tool}'s", ratio, _MOST_OF_PEER))
    most = (_MOST_ANONYMOUS + model.largest) / 1e6
    peak = max(run.anonymous for run in ours.runs) / 1e6
    targets.append(Target(f"{model.title}: peak anonymous memory, MB", peak, most))
    latency: Optional[float] = inference.get(OURS, {}).get("ratio")
    if latency is not None:
        targets.append(Target(f"{model.title}: step, of float", latency, _MOST_LATENCY))
    return targets
