"""The compression file of a training: what the MNN converter is to do with each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence

from graphwq.graphdef.atomic import write_atomically
from graphwq.graphdef.graph import Graph
from graphwq.mnn import compress_params
from graphwq.mnn.prepare import prepare
from graphwq.rewrite.options import Options

#: Ops that the closing nodes of an inference graph are not: they write, print or only order.
_NO_OUTPUTS = (
    "Assign",
    "Summary",
    "NoOp",
    "Assert",
    "Print",
    "Save",
    "Restore",
    "Write",
    "Scatter",
)


def save_compress_params(frozen: Graph, bits: int, path: Path, append: bool) -> int:
    """Write one record for each layer that the converter will quantize exactly.

    Args:
        frozen: the float graph, its variables as constants.
        bits: of every weight.
        path: JSON where the name ends in ``json``, else binary; an existing file is replaced.
        append: keep what is in the file already (a pruner's records), and add to it.

    Returns:
        the number of bytes written.

    Raises:
        InputError: the file cannot be read (``append``) or written.
    """
    prepared = prepare(frozen, options=Options(bits=bits))
    records = prepared.records()
    if append:
        contents = compress_params.append(path, records)
    else:
        contents = compress_params.create(records, prepared.uuid, compress_params.is_json(path))
    return write_atomically(path, (contents,), force=True)


def closing_nodes(definition: Any, names: Sequence[str]) -> List[str]:
    """The nodes behind ``names`` that nothing uses: what a program has not named as its outputs.

    Args:
        definition: a GraphDef.
        names: of the ops that use weights.
    """
    users: Dict[str, List[Any]] = {}
    for node in definition.node:
        for item in node.input:
            users.setdefault(item.lstrip("^").split(":")[0], []).append(node)
    ends: Dict[str, None] = {}
    pending, seen = list(names), set(names)
    while pending:
        name = pending.pop()
        following = [node.name for node in users.get(name, ()) if not _is_no_output(node.op)]
        if not following:
            ends[name] = None
        for user in following:
            if user not in seen:
                seen.add(user)
                pending.append(user)
    return sorted(ends)


def _is_no_output(op_type: str) -> bool:
    return any(part in op_type for part in _NO_OUTPUTS)
