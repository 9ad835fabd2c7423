"""The report of a verification: pure data, to JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, TypeVar

from graphwq.errors import InputError
from graphwq.graphdef import jsontext
from graphwq.graphdef.graph import Graph
from graphwq.verify.accuracy import Accuracy
from graphwq.verify.checked import check
from graphwq.verify.layers import LayersResult
from graphwq.verify.outputs import OutputsResult
from graphwq.verify.problem import Problem
from graphwq.verify.structure import StructureResult
from graphwq.verify.weights import WeightsResult

FORMAT = "graphwq-report"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class GraphInfo:
    """Which graph it was.

    Attributes:
        name: the path, or a word where there is none.
        digest: sha256 of the serialized graph, in hex.
        nbytes: of the serialized graph.
        nodes: of all scopes.
    """

    name: str
    digest: str
    nbytes: int
    nodes: int

    @classmethod
    def of(cls, graph: Graph, name: str) -> GraphInfo:
        """The facts of a graph."""
        nodes = sum(len(scope.nodes) for scope in graph.scopes)
        return cls(name, graph.digest, graph.nbytes, nodes)

    def to_json(self) -> Dict[str, Any]:
        """The facts as JSON data."""
        return {
            "name": self.name,
            "digest": self.digest,
            "bytes": self.nbytes,
            "nodes": self.nodes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GraphInfo:
        """The inverse of ``to_json``."""
        return cls(data["name"], data["digest"], data["bytes"], data["nodes"])


@dataclass(frozen=True)
class Report:
    """What a verification found. ``bool(report)`` is the verdict.

    Attributes:
        reference, candidate: the graphs; the reference is None where golden data stands for it.
        exact: nothing may differ by a bit.
        plan_given: the plan came from the user; otherwise it was recovered from the candidate.
        structure, weights, outputs, layers, accuracy: the layers; None where not asked for or
            not possible (``notes`` say why).
        notes: what the reader has to know, one sentence each.
    """

    reference: Optional[GraphInfo]
    candidate: GraphInfo
    exact: bool = False
    plan_given: bool = False
    structure: Optional[StructureResult] = None
    weights: Optional[WeightsResult] = None
    outputs: Optional[OutputsResult] = None
    layers: Optional[LayersResult] = None
    accuracy: Optional[Accuracy] = None
    notes: Tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every layer that was looked at passed, and there was one."""
        verdicts = [
            layer.passed
            for layer in (self.structure, self.weights, self.outputs, self.layers)
            if layer is not None
        ]
        return bool(verdicts) and all(verdicts)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def problems(self) -> Tuple[Problem, ...]:
        """The problems of all layers."""
        return tuple(
            problem
            for layer in (self.structure, self.weights, self.outputs, self.layers)
            if layer is not None
            for problem in layer.problems
        )

    def to_json(self) -> Dict[str, Any]:
        """The report as JSON data."""

        def part(value: Any) -> Any:
            return None if value is None else value.to_json()

        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "passed": self.passed,
            "reference": part(self.reference),
            "candidate": part(self.candidate),
            "exact": self.exact,
            "plan_given": self.plan_given,
            "structure": part(self.structure),
            "weights": part(self.weights),
            "outputs": part(self.outputs),
            "layers": part(self.layers),
            "accuracy": part(self.accuracy),
            "notes": list(self.notes),
        }

    def dumps(self) -> str:
        """The report as JSON text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The inverse of ``to_json``.

        Raises:
            InputError: not a report, or of a version that this graphwq does not know.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(
                f'not a report: "format" must be "{FORMAT}"; make one with graphwq verify'
            )
        if data.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"a report of version {data.get('schema_version')!r}; this graphwq reads version "
                f"{SCHEMA_VERSION}"
            )
        try:
            made = cls(
                _part(data["reference"], GraphInfo.from_json),
                GraphInfo.from_json(data["candidate"]),
                data["exact"],
                data["plan_given"],
                _part(data["structure"], StructureResult.from_json),
                _part(data["weights"], WeightsResult.from_json),
                _part(data["outputs"], OutputsResult.from_json),
                _part(data["layers"], LayersResult.from_json),
                _part(data["accuracy"], Accuracy.from_json),
                tuple(data["notes"]),
            )
            check(made)
            return made
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"a damaged report: {type(error).__name__} {error}") from error

    @classmethod
    def loads(cls, text: str) -> Report:
        """Read a report.

        Raises:
            InputError: not JSON, or not a report.
        """
        try:
            data = jsontext.loads(text)
        except ValueError as error:
            raise InputError(f"not a report: {error}") from error
        return cls.from_json(data)


_Part = TypeVar("_Part")


def _part(data: Any, read: Callable[[Any], _Part]) -> Optional[_Part]:
    return None if data is None else read(data)
