"""The MNN compression file: which layer of a model is quantized to how many bits.

A ``Pipeline`` message of MNN.Compression, as binary proto or, where the file's name ends in
``json``, as JSON. Field numbers, as the converter of MNN 3.6.0 reads them (public schema
MNN_compression.proto; this is a description of our own, of what is needed here):

    Pipeline              1 version (required), 2 algo, 3 mnn_uuid, 4 for_guide
    CompressionAlgo       1 type (0 QUANTIZE, 1 PRUNE), 2 quant_params, 3 prune_params
    PruneParams           1 type (0 RANDOM, 1 SIMD_OC, 2 FILTER)
    QuantizeParams        1 round_mode, 4 layer
    LayerQuantizeParams   1 input, 2 weight, 3 output, 4 method, 6 op_name, 7 subgraph_name, 8 conv
    WeightParams          1 name (required), 2 bits, 3 scales, 6 asymmetric, 7 block_size
    ActivationParams      1 name (required), of input and output

What the converter does with it, and what is therefore done here:

* only the first algorithm with quant_params is read, and of two records of one name the first:
  appended records go to the front of the first such algorithm, older ones of the same name go;
* converters before 3.0.4, and later ones where for_guide is not set, look at the first output of
  every record and crash where there is none: each record has one, of a name that no tensor has;
* a record without weight.name makes it drop the whole file in silence: it is always written;
* ``asymmetric`` left out means the command's default, which is true: it is always written;
* ``for_guide`` keeps it from taking the file for one of full int8 quantization, but also from
  pruning channels: it is set, except where the file has a FILTER pruner.

Everything else of a file that is appended to stays as it is, unknown fields included.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from graphwq.errors import InputError
from graphwq.graphdef import jsontext
from graphwq.graphdef.mapping import read_file
from graphwq.graphdef.wire import (
    LENGTH_DELIMITED,
    VARINT,
    WireError,
    delimited,
    fields,
    read_varint,
    tag,
    text,
    varint,
)

VERSION = "0.0.0"
_NO_TENSOR = "(weights only)"
_PIPELINE_VERSION, _ALGO, _UUID, _FOR_GUIDE = 1, 2, 3, 4
_ALGO_TYPE, _QUANT_PARAMS, _PRUNE_PARAMS = 1, 2, 3
_LAYER = 4
_WEIGHT, _OUTPUT, _OP_NAME, _SUBGRAPH = 2, 3, 6, 7
_NAME, _BITS, _ASYMMETRIC, _BLOCK_SIZE = 1, 2, 6, 7
_PRUNE_TYPE, _FILTER = 1, 2

Key = Tuple[str, str]


@dataclass(frozen=True)
class Record:
    """What is to become of one layer.

    Attributes:
        op_name, subgraph: the layer's name in the model; "" is the main graph.
        num_bits: 2..8, or 0 to keep it float.
        block_size: input channels that share a scale; 0 for whole output channels.
    """

    op_name: str
    subgraph: str
    num_bits: int
    block_size: int = 0

    @property
    def key(self) -> Key:
        """What the converter looks it up by."""
        return self.subgraph, self.op_name

    def to_bytes(self) -> bytes:
        """The LayerQuantizeParams message."""
        weight = delimited(_NAME, self.op_name.encode())
        weight += tag(_BITS, VARINT) + varint(self.num_bits) + tag(_ASYMMETRIC, VARINT) + b"\0"
        if self.block_size:
            weight += tag(_BLOCK_SIZE, VARINT) + varint(self.block_size)
        output = delimited(_OUTPUT, delimited(_NAME, _NO_TENSOR.encode()))
        layer = delimited(_WEIGHT, weight) + output + delimited(_OP_NAME, self.op_name.encode())
        return layer + (delimited(_SUBGRAPH, self.subgraph.encode()) if self.subgraph else b"")

    def to_json(self) -> Dict[str, Any]:
        """The same in protobuf's JSON form."""
        weight: Dict[str, Any] = {"name": self.op_name, "bits": self.num_bits, "asymmetric": False}
        if self.block_size:
            weight["blockSize"] = self.block_size
        layer: Dict[str, Any] = {"weight": [weight], "output": [{"name": _NO_TENSOR}]}
        layer["opName"] = self.op_name
        if self.subgraph:
            layer["subgraphName"] = self.subgraph
        return layer


def is_json(path: Path) -> bool:
    """Whether the converter reads a file of this name as JSON."""
    return path.name.rpartition(".")[2] == "json"


