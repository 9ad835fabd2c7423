"""The range of pixel values that a graph was trained on, from what it holds about it.

A frozen graph remembers its inputs in three places:

* batch normalization by stored moments: the right inputs give a layer that mean and variance;
* batch normalization by the batch: its epsilon has to be small beside the variance;
* biases: where inputs are far too large, biases do nothing, and far too small, they do everything.

Each place says by what factor (in decades) a range misses it; the range that misses by least in the
mean is the likely one. (Found and measured in this project; no paper is followed.)
"""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.graphdef.node import Node, producer
from graphwq.survey.batchnorm import BATCH_NORMS, by_batch
from graphwq.survey.constants import constant_vector
from graphwq.survey.view import ScopeView
from graphwq.verify.interface import needed_nodes
from graphwq.verify.runner import Runner

#: Lowest and highest value.
Range = Tuple[float, float]
RANGES: Tuple[Range, ...] = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))
#: Places that are asked, the first of the graph: what lies deep depends on little.
_PLACES = 12
#: Decades by which a range may miss by more than the best one and still be likely.
_MARGIN = 1.0
_DEFAULT_EPSILON = 1e-4
_SOURCES = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def likely_ranges(
    runner: Runner,
    view: ScopeView,
    tensors: Sequence[str],
    sample: Callable[[Range], Mapping[str, np.ndarray]],
) -> Tuple[Range, ...]:
    """The ranges that the graph was trained on as far as can be told; all where nothing can.

    Args:
        runner: the graph in a session.
        view: its main scope.
        tensors: its outputs.
        sample: makes feeds in a range.

    Raises:
        InputError: TensorFlow cannot run the graph.
    """
    places = _places(view, tensors)
    if not places:
        return RANGES
    misses = [_miss(runner, places, sample(each)) for each in RANGES]
    least = min(misses)
    return tuple(each for each, miss in zip(RANGES, misses) if miss <= least + _MARGIN)


#: Measures a tensor [..., channels] against what is stored, in decades.
_Place = Tuple[str, Callable[[np.ndarray], float]]


def _places(view: ScopeView, tensors: Sequence[str]) -> List[_Place]:
    order = view.topological_order()
    found: List[_Place] = []
    for name in sorted(needed_nodes(view, tensors), key=lambda name: (order.get(name, 0), name)):
        place = _place(view, view.nodes[name])
        if place is not None:
            found.append(place)
        if len(found) == _PLACES:
            break
    return found


def _place(view: ScopeView, node: Node) -> Optional[_Place]:
    data_format = node.attr("data_format")
    if data_format is not None and data_format.s == b"NCHW":
        return None
    if node.op in BATCH_NORMS:
        epsilon = node.attr("epsilon")
        small = float(epsilon.f) if epsilon is not None else _DEFAULT_EPSILON
        if by_batch(node):
            return _tensor(node, 0), lambda value: _decades(1.0 + small / _variance(value))
        mean, variance = constant_vector(view, node, 3), constant_vector(view, node, 4)
        if mean is None or variance is None:
            return None
        return _tensor(node, 0), _moments(mean, variance + small)
    if node.op in ("BiasAdd", "Add", "AddV2") and len(node.data_inputs) == 2:
        source = view.nodes.get(producer(node.data_inputs[0])[0])
        bias = constant_vector(view, node, 1)
        if source is not None and source.op in _SOURCES and bias is not None and bias.any():
            size = float(np.square(bias).mean())
            return _tensor(node, 0), lambda value: _decades(_square(value) / size) / 2
    return None


def _moments(mean: np.ndarray, variance: np.ndarray) -> Callable[[np.ndarray], float]:
    def miss(value: np.ndarray) -> float:
        rows = value.reshape(-1, len(mean))
        shift = np.square(rows.mean(0) - mean)
        return (_decades(_variance(value) / variance) + _decades(1.0 + shift / variance)) / 2

    return miss


def _tensor(node: Node, slot: int) -> str:
    name, port = producer(node.data_inputs[slot])
    return f"{name}:{port}"


def _variance(value: np.ndarray) -> np.ndarray:
    channels = value.reshape(-1, value.shape[-1])
    return np.asarray(np.maximum(channels.var(0, dtype=np.float64), np.finfo(np.float32).tiny))


def _square(value: np.ndarray) -> float:
    return float(np.square(value, dtype=np.float64).mean())


def _decades(ratio: np.ndarray | float) -> float:
    tiny = np.finfo(np.float64).tiny
    return float(np.median(np.abs(np.log10(np.maximum(ratio, tiny)))))


def _miss(runner: Runner, places: Sequence[_Place], sample: Mapping[str, np.ndarray]) -> float:
    names = list(dict.fromkeys(name for name, _ in places))
    values: Dict[str, np.ndarray] = dict(runner.run(names, sample))
    found = [measure(np.asarray(values[name], np.float64)) for name, measure in places]
    finite = [one for one in found if np.isfinite(one)]
    return float(np.mean(finite)) if finite else np.inf
