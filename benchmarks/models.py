"""The graphs that the benchmarks measure, from a seed, without TensorFlow.

    python benchmarks/models.py chain OUT.pb [SIZE]   1024 x 1024 MatMuls: 50 of them (200 MB)
    python benchmarks/models.py convnet OUT.pb        100 convolutions, 100 MB
    python benchmarks/models.py huge OUT.pb [SIZE]    4096 x 4096 MatMuls: 28 of them (1.9 GB)
    python benchmarks/models.py many OUT.pb [SIZE]    small layers of five nodes: 4000 of them
    python benchmarks/models.py small OUT.pb          a small convolutional network

SIZE is the number of layers. Inputs are called ``x`` and ``ids``, the output ``out``.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import BinaryIO, Callable, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
import support  # noqa: F401  (makes graphwq importable)

from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.later import present
from graphwq.graphdef.newnode import attr_bool, attr_string, attr_type, new_const, new_node
from graphwq.graphdef.node import Node
from graphwq.graphdef.protos import AttrValue
from graphwq.graphdef.wire import VARINT, delimited, header, tag, varint

#: What TensorFlow 1.15 writes into a graph's versions.
_PRODUCER = 134
_FLOAT, _INT = attr_type(dtypes.DT_FLOAT), attr_type(dtypes.DT_INT32)


class Builder:
    """Writes nodes, in memory or to a file; every method returns the name of the node it adds."""

    def __init__(self, seed: int = 0, file: Optional[BinaryIO] = None) -> None:
        self._random = np.random.RandomState(seed)
        self._fast = np.random.Generator(np.random.PCG64(seed))
        self._file = io.BytesIO() if file is None else file

    def _add(self, node: Node) -> str:
        self._file.write(header(1, node.nbytes) + bytes(node.raw))
        if node.payload is not None:
            self._file.write(present(node.payload))
        return node.name

    def op(self, name: str, op: str, inputs: Sequence[str], **attrs: bytes) -> str:
        """Any node."""
        return self._add(new_node(name, op, tuple(inputs), attrs))

    def placeholder(self, name: str, shape: Sequence[int], dtype: bytes = _FLOAT) -> str:
        """A Placeholder of a full shape."""
        attr = AttrValue()
        for size in shape:
            attr.shape.dim.add().size = size
        return self.op(name, "Placeholder", (), dtype=dtype, shape=_encode(attr))

    def const(self, name: str, value: np.ndarray) -> str:
        """A Const."""
        return self._add(new_const(name, dtypes.FROM_NUMPY[value.dtype], value.shape, value))

    def weight(self, name: str, shape: Tuple[int, ...]) -> str:
        """Gaussian values, scaled so that activations keep their size."""
        deviation = 1 / np.sqrt(int(np.prod(shape[:-1])))
        return self.const(name, (self._random.randn(*shape) * deviation).astype(np.float32))

    def fast_weight(self, name: str, shape: Tuple[int, ...]) -> str:
        """Like ``weight``, from a generator that is several times as fast."""
        values = self._fast.standard_normal(shape, np.float32)
        values *= np.float32(1 / np.sqrt(int(np.prod(shape[:-1]))))
        return self.const(name, values)

    def matmul(self, name: str, a: str, b: str, transpose_b: bool = False) -> str:
        """A MatMul."""
        flags = {"transpose_a": attr_bool(False), "transpose_b": attr_bool(transpose_b)}
        return self.op(name, "MatMul", [a, b], T=_FLOAT, **flags)

    def conv(self, name: str, x: str, weight: str, stride: int = 1, op: str = "Conv2D") -> str:
        """A convolution in NHWC, padding SAME."""
        strides = AttrValue()
        strides.list.i.extend([1, stride, stride, 1])
        same = attr_string(b"SAME")
        return self.op(name, op, [x, weight], T=_FLOAT, strides=_encode(strides), padding=same)

    def mean(self, name: str, x: str, axes: Sequence[int], keep: bool = False) -> str:
        """The mean over some axes."""
        over = self.const(f"{name}/axes", np.array(axes, np.int32))
        return self.op(name, "Mean", [x, over], T=_FLOAT, Tidx=_INT, keep_dims=attr_bool(keep))

    def finish(self, output: str) -> None:
        """End the graph with ``out``, which passes ``output`` on."""
        self.op("out", "Identity", [output], T=_FLOAT)
        self._file.write(delimited(4, tag(1, VARINT) + varint(_PRODUCER)))

    def to_bytes(self, output: str) -> bytes:
        """The serialized GraphDef (made in memory), in which ``out`` passes ``output`` on."""
        self.finish(output)
        assert isinstance(self._file, io.BytesIO)
        return self._file.getvalue()


def _encode(attr: AttrValue) -> bytes:
    return bytes(attr.SerializeToString(deterministic=True))


def matmul_chain(count: int = 50, size: int = 1024) -> bytes:
    """From x [1, size] through ``count`` MatMuls of size x size in a row."""
    b = Builder()
    return b.to_bytes(chain(b, count, size))


def chain(b: Builder, count: int = 50, size: int = 1024) -> str:
    """See ``matmul_chain``."""
    x = b.placeholder("x", [1, size])
    for number in range(count):
        x = b.matmul(f"mm{number}", x, b.weight(f"w{number}", (size, size)))
    return x


def convnet(b: Builder, layers: int = 100) -> str:
    """3 x 3 convolutions of 168 channels on 14 x 14, each with bias, ReLU and a shortcut."""
    channels = 168
    x = b.placeholder("x", [1, 28, 28, 3])
    x = b.conv("stem", x, b.fast_weight("stem/w", (3, 3, 3, channels)), 2)
    for number in range(layers - 1):
        scope = f"layer{number}"
        y = b.conv(f"{scope}/conv", x, b.fast_weight(f"{scope}/w", (3, 3, channels, channels)))
        bias = b.const(f"{scope}/b", np.zeros(channels, np.float32))
        y = b.op(f"{scope}/biased", "BiasAdd", [y, bias], T=_FLOAT)
        y = b.op(f"{scope}/relu", "Relu", [y], T=_FLOAT)
        half = b.op(
            f"{scope}/half", "Mul", [y, b.const(f"{scope}/by", np.array(0.5, np.float32))], T=_FLOAT
        )
        x = b.op(f"{scope}/sum", "Add", [x, half], T=_FLOAT)
    return b.mean("mean", x, [1, 2])


def huge(b: Builder, layers: int = 28) -> str:
    """A chain of MatMuls of 4096 x 4096 (64 MiB each)."""
    x = b.placeholder("x", [1, 4096])
    for number in range(layers):
        x = b.matmul(f"mm{number}", x, b.fast_weight(f"w{number}", (4096, 4096)))
    return x


def many(b: Builder, layers: int = 4000) -> str:
    """Small layers of five nodes each: MatMul 32 x 32, bias, ReLU."""
    x = b.placeholder("x", [1, 32])
    for number in range(layers):
        scope = f"block{number // 50}/layer{number}"
        y = b.matmul(f"{scope}/matmul", x, b.fast_weight(f"{scope}/w", (32, 32)))
        bias = b.const(f"{scope}/b", np.full(32, 0.1, np.float32))
        y = b.op(f"{scope}/biased", "BiasAdd", [y, bias], T=_FLOAT)
        x = b.op(f"{scope}/relu", "Relu", [y], T=_FLOAT)
    return x


def matmul(rows: int, columns: Optional[int] = None) -> bytes:
    """From x [1, rows] to MatMul(w [rows, columns]); square unless ``columns`` is given."""
    b = Builder()
    x = b.placeholder("x", [1, rows])
    return b.to_bytes(b.matmul("y", x, b.weight("w", (rows, columns or rows))))


def convolution(shape: Sequence[int], height: int) -> bytes:
    """From x [1, height, height, in] to Conv2D(w [kh, kw, in, out])."""
    b = Builder()
    x = b.placeholder("x", [1, height, height, shape[2]])
    return b.to_bytes(b.conv("y", x, b.weight("w", tuple(shape))))


def small(b: Builder, blocks: int = 4, width: int = 32, classes: int = 10, height: int = 32) -> str:
    """Blocks of Conv2D, bias, ReLU and depthwise convolution; at the end mean and MatMul."""
    x = b.placeholder("x", [1, height, height, 3])
    channels = 3
    for number in range(blocks):
        scope, out = f"block{number}", width << min(number, 2)
        x = b.conv(f"{scope}/conv", x, b.weight(f"{scope}/w", (3, 3, channels, out)), 2)
        bias = b.const(f"{scope}/b", np.zeros(out, np.float32))
        x = b.op(f"{scope}/biased", "BiasAdd", [x, bias], T=_FLOAT)
        x = b.op(f"{scope}/relu", "Relu", [x], T=_FLOAT)
        depthwise = b.weight(f"{scope}/dw", (3, 3, out, 1))
        x = b.conv(f"{scope}/depthwise", x, depthwise, op="DepthwiseConv2dNative")
        channels = out
    x = b.mean("mean", x, [1, 2])
    return b.matmul("logits", x, b.weight("fc", (channels, classes)))


def embedding(rows: int = 50000, columns: int = 768, ids: int = 128, tied: bool = False) -> bytes:
    """From ids to Gather(table).

    ``tied``: then to MatMul(mean of the gathered rows, table transposed), as in a language
    model whose input and output share the table.
    """
    b = Builder()
    index = b.placeholder("ids", [ids], _INT)
    table = b.weight("table", (rows, columns))
    axis = b.const("axis", np.array(0, np.int32))
    types = {"Tparams": _FLOAT, "Tindices": _INT, "Taxis": _INT}
    found = b.op("rows", "GatherV2", [table, index, axis], **types)
    if not tied:
        return b.to_bytes(found)
    hidden = b.mean("mean", found, [0], keep=True)
    return b.to_bytes(b.matmul("logits", hidden, table, transpose_b=True))


def feeds(data: bytes, seed: int = 1) -> Dict[str, np.ndarray]:
    """One random value for every placeholder of a graph of this module, by node name."""
    random = np.random.RandomState(seed)
    values: Dict[str, np.ndarray] = {}
    for node in Graph.parse(data).nodes:
        attr = node.attr("shape")
        if node.op != "Placeholder" or attr is None:
            continue
        shape = [dim.size for dim in attr.shape.dim]
        if node.name == "ids":
            values[node.name] = random.randint(0, 50000, shape).astype(np.int32)
        else:
            values[node.name] = random.randn(*shape).astype(np.float32)
    return values


MODELS: Mapping[str, Callable[..., str]] = {
    "chain": chain,
    "small": small,
    "convnet": convnet,
    "huge": huge,
    "many": many,
}


def write(model: str, path: Path, layers: Optional[int] = None) -> None:
    """Write one model to a file, without holding it in memory."""
    with open(path, "wb") as file:
        b = Builder(file=file)
        b.finish(MODELS[model](b, *([] if layers is None else [layers])))


def main() -> None:
    """Write one model to a file."""
    parser = argparse.ArgumentParser(description="Write one of the graphs that are measured.")
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("output", type=Path)
    parser.add_argument("layers", type=int, nargs="?")
    arguments = parser.parse_args()
    write(arguments.model, arguments.output, arguments.layers)


if __name__ == "__main__":
    main()
