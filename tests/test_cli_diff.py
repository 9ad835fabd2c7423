"""``graphwq diff``: formats, exit status, bad input, and what hostile names cannot do."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Tuple

import pytest
from builders import GraphBuilder
from commandline import assert_one_line, run
from diff.planting import PLANTED, edited, edited_node, model, prefixed

import graphwq
from graphwq.diff.rename import renamed
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import to_text

HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>|`*_@everyone [x](http://e) \n\r‮"


@pytest.fixture
def pair(tmp_path: Path) -> Tuple[Path, Path]:
    """The model, and the model with another bias."""
    old, new = tmp_path / "old.pb", tmp_path / "new.pb"
    old.write_bytes(model().to_bytes())
    new.write_bytes(edited(model(), PLANTED["bias"].apply).to_bytes())
    return old, new


def hostile(op: str = "Relu") -> bytes:
    """A graph with names that attack terminals, Markdown and HTML, and one of a megabyte."""
    b = GraphBuilder()
    x = b.placeholder(HOSTILE, [1])
    y = b.op(HOSTILE + "/y" + "n" * 1_000_000, op, [x])
    b.op("</title><script>alert(2)</script>", "Identity", [y], device=HOSTILE)
    return b.to_bytes()


def test_status(pair: Any, capsys: Any) -> None:
    """0 without differences, 1 with one at or above --fail-on."""
    old, new = pair
    assert run(capsys, "diff", old, old).status == 0
    found = run(capsys, "diff", old, new)
    assert (found.status, found.err) == (1, "")
    assert run(capsys, "diff", old, new, "--fail-on", "numeric").status == 1
    assert run(capsys, "diff", old, new, "--fail-on", "breaking").status == 0
    assert run(capsys, "diff", old, new, "--ignore", "value_changed").status == 0


def test_the_text_says_what_happened(pair: Any, capsys: Any) -> None:
    """Title, sizes, verdict and one line per change; no colours in a pipe."""
    old, new = pair
    found = run(capsys, "diff", old, new)
    assert f"{old} -> {new}" in found.out
    assert "1 change: 0 breaking, 1 numeric, 0 benign" in found.out
    assert "conv1/bias  float32 [16]: SQNR" in found.out
    assert "\x1b" not in found.out
    same = run(capsys, "diff", old, old)
    assert "no differences" in same.out


def test_summary(pair: Any, capsys: Any) -> None:
    """Only the verdict; JSON without the patch."""
    old, new = pair
    found = run(capsys, "diff", old, new, "--summary")
    assert "1 change" in found.out
    assert "conv1/bias" not in found.out
    data = json.loads(run(capsys, "diff", old, new, "--json", "--summary").out)
    assert data["patch"] is None
    assert len(data["changes"]) == 1


def test_json_and_apply(pair: Any, tmp_path: Path, capsys: Any) -> None:
    """The JSON of a diff, applied to OLD, writes NEW byte for byte; never over OLD."""
    old, new = pair
    diff, out = tmp_path / "diff.json", tmp_path / "out.pb"
    assert run(capsys, "diff", old, new, "-o", diff).status == 1
    assert json.loads(diff.read_text())["format"] == "graphwq-diff"
    assert run(capsys, "diff", old, "--apply", diff, "-o", out).status == 0
    assert out.read_bytes() == new.read_bytes()
    found = run(capsys, "diff", new, "--apply", diff, "-o", out, "--force")
    assert found.status == 2
    assert_one_line(found.err, str(diff), "made from another graph")
    found = run(capsys, "diff", old, "--apply", diff, "-o", old, "--force")
    assert found.status == 2
    assert_one_line(found.err, "is the input itself")


@pytest.mark.parametrize(
    ("name", "start"),
    [("d.md", "### "), ("d.json", "{"), ("d.html", "<!DOCTYPE html>"), ("d.txt", "")],
)
def test_the_format_follows_the_name(
    name: str, start: str, pair: Any, tmp_path: Path, capsys: Any
) -> None:
    """-o x.html makes a page; an existing file needs --force."""
    if name == "d.html":
        pytest.importorskip("jinja2")
    old, new = pair
    out = tmp_path / name
    found = run(capsys, "diff", old, new, "-o", out)
    assert (found.status, found.out, found.err) == (1, "", "")
    assert out.read_text().startswith(start)
    again = run(capsys, "diff", old, new, "-o", out)
    assert again.status == 2
    assert_one_line(again.err, str(out), "--force")
    assert run(capsys, "diff", old, new, "-o", out, "--force").status == 1


def test_plan(tmp_path: Path, capsys: Any) -> None:
    """--plan explains; --fail-on-unexplained is what a hook asks."""
    old, new, plan = tmp_path / "old.pb", tmp_path / "new.pb", tmp_path / "plan.json"
    old.write_bytes(model().to_bytes())
    assert run(capsys, "plan", old, "--bits", 4, "-o", plan).status == 0
    assert run(capsys, "quantize", old, "--plan", plan, "-o", new).status == 0
    found = run(capsys, "diff", old, new, "--plan", plan)
    assert found.status == 1
    assert "only what the plan says was changed: no change is unexplained" in found.out
    assert "3 weights quantized (4 bits, dequant)" in found.out
    assert run(capsys, "diff", old, new, "--fail-on-unexplained").status == 0
    new.write_bytes(edited(graphwq.load(new), PLANTED["bias"].apply).to_bytes())
    found = run(capsys, "diff", old, new, "--fail-on-unexplained")
    assert found.status == 1
    assert "1 change is NOT explained by the plan recovered from NEW: 1 numeric" in found.out
    lines = found.out.splitlines()
    assert lines.index("numeric, UNEXPLAINED (1)") < lines.index(
        "numeric, explained by the plan (3)"
    )
    wrong = run(capsys, "diff", new, old, "--plan", plan)
    assert wrong.status == 2
    assert_one_line(wrong.err, "made for another graph")


def test_pb_and_pbtxt(tmp_path: Path, capsys: Any) -> None:
    """A graph and its text are the same graph."""
    binary, text = tmp_path / "a.pb", tmp_path / "a.pbtxt"
    graph = edited(model(), lambda proto: None)
    binary.write_bytes(graph.to_bytes())
    text.write_text(to_text(graph))
    assert run(capsys, "diff", binary, text).status == 0


def test_a_missing_side_is_dev_null(pair: Any, capsys: Any) -> None:
    """git's /dev/null is a graph without nodes."""
    old, _ = pair
    found = run(capsys, "diff", os.devnull, old)
    assert found.status == 1
    assert "the whole graph is new" in found.out
    found = run(capsys, "diff", old, os.devnull)
    assert found.status == 1
    assert "the whole graph was removed" in found.out
    for form in ("markdown", "json"):
        assert run(capsys, "diff", os.devnull, old, "--format", form).status == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["OLD"], "diff needs two graphs"),
        (["OLD", "missing.pb"], "cannot read missing.pb"),
        (["missing.pb", "OLD"], "cannot read missing.pb"),
        (["OLD", "BAD"], "is not a frozen GraphDef"),
        (["BAD", "OLD"], "is not a frozen GraphDef"),
        (["OLD", "LFS"], "a Git LFS pointer"),
        (["OLD", "OLD", "--ignore", "value_change"], "is value_changed meant?"),
        (["OLD", "OLD", "--format", "pdf"], "invalid choice"),
        (["OLD", "OLD", "--plan", "BAD"], "BAD"),
        (["OLD", "OLD", "--plan", "missing.json"], "cannot read missing.json"),
        (["OLD", "OLD", "--json", "--format", "text"], "exclude each other"),
        (["OLD", "--apply", "BAD"], "needs -o"),
        (["OLD", "--apply", "OLD", "-o", "OUT"], "UTF-8"),
        (["OLD", "OLD", "--apply", "BAD", "-o", "OUT"], "takes one graph"),
    ],
)
def test_bad_input(arguments: Any, said: str, tmp_path: Path, capsys: Any) -> None:
    """One line that says what, where and what to do; exit status 2."""
    paths = {"OLD": tmp_path / "old.pb", "BAD": tmp_path / "BAD", "LFS": tmp_path / "lfs.pb"}
    paths["OUT"] = tmp_path / "out.pb"
    paths["OLD"].write_bytes(model().to_bytes())
    paths["BAD"].write_bytes(b"no graph")
    paths["LFS"].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    found = run(capsys, "diff", *[paths.get(item, item) for item in arguments])
    assert found.status == 2
    assert_one_line(found.err, said)
    assert not paths["OUT"].exists()


