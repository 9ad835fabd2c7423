"""docs/errors.md is complete: every message of the code has its line, and every line a message."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, Pattern, Tuple

import pytest
from conftest import ROOT

from graphwq.graphdef import source

PAGE = ROOT / "docs" / "errors.md"
#: Their text is part of another message, which has its line.
_INNER = {"_DamagedError", "FlatError", "WireError", "ConverterError"}
#: Raised where a caller makes something else of them.
_OTHERS = {"ValueError", "LinAlgError", "AttributeError", "AssertionError", "ArgumentTypeError"}
_HOLE = "\0"
#: With so few letters a template only puts a name in front of another message.
_FRAME = 2


def _template(node: ast.AST) -> str:
    """The text of a message, with a hole for what is filled in; "" where it is made elsewhere."""
    if isinstance(node, ast.Str):
        return node.s
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) or _HOLE for part in node.values)
    if isinstance(node, ast.BinOp):
        return (_template(node.left) or _HOLE) + (_template(node.right) or _HOLE)
    return _HOLE if isinstance(node, ast.FormattedValue) else ""


def _messages() -> Iterator[Tuple[str, str]]:
    """(place, template) of every message that a command or a call can end in."""
    for path in sorted((ROOT / "graphwq").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            name = getattr(node.exc.func, "id", getattr(node.exc.func, "attr", ""))
            if name in _INNER | _OTHERS or not node.exc.args:
                continue
            if path.parent.name == "calibrate" and name == "UnsupportedError":
                continue  # the reason why a layer stays absmax, printed in a table
            text = _template(node.exc.args[0])
            if len(re.sub(r"[^A-Za-z]", "", text)) > _FRAME:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", text
    for _, _, hint in source._KNOWN:  # what a file that is no graph looks like
        yield "graphwq/graphdef/source.py", f"{_HOLE} is {hint}"


def _patterns(page: Path = PAGE) -> Dict[str, Pattern]:
    """The patterns of the first column, compiled; ``...`` matches anything."""
    found = {}
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `"):
            for pattern in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
                parts = map(re.escape, pattern.split("..."))
                found[pattern] = re.compile(".*".join(parts), re.DOTALL)
    return found


def _covering(text: str, patterns: Dict[str, Pattern]) -> List[str]:
    return [pattern for pattern, compiled in patterns.items() if compiled.fullmatch(text)]


def test_every_message_has_its_line() -> None:
    """A message that no line of the page stands for is named with its place."""
    patterns = _patterns()
    messages = list(_messages())
    assert len(messages) > 200
    missing = [
        f"{place}: {text.replace(_HOLE, '...')}"
        for place, text in messages
        if not _covering(text, patterns)
    ]
    assert missing == [], "add lines to docs/errors.md for:\n" + "\n".join(missing)


def test_every_line_is_a_message() -> None:
    """No line is left over from a message that is gone, and none matches everything."""
    texts = [text for _, text in _messages()]
    extra = {  # made by functions, of whose raise statement the text is no part
        "... (see ... --help)": "the following arguments are required: IN (see graphwq --help)",
        "the MNN converter cannot convert this graph: ...": "the MNN converter cannot convert this "
        "graph: it died of signal 11 (SIGSEGV)",
        "TensorFlow cannot run the graph: ...": "TensorFlow cannot run the graph: no",
        "field ... at byte ... is not what a GraphDef has there": "field 9 at byte 0 is not what a "
        "GraphDef has there",
        "... cannot be parsed: the file is damaged": "a TensorProto cannot be parsed: the file is "
        "damaged",
        "cannot write to stdout: ...": "cannot write to stdout: No space left on device",
    }
    for pattern, compiled in _patterns().items():
        letters = re.sub(r"[^A-Za-z]", "", pattern)
        assert len(letters) >= 6, f"{pattern}: too general"
        made = [extra[pattern]] if pattern in extra else []
        assert any(compiled.fullmatch(text) for text in texts + made), f"{pattern}: no such message"
    for text in ("", "an unheard-of complaint", "the graph was eaten by a dog"):
        assert _covering(text, _patterns()) == []


@pytest.mark.parametrize("kind", ["Reason"])
def test_every_reason_has_its_line(kind: str) -> None:
    """docs/limits.md explains each reason for which a constant stays float."""
    from graphwq.survey import sites

    page = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ", page, re.MULTILINE)
    assert rows == [reason.value for reason in getattr(sites, kind)]
