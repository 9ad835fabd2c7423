"""The renderers of a diff: what they say, how long they are, and the page in a browser."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from builders import GraphBuilder, random_weight

import graphwq
from diff.planting import PLANTED, edited, model, prefixed
from graphwq.diff import render_markdown, render_text
from graphwq.diff.compare import Comparison, diff_graphs
from graphwq.diff.document import Diff, document
from graphwq.diff.rows import fold
from graphwq.diff.scenes import MOST_PICTURES, scenes, weight_values
from graphwq.errors import MissingDependencyError
from graphwq.graphdef.graph import Graph

HOSTILE = "\x1b[31m<script>document.body.dataset.owned='yes'</script>'\"&|`*_@user"


def compared(old: Graph, new: Graph) -> Tuple[Diff, Comparison]:
    comparison = diff_graphs(old, new)
    return document(comparison, "old.pb", "new.pb"), comparison


def layers(count: int, suffix: str = "", seed: int = 0) -> Graph:
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4])
    for number in range(count):
        scope = f"block{number // 10}/layer{number}{suffix}"
        x = b.matmul(f"{scope}/m", x, b.const(f"{scope}/w", random_weight((4, 4), number + seed)))
    b.op("out", "Identity", [x])
    return b.graph()


def hostile(op: str) -> Graph:
    b = GraphBuilder()
    x = b.placeholder(HOSTILE, [1])
    w = b.const(f"{HOSTILE}/w", random_weight((8, 8), len(op)))
    y = b.op(f"{HOSTILE}/y" + "n" * 10**6, op, [x, w])
    b.op("</title></style></script><script>document.body.dataset.owned='yes'</script>", op, [y])
    return b.graph()


def test_many_of_a_kind_are_one_row() -> None:
    """A scope that was added is one row with its ops; equal messages are one row."""
    changes = diff_graphs(layers(1), layers(40)).changes
    rows = fold([item for item in changes if item.kind.value == "node_added"])
    assert len(rows) <= 4
    assert sum(row.changes for row in rows) == 78
    assert rows[0].label == "block0/*"
    assert re.search(r"nodes added: .*MatMul", rows[0].message)

    def everywhere(proto: Any) -> None:
        for node in proto.node:
            node.device = "/gpu:0"

    old = layers(10)
    (row,) = fold(diff_graphs(old, edited(old, everywhere)).changes)
    assert row.changes == 22
    assert row.message == "device none -> /gpu:0 (and 21 others alike)"


def test_long_texts_are_cut_with_a_count() -> None:
    """The text shows 200 rows of a section, and says how many more there are."""
    diff, _ = compared(layers(500), layers(500, seed=1000))
    text = render_text.render(diff)
    assert diff.count(next(iter({item.severity for item in diff.changes}))) == 500
    assert "... and 300 changes more" in text
    assert text.count("\n") < 220


@pytest.mark.parametrize("count", [1, 30, 3000])
def test_markdown_stays_under_the_limit(count: int) -> None:
    """Under 60,000 characters, with a count of what is left out; every section is closed."""
    diff, _ = compared(layers(count), layers(count, suffix="_renamed_" + "x" * 80, seed=7))
    text = render_markdown.render(diff)
    assert len(text) < 60_000
    assert text.count("<details") == text.count("</details>") > 0
    if count == 3000:
        assert re.search(r"… and \d+ changes more", text)
        assert len(text) > 20_000


def test_markdown_has_a_table_and_sections() -> None:
    """Totals, then a section per severity; what breaks is open."""
    old = model()
    diff, _ = compared(old, edited(edited(old, PLANTED["shape"].apply), PLANTED["device"].apply))
    text = render_markdown.render(diff)
    assert "| changes | 1 | 0 | 1 |" in text
    assert "<details open><summary>breaking (1)</summary>" in text
    assert "<details><summary>benign (1)</summary>" in text
    assert "<br>because what is fed must be of another shape" in text
    assert len(render_markdown.render(diff, summary=True)) < 400


def test_names_are_inert_in_markdown() -> None:
    """No mark, tag, link or mention survives."""
    text = render_markdown.plain(HOSTILE + " [a](http://b) www.c.d #1 ~~x~~ $y$ <b>")
    for mark in ("*", "_", "`", "[", "]", "|", "<", "://", "www.", "~", "$y", "@user"):
        assert mark not in text, mark
    assert "#1" not in text.replace("&#1", "")


def test_scenes_group_what_belongs_together() -> None:
    """One scene per weight, with old and new; neighbours that changed share one."""
    old = model()
    diff, comparison = compared(old, Graph.parse(graphwq.quantize(old, 4).graph.to_bytes()))
    found = scenes(diff, comparison)
    groups = [scene for place in found.places for scene in place.scenes]
    assert len(groups) == 3
    assert {scene.style for scene in groups} == {"explained"}
    first = next(scene for scene in groups if scene.title == "conv1/weights")
    states = {box.lines[1]: box.state for box in first.new.boxes}
    assert states["conv1/weights"] == "changed"
    assert "added" in states.values()
    assert {box.lines[0] for box in first.old.boxes} >= {"Const", "Identity", "Conv2D"}
    assert [box.state for box in first.old.boxes if box.lines[0] == "Const"] == ["changed"]
    diff, comparison = compared(
        old, edited(edited(old, PLANTED["op"].apply), PLANTED["bias"].apply)
    )
    assert len(scenes(diff, comparison).places) == 1


def test_both_sides_of_a_large_group_are_drawn() -> None:
    """A network that replaces another one: as much of the new as of the old one is drawn."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4])
    for number in range(60):
        x = b.op(f"other{number}", "Tanh", [x])
    b.op("out", "Identity", [x])
    diff, comparison = compared(layers(60), b.graph())
    first = scenes(diff, comparison).places[0].scenes[0]
    assert min(len(first.old.boxes), len(first.new.boxes)) >= 15


