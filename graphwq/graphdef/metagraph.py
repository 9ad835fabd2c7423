"""MetaGraphs and SavedModels: a graph with tags, signatures and the name of what restores it.

Source of the format: tensorflow/core/protobuf/meta_graph.proto, saver.proto and saved_model.proto.
Only the fields that are needed are read; the graph stays a slice of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.message import Message
from graphwq.graphdef.tensor import parse_shape
from graphwq.graphdef.wire import text

_INFO, _GRAPH, _SAVER, _SIGNATURES = 1, 2, 3, 5
_INFO_TAGS, _SAVER_RESTORE = 4, 3
_KEY, _VALUE = 1, 2
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_METHOD = 1, 2, 3
_INFO_NAME, _INFO_DTYPE, _INFO_SHAPE, _INFO_SPARSE = 1, 2, 3, 4
_SPARSE_PARTS = (1, 2, 3)
_SCHEMA_VERSION, _META_GRAPHS = 1, 2

#: What the tools of TensorFlow take where nobody says which graph of a SavedModel is meant.
SERVE = "serve"
#: Signatures of this prefix name ops that initialize or train.
_INTERNAL = "__saved_model"


@dataclass(frozen=True)
class Argument:
    """An input or output of a signature.

    Attributes:
        tensors: its tensor; of a sparse one three.
        dtype: DataType.
        shape: -1 where a dimension is not known; None where the rank is not.
    """

    tensors: Tuple[str, ...]
    dtype: int = 0
    shape: Optional[Tuple[int, ...]] = None


@dataclass(frozen=True)
class Signature:
    """One way to use a graph: its inputs and outputs by their public names.

    Attributes:
        inputs, outputs: by public name.
        method: what a server does with it, ``tensorflow/serving/predict`` for example.
    """

    inputs: Dict[str, Argument]
    outputs: Dict[str, Argument]
    method: str = ""


@dataclass(frozen=True)
class MetaGraph:
    """A graph and what is said of it.

    Attributes:
        graph: the GraphDef.
        tags: of a SavedModel, what tells its graphs apart.
        signatures: by name.
        restore_op: the op that restores the variables; empty where there is no saver.
    """

    graph: Graph
    tags: Tuple[str, ...]
    signatures: Dict[str, Signature]
    restore_op: str

    def outputs(self, signature: Optional[str] = None) -> Tuple[str, ...]:
        """The output tensors of one signature, or of all where none is named.

        Raises:
            InputError: there is no such signature.
        """
        chosen = list(self.signatures)
        if signature is not None:
            if signature not in self.signatures:
                raise InputError(
                    f"there is no signature {signature!r}: "
                    + (f"there are {_listed(chosen)}" if chosen else "there is none at all")
                )
            chosen = [signature]
        found = {
            tensor: None
            for name in chosen
            for argument in self.signatures[name].outputs.values()
            for tensor in argument.tensors
        }
        return tuple(found)


def parse_meta_graph(data: memoryview) -> MetaGraph:
    """Read a MetaGraphDef.

    Raises:
        InputError: it is none, or its graph is damaged.
    """
    message = Message(data)
    if len(message.buffers(_GRAPH)) != 1:
        raise InputError("there is no graph in it: it is no MetaGraph")
    info = Message(message.buffer(_INFO))
    signatures = {}
    for name, content in _map(message, _SIGNATURES, "a signature's name"):
        if not name.startswith(_INTERNAL):
            signatures[name] = _signature(content)
    restore = Message(message.buffer(_SAVER)).text(_SAVER_RESTORE, "the name of the restore op")
    return MetaGraph(Graph.parse(message.buffer(_GRAPH)), _tags(info), signatures, restore)


def parse_saved_model(data: memoryview) -> Tuple[memoryview, ...]:
    """The MetaGraphDefs in a SavedModel.

    Raises:
        InputError: it is none.
    """
    found = Message(data).buffers(_META_GRAPHS)
    if not found:
        raise InputError("there is no graph in it: it is no SavedModel")
    return found


def choose(graphs: Sequence[memoryview], tags: Sequence[str]) -> MetaGraph:
    """The graph of a SavedModel with these tags; without tags the only one, or that for serving.

    Raises:
        InputError: there is none, with the tags that there are.
    """
    found: List[Tuple[Tuple[str, ...], memoryview]] = []
    for data in graphs:
        info = Message(Message(data).buffer(_INFO))
        found.append((_tags(info), data))
    if not tags and len(found) == 1:
        return parse_meta_graph(found[0][1])
    wanted = set(tags) or {SERVE}
    for names, data in found:
        if set(names) == wanted:
            return parse_meta_graph(data)
    known = "; ".join(",".join(names) or "(none)" for names, _ in found)
    what = f"with the tags {','.join(sorted(wanted))}" if tags else "for serving among several"
    raise InputError(f"there is no graph {what}: give --tags as one of {known}")


def from_text(data: memoryview, saved_model: bool) -> memoryview:
    """The binary form of a MetaGraph or SavedModel in text format.

    Raises:
        InputError: it is not in that format.
    """
    from google.protobuf import text_format

    proto = _saved_model_class()() if saved_model else _meta_graph_class()()
    try:
        text_format.Parse(str(data, "utf-8"), proto)
    except UnicodeDecodeError as error:
        raise InputError("it is not UTF-8 text: rename it if it is binary") from error
    except (text_format.ParseError, RecursionError, ValueError, TypeError) as error:
        kind = "SavedModel" if saved_model else "MetaGraph"
        raise InputError(f"it is not a {kind} in text format: {error}") from error
    return memoryview(proto.SerializeToString(deterministic=True))


def _tags(info: Message) -> Tuple[str, ...]:
    return tuple(text(item, 0, len(item), "a tag") for item in info.buffers(_INFO_TAGS))


def _signature(data: memoryview) -> Signature:
    message = Message(data)
    inputs = dict(_arguments(message, _SIGNATURE_INPUTS))
    outputs = dict(_arguments(message, _SIGNATURE_OUTPUTS))
    return Signature(inputs, outputs, message.text(_SIGNATURE_METHOD, "a method's name"))


def _arguments(message: Message, number: int) -> List[Tuple[str, Argument]]:
    found = []
    for key, content in _map(message, number, "the name of an input or output"):
        info = Message(content)
        if info.has(_INFO_SPARSE):
            sparse = Message(info.buffer(_INFO_SPARSE))
            names = [sparse.text(part, "a tensor's name") for part in _SPARSE_PARTS]
        else:
            names = [info.text(_INFO_NAME, "a tensor's name")]
        shape = parse_shape(info.buffer(_INFO_SHAPE)) if info.has(_INFO_SHAPE) else None
        tensors = tuple(name for name in names if name)
        found.append((key, Argument(tensors, info.number(_INFO_DTYPE), shape)))
    return found


def _map(message: Message, number: int, what: str) -> List[Tuple[str, memoryview]]:
    """The entries of a map field, by key: protobuf writes them in no order."""
    entries = message.messages(number)
    found = [(entry.text(_KEY, what), entry.buffer(_VALUE)) for entry in entries]
    return sorted(found, key=lambda item: item[0])  # of one key twice the last counts


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _meta_graph_class() -> Any:
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    return MetaGraphDef


def _saved_model_class() -> Any:
    """SavedModel, which tensorboard has no class of: made from its description."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    inner = _meta_graph_class().DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="graphwq/saved_model.proto",
        package="graphwq",
        syntax="proto3",
        dependency=[inner.file.name],
    )
    kind = descriptor_pb2.FieldDescriptorProto
    message = file.message_type.add(name="SavedModel")
    message.field.add(
        name="saved_model_schema_version",
        number=_SCHEMA_VERSION,
        type=kind.TYPE_INT64,
        label=kind.LABEL_OPTIONAL,
    )
    message.field.add(
        name="meta_graphs",
        number=_META_GRAPHS,
        type=kind.TYPE_MESSAGE,
        label=kind.LABEL_REPEATED,
        type_name="." + inner.full_name,
    )
    pool = descriptor_pool.Default()
    try:
        descriptor = pool.FindMessageTypeByName("graphwq.SavedModel")
    except KeyError:
        pool.AddSerializedFile(file.SerializeToString())
        descriptor = pool.FindMessageTypeByName("graphwq.SavedModel")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)
