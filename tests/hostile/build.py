"""Pieces of files that no honest writer makes."""

from __future__ import annotations

import io
import zipfile
import zlib
from functools import lru_cache
from typing import Any, Callable, Sequence

import numpy as np
from builders import GraphBuilder, dense, random_weight

from graphwq.graphdef.wire import VARINT, delimited, header, tag, varint

#: The bytes of one float, as a value of float_val.
ONE, TWO = b"\x2d\0\0\x80\x3f", b"\x2d\0\0\0\x40"
FLOAT, INT32, STRING, INT8, HALF = 1, 3, 7, 6, 19
GOOD = dense(8, 4).to_bytes()


def number(field: int, value: int) -> bytes:
    """A varint field; a negative number as protobuf writes it."""
    return tag(field, VARINT) + varint(value & ((1 << 64) - 1))


def shape(dims: Sequence[int]) -> bytes:
    """A TensorShapeProto."""
    return b"".join(delimited(2, number(1, size)) for size in dims)


def const(name: str, dtype: int, dims: Sequence[int], values: bytes, rank: bool = True) -> bytes:
    """A Const field of a GraphDef, its TensorProto from dtype, dimensions and raw fields."""
    tensor = number(1, dtype) + (delimited(2, shape(dims)) if rank else delimited(2, number(3, 1)))
    attrs = delimited(5, delimited(1, b"dtype") + delimited(2, number(6, dtype)))
    attrs += delimited(5, delimited(1, b"value") + delimited(2, delimited(8, tensor + values)))
    return delimited(1, delimited(1, name.encode()) + delimited(2, b"Const") + attrs)


def node(name: bytes = b"", op: bytes = b"", *inputs: bytes, more: bytes = b"") -> bytes:
    """A node field of a GraphDef."""
    parts = [delimited(1, name)] if name else []
    parts += [delimited(2, op)] if op else []
    return delimited(1, b"".join(parts + [delimited(3, item) for item in inputs]) + more)


def used(dims: Sequence[int], values: bytes, dtype: int = FLOAT) -> bytes:
    """A constant ``w`` of any kind as the weight of a MatMul."""
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [1, dims[0] if dims else 1]), "w")
    return const("w", dtype, dims, values) + b.to_bytes()


def behind(add: Callable[[GraphBuilder], Any]) -> bytes:
    """A float weight ``w`` [4, 4], an input ``x`` [1, 4], and what ``add`` puts there."""
    b = GraphBuilder()
    b.placeholder("x", [1, 4])
    b.const("w", random_weight((4, 4)))
    add(b)
    return b.to_bytes()


@lru_cache(maxsize=None)
def chain(length: int) -> bytes:
    """A weight behind so many Identities."""

    def add(b: GraphBuilder) -> None:
        name = "w"
        for index in range(length):
            name = b.op(f"i{index}", "Identity", [name])
        b.matmul("y", "x", name)

    return behind(add)


def calls(length: int, ring: bool = False) -> bytes:
    """Functions that call one another, the last one the first in a ``ring``."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4)))
    for index in range(length):
        last = index == length - 1
        called = f"f{0 if last else index + 1}"
        body = GraphBuilder()
        if not last or ring:
            body.op("c", "PartitionedCall", ["a"], f=("func", called))
        result = "c:output:0" if not last or ring else "a"
        b.function(f"f{index}", [("a", 1)], body, [("r", result, 1)])
    b.matmul("y", b.placeholder("x", [1, 4]), b.call("call", "f0", [w]))
    return b.to_bytes()


def nested(depth: int) -> bytes:
    """An attribute that is a function with an attribute that is a function, and so on."""
    parts, size = [], 0
    for _ in range(depth):
        piece = header(2, size)
        piece = delimited(1, b"k") + piece
        piece = delimited(1, b"f") + header(2, len(piece) + size) + piece
        piece = header(10, len(piece) + size) + piece
        parts.append(piece)
        size += len(piece)
    attr = delimited(1, b"f") + delimited(2, b"".join(reversed(parts)))
    call = node(b"call", b"PartitionedCall", b"w", more=delimited(5, attr))
    return behind(lambda b: b.matmul("y", "x", "w")) + call


def zip_of(name: str, content: bytes) -> bytes:
    """A compressed archive of one entry."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def zip_bomb(name: str, content: bytes, times: int) -> bytes:
    """The same, the content so many times over; it is compressed once (the checksum is wrong)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    piece = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", allowZip64=True) as archive:
        archive.writestr(name, piece * times + packer.flush())
        entry = archive.getinfo(name)
        entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, times * len(content)
    return out.getvalue()


def npy(descr: str, dims: str, body: bytes) -> bytes:
    """An ``.npy`` with any header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {dims}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def npz(**arrays: Any) -> bytes:
    """An honest ``.npz``."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()
