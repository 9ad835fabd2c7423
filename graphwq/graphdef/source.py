"""From a path to a Graph: binary ``.pb``, text ``.pbtxt``, and a clear word on everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Sequence, Set, Union

from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef.atomic import write_atomically
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import read_file
from graphwq.graphdef.wire import WireError, fields

#: The limit of protobuf for a message, and so of everything that reads a GraphDef.
MAX_BYTES = (1 << 31) - 1

TEXT_SUFFIXES = (".pbtxt", ".prototxt", ".textproto")

_KNOWN = (
    (0, b"\x89HDF", "an HDF5 file (a Keras model?): freeze it to a GraphDef first"),
    (0, b"PK\x03\x04", "a zip archive: unpack it first"),
    (0, b"\x1f\x8b", "gzip-compressed: unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model: run `git lfs pull` first"),
    (4, b"TFL3", "a TFLite model: graphwq reads the TensorFlow graph it was made from"),
)


def load(
    path: Union[str, Path],
    checkpoint: Union[str, Path, None] = None,
    outputs: Sequence[str] = (),
    tags: Sequence[str] = (),
    signature: Optional[str] = None,
    rename: Optional[Mapping[str, str]] = None,
    ema: Optional[str] = None,
    check: bool = True,
) -> Graph:
    """Read a graph; variables become constants if there is a checkpoint with their values.

    Args:
        path: a frozen graph (.pb, .pbtxt), a SavedModel's folder, a MetaGraph (.meta), the prefix
            of a checkpoint that has one, or the folder of such a checkpoint.
        checkpoint: the prefix of the checkpoint that has the values.
        outputs: nodes or tensors to which the graph is pruned; without them those of the
            signatures, or those that nobody uses.
        tags: which graph of a SavedModel.
        signature: which of its signatures; without it all.
        rename: variable -> name in the checkpoint; where both end in ``/``, all names below.
        ema: suffix of moving averages that are to be taken in the place of the variables.
        check: compare what is read of the checkpoint with its checksums.

    Raises:
        InputError: see ``opening.open_source``.
        UnsupportedError: the outputs need an op that changes a variable.
    """
    from graphwq.graphdef.opening import Request, open_source

    request = Request(
        None if checkpoint is None else Path(checkpoint),
        tuple(outputs),
        tuple(tags),
        signature,
        tuple((rename or {}).items()),
        ema,
        check,
    )
    return open_source(path, request).graph


def read_graph(path: Union[str, Path]) -> Graph:
    """Read a GraphDef, binary or text.

    Raises:
        InputError: the file is missing, empty, or not a GraphDef; the message says what it looks
            like and what to do.
    """
    path = Path(path)
    data = read_file(path)
    if path.suffix in TEXT_SUFFIXES:
        return _parse_text(data, path)
    try:
        return Graph.parse(data)
    except GraphWQError as error:
        if _looks_like_text(data):
            return _parse_text(data, path)
        hint = _recognize(data)
        if hint:
            raise InputError(f"{path} is {hint}") from error
        raise InputError(
            f"{path} is not a frozen GraphDef ({error}): check that it is complete and really a "
            "TensorFlow graph"
        ) from error


def save(graph: Graph, path: Union[str, Path], force: bool = False) -> int:
    """Write a graph atomically, as text where the name ends in .pbtxt; return the bytes written.

    Raises:
        InputError: the file exists and ``force`` is not set, it cannot be written, or the graph is
            larger than protobuf allows.
    """
    path = Path(path)
    size = graph.nbytes
    if size > MAX_BYTES:
        raise InputError(
            f"the graph has {size} bytes, and no GraphDef can be larger than 2 GiB: quantize it to "
            f"fewer bits, and more of its weights; {path} was not written"
        )
    if path.suffix in TEXT_SUFFIXES:
        return write_atomically(path, (to_text(graph).encode(),), force)
    return write_atomically(path, graph.chunks(), force)


def to_text(graph: Graph) -> str:
    """The graph in protobuf text format.

    Raises:
        InputError: the graph holds what the text format cannot express.
    """
    from google.protobuf import text_format

    from graphwq.graphdef.protos import DecodeError, GraphDef

    try:
        return text_format.MessageToString(GraphDef.FromString(graph.to_bytes()))
    except (DecodeError, UnicodeError) as error:
        raise InputError(f"the graph cannot be put into text: {error}; use a .pb file") from error


def _parse_text(data: memoryview, path: Path) -> Graph:
    from google.protobuf import text_format

    from graphwq.graphdef.protos import GraphDef

    proto = GraphDef()
    try:
        text_format.Parse(str(data, "utf-8"), proto)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: rename it if it is a binary graph") from error
    except (text_format.ParseError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is not a GraphDef in text format: {error}") from error
    try:
        return Graph.parse(proto.SerializeToString(deterministic=True))
    except GraphWQError as error:
        raise InputError(f"{path}: {error}") from error


def _looks_like_text(data: memoryview) -> bool:
    start = bytes(data[:4096]).lstrip()
    return start.startswith((b"node", b"versions", b"library", b"#"))


def _recognize(data: memoryview) -> Optional[str]:
    for offset, magic, what in _KNOWN:
        if bytes(data[offset : offset + len(magic)]) == magic:
            return what
    return None


def is_saved_model(data: memoryview) -> bool:
    """SavedModel: the version of its schema (1), MetaGraphDefs (2)."""
    return data[0] == 0x08 and _top_level(data) <= {1, 2}


def is_meta_graph(data: memoryview) -> bool:
    """MetaGraphDef: MetaInfoDef (1), GraphDef (2), saver (3), collections (4), signatures (5)...

    A GraphDef has no fields beyond 4.
    """
    numbers = _top_level(data)
    return {1, 2} <= numbers <= set(range(1, 8)) and not numbers <= {1, 2, 4}


def _top_level(data: memoryview) -> Set[int]:
    """The numbers of the top-level fields; -1 among them where the bytes are no message."""
    numbers: Set[int] = set()
    try:
        for number, _, _, _, _ in fields(data):
            numbers.add(number)
    except WireError:
        numbers.add(-1)
    return numbers
