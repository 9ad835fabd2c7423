"""graphwq verify and graphwq report: the verdict as exit status, pages, one line per error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import dense
from commandline import assert_one_line, leftovers, run

import graphwq
from graphwq.verify.report import Report


@pytest.fixture
def pair(tmp_path: Path) -> tuple:
    """A float graph and its 8-bit form, as files."""
    graph = dense(64, 50)
    reference, candidate = tmp_path / "float.pb", tmp_path / "int8.pb"
    graphwq.save(graph, reference)
    graphwq.quantize(graph, 8).save(candidate)
    return reference, candidate


def test_static(pair: tuple, capsys: pytest.CaptureFixture) -> None:
    """Verdict first, then what was compared; nothing is run."""
    found = run(capsys, "verify", *pair, "--static")
    assert (found.status, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0].startswith("PASSED: ")
    assert lines[1].split()[:2] == ["structure", "ok"]
    assert lines[2].split()[:2] == ["weights", "ok"]
    assert "outputs" not in found.out


def test_failed_is_status_1(pair: tuple, capsys: pytest.CaptureFixture) -> None:
    """And the problems stand before the tables."""
    reference, candidate = pair
    found = run(capsys, "verify", candidate, reference, "--static")
    assert found.status == 1
    assert found.out.startswith("FAILED: ")
    assert "what is wrong\n  structure: " in found.out


def test_json(pair: tuple, capsys: pytest.CaptureFixture) -> None:
    """The report and nothing else."""
    found = run(capsys, "verify", *pair, "--static", "--json")
    assert found.status == 0
    report = Report.loads(found.out)
    assert report.passed
    assert report.reference is not None
    assert report.reference.name == str(pair[0])


def test_report_writes_what_verify_saved(
    pair: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """verify --report, then report: the same text, the same pages, the same status."""
    saved, html, text = (tmp_path / name for name in ("r.json", "r.html", "r.md"))
    direct = run(
        capsys, "verify", *pair, "--static", "--report", saved, "--html", html, "--markdown", text
    )
    first = html.read_bytes(), text.read_bytes()
    assert b"PASSED" in first[0]
    assert first[1].startswith(b"## PASSED")
    again = run(capsys, "report", saved, "--html", html, "--markdown", text, "--force")
    assert (again.status, again.out) == (direct.status, direct.out)
    assert (html.read_bytes(), text.read_bytes()) == first
    assert leftovers(tmp_path) == []
    data = json.loads(saved.read_text())
    data["weights"]["problems"].append(
        {"layer": "weights", "kind": "code_differs", "where": "w", "message": "off"}
    )
    saved.write_text(json.dumps(data))
    assert run(capsys, "report", saved).status == 1


def test_a_plan_is_held_against_the_candidate(
    pair: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The right one passes and is said to be given; another width fails; no plan is an error."""
    for bits, status in ((8, 0), (4, 1)):
        plan = tmp_path / f"{bits}.json"
        plan.write_text(graphwq.plan(graphwq.load(pair[0]), bits).dumps())
        found = run(capsys, "verify", *pair, "--static", "--plan", plan)
        assert found.status == status
        assert ("the plan (given)" in found.out) == (bits == 8)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    found = run(capsys, "verify", *pair, "--plan", bad)
    assert found.status == 2
    assert_one_line(found.err, str(bad), "not a plan")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.pb"], "missing.pb"),
        (["--min-sqnr", "high"], "not a number"),
        (["--min-sqnr", "nan"], "min_sqnr"),
        (["--max-abs", "-1"], "max_abs"),
        (["--samples", "x"], "not a whole number"),
        (["--static", "--min-sqnr", "3"], "static"),
        (["--outputs", ","], "--outputs names no tensor"),
        (["--plan", "missing.json"], "missing.json"),
    ],
)
def test_bad_arguments(
    arguments: list, words: str, pair: tuple, capsys: pytest.CaptureFixture
) -> None:
    """One line, status 2."""
    graphs = pair if arguments[0].startswith("--") else pair[:1]
    found = run(capsys, "verify", *graphs, *arguments)
    assert (found.status, found.out) == (2, "")
    assert_one_line(found.err, words)


