"""What a report says in a few sentences: for the terminal, for an assertion, for headings."""

from __future__ import annotations

import math
from typing import Iterator, List, Optional, Tuple

from graphwq import text
from graphwq.verify.accuracy import Accuracy
from graphwq.verify.keep import KeepResult
from graphwq.verify.report import Report

#: Problems that are written out; the others are counted.
MAX_PROBLEMS = 20


def verdict(report: Report) -> str:
    """PASSED or FAILED."""
    return "PASSED" if report.passed else "FAILED"


def title(report: Report) -> str:
    """The verdict and what it is about."""
    before = "golden data" if report.reference is None else report.reference.name
    after = report.candidate.name
    return f"{verdict(report)}: {text.one_line(before)} -> {text.one_line(after)}"


def lines(report: Report) -> Iterator[Tuple[str, str, str]]:
    """(layer, state, sentence) of each layer that was looked at; the state is ok or FAILED."""
    for name, layer, line in (
        ("structure", report.structure, _structure(report)),
        ("weights", report.weights, _weights(report)),
        ("outputs", report.outputs, _outputs(report)),
        ("layers", report.layers, _layers(report)),
    ):
        if layer is not None:
            yield name, "ok" if layer.passed else "FAILED", line
    if report.layers is not None and report.layers.keep is not None:
        yield "keep", "", keep(report.layers.keep)
    if report.accuracy is not None:
        yield "accuracy", "", _accuracy(report.accuracy)


def sentences(report: Report) -> Iterator[str]:
    """The lines as text, then the notes."""
    for layer, state, line in lines(report):
        yield f"{layer:<10}{state:<7}{line}"
    for note in report.notes:
        yield f"{'note':<17}{text.one_line(note)}"


def problem_lines(report: Report, most: int = MAX_PROBLEMS) -> List[str]:
    """The problems, one line each; a last line counts those left out."""
    lines = [
        f"{problem.layer}: {problem.kind}: "
        + (f"{text.name(problem.where)}: " if problem.where else "")
        + text.one_line(problem.message)
        for problem in report.problems[:most]
    ]
    more = len(report.problems) - len(lines)
    if more:
        lines.append(f"and {text.plural(more, 'more problem')}")
    return lines


def _structure(report: Report) -> str:
    layer = report.structure
    if layer is None:
        return ""
    line = f"{text.plural(layer.compared, 'node')} compared"
    if layer.identical:
        return line + ", the files are identical"
    whose = "given" if report.plan_given else "recovered from the candidate"
    nodes = sum(layer.explained.values())
    if nodes:
        line += (
            f"; the plan ({whose}) explains {text.plural(nodes, 'new or replaced node')} "
            f"of {text.plural(len(layer.explained), 'weight')}"
        )
    if layer.changes:
        matter = len(layer.problems)
        return line + f"; unexplained: {text.plural(len(layer.changes), 'change')}, {matter} matter"
    return line + "; nothing else changed"


def _weights(report: Report) -> str:
    layer = report.weights
    if layer is None:
        return ""
    if not layer.weights:
        return "no weight is quantized in the candidate"
    worst = layer.worst(1)[0]
    before = sum(item.bytes_before for item in layer.weights)
    after = sum(item.bytes_after for item in layer.weights)
    line = (
        f"{text.plural(len(layer.weights), 'weight')} quantized, "
        f"{text.size(before)} -> {text.size(after)}; worst SQNR "
        f"{decibel(worst.error.sqnr_db)} ({text.name(worst.weight)})"
    )
    corrected = [item for item in layer.weights if item.bias]
    if corrected:
        most = max(corrected, key=lambda item: item.bias_shift)
        line += (
            f"; {len(corrected)} with a corrected bias, by at most {most.bias_shift:.3g} "
            f"({text.name(most.bias)})"
        )
    if layer.unchanged:
        line += f"; {len(layer.unchanged)} as they were"
    return line


def decibel(value: float) -> str:
    """An SQNR with its unit."""
    shown = text.decibel(value)
    return shown if math.isinf(value) and value > 0 else f"{shown} dB"


def _outputs(report: Report) -> str:
    layer = report.outputs
    if layer is None:
        return ""
    feeds = "given" if layer.feeds.get("origin") == "file" else "made-up"
    runs = f"{text.plural(layer.samples, 'run')} on {feeds} feeds"
    line = f"{text.plural(len(layer.outputs), 'output')}, {runs}: "
    if layer.exact:
        return line + "every bit the same"
    worst = worst_output(report)
    if worst is None:
        different = sum(output.differing for output in layer.outputs)
        return line + f"{text.plural(different, 'value')} differ"
    return line + f"worst SQNR {decibel(worst[1])} ({text.name(worst[0])})"


def worst_output(report: Report) -> Optional[Tuple[str, float]]:
    """The float output of the lowest SQNR, and that."""
    if report.outputs is None:
        return None
    known = [
        (item.tensor, item.sqnr_db) for item in report.outputs.outputs if item.sqnr_db is not None
    ]
    return min(known, key=lambda pair: pair[1]) if known else None


def _layers(report: Report) -> str:
    layer = report.layers
    if layer is None:
        return ""
    line = f"{text.plural(len(layer.nodes), 'op')} looked at"
    worst = layer.worst(1)
    if worst and worst[0].sqnr_db is not None:
        line += (
            f"; {text.name(worst[0].weight)} does most: alone it leaves {decibel(worst[0].sqnr_db)}"
        )
    return line


def keep(found: KeepResult) -> str:
    """What to keep, in a sentence."""
    at = "float" if found.at == "float" else f"at {found.at} bits"
    goal = f"{found.min_sqnr:g} dB"
    if not found.reached:
        return (
            f"even with all {text.plural(len(found.weights), 'weight')} {at} the outputs reach "
            f"{decibel(found.sqnr_db)}, not {goal}"
        )
    if not found.weights:
        return f"nothing has to be kept: the outputs reach {decibel(found.sqnr_db)}"
    shown = ", ".join(text.name(weight) for weight in found.weights[:MAX_PROBLEMS])
    more = len(found.weights) - MAX_PROBLEMS
    return (
        f"with {text.plural(len(found.weights), 'weight')} {at} the outputs reach "
        f"{decibel(found.sqnr_db)} ({goal} asked for): {shown}"
        + (f" and {more} more" if more > 0 else "")
    )


def _accuracy(found: Accuracy) -> str:
    return (
        f"{100 * found.reference:.2f} % -> {100 * found.candidate:.2f} % of "
        f"{text.plural(found.samples, 'sample')} ({text.name(found.output)})"
    )
