"""Ops that reach out of the graph: to files, to the network, to Python. Strangers' graphs do not.

Only ops that run can do harm, and TensorFlow runs what the fetched outputs need and nothing else.
So a graph may carry the saver it was trained with; it is refused where an output needs such an op.
Source: the op definitions of TensorFlow 1.15.3 and 2.21; tests/verify/test_unsafe_ops.py goes
through those of the TensorFlow that is installed for ops that take a file, a folder or an address.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, Iterator, List, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import LENGTH_DELIMITED, fields
from graphwq.survey.sites import qualified
from graphwq.survey.view import View
from graphwq.verify.interface import needed_nodes

_WRITES = (
    "WriteFile", "Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints", "CreateSummaryFileWriter",
    "CreateSummaryDbWriter", "SummaryWriter", "WriteSummary", "WriteScalarSummary",
    "WriteHistogramSummary", "WriteImageSummary", "WriteAudioSummary", "WriteGraphSummary",
    "WriteRawProtoSummary", "ImportEvent", "CacheDataset", "CacheDatasetV2", "SnapshotDataset",
    "DebugIdentity", "DebugIdentityV2", "DebugNanCount", "DebugNumericSummary", "PrintV2",
    "DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "SaveDataset", "SaveDatasetV2",
    "SnapshotDatasetV2", "DistributedSave", "DebugIdentityV3", "DumpTensor",
    "CalibrationStatisticsSaver",
)  # fmt: skip
_READS = (
    "ReadFile", "Restore", "RestoreSlice", "RestoreV2", "MatchingFiles", "ImmutableConst",
    "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "LMDBReader",
    "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2",
    "IdentityReader", "IdentityReaderV2", "TextLineDataset", "TFRecordDataset", "SqlDataset",
    "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "CSVDataset", "LMDBDataset",
    "ExperimentalCSVDataset", "ExperimentalLMDBDataset", "ExperimentalSqlDataset",
    "ExperimentalMatchingFilesDataset", "MatchingFilesDataset", "InitializeTableFromTextFile",
    "InitializeTableFromTextFileV2", "LoadAndRemapMatrix", "GenerateVocabRemapping",
    "DecodeProtoV2", "EncodeProto", "Skipgram", "TensorForestTreeDeserialize", "RecordInput",
    "FixedUnigramCandidateSampler", "LoadDataset", "ListSnapshotChunksDataset",
    "SnapshotChunkDataset", "SnapshotDatasetReader", "TFRecordDatasetV2", "CSVDatasetV2",
    "DTensorRestoreV2", "FileSystemSetConfiguration",
)  # fmt: skip
_NETWORK = (
    "Rpc", "TryRpc", "RemoteCall", "RemoteFusedGraphExecute", "BigQueryReader", "KafkaDataset",
    "IgniteDataset", "IGFSDataset", "KinesisDataset", "PubSubDataset", "BigtableClient",
    "BigtableTable", "GenerateBigQueryReaderPartitions", "ConfigureDistributedTPU",
    "DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4",
    "RegisterDataset", "RegisterDatasetV2", "RpcClient", "RpcServer", "RpcServerRegister",
    "RpcServerStart", "RpcCall", "ConfigureAndInitializeGlobalTPU", "ConnectTPUEmbeddingHosts",
    "ConfigureTPUEmbeddingHost",
)  # fmt: skip
_CODE = (
    "PyFunc", "PyFuncStateless", "EagerPyFunc", "TRTEngineOp", "DatasetFromGraph",
    "GeneratorDataset", "XlaLaunch", "XlaLaunchV2", "XlaCallModule", "MlirPassthroughOp",
)  # fmt: skip

_WAITS = (
    "QueueDequeue", "QueueDequeueV2", "QueueDequeueMany", "QueueDequeueManyV2", "QueueDequeueUpTo",
    "QueueDequeueUpToV2", "BarrierTakeMany", "Unstage", "MapUnstage", "MapUnstageNoKey",
    "OrderedMapUnstage", "OrderedMapUnstageNoKey", "StagePeek", "MapPeek", "OrderedMapPeek",
    "ReaderRead", "ReaderReadV2", "ReaderReadUpTo", "ReaderReadUpToV2", "InfeedDequeue",
    "InfeedDequeueTuple", "OutfeedDequeue", "OutfeedDequeueTuple", "_Recv", "_HostRecv",
    "CollectiveReduce", "CollectiveGather", "CollectiveBcastRecv", "CollectiveBcastSend",
    "CollectiveReduceV2", "CollectiveReduceV3", "CollectiveReduceScatterV2", "CollectiveGatherV2",
    "CollectiveAllToAllV2", "CollectiveAllToAllV3", "CollectiveBcastRecvV2",
    "CollectiveBcastSendV2", "CollectiveInitializeCommunicator", "CollectiveAssignGroupV2", "Recv",
    "OutfeedDequeueV2", "OutfeedDequeueTupleV2", "XlaRecvFromHost", "SleepOp", "SleepIdentityOp",
)  # fmt: skip

UNSAFE: Dict[str, str] = {
    **dict.fromkeys(_WRITES, "writes files"),
    **dict.fromkeys(_READS, "reads files"),
    **dict.fromkeys(_NETWORK, "uses the network"),
    **dict.fromkeys(_CODE, "runs other code"),
    **dict.fromkeys(_WAITS, "waits for what nobody sends; feed its outputs"),
    "Abort": "ends the process",
}

#: What to do about a refusal of verify.
ADVICE = (
    "if you trust it, allow it with --allow-unsafe-ops (allow_unsafe_ops=True in Python), or run "
    "nothing with --static"
)

#: Op -> attribute that names the file, and how it begins then.
_ONLY_WHERE = {
    "PrintV2": ("output_stream", b"file:"),
    "FixedUnigramCandidateSampler": ("vocab_file", b""),
}

_ATTR_LIST, _ATTR_FUNC, _LIST_FUNC, _FUNC_NAME = 1, 10, 9, 1


def find_unsafe(
    view: View, tensors: Iterable[str], fed: FrozenSet[str] = frozenset()
) -> Tuple[Tuple[str, Node], ...]:
    """(scope, node) of the unsafe ops that run when ``tensors`` are fetched and ``fed`` are fed.

    The bodies of functions that are called on the way are looked into, whole.
    """
    needed = needed_nodes(view.main, tensors, fed)
    pending: List[Tuple[str, Node]] = [("", n) for n in view.main.scope.nodes if n.name in needed]
    seen: Set[str] = set()
    found: List[Tuple[str, Node]] = []
    while pending:
        scope, node = pending.pop()
        if node.op in UNSAFE and _reaches_out(node):
            found.append((scope, node))
        for function in (node.op, *_functions(node)):
            if function in view.scopes and function and function not in seen:
                seen.add(function)
                pending.extend((function, item) for item in view.scopes[function].scope.nodes)
    return tuple(found)


def check_safe(
    view: View,
    tensors: Iterable[str],
    fed: FrozenSet[str] = frozenset(),
    allow_unsafe_ops: bool = False,
    advice: str = ADVICE,
) -> None:
    """Refuse to run a graph that reaches out of itself.

    What is not listed is run: an op of a library that the process loaded may do anything.

    Args:
        view: the graph.
        tensors, fed: that are to be fetched and fed.
        allow_unsafe_ops: refuse nothing.
        advice: the end of the message: what to do.

    Raises:
        InputError: it names the first such op.
    """
    found = () if allow_unsafe_ops else find_unsafe(view, tensors, fed)
    if found:
        scope, node = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(
            f"the outputs need {node.op} {qualified(scope, node.name)!r}{more}, which "
            f"{UNSAFE[node.op]}: the graph is not run; {advice}"
        )


def _reaches_out(node: Node) -> bool:
    """False for the ops that reach a file only where an attribute names one, and here none does."""
    key, prefix = _ONLY_WHERE.get(node.op, ("", b""))
    if not key:
        return True
    attr = node.attr(key)
    return attr is not None and attr.s != b"" and attr.s.startswith(prefix)


def _functions(node: Node) -> Iterator[str]:
    """The functions that the attributes of a node name."""
    for content in node.attr_bytes().values():
        for number, wire_type, _, value, end in fields(content):
            if wire_type != LENGTH_DELIMITED:
                continue
            if number == _ATTR_FUNC:
                yield from _name(content[value:end])
            elif number == _ATTR_LIST:
                for sub, sub_type, _, begin, stop in fields(content, value, end):
                    if sub == _LIST_FUNC and sub_type == LENGTH_DELIMITED:
                        yield from _name(content[begin:stop])


def _name(function: memoryview) -> Iterator[str]:
    for number, wire_type, _, value, end in fields(function):
        if number == _FUNC_NAME and wire_type == LENGTH_DELIMITED:
            yield str(function[value:end], "utf-8", "replace")