def create(records: Sequence[Record], uuid: str, as_json: bool) -> bytes:
    """A new compression file.

    Args:
        records: one per layer.
        uuid: becomes the id of the model; without one the converter makes up a new one each time.
        as_json: the form.
    """
    if as_json:
        return _dumps({"version": VERSION, "algo": [], "mnnUuid": uuid, "forGuide": True}, records)
    head = delimited(_PIPELINE_VERSION, VERSION.encode())
    tail = delimited(_UUID, uuid.encode()) + tag(_FOR_GUIDE, VARINT) + b"\1"
    return head + _algo(records) + tail


def append(path: Path, records: Sequence[Record]) -> bytes:
    """The contents of an existing compression file with the records added to it.

    Raises:
        InputError: the file is missing or is no compression file.
    """
    try:
        data = read_file(path)
    except InputError as error:
        raise InputError(f"{error}; without --append a new file is made") from error
    try:
        if is_json(path):
            return _append_json(bytes(data), records)
        return _append_binary(bytes(data), records)
    except (WireError, _DamagedError) as error:
        raise InputError(f"{path} is not an MNN compression file: {error}") from error


def read(path: Path) -> List[Record]:
    """The records that the converter would use of a file; of one name the first.

    Raises:
        InputError: the file cannot be read or is no compression file.
    """
    data = bytes(read_file(path))
    try:
        found = _records_of_json(_loads(data)) if is_json(path) else _records_of_binary(data)
    except (WireError, _DamagedError) as error:
        raise InputError(f"{path} is not an MNN compression file: {error}") from error
    unique: Dict[Key, Record] = {}
    for record in found:
        unique.setdefault(record.key, record)
    return list(unique.values())


class _DamagedError(Exception):
    """What is wrong with the file."""


def _algo(records: Sequence[Record], rest: bytes = b"") -> bytes:
    layers = b"".join(delimited(_LAYER, record.to_bytes()) for record in records)
    params = delimited(_QUANT_PARAMS, layers + rest)
    return delimited(_ALGO, tag(_ALGO_TYPE, VARINT) + b"\0" + params)


# --- binary ---------------------------------------------------------------------------------------


def _append_binary(data: bytes, records: Sequence[Record]) -> bytes:
    _check_binary(data)
    keys = {record.key for record in records}
    out, placed, guide, prunes = [], False, False, False
    for number, wire_type, begin, value, end in fields(data):
        field = data[begin:end]
        if number == _ALGO and wire_type == LENGTH_DELIMITED:
            algo = data[value:end]
            if not placed and _first(algo, _QUANT_PARAMS) is not None:
                field, placed = delimited(_ALGO, _with_records(algo, records, keys)), True
            prunes = prunes or _prunes_channels(algo)
        guide = guide or number == _FOR_GUIDE
        out.append(field)
    if not placed:
        out.append(_algo(records))
    if not guide and not prunes:
        out.append(tag(_FOR_GUIDE, VARINT) + b"\1")
    return b"".join(out)


def _check_binary(data: bytes) -> None:
    if not any(number == _PIPELINE_VERSION for number, *_ in fields(data)):
        raise _DamagedError("it has no version")
    version = _first(data, _PIPELINE_VERSION)
    if version is None:
        raise _DamagedError("its version is no text")
    text(version, 0, len(version), "the version")
    for algo in _all(data, _ALGO):
        for params in _all(algo, _QUANT_PARAMS):
            for layer in _all(params, _LAYER):
                _record(layer)
        for params in _all(algo, _PRUNE_PARAMS):
            list(fields(params))


def _with_records(algo: bytes, records: Sequence[Record], keys: Set[Key]) -> bytes:
    """The CompressionAlgo with the records in front of those of its first quant_params."""
    out, placed = [], False
    for number, wire_type, begin, value, end in fields(algo):
        field = algo[begin:end]
        if number == _QUANT_PARAMS and wire_type == LENGTH_DELIMITED and not placed:
            kept = [
                algo[first:last]
                for sub, sub_type, first, start, last in fields(algo, value, end)
                if not (
                    sub == _LAYER
                    and sub_type == LENGTH_DELIMITED
                    and _record(algo[start:last]).key in keys
                )
            ]
            layers = [delimited(_LAYER, record.to_bytes()) for record in records]
            field, placed = delimited(_QUANT_PARAMS, b"".join(layers + kept)), True
        out.append(field)
    return b"".join(out)


def _prunes_channels(algo: bytes) -> bool:
    for params in _all(algo, _PRUNE_PARAMS):
        for number, wire_type, _, value, end in fields(params):
            if number == _PRUNE_TYPE and wire_type == VARINT:
                return read_varint(params, value, end)[0] == _FILTER
    return False


