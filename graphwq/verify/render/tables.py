"""The tables of a report: rows of text that terminal, Markdown and HTML share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from graphwq import text
from graphwq.verify.report import Report
from graphwq.verify.tally import Difference

#: (title, aligned to the right) of each column.
Columns = Sequence[Tuple[str, bool]]
Rows = List[Sequence[str]]

PROBLEMS: Columns = (("layer", False), ("kind", False), ("where", False), ("", False))
CHANGES: Columns = (("severity", False), ("kind", False), ("where", False), ("", False))
WEIGHTS: Columns = (
    ("weight", False),
    ("bits", True),
    ("storage", False),
    ("SQNR dB", True),
    ("max error", True),
    ("levels", True),
    ("at ±T", True),
    ("before", True),
    ("after", True),
)


OUTPUTS: Columns = (
    ("output", False),
    ("type", False),
    ("SQNR dB", True),
    ("max error", True),
    ("cosine", True),
    ("argmax agrees", True),
    ("different", True),
    ("NaN, Inf", True),
)


LAYERS: Columns = (
    ("node", False),
    ("op", False),
    ("weight", False),
    ("alone dB", True),
    ("all dB", True),
    ("outputs, alone dB", True),
)


def problems(report: Report) -> Rows:
    """What is wrong."""
    return [(item.layer, item.kind, item.where, item.message) for item in report.problems]


def changes(report: Report) -> Rows:
    """What the plan does not explain."""
    found = () if report.structure is None else report.structure.changes
    return [(item.severity.value, item.kind.value, item.path, item.message) for item in found]


def weights(report: Report) -> Tuple[Columns, Rows]:
    """Every rewritten weight, in the order of the graph."""
    found = () if report.weights is None else report.weights.weights
    return WEIGHTS, [
        (
            item.weight,
            str(item.num_bits),
            item.storage,
            text.decibel(item.error.sqnr_db),
            f"{item.error.max_abs_error:.3g}",
            str(item.levels),
            f"{100 * item.saturated / item.elements:.1f} %",
            text.size(item.bytes_before),
            text.size(item.bytes_after),
        )
        for item in found
    ]


def outputs(report: Report) -> Tuple[Columns, Rows]:
    """Every output that was compared."""
    found = () if report.outputs is None else report.outputs.outputs
    return OUTPUTS, [_output(item) for item in found]


def _output(item: Difference) -> Sequence[str]:
    agreement, cosine = item.argmax_agreement, item.cosine
    return (
        item.tensor,
        f"{item.dtype} {text.shape(item.shape)}",
        decibel(item.sqnr_db),
        f"{item.max_abs_error:.3g}" if item.dtype != "string" else "-",
        "-" if cosine is None else f"{cosine:.6f}",
        "-" if agreement is None else f"{100 * agreement:.2f} %",
        f"{item.differing} of {item.elements}",
        f"{item.nonfinite_reference}, {item.nonfinite_candidate}"
        if item.nonfinite_reference or item.nonfinite_candidate
        else "-",
    )


@dataclass(frozen=True)
class LayerRow:
    """An op that uses a changed weight; SQNR in dB, None where it cannot be told.

    Attributes:
        node, op, weight: which.
        isolated, accumulated: of the op's result, with this weight changed alone and with all.
        effect: of the graph's outputs, with this weight changed alone.
    """

    node: str
    op: str
    weight: str
    isolated: Optional[float]
    accumulated: Optional[float]
    effect: Optional[float]


def layer_rows(report: Report) -> List[LayerRow]:
    """The ops in the order of the graph."""
    if report.layers is None:
        return []
    effects = {item.weight: item.sqnr_db for item in report.layers.effects}
    return [
        LayerRow(
            item.node,
            item.op,
            item.weight,
            _lowest(item.isolated),
            _lowest(item.accumulated),
            effects.get(item.weight),
        )
        for item in report.layers.nodes
    ]


def _lowest(found: Sequence[Difference]) -> Optional[float]:
    known = [item.sqnr_db for item in found]
    return min((value for value in known if value is not None), default=None)


def layers(report: Report) -> Tuple[Columns, Rows]:
    """Where the error comes from, op by op."""
    return LAYERS, [
        (
            row.node,
            row.op,
            row.weight,
            decibel(row.isolated),
            decibel(row.accumulated),
            decibel(row.effect),
        )
        for row in layer_rows(report)
    ]


def decibel(value: Optional[float]) -> str:
    """An SQNR in a table; a dash where there is none."""
    return "-" if value is None else text.decibel(value)
