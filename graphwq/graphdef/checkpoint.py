"""A checkpoint of either format by its prefix, without TensorFlow.

Nothing is read but the index until a tensor is asked for; of a large file a tensor is a slice of
the mapped file.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef.bundle import read_bundle
from graphwq.graphdef.checkpoint_v1 import read_v1
from graphwq.graphdef.mapping import is_file, is_folder, read_file
from graphwq.graphdef.pieces import StoredTensor
from graphwq.graphdef.spelling import close
from graphwq.graphdef.sstable import FOOTER, is_table

#: A part of a V1 checkpoint; with question marks, TensorFlow's name for all of them.
_PART = re.compile(r"-(\d{5}|\?{5})-of-(\d{5})$")
_STATE = re.compile(rb'^\s*model_checkpoint_path:\s*"([^"\\\n]+)"', re.MULTILINE)
_STATE_FILE = "checkpoint"
_SUFFIXES = (".index", ".meta")
_DATA_SUFFIX = re.compile(r"\.data-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint.

    Attributes:
        prefix: as for ``tf.train.load_checkpoint``.
        tensors: by name.
        files: those that belong to it.
    """

    prefix: Path
    tensors: Mapping[str, StoredTensor]
    files: Tuple[Path, ...]


def open_checkpoint(prefix: Path, check: bool = True) -> Checkpoint:
    """Open a checkpoint of format V2 or V1.

    Args:
        prefix: of the files; the name of one of them (.index, .meta, .data-...) will do.
        check: compare everything that is read with its CRC.

    Raises:
        InputError: there is none, a part is missing, or it is damaged.
    """
    prefix = prefix_of(prefix)
    index = _beside(prefix, ".index")
    if is_file(index):
        try:
            tensors = read_bundle(prefix, read_file(index), check)
        except GraphWQError as error:
            if str(index) in str(error):
                raise
            raise InputError(f"{index}: {error}") from error
        data = sorted(prefix.parent.glob(_escaped(prefix.name) + ".data-*"))
        return Checkpoint(prefix, tensors, (index, *data))
    files = [prefix] if is_file(prefix) else _parts(prefix)
    if not files:
        raise InputError(_missing(prefix))
    found = [(path, read_file(path)) for path in files]
    for path, content in found:
        if not is_table(content):
            raise InputError(f"{path} is no checkpoint, or its end is missing")
    return Checkpoint(prefix, read_v1(found, check), tuple(files))


def exists(prefix: Path) -> bool:
    """Whether there is a checkpoint of this prefix."""
    if is_file(_beside(prefix, ".index")) or _parts(prefix, complete=False):
        return True
    return is_file(prefix) and ends_like_a_table(prefix)


def prefix_of(path: Path) -> Path:
    """The prefix of the checkpoint that a file belongs to; a prefix stays what it is."""
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return path.with_name(path.name[: -len(suffix)])
    match = _DATA_SUFFIX.search(path.name) or _PART.search(path.name)
    if match and match.start():
        return path.with_name(path.name[: match.start()])
    return path


def latest(folder: Path) -> Optional[Path]:
    """The prefix that the ``checkpoint`` file of a folder names; None where there is none.

    A path that is not there any more (folders are moved) is looked for in the folder itself.
    """
    state = folder / _STATE_FILE
    if not is_file(state):
        return None
    match = _STATE.search(bytes(read_file(state)[: 1 << 16]))
    if match is None:
        return None
    named = Path(match.group(1).decode("utf-8", "replace"))
    return folder / named if exists(folder / named) else folder / named.name


def _beside(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix) if prefix.name else prefix / suffix


def _parts(prefix: Path, complete: bool = True) -> List[Path]:
    """The files of a V1 checkpoint in parts."""
    found: Dict[int, Path] = {}
    total = 0
    if not prefix.name or not is_folder(prefix.parent):
        return []
    for path in sorted(prefix.parent.glob(_escaped(prefix.name) + "-*-of-*")):
        match = _PART.search(path.name)
        if match and match.start() == len(prefix.name):
            found[int(match.group(1))] = path
            total = int(match.group(2))
    for number in range(total if complete else 0):
        if number not in found:
            raise InputError(
                f"{prefix}-{number:05d}-of-{total:05d} is missing: a checkpoint needs all of its "
                f"{total} files"
            )
    return [found[number] for number in sorted(found)]


def _missing(prefix: Path) -> str:
    if not is_folder(prefix.parent):
        return f"there is no checkpoint {prefix}: there is no folder {prefix.parent}"
    names = [item.name for item in prefix.parent.iterdir() if item.name.endswith(".index")]
    if prefix.name and list(prefix.parent.glob(_escaped(prefix.name) + ".data-*")):
        return f"{_beside(prefix, '.index')} is missing: the data of a checkpoint needs its index"
    known = [name[: -len(".index")] for name in names]
    near = close(prefix.name, known, 1) or known[:1]
    hint = f" (is {near[0]!r} meant?)" if near else ""
    return (
        f"there is no checkpoint {prefix}{hint}: give the prefix, like model.ckpt-100 for "
        "model.ckpt-100.index"
    )


def ends_like_a_table(path: Path) -> bool:
    """Whether a file could be a V1 checkpoint or an index."""
    try:
        with open(path, "rb") as file:
            file.seek(-FOOTER, os.SEEK_END)
            return is_table(memoryview(file.read()))
    except (OSError, ValueError):
        return False


def _escaped(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
