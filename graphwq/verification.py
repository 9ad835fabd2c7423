"""``graphwq.verify``: the layers of ``graphwq/verify/`` on paths or graphs, run in TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Tuple, Union

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import load
from graphwq.rewrite.plan import Plan
from graphwq.tf1.session import Runner
from graphwq.verify import run
from graphwq.verify.dynamic import Arrays, RunOptions
from graphwq.verify.golden import load_golden
from graphwq.verify.outputs import Limits, Progress
from graphwq.verify.report import Report

GraphOrPath = Union[Graph, str, Path]


def verify(
    reference: GraphOrPath,
    candidate: GraphOrPath,
    inputs: Optional[Arrays] = None,
    plan: Optional[Plan] = None,
    exact: bool = False,
    static: bool = False,
    min_sqnr: Optional[float] = None,
    max_abs: Optional[float] = None,
    progress: Optional[Progress] = None,
    names: Optional[Tuple[str, str]] = None,
    **options: Any,
) -> Report:
    """Hold a rewritten graph against the graph it was made from.

    Args:
        reference, candidate: graphs, or paths of frozen graphs.
        inputs: arrays by tensor name (``input:0``), or the path of an ``.npz`` that holds them; one
            or many samples. None: made from a seed, dtypes and shapes.
        plan: by which the candidate was made; None: it is recovered from the candidate.
        exact: no value of a weight or output may differ by a bit.
        static: compare structure and weights only, run nothing.
        min_sqnr: dB that every float output must reach.
        max_abs: the largest error that an output may have.
        progress: called with (done, total, what).
        names: of the graphs, for the report.
        options: the other attributes of ``graphwq.verify.dynamic.RunOptions``.

    Returns:
        the report; ``bool(report)`` is the verdict.

    Raises:
        InputError: a broken or unrelated graph, an input, output or label that does not fit.
        MissingDependencyError: something was asked that needs TensorFlow, which is not installed.
        UnsupportedError: something was asked that needs an op which TensorFlow does not know.
    """
    wanted = RunOptions(inputs=inputs, limits=Limits(min_sqnr, max_abs), exact=exact, **options)
    if static and wanted.demanding:
        raise InputError(
            "a static verification runs nothing: leave out --static, or what asks for a run "
            "(inputs, labels, outputs, limits)"
        )
    before, after = _graph(reference), _graph(candidate)
    called = names or (_name(reference, "reference"), _name(candidate, "candidate"))
    return run.verify(
        before, after, called, plan, None if static else wanted, exact, Runner, progress
    )


def verify_golden(
    golden: Union[str, Path],
    candidate: GraphOrPath,
    exact: bool = False,
    min_sqnr: Optional[float] = None,
    max_abs: Optional[float] = None,
    progress: Optional[Progress] = None,
    name: Optional[str] = None,
    **options: Any,
) -> Report:
    """Hold a graph against outputs that were saved with ``save_golden``, without the reference.

    Args:
        golden: the ``.npz``.
        candidate: a graph, or the path of a frozen graph.
        exact, min_sqnr, max_abs, progress: as for ``verify``.
        name: of the candidate, for the report.
        options: ``labels`` and ``allow_unsafe_ops`` of ``graphwq.verify.dynamic.RunOptions``.

    Raises:
        InputError: no golden data, a broken graph, labels that do not fit.
        MissingDependencyError: TensorFlow is not installed.
    """
    wanted = RunOptions(limits=Limits(min_sqnr, max_abs), exact=exact, **options)
    called = name or _name(candidate, "candidate")
    return run.verify_golden(
        load_golden(golden), _graph(candidate), called, wanted, Runner, progress
    )


def _graph(graph: GraphOrPath) -> Graph:
    return graph if isinstance(graph, Graph) else load(graph)


def _name(graph: GraphOrPath, otherwise: str) -> str:
    return otherwise if isinstance(graph, Graph) else str(graph)
