"""A diff as one self-contained page."""

from __future__ import annotations

import base64
import hashlib
import pkgutil
from typing import Any, Dict, List

from graphwq.diff import words
from graphwq.diff.change import Severity
from graphwq.diff.compare import Comparison
from graphwq.diff.document import Diff
from graphwq.diff.scenes import scenes, weight_values
from graphwq.errors import MissingDependencyError
from graphwq.text import name, one_line, size

#: So many changes are listed.
_ROWS = 1000
_FOLDER = "templates"


def render(diff: Diff, comparison: Comparison) -> str:
    """The page.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("the HTML page needs jinja2: pip install jinja2") from error
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _source("diff.js")
    values, more_values = weight_values(diff, comparison)
    return environment.get_template("diff.html.j2").render(
        title=said(words.title(diff)),
        sizes=said(words.sizes(diff)),
        headline=[said(line) for line in (*words.quantization(diff), words.verdict(diff))],
        diff=diff,
        cards=_cards(diff),
        rows=_rows(diff),
        more_rows=max(0, len(diff.changes) - _ROWS),
        kinds=sorted({change.kind.value for change in diff.changes}),
        scenes=scenes(diff, comparison),
        values=values,
        more_values=more_values,
        style=_source("diff.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        name=name,
        said=said,
    )


def said(text: str) -> str:
    """A message for the page."""
    return one_line(text).replace(" -> ", " → ")


def _source(file: str) -> str:
    return (pkgutil.get_data("graphwq.diff", f"{_FOLDER}/{file}") or b"").decode("utf-8")


def _cards(diff: Diff) -> List[Dict[str, str]]:
    """The totals on top of the page."""
    cards = [
        {"label": severity.value, "value": str(diff.count(severity)), "style": severity.value}
        for severity in Severity
    ]
    if diff.plan is not None:
        count = len(diff.unexplained)
        style = "breaking" if count else "explained"
        cards.append({"label": "unexplained", "value": str(count), "style": style})
        cards.append(
            {"label": "weights quantized", "value": str(len(diff.weights)), "style": "explained"}
        )
    sizes = f"{size(diff.old.nbytes)} → {size(diff.new.nbytes)}"
    cards.append({"label": "size", "value": sizes, "style": "plain"})
    nodes = f"{diff.old.nodes} → {diff.new.nodes}"
    cards.append({"label": "nodes", "value": nodes, "style": "plain"})
    return cards


def _rows(diff: Diff) -> List[Dict[str, Any]]:
    return [
        {
            "severity": change.severity.value,
            "kind": change.kind.value,
            "path": name(change.path) or "graph",
            "message": said(change.message),
            "reason": one_line(change.reason),
            "explained": change.explained_by is not None,
        }
        for change in diff.changes[:_ROWS]
    ]
