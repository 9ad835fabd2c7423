"""Markdown and HTML of a report: complete, and safe whatever nodes are called."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import List, Tuple

import pytest
from builders import GraphBuilder, random_weight

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_node
from graphwq.verify.accuracy import Accuracy
from graphwq.verify.render.escape import code, markdown
from graphwq.verify.render.html import to_html
from graphwq.verify.render.markdown import MAX_ROWS, to_markdown
from graphwq.verify.report import Report

HOSTILE = [
    "<script>alert(1)</script>",
    "</code></td></table><img src=x onerror=alert(1)>",
    "a|b|c`d``e",
    "[link](javascript;alert(1))",
    "\x1b[31mred\x1b[0m\r\n\x07",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 100_000,
    "\u202egnirts",
    "**bold** _it_ # h1 @user #1 $x$",
    "' onmouseover='alert(1)",
]


def _hostile() -> Tuple[Graph, Graph]:
    b = GraphBuilder()
    last = b.placeholder("x", [2, 64])
    for number, name in enumerate(HOSTILE):
        w = b.const(name, random_weight((64, 64), number))
        last = b.matmul(f"y{number}", last, w)
    graph = b.graph()
    candidate = graphwq.quantize(graph, 4).graph
    tampered = candidate.edited({"": {"y3": [new_node("y3", "Relu", ("y2",))]}})
    extra = new_node(HOSTILE[1] + "2", "NoOp")
    return graph, Graph((*tampered.layout, extra))


@pytest.fixture(scope="module")
def hostile() -> Report:
    """A failed report about a graph whose names are attacks."""
    graph, candidate = _hostile()
    report: Report = graphwq.verify(graph, candidate, static=True, names=(HOSTILE[0], HOSTILE[1]))
    return replace(report, notes=(HOSTILE[0], HOSTILE[3]), accuracy=Accuracy(HOSTILE[0], 2, 1, 1))


@pytest.fixture(scope="module")
def plain(fixtures: Path) -> Report:
    """A static report of a real network."""
    graph = graphwq.load(fixtures / "digits_cnn.pb")
    made: Report = graphwq.verify(graph, graphwq.quantize(graph, 3).graph, static=True)
    return replace(made, accuracy=Accuracy("softmax:0", 450, 447, 430))


class _Tags(HTMLParser):
    """Collects tags, attributes and text; complains of what is not closed."""

    _VOID = ("meta", "link", "br", "img", "rect", "path", "line")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: List[Tuple[str, dict]] = []
        self.open: List[str] = []
        self.words: List[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._VOID:  # as a browser writes what stood there as <rect/>
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _read(page: str) -> _Tags:
    parser = _Tags()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def _assert_inert(page: str) -> None:
    for tag, attributes in _read(page).tags:
        assert tag not in ("script", "img", "iframe", "object", "embed", "link", "a", "base")
        for key, value in attributes.items():
            assert not key.startswith("on")
            assert key not in ("href", "src", "srcset", "action")
            assert "url(" not in (value or "")


def test_the_page_is_complete(plain: Report) -> None:
    """Verdict first; every weight, its size, and a histogram for the worst ones."""
    found = _read(to_html(plain, "9.9"))
    text = " ".join(found.words)
    assert text.index("PASSED") < text.index("What was compared") < text.index("Weights")
    assert plain.weights is not None
    for item in plain.weights.weights:
        assert item.weight in text
    shown = sum(item.histogram is not None for item in plain.weights.weights)
    assert sum(tag == "figure" for tag, _ in found.tags) == shown
    assert "95.56 %" in text
    assert "graphwq 9.9" in text


def test_the_page_reaches_for_nothing(plain: Report, hostile: Report) -> None:
    """No script, no address, no event handler: one file that may be mailed."""
    _assert_inert(to_html(plain))
    _assert_inert(to_html(hostile))


def test_hostile_names_are_text(hostile: Report) -> None:
    """The names stand in the page as they are, and do nothing; long ones are cut."""
    page = to_html(hostile)
    text = " ".join(_read(page).words)
    assert HOSTILE[0] in text
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "x" * 101 not in page
    assert "FAILED" in text
    assert len(page) < 100_000


def test_markdown_is_complete(plain: Report) -> None:
    """Verdict in the heading, a table of the weights."""
    text = to_markdown(plain)
    assert text.startswith("## PASSED")
    assert "| conv2/kernel | 3 | dequant |" in text
    assert "95\\.56 %" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_hostile_names_in_markdown(hostile: Report) -> None:
    """Tables keep their columns, nothing is a tag, a link or a mention."""
    text = to_markdown(hostile)
    assert "\x1b" not in text
    bare = re.sub(r"`+[^`\n]*`+", "", re.sub(r"\\.", "", text))
    assert "<" not in bare
    assert "](" not in bare
    assert "@user" not in bare
    blocks = re.split(r"\n\n", text)
    for block in blocks:
        table = [line for line in block.splitlines() if line.startswith("|")]
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in table}
        assert len(widths) <= 1, table[:3]


def test_long_tables_are_cut(plain: Report) -> None:
    """The rest is counted; the text stays below what a comment may have."""
    assert plain.weights is not None
    many = tuple(
        replace(plain.weights.weights[0], weight=f"layer{number}/kernel") for number in range(5000)
    )
    text = to_markdown(replace(plain, weights=replace(plain.weights, weights=many)))
    assert f"and {5000 - MAX_ROWS} more rows" in text
    assert len(text) < 60_000


@pytest.mark.parametrize("name", HOSTILE[:6] + HOSTILE[7:])
def test_escapes(name: str) -> None:
    """Neither form ends a table cell, a line or the code it stands in."""
    for shown in (markdown(name), code(name)):
        assert "\n" not in shown
        assert re.search(r"(?<!\\)\|", shown) is None
    shown = code(name)
    fence = re.match("`+", shown)
    assert fence is not None
    inner = shown[len(fence.group()) : -len(fence.group())]
    assert fence.group() not in re.findall("`+", inner)


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("there is no chromium to open the page in")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("width", [1300, 420])
def test_a_browser_opens_the_page(
    width: int, plain: Report, hostile: Report, tmp_path: Path
) -> None:
    """Headless Chromium reads it as what it is, wide and narrow, whatever nodes are called."""
    chromium = _chromium()
    for name, report in (("plain", plain), ("hostile", hostile)):
        page = tmp_path / f"{name}.html"
        page.write_text(to_html(report), encoding="utf-8")
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        command += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
        command += ["--disable-component-update", f"--user-data-dir={tmp_path / name}"]
        command += [f"--window-size={width},900", "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, timeout=120)
        dom = done.stdout.decode()
        assert done.returncode == 0
        assert "<h1>" in dom
        _assert_inert(dom)
        assert re.search(f">{'PASSED' if report else 'FAILED'}<", dom)
