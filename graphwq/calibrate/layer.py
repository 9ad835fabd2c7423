"""One weight in the layers that use it, as arrays: what is rounded, and what it is weighed by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from graphwq.calibrate.activations import FLOAT, QUANTIZED, Activations
from graphwq.calibrate.geometry import Block, geometry
from graphwq.calibrate.gram import gram
from graphwq.calibrate.operand import indices, operand_tensor
from graphwq.errors import UnsupportedError
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import Granularity, PerGroup
from graphwq.survey.batchnorm import loses_its_mean
from graphwq.survey.sites import Consumer, WeightSite
from graphwq.survey.view import ScopeView
from graphwq.verify.runner import Runner

#: A layer of more inputs per output would need a Hessian of more than 128 MB.
MAX_COLUMNS = 4096


@dataclass(frozen=True)
class Use:
    """One block of one consumer.

    Attributes:
        consumer: name of the op.
        tensor: the activation that the weights are multiplied with.
        block: how they meet.
        index: int [problems, rows, n], flat indices into the weight.
        centred: whether the mean of each output over the batch and its places is taken off again
            by what follows, so that errors of it do not count.
    """

    consumer: str
    tensor: str
    block: Block
    index: np.ndarray
    centred: bool


@dataclass(frozen=True)
class Layer:
    """A weight with all its uses.

    Attributes:
        site: the weight.
        uses: each value of the weight stands in at least one of them.
        groups: int, flat: the number of the scale of each value.
        count: how many scales there are.
    """

    site: WeightSite
    uses: Tuple[Use, ...]
    groups: np.ndarray
    count: int

    @property
    def tensors(self) -> Tuple[str, ...]:
        """The activations that it needs."""
        return tuple(dict.fromkeys(use.tensor for use in self.uses))


@dataclass(frozen=True)
class Seen:
    """What one kind of block saw: its place in the weight and its second moments.

    They are moments about the mean where ``Use.centred``.

    Attributes:
        index: int [problems, rows, n].
        hessian: float64 [problems, n, n], X_q^T X_q.
        cross: float64 [problems, n, n], X_f^T X_q.
        own: float64 [problems, n, n], X_f^T X_f.
    """

    index: np.ndarray
    hessian: np.ndarray
    cross: np.ndarray
    own: np.ndarray


def layer_of(
    runner: Runner,
    view: ScopeView,
    site: WeightSite,
    dtype: np.dtype,
    granularity: Granularity,
) -> Layer:
    """Look up how a weight is used.

    Raises:
        UnsupportedError: it cannot be calibrated; the message says why.
    """
    if site.scope:
        raise UnsupportedError("it is in the body of a function, which cannot be looked into")
    if isinstance(granularity, PerGroup):
        raise UnsupportedError("calibrated rounding has no scales per group of inputs")
    uses: List[Use] = []
    for consumer in site.consumers:
        uses.extend(_uses(runner, view, site, consumer, dtype))
    covered = np.zeros(site.size, np.int64)
    for use in _distinct(uses):
        np.add.at(covered, use.index.reshape(-1), 1)
    if not (covered == 1).all():
        raise UnsupportedError("the ops that use it do not share its values evenly")
    shape = scale_shape(site.shape, granularity)
    count = int(np.prod(shape, dtype=np.int64))
    groups = np.broadcast_to(np.arange(count).reshape(shape), site.shape).reshape(-1)
    for use in uses:
        own = groups[use.index]
        if not (own == own[:, :, :1]).all():
            raise UnsupportedError("an output of the op has values of several scales")
    return Layer(site, tuple(uses), groups, count)


def _uses(
    runner: Runner, view: ScopeView, site: WeightSite, consumer: Consumer, dtype: np.dtype
) -> List[Use]:
    if consumer.scope:
        raise UnsupportedError(f"{consumer.op} is in the body of a function")
    how = geometry(view.nodes[consumer.node], consumer)
    operand = indices(runner, view, site, consumer, dtype)
    tensor = operand_tensor(view, consumer, how.activation)
    centred = loses_its_mean(view, consumer.node)
    found = []
    for block in how.blocks(operand.shape):
        index = block.arrange(operand)
        if index.shape[-1] > MAX_COLUMNS:
            raise UnsupportedError(
                f"{index.shape[-1]} inputs per output: their Hessian would take "
                f"{index.shape[-1] ** 2 * 8 >> 20} MB"
            )
        foreign = (index < 0).all(-1)
        if (index[~foreign] < 0).any() or (foreign.any() and len(index) > 1):
            raise UnsupportedError("its values are mixed with those of another constant")
        if foreign.any():
            index = index[:, ~foreign[0]]
        found.append(Use(consumer.node, tensor, block, index, centred))
    return found


def _distinct(uses: Sequence[Use]) -> List[Use]:
    """The uses without those that take the same values in the same way as an earlier one."""
    known: Dict[bytes, Use] = {}
    for use in uses:
        known.setdefault(use.index.tobytes(), use)
    return list(known.values())


def observe(layer: Layer, activations: Activations) -> List[List[Seen]]:
    """Run both states up to the layer and take the moments of what it sees.

    Every sample has the same weight, whatever the size of its numbers.

    Returns:
        the moments of two halves of the samples (one where there is one sample), so that what is
        chosen by one half can be judged by the other.

    Raises:
        InputError: TensorFlow cannot run the graph so far.
        UnsupportedError: an activation is not finite, or not what the op takes.
    """
    quantized = activations.fetch(layer.tensors, QUANTIZED)
    floats = activations.fetch(layer.tensors, FLOAT)
    pairs = list(zip(quantized, floats))
    middle = (len(pairs) + 1) // 2
    return [_moments(layer, half) for half in (pairs[:middle], pairs[middle:]) if half]


def together(halves: Sequence[Sequence[Seen]]) -> List[Seen]:
    """The moments of all samples."""
    return [
        Seen(
            same[0].index,
            sum((one.hessian for one in same[1:]), same[0].hessian),
            sum((one.cross for one in same[1:]), same[0].cross),
            sum((one.own for one in same[1:]), same[0].own),
        )
        for same in zip(*halves)
    ]


_Pair = Tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]


def _moments(layer: Layer, pairs: Sequence[_Pair]) -> List[Seen]:
    moments: Dict[bytes, List[np.ndarray]] = {}
    places: Dict[bytes, np.ndarray] = {}
    for use in layer.uses:
        key = use.index.tobytes()
        places[key] = use.index
        for after, before in pairs:
            inputs, originals = (_vectors(use, sample[use.tensor]) for sample in (after, before))
            own = gram(originals, originals)
            new = [gram(inputs, inputs), gram(originals, inputs), own]
            energy = float(np.trace(own, axis1=1, axis2=2).sum())
            new = [one / energy if energy > 0 else one for one in new]
            old = moments.get(key)
            moments[key] = new if old is None else [left + right for left, right in zip(old, new)]
    return [Seen(places[key], *found) for key, found in moments.items()]


def _vectors(use: Use, value: np.ndarray) -> np.ndarray:
    if value.dtype.kind != "f":
        raise UnsupportedError(f"the input of the op is {value.dtype}, not float")
    vectors = use.block.unfold(value)
    if vectors.shape[-1] != use.index.shape[-1]:
        raise UnsupportedError("the input of the op does not fit its weight")
    if not np.isfinite(vectors).all():
        raise UnsupportedError("an activation is NaN or Inf")
    if vectors.shape[1] == 0:
        raise UnsupportedError("the input of the op is empty")
    if use.centred:
        vectors = vectors - vectors.mean(1, keepdims=True, dtype=np.float64)
    return vectors
