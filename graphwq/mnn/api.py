"""The MNN path as two functions, from a path or a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Union

import numpy as np

from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import load
from graphwq.mnn import child
from graphwq.mnn.convert import Converted, convert
from graphwq.mnn.prepare import prepare
from graphwq.mnn.report import LintReport, lint_graph
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import BAKE, Plan

if TYPE_CHECKING:
    from graphwq.calibration import Wishes

GraphOrPath = Union[Graph, str, Path]


def lint_mnn(
    graph: GraphOrPath,
    bits: int = 8,
    plan: Optional[Plan] = None,
    use_converter: Optional[bool] = None,
    **options: Any,
) -> LintReport:
    """Say what the MNN converter will do with every weight.

    Args:
        graph: a graph, or the path of a frozen ``.pb`` or ``.pbtxt``.
        bits: 2..8.
        plan: a plan for this graph; then ``bits`` and ``options`` are not used.
        use_converter: ask the converter for the size; where not given, if MNN is installed.
        options: as for ``graphwq.plan``.

    Raises:
        InputError: a broken graph, a wrong option, a plan for another graph.
    """
    prepared = prepare(_graph(graph), plan, Options(bits=bits, **options))
    return lint_graph(prepared, child.is_installed() if use_converter is None else use_converter)


def convert_mnn(
    graph: GraphOrPath,
    path: Union[str, Path],
    bits: int = 8,
    plan: Optional[Plan] = None,
    storage: str = BAKE,
    feeds: Optional[Mapping[str, np.ndarray]] = None,
    force: bool = False,
    wishes: Optional[Wishes] = None,
    **options: Any,
) -> Converted:
    """Quantize a graph, convert it, prove codes, scales and outputs, and write the ``.mnn``.

    Args:
        graph: a graph, or the path of a frozen ``.pb`` or ``.pbtxt``.
        path: of the ``.mnn`` to write.
        bits: 2..8.
        plan: a plan for this graph; then ``bits`` and ``options`` are not used.
        storage: ``bake`` or ``dequant``, the form in which the converter gets the weights.
        feeds: arrays by tensor name (``input:0``) to run graph and model on; seeded noise where
            not given.
        force: replace an existing file.
        wishes: how to calibrate, for the method gptq: a ``graphwq.calibration.Wishes``.
        options: as for ``graphwq.plan``.

    Returns:
        what was compared; ``.passed`` is False where an output is not as close as that of the
        float model.

    Raises:
        InputError: bad input, or a graph that the converter cannot read.
        ConversionError: a code, scale or layer is not what was planned; nothing is written.
        MissingDependencyError: the MNN package is not installed.
    """
    inputs = () if isinstance(graph, Graph) else (Path(graph),)
    check_output(Path(path), inputs, force)
    prepared = prepare(_graph(graph), plan, Options(bits=bits, **options), storage, wishes)
    result = convert(prepared, feeds)
    write_atomically(Path(path), (result.data,), force)
    return result


def _graph(graph: GraphOrPath) -> Graph:
    return graph if isinstance(graph, Graph) else load(graph)
