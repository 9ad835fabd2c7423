"""Where the mean of a layer's output error can be taken back without a new node.

    y = op(x, W) ... BiasAdd / Add / AddV2 (c)     c - mean error
                 ... Sub (c)                       c + mean error
                 ... FusedBatchNorm(moving mean)   mean + mean error, in inference mode

The constant must be used there and nowhere else, and so must everything between the op and it. Such
a place is known for weights of one op in the main graph (DFQ, arXiv:1906.04721, section 4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.node import CONTROL, Node, TensorRef
from graphwq.survey.batchnorm import BATCH_NORMS, by_batch
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import ScopeView, Use

_ADDS = {"BiasAdd": -1, "BiasAddV1": -1, "Add": -1, "AddV2": -1, "Sub": 1}
_MEAN = 3
#: Ops between a layer and its bias: the error is measured behind them.
_PASSES = ("Identity", "Squeeze", "BatchToSpaceND", "Mul")
_READS = ("Identity", "Snapshot")
_MOST_HOPS = 8


@dataclass(frozen=True)
class BiasPlace:
    """A constant that can take a mean error.

    Attributes:
        constant: name of the Const.
        shape, dtype: of it.
        tensor: whose mean error it takes, as ``node:port``.
        op: the node that uses it.
        sign: the constant changes by ``sign`` times the mean error.
        channel: the axis of the tensor that the constant runs along; None where it is broadcast as
            numpy does it.
    """

    constant: str
    shape: Tuple[int, ...]
    dtype: int
    tensor: str
    op: str
    sign: int
    channel: Optional[int]

    def mean(self, errors: np.ndarray) -> Optional[np.ndarray]:
        """The mean of errors over everything that shares a value of the constant.

        Args:
            errors: float64, shape of the tensor.

        Returns:
            float64, shape of the constant; None where it does not fit the tensor.
        """
        if self.channel is not None:
            moved = np.moveaxis(errors, self.channel, -1) if errors.ndim > 1 else errors
            return moved.reshape(-1, self.shape[0]).mean(0) if self._fits(moved) else None
        shape = (1,) * (errors.ndim - len(self.shape)) + self.shape
        if len(shape) != errors.ndim:
            return None
        if any(own not in (1, there) for own, there in zip(shape, errors.shape)):
            return None
        axes = tuple(axis for axis, own in enumerate(shape) if own == 1)
        return errors.mean(axes, keepdims=True).reshape(self.shape)

    def _fits(self, moved: np.ndarray) -> bool:
        return len(self.shape) == 1 and moved.shape[-1] == self.shape[0] and moved.size > 0


def bias_of(view: ScopeView, site: WeightSite) -> Optional[BiasPlace]:
    """The constant that can take the mean error of a weight's op; None where there is none.

    Args:
        view: the main scope.
        site: a weight of it.
    """
    if site.scope or len(site.consumers) != 1 or site.consumers[0].scope:
        return None
    name = site.consumers[0].node
    for _ in range(_MOST_HOPS):
        use = _only_use(view, name)
        if use is None:
            return None
        node = use.node
        if node.op in _ADDS:
            slots = [1 - use.slot] if node.op in ("Add", "AddV2") else [1] if not use.slot else []
            channel = _channel(node) if node.op.startswith("BiasAdd") else None
            return _place(view, node, name, slots, _ADDS[node.op], channel)
        if node.op in BATCH_NORMS:
            if by_batch(node):
                return None
            slots = [_MEAN] if not use.slot else []
            return _place(view, node, name, slots, 1, _channel(node))
        if node.op not in _PASSES or (node.op != "Mul" and use.slot):
            return None
        if node.op == "Mul" and _const(view, node, 1 - use.slot) is None:
            return None
        name = node.name
    return None


def _only_use(view: ScopeView, name: str) -> Optional[Use]:
    """The one data use of a node's first output; None where there are others."""
    found = [use for use in view.uses(name) if use.slot != CONTROL]
    return found[0] if len(found) == 1 and found[0].port == 0 else None


def _channel(node: Node) -> int:
    attr = node.attr("data_format")
    return 1 if attr is not None and attr.s in (b"NCHW", b"NCDHW") else -1


def _const(view: ScopeView, node: Node, slot: int) -> Optional[Node]:
    """The Const behind a data input, through reads."""
    if slot >= len(node.data_inputs):
        return None
    ref = TensorRef.parse(node.data_inputs[slot])
    for _ in range(_MOST_HOPS):
        found = view.nodes.get(ref.node)
        if found is None or ref.port != 0:
            return None
        if found.op == "Const":
            return found
        if found.op not in _READS or not found.data_inputs:
            return None
        ref = TensorRef.parse(found.data_inputs[0])
    return None


def _place(
    view: ScopeView,
    node: Node,
    name: str,
    slots: Sequence[int],
    sign: int,
    channel: Optional[int],
) -> Optional[BiasPlace]:
    if not slots:
        return None
    constant = _const(view, node, slots[0])
    if constant is None:
        return None
    walked = constant.name
    while True:  # used here and nowhere else
        use = _only_use(view, walked)
        if use is None:
            return None
        if use.node.name == node.name:
            break
        walked = use.node.name
    tensor = constant.tensor()
    if tensor is None or tensor.size == 0 or tensor.dtype not in _FLOATS:
        return None
    return BiasPlace(
        constant.name, tensor.shape, tensor.dtype, f"{name}:0", node.name, sign, channel
    )


_FLOATS = (dtypes.DT_FLOAT, dtypes.DT_DOUBLE)
