"""Which differences a quantization explains: those that carrying out its plan makes, no others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.nodes import compare_nodes
from graphwq.diff.values import same_bytes
from graphwq.errors import InputError, QuantizationError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, attr_of_type
from graphwq.quant.audit import deviation
from graphwq.quant.scheme import granularity_to_json
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.recover import Recovered, RecoveredWeight, absmax, recover_surveyed
from graphwq.rewrite.run import WeightResult
from graphwq.survey.locate import locate_in
from graphwq.survey.view import View, build
from graphwq.text import decibel, plural, size


@dataclass(frozen=True)
class Explanation:
    """What a plan, given or recovered from NEW, makes of OLD.

    Attributes:
        given: whether the plan was given.
        recovered: the weights and the graph that the plan makes, see ``rewrite.recover``.
        touched: (scope, node) -> the weight for which the plan adds or replaces the node.
        expected: (scope, node) -> that node as the plan makes it.
        view: of OLD.
    """

    given: bool
    recovered: Recovered
    touched: Mapping[Tuple[str, str], str]
    expected: Mapping[Tuple[str, str], Node]
    view: View

    def weight_of(self, scope: str, node: Node) -> Optional[str]:
        """The weight that explains a node of NEW; None where none does."""
        weight = self.touched.get((scope, node.name))
        expected = self.expected.get((scope, node.name))
        if weight is None or expected is None:
            return None
        if same_bytes(expected.to_bytes(), node.to_bytes()):
            return weight
        found = compare_nodes(scope, expected, node)
        return None if any(item.kind is not Kind.ENCODING_CHANGED for item in found) else weight


@dataclass
class Tally:
    """How many nodes of NEW a weight explains."""

    added: List[str] = field(default_factory=list)
    changed: List[str] = field(default_factory=list)


def explain(old: Graph, new: Graph, plan: Optional[Plan]) -> Optional[Explanation]:
    """Find the quantization that leads from OLD to NEW.

    Args:
        old: with its nodes named as in NEW.
        new: the other graph.
        plan: what is said to have been done; None to recover it from NEW.

    Returns:
        None where no plan is given and NEW holds no weight of OLD quantized.

    Raises:
        InputError: a plan is given, and it does not fit OLD.
    """
    if plan is None and not _may_be_quantized(old, new):
        return None
    try:
        view = build(old)
        view.check()
        found = recover_surveyed(old, view, locate_in(view), build(new), plan)
    except (InputError, QuantizationError, UnsupportedError):
        if plan is not None:
            raise
        return None
    if plan is None and not found.weights:
        return None
    expected = {
        (scope.name, node.name): node
        for scope in found.rebuilt.graph.scopes
        for node in scope.nodes
    }
    return Explanation(plan is not None, found, found.touched, expected, view)


def _may_be_quantized(old: Graph, new: Graph) -> bool:
    """Whether a float constant changed, or NEW has 8-bit constants or FakeQuant ops of its own."""
    for after in new.scopes:
        before = {
            scope.name: {node.name: node for node in scope.nodes}
            for scope in old.scopes
            if scope.name == after.name
        }.get(after.name, {})
        for node in after.nodes:
            known = before.get(node.name)
            if node.op == "Const":
                if known is not None and same_bytes(known.to_bytes(), node.to_bytes()):
                    continue
                kind = attr_of_type(node, "dtype")
                if kind in dtypes.EIGHT_BIT or (known is not None and kind in dtypes.QUANTIZABLE):
                    return True
            elif known is None and node.op.startswith("FakeQuant"):
                return True
    return False


def weight_changes(
    explanation: Explanation, tallies: Mapping[str, Tally], old_names: Mapping[str, str]
) -> Iterator[Change]:
    """One line per weight that explains something, and one for each that the plan is wrong about.

    Args:
        explanation: see ``explain``.
        tallies: by weight.
        old_names: qualified name in NEW -> in OLD, where they differ.
    """
    weights = {weight.item.weight: weight for weight in explanation.recovered.weights}
    for result in explanation.recovered.rebuilt.weights:
        weight = weights[result.item.weight]
        path = old_names.get(result.item.weight, result.item.weight)
        tally = tallies.get(result.item.weight)
        if tally is None and not explanation.given:
            continue
        off = _off(explanation, weight)
        if tally is not None:
            yield _quantized(path, weight, result, tally, off, explanation.given)
        if off and explanation.given:
            yield _not_followed(
                path,
                f"{off} than the plan's method ({weight.item.scheme.method}) gives",
                {"codes": off},
            )
    for item in explanation.recovered.missing:
        yield _not_followed(
            old_names.get(item.weight, item.weight),
            f"the plan quantizes it to {item.scheme.num_bits} bits ({item.storage}), NEW does not "
            "hold it that way",
            {"num_bits": item.scheme.num_bits, "storage": item.storage},
        )


def _not_followed(path: str, message: str, detail: Dict[str, Any]) -> Change:
    return Change(
        Kind.PLAN_NOT_FOLLOWED,
        path,
        Severity.NUMERIC,
        message,
        detail,
        reason="NEW is not what the plan makes",
    )


def _off(explanation: Explanation, weight: RecoveredWeight) -> str:
    """Codes and scales that rounding to nearest makes otherwise, in words; "" for none."""
    try:
        made = absmax(explanation.view, weight)
    except QuantizationError:
        return ""
    found = deviation(made, weight.quantized)
    parts = []
    if found.codes:
        parts.append(f"{plural(found.codes, 'code')}")
    if found.scales:
        parts.append(f"{plural(found.scales, 'scale')}")
    return f"{' and '.join(parts)} other" if parts else ""


def _quantized(
    path: str,
    weight: RecoveredWeight,
    result: WeightResult,
    tally: Tally,
    off: str,
    given: bool,
) -> Change:
    scheme, error = weight.item.scheme, weight.audit.error
    shape = ",".join(str(dim) for dim in weight.site.shape)
    dtype = dtypes.dtype_name(weight.site.dtype)
    grid = f"{scheme.num_bits} bits {_along(weight)}, {weight.item.storage}"
    parts = [
        f"{dtype} [{shape}] -> {grid}",
        f"SQNR {decibel(error.sqnr_db)}{' dB' if decibel(error.sqnr_db) != 'exact' else ''}",
        f"max difference {error.max_abs_error:.3g}",
    ]
    if result.bytes_before != result.bytes_after:
        parts.append(f"{size(result.bytes_before)} -> {size(result.bytes_after)}")
    if off and not given:
        parts.append(f"{off} than rounding to nearest gives")
    data = result.to_json()
    detail = {
        **data,
        "dtype": dtype,
        "shape": list(weight.site.shape),
        "granularity": granularity_to_json(scheme.granularity),
        "beyond_half_step": weight.audit.beyond_half_step,
        "nodes_added": len(tally.added),
        "nodes_changed": len(tally.changed),
    }
    return Change(
        Kind.WEIGHT_QUANTIZED,
        path,
        Severity.NUMERIC,
        ", ".join(parts),
        detail,
        path,
        "the weight has other values",
    )


def _along(weight: RecoveredWeight) -> str:
    data = granularity_to_json(weight.item.scheme.granularity)
    if data["kind"] == "per_channel":
        axes = tuple(data["axes"])
        consumers = {consumer.op for consumer in weight.site.consumers}
        last = axes == (len(weight.site.shape) - 1,)
        if last and consumers <= {"Conv2D", "MatMul", "Conv3D"}:
            return "per output channel"
        return f"per {'axis' if len(axes) == 1 else 'axes'} {','.join(map(str, axes))}"
    if data["kind"] == "per_group":
        return f"per group of {data['group_size']} along axis {data['axis']}"
    return "per tensor"


def renamed_plan(plan: Plan, new_names: Mapping[str, str]) -> Plan:
    """The plan for the graph under its new names (qualified old name -> new name)."""
    items = tuple(
        replace(item, weight=new_names.get(item.weight, item.weight)) for item in plan.items
    )
    return replace(plan, graph_digest=None, items=items)
