"""Layer by layer in the order of the graph: observe, correct, round, go on with the result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.calibrate.activations import Activations
from graphwq.calibrate.bias import correction
from graphwq.calibrate.choose import choose, nearer
from graphwq.calibrate.layer import Layer, layer_of, observe, together
from graphwq.errors import InputError, UnsupportedError
from graphwq.quant.audit import audit
from graphwq.quant.method import quantize_by_method
from graphwq.quant.scheme import GPTQ, QuantizedTensor, data_free
from graphwq.quant.shift import Shift, step_of
from graphwq.rewrite.plan import Plan, PlanItem
from graphwq.rewrite.run import Given, Progress
from graphwq.survey.batchnorm import has_by_batch
from graphwq.survey.bias import BiasPlace, bias_of
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View
from graphwq.verify.feeds import Sample
from graphwq.verify.runner import Runner

#: Activations are dropped when they take more than this and can be dropped.
_KEEP_BYTES = 256 << 20


@dataclass(frozen=True)
class Outcome:
    """What calibration made of one weight.

    Attributes:
        weight: its name.
        method: the one that was used in the end.
        reason: why it is not the one that was asked for; "" where it is.
        sqnr_db: of the layer's outputs on the calibration inputs, with all layers before it
            quantized; None where nothing was observed.
        bias: why the layer's bias does not take its mean error; "" where it does, or was not asked.
    """

    weight: str
    method: str
    reason: str
    sqnr_db: Optional[float]
    bias: str = ""

    def to_json(self) -> Dict[str, object]:
        """The outcome as JSON data."""
        finite = self.sqnr_db is not None and np.isfinite(self.sqnr_db)
        return {
            "weight": self.weight,
            "method": self.method,
            "reason": self.reason,
            "sqnr_db": self.sqnr_db if finite else None,
            **({"bias": self.bias} if self.bias else {}),
        }


@dataclass(frozen=True)
class Swept:
    """The result for a whole plan.

    Attributes:
        plan: with the method that each weight got in the end.
        given: codes by weight, for ``rebuild``.
        outcomes: one for each item of the plan, in its order.
    """

    plan: Plan
    given: Mapping[str, Given]
    outcomes: Tuple[Outcome, ...]


class Sweep:
    """One walk through a graph.

    Args:
        runner: the float graph in a session.
        view: of it.
        sites: its weights.
        samples: calibration inputs.
        company: made-up ones beside them; the means of errors are not taken from these.
        compare: also weigh the codes of rounding to nearest, and keep those where the layer's
            outputs are nearer to the float ones with them.
    """

    def __init__(
        self,
        runner: Runner,
        view: View,
        sites: Sequence[WeightSite],
        samples: Sequence[Sample],
        company: Sequence[Sample] = (),
        compare: bool = False,
    ) -> None:
        self._runner = runner
        self._view = view
        self._sites = {site.weight: site for site in sites}
        self._activations = Activations(runner, view.main, (*samples, *company))
        self._real = len(samples)
        self._by_batch = has_by_batch(view.main)
        self._compare = compare

    def run(self, plan: Plan, progress: Optional[Progress] = None) -> Swept:
        """Choose the codes of every item; those of other methods than gptq are made on the way.

        Raises:
            QuantizationError: a weight holds NaN or Inf.
        """
        layers: Dict[str, Layer] = {}
        reasons: Dict[str, str] = {}
        for item in plan.items:
            try:
                layers[item.weight] = self._look_up(item)
            except UnsupportedError as error:
                reasons[item.weight] = str(error)
        order = sorted(plan.items, key=self._position)
        done: Dict[str, Tuple[PlanItem, Given, Outcome]] = {}
        for number, item in enumerate(order, 1):
            done[item.weight] = self._step(item, layers.get(item.weight), reasons)
            if self._activations.nbytes > _KEEP_BYTES:
                rest = [layers[one.weight] for one in order[number:] if one.weight in layers]
                needed = [tensor for layer in rest for tensor in layer.tensors]
                needed += [place.tensor for one in order[number:] for place in self._place(one)]
                self._activations.forget_all_but(needed)
            if progress is not None:
                progress(number, len(order), item.weight)
        results = [done[item.weight] for item in plan.items]
        return Swept(
            replace(plan, items=tuple(item for item, _, _ in results)),
            {item.weight: given for item, given, _ in results},
            tuple(outcome for _, _, outcome in results),
        )

    def _position(self, item: PlanItem) -> Tuple[int, str]:
        order = self._view.main.topological_order()
        consumers = self._sites[item.weight].consumers
        places = [order.get(one.node, 0) for one in consumers if not one.scope]
        return min(places, default=len(order)), item.weight

    def _weight(self, item: PlanItem) -> np.ndarray:
        return self._view.tensor(self._sites[item.weight]).numpy()

    def _look_up(self, item: PlanItem) -> Layer:
        site = self._sites[item.weight]
        if item.scheme.method != GPTQ:
            raise UnsupportedError("")
        dtype = self._weight(item).dtype
        return layer_of(self._runner, self._view.main, site, dtype, item.scheme.granularity)

    def _step(
        self, item: PlanItem, layer: Optional[Layer], reasons: Mapping[str, str]
    ) -> Tuple[PlanItem, Given, Outcome]:
        weight = self._weight(item)
        reason = reasons.get(item.weight, "")
        plain, error = quantize_by_method(weight, data_free(item.scheme))
        chosen, sqnr = plain, None
        if layer is not None:
            try:
                chosen, sqnr, reason = self._calibrated(item, layer, weight, plain)
            except (UnsupportedError, InputError) as problem:
                reason = str(problem)
            except np.linalg.LinAlgError as problem:
                reason = f"its Hessian cannot be used: {problem}"
        if chosen is not plain:
            error = audit(weight, chosen).error
        self._set(item, weight, chosen)
        shift, why = self._corrected(item, chosen)
        bias = item.bias if shift is not None else ""
        item = replace(item, scheme=chosen.scheme, bias=bias)
        outcome = Outcome(item.weight, chosen.scheme.method, reason, sqnr, why)
        return item, Given(chosen, error, shift=shift), outcome

    def _place(self, item: PlanItem) -> Tuple[BiasPlace, ...]:
        place = bias_of(self._view.main, self._sites[item.weight]) if item.bias else None
        return () if place is None or place.constant != item.bias else (place,)

    def _corrected(self, item: PlanItem, chosen: QuantizedTensor) -> Tuple[Optional[Shift], str]:
        """What the bias of a layer takes, or why it takes nothing."""
        if not item.bias:
            return None, ""
        try:
            (place,) = self._place(item)
        except ValueError:
            raise InputError(
                f"the plan corrects {item.bias!r}, which is no bias of {item.weight!r} alone: make "
                "a new plan"
            ) from None
        try:
            shift, old = correction(
                self._view.main, place, self._activations, self._real, step_of(chosen)
            )
        except (InputError, UnsupportedError) as problem:
            return None, str(problem)
        self._activations.set_weight(place.constant, old, shift.apply(old))
        return shift, ""

    def _calibrated(
        self, item: PlanItem, layer: Layer, weight: np.ndarray, plain: QuantizedTensor
    ) -> Tuple[QuantizedTensor, Optional[float], str]:
        halves = observe(layer, self._activations)
        seen = together(halves)
        if not any(one.hessian.any() for one in seen):
            raise UnsupportedError("its inputs are zero in every calibration sample")
        codes = choose(layer, halves, weight, item.scheme, self._by_batch)
        return nearer(seen, weight, codes, plain if self._compare else None)

    def _set(self, item: PlanItem, weight: np.ndarray, codes: QuantizedTensor) -> None:
        site = self._sites[item.weight]
        if not site.scope:
            values = codes.dequantize().astype(weight.dtype)
            self._activations.set_weight(site.node, weight, values)
