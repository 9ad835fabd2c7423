"""The inputs that are kept: tests/fuzz/corpus.zip, a folder for each target."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Dict, List, Sequence

CORPUS = Path(__file__).resolve().parent / "corpus.zip"
#: Bytes of one target, before compression; the smallest inputs come first.
_SHARE = 20_000


def kept() -> Dict[str, List[bytes]]:
    """Target -> its inputs."""
    found: Dict[str, List[bytes]] = {}
    with zipfile.ZipFile(str(CORPUS)) as archive:
        for item in archive.infolist():
            found.setdefault(item.filename.partition("/")[0], []).append(archive.read(item))
    return found


def keep(folder: Path, targets: Sequence[str]) -> str:
    """Make the file anew from the queues in ``folder``; other targets keep what they have."""
    chosen = {name: list(inputs) for name, inputs in (kept() if CORPUS.is_file() else {}).items()}
    for name in targets:
        queue = sorted(path.read_bytes() for path in (folder / name / "queue").iterdir())
        finds = (folder / name / "finds").glob("*.bin")
        old = chosen.get(name, [])
        room = _SHARE
        chosen[name] = []
        for data in [*sorted({*old, *(path.read_bytes() for path in finds)}, key=len)] + sorted(
            queue, key=len
        ):
            if len(data) <= room and data not in chosen[name]:
                chosen[name].append(data)
                room -= len(data)
    with zipfile.ZipFile(str(CORPUS), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(chosen):
            for data in sorted(chosen[name]):
                title = f"{name}/{hashlib.sha256(data).hexdigest()[:12]}"
                entry = zipfile.ZipInfo(title, (1980, 1, 1, 0, 0, 0))
                archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    count = sum(map(len, chosen.values()))
    return f"{CORPUS.name}: {count} inputs, {CORPUS.stat().st_size} bytes"
