"""Signatures of SavedModels are interface: what of them changed, and how much that matters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import jsonschema
import pytest
from builders import GraphBuilder, random_weight
from commandline import run
from conftest import ROOT

from graphwq.diff.change import Severity
from graphwq.diff.compare import diff_graphs
from graphwq.diff.document import document
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.metagraph import Argument, Signature, parse_meta_graph
from graphwq.graphdef.wire import delimited

FLOAT, HALF = 1, 19


def network(prefix: str = "") -> Graph:
    """Two inputs, two outputs."""
    b = GraphBuilder()
    x = b.placeholder(f"{prefix}x", [-1, 4])
    y = b.matmul(f"{prefix}y", x, b.const(f"{prefix}w", random_weight((4, 3))))
    b.op(f"{prefix}scores", "Softmax", [y], T=("type", 1))
    b.op(f"{prefix}logits", "Identity", [y])
    return b.graph()


def signature(prefix: str = "") -> Signature:
    return Signature(
        {"images": Argument((f"{prefix}x:0",), FLOAT, (-1, 4))},
        {"scores": Argument((f"{prefix}scores:0",), FLOAT, (-1, 3))},
        "tensorflow/serving/predict",
    )


SERVING = {"serving_default": signature()}


def told(
    new: Dict[str, Signature], old: Any = None, prefix: str = ""
) -> List[Tuple[str, str, str]]:
    """(kind, severity, message) of the changes of signatures."""
    before = SERVING if old is None else old
    changes = diff_graphs(network(), network(prefix), None, (before, new)).changes
    return [
        (item.kind.value, item.severity.value, item.message)
        for item in changes
        if item.path.startswith("signature:")
    ]


def test_the_same_signatures() -> None:
    """Nothing to say; also where a side is a GraphDef, which has none."""
    assert told(SERVING) == []
    for pair in ((None, SERVING), (SERVING, None), (None, None)):
        assert diff_graphs(network(), network(), None, pair).changes == ()


def test_added_and_removed() -> None:
    """Nobody can call a removed one; nobody calls a new one yet."""
    said = "images float32 [?,4] -> scores float32 [?,3]"
    more = {**SERVING, "other": signature()}
    assert told(more) == [("signature_added", "benign", f"new signature: {said}")]
    assert told(SERVING, more) == [("signature_removed", "breaking", f"removed signature: {said}")]


CHANGED: Dict[str, Tuple[Signature, str, str]] = {
    "dtype": (
        Signature(
            {"images": Argument(("x:0",), HALF, (-1, 4))}, signature().outputs, signature().method
        ),
        "breaking",
        "input images: float32 [?,4] -> float16 [?,4]",
    ),
    "shape": (
        Signature(
            signature().inputs, {"scores": Argument(("scores:0",), FLOAT, None)}, signature().method
        ),
        "breaking",
        "output scores: float32 [?,3] -> float32 [unknown]",
    ),
    "tensor": (
        Signature(
            signature().inputs,
            {"scores": Argument(("logits:0",), FLOAT, (-1, 3))},
            signature().method,
        ),
        "breaking",
        "output scores is logits:0 instead of scores:0",
    ),
    "method": (
        Signature(signature().inputs, signature().outputs, "tensorflow/serving/classify"),
        "breaking",
        "method tensorflow/serving/predict -> tensorflow/serving/classify",
    ),
    "new input": (
        Signature(
            {**signature().inputs, "mask": Argument(("x:0",), FLOAT, ())},
            signature().outputs,
            signature().method,
        ),
        "breaking",
        "new input mask (float32 [])",
    ),
    "new output": (
        Signature(
            signature().inputs,
            {**signature().outputs, "logits": Argument(("logits:0",), FLOAT, (-1, 3))},
            signature().method,
        ),
        "benign",
        "new output logits (float32 [?,3])",
    ),
    "no output": (
        Signature(signature().inputs, {}, signature().method),
        "breaking",
        "output scores removed (float32 [?,3])",
    ),
    "no input": (
        Signature({}, signature().outputs, signature().method),
        "breaking",
        "input images removed (float32 [?,4])",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_each_change(name: str) -> None:
    """One planted change each: its kind, severity and words."""
    new, severity, message = CHANGED[name]
    assert told({"serving_default": new}) == [("signature_changed", severity, message)]


def test_tensors_follow_renames() -> None:
    """Under a prefix the signature is the same; a tensor that did not follow is another one."""
    assert told({"serving_default": signature("import/")}, prefix="import/") == []
    swapped = Signature(
        signature("import/").inputs,
        {"scores": Argument(("import/logits:0",), FLOAT, (-1, 3))},
        signature().method,
    )
    ((_, _, message),) = told({"serving_default": swapped}, prefix="import/")
    assert message == "output scores is import/logits:0 instead of scores:0"


def meta(change: Callable[[Any], None], restore: str = "") -> bytes:
    """A MetaGraphDef with one signature, after a change."""
    from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

    proto = MetaGraphDef()
    proto.meta_info_def.tags.append("serve")
    made = proto.signature_def["serving_default"]
    made.method_name = "tensorflow/serving/predict"
    for side, key, tensor, last in (
        (made.inputs, "images", "x:0", 4),
        (made.outputs, "scores", "scores:0", 3),
    ):
        side[key].name = tensor
        side[key].dtype = FLOAT
        for size in (-1, last):
            side[key].tensor_shape.dim.add(size=size)
    change(proto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data + delimited(2, network().to_bytes())


def saved_model(folder: Path, change: Callable[[Any], None] = lambda proto: None) -> Path:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01" + delimited(2, meta(change)))
    return folder


def test_read_from_a_meta_graph() -> None:
    """Names, tensors, types, shapes and method come from the file; a sparse one has no name."""

    def sparse(proto: Any) -> None:
        about = proto.signature_def["serving_default"].inputs["ids"]
        about.coo_sparse.values_tensor_name = "v:0"
        about.coo_sparse.indices_tensor_name = "i:0"
        about.tensor_shape.unknown_rank = True

    found = parse_meta_graph(memoryview(meta(sparse))).signatures["serving_default"]
    assert found.method == "tensorflow/serving/predict"
    assert found.inputs["images"] == Argument(("x:0",), FLOAT, (-1, 4))
    assert found.inputs["ids"] == Argument(("v:0", "i:0"), 0, None)
    assert found.outputs == {"scores": Argument(("scores:0",), FLOAT, (-1, 3))}


def _classify(proto: Any) -> None:
    proto.signature_def["serving_default"].method_name = "tensorflow/serving/classify"
    hostile = proto.signature_def["\x1b[2J<b>|`"]
    hostile.outputs["o"].name = "scores:0"


@pytest.mark.parametrize("form", ["text", "markdown", "json", "html"])
def test_the_command(form: str, tmp_path: Path, capsys: Any) -> None:
    """Two SavedModels: the change is in every format, and the patch works."""
    if form == "html":
        pytest.importorskip("jinja2")
    old, new = saved_model(tmp_path / "old"), saved_model(tmp_path / "new", _classify)
    found = run(capsys, "diff", old, new, "--format", form, "--fail-on", "breaking")
    assert found.status == 1, found.err
    assert "serving/classify" in found.out.replace("&#x2F;", "/")
    assert "\x1b" not in found.out
    assert "<b>|" not in found.out or form in ("text", "json")
    if form == "json":
        data = json.loads(found.out)
        schema = json.loads((ROOT / "graphwq" / "diff" / "diff.schema.json").read_text())
        jsonschema.validate(data, schema)
        assert data["old"]["signatures"] == ["serving_default"]
        diff, out = tmp_path / "d.json", tmp_path / "out.pb"
        diff.write_text(found.out)
        assert run(capsys, "diff", old, "--apply", diff, "-o", out).status == 0
        assert run(capsys, "diff", new, out).status == 0
    assert run(capsys, "diff", old, old).status == 0


def test_a_graph_has_no_signatures(tmp_path: Path, capsys: Any) -> None:
    """Against a pb nothing is said of signatures, in JSON null."""
    old, new = saved_model(tmp_path / "old"), tmp_path / "new.pb"
    new.write_bytes(network().to_bytes())
    data = json.loads(run(capsys, "diff", old, new, "--json", "--summary").out)
    assert (data["old"]["signatures"], data["new"]["signatures"]) == (["serving_default"], None)
    assert not [item for item in data["changes"] if item["kind"].startswith("signature")]


def test_severities_reach_the_totals() -> None:
    """The document counts a removed signature as breaking."""
    comparison = diff_graphs(network(), network(), None, (SERVING, {}))
    diff = document(comparison, "a", "b")
    assert diff.count(Severity.BREAKING) == 1
