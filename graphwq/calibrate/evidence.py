"""What codes do to the outputs of the whole graph, measured by feeding them in place of weights."""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from graphwq.graphdef.dtypes import NUMPY
from graphwq.graphdef.node import producer
from graphwq.quant.metrics import sqnr_db
from graphwq.quant.shift import Shift
from graphwq.rewrite.run import Given
from graphwq.survey.bias import bias_of
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import ScopeView
from graphwq.verify.feeds import Sample
from graphwq.verify.runner import Runner

#: dB; an output that is exact, or not finite, is no better or worse than that.
_LIMIT = 100.0
#: Ops that are gone back behind an output that is no float at most.
_STEPS = 16


def float_outputs(
    runner: Runner, view: ScopeView, tensors: Sequence[str], sample: Sample
) -> Tuple[str, ...]:
    """The outputs by whose errors codes are judged.

    In place of one that is not of floats (an index, a truth value) the float tensors that it is
    computed from: it is right or wrong, and does not say by how much.

    Args:
        runner: the graph in a session.
        view: its main scope.
        tensors: its outputs.
        sample: feeds.

    Raises:
        InputError: TensorFlow cannot run the graph.
    """
    found: List[str] = []
    seen, pending = set(tensors), list(tensors)
    for _ in range(_STEPS):
        if not pending:
            break
        values = runner.run(pending, sample)
        found += [name for name in pending if np.asarray(values[name]).dtype.kind == "f"]
        nodes = [view.nodes.get(producer(name)[0]) for name in pending if name not in found]
        inputs = [item for node in nodes if node is not None for item in node.data_inputs]
        sources = dict.fromkeys(map(producer, inputs))
        names = [f"{name}:{port}" for name, port in sources if not _is_constant(view, name)]
        pending = [name for name in names if name not in seen]
        seen.update(pending)
    return tuple(found)


def _is_constant(view: ScopeView, name: str) -> bool:
    node = view.nodes.get(name)
    return node is None or node.op == "Const"


def _bias(view: ScopeView, site: WeightSite, shift: Shift) -> Dict[str, np.ndarray]:
    place = bias_of(view, site)
    assert place is not None
    tensor = view.nodes[place.constant].tensor()
    assert tensor is not None
    return {f"{place.constant}:0": shift.apply(tensor.numpy())}


def output_sqnr(
    runner: Runner,
    view: ScopeView,
    sites: Sequence[WeightSite],
    tensors: Sequence[str],
    samples: Sequence[Sample],
    given: Mapping[str, Given],
) -> float:
    """Mean SQNR of the float outputs in dB, over all outputs of all samples.

    Each counts by itself, so that one of large numbers does not hide the others. One that is not
    finite in the float graph is left out; one that is only so with the codes counts as -100 dB.
    Weights in functions cannot be fed and keep their values.

    Raises:
        InputError: TensorFlow cannot run the graph.
    """
    weights: Dict[str, np.ndarray] = {}
    for site in sites:
        there = given.get(site.weight)
        if there is not None and there.shift is not None:
            weights.update(_bias(view, site, there.shift))
        if there is not None and not site.scope:
            values = there.quantized.dequantize().astype(NUMPY[site.dtype])
            weights[f"{site.node}:0"] = values
    return mean_sqnr(runner, tensors, samples, weights)


def mean_sqnr(
    runner: Runner,
    tensors: Sequence[str],
    samples: Sequence[Sample],
    weights: Mapping[str, np.ndarray],
) -> float:
    """As ``output_sqnr``, with the values that are fed in place of constants."""
    scores = []
    for sample in samples:
        before = runner.run(tensors, sample)
        after = runner.run(tensors, {**sample, **weights})
        for name in tensors:
            old = np.asarray(before[name])
            if old.dtype.kind != "f" or not np.isfinite(old).all() or not old.any():
                continue
            new = np.asarray(after[name], np.float64)
            same = new.shape == old.shape and bool(np.isfinite(new).all())
            noise = float(np.square(new - old).sum()) if same else np.inf
            score = sqnr_db(float(np.square(old, dtype=np.float64).sum()), noise)
            scores.append(min(max(score, -_LIMIT), _LIMIT))
    return float(np.mean(scores)) if scores else 0.0
