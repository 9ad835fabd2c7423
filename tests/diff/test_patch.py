"""graphwq/diff/patch.py and document.py: the diff as data, and NEW from OLD byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
from conftest import ROOT

import graphwq
from diff.planting import PLANTED, edited, model, prefixed
from graphwq.diff.compare import diff_graphs
from graphwq.diff.document import Diff, document, loads
from graphwq.diff.patch import Copy, Patch, Put, applied, apply, make_patch
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph

SCHEMA = json.loads((ROOT / "graphwq" / "diff" / "diff.schema.json").read_text())


def made(old: Graph, new: Graph) -> Diff:
    return document(diff_graphs(old, new), "old.pb", "new.pb", with_patch=True)


def as_json(diff: Diff) -> Dict[str, Any]:
    return json.loads(json.dumps(diff.to_json(), allow_nan=False))


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("prefix", ["", "import/"])
def test_the_patch_makes_new_from_old(name: str, prefix: str) -> None:
    """Both ways, through JSON, also when everything is renamed at once."""
    old = model()
    new = edited(old, PLANTED[name].apply)
    new = prefixed(new, prefix) if prefix else new
    for a, b in ((old, new), (new, old)):
        data = as_json(made(a, b))
        assert applied(a, loads(json.dumps(data))).to_bytes() == b.to_bytes()


def test_the_json_follows_its_schema() -> None:
    """Every planted edit, a quantization and an empty diff are what the schema says."""
    jsonschema = pytest.importorskip("jsonschema")
    old = model()
    others = [edited(old, planted.apply) for planted in PLANTED.values()]
    others += [old, prefixed(old), graphwq.quantize(old, 4).graph, graphwq.quantize(old, 3).graph]
    for new in others:
        for diff in (made(old, new), document(diff_graphs(old, new), "a", "b")):
            jsonschema.validate(as_json(diff), SCHEMA)


def test_the_schema_is_not_everything() -> None:
    """What is no diff does not pass."""
    jsonschema = pytest.importorskip("jsonschema")
    data = as_json(made(model(), prefixed(model())))
    for wrong in (
        {**data, "version": 2},
        {**data, "more": 1},
        {**data, "changes": [{**data["changes"][0], "kind": "x"}]},
        {**data, "patch": {"renames": {}, "steps": [{"copy": [1]}]}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_every_kind_is_in_the_schema_and_the_page() -> None:
    """The schema and docs/diff-format.md name every kind."""
    from graphwq.diff.change import Kind

    kinds = [kind.value for kind in Kind]
    assert SCHEMA["definitions"]["change"]["properties"]["kind"]["enum"] == kinds
    page = (ROOT / "docs" / "diff-format.md").read_text()
    assert [kind for kind in kinds if f"`{kind}`" not in page] == []


def test_a_small_change_is_a_small_patch() -> None:
    """A device on a large constant does not carry the constant."""
    old = edited(model(), lambda proto: None)

    def move(proto: Any) -> None:
        next(node for node in proto.node if node.name == "head/weights").device = "/cpu:0"

    new = edited(old, move)
    patch = made(old, new).patch
    assert patch is not None
    assert sum(len(step.data) for step in patch.steps if isinstance(step, Put)) < 64
    assert apply(old, patch).to_bytes() == new.to_bytes()


def test_a_rename_puts_no_bytes() -> None:
    """Under a prefix all fields are copied."""
    old = edited(model(), lambda proto: None)
    patch = made(old, prefixed(old)).patch
    assert patch is not None
    assert not [step for step in patch.steps if isinstance(step, Put)]


def test_an_order_that_changed_is_kept() -> None:
    """Nodes in another order come out in that order."""
    old = model()
    new = Graph.parse(Graph(tuple(reversed(old.layout))).to_bytes())
    patch = make_patch(old, new, {})
    assert apply(old, patch).to_bytes() == new.to_bytes()


def test_from_and_to_nothing() -> None:
    """git's /dev/null is a graph without nodes."""
    empty, graph = Graph(()), model()
    for a, b in ((empty, graph), (graph, empty)):
        assert applied(a, as_json(made(a, b))).to_bytes() == b.to_bytes()


