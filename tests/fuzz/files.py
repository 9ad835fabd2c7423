"""Several files in one fuzz input: a count, then name, length and content of each."""

from __future__ import annotations

import struct
from typing import Dict

_MAX_FILES = 8


def pack(files: Dict[str, bytes]) -> bytes:
    """Files as one input."""
    parts = [bytes([len(files)])]
    for name, content in files.items():
        parts.append(bytes([len(name)]) + name.encode() + struct.pack("<I", len(content)) + content)
    return b"".join(parts)


def unpack(data: bytes) -> Dict[str, bytes]:
    """The files of an input; of a damaged one, those that can be found."""
    files: Dict[str, bytes] = {}
    position = 1
    for _ in range(min(data[0], _MAX_FILES) if data else 0):
        length = data[position] if position < len(data) else 0
        begin = position + 1 + length
        name = data[position + 1 : begin].decode("ascii", "replace")
        size = int.from_bytes(data[begin : begin + 4], "little")
        files[name] = data[begin + 4 : begin + 4 + size]
        position = begin + 4 + size
    return files
