"""The signatures of two SavedModels or MetaGraphs: what a server's clients know of a model."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.sets import split
from graphwq.diff.values import describe_type
from graphwq.graphdef import dtypes
from graphwq.graphdef.metagraph import Argument, Signature
from graphwq.text import name, plural

Signatures = Mapping[str, Signature]

_FEW = 3


def signature_changes(
    old: Optional[Signatures], new: Optional[Signatures], names: Mapping[str, str]
) -> Iterator[Change]:
    """What differs between the signatures of two graphs; nothing where one of them can have none.

    Args:
        old, new: by name; None for a GraphDef.
        names: what nodes of OLD are called in NEW, where that is another name: a tensor that was
            renamed with its node is the same tensor.
    """
    if old is None or new is None:
        return
    parts = split(old, new)
    for key, signature in parts.removed:
        yield _whole(
            Kind.SIGNATURE_REMOVED, key, signature, "removed", "nobody can call it any more"
        )
    for key, signature in parts.added:
        yield _whole(Kind.SIGNATURE_ADDED, key, signature, "new", "nobody calls it yet")
    for key, before, after in parts.mutual:
        if before.method != after.method:
            yield _changed(
                key,
                f"method {name(before.method) or 'none'} -> {name(after.method) or 'none'}",
                {"part": "method", "old": before.method, "new": after.method},
                "a server answers it in another way",
            )
        yield from _arguments(key, "input", before.inputs, after.inputs, names)
        yield from _arguments(key, "output", before.outputs, after.outputs, names)


def _whole(kind: Kind, key: str, signature: Signature, word: str, reason: str) -> Change:
    is_new = kind is Kind.SIGNATURE_ADDED
    return Change(
        kind,
        _path(key),
        Severity.BENIGN if is_new else Severity.BREAKING,
        f"{word} signature: {_list(signature.inputs, 'input')} -> "
        f"{_list(signature.outputs, 'output')}",
        {
            "method": signature.method,
            "inputs": {item: _data(about) for item, about in signature.inputs.items()},
            "outputs": {item: _data(about) for item, about in signature.outputs.items()},
        },
        reason=reason,
    )


def _arguments(
    key: str,
    side: str,
    old: Mapping[str, Argument],
    new: Mapping[str, Argument],
    names: Mapping[str, str],
) -> Iterator[Change]:
    parts = split(old, new)
    feed = side == "input"
    verb = "feeds" if feed else "fetches"
    for item, about in parts.removed:
        yield _changed(
            key,
            f"{side} {name(item)} removed ({_type(about)})",
            {"part": side, "name": item, "old": _data(about), "new": None},
            f"whoever {verb} it must stop",
        )
    for item, about in parts.added:
        yield _changed(
            key,
            f"new {side} {name(item)} ({_type(about)})",
            {"part": side, "name": item, "old": None, "new": _data(about)},
            "must be fed from now on" if feed else "whoever does not fetch it sees no difference",
            Severity.BREAKING if feed else Severity.BENIGN,
        )
    for item, before, after in parts.mutual:
        detail = {"part": side, "name": item, "old": _data(before), "new": _data(after)}
        if (before.dtype, before.shape) != (after.dtype, after.shape):
            said = f"{side} {name(item)}: {_type(before)} -> {_type(after)}"
            what = "type" if before.dtype != after.dtype else "shape"
            yield _changed(key, said, detail, f"whoever {verb} it must expect another {what}")
        if tuple(_followed(tensor, names) for tensor in before.tensors) != after.tensors:
            said = f"{side} {name(item)} is {_tensors(after)} instead of {_tensors(before)}"
            yield _changed(key, said, detail, f"whoever {verb} it reaches another tensor")


def _changed(
    key: str,
    message: str,
    detail: Dict[str, Any],
    reason: str,
    severity: Severity = Severity.BREAKING,
) -> Change:
    return Change(Kind.SIGNATURE_CHANGED, _path(key), severity, message, detail, reason=reason)


def _path(key: str) -> str:
    return f"signature:{key}"


def _followed(tensor: str, names: Mapping[str, str]) -> str:
    """A tensor under the names of NEW."""
    node, colon, port = tensor.partition(":")
    return f"{names.get(node, node)}{colon}{port}"


def _data(about: Argument) -> Dict[str, Any]:
    return {
        "tensors": list(about.tensors),
        "dtype": dtypes.dtype_name(about.dtype),
        "shape": None if about.shape is None else list(about.shape),
    }


def _type(about: Argument) -> str:
    return describe_type(about.dtype, about.shape)


def _tensors(about: Argument) -> str:
    return ", ".join(map(name, about.tensors)) or "nothing"


def _list(arguments: Mapping[str, Argument], side: str) -> str:
    few: List[Tuple[str, Argument]] = list(arguments.items())[:_FEW]
    said = ", ".join(f"{name(key)} {_type(about)}" for key, about in few)
    more = len(arguments) - len(few)
    return f"{said or 'no ' + side}{f' and {plural(more, side)} more' if more else ''}"
