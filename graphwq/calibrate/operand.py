"""Which values of a weight an op's operand holds, and where: found by sending numbers through.

Between a constant and its op there may be splits, reshapes, transpositions and joins. Instead of
knowing them all, the graph is run with the weight replaced by its own indices, digit by digit (half
floats count to 2048), and the operand is read.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef.node import TensorRef
from graphwq.survey.sites import Consumer, WeightSite
from graphwq.survey.view import ScopeView
from graphwq.verify.runner import Runner

_BASE = 1024
_PASSES = ("Identity", "StopGradient", "PreventGradient")


def operand_tensor(view: ScopeView, consumer: Consumer, slot: int) -> str:
    """The tensor at a data input of a consumer, as ``node:port``."""
    ref = TensorRef.parse(view.nodes[consumer.node].data_inputs[slot])
    return f"{ref.node}:{ref.port}"


def indices(
    runner: Runner, view: ScopeView, site: WeightSite, consumer: Consumer, dtype: np.dtype
) -> np.ndarray:
    """For each value of the operand its flat index in the weight, -1 where it is another's.

    Raises:
        UnsupportedError: the path cannot be run, or it computes with the values.
    """
    shape: Tuple[int, ...] = site.shape
    flat = np.arange(site.size, dtype=np.int64).reshape(shape)
    if all(op in _PASSES for op in consumer.path_ops):
        return flat
    fed = f"{site.node}:0"
    fetched = operand_tensor(view, consumer, consumer.slot)

    def send(values: np.ndarray) -> np.ndarray:
        try:
            result = runner.run([fetched], {fed: values.astype(dtype)})[fetched]
        except InputError as error:
            raise UnsupportedError(f"the way from weight to op cannot be run: {error}") from error
        return np.asarray(result, np.float64)

    low, high = send(np.zeros(shape)), send(np.ones(shape))
    own = high - low
    if not np.isin(own, (0.0, 1.0)).all():
        raise UnsupportedError("the way from weight to op changes the values")
    total = np.zeros(low.shape, np.int64)
    place = 1
    while place <= max(site.size - 1, 1):
        digit = send(flat // place % _BASE) - np.where(own > 0, low, 0.0)
        total += np.rint(np.where(own > 0, digit, 0.0)).astype(np.int64) * place
        place *= _BASE
    return np.where(own > 0, total, -1)
