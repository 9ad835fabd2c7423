"""The structure layer: what differs between two graphs, and whether the plan explains all of it.

The reference is rewritten by the candidate's plan with the candidate's codes. What the candidate
has beyond that was not done by the plan. No TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.compare import diff_by_name
from graphwq.diff.values import same_bytes
from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.rewrite.recover import Recovered
from graphwq.survey.view import View
from graphwq.verify.problem import STRUCTURE, Problem

#: Harmless to whoever runs the graph, but no rewrite of ours does it.
_NOT_ASKED_FOR = (
    Kind.NODE_ADDED,
    Kind.NODE_REMOVED,
    Kind.OUTPUT_ADDED,
    Kind.FUNCTION_ADDED,
    Kind.FUNCTION_REMOVED,
)


@dataclass(frozen=True)
class StructureResult:
    """The structure layer.

    Attributes:
        compared: how many nodes were compared, those of function bodies included.
        identical: the two files hold the same bytes.
        explained: how many nodes the plan added or replaced, by weight.
        changes: what the plan does not explain.
        problems: those of the changes that matter, and invariants that the candidate breaks.
    """

    compared: int
    identical: bool
    explained: Mapping[str, int]
    changes: Tuple[Change, ...]
    problems: Tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        """Whether nodes were compared and nothing that matters is unexplained."""
        return self.compared > 0 and not self.problems

    def to_json(self) -> Dict[str, Any]:
        """The layer as JSON data."""
        return {
            "passed": self.passed,
            "compared": self.compared,
            "identical": self.identical,
            "explained": dict(self.explained),
            "changes": [item.to_json() for item in self.changes],
            "problems": [item.to_json() for item in self.problems],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StructureResult:
        """The inverse of ``to_json``."""
        return cls(
            data["compared"],
            data["identical"],
            data["explained"],
            tuple(Change.from_json(item) for item in data["changes"]),
            tuple(Problem.from_json(item) for item in data["problems"]),
        )


def check_structure(
    reference: Graph, candidate: Graph, view: View, recovered: Recovered
) -> StructureResult:
    """Compare the candidate with what its plan makes of the reference.

    Args:
        reference, candidate: the graphs.
        view: of the candidate.
        recovered: what the candidate was made by.
    """
    problems = [Problem(STRUCTURE, "invalid", "", message) for message in broken(view)]
    changes = diff_by_name(recovered.rebuilt.graph, candidate)
    problems.extend(
        Problem(STRUCTURE, change.kind.value, change.path, change.message)
        for change in changes
        if change.severity is not Severity.BENIGN or change.kind in _NOT_ASKED_FOR
    )
    compared = sum(len(scope.nodes) for scope in candidate.scopes)
    if not compared:
        problems.append(Problem(STRUCTURE, "nothing_compared", "", "the candidate has no node"))
    return StructureResult(
        compared,
        _same_bytes(reference, candidate),
        dict(Counter(recovered.touched.values())),
        changes,
        tuple(problems),
    )


def broken(view: View) -> List[str]:
    """The invariants that a graph breaks: inputs that do not exist, cycles, damaged constants."""
    found = view.problems()
    for scope in view.scopes.values():
        for node in scope.scope.nodes:
            try:
                if node.op == "Const":
                    node.tensor()
            except InputError as error:
                found.append(str(error))
    return found


def _same_bytes(left: Graph, right: Graph) -> bool:
    """Whether two graphs are written alike; stops at the first field that is not."""
    if left.nbytes != right.nbytes or len(left.layout) != len(right.layout):
        return False
    return all(same_bytes(one, other) for one, other in zip(left.chunks(), right.chunks()))
