"""From OLD to NEW byte for byte: which fields to copy, which bytes to put between them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Dict, Hashable, List, Mapping, Optional, Tuple, Union

import numpy as np

from graphwq.diff.rename import Renames, renamed
from graphwq.diff.values import same_bytes
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import Buffer

#: A changed field is spliced where at least so many of its bytes can be copied.
_WORTH_A_SPLICE = 64
_BLOCK = 1 << 20
#: A patch copies no more than OLD so many times, and some bytes.
_COPIES, _MORE = 2, 1 << 20


@dataclass(frozen=True)
class Copy:
    """Fields ``first`` .. ``first + count - 1`` of OLD, as they are."""

    first: int
    count: int


@dataclass(frozen=True)
class Put:
    """New bytes; with ``source`` between the first ``head`` and the last ``tail`` bytes of a field.

    Attributes:
        data: the bytes.
        source: index of a field of OLD; -1 for none.
        head, tail: how many of its bytes are copied before and after ``data``.
    """

    data: bytes
    source: int = -1
    head: int = 0
    tail: int = 0


Step = Union[Copy, Put]


@dataclass(frozen=True)
class Patch:
    """How to make NEW from OLD.

    Attributes:
        renames: what is renamed in OLD first: scope -> old name -> new name.
        steps: the fields of NEW in file order, by those of OLD under its new names.
    """

    renames: Renames
    steps: Tuple[Step, ...]

    def to_json(self) -> Dict[str, Any]:
        """The patch as JSON data."""
        return {
            "renames": {scope: dict(names) for scope, names in self.renames.items()},
            "steps": [_step_to_json(step) for step in self.steps],
        }

    @classmethod
    def from_json(cls, data: Any) -> Patch:
        """Read what ``to_json`` made.

        Raises:
            InputError: not a patch.
        """
        try:
            renames = {
                _text(scope): {_text(old): _text(new) for old, new in names.items()}
                for scope, names in data["renames"].items()
            }
            return cls(renames, tuple(_step_from_json(step) for step in data["steps"]))
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise InputError(
                f"a damaged patch ({type(error).__name__}: {error}): make the diff again"
            ) from error


def _step_to_json(step: Step) -> Dict[str, Any]:
    if isinstance(step, Copy):
        return {"copy": [step.first, step.count]}
    data = base64.b64encode(step.data).decode("ascii")
    if step.source < 0:
        return {"put": data}
    return {"splice": [step.source, step.head, step.tail], "put": data}


def _step_from_json(data: Any) -> Step:
    if "copy" in data:
        first, count = (_whole(item) for item in data["copy"])
        return Copy(first, count)
    content = base64.b64decode(_text(data["put"]), validate=True)
    if "splice" in data:
        source, head, tail = (_whole(item) for item in data["splice"])
        return Put(content, source, head, tail)
    return Put(content)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def apply(old: Graph, patch: Patch) -> Graph:
    """Make NEW from OLD.

    Raises:
        InputError: the patch does not fit the graph.
    """
    fields = _fields(renamed(old, patch.renames))
    parts: List[Buffer] = []
    room = _COPIES * sum(map(len, fields)) + _MORE
    for step in patch.steps:
        room -= _copied(step, fields)
        if room < 0:
            raise InputError("the patch copies the same parts again and again: it is damaged")
        if isinstance(step, Copy):
            if step.first + step.count > len(fields):
                raise _misfit()
            parts += fields[step.first : step.first + step.count]
        elif step.source < 0:
            parts.append(step.data)
        else:
            if step.source >= len(fields):
                raise _misfit()
            source = fields[step.source]
            if step.head + step.tail > len(source):
                raise _misfit()
            parts += [source[: step.head], step.data, source[len(source) - step.tail :]]
    return Graph.parse(b"".join(parts))


def _copied(step: Step, fields: List[Buffer]) -> int:
    if isinstance(step, Copy):
        return sum(map(len, fields[step.first : step.first + step.count])) + 1
    return step.head + step.tail


def _misfit() -> InputError:
    return InputError("the patch was made for another graph: give the OLD that it was made from")


def _fields(graph: Graph) -> List[Buffer]:
    """The top-level fields of a graph, each in one piece."""
    found: List[Buffer] = []
    for item in graph.layout:
        if isinstance(item, memoryview):
            found.append(item)
        elif item.frame is not None:
            found.append(item.frame)
        else:
            found.append(Graph((item,)).to_bytes())
    return found


def make_patch(aligned: Graph, new: Graph, renames: Renames) -> Patch:
    """Make the patch; ``aligned`` is OLD after ``renames``."""
    before, after = _fields(aligned), _fields(new)
    by_key: Dict[Hashable, int] = {}
    for index, (item, data) in enumerate(zip(aligned.layout, before)):
        by_key.setdefault(_key(item, data), index)
    steps: List[Step] = []
    for item, data in zip(new.layout, after):
        source = by_key.get(_key(item, data), -1)
        if source >= 0 and same_bytes(before[source], data):
            last = steps[-1] if steps else None
            if isinstance(last, Copy) and last.first + last.count == source:
                steps[-1] = Copy(last.first, last.count + 1)
            else:
                steps.append(Copy(source, 1))
        else:
            steps.append(_put(before[source] if source >= 0 else None, data, source))
    return Patch(renames, tuple(steps))


def _key(item: object, data: Buffer) -> Hashable:
    """Nodes by name; the library by what it is; other fields by their bytes."""
    if isinstance(item, Node):
        return "node", item.name
    if isinstance(item, memoryview):
        return "field", bytes(data)
    return ("library",)


def _put(source: Optional[Buffer], data: Buffer, index: int) -> Put:
    if source is None:
        return Put(bytes(data))
    before, after = np.frombuffer(source, np.uint8), np.frombuffer(data, np.uint8)
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    if head + tail < _WORTH_A_SPLICE:
        return Put(bytes(data))
    return Put(bytes(data[head : len(data) - tail]), index, head, tail)


def _common(first: np.ndarray, second: np.ndarray) -> int:
    """How many items two arrays have in common at their start."""
    size = min(len(first), len(second))
    for begin in range(0, size, _BLOCK):
        end = min(begin + _BLOCK, size)
        differ = first[begin:end] != second[begin:end]
        if differ.any():
            return begin + int(differ.argmax())
    return size


def applied(old: Graph, data: Mapping[str, Any]) -> Graph:
    """Apply a diff in its JSON form to the graph that it was made from.

    Raises:
        InputError: not a diff, one without a patch, or one that was made from another graph.
    """
    if data.get("patch") is None:
        raise InputError("the diff has no patch in it: make it with --format json, no --summary")
    wanted, made = _digest(data, "old"), _digest(data, "new")
    if old.digest != wanted:
        raise InputError(
            f"the diff was made from another graph (digest {wanted[:12]}..., this graph's "
            f"{old.digest[:12]}...): give the OLD that it was made from"
        )
    new = apply(old, Patch.from_json(data["patch"]))
    if new.digest != made:
        raise InputError("the patch makes another graph than the diff says: the diff is damaged")
    return new


def _digest(data: Mapping[str, Any], side: str) -> str:
    part = data.get(side)
    digest = part.get("digest") if isinstance(part, dict) else None
    if not isinstance(digest, str):
        raise InputError(f"a damaged diff: it does not say which graph is {side}")
    return digest
