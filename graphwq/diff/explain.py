"""Which differences a quantization explains: those that carrying out its plan makes, no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from graphwq.diff.change import Change, Kind, Severity
from graphwq.diff.constants import tensor_of_node
from graphwq.diff.match import predicted, rename_votes
from graphwq.diff.nodes import compare_nodes
from graphwq.diff.rename import Renames, renamed
from graphwq.diff.values import may_be_quantized, same_bytes
from graphwq.errors import InputError, QuantizationError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.node import Node, attr_of_type
from graphwq.quant.audit import deviation
from graphwq.quant.scheme import ABSMAX, DATA_FREE, granularity_to_json
from graphwq.rewrite.plan import Plan
from graphwq.rewrite.recover import Recovered, RecoveredWeight, by_method, recover_surveyed
from graphwq.rewrite.run import WeightResult
from graphwq.survey.locate import locate_in
from graphwq.survey.view import View, build
from graphwq.text import decibel, name, plural, size

#: So many changed constants are looked at for a sign of quantization.
_MOST_TRIED = 1000


@dataclass(frozen=True)
class Explanation:
    """What a plan, given or recovered from NEW, makes of OLD.

    Attributes:
        given: whether the plan was given.
        recovered: the weights and the graph that the plan makes, see ``rewrite.recover``; under the
            names of OLD.
        touched: (scope, node of NEW) -> the weight for which the plan adds or replaces the node.
        expected: (scope, node of NEW) -> the node as the plan makes it, and as NEW has it, both
            under the names of OLD.
        view: of OLD.
    """

    given: bool
    recovered: Recovered
    touched: Mapping[Tuple[str, str], str]
    expected: Mapping[Tuple[str, str], Tuple[Node, Node]]
    view: View

    def weight_of(self, scope: str, node: str) -> Optional[str]:
        """The weight that explains a node of NEW; None where none does."""
        weight = self.touched.get((scope, node))
        pair = self.expected.get((scope, node))
        if weight is None or pair is None:
            return None
        if same_bytes(pair[0].to_bytes(), pair[1].to_bytes()):
            return weight
        found = compare_nodes(scope, *pair)
        return None if any(item.kind is not Kind.ENCODING_CHANGED for item in found) else weight


@dataclass
class Tally:
    """How many nodes of NEW a weight explains."""

    added: List[str] = field(default_factory=list)
    changed: List[str] = field(default_factory=list)


def explain(
    old: Graph, aligned: Graph, new: Graph, renames: Renames, plan: Optional[Plan]
) -> Optional[Explanation]:
    """Find the quantization that leads from OLD to NEW.

    Args:
        old, new: the graphs.
        aligned: OLD under the names of NEW.
        renames: scope -> name in OLD -> name in NEW of the nodes that were renamed.
        plan: what is said to have been done; None to recover it from NEW.

    Returns:
        None where no plan is given and NEW holds no weight of OLD quantized.

    Raises:
        InputError: a plan is given, and it does not fit OLD.
    """
    if plan is None and not _may_be_quantized(aligned, new):
        return None
    names = {scope: former_names(old, new, scope, pairs) for scope, pairs in renames.items()}
    candidate = renamed(new, names)
    wanted = None if plan is not None else _other_constants(old, candidate)
    try:
        view = build(old)
        view.check()
        survey = locate_in(view, wanted)
        found = recover_surveyed(old, view, survey, build(candidate), plan)
    except (InputError, QuantizationError, UnsupportedError):
        if plan is not None:
            raise
        return None
    if plan is None and not found.weights:
        return None
    touched = found.touched
    made = {
        (scope.name, node.name): node
        for scope in found.rebuilt.graph.scopes
        for node in scope.nodes
        if (scope.name, node.name) in touched
    }
    by_new: Dict[Tuple[str, str], str] = {}
    expected: Dict[Tuple[str, str], Tuple[Node, Node]] = {}
    for before, after in zip(new.scopes, candidate.scopes):
        for node, same in zip(before.nodes, after.nodes):
            key = (after.name, same.name)
            if key in made:
                by_new[before.name, node.name] = touched[key]
                expected[before.name, node.name] = (made[key], same)
    return Explanation(plan is not None, found, by_new, expected, view)


def former_names(old: Graph, new: Graph, scope: str, pairs: Mapping[str, str]) -> Dict[str, str]:
    """What the nodes of NEW were called before the renames: name in NEW -> name in OLD.

    Nodes that OLD does not have get the name that they would have had.
    """
    here = next((item for item in new.scopes if item.name == scope), None)
    there = next((item for item in old.scopes if item.name == scope), None)
    if here is None or there is None:
        return {}
    known = {node.name for node in here.nodes}
    names = {after: before for before, after in pairs.items() if after in known}
    votes = rename_votes(names)
    taken = {names.get(node.name, node.name) for node in here.nodes}
    taken |= {node.name for node in there.nodes}
    same = {node.name for node in there.nodes} - set(pairs)
    for node in here.nodes:
        if node.name in names or node.name in same:
            continue
        guess = predicted(node.name, votes)
        if guess not in taken:
            names[node.name] = guess
            taken.add(guess)
    return names


def _other_constants(old: Graph, new: Graph) -> Set[Tuple[str, str]]:
    """(scope, node) of the constants that NEW, under the names of OLD, does not hold as they were.

    A weight whose constant is there as it was is not quantized, in no storage form.
    """
    after = {scope.name: {node.name: node for node in scope.nodes} for scope in new.scopes}
    found: Set[Tuple[str, str]] = set()
    for scope in old.scopes:
        there = after.get(scope.name, {})
        for node in scope.nodes:
            if node.op != "Const":
                continue
            other = there.get(node.name)
            if other is None or not same_bytes(node.to_bytes(), other.to_bytes()):
                found.add((scope.name, node.name))
    return found


def _may_be_quantized(old: Graph, new: Graph) -> bool:
    """Whether NEW has constants on a grid, 8-bit constants or FakeQuant ops that OLD has not."""
    tried = 0
    before = {scope.name: scope for scope in old.scopes}
    for after in new.scopes:
        known = (
            {node.name: node for node in before[after.name].nodes} if after.name in before else {}
        )
        for node in after.nodes:
            former = known.get(node.name)
            if node.op.startswith("FakeQuant") and former is None:
                return True
            if node.op != "Const":
                continue
            if former is not None and same_bytes(former.to_bytes(), node.to_bytes()):
                continue
            if attr_of_type(node, "dtype") in dtypes.EIGHT_BIT:
                return True
            if former is not None and tried < _MOST_TRIED:
                tried += 1
                tensor = tensor_of_node(node)
                if tensor is not None and may_be_quantized(tensor):
                    return True
    return False


def weight_changes(explanation: Explanation, tallies: Mapping[str, Tally]) -> Iterator[Change]:
    """One line per weight that explains something, and one for each that the plan is wrong about.

    Args:
        explanation: see ``explain``.
        tallies: by weight.
    """
    weights = {weight.item.weight: weight for weight in explanation.recovered.weights}
    for result in explanation.recovered.rebuilt.weights:
        path = result.item.weight
        weight, tally = weights[path], tallies.get(path)
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
    for weight in explanation.recovered.weights:
        if weight.uncorrected:
            yield _not_followed(
                weight.item.weight,
                f"the plan corrects {weight.uncorrected!r}, NEW does not hold it that way",
                {"bias": weight.uncorrected},
            )
    for item in explanation.recovered.missing:
        yield _not_followed(
            item.weight,
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
    """Codes and scales that are not those of the method, in words; "" for none.

    With a plan the method is the plan's, and one that needs data cannot be followed here. Without
    one it is rounding to nearest, and where many codes are others, that was not the method.
    """
    method = weight.item.scheme.method if explanation.given else ABSMAX
    if method not in DATA_FREE:
        return ""
    try:
        made = by_method(explanation.view, weight, method)
    except QuantizationError:
        return ""
    found = deviation(made, weight.quantized)
    few = found.codes <= max(1, weight.quantized.codes.size // 100)
    few = few and found.scales <= max(1, weight.quantized.scale.size // 100)
    if not (few or explanation.given):
        return ""
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
    if result.shift is not None:
        parts.append(f"{name(result.item.bias)} corrected by up to {result.shift.largest:.3g}")
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
        if all(consumer.kept_axes == axes for consumer in weight.site.consumers):
            return "per output channel"
        return f"per {'axis' if len(axes) == 1 else 'axes'} {','.join(map(str, axes))}"
    if data["kind"] == "per_group":
        return f"per group of {data['group_size']} along axis {data['axis']}"
    return "per tensor"
