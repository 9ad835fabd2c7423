"""Second-order rounding without any input: layers are weighed by what batch norms say of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphwq.calibrate.choose import nearer, rounded
from graphwq.calibrate.layer import Layer, Seen, Use, layer_of
from graphwq.calibrate.stored import Stored
from graphwq.calibrate.sweep import Outcome, Swept
from graphwq.errors import UnsupportedError
from graphwq.quant.audit import audit
from graphwq.quant.method import quantize_by_method
from graphwq.quant.moments import Moments, hessian
from graphwq.quant.scheme import GPTQ, data_free
from graphwq.rewrite.plan import Plan, PlanItem
from graphwq.rewrite.run import Given, Progress
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View
from graphwq.verify.runner import Runner

#: Sides of a square in which a window without padding is looked for.
_SIDES = (1, 8, 32, 96)
_RANKS = {"Conv3D": 3, "MatMul": 0, "_FusedMatMul": 0}


class Unseen:
    """Codes for the weights of a graph that is not run on anything.

    Args:
        runner: the graph in a session; only the ways from weights to ops are run.
        view: of it.
        sites: its weights.
        compare: keep the codes of rounding to nearest where they are as good by the same moments.
    """

    def __init__(
        self, runner: Runner, view: View, sites: Sequence[WeightSite], compare: bool = False
    ) -> None:
        self._runner = runner
        self._view = view
        self._sites = {site.weight: site for site in sites}
        self._stored = Stored(view.main)
        self._compare = compare

    def run(self, plan: Plan, progress: Optional[Progress] = None) -> Swept:
        """Choose the codes of every item.

        Raises:
            QuantizationError: a weight holds NaN or Inf.
        """
        items: List[PlanItem] = []
        outcomes: List[Outcome] = []
        given: Dict[str, Given] = {}
        for number, item in enumerate(plan.items, 1):
            there, reason = self._chosen(item)
            given[item.weight], chosen = there, there.quantized
            items.append(replace(item, scheme=chosen.scheme))
            outcomes.append(Outcome(item.weight, chosen.scheme.method, reason, None))
            if progress is not None:
                progress(number, len(plan.items), item.weight)
        return Swept(replace(plan, items=tuple(items)), given, tuple(outcomes))

    def _chosen(self, item: PlanItem) -> Tuple[Given, str]:
        """Codes, and why they are not those of the method that was asked for."""
        weight = self._view.tensor(self._sites[item.weight]).numpy()
        plain, error = quantize_by_method(weight, data_free(item.scheme))
        if item.scheme.method != GPTQ:
            return Given(plain, error), ""
        try:
            layer = self._layer(item, weight)
            seen = self._seen(layer)
            targets = [weight.reshape(-1)[one.index].astype(np.float64) for one in seen]
            codes = rounded(layer, seen, targets, weight, item.scheme)
            chosen, _, reason = nearer(seen, weight, codes, plain if self._compare else None)
        except UnsupportedError as problem:
            return Given(plain, error), str(problem)
        except np.linalg.LinAlgError as problem:
            return Given(plain, error), f"its Hessian cannot be used: {problem}"
        if chosen is plain:
            return Given(plain, error), reason
        return Given(chosen, audit(weight, chosen).error), reason

    def _layer(self, item: PlanItem, weight: np.ndarray) -> Layer:
        site = self._sites[item.weight]
        granularity = item.scheme.granularity
        return layer_of(self._runner, self._view.main, site, weight.dtype, granularity)

    def _seen(self, layer: Layer) -> List[Seen]:
        """The moments of each kind of block; uses of one kind see as much of each."""
        found: Dict[bytes, Seen] = {}
        for use in layer.uses:
            moments = self._stored.moments(use.tensor)
            rank = _RANKS.get(self._view.main.nodes[use.consumer].op, 2)
            channel, place = _columns(use, moments, rank)
            own = hessian(moments, channel, place, use.centred)
            key = use.index.tobytes()
            if key in found:
                own = own + found[key].hessian
            found[key] = Seen(use.index, own, own, own)
        return list(found.values())


def _columns(use: Use, moments: Moments, rank: int) -> Tuple[np.ndarray, np.ndarray]:
    """For each number of a vector its channel and its place: int [problems, n] twice.

    Found by sending numbers through: an activation of its own indices, cut as the op cuts it.

    Raises:
        UnsupportedError: the op does not take an activation of that form.
    """
    channels = moments.mean.size
    for side in _SIDES if rank else _SIDES[:1]:
        shape = (1, *(side,) * rank, channels)
        numbers = np.arange(1, np.prod(shape) + 1, dtype=np.float64).reshape(shape)
        try:
            vectors = use.block.unfold(numbers)
        except (UnsupportedError, ValueError):
            continue
        whole = np.flatnonzero((vectors > 0).all((0, 2)))  # padding is 0
        if len(whole) and vectors.shape[-1] == use.index.shape[-1]:
            index = vectors[:, whole[len(whole) // 2]].astype(np.int64) - 1
            return index % channels, index // channels
    raise UnsupportedError("the way in which it takes its inputs is not known without running it")
