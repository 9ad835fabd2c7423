"""What can be said without running anything: the structure and weights layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.recover import Recovered, recover_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Survey
from graphwq.survey.view import View, build
from graphwq.verify.structure import StructureResult, check_structure
from graphwq.verify.weights import WeightsResult, check_weights

#: Graphs that share a smaller part of the reference's node names are not one model.
_LEAST_SHARED = 0.1


@dataclass(frozen=True)
class Static:
    """The two layers and what they were made from.

    Attributes:
        reference, candidate: views of the graphs.
        survey: of the reference.
        recovered: what the candidate was made by.
        structure, weights: the layers.
        swapped: only the other way round the differences are those of a plan (of a graph that is
            stored quantized, its baked form is no rewrite).
    """

    reference: View
    candidate: View
    survey: Survey
    recovered: Recovered
    structure: StructureResult
    weights: WeightsResult
    swapped: bool = False

    @property
    def passed(self) -> bool:
        """Whether both layers passed."""
        return self.structure.passed and self.weights.passed


def check_static(
    reference: Graph, candidate: Graph, plan: Optional[Plan] = None, exact: bool = False
) -> Static:
    """Check structure and weights.

    Args:
        reference, candidate: the graphs.
        plan: by which the candidate is said to be made; without it, it is recovered.
        exact: the values of the weights may not differ by a bit.

    Raises:
        InputError: the reference is broken, the graphs are unrelated, or the plan is another's.
    """
    found = _check(reference, candidate, plan, exact)
    if found.passed or not exact or plan is not None:
        return found
    other_way = _check(candidate, reference, None, exact)
    return _swapped(other_way) if other_way.passed else found


def _check(reference: Graph, candidate: Graph, plan: Optional[Plan], exact: bool) -> Static:
    view, other = build(reference), build(candidate)
    view.check()
    _check_related(view, other)
    survey = locate_in(view)
    recovered = recover_surveyed(reference, view, survey, other, plan)
    return Static(
        view,
        other,
        survey,
        recovered,
        check_structure(reference, candidate, other, recovered),
        check_weights(view, survey.sites, other, recovered, exact),
    )


def _swapped(found: Static) -> Static:
    return Static(
        found.candidate,
        found.reference,
        found.survey,
        found.recovered,
        found.structure,
        found.weights,
        swapped=True,
    )


def _check_related(reference: View, candidate: View) -> None:
    names = {(scope, node) for scope, view in reference.scopes.items() for node in view.nodes}
    others = {(scope, node) for scope, view in candidate.scopes.items() for node in view.nodes}
    shared = len(names & others)
    if names and shared < _LEAST_SHARED * len(names):
        raise InputError(
            f"these graphs have nothing to do with each other: {shared} of the reference's "
            f"{len(names)} node names are in the candidate; give a graph and what was made of it "
            "(graphwq diff finds nodes that were renamed)"
        )
