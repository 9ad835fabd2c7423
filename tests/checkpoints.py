"""Checkpoints and SavedModels without TensorFlow: writers of the formats that graphwq reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.crc32c import crc32c, masked
from graphwq.graphdef.orderedcode import slice_key
from graphwq.graphdef.protos import TensorProto
from graphwq.graphdef.tensor import encode_shape
from graphwq.graphdef.wire import VARINT, delimited, tag, varint

#: (start, length) along each axis; a length of -1 is all of an axis.
Cut = Tuple[Tuple[int, int], ...]
#: A tensor, or its shape and pieces.
Stored = Union[np.ndarray, Tuple[Sequence[int], Mapping[Cut, np.ndarray]]]

_MAGIC = bytes.fromhex("57fb808b247547db")


def number(field: int, value: int) -> bytes:
    """A varint field; of a negative number as protobuf writes it."""
    return tag(field, VARINT) + varint(value & ((1 << 64) - 1))


def fixed32(field: int, value: int) -> bytes:
    """A fixed32 field."""
    return tag(field, 5) + value.to_bytes(4, "little")


def checksum(data: bytes) -> int:
    """The masked CRC-32C of bytes."""
    return masked(crc32c(memoryview(data)))


def snappy(data: bytes) -> bytes:
    """Compress as snappy does: literals, and copies of what came before."""
    out = bytearray(varint(len(data)))
    seen: Dict[bytes, int] = {}
    position = literal = 0

    def flush(end: int) -> None:
        for begin in range(literal, end, 1 << 16):
            part = data[begin : min(end, begin + (1 << 16))]
            size = len(part) - 1
            if size < 60:
                out.append(size << 2)
            else:
                extra = 1 if size < 256 else 2
                out.append((59 + extra) << 2)
                out.extend(size.to_bytes(extra, "little"))
            out.extend(part)

    while position + 4 <= len(data):
        found = seen.get(data[position : position + 4])
        seen[data[position : position + 4]] = position
        if found is None or position - found >= 1 << 16:
            position += 1
            continue
        flush(position)
        offset, length = position - found, 4
        while (
            length < 64
            and data[found + length : found + length + 1]
            == data[position + length : position + length + 1]
            != b""
        ):
            length += 1
        if length < 12 and offset < 2048:
            out.append(1 | (length - 4) << 2 | (offset >> 8) << 5)
            out.append(offset & 0xFF)
        else:
            out.append(2 | (length - 1) << 2)
            out.extend(offset.to_bytes(2, "little"))
        position += length
        literal = position
    flush(len(data))
    return bytes(out)


def table(
    items: Iterable[Tuple[bytes, bytes]], block_size: int = 4096, compress: bool = False
) -> bytes:
    """A sorted table; ``items`` need not be sorted."""
    out = bytearray()
    index: List[Tuple[bytes, bytes]] = []
    pending: List[Tuple[bytes, bytes]] = []

    def write(entries: Sequence[Tuple[bytes, bytes]], packed: bool) -> bytes:
        content = snappy(_block(entries)) if packed else _block(entries)
        handle = varint(len(out)) + varint(len(content))
        checked = content + (b"\x01" if packed else b"\x00")
        out.extend(checked + checksum(checked).to_bytes(4, "little"))
        return handle

    for item in sorted(items):
        pending.append(item)
        if sum(len(key) + len(value) for key, value in pending) >= block_size:
            index.append((pending[-1][0], write(pending, compress)))
            pending = []
    if pending:
        index.append((pending[-1][0], write(pending, compress)))
    handles = write([], False) + write(index, compress)
    return bytes(out) + handles + bytes(40 - len(handles)) + _MAGIC


def _block(entries: Sequence[Tuple[bytes, bytes]], interval: int = 16) -> bytes:
    out = bytearray()
    restarts = []
    last = b""
    for count, (key, value) in enumerate(entries):
        shared = 0
        if count % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    for place in restarts or [0]:
        out += place.to_bytes(4, "little")
    return bytes(out) + len(restarts or [0]).to_bytes(4, "little")


def slice_proto(cut: Cut) -> bytes:
    """A TensorSliceProto."""
    parts = []
    for start, length in cut:
        extent = number(1, start) if start else b""
        parts.append(delimited(1, extent + (number(2, length) if length >= 0 else b"")))
    return b"".join(parts)


def entry(dtype: int, shape: Sequence[int], shard: int, offset: int, size: int, crc: int) -> bytes:
    """A BundleEntryProto of a tensor or slice."""
    return (
        number(1, dtype)
        + delimited(2, encode_shape(tuple(shape)))
        + (number(3, shard) if shard else b"")
        + (number(4, offset) if offset else b"")
        + number(5, size)
        + fixed32(6, crc)
    )


def header(shards: int = 1) -> bytes:
    """A BundleHeaderProto."""
    return number(1, shards) + delimited(3, number(1, 1))


def write_bundle(
    prefix: Path, tensors: Mapping[str, Stored], shards: int = 1, **table_options: Any
) -> None:
    """Write a V2 checkpoint; the parts go to the data files in turn."""
    data = [bytearray() for _ in range(shards)]
    items: List[Tuple[bytes, bytes]] = [(b"", header(shards))]
    count = 0

    def store(array: np.ndarray) -> bytes:
        nonlocal count
        shard = count % shards
        count += 1
        content = np.ascontiguousarray(array).tobytes()
        offset = len(data[shard])
        data[shard].extend(content)
        dtype = dtypes.FROM_NUMPY[array.dtype]
        return entry(dtype, array.shape, shard, offset, len(content), checksum(content))

    for name, stored in tensors.items():
        if isinstance(stored, np.ndarray):
            items.append((name.encode(), store(stored)))
            continue
        shape, pieces = stored
        dtype = dtypes.FROM_NUMPY[next(iter(pieces.values())).dtype]
        whole = number(1, dtype) + delimited(2, encode_shape(tuple(shape)))
        for cut, array in pieces.items():
            whole += delimited(7, slice_proto(cut))
            items.append((slice_key(name, cut), store(array)))
        items.append((name.encode(), whole))
    prefix.with_name(prefix.name + ".index").write_bytes(table(items, **table_options))
    for number_, content in enumerate(data):
        part = f"{prefix.name}.data-{number_:05d}-of-{shards:05d}"
        prefix.with_name(part).write_bytes(bytes(content))


_LISTS = {"f": "float_val", "i": "int_val", "u": "int_val", "b": "bool_val", "c": "scomplex_val"}


def _values(array: np.ndarray) -> bytes:
    proto = TensorProto()
    flat = array.reshape(-1)
    if array.dtype == np.float64:
        proto.double_val.extend(flat.tolist())
    elif array.dtype == np.int64:
        proto.int64_val.extend(flat.tolist())
    elif array.dtype == np.float16:
        proto.half_val.extend(flat.view(np.uint16).tolist())
    elif array.dtype.kind == "c":
        proto.scomplex_val.extend(flat.view(np.float32).tolist())
    else:
        getattr(proto, _LISTS[array.dtype.kind]).extend(flat.tolist())
    return proto.SerializeToString()


def v1_table(tensors: Mapping[str, Stored], **table_options: Any) -> bytes:
    """One file of a V1 checkpoint."""
    meta = b""
    items = []
    for name, stored in tensors.items():
        if isinstance(stored, np.ndarray):
            shape: Sequence[int] = stored.shape
            pieces: Mapping[Cut, np.ndarray] = {((0, -1),) * stored.ndim: stored}
        else:
            shape, pieces = stored
        dtype = dtypes.FROM_NUMPY[next(iter(pieces.values())).dtype]
        item = delimited(1, name.encode()) + delimited(2, encode_shape(tuple(shape)))
        item += number(3, dtype)
        for cut, array in pieces.items():
            item += delimited(4, slice_proto(cut))
            values = delimited(1, name.encode()) + delimited(2, slice_proto(cut))
            values += delimited(3, _values(array))
            items.append((slice_key(name, cut), delimited(2, values)))
        meta += delimited(1, item)
    items.append((b"", delimited(1, meta + delimited(2, number(1, 1)))))
    return table(items, **table_options)


def write_v1(prefix: Path, tensors: Mapping[str, Stored], **table_options: Any) -> None:
    """Write a V1 checkpoint in one file."""
    prefix.write_bytes(v1_table(tensors, **table_options))


def meta_graph(
    graph: bytes,
    tags: Sequence[str] = (),
    signatures: Optional[Mapping[str, Mapping[str, str]]] = None,
    restore_op: str = "",
) -> bytes:
    """A MetaGraphDef; ``signatures`` have the outputs by name."""
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    proto = MetaGraphDef()
    proto.meta_info_def.tags.extend(tags)
    proto.saver_def.restore_op_name = restore_op
    for name, outputs in (signatures or {}).items():
        proto.signature_def[name].method_name = "predict"
        for key, tensor in outputs.items():
            proto.signature_def[name].outputs[key].name = tensor
    return bytes(proto.SerializeToString(deterministic=True)) + delimited(2, graph)


def write_saved_model(
    folder: Path, meta_graphs: Sequence[bytes], tensors: Mapping[str, Stored]
) -> None:
    """Write a SavedModel."""
    (folder / "variables").mkdir(parents=True)
    content = number(1, 1) + b"".join(delimited(2, item) for item in meta_graphs)
    (folder / "saved_model.pb").write_bytes(content)
    write_bundle(folder / "variables" / "variables", tensors)
