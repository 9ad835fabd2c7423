"""Feeds for a comparison: from an .npz, or seeded noise in the shapes of the placeholders.

Simpler than those of ``graphwq.verify``: MNN takes one sample of fixed shapes, and its answers are
needed even where a batch of one is all that the graph's shapes tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Optional

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, attr_of_type
from graphwq.mnn.operand import Operands
from graphwq.survey.view import build
from graphwq.verify.npz import read_npz

Feeds = Dict[str, np.ndarray]

_MAX_ELEMENTS = 1 << 24


def read(path: Path, graph: Graph) -> Feeds:
    """Feeds by tensor name (``input:0``) from an .npz whose arrays have those names.

    Raises:
        InputError: not an .npz, or an array is named after no tensor of the graph.
    """
    feeds = {_tensor(key): array for key, array in read_npz(path).items()}
    names = {node.name for node in graph.nodes}
    used = {key: value for key, value in feeds.items() if key.rpartition(":")[0] in names}
    if not used:
        raise InputError(f"no array of {path} is named after a tensor of the graph (input:0)")
    return used


def seeded(graph: Graph, seed: int = 0) -> Optional[Feeds]:
    """Noise for every placeholder; None where one has an unknown rank or is no number.

    Unknown dimensions are 1. Integers are 0 or 1, since many are indices.
    """
    random = np.random.RandomState(seed)
    feeds: Feeds = {}
    for node in placeholders(graph):
        attr = node.attr("shape")
        dtype = dtypes.NUMPY.get(attr_of_type(node, "dtype"))
        if attr is None or attr.shape.unknown_rank or dtype is None:
            return None
        shape = [max(dim.size, 1) if dim.size != 0 else 0 for dim in attr.shape.dim]
        if np.prod(shape, dtype=np.float64) > _MAX_ELEMENTS:
            return None
        if dtype.kind == "f":
            feeds[f"{node.name}:0"] = random.rand(*shape).astype(dtype)
        elif dtype.kind in "iub":
            feeds[f"{node.name}:0"] = random.randint(0, 2, size=shape).astype(dtype)
        else:
            return None
    return feeds


def with_defaults(graph: Graph, feeds: Mapping[str, np.ndarray]) -> Feeds:
    """The feeds, and the default of every PlaceholderWithDefault: MNN takes it for an input."""
    view = build(graph).main
    found: Feeds = {}
    for node in graph.nodes:
        if node.op == "PlaceholderWithDefault" and node.data_inputs:
            value = Operands(view).value(node.data_inputs[0])
            if value is not None:
                found[f"{node.name}:0"] = value
    return {**found, **feeds}


def placeholders(graph: Graph) -> List[Node]:
    """The nodes that have to be fed."""
    return [node for node in graph.nodes if node.op == "Placeholder"]


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"
