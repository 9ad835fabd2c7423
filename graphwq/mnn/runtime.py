"""Running a graph in TensorFlow and its model in the MNN runtime, on the same feeds."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.mnn import child
from graphwq.mnn.model import Model
from graphwq.survey.view import build
from graphwq.verify.unsafe_ops import check_safe

Arrays = Dict[str, np.ndarray]

_ADVICE = "codes and scales were compared all the same"


def mnn_name(tensor: str) -> str:
    """How MNN names the tensor that TensorFlow calls ``node:port``."""
    node, _, port = tensor.rpartition(":")
    return node if port == "0" else tensor


def comparable(graph: Graph, model: Model, wanted: Optional[Sequence[str]]) -> List[str]:
    """Tensor names (``node:0``) that both runtimes can fetch.

    Args:
        graph: in TensorFlow.
        model: its model.
        wanted: tensors to look for; None: the outputs of the model.
    """
    nodes = {node.name for node in graph.nodes}
    if wanted is not None:
        tensors = set(model.tensors)
        found = [name for name in wanted if mnn_name(name) in tensors]
        if found:
            return found
    return [f"{name}:0" for name in model.outputs if name in nodes]


def runnable(model: Model, feeds: Mapping[str, np.ndarray]) -> str:
    """Why the model cannot be run on these feeds; "" where it can."""
    given = {mnn_name(name) for name in feeds} | set(feeds)  # an old graph says ``image:0``
    missing = [name for name in model.inputs if name not in given]
    if missing:
        return f"no feed for the input {missing[0]!r}"
    inside = sorted(name for name in given & set(model.tensors) if name not in model.inputs)
    return f"{inside[0]!r} is fed, which is no input of the model" if inside else ""


def by_mnn_name(model: Model, feeds: Mapping[str, np.ndarray]) -> Arrays:
    """The feeds of a model's inputs.

    Raises:
        InputError: one is of a type that MNN does not take.
    """
    named = {**feeds, **{mnn_name(name): array for name, array in feeds.items()}}
    inputs = {name: named[name] for name in model.inputs}
    unfit = [name for name, array in inputs.items() if array.dtype.kind not in "fiub"]
    if unfit:
        raise InputError(f"MNN cannot be fed {inputs[unfit[0]].dtype} ({unfit[0]})")
    return inputs


def run_both(
    graph: Graph,
    model_path: Path,
    model: Model,
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    folder: Path,
) -> Tuple[Arrays, Arrays]:
    """The outputs by tensor name, in TensorFlow and in MNN.

    Raises:
        InputError: one of them cannot run it, or the graph has ops that reach out of it.
        MissingDependencyError: TensorFlow or MNN is not installed.
    """
    from graphwq.tf1.session import Runner

    check_safe(build(graph), outputs, frozenset(feeds), advice=_ADVICE)
    with Runner(graph) as runner:
        reference = runner.run(outputs, feeds)
    inputs = by_mnn_name(model, feeds)
    names = [mnn_name(name) for name in outputs]
    found = child.run(model_path, inputs, names, folder)
    return reference, {name: found[mnn_name(name)] for name in outputs}
