"""Changes folded for reading: many of one kind in one scope, or with one message, are one row."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Dict, Hashable, Iterable, List, Optional, Sequence, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.document import Diff
from graphwq.text import plural

#: So many changes that say the same become one row.
_FOLD = 4

_BY_SCOPE = {Kind.NODE_ADDED: "added", Kind.NODE_REMOVED: "removed"}


@dataclass(frozen=True)
class Row:
    """One line of a rendering.

    Attributes:
        kind, severity: of all its changes.
        label: where: a path, or what the paths have in common; as in the file, not yet printable.
        message: what.
        reason: why the severity is what it is.
        changes: how many it stands for.
    """

    kind: Kind
    severity: Severity
    label: str
    message: str
    reason: str
    changes: int


@dataclass(frozen=True)
class Section:
    """The rows of one severity, explained or not.

    Attributes:
        severity: of its rows.
        explained: None where there is no plan; else whether the plan explains them.
        rows: in file order.
    """

    severity: Severity
    explained: Optional[bool]
    rows: Tuple[Row, ...]

    @property
    def changes(self) -> int:
        """How many changes the rows stand for."""
        return sum(row.changes for row in self.rows)

    @property
    def heading(self) -> str:
        """What the section is, in words."""
        word = self.severity.value
        if self.explained is None:
            return word
        return f"{word}, explained by the plan" if self.explained else f"{word}, UNEXPLAINED"


def sections(diff: Diff) -> Tuple[Section, ...]:
    """The changes of a diff, the unexplained and the gravest first."""
    found: List[Section] = []
    for explained in (None,) if diff.plan is None else (False, True):
        for severity in Severity:
            some = [
                change
                for change in diff.changes
                if change.severity is severity
                and (explained is None or explained == (change.explained_by is not None))
            ]
            if some:
                found.append(Section(severity, explained, fold(some)))
    return tuple(found)


def fold(changes: Sequence[Change]) -> Tuple[Row, ...]:
    """Rows in the order of the first change of each."""
    groups: Dict[Hashable, List[Change]] = {}
    shared = {
        kind: _shared(change for change in changes if change.kind is kind) for kind in _BY_SCOPE
    }
    for change in changes:
        groups.setdefault(_key(change, shared), []).append(change)
    rows: List[Row] = []
    for group in groups.values():
        if len(group) < _FOLD:
            rows += [_row(change) for change in group]
        elif group[0].kind in _BY_SCOPE:
            rows.append(_scope(group))
        else:
            rows.append(_alike(group))
    return tuple(rows)


def _key(change: Change, shared: Dict[Kind, int]) -> Hashable:
    if change.kind in _BY_SCOPE:
        parts = change.path.split("/")
        return change.kind, tuple(parts[: shared[change.kind] + 1]) if len(parts) > 1 else ()
    return change.kind, change.message, change.explained_by


def _shared(changes: Iterable[Change]) -> int:
    """How many scopes all paths begin with."""
    return len(_common([change.path.split("/")[:-1] for change in changes]))


def _common(scopes: List[List[str]]) -> List[str]:
    if not scopes:
        return []
    first, last = min(scopes), max(scopes)
    size = 0
    while size < min(len(first), len(last)) and first[size] == last[size]:
        size += 1
    return first[:size]


def _row(change: Change) -> Row:
    return Row(change.kind, change.severity, change.path, change.message, change.reason, 1)


def _scope(group: List[Change]) -> Row:
    first = group[0]
    scope = "/".join(_common([change.path.split("/")[:-1] for change in group]))
    message = f"{plural(len(group), 'node')} {_BY_SCOPE[first.kind]}: {_ops(group)}"
    label = f"{scope}/*" if scope else "*"
    return Row(first.kind, first.severity, label, message, first.reason, len(group))


def _ops(group: Iterable[Change]) -> str:
    counts = Counter(change.detail["op"] for change in group)
    parts = [f"{count} {op}" for op, count in counts.most_common(5)]
    return ", ".join(parts) + (", ..." if len(counts) > 5 else "")


def _alike(group: List[Change]) -> Row:
    first = group[0]
    message = f"{first.message} (and {len(group) - 1} others alike)"
    return Row(first.kind, first.severity, first.path, message, first.reason, len(group))
