"""A report as one self-contained HTML page: no script, no network, every name escaped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from graphwq import text
from graphwq.quant.histogram import Histogram
from graphwq.verify import summary
from graphwq.verify.render import tables
from graphwq.verify.report import SCHEMA_VERSION, Report
from graphwq.verify.weights import WeightCheck

_MOST = 200
_HEIGHT = 40.0
#: The length of a bar: a layer without error has none, one at 0 dB the whole width.
_BEST_DB = 60.0


def to_html(report: Report, version: str = "") -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["short"] = _short
    template = environment.get_template("page.html.j2")
    return template.render(**_page(report), version=version, schema=SCHEMA_VERSION) + "\n"


def _short(value: Any, limit: int = text.MAX_NAME) -> str:
    return text.one_line(str(value), limit)


def _page(report: Report) -> Dict[str, Any]:
    weights = report.weights.weights if report.weights is not None else ()
    outputs = tables.outputs(report)
    return {
        "verdict": summary.verdict(report),
        "passed": report.passed,
        "reference": report.reference,
        "candidate": report.candidate,
        "tiles": list(_tiles(report)),
        "problems": report.problems,
        "most": _MOST,
        "summary": list(summary.lines(report)),
        "notes": report.notes,
        "outputs": {"columns": outputs[0], "rows": outputs[1]} if outputs[1] else None,
        "layers": list(_layers(report)),
        "weights": _weights(weights),
        "histograms": [_histogram(item) for item in weights if item.histogram is not None],
        "changes": report.structure.changes if report.structure is not None else (),
    }


def _tiles(report: Report) -> Iterator[Tuple[str, str]]:
    """The few numbers that are read first."""
    if report.reference is not None:
        before, after = report.reference.nbytes, report.candidate.nbytes
        yield text.ratio(after, before), f"of {text.size(before)}: {text.size(after)}"
    else:
        yield text.size(report.candidate.nbytes), "size of the graph"
    if report.accuracy is not None:
        found = report.accuracy
        yield (
            f"{100 * found.candidate:.2f} %",
            f"accuracy, {100 * found.reference:.2f} % before",
        )
    worst = summary.worst_output(report)
    if worst is not None:
        yield summary.decibel(worst[1]), f"SQNR of {_short(worst[0], 40)}"
    if report.weights is not None and report.weights.weights:
        weights = report.weights.weights
        widths = sorted({item.num_bits for item in weights})
        shown = f"{widths[0]}" if len(widths) == 1 else f"{widths[0]} to {widths[-1]}"
        yield f"{len(weights)}", f"weights at {shown} bits"
    if report.structure is not None:
        yield f"{len(report.structure.changes)}", "unexplained changes"


def _weights(weights: Sequence[WeightCheck]) -> List[Dict[str, Any]]:
    largest = max((item.bytes_before for item in weights), default=1) or 1
    return [
        {
            "weight": item.weight,
            "shape": text.shape(item.shape),
            "num_bits": item.num_bits,
            "storage": item.storage,
            "sqnr": text.decibel(item.error.sqnr_db),
            "max_error": f"{item.error.max_abs_error:.3g}",
            "before": text.size(item.bytes_before),
            "after": text.size(item.bytes_after),
            "before_share": item.bytes_before / largest,
            "after_share": min(item.bytes_after / largest, 1.0),
        }
        for item in weights
    ]


def _layers(report: Report) -> Iterator[Dict[str, Any]]:
    for row in tables.layer_rows(report):
        yield {
            "node": row.node,
            "op": row.op,
            "isolated": tables.decibel(row.isolated),
            "accumulated": tables.decibel(row.accumulated),
            "effect": tables.decibel(row.effect),
            "isolated_share": _noise_share(row.isolated),
            "accumulated_share": _noise_share(row.accumulated),
        }


def _noise_share(sqnr: Optional[float]) -> float:
    """1 where there is as much noise as signal, 0 from _BEST_DB up."""
    return 0.0 if sqnr is None else min(max(1.0 - sqnr / _BEST_DB, 0.0), 1.0)


def _histogram(item: WeightCheck) -> Dict[str, Any]:
    shown = item.histogram
    assert shown is not None
    return {
        "weight": item.weight,
        "num_bits": item.num_bits,
        "sqnr": text.decibel(item.error.sqnr_db),
        "bins": len(shown.before),
        "low": f"{shown.low:.3g}",
        "high": f"{shown.high:.3g}",
        "before_path": _path(shown, shown.before) + " Z",
        "after_path": _path(shown, shown.after),
    }


def _path(shown: Histogram, counts: Sequence[int]) -> str:
    """Steps from bin to bin, heights as the square root of the counts."""
    top = math.sqrt(max(max(shown.before), max(shown.after), 1))
    parts = [f"M0 {_HEIGHT:g}"]
    for place, count in enumerate(counts):
        height = _HEIGHT - (_HEIGHT - 1) * math.sqrt(count) / top
        parts.append(f"V{height:.2f} H{place + 1}")
    return " ".join([*parts, f"V{_HEIGHT:g}"])
