"""The diff as a document: what is compared, the verdict, the changes, the patch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Collection, Dict, Mapping, Optional, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.compare import Comparison
from graphwq.diff.patch import Patch, make_patch
from graphwq.diff.signatures import Signatures
from graphwq.errors import InputError
from graphwq.graphdef import jsontext
from graphwq.graphdef.graph import Graph

FORMAT = "graphwq-diff"
VERSION = 1


@dataclass(frozen=True)
class Side:
    """One of the two graphs.

    Attributes:
        name: what the user calls it (a path).
        nbytes, nodes, functions: its size.
        digest: sha256 of the serialized graph; None where it was not asked for.
        signatures: the names of its signatures; None for a GraphDef.
    """

    name: str
    nbytes: int
    nodes: int
    functions: int
    digest: Optional[str] = None
    signatures: Optional[Tuple[str, ...]] = None

    @classmethod
    def of(
        cls,
        name: str,
        graph: Graph,
        with_digest: bool = False,
        signatures: Optional[Signatures] = None,
    ) -> Side:
        """The side of a graph."""
        nodes = sum(len(scope.nodes) for scope in graph.scopes)
        digest = graph.digest if with_digest else None
        named = None if signatures is None else tuple(signatures)
        return cls(name, graph.nbytes, nodes, len(graph.functions), digest, named)

    def to_json(self) -> Dict[str, Any]:
        """The side as JSON data."""
        return {
            "name": self.name,
            "digest": self.digest,
            "bytes": self.nbytes,
            "nodes": self.nodes,
            "functions": self.functions,
            "signatures": None if self.signatures is None else list(self.signatures),
        }


@dataclass(frozen=True)
class Diff:
    """A diff, as the renderers and the JSON form have it.

    Attributes:
        old, new: what is compared.
        changes: see ``Comparison``.
        plan: ``given``, ``recovered``, or None where there is no quantization to explain changes.
        patch: how to make NEW from OLD; None where it was not asked for.
        ignored: how many changes were left out by their kind.
    """

    old: Side
    new: Side
    changes: Tuple[Change, ...]
    plan: Optional[str]
    patch: Optional[Patch] = None
    ignored: int = 0

    def count(self, severity: Severity) -> int:
        """How many changes are of a severity."""
        return sum(change.severity is severity for change in self.changes)

    @property
    def weights(self) -> Tuple[Change, ...]:
        """The lines that stand for a quantized weight each."""
        return tuple(item for item in self.changes if item.kind is Kind.WEIGHT_QUANTIZED)

    @property
    def unexplained(self) -> Tuple[Change, ...]:
        """The changes that no weight explains."""
        return tuple(item for item in self.changes if item.explained_by is None)

    def at_least(self, severity: Severity) -> Tuple[Change, ...]:
        """The changes that are as grave or graver."""
        return tuple(item for item in self.changes if item.severity.rank <= severity.rank)

    def without(self, kinds: Collection[Kind]) -> Diff:
        """The diff without the changes of some kinds."""
        kept = tuple(item for item in self.changes if item.kind not in kinds)
        ignored = self.ignored + len(self.changes) - len(kept)
        return replace(self, changes=kept, ignored=ignored)

    def to_json(self) -> Dict[str, Any]:
        """The diff as JSON data, see docs/diff-format.md."""
        kinds = Counter(change.kind.value for change in self.changes)
        return {
            "format": FORMAT,
            "version": VERSION,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "totals": {
                "changes": len(self.changes),
                **{severity.value: self.count(severity) for severity in Severity},
                "unexplained": None if self.plan is None else len(self.unexplained),
                "ignored": self.ignored,
                "kinds": dict(sorted(kinds.items())),
            },
            "plan": self.plan,
            "changes": [change.to_json() for change in self.changes],
            "patch": None if self.patch is None else self.patch.to_json(),
        }


def document(
    comparison: Comparison, old_name: str, new_name: str, with_patch: bool = False
) -> Diff:
    """The diff of a comparison.

    Args:
        comparison: see ``diff_graphs``.
        old_name, new_name: what the user calls the graphs.
        with_patch: also the digests and the patch, which holds all bytes that are new.
    """
    patch = None
    if with_patch:
        patch = make_patch(comparison.aligned, comparison.new, comparison.renames)
    plan = None
    if comparison.explanation is not None:
        plan = "given" if comparison.explanation.given else "recovered"
    return Diff(
        Side.of(old_name, comparison.old, with_patch, comparison.signatures[0]),
        Side.of(new_name, comparison.new, with_patch, comparison.signatures[1]),
        comparison.changes,
        plan,
        patch,
    )


def loads(text: str) -> Mapping[str, Any]:
    """Read the JSON form of a diff, for ``patch.applied``.

    Raises:
        InputError: not JSON, not a diff, or of a version that this graphwq does not know.
    """
    try:
        data = jsontext.loads(text)
    except ValueError as error:
        raise InputError(f"not a diff: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(
            f'not a diff: "format" must be "{FORMAT}"; make one with graphwq diff --format json'
        )
    if data.get("version") != VERSION:
        raise InputError(
            f"a diff of version {data.get('version')!r}; this graphwq reads version {VERSION}"
        )
    return data
