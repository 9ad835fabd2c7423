"""How small the files become: over a corpus of real graphs, and the law on single weights.

    python benchmarks/size.py JOBS.json

runs graphwq over many graphs and prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import models
from support import ROOT, Part, Table, Target, child, note

import graphwq
from graphwq.graphdef.graph import Graph

#: What is shown of the corpus, and what is measured.
_WIDTHS, _ALL_WIDTHS = (8, 4, 2), (8, 7, 6, 5, 4, 3, 2)
_PEER = "Graph Transform Tool, 8 bits"
_QUANTILES = (0, 10, 25, 50, 75, 90, 100)
#: b bits cost at most b/32 + this of the float bytes ...
_ALLOWANCE = 0.02
#: ... of weights of at least so many bytes, with so many elements a channel.
_LARGE_BYTES, _LARGE_CHANNEL = 64 * 1024, 64
#: Single weights: as small as the law allows, and usual ones.
_SHAPES = ((128, 128), (256, 256), (64, 256), (3, 3, 64, 128), (1024, 1024), (3, 3, 512, 512))

_Entry = Dict[str, Any]


def corpus() -> Optional[Path]:
    """GRAPHWQ_CORPUS or ../shared/corpus; None where there is no manifest."""
    folder = Path(os.environ.get("GRAPHWQ_CORPUS") or ROOT.parent / "shared" / "corpus")
    return folder if (folder / "manifest.json").is_file() else None


def quantize_all(sources: Sequence[str]) -> Iterator[_Entry]:
    """Quantize every file at every width."""
    for source in sources:
        entry: _Entry = {"widths": {}, "failure": ""}
        try:
            graph = graphwq.load(source)
            entry["bytes"] = graph.nbytes
            for bits in _ALL_WIDTHS:
                result = graphwq.quantize(graph, bits=bits)
                entry["widths"][str(bits)] = {
                    "bytes": result.graph.nbytes,
                    "weights": [
                        {
                            "elements": int(result.quantized[each.item.weight].codes.size),
                            "channels": int(result.quantized[each.item.weight].scale.size),
                            "stored_bits": each.item.stored_bits,
                            "before": each.bytes_before,
                            "after": each.bytes_after,
                        }
                        for each in result.weights
                    ],
                }
        except graphwq.GraphWQError as error:
            entry["failure"] = f"refused: {error}"
        except Exception as error:
            entry["failure"] = f"CRASH {type(error).__name__}: {error}"
        yield entry


def size(details: Optional[Path] = None) -> Part:
    """Measure the law on single weights, and the corpus where there is one.

    Args:
        details: write the table of all graphs here.
    """
    law, targets = _law()
    tables, notes = [law], []
    data: Dict[str, Any] = {}
    folder = corpus()
    if folder is None:
        notes.append("no corpus: set GRAPHWQ_CORPUS to a folder with a manifest.json")
    else:
        entries = _measure_corpus(folder)
        found, more, remarks = _summarize(entries)
        tables += found
        targets += more
        notes += remarks
        data["corpus"] = [
            {key: value for key, value in entry.items() if key != "weights"} for entry in entries
        ]
        if details is not None:
            details.write_text(_details(entries))
    return Part("size", tuple(tables), tuple(targets), tuple(notes), data)


def _law() -> Tuple[Table, List[Target]]:
    """Whole files with one weight: what is there beside the float bytes stays as it is."""
    rows, targets = [], []
    for shape in _SHAPES:
        data = models.matmul(*shape) if len(shape) == 2 else models.convolution(shape, 8)
        graph = Graph.parse(data)
        floats = 4
        for dim in shape:
            floats *= dim
        cells = ["x".join(map(str, shape)), f"{floats / 1024:.0f}"]
        worst = -1.0
        for bits in _ALL_WIDTHS:
            after = graphwq.quantize(graph, bits=bits).graph.nbytes
            excess = 1 - (len(data) - after) / floats - bits / 32
            worst = max(worst, excess)
            cells.append(f"{excess:.4f}")
        rows.append(tuple(cells))
        name = f"graph of one weight {cells[0]}, worst width over b/32"
        targets.append(Target(name, worst, _ALLOWANCE))
    columns = ("weight", "float kB>", *(f"{bits} bits>" for bits in _ALL_WIDTHS))
    title = (
        "a graph of one weight: bytes after / float bytes - b/32, with scales, nodes and the "
        "decoding tables, which weights of a graph share"
    )
    return Table(title, columns, tuple(rows)), targets


def _measure_corpus(folder: Path) -> List[_Entry]:
    manifest: List[_Entry] = json.loads((folder / "manifest.json").read_text())
    with tempfile.TemporaryDirectory(prefix="graphwq-bench-") as name:
        jobs = [
            {
                "file": entry["file"],
                "source": str(folder / entry["file"]),
                "target": str(Path(name) / f"{number}.pb"),
                "inputs": sorted({_node(tensor) for tensor in entry.get("feed") or {}}),
                "outputs": sorted({_node(tensor) for tensor in entry.get("outputs") or []}),
            }
            for number, entry in enumerate(manifest)
        ]
        listed = Path(name) / "jobs.json"
        listed.write_text(json.dumps(jobs))
        note(f"graphwq over {len(jobs)} graphs")
        ours = json.loads(child("size.py", str(listed)))
        note(f"Graph Transform Tool over {len(jobs)} graphs")
        theirs = json.loads(child("gtt.py", "--batch", str(listed)))
        for job, mine, peer in zip(jobs, ours, theirs):
            target = Path(str(job["target"]))
            mine["file"] = job["file"]
            mine["peer_failure"] = peer["failure"]
            mine["peer_bytes"] = 0 if peer["failure"] else target.stat().st_size
    return list(ours)


def _node(tensor: str) -> str:
    return tensor.partition(":")[0]


def _ratios(entry: _Entry) -> Dict[str, float]:
    """File ratios by column, those that exist."""
    before = entry.get("bytes")
    if not before:
        return {}
    widths = entry["widths"]
    found = {
        f"{bits} bits": widths[str(bits)]["bytes"] / before
        for bits in _WIDTHS
        if str(bits) in widths
    }
    if entry["peer_bytes"]:
        found[_PEER] = entry["peer_bytes"] / before
    return found


def _summarize(entries: Sequence[_Entry]) -> Tuple[List[Table], List[Target], List[str]]:
    columns = [*(f"{bits} bits" for bits in _WIDTHS), _PEER]
    everything = [_ratios(entry) for entry in entries]
    both = [ratios for ratios in everything if len(ratios) == len(columns)]
    large = [
        ratios
        for entry, ratios in zip(entries, everything)
        if len(ratios) == len(columns) and entry["bytes"] >= _LARGE_BYTES
    ]
    tables = [
        _quantiles(f"bytes after / before, the {len(group)} graphs {what}", columns, group)
        for what, group in (
            ("that both tools quantize", both),
            (f"of these with {_LARGE_BYTES // 1024} kB and more", large),
        )
    ]
    total = [
        f"{sum(_after(entry, column) for entry in entries if _whole(entry)) / 1e6:.2f}"
        for column in columns
    ]
    before = sum(entry["bytes"] for entry in entries if _whole(entry)) / 1e6
    notes = [
        f"all these graphs together: {before:.2f} MB -> "
        + ", ".join(f"{column} {value} MB" for column, value in zip(columns, total))
    ]
    margins = [ratios["8 bits"] / ratios[_PEER] - 1 for ratios in both]
    notes.append(
        f"at 8 bits graphwq's file is more than 1 % smaller on {sum(m < -0.01 for m in margins)}, "
        f"within 1 % on {sum(abs(m) <= 0.01 for m in margins)}, more than 1 % larger on "
        f"{sum(m > 0.01 for m in margins)}"
    )
    for entry in entries:
        if entry["failure"]:
            notes.append(f"graphwq, {entry['file']}: {entry['failure']}")
        if entry["peer_failure"]:
            notes.append(f"Graph Transform Tool, {entry['file']}: {entry['peer_failure']}")
    over, count, worst = _large_weights(entries)
    targets = []
    if count:
        name = "large weights of the corpus, worst over b/32 (shared tables apart)"
        targets.append(Target(name, worst, _ALLOWANCE))
        notes.append(
            f"{over} of {count} large weights, each at every width, cost more than "
            f"b/32 + {_ALLOWANCE}"
        )
    targets.append(
        Target("graphs on which graphwq crashed", _count(entries, "failure", "CRASH"), 0)
    )
    return tables, targets, notes


def _whole(entry: _Entry) -> bool:
    return bool(entry["peer_bytes"]) and not entry["failure"]


def _after(entry: _Entry, column: str) -> int:
    return round(_ratios(entry)[column] * entry["bytes"])


def _count(entries: Sequence[_Entry], key: str, start: str) -> int:
    return sum(entry[key].startswith(start) for entry in entries)


def _large_weights(entries: Sequence[_Entry]) -> Tuple[int, int, float]:
    """How many large weights are over the law, of how many, and the largest excess over b/32."""
    excess = []
    for entry in entries:
        for bits, width in entry["widths"].items():
            for weight in width["weights"]:
                floats = 4 * weight["elements"]
                if floats < _LARGE_BYTES or floats > weight["before"]:
                    continue
                if weight["elements"] < _LARGE_CHANNEL * weight["channels"]:
                    continue
                spare = weight["before"] - floats
                excess.append((weight["after"] - spare) / floats - int(bits) / 32)
    over = sum(each > _ALLOWANCE for each in excess)
    return over, len(excess), max(excess, default=0.0)


def _quantiles(title: str, columns: Sequence[str], group: Sequence[Dict[str, float]]) -> Table:
    rows = []
    for quantile in _QUANTILES:
        name = {0: "smallest", 50: "median", 100: "largest"}.get(quantile, f"{quantile} %")
        cells = [name]
        for column in columns:
            values = sorted(ratios[column] for ratios in group)
            cells.append(f"{_quantile(values, quantile):.3f}" if values else "")
        rows.append(tuple(cells))
    return Table(title, ("quantile", *(f"{column}>" for column in columns)), tuple(rows))


def _quantile(values: Sequence[float], percent: int) -> float:
    if percent == 50:
        return median(values)
    return values[round((len(values) - 1) * percent / 100)]


def _details(entries: Sequence[_Entry]) -> str:
    columns = [*(f"{bits} bits" for bits in _WIDTHS), _PEER]
    rows = []
    for entry in sorted(entries, key=lambda each: str(each["file"])):
        ratios = _ratios(entry)
        weights = entry["widths"].get("8", {"weights": []})["weights"]
        cells = [f"{ratios[column]:.3f}" if column in ratios else "-" for column in columns]
        peer = f"peer {entry['peer_failure']}" if entry["peer_failure"] else ""
        remark = entry["failure"] or peer
        rows.append(
            (
                entry["file"],
                f"{entry.get('bytes', 0) / 1000:.1f}",
                str(len(weights)),
                *cells,
                remark[:90],
            )
        )
    table = Table(
        "every graph of the corpus: bytes after / before",
        ("graph", "kB>", "weights>", *(f"{column}>" for column in columns), "remark"),
        tuple(rows),
    )
    return "# Size of quantized files\n\n" + table.markdown() + "\n"


if __name__ == "__main__":
    sources = [job["source"] for job in json.loads(Path(sys.argv[1]).read_text())]
    json.dump(list(quantize_all(sources)), sys.stdout)