def test_a_broken_graph_is_named(tmp_path: Path, capsys: Any) -> None:
    """Two nodes of one name: the message says in which file."""
    old, new = tmp_path / "old.pb", tmp_path / "new.pb"
    old.write_bytes(model().to_bytes())
    new.write_bytes(model().to_bytes() * 2)
    found = run(capsys, "diff", old, new)
    assert found.status == 2
    assert_one_line(found.err, str(new), "are named")


@pytest.mark.parametrize("form", ["text", "markdown", "json", "html"])
def test_hostile_names(form: str, tmp_path: Path, capsys: Any) -> None:
    """Names cannot control the terminal, become markup, or make the output endless."""
    if form == "html":
        pytest.importorskip("jinja2")
    old, new = tmp_path / "old.pb", tmp_path / "new.pb"
    old.write_bytes(hostile())
    new.write_bytes(prefixed(Graph.parse(hostile("Relu6")), "p\x1b[31m/").to_bytes())
    found = run(capsys, "diff", old, new, "--format", form)
    assert found.status == 1, found.err
    assert all(line.isprintable() for line in found.out.splitlines() if form != "html")
    assert "\x1b" not in found.out
    assert "\u202e" not in found.out
    if form != "json":  # there names are whole
        assert len(found.out) < 60_000
    if form in ("markdown", "html"):
        assert "<script>alert" not in found.out
    if form == "markdown":
        for mark in ("`*_", "@everyone", "](http", "http://e"):
            assert mark not in found.out


