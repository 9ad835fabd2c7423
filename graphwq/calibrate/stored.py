"""Moments of activations that a graph holds itself: batch norms tell what comes out of them.

By stored moments a batch norm's output has mean ``offset`` and standard deviation ``scale`` on the
data that it was trained on; by the moments of the batch it has them on any data.
"""

from __future__ import annotations

from typing import Dict, List, Optional

import numpy as np

from graphwq.errors import UnsupportedError
from graphwq.graphdef.node import Node, producer
from graphwq.quant.moments import Moments, clipped, joined, total
from graphwq.survey.batchnorm import BATCH_NORMS
from graphwq.survey.constants import constant_ints, constant_vector
from graphwq.survey.view import ScopeView

_SAME = ("Identity", "StopGradient", "PreventGradient", "Pad", "PadV2", "SpaceToBatchND")
_SUMS = ("Add", "AddV2", "AddN")
_RELU6 = 6.0


class Stored:
    """The moments of the activations of one graph, [batch, ..., channels].

    Raises:
        InputError: the graph has a cycle that is not a while loop.
    """

    def __init__(self, view: ScopeView) -> None:
        self._view = view
        self._known: Dict[str, Moments] = {}
        for name in view.topological_order():
            node = view.nodes.get(name)
            found = None if node is None else self._made(node, self._sources(node))
            if found is not None:
                self._known[name] = found

    def moments(self, tensor: str) -> Moments:
        """Mean and variance of each channel of an activation (``node:0``).

        Raises:
            UnsupportedError: no batch norm tells.
        """
        name, port = producer(tensor)
        if port or name not in self._known:
            raise UnsupportedError("no batch norm says what it sees: its inputs are not known")
        return self._known[name]

    def _sources(self, node: Node) -> List[str]:
        """The activations that the op's own follows from."""
        inputs = node.data_inputs
        if node.op in (*_SAME, "Relu", "Relu6"):
            inputs = inputs[:1]
        elif node.op == "ConcatV2":
            inputs = inputs[:-1]
        elif node.op not in _SUMS:
            inputs = ()
        return [producer(item)[0] if not producer(item)[1] else "" for item in inputs]

    def _made(self, node: Node, sources: List[str]) -> Optional[Moments]:
        if node.op in BATCH_NORMS:
            return self._normalized(node)
        parts = [self._known.get(source) for source in sources]
        known = [part for part in parts if part is not None]
        if not known or len(known) < len(parts):
            return None
        if node.op == "ConcatV2":
            axis = constant_ints(self._view, node, len(sources))
            return joined(known) if axis in ((3,), (-1,)) else None
        if node.op in _SUMS:
            sizes = {part.mean.size for part in known}
            return total(known) if len(sizes) == 1 else None
        if node.op in ("Relu", "Relu6"):
            return clipped(known[0], _RELU6) if node.op == "Relu6" else clipped(known[0])
        return known[0]

    def _normalized(self, node: Node) -> Optional[Moments]:
        layout = node.attr("data_format")
        if layout is not None and layout.s == b"NCHW":
            return None
        scale, offset = (constant_vector(self._view, node, slot) for slot in (1, 2))
        if scale is None or offset is None or scale.shape != offset.shape:
            return None
        if not (np.isfinite(scale).all() and np.isfinite(offset).all()):
            return None
        return Moments(offset, np.square(scale))
