"""A report is data: to JSON and back without loss, and a verdict that needs something compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import graphwq
from graphwq.errors import InputError
from graphwq.verify import summary
from graphwq.verify.accuracy import Accuracy
from graphwq.verify.outputs import Limits, OutputsResult
from graphwq.verify.problem import Problem
from graphwq.verify.report import FORMAT, SCHEMA_VERSION, GraphInfo, Report
from graphwq.verify.tally import Difference


@pytest.fixture(scope="module")
def report(fixtures: Path) -> Report:
    """A static report of a 4-bit network, to which outputs are added by hand."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    made: Report = graphwq.verify(graph, graphwq.quantize(graph, 4).graph, static=True)
    difference = Difference(
        "softmax:0",
        "float32",
        (450, 10),
        1,
        4500,
        4500,
        10.0,
        9.9,
        9.9,
        0.1,
        1.0,
        0.5,
        4500,
        450,
        440,
    )
    outputs = OutputsResult((difference,), 1, {"origin": "file"}, Limits(), False, True, (), ())
    return replace(
        made, outputs=outputs, accuracy=Accuracy("softmax:0", 450, 447, 438), notes=("a note",)
    )


def test_json_round_trip(report: Report) -> None:
    """Everything comes back, and the text is the same the second time."""
    text = report.dumps()
    again = Report.loads(text)
    assert again == report
    assert again.dumps() == text
    data = json.loads(text)
    assert (data["format"], data["schema_version"]) == (FORMAT, SCHEMA_VERSION)
    assert data["passed"] is True
    assert data["accuracy"]["candidate_right"] == 438


def _nan(_value: str) -> None:
    raise AssertionError("no NaN or Infinity in JSON")


def test_json_has_no_nan(fixtures: Path) -> None:
    """An infinite SQNR is null."""
    graph = graphwq.load(fixtures / "digits_mlp.pb")
    baked = graphwq.quantize(graph, 8, "bake").graph
    stored = graphwq.quantize(graph, 8).graph
    report = graphwq.verify(baked, stored, static=True, exact=True)
    assert report
    data = json.loads(report.dumps(), parse_constant=_nan)
    assert [item["sqnr_db"] for item in data["weights"]["weights"]] == [None] * 3


def test_the_verdict_is_that_of_every_layer(report: Report) -> None:
    """One failing layer fails, and so does a report that looked at nothing."""
    assert report
    assert report.weights is not None
    problem = Problem("weights", "code_differs", "w", "a code is off")
    failed = replace(report, weights=replace(report.weights, problems=(problem,)))
    assert not failed
    assert failed.problems == (problem,)
    nothing = Report(None, report.candidate)
    assert not nothing
    assert report.outputs is not None
    empty = replace(report, outputs=replace(report.outputs, outputs=()))
    assert not empty


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a report"),
        ("[]", "not a report"),
        ("[" * 100_000, "not a report"),
        ('{"format": "graphwq-plan"}', "not a report"),
        ('{"format": "graphwq-report", "schema_version": 99}', "version 99"),
        ('{"format": "graphwq-report", "schema_version": 1}', "damaged report"),
    ],
)
def test_what_is_no_report(text: str, words: str) -> None:
    """Each way of being wrong has its sentence."""
    with pytest.raises(InputError, match=words):
        Report.loads(text)


@pytest.mark.parametrize("part", ["structure", "weights", "outputs", "candidate", "accuracy"])
@pytest.mark.parametrize("value", [3, [], {}, "x", {"weights": 3}])
def test_damaged_parts(report: Report, part: str, value: Any) -> None:
    """A part that is not what it should be is a damaged report, never a crash."""
    data = report.to_json()
    data[part] = value
    with pytest.raises(InputError):
        Report.from_json(data)


def test_summary(report: Report) -> None:
    """The sentences name the layers, the numbers and the weight that is worst."""
    lines = list(summary.sentences(report))
    assert [line.split()[0] for line in lines] == [
        "structure",
        "weights",
        "outputs",
        "accuracy",
        "note",
    ]
    assert "93 nodes" in lines[0]
    assert "conv2/kernel" in lines[1]
    assert "worst SQNR 20.0 dB (softmax:0)" in lines[2]
    assert "99.33 % -> 97.33 % of 450" in lines[3]
    assert summary.title(report).startswith("PASSED")


def test_problems_are_counted_when_there_are_many(report: Report) -> None:
    """Twenty are written out."""
    assert report.weights is not None
    problems = tuple(Problem("weights", "code_differs", f"w{n}", "off") for n in range(50))
    failed = replace(report, weights=replace(report.weights, problems=problems))
    lines = summary.problem_lines(failed)
    assert len(lines) == summary.MAX_PROBLEMS + 1
    assert lines[-1] == "and 30 more problems"


def test_graph_info_round_trip(report: Report) -> None:
    """Digest, bytes and nodes of the file."""
    info = report.candidate
    assert GraphInfo.from_json(info.to_json()) == info
    assert len(info.digest) == 64