def test_a_file_that_changes_while_it_is_read(pair: Any, capsys: Any) -> None:
    """A small file is read whole before anything is looked at: cut short, it is bad input."""
    old, new = pair
    data = new.read_bytes()
    for cut in (1, 7, len(data) // 2, len(data) - 1):
        new.write_bytes(data[:cut])
        found = run(capsys, "diff", old, new)
        assert found.status in (1, 2)
        if found.status == 2:
            assert_one_line(found.err, str(new))


def test_ignored_changes_are_counted(pair: Any, capsys: Any) -> None:
    """What is left out is said to be."""
    old, new = pair
    found = run(capsys, "diff", old, new, "--ignore", "value_changed", "node_moved")
    assert "no differences (1 change ignored)" in found.out


def test_real_outputs(
    fixtures: Path, tmp_path: Path, capsys: Any, golden: Any, monkeypatch: Any
) -> None:
    """The three outputs of the README, word for word."""
    monkeypatch.chdir(tmp_path)
    original = graphwq.load(fixtures / "digits_cnn.pb")
    small = graphwq.quantize(original, 4)
    small.save("digits_cnn_4.pb")
    (tmp_path / "digits_cnn.pb").write_bytes((fixtures / "digits_cnn.pb").read_bytes())

    def tampered(node: Any) -> None:
        node.attr["padding"].s = b"VALID"

    other = edited_node(graphwq.load("digits_cnn_4.pb"), "conv2/Conv2D", tampered)
    Path("tampered.pb").write_bytes(other.to_bytes())
    names = {node.name: f"import/{node.name}" for node in original.nodes}
    Path("imported.pb").write_bytes(renamed(original, {"": names}).to_bytes())
    golden("diff/quantized.txt", run(capsys, "diff", "digits_cnn.pb", "digits_cnn_4.pb").out)
    golden("diff/tampered.txt", run(capsys, "diff", "digits_cnn.pb", "tampered.pb").out)
    golden("diff/imported.txt", run(capsys, "diff", "digits_cnn.pb", "imported.pb").out)
    golden(
        "diff/tampered.md",
        run(capsys, "diff", "digits_cnn.pb", "tampered.pb", "--format", "markdown").out,
    )
