"""From what the user names to a graph without variables, as far as there is a checkpoint.

What is named can be a GraphDef (with --checkpoint, if it has variables), a SavedModel's folder or
file, a MetaGraph, a checkpoint that has a MetaGraph beside it, or the folder with the
``checkpoint`` file of a training run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Optional, Sequence, Tuple, Union

from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import is_file, is_folder, read_file
from graphwq.graphdef.source import TEXT_SUFFIXES, is_meta_graph, is_saved_model, read_graph

if TYPE_CHECKING:
    from graphwq.graphdef.metagraph import MetaGraph, Signature

_SAVED_MODELS = ("saved_model.pb", "saved_model.pbtxt")
_META = ".meta"


@dataclass(frozen=True)
class Request:
    """What the user says about a source beside its path; see ``source.load``."""

    checkpoint: Optional[Path] = None
    outputs: Tuple[str, ...] = ()
    tags: Tuple[str, ...] = ()
    signature: Optional[str] = None
    rename: Tuple[Tuple[str, str], ...] = ()
    ema: Optional[str] = None
    check: bool = True


@dataclass(frozen=True)
class Opened:
    """A graph that was read.

    Attributes:
        graph: the graph.
        files: all files that it comes from.
        outputs: the nodes to which it was pruned; empty where it was left as it is.
        variables: those that became constants.
        checkpoint: the prefix of the checkpoint that they come from.
        signatures: those of a SavedModel or MetaGraph; None for a GraphDef, which has none.
    """

    graph: Graph
    files: Tuple[Path, ...]
    outputs: Tuple[str, ...] = ()
    variables: Tuple[str, ...] = ()
    checkpoint: Optional[Path] = None
    signatures: Optional[Dict[str, Signature]] = None


NOTHING_ELSE = Request()


def open_source(path: Union[str, Path], request: Request = NOTHING_ELSE) -> Opened:
    """Read a graph and, where its variables are in a checkpoint, freeze it.

    Raises:
        InputError: nothing that graphwq reads, or not complete; an option that does not fit; an
            unknown output, signature or tag; a variable that the checkpoint does not hold.
        UnsupportedError: the outputs need an op that changes a variable.
    """
    path = Path(path)
    try:
        return _open(path, request)
    except GraphWQError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _open(path: Path, request: Request) -> Opened:
    if path.suffix in (".pb", *TEXT_SUFFIXES) and is_file(path):
        return _file(path, request)  # the usual case: does without what reads checkpoints
    from graphwq.graphdef import checkpoint

    if is_folder(path):
        for name in _SAVED_MODELS:
            if is_file(path / name):
                return _saved_model(path / name, request)
        prefix = checkpoint.latest(path)
        if prefix is None:
            raise InputError(
                f"{path} is a folder without {_SAVED_MODELS[0]} or a 'checkpoint' file: give the "
                ".pb file inside it, or the prefix of a checkpoint"
            )
        return _prefix(prefix, request)
    prefix = checkpoint.prefix_of(path)
    if path.name.endswith(_META) and is_file(path):
        return _meta_graph(path, prefix, request)
    is_file_of_one = prefix != path or not is_file(path) or checkpoint.ends_like_a_table(path)
    if is_file_of_one and (checkpoint.exists(prefix) or is_file(_meta_of(prefix))):
        return _prefix(prefix, request)
    return _file(path, request)


def _file(path: Path, request: Request) -> Opened:
    """A file that says by its content what it is."""
    if path.name in _SAVED_MODELS:
        return _saved_model(path, request)
    try:
        graph = read_graph(path)
    except GraphWQError:
        data = read_file(path)
        if is_saved_model(data):
            return _saved_model(path, request)
        if is_meta_graph(data):
            return _meta_graph(path, None, request)
        raise
    _refuse(request, "tags", "signature")
    if request.checkpoint is None:
        _refuse(request, "outputs", "rename", "ema")
        return Opened(graph, (path,))
    return _frozen(graph, (path,), request.checkpoint, request, request.outputs, "")


def _prefix(prefix: Path, request: Request) -> Opened:
    meta = _meta_of(prefix)
    if not is_file(meta):
        raise InputError(
            f"{prefix} is a checkpoint, and its graph {meta.name} is not beside it: give a graph "
            f"and --checkpoint {prefix}"
        )
    return _meta_graph(meta, prefix, request)


def _meta_graph(path: Path, prefix: Optional[Path], request: Request) -> Opened:
    from graphwq.graphdef.metagraph import from_text, parse_meta_graph

    _refuse(request, "tags")
    data = read_file(path)
    try:
        meta = parse_meta_graph(data)
    except InputError as error:
        if not _is_text(path, data):
            raise InputError(f"{path} is not a MetaGraph ({error}): is it complete?") from error
        meta = parse_meta_graph(from_text(data, saved_model=False))
    checkpoint = request.checkpoint or prefix
    if checkpoint is None:
        raise InputError(f"{path} is a MetaGraph: give --checkpoint, which has its variables")
    return _frozen_meta(meta, (path,), checkpoint, request, needs_variables=True)


def _saved_model(path: Path, request: Request) -> Opened:
    from graphwq.graphdef import checkpoint
    from graphwq.graphdef.metagraph import choose, from_text, parse_saved_model

    data = read_file(path)
    if path.suffix in TEXT_SUFFIXES:
        data = from_text(data, saved_model=True)
    try:
        graphs = parse_saved_model(data)
    except InputError as error:
        raise InputError(f"{path} is not a SavedModel ({error}): is it complete?") from error
    meta = choose(graphs, request.tags)
    beside = path.parent / "variables" / "variables"
    prefix = request.checkpoint or (beside if checkpoint.exists(beside) else None)
    return _frozen_meta(meta, (path,), prefix, request, needs_variables=False)


def _frozen_meta(
    meta: MetaGraph,
    files: Tuple[Path, ...],
    prefix: Optional[Path],
    request: Request,
    needs_variables: bool,
) -> Opened:
    if request.outputs and request.signature is not None:
        raise InputError("--outputs and --signature say the same: give one of them")
    outputs = request.outputs or meta.outputs(request.signature)
    opened = _frozen(meta.graph, files, prefix, request, outputs, meta.restore_op, needs_variables)
    return replace(opened, signatures=meta.signatures)


def _frozen(
    graph: Graph,
    files: Tuple[Path, ...],
    prefix: Optional[Path],
    request: Request,
    outputs: Sequence[str],
    restore_op: str,
    needs_variables: bool = True,
) -> Opened:
    from graphwq.graphdef.checkpoint import open_checkpoint
    from graphwq.graphdef.freeze import freeze
    from graphwq.graphdef.restore import Wishes

    values = None if prefix is None else open_checkpoint(prefix, request.check)
    wishes = Wishes(request.rename, request.ema)
    frozen = freeze(graph, values, outputs, restore_op, wishes)
    if needs_variables and not frozen.variables:
        raise InputError(
            "the outputs need no variable, so there is nothing to take from a checkpoint: is it "
            "the graph that was meant, or frozen already?"
        )
    more = () if values is None else values.files
    return Opened(
        frozen.graph,
        (*files, *more),
        frozen.outputs,
        frozen.variables,
        None if values is None else values.prefix,
    )


def _refuse(request: Request, *names: str) -> None:
    """Complain of options that have no effect on the source."""
    for name in names:
        if getattr(request, name):
            where = "a SavedModel" if name == "tags" else "a graph with a checkpoint"
            raise InputError(f"--{name} is for {where}: leave it out")


def _meta_of(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + _META) if prefix.name else prefix


def _is_text(path: Path, data: memoryview) -> bool:
    start = bytes(data[:4096]).lstrip()
    return path.suffix in TEXT_SUFFIXES or start.startswith((b"meta_info_def", b"graph_def", b"#"))