def test_the_totals_count() -> None:
    """The totals are those of the list, and what is ignored is counted."""
    from graphwq.diff.change import Kind

    old = model()
    diff = made(old, prefixed(edited(old, PLANTED["bias"].apply)))
    data = as_json(diff.without([Kind.SCOPE_RENAMED]))
    assert data["totals"] == {
        "changes": 1,
        "breaking": 0,
        "numeric": 1,
        "benign": 0,
        "unexplained": None,
        "ignored": 1,
        "kinds": {"value_changed": 1},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(patch=None), "has no patch"),
        (lambda data: data["old"].update(digest="0" * 64), "made from another graph"),
        (lambda data: data["new"].update(digest="0" * 64), "makes another graph"),
        (lambda data: data["old"].update(digest=None), "does not say which graph"),
        (lambda data: data.update(old=3), "does not say which graph"),
        (lambda data: data.update(patch=3), "damaged patch"),
        (lambda data: data["patch"].update(steps=[{"copy": [0, 10_000]}]), "another graph"),
        (lambda data: data["patch"].update(steps=[{"copy": [-1, 1]}]), "damaged patch"),
        (lambda data: data["patch"].update(steps=[{"copy": [True, 1]}]), "damaged patch"),
        (lambda data: data["patch"].update(steps=[{"put": "?"}]), "damaged patch"),
        (lambda data: data["patch"].update(steps=[{}]), "damaged patch"),
        (lambda data: data["patch"].update(renames={"": {"a": 1}}), "damaged patch"),
        (
            lambda data: data["patch"].update(steps=[{"put": "", "splice": [9999, 0, 0]}]),
            "another graph",
        ),
        (
            lambda data: data["patch"].update(steps=[{"put": "", "splice": [0, 9999, 0]}]),
            "another graph",
        ),
    ],
)
def test_a_damaged_diff_is_refused(change: Any, said: str) -> None:
    """Whatever is wrong with it: an error that says so, no wrong graph."""
    old = model()
    data = as_json(made(old, edited(old, PLANTED["bias"].apply)))
    change(data)
    with pytest.raises(InputError, match=said):
        applied(old, data)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a diff"),
        ("[]", "not a diff"),
        ('{"format": "graphwq-plan"}', "not a diff"),
        ('{"format": "graphwq-diff", "version": 9}', "version 9"),
        ("[" * 100_000, "not a diff"),
    ],
)
def test_loads_refuses_what_is_no_diff(text: str, said: str) -> None:
    """Other files, other versions."""
    with pytest.raises(InputError, match=said):
        loads(text)


def test_steps_are_merged() -> None:
    """Neighbouring fields are one step."""
    old = model()
    patch = make_patch(old, old, {})
    assert patch == Patch({}, (Copy(0, len(old.layout)),))


def test_patch_json_round_trip() -> None:
    """from_json reads what to_json wrote."""
    old = model()
    patch = made(old, prefixed(edited(old, PLANTED["op"].apply))).patch
    assert patch is not None
    assert Patch.from_json(json.loads(json.dumps(patch.to_json()))) == patch


def test_the_digest_of_fixtures(fixtures: Path) -> None:
    """The digests are sha256 of the files."""
    import hashlib

    path = fixtures / "digits_cnn.pb"
    graph = graphwq.load(path)
    data = as_json(made(graph, graph))
    assert data["old"]["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert data["changes"] == []


@pytest.mark.parametrize(("before", "after"), [(200, 150), (150, 200), (100, 100)])
def test_a_splice_never_takes_a_byte_twice(before: int, after: int) -> None:
    """Long runs of one byte: what the start shares the end cannot share again."""
    from builders import GraphBuilder

    graphs = []
    for count in (before, after):
        b = GraphBuilder()
        b.op("y", "Op", [], k="a" * count)
        graphs.append(b.graph())
    patch = make_patch(graphs[0], graphs[1], {})
    assert apply(graphs[0], patch).to_bytes() == graphs[1].to_bytes()