def test_scenes_are_bounded() -> None:
    """Of many groups a dozen is drawn, the rest counted, unexplained ones first."""
    diff, comparison = compared(layers(300), layers(300, seed=1000))
    found = scenes(diff, comparison)
    drawn = sum(len(place.scenes) for place in found.places)
    assert drawn == MOST_PICTURES
    assert found.left_out == 300 - MOST_PICTURES
    for place in found.places:
        for scene in place.scenes:
            assert len(scene.old.boxes) <= 40
    assert weight_values(diff, comparison)[1] == 300 - 24


def test_histograms_are_those_of_the_values() -> None:
    """A quantized weight shows its decoded values, under a rename too."""
    old = model()
    new = prefixed(Graph.parse(graphwq.quantize(old, 2).graph.to_bytes()))
    values, more = weight_values(*compared(old, new))
    assert more == 0
    assert {item.path for item in values} == {"conv1/weights", "conv2/weights", "head/weights"}
    for item in values:
        channels = {"conv1/weights": 16, "conv2/weights": 16, "head/weights": 10}[item.path]
        assert item.histogram.levels_new <= 2 * channels + 1


class Page(html.parser.HTMLParser):
    """Tags, and whether they are closed in order."""

    VOID = frozenset(["meta", "input", "br", "path", "rect", "line"])

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: List[str] = []
        self.ids: List[str] = []
        self.links: List[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Any]]) -> None:
        found: Dict[str, Any] = dict(attrs)
        assert not [key for key in found if key.startswith("on")]
        assert "src" not in found
        self.scripts += tag == "script"
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page_of(old: Graph, new: Graph) -> str:
    pytest.importorskip("jinja2")
    from graphwq.diff import render_html

    return render_html.render(*compared(old, new))


PAIRS = {
    "quantized": lambda: (model(), Graph.parse(graphwq.quantize(model(), 4).graph.to_bytes())),
    "renamed": lambda: (model(), prefixed(edited(model(), PLANTED["op"].apply))),
    "hostile": lambda: (hostile("Relu"), hostile("Relu6")),
    "same": lambda: (model(), model()),
    "new": lambda: (Graph(()), model()),
    "removed": lambda: (model(), Graph(())),
    "many": lambda: (layers(300), layers(300, seed=1000)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_page_is_well_formed(name: str) -> None:
    """Every tag is closed, links lead to parts of the page, there is one script, ours."""
    page = Page(page_of(*PAIRS[name]()))
    assert page.open == []
    assert page.scripts == 1
    assert len(set(page.ids)) == len(page.ids)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)


def test_the_page_is_bounded() -> None:
    """A thousand changes are listed, whatever the graph; names are cut."""
    assert len(page_of(*PAIRS["hostile"]())) < 200_000
    text = page_of(layers(1500), layers(1500, seed=5000))
    assert text.count('<tr data-severity="') == 1000
    assert "… and 500 changes more" in text
    assert len(text) < 3_000_000


def test_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    import sys

    from graphwq.diff import render_html

    monkeypatch.setitem(sys.modules, "jinja2", None)
    diff, comparison = compared(model(), model())
    with pytest.raises(MissingDependencyError, match="pip install"):
        render_html.render(diff, comparison)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)


def browse(page: Path, *arguments: str) -> str:
    """What headless Chromium makes of a page: its DOM after the script ran."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.parent / 'profile'}",
            *arguments,
            page.as_uri(),
        ],
        capture_output=True,
        timeout=120,
    )
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["quantized", "hostile"])
def test_the_page_in_a_browser(name: str, tmp_path: Path) -> None:
    """The script runs under the page's own policy, counts the rows, and nothing of a name does."""
    page = tmp_path / "page.html"
    page.write_text(page_of(*PAIRS[name]()), encoding="utf-8")
    dom = browse(page, "--dump-dom")
    assert 'data-ready="yes"' in dom
    assert re.search(r'id="shown" role="status">(\d+) of \1 shown<', dom)
    assert 'data-owned="yes"' not in dom
    assert "<svg" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 420])
def test_the_page_fits_the_window(width: int, tmp_path: Path) -> None:
    """Nothing sticks out to the right, wide and narrow: asked from the page itself."""
    page = tmp_path / "page.html"
    text = page_of(*PAIRS["quantized"]())
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)  # for this probe
    probe = """<script>
    var frame = document.createElement("iframe");
    frame.style.cssText = "width:WIDTHpx;height:900px;border:0";
    frame.srcdoc = document.documentElement.outerHTML.split("<!--probe-->")[0];
    frame.onload = function () {
      var root = frame.contentDocument.documentElement;
      document.body.dataset.width = root.scrollWidth + "/" + root.clientWidth;
    };
    document.body.appendChild(frame);
    </script>"""
    page.write_text(
        text.replace("</body>", "<!--probe-->" + probe.replace("WIDTH", str(width)) + "</body>"),
        encoding="utf-8",
    )
    dom = browse(page, "--virtual-time-budget=3000", "--dump-dom")
    found = re.search(r'data-width="(\d+)/(\d+)"', dom)
    assert found is not None
    assert int(found[1]) <= int(found[2]) <= width
