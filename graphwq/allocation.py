"""Mixed plans by what widths cost the outputs: several allocations, the best of which is taken.

    1. what each weight at each width does to the outputs, alone        calibrate/sensitivity.py
    2. widths within the target by that table, by the errors of the values, and by both
    3. each of them, and one width for all, is run on other inputs than the costs were measured on

So a mixed plan is never worse on those than one width. Made-up inputs stand for real ones as far as
they do: there measured costs have to win clearly. A few real inputs are better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from graphwq.calibrate.evidence import float_outputs, mean_sqnr
from graphwq.calibrate.inputs import calibration_inputs, halves
from graphwq.calibrate.sensitivity import blended, output_errors, quantized_values
from graphwq.calibration import Wishes
from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.mixed import Mixer
from graphwq.rewrite.mixture import BOTH, OUTPUTS, UNIFORM, WEIGHTS, Trial
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.run import Progress
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Survey
from graphwq.survey.view import View, build
from graphwq.tf1.session import Runner
from graphwq.verify.feeds import SYNTHETIC, Sample
from graphwq.verify.interface import Interface, find_interface

#: Seed of made-up inputs that decide between allocations, beyond that of the costs.
_HELD_OUT_SEED = 104729
#: dB that measured costs must gain at the outputs where all inputs are made up: no proof of much.
_LEAST_GAIN = 2.0
#: Part of the values' errors in the table ``BOTH``.
_PART = 0.3


def plan_measured(
    graph: Graph,
    options: Options,
    wishes: Wishes,
    digest: Optional[str],
    progress: Optional[Progress] = None,
) -> Tuple[Plan, str]:
    """Plan widths for ``options.target`` by running the graph.

    Args:
        graph: to be quantized.
        options: what the user wants; they have a target.
        wishes: the inputs.
        digest: of the graph, or None for a plan that does not leave the process.
        progress: called with (done, total, weight).

    Returns:
        the plan; its mixture has the table and what was tried. And why nothing could be measured,
        so that the errors of the values decided; "" where they did not.

    Raises:
        InputError: a broken graph, feeds that do not fit, or a target that cannot be reached.
        QuantizationError: a weight holds NaN or Inf.
        MissingDependencyError: TensorFlow is not installed.
    """
    target = options.target
    assert target is not None
    view = build(graph)
    view.check()
    survey = locate_in(view)
    mixer = Mixer(graph, view, survey, options)
    by_values = mixer.plan(target, digest)
    source = wishes.asked
    try:
        with Runner(graph, optimize=False) as runner:
            interface = find_interface(graph, view)
            measured, judged = _samples(runner, view, interface, wishes)
            tensors = float_outputs(runner, view.main, interface.tensors, measured[0])
            costs = output_errors(
                runner, view, mixer.sites, mixer.errors, tensors, measured, progress
            )
            if costs is None:
                return by_values, "no float output of the graph says anything on these inputs"
            outputs = mixer.by(costs, OUTPUTS)
            both = mixer.by(blended(costs, mixer.errors, _PART), BOTH)
            tried = [(outputs.plan_uniform(target, digest), UNIFORM), (by_values, WEIGHTS)]
            tried += [(one.plan(target, digest), one.cost) for one in (both, outputs)]
            judge = _Judge(runner, view, survey, tensors, judged)
            scored = [(plan, cost, judge.score(plan)) for plan, cost in tried if plan is not None]
            return _best(scored, 0.0 if source is not None else _LEAST_GAIN), ""
    except (InputError, UnsupportedError) as error:
        if source is not None:
            raise
        return by_values, f"the graph cannot be run: {error}"


def _samples(
    runner: Runner,
    view: View,
    interface: Interface,
    wishes: Wishes,
) -> Tuple[Sequence[Sample], Sequence[Sample]]:
    """(inputs for the costs, inputs that decide); see ``halves`` for those of a file."""
    seed, samples = wishes.seed, wishes.samples
    feeds = calibration_inputs(runner, view, interface, wishes.asked, seed, samples)
    if feeds.origin == SYNTHETIC:
        other = seed + _HELD_OUT_SEED
        judged = calibration_inputs(runner, view, interface, None, other, samples)
        return feeds.samples, judged.samples
    return halves(feeds, interface)


def _best(tried: Sequence[Tuple[Plan, str, float]], margin: float) -> Plan:
    """The plan of the best score, the first of equals, with all of them as its trials.

    Plans by costs that were measured have to be better by ``margin``.
    """

    def behind(one: Tuple[Plan, str, float]) -> float:
        return (margin if one[1] in (OUTPUTS, BOTH) else 0.0) - one[2]

    ordered = sorted(tried, key=behind)
    trials = []
    for plan, cost, score in ordered:
        assert plan.mixture is not None
        trials.append(Trial(cost, plan.mixture.nbytes, score))
    best = ordered[0][0]
    assert best.mixture is not None
    return replace(best, mixture=replace(best.mixture, trials=tuple(trials)))


class _Judge:
    """Runs plans, keeping the values of weights that several of them share."""

    def __init__(
        self,
        runner: Runner,
        view: View,
        survey: Survey,
        tensors: Sequence[str],
        samples: Sequence[Sample],
    ) -> None:
        self._runner, self._tensors, self._samples = runner, tensors, samples
        self._sites = {site.weight: site for site in survey.sites}
        self._values = quantized_values(view)
        self._known: Dict[Tuple[Tuple[str, int], ...], float] = {}

    def score(self, plan: Plan) -> float:
        """Mean SQNR of the outputs with the weights of a plan, in dB."""
        key = tuple((item.weight, item.scheme.num_bits) for item in plan.items)
        if key not in self._known:
            fed: Dict[str, np.ndarray] = {}
            for item in plan.items:
                site = self._sites[item.weight]
                if not site.scope:
                    fed[f"{site.node}:0"] = self._values(site, item)
            self._known[key] = mean_sqnr(self._runner, self._tensors, self._samples, fed)
        return self._known[key]
