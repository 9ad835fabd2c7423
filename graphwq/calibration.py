"""Calibrated quantization: the layers of ``graphwq/calibrate/`` on a graph, run in TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from graphwq.api import with_storage
from graphwq.calibrate.blas import one_thread
from graphwq.calibrate.company import company, missing
from graphwq.calibrate.evidence import float_outputs, output_sqnr
from graphwq.calibrate.inputs import calibration_inputs, halves, one_by_one
from graphwq.calibrate.sweep import Outcome, Sweep, Swept
from graphwq.calibrate.unseen import Unseen
from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.quant.scheme import GPTQ, data_free
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import Calibration, Plan
from graphwq.rewrite.planning import plan_surveyed
from graphwq.rewrite.run import Progress, RewriteResult, rebuild, rewrite_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Survey
from graphwq.survey.view import View, build
from graphwq.tf1.session import Runner
from graphwq.verify.feeds import SYNTHETIC, Feeds, Sample
from graphwq.verify.interface import Interface, find_interface

#: A source of calibration that runs nothing.
STORED = "bn"
#: Seed and number of made-up inputs that decide between methods; never calibrated on.
_HELD_OUT_SEED = 7919
_HELD_OUT = 8
#: dB that calibrated codes must gain at the outputs on them; made-up inputs are no proof.
_LEAST_GAIN = 1.0


@dataclass(frozen=True)
class Wishes:
    """How to calibrate.

    Attributes:
        source: an ``.npz`` of feeds; None or "synthetic": made-up inputs; "bn": no inputs, layers
            are weighed by what batch norms say of them.
        seed, samples: of made-up inputs. Beside a file of few images so many are made up, too.
        auto: keep rounding to nearest where the calibrated codes do not gain.
        made_up: as many inputs are made up beside a file; None: what it needs.
    """

    source: Optional[Union[str, Path]] = None
    seed: int = 0
    samples: int = 8
    auto: bool = False
    made_up: Optional[int] = None

    @property
    def asked(self) -> Optional[Union[str, Path]]:
        """The source; None where inputs are made up, asked for by name or not."""
        return None if self.source == SYNTHETIC else self.source

    @property
    def is_file(self) -> bool:
        """Whether there are real inputs."""
        return self.asked not in (None, STORED)

    def as_made(self, plan: Plan) -> Wishes:
        """The inputs that a plan was calibrated on, where it says so; its methods stand.

        Raises:
            InputError: a file is needed and not given, or the other way round.
        """
        made = plan.calibration
        _check_biases(plan, self)
        if made is not None and made.origin in (SYNTHETIC, STORED):
            if self.source not in (None, made.origin):
                raise InputError(
                    f"the plan was calibrated with {made.origin!r}: leave out --calibration"
                )
            return Wishes(made.origin, made.seed, made.samples)
        if made is not None and not self.is_file:
            raise InputError("the plan was calibrated on a file: give it with --calibration")
        if made is None:
            return replace(self, auto=False)
        return replace(self, auto=False, seed=made.seed, made_up=made.made_up)

    def beside(self, feeds: Feeds, interface: Interface) -> Tuple[Sample, ...]:
        """Made-up samples beside those of a file of few images; see ``calibrate.company``."""
        count = self.made_up
        if count is None:
            count = missing(feeds, interface, self.samples)
        return company(feeds, self.seed, count)


def _check_biases(plan: Plan, wishes: Wishes) -> None:
    biases = [item.bias for item in plan.items if item.bias]
    if biases and not wishes.is_file:
        raise InputError(
            f"the plan corrects biases ({biases[0]!r}), and made-up inputs have other means: "
            "give inputs with --calibration"
        )


@dataclass(frozen=True)
class Calibrated:
    """A calibrated quantization.

    Attributes:
        result: the new graph and what became of each weight.
        plan: what was done, with the method of every weight and the calibration.
        outcomes: for each weight of the plan the method and why it is not the one asked for.
        notes: about the calibration as a whole, one sentence each.
    """

    result: RewriteResult
    plan: Plan
    outcomes: Tuple[Outcome, ...]
    notes: Tuple[str, ...]

    def to_json(self) -> Dict[str, Any]:
        """Outcomes and notes as JSON data."""
        made = self.plan.calibration
        return {
            "calibration": None if made is None else made.to_json(),
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "notes": list(self.notes),
        }


def quantize_calibrated(
    graph: Graph,
    options: Options,
    calibration: Optional[Union[str, Path]] = None,
    seed: int = 0,
    samples: int = 8,
    auto: bool = False,
    progress: Optional[Progress] = None,
) -> Calibrated:
    """Quantize a graph by second-order rounding, layer by layer.

    Args:
        graph: to be quantized.
        options: what the user wants; the method is gptq unless ``correct_bias`` is set and they
            name another one.
        calibration: see ``Wishes.source``.
        seed, samples: of made-up inputs.
        auto: per layer keep rounding to nearest where the layer's outputs are as near with it, and
            for the whole graph where its outputs are, on inputs that were not calibrated on.
        progress: called with (done, total, weight) after each weight.

    Raises:
        InputError: a broken graph, a wrong option, feeds that do not fit.
        QuantizationError: a weight holds NaN or Inf.
        MissingDependencyError: TensorFlow is not installed.
    """
    view = build(graph)
    view.check()
    survey = locate_in(view)
    asked = options if options.correct_bias else replace(options, method=GPTQ)
    plan = plan_surveyed(graph, view, survey, asked, None)
    wishes = Wishes(calibration, seed, samples, auto)
    return carry_out(graph, view, survey, plan, wishes, progress)


def carry_out_plan(
    graph: Graph,
    plan: Plan,
    storage: Optional[str] = None,
    calibration: Optional[Union[str, Path]] = None,
    seed: int = 0,
    samples: int = 8,
    progress: Optional[Progress] = None,
    auto: bool = False,
) -> Calibrated:
    """Carry out a plan with items of gptq.

    A plan that was calibrated is carried out on the same inputs: made-up ones are made again from
    its seed, a file has to be given and must hold the same values.

    Raises:
        InputError: the plan is for another graph, or its calibration is not at hand.
    """
    if plan.graph_digest is not None and plan.graph_digest != graph.digest:
        raise InputError(
            "the plan was made for another graph (its digest is "
            f"{plan.graph_digest[:12]}..., this graph's {graph.digest[:12]}...): make a new plan"
        )
    wishes = replace(Wishes(calibration, seed, samples).as_made(plan), auto=auto)
    view = build(graph)
    view.check()
    survey = locate_in(view)
    wanted = with_storage(plan, storage)
    return carry_out(graph, view, survey, wanted, wishes, progress)


def carry_out(
    graph: Graph,
    view: View,
    survey: Survey,
    plan: Plan,
    wishes: Wishes,
    progress: Optional[Progress] = None,
) -> Calibrated:
    """Carry out a plan whose items may ask for gptq; see ``quantize_calibrated``."""
    source = wishes.asked
    seed = wishes.seed
    try:
        runner = Runner(graph, optimize=False)
    except (InputError, UnsupportedError) as error:
        return _uncalibrated(graph, view, survey, plan, str(error))
    with runner, one_thread() as is_repeatable:
        if source == STORED:
            _check_biases(plan, wishes)
            swept = Unseen(runner, view, survey.sites, compare=wishes.auto).run(plan, progress)
            made = Calibration(STORED, 0, 0, "")
            return _calibrated(graph, view, survey, swept, made, [])
        session = _Session(runner, view, survey, find_interface(graph, view))
        try:
            feeds = session.inputs(source, seed, wishes.samples)
        except InputError as error:
            if source is not None:
                raise
            return _uncalibrated(graph, view, survey, plan, str(error))
        if plan.calibration is not None and plan.calibration.digest != feeds.digest:
            raise InputError("the calibration inputs are not those of the plan: make a new plan")
        swept, made_up, said = _swept(session, feeds, plan, wishes, progress)
    notes = said if is_repeatable else [_MAY_DIFFER, *said]
    made = Calibration(feeds.origin, len(feeds.samples), seed, feeds.digest, made_up)
    return _calibrated(graph, view, survey, swept, made, notes)


@dataclass(frozen=True)
class _Session:
    """The float graph in a session, and what is known of it."""

    runner: Runner
    view: View
    survey: Survey
    interface: Interface

    def inputs(self, source: Optional[Union[str, Path]], seed: int, samples: int) -> Feeds:
        return calibration_inputs(self.runner, self.view, self.interface, source, seed, samples)

    def sweep(
        self, samples: Sequence[Sample], company: Sequence[Sample] = (), compare: bool = False
    ) -> Sweep:
        return Sweep(self.runner, self.view, self.survey.sites, samples, company, compare)


def _swept(
    session: _Session, feeds: Feeds, plan: Plan, wishes: Wishes, progress: Optional[Progress]
) -> Tuple[Swept, int, List[str]]:
    """Codes by feeds, how many inputs were made up beside them, and what decided."""
    beside: Tuple[Sample, ...] = ()
    if feeds.origin != SYNTHETIC:
        feeds = one_by_one(session.runner, session.view, session.interface, feeds)
        beside = wishes.beside(feeds, session.interface)
    swept = session.sweep(feeds.samples, beside, wishes.auto).run(plan, progress)
    if not wishes.auto:
        return swept, len(beside), []
    swept, note = _gate(session, feeds, plan, swept, wishes)
    return swept, len(beside), [note]


def _calibrated(
    graph: Graph, view: View, survey: Survey, swept: Swept, made: Calibration, notes: Sequence[str]
) -> Calibrated:
    final = replace(swept.plan, calibration=made)
    result = rebuild(graph, view, survey.sites, final, swept.given)
    return Calibrated(result, final, swept.outcomes, tuple(notes))


_MAY_DIFFER = "threadpoolctl is not installed: on another number of threads codes may differ"


def _gate(
    session: _Session, feeds: Feeds, plan: Plan, swept: Swept, wishes: Wishes
) -> Tuple[Swept, str]:
    """Rounding to nearest everywhere, unless the graph's outputs are clearly nearer without.

    Codes are judged on inputs that they were not calibrated on. A file's inputs are all used for
    the codes; the verdict is about those that one half gives, judged by the other half.
    """
    judged, samples = swept, feeds.samples
    if feeds.origin == SYNTHETIC:
        other = wishes.seed + _HELD_OUT_SEED
        samples = session.inputs(None, other, _HELD_OUT).samples
    else:
        first, samples = halves(feeds, session.interface)
        if first is not samples:
            beside = wishes.beside(replace(feeds, samples=first), session.interface)
            judged = session.sweep(first, beside, compare=True).run(plan)
    others = [_plain(session, plan, ())]
    if any(item.bias for item in plan.items):
        others.append(_plain(session, plan, feeds.samples))
    runner, main, sites = session.runner, session.view.main, session.survey.sites
    tensors = float_outputs(runner, main, session.interface.tensors, samples[0])
    known = [
        output_sqnr(runner, main, sites, tensors, samples, one.given) for one in (judged, *others)
    ]
    best = max(range(1, len(known)), key=lambda number: known[number])
    plain, scores = others[best - 1], (known[0], known[best])
    said = f"output SQNR {scores[0]:.1f} dB with calibrated codes, {scores[1]:.1f} dB with absmax"
    if scores[0] >= scores[1] + _LEAST_GAIN:
        return swept, said
    reason = f"calibration does not gain {_LEAST_GAIN:g} dB for the whole graph: {said}"
    outcomes = tuple(replace(one, reason=reason) for one in plain.outcomes)
    return replace(plain, outcomes=outcomes), said


def _plain(session: _Session, plan: Plan, samples: Sequence[Sample]) -> Swept:
    """Without calibrated codes; with corrected biases where there are samples."""
    items = tuple(
        replace(item, scheme=data_free(item.scheme), bias=item.bias if samples else "")
        for item in plan.items
    )
    return session.sweep(samples).run(replace(plan, items=items))


def _uncalibrated(graph: Graph, view: View, survey: Survey, plan: Plan, problem: str) -> Calibrated:
    """Everything falls back, with one reason for all."""
    reason = f"the graph cannot be run: {problem}"
    items = tuple(replace(item, scheme=data_free(item.scheme), bias="") for item in plan.items)
    plain = replace(plan, items=items)
    result = rewrite_surveyed(graph, view, survey.sites, plain)
    outcomes = tuple(
        Outcome(
            item.weight,
            item.scheme.method,
            reason if before.scheme.method == GPTQ else "",
            None,
            reason if before.bias else "",
        )
        for item, before in zip(plain.items, plan.items)
    )
    return Calibrated(result, plain, outcomes, (reason,))
