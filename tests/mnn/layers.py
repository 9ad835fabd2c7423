"""Small graphs, one per rule of the converter, and converting them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
from builders import GraphBuilder, random_weight

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import AttrValue
from graphwq.mnn import child
from graphwq.mnn.lint import Layer
from graphwq.mnn.model import Model, read
from graphwq.mnn.prepare import prepare
from graphwq.rewrite.options import Options

Build = Callable[[GraphBuilder], None]

OUT = 16


def bias(b: GraphBuilder, name: str = "bias", shape: Tuple[int, ...] = (OUT,)) -> str:
    """A constant with one value per output channel."""
    return b.const(name, random_weight(shape, 7))


def conv(b: GraphBuilder, shape: Tuple[int, ...] = (3, 3, 8, OUT), channels: int = 8) -> str:
    """x -> Conv2D(w): c."""
    x = b.placeholder("x", [1, 8, 8, channels])
    return b.conv("c", x, b.const("w", random_weight(shape)))


def matmul(b: GraphBuilder, shape: Tuple[int, int] = (8, OUT)) -> str:
    """x -> MatMul(w): c."""
    return b.matmul("c", b.placeholder("x", [1, shape[0]]), b.const("w", random_weight(shape)))


def depthwise(b: GraphBuilder, multiplier: int = 1) -> str:
    """x -> DepthwiseConv2dNative(w): c, with OUT channels going in."""
    x = b.placeholder("x", [1, 8, 8, OUT])
    w = b.const("w", random_weight((3, 3, OUT, multiplier)))
    return b.op("c", "DepthwiseConv2dNative", [x, w], strides=[1, 1, 1, 1], padding="SAME",
                T=("type", 1))  # fmt: skip


def transposed(b: GraphBuilder, outputs: int = OUT) -> str:
    """x -> Conv2DBackpropInput(w): c."""
    x = b.placeholder("x", [1, 8, 8, 8])
    w = b.const("w", random_weight((3, 3, outputs, 8)))
    size = b.const("size", [1, 16, 16, outputs])
    return b.op("c", "Conv2DBackpropInput", [size, w, x], strides=[1, 2, 2, 1], padding="SAME")


def norm(
    b: GraphBuilder, name: str, x: str, gamma: Optional[np.ndarray] = None, op: str = ""
) -> str:
    """An inference batch norm of OUT channels."""
    epsilon = AttrValue()
    epsilon.f = 1e-3
    if gamma is None:
        gamma = random_weight((OUT,), 1, std=1.0)
    constants = [
        b.const(f"{name}/gamma", np.asarray(gamma, np.float32)),
        b.const(f"{name}/beta", random_weight((OUT,), 2)),
        b.const(f"{name}/mean", random_weight((OUT,), 3)),
        b.const(f"{name}/variance", np.abs(random_weight((OUT,), 4)) + np.float32(0.5)),
    ]
    return b.op(name, op or "FusedBatchNorm", [x, *constants], epsilon=epsilon, is_training=False,
                T=("type", 1), data_format="NHWC")  # fmt: skip


def relu(b: GraphBuilder, x: str, name: str = "y") -> str:
    """A Relu that ends the graph."""
    return b.op(name, "Relu", [x])


def graph_of(build: Build) -> Graph:
    """The graph that a function builds."""
    b = GraphBuilder()
    build(b)
    return b.graph()


def lint_of(graph: Graph, **options: Any) -> List[Layer]:
    """The layers that lint finds."""
    return list(prepare(graph, options=Options(**options)).layers)


def converted(graph: Graph, folder: Path, options: Sequence[str] = ()) -> Model:
    """What the real converter makes of a graph."""
    source, target = folder / "graph.pb", folder / "graph.mnn"
    source.write_bytes(graph.to_bytes())
    child.convert(source, target, options)
    return read(target)


def names_of(model: Model) -> Dict[Tuple[str, str], str]:
    """(subgraph, name) -> op of every layer that holds weights."""
    return {
        (layer.subgraph, layer.name): layer.op
        for layer in model.layers
        if len(layer.weight) or layer.quantized is not None
    }
