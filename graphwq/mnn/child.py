"""The MNN package in a child process: the converter and the runtime, bounded in time.

The only module of graphwq that starts a process, for one reason: the converter is native code that
dies with a segmentation fault on about a tenth of real graphs, and returns 0 on errors.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from graphwq.errors import InputError, MissingDependencyError

#: Seconds after which a conversion or a run is given up.
TIME_LIMIT = 600.0

#: What a disk says on which nothing more can be written.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
#: Bytes by which a model could be longer than it is, or there was no room for it.
_ROOM = 1 << 16

_WORKER = Path(__file__).with_name("worker.py")
_MAX_REASON = 300
#: Lines of the converter that say nothing about what went wrong.
_NOISE = (
    "The device supports",
    "Start to ",
    "CompressFileName not exist",
    "Don't has bizCode",
    "inputTensors :",
    "outputTensors:",
    "Converted Success",
    "Converted Failed",
    "Convert MatMul Convolution use shared",
    "The model has subgraphs",
)


class ConverterError(InputError):
    """The converter cannot read the graph; ``reason`` is what it said.

    Attributes:
        reason: the converter's own words, or the signal it died of.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the MNN converter cannot convert this graph: {reason}")
        self.reason = reason


def is_installed() -> bool:
    """Whether the MNN package is there (it is not loaded to find out)."""
    return all(importlib.util.find_spec(name) is not None for name in ("MNN", "_tools"))


def require() -> None:
    """Raise MissingDependencyError unless the MNN package is installed."""
    if not is_installed():
        raise MissingDependencyError(
            "this needs the MNN package, which is not installed: install graphwq[mnn]"
        )


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for one conversion, gone afterwards: the converter litters the current folder.

    Raises:
        InputError: the disk of temporary files is full or cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="graphwq-mnn-") as folder:
            yield Path(folder)
    except OSError as error:
        _refuse_full_disk(error)
        raise


def _refuse_full_disk(error: OSError) -> None:
    if error.errno in _DISK:
        raise InputError(
            f"the folder of temporary files {tempfile.gettempdir()} cannot be written: "
            f"{error.strerror}; make room there, or let TMPDIR name another folder"
        ) from error


def _require_room(model: Path) -> None:
    """Find out whether a model could be a little longer.

    The converter does not look whether what it writes arrives: where it had no room, a piece of
    the model is missing, and all that it said was of no use.

    Raises:
        InputError: there is no room for more.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with open(str(model), "ab") as file:
            size = os.fstat(file.fileno()).st_size
            os.posix_fallocate(file.fileno(), size, _ROOM)
            os.ftruncate(file.fileno(), size)
    except OSError as error:
        _refuse_full_disk(error)


def convert(graph: Path, model: Path, options: Sequence[str] = ()) -> str:
    """Convert a frozen graph and return what the converter printed.

    Args:
        graph: the ``.pb``.
        model: the ``.mnn`` to write; in a workspace, its folder is where the converter runs.
        options: further options of mnnconvert.

    Raises:
        ConverterError: no model came out of it.
        InputError: there was no room for it.
        MissingDependencyError: the MNN package is not installed.
    """
    require()
    arguments = ["-f", "TF", "--modelFile", str(graph), "--MNNModel", str(model)]
    log, status = _start(["convert", *arguments, "--bizCode", "graphwq", *options], model.parent)
    written = model.is_file() and model.stat().st_size > 0
    _require_room(model)
    if status != 0 or not written or "Converted Failed" in log:
        raise ConverterError(_reason(log, status))
    return log


def run(
    model: Path,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    folder: Path,
) -> Dict[str, np.ndarray]:
    """Run a model in the MNN runtime.

    Args:
        model: the ``.mnn``.
        inputs: arrays by MNN tensor name.
        outputs: MNN tensor names.
        folder: a workspace.

    Returns:
        the outputs by name, NHWC where they are images.

    Raises:
        InputError: the runtime cannot run it, crashes, or takes too long.
        MissingDependencyError: the MNN package is not installed.
    """
    require()
    keys = {name: f"feed{index}" for index, name in enumerate(inputs)}
    wanted = {f"output{index}": name for index, name in enumerate(outputs)}
    request, feeds, results = (folder / name for name in ("run.json", "feeds.npz", "outputs.npz"))
    request.write_text(json.dumps({"inputs": keys, "outputs": wanted}), encoding="utf-8")
    np.savez(str(feeds), **{keys[name]: array for name, array in inputs.items()})
    if results.exists():
        results.unlink()
    paths = [str(path) for path in (model, request, feeds, results)]
    log, status = _start(["run", *paths], folder)
    if status != 0 or not results.is_file():
        raise InputError(f"the MNN runtime cannot run the model: {_reason(log, status)}")
    with np.load(str(results), allow_pickle=False) as found:
        for key, name in wanted.items():
            if key not in found.files:
                raise InputError(f"the MNN runtime gives no value for {name!r}")
        return {name: found[key] for key, name in wanted.items()}


def _start(arguments: List[str], folder: Path) -> tuple[str, Optional[int]]:
    """Run the worker; what it printed, and its exit status (None: it took too long)."""
    command = [sys.executable, str(_WORKER), *arguments]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}
    try:
        done = subprocess.run(
            command,
            cwd=str(folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        return _decoded(expired.stdout), None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot start the MNN converter: {error}") from error
    return _decoded(done.stdout), done.returncode


def _decoded(output: Optional[bytes]) -> str:
    return (output or b"").decode("utf-8", "replace")


def _reason(log: str, status: Optional[int]) -> str:
    """What went wrong, in one line: the converter's last words, and the signal if it died."""
    lines = [line.strip() for line in log.splitlines()]
    said = [line for line in lines if line and not line.startswith(_NOISE)]
    words = _shortened(said[-1]) if said else ""
    if status is None:
        end = f"it did not finish within {TIME_LIMIT:.0f} s"
    elif status < 0:
        end = f"it died of signal {-status} ({_signal(-status)})"
    else:
        return words or "it wrote no model and gave no reason"
    return f"{end}; its last words: {words}" if words else end


def _shortened(line: str) -> str:
    """Without the time stamp and the number of the source line in front."""
    if line.startswith("["):
        line = line.partition("]")[2].strip()
    if line.startswith(":") and line[1:].partition(":")[0].strip().isdigit():
        line = line[1:].partition(":")[2].strip()
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 3] + "..."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
