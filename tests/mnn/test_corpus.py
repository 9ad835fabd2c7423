"""Real graphs through lint and the real converter.

Without options every graph is linted, and a part of the graphs that its sha256 picks is converted
at one width. ``--mnn-widths 8,4,3,2`` converts all of them at these widths, in both storage forms
(``make corpus-mnn``).
"""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from corpus.test_quantize import _feeds, _is_sure, _load, _refused

from graphwq.errors import QuantizationError
from graphwq.graphdef.graph import Graph
from graphwq.mnn import size
from graphwq.mnn.child import ConverterError
from graphwq.mnn.convert import Converted, convert
from graphwq.mnn.model import Model, parse
from graphwq.mnn.prepare import Prepared, prepare
from graphwq.rewrite.options import Options

pytestmark = [pytest.mark.corpus]

EXPECTATIONS = Path(__file__).resolve().parent / "corpus_expectations.json"
WIDTHS = (8, 4, 3, 2)
#: One graph of so many is converted where nothing else is asked for.
_PART = 6


def _expected(entry: Dict[str, Any]) -> Dict[str, Any]:
    found: Dict[str, Dict[str, Any]] = json.loads(EXPECTATIONS.read_text())
    assert entry["sha256"] in found, "a new graph: run pytest --update-golden tests/mnn"
    return found[entry["sha256"]]


def _remember(entry: Dict[str, Any], **facts: Any) -> None:
    """--update-golden: write down what is so now; several processes may do so at a time."""
    with open(str(EXPECTATIONS) + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = json.loads(EXPECTATIONS.read_text()) if EXPECTATIONS.is_file() else {}
        found.setdefault(entry["sha256"], {"file": entry["file"][:80]}).update(facts)
        ordered = dict(sorted(found.items(), key=lambda item: (item[1]["file"], item[0])))
        EXPECTATIONS.write_text(json.dumps(ordered, indent=1) + "\n")
    Path(lock.name).unlink()


def _prepared(graph: Graph, bits: int, storage: str = "bake") -> Optional[Prepared]:
    """None where a weight holds NaN, which no plan can mend."""
    try:
        return prepare(graph, options=Options(bits=bits), storage=storage)
    except QuantizationError:
        return None


def _fates(prepared: Prepared) -> Dict[str, int]:
    return dict(sorted(Counter(layer.fate.value for layer in prepared.layers).items()))


def test_lint(entry: Dict[str, Any], corpus: Path, request: pytest.FixtureRequest) -> None:
    """The verdicts on every graph, as they were when a person last looked at them."""
    graph = _load(entry, corpus)
    if _refused(graph):
        return
    prepared = _prepared(graph, 8)
    fates = None if prepared is None else _fates(prepared)
    if request.config.getoption("--update-golden"):
        _remember(entry, fates=fates)
    assert fates == _expected(entry)["fates"]


def _chosen(entry: Dict[str, Any], config: pytest.Config) -> List[Tuple[int, str]]:
    """Widths and storage forms for a graph; nothing where another part is meant."""
    asked = config.getoption("--mnn-widths")
    if asked:
        widths = [int(width) for width in asked.split(",")]
        return [(width, "bake") for width in widths] + [(widths[-1], "dequant")]
    number = int(entry["sha256"][:8], 16)
    if number % _PART:
        return []
    number //= _PART
    return [(WIDTHS[number % 4], "bake" if number // 4 % 3 else "dequant")]


@pytest.mark.mnn
@pytest.mark.tf
def test_convert(entry: Dict[str, Any], corpus: Path, request: pytest.FixtureRequest) -> None:
    """Codes, scales, verdicts, sizes and outputs; or the converter's reason."""
    chosen = _chosen(entry, request.config)
    if not chosen:
        pytest.skip("another part of the corpus")
    graph = _load(entry, corpus)
    if _refused(graph):
        return
    update = request.config.getoption("--update-golden")
    for bits, storage in chosen:
        prepared = _prepared(graph, bits, storage)
        if prepared is None:
            return
        feeds = _feeds(entry, corpus) if entry["run_ok"] and _is_sure(entry) else None
        result, refusal = _converted(prepared, feeds, entry.get("outputs"))
        if update:
            _remember(entry, refusal=refusal)
        assert refusal == _expected(entry).get("refusal"), "the converter's reason"
        if result is None:
            return
        wrong = sorted({check.name for check in result.outputs if check.is_float_wrong})
        if update:
            _remember(entry, float_is_wrong=wrong)
        assert wrong == _expected(entry).get("float_is_wrong", [])
        _check(prepared, result)


def _converted(
    prepared: Prepared, feeds: Any, outputs: Optional[List[str]]
) -> Tuple[Optional[Converted], str]:
    """The model, or the converter's reason."""
    try:
        return convert(prepared, feeds, outputs, run=feeds is not None), ""
    except ConverterError as error:
        return None, error.reason


def _check(prepared: Prepared, result: Converted) -> None:
    model = parse(memoryview(result.data))
    data = result.to_json()
    assert data["equal_codes"] == data["codes"]
    assert data["equal_scales"] == data["scales"]
    _verdicts_agree(prepared, model)
    predicted = size.from_float_model(result.float_nbytes, prepared.layers)
    assert abs(predicted / len(result.data) - 1) < 0.02
    for check in result.outputs:
        assert check.passed or check.is_float_wrong, check


def _verdicts_agree(prepared: Prepared, model: Model) -> None:
    """A layer is quantized exactly where lint says so, with the bits and blocks that it says."""
    found = {
        (layer.subgraph, layer.name): layer.quantized
        for layer in model.layers
        if len(layer.weight) or layer.quantized is not None
    }
    named = {(layer.subgraph, layer.name): layer for layer in prepared.layers if layer.name}
    for key, layer in named.items():
        assert key in found, f"lint names a layer {key} that the model does not have"
        stored = found.pop(key)
        assert (stored is not None) == layer.is_quantized, key
        if stored is not None:
            assert stored.num_bits == layer.num_bits
    for key, stored in found.items():  # of weights that are computed, or of ops without codes
        assert stored is None, key