def test_outputs_are_not_overwritten(
    pair: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Not an existing file without --force, the inputs never; nothing is written before."""
    page = tmp_path / "r.html"
    page.write_text("mine")
    for path, words in ((page, "--force"), (pair[0], "input itself")):
        found = run(capsys, "verify", *pair, "--static", "--html", path)
        assert found.status == 2
        assert_one_line(found.err, words)
    assert page.read_text() == "mine"


def test_unrelated_graphs(pair: tuple, fixtures: Path, capsys: pytest.CaptureFixture) -> None:
    """Refused with a hint."""
    found = run(capsys, "verify", fixtures / "digits_cnn.pb", pair[1], "--static")
    assert found.status == 2
    assert_one_line(found.err, "nothing to do with each other", "graphwq diff")


@pytest.mark.parametrize("text", ["", "{}", "\x00", '{"format": "graphwq-report"}'])
def test_what_is_no_report(text: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One line that names the file."""
    path = tmp_path / "r.json"
    path.write_text(text)
    found = run(capsys, "report", path)
    assert found.status == 2
    assert_one_line(found.err, str(path))


@pytest.mark.tf
def test_with_feeds_and_labels(fixtures: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """Accuracy before and after, and the outputs' table."""
    candidate = tmp_path / "small.pb"
    graphwq.quantize(graphwq.load(fixtures / "digits_cnn.pb"), 4).save(candidate)
    feeds = fixtures / "digits_cnn_test.npz"
    found = run(capsys, "verify", fixtures / "digits_cnn.pb", candidate, "--inputs", feeds)
    assert found.status == 0
    assert "99.33 % -> 97.33 % of 450 samples (softmax:0)" in found.out
    limit = run(
        capsys,
        *("verify", fixtures / "digits_cnn.pb", candidate, "--inputs", feeds, "--min-sqnr", 60),
    )
    assert limit.status == 1
    assert "60 dB is asked for" in limit.out


@pytest.mark.tf
def test_layers(fixtures: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """The table of ops, what to keep, and both on the page."""
    candidate, page, notes = (tmp_path / name for name in ("small.pb", "r.html", "r.md"))
    graphwq.quantize(graphwq.load(fixtures / "digits_mlp.pb"), 2).save(candidate)
    found = run(
        capsys,
        *("verify", fixtures / "digits_mlp.pb", candidate),
        *("--inputs", fixtures / "digits_mlp_test.npz", "--min-sqnr", 15, "--keep", "float"),
        *("--html", page, "--markdown", notes),
    )
    assert found.status == 1
    assert "error per layer" in found.out
    assert "float the outputs reach" in found.out
    assert "dense1/MatMul" in page.read_text()
    assert "### Error per layer" in notes.read_text()


@pytest.mark.tf
def test_golden(fixtures: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """Saved outputs stand for the reference: the same numbers, and labels if they are given."""
    reference, feeds = fixtures / "digits_mlp.pb", fixtures / "digits_mlp_test.npz"
    candidate, golden = tmp_path / "small.pb", tmp_path / "golden.npz"
    graphwq.quantize(graphwq.load(reference), 3).save(candidate)
    first = run(
        capsys, "verify", reference, candidate, "--inputs", feeds, "--save-golden", golden, "--json"
    )
    again = run(capsys, "verify", "--golden", golden, candidate, "--labels", feeds, "--json")
    assert first.status == again.status == 0
    one, two = Report.loads(first.out), Report.loads(again.out)
    assert one.outputs is not None
    assert two.outputs is not None
    assert two.outputs.outputs == one.outputs.outputs
    assert two.accuracy == one.accuracy
    assert two.reference is None
    assert one.reference is not None
    assert any(one.reference.digest[:12] in note for note in two.notes)
    exact = tmp_path / "exact.npz"
    run(capsys, "verify", reference, reference, "--exact", "--save-golden", exact)
    assert run(capsys, "verify", "--golden", exact, reference, "--exact").status == 0
    assert run(capsys, "verify", "--golden", exact, candidate, "--exact").status == 1


@pytest.mark.tf
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give REFERENCE and CANDIDATE"),
        (["--golden", "missing.npz", "--static"], "leave out --plan and --static"),
        (["--golden", "missing.npz"], "missing.npz"),
        (["--golden", "fixtures/digits_mlp_test.npz"], "golden"),
        (["--golden", "missing.npz", "--inputs", "x.npz"], "leave out --inputs"),
    ],
)
def test_bad_golden(arguments: list, words: str, fixtures: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """A graph too few, what does not go together, and files that are none: one line."""
    given = [item.replace("fixtures", str(fixtures)) for item in arguments]
    found = run(capsys, "verify", fixtures / "digits_mlp.pb", *given)
    assert (found.status, found.out) == (2, "")
    assert_one_line(found.err, words)


@pytest.mark.tf
def test_bad_feeds(pair: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A wrong name with near misses, a wrong shape, a pickle, no archive: one line each."""
    path = tmp_path / "feeds.npz"
    cases = [
        ({"xx:0": np.ones((2, 64), np.float32)}, "'x:0'"),
        ({"x:0": np.ones((2, 63), np.float32)}, "shape"),
        ({"x:0": np.array([object()])}, "x:0"),
    ]
    for arrays, words in cases:
        np.savez(str(path), **arrays)
        found = run(capsys, "verify", *pair, "--inputs", path)
        assert (found.status, found.out) == (2, "")
        assert_one_line(found.err, words)
    path.write_bytes(b"PK\x03\x04 no archive")
    found = run(capsys, "verify", *pair, "--inputs", path)
    assert found.status == 2
    assert_one_line(found.err, str(path))
