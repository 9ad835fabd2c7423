"""Renames as a person would say them: a scope in one line, the exceptions one by one."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.match import rename_of
from graphwq.survey.sites import qualified
from graphwq.text import name, plural


def rename_changes(
    scope: str, renamed: Mapping[str, str], interface: FrozenSet[str]
) -> Tuple[Change, ...]:
    """The changes that say which nodes of a scope have other names.

    Args:
        scope: "" for the main graph, else the function.
        renamed: old name -> new name where they differ.
        interface: old names of what is fed and fetched.
    """
    groups: Dict[Tuple[str, str], List[str]] = {}
    for old, new in renamed.items():
        groups.setdefault(rename_of(old, new), []).append(old)
    found: List[Change] = []
    for (before, after), nodes in groups.items():
        known = [node for node in nodes if node in interface]
        severity = Severity.BREAKING if known else Severity.BENIGN
        reason = "a name decides nothing inside the graph"
        if known:
            reason = f"whoever feeds or fetches {', '.join(map(name, known[:3]))} must follow"
        if len(nodes) == 1:
            message = f"renamed to {name(renamed[nodes[0]])}"
            detail = {"old": nodes[0], "new": renamed[nodes[0]]}
            path = qualified(scope, nodes[0])
            found.append(Change(Kind.NODE_RENAMED, path, severity, message, detail, None, reason))
            continue
        whole = {"old": before, "new": after, "nodes": len(nodes), "interface": known}
        found.append(
            Change(
                Kind.SCOPE_RENAMED,
                qualified(scope, f"{before}/"),
                severity,
                _say(before, after, len(nodes)),
                whole,
                None,
                reason,
            )
        )
    return tuple(found)


def _say(before: str, after: str, count: int) -> str:
    nodes = plural(count, "node")
    if not before:
        return f"{nodes} got the prefix {name(after)}/"
    if not after:
        return f"{nodes} lost the prefix {name(before)}/"
    return f"{nodes}: {name(before)}/ is called {name(after)}/"
