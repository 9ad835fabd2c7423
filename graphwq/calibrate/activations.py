"""Activations on demand, layer after layer, without running anything twice.

Two states of one graph are kept in one session: the float one, and the one whose first layers have
new weights. Neither needs a new graph, for a weight is a tensor, and a tensor can be fed. What was
fetched is kept as long as a later layer may start from it: the next request is run from there.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

import numpy as np

from graphwq.graphdef.node import CONTROL, TensorRef
from graphwq.survey.view import ScopeView
from graphwq.verify.runner import Runner

Sample = Mapping[str, np.ndarray]
FLOAT, QUANTIZED = 0, 1


class Activations:
    """The activations of both states for all samples.

    Args:
        runner: the float graph in a session.
        view: its main scope.
        samples: feeds, each a run of its own.
    """

    def __init__(self, runner: Runner, view: ScopeView, samples: Sequence[Sample]) -> None:
        self._runner = runner
        self._view = view
        self._samples = samples
        self._weights: Dict[str, Tuple[np.ndarray, np.ndarray]] = {}
        self._kept: List[List[Dict[str, np.ndarray]]] = [
            [dict(sample) for sample in samples] for _ in (FLOAT, QUANTIZED)
        ]

    def set_weight(self, node: str, before: np.ndarray, after: np.ndarray) -> None:
        """From now on the quantized state has ``after`` in place of the constant ``node``."""
        self._weights[f"{node}:0"] = (before, after)

    def fetch(self, tensors: Sequence[str], state: int) -> List[Dict[str, np.ndarray]]:
        """The tensors, for each sample.

        Raises:
            InputError: TensorFlow cannot run the graph so far.
        """
        results = []
        for kept in self._kept[state]:
            missing = [name for name in tensors if name not in kept]
            if missing:
                reached = self._reached(missing, kept)
                feeds = {name: kept[name] for name in reached if name in kept}
                feeds.update(
                    {name: self._weights[name][state] for name in reached if name in self._weights}
                )
                kept.update(self._runner.run(missing, feeds))
            results.append({name: kept[name] for name in tensors})
        return results

    def _reached(self, tensors: Iterable[str], stops: Mapping[str, np.ndarray]) -> Set[str]:
        """The tensors that ``tensors`` are computed from, up to those in ``stops``."""
        pending = list(tensors)
        seen: Set[str] = set(pending)
        while pending:
            name = pending.pop()
            if name in stops:
                continue
            node = self._view.nodes.get(TensorRef.parse(name).node)
            if node is None:
                continue
            for item in node.inputs:
                ref = TensorRef.parse(item)
                tensor = f"{ref.node}:{0 if ref.port == CONTROL else ref.port}"
                if tensor not in seen:
                    seen.add(tensor)
                    pending.append(tensor)
        return seen

    def forget_all_but(self, tensors: Iterable[str]) -> None:
        """Drop what none of ``tensors`` (still to be fetched) can start from."""
        for states in self._kept:
            for number, kept in enumerate(states):
                needed = self._reached(tensors, kept)
                for name in [name for name in kept if name not in needed]:
                    if name not in self._samples[number]:
                        del kept[name]

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return sum(
            value.nbytes for states in self._kept for kept in states for value in kept.values()
        )
