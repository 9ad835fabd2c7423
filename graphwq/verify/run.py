"""Verifying a candidate: the layers one after the other, gathered in a report."""

from __future__ import annotations

from typing import Optional, Tuple

from graphwq.graphdef.graph import Graph
from graphwq.rewrite.plan import Plan
from graphwq.survey.view import build
from graphwq.verify.dynamic import MakeRunner, Pair, Ran, RunOptions, run_both, run_golden
from graphwq.verify.golden import Golden
from graphwq.verify.outputs import Progress
from graphwq.verify.report import GraphInfo, Report
from graphwq.verify.static import Static, check_static

_SWAPPED = (
    "the reference is stored quantized: it was shown that the reference is what its plan makes of "
    "the candidate"
)


def verify(
    reference: Graph,
    candidate: Graph,
    names: Tuple[str, str],
    plan: Optional[Plan],
    options: Optional[RunOptions],
    exact: bool,
    make_runner: MakeRunner,
    progress: Optional[Progress] = None,
) -> Report:
    """Verify a candidate against the graph it was made from.

    Args:
        reference, candidate: the graphs.
        names: of them, for the report.
        plan: by which the candidate is said to be made; None: it is recovered.
        options: how the graphs are run; None: they are not.
        exact: no value may differ by a bit.
        make_runner: makes the sessions.
        progress: called with (done, total, what).

    Raises:
        InputError, UnsupportedError, MissingDependencyError: see ``check_static`` and ``run_both``.
    """
    static = check_static(reference, candidate, plan, exact)
    ran = Ran()
    if options is not None:
        pair = Pair(reference, candidate, static.reference, static.candidate, static.survey.sites)
        ran = run_both(pair, options, make_runner, progress)
    return Report(
        GraphInfo.of(reference, names[0]),
        GraphInfo.of(candidate, names[1]),
        exact,
        plan is not None,
        static.structure,
        static.weights,
        ran.outputs,
        ran.layers,
        ran.accuracy,
        _notes(static) + ran.notes,
    )


def verify_golden(
    golden: Golden,
    candidate: Graph,
    name: str,
    options: RunOptions,
    make_runner: MakeRunner,
    progress: Optional[Progress] = None,
) -> Report:
    """Verify a candidate against golden data: its invariants are not looked at, only its outputs.

    Raises:
        InputError, MissingDependencyError: see ``run_golden``.
    """
    ran = run_golden(golden, candidate, build(candidate), options, make_runner, progress)
    return Report(
        None,
        GraphInfo.of(candidate, name),
        options.exact,
        outputs=ran.outputs,
        accuracy=ran.accuracy,
        notes=ran.notes,
    )


def _notes(static: Static) -> Tuple[str, ...]:
    return (_SWAPPED,) if static.swapped else ()
