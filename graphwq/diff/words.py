"""The sentences on top of every rendering: what is compared, what happened, what is unexplained."""

from __future__ import annotations

from collections import Counter
from typing import List

from graphwq.diff.change import Kind, Severity
from graphwq.diff.document import Diff
from graphwq.text import one_line, plural, ratio, size

_PATH = 200


def title(diff: Diff) -> str:
    """``old.pb -> new.pb``."""
    return f"{one_line(diff.old.name, _PATH)} -> {one_line(diff.new.name, _PATH)}"


def sizes(diff: Diff) -> str:
    """Bytes and nodes, before and after."""
    old, new = diff.old, diff.new
    parts = []
    if old.nbytes == new.nbytes:
        parts.append(size(old.nbytes))
    else:
        share = ratio(new.nbytes, old.nbytes)
        parts.append(f"{size(old.nbytes)} -> {size(new.nbytes)} ({share})")
    if old.nodes == new.nodes:
        parts.append(plural(old.nodes, "node"))
    else:
        parts.append(f"{old.nodes} -> {plural(new.nodes, 'node')}")
    return ", ".join(parts)


def verdict(diff: Diff) -> str:
    """What happened, in one sentence."""
    ignored = f" ({plural(diff.ignored, 'change')} ignored)" if diff.ignored else ""
    if not diff.changes:
        return f"no differences{ignored}"
    if not diff.old.nodes:
        return f"the whole graph is new{ignored}"
    if not diff.new.nodes:
        return f"the whole graph was removed{ignored}"
    parts = [f"{diff.count(severity)} {severity.value}" for severity in Severity]
    counts = f"{plural(len(diff.changes), 'change')}: {', '.join(parts)}{ignored}"
    gravest = next(severity for severity in Severity if diff.count(severity))
    if gravest is Severity.BENIGN:
        return f"{counts}; both graphs compute the same"
    return counts


def quantization(diff: Diff) -> List[str]:
    """What was quantized, and whether that is all that was done; nothing where nothing was."""
    if diff.plan is None:
        return _decoded(diff)
    plan = "the plan" if diff.plan == "given" else "the plan recovered from NEW"
    weights = [_weights(diff)] if diff.weights else []
    others = diff.unexplained
    if not others:
        return [f"only what {plan} says was changed: no change is unexplained", *weights]
    counts = Counter(change.severity for change in others)
    parts = [f"{counts[severity]} {severity.value}" for severity in Severity if counts[severity]]
    verb = "is" if len(others) == 1 else "are"
    what = f"{plural(len(others), 'change')} {verb} NOT explained by {plan}"
    return [f"{what}: {', '.join(parts)}", *weights, *_decoded(diff)]


def _decoded(diff: Diff) -> List[str]:
    """The constants that NEW decodes from others, in one sentence."""
    details = [item.detail for item in diff.changes if item.kind is Kind.CONSTANT_DECODED]
    if not details:
        return []
    stored = ", ".join(sorted({item["stored"] for item in details}))
    before = sum(item["old_bytes"] for item in details)
    after = sum(item["new_bytes"] for item in details)
    found = [item["values"]["sqnr_db"] for item in details]
    worst = [value for value in found if value is not None]
    verb = "is" if len(details) == 1 else "are"
    text = f"{plural(len(details), 'constant')} {verb} decoded from {stored} now"
    text += f": {size(before)} -> {size(after)}"
    return [f"{text}, SQNR from {min(worst):.1f} dB" if worst else text]


def _weights(diff: Diff) -> str:
    details = [change.detail for change in diff.weights]
    forms = Counter((item["num_bits"], item["storage"]) for item in details)
    said = [f"{bits} bits, {storage}" for (bits, storage), _ in sorted(forms.items())]
    before = sum(item["bytes_before"] for item in details)
    after = sum(item["bytes_after"] for item in details)
    worst = [item["sqnr_db"] for item in details if item["sqnr_db"] is not None]
    text = f"{plural(len(details), 'weight')} quantized ({'; '.join(said[:4])})"
    text += f": {size(before)} -> {size(after)}"
    if worst:
        text += f", SQNR from {min(worst):.1f} dB"
    return text