def _records_of_binary(data: bytes) -> List[Record]:
    _check_binary(data)
    for algo in _all(data, _ALGO):
        for params in _all(algo, _QUANT_PARAMS):
            return [_record(layer) for layer in _all(params, _LAYER)]
    return []


def _record(layer: bytes) -> Record:
    bits, block = 8, 0
    weight = _first(layer, _WEIGHT)
    for number, wire_type, _, value, end in fields(weight or b""):
        if wire_type == VARINT and number == _BITS:
            bits = read_varint(weight or b"", value, end)[0]
        elif wire_type == VARINT and number == _BLOCK_SIZE:
            block = read_varint(weight or b"", value, end)[0]
    names = [_first(layer, number) or b"" for number in (_OP_NAME, _SUBGRAPH)]
    op_name, subgraph = (text(name, 0, len(name), "a layer's name") for name in names)
    return Record(op_name, subgraph, bits, block)


def _all(message: bytes, number: int) -> Iterator[bytes]:
    for found, wire_type, _, value, end in fields(message):
        if found == number and wire_type == LENGTH_DELIMITED:
            yield message[value:end]


def _first(message: bytes, number: int) -> Optional[bytes]:
    return next(_all(message, number), None)


# --- JSON -----------------------------------------------------------------------------------------


def _append_json(data: bytes, records: Sequence[Record]) -> bytes:
    pipeline = _loads(data)
    return _dumps(pipeline, records)


def _loads(data: bytes) -> Dict[str, Any]:
    try:
        found = jsontext.loads(data.decode("utf-8"))
    except ValueError as error:
        raise _DamagedError(str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("version"), str):
        raise _DamagedError("it has no version")
    for algo in _list(found, "algo"):
        for layer in _list(_dict(algo, "quantParams", "quant_params"), "layer"):
            _json_record(layer)
    return found


def _dumps(pipeline: Dict[str, Any], records: Sequence[Record]) -> bytes:
    keys = {record.key for record in records}
    algos = _list(pipeline, "algo")
    new = [record.to_json() for record in records]
    target = next((algo for algo in algos if _spelt(algo, "quantParams", "quant_params")), None)
    if target is None:
        algos = [*algos, {"type": "QUANTIZE", "quantParams": {"layer": new}}]
    else:
        params = _dict(target, "quantParams", "quant_params")
        kept = [item for item in _list(params, "layer") if _json_record(item).key not in keys]
        params["layer"] = new + kept
    pipeline["algo"] = algos
    prunes = any(_is_filter(algo) for algo in algos)
    if not _spelt(pipeline, "forGuide", "for_guide") and not prunes:
        pipeline["forGuide"] = True
    return (json.dumps(pipeline, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _is_filter(algo: Dict[str, Any]) -> bool:
    return _dict(algo, "pruneParams", "prune_params").get("type") in ("FILTER", _FILTER)


def _records_of_json(pipeline: Dict[str, Any]) -> List[Record]:
    for algo in _list(pipeline, "algo"):
        if _spelt(algo, "quantParams", "quant_params"):
            layers = _list(_dict(algo, "quantParams", "quant_params"), "layer")
            return [_json_record(layer) for layer in layers]
    return []


def _json_record(layer: Any) -> Record:
    if not isinstance(layer, dict):
        raise _DamagedError("a layer is no object")
    weights = _list(layer, "weight")
    weight = weights[0] if weights else {}
    name = layer.get(_spelt(layer, "opName", "op_name"), "")
    subgraph = layer.get(_spelt(layer, "subgraphName", "subgraph_name"), "")
    bits = weight.get("bits", 8)
    block = weight.get(_spelt(weight, "blockSize", "block_size"), 0)
    if not (isinstance(name, str) and isinstance(subgraph, str)):
        raise _DamagedError("a layer's name is no text")
    if not (isinstance(bits, int) and isinstance(block, int)):
        raise _DamagedError(f"the bits or block size of {name!r} are no whole numbers")
    return Record(name, subgraph, bits, max(block, 0))


def _spelt(data: Dict[str, Any], camel: str, snake: str) -> str:
    """Which of both spellings is used; "" where neither is."""
    return camel if camel in data else snake if snake in data else ""


def _list(data: Dict[str, Any], key: str) -> List[Any]:
    found = data.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _DamagedError(f"{key!r} is no list of objects")
    return found


def _dict(data: Dict[str, Any], camel: str, snake: str) -> Dict[str, Any]:
    found = data.get(_spelt(data, camel, snake), {})
    if not isinstance(found, dict):
        raise _DamagedError(f"{camel!r} is no object")
    return found
