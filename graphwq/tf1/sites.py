"""Where a live graph is to be fake-quantized: the sites of ``locate``, as edges of a tf.Graph.

A site is quantized as a whole, with one scale per index of its kept axes, where the way from the
variable leaves the reads (Identity, ReadVariableOp) behind it: that is what quantizing the frozen
graph does too. Rows of an embedding table have a scale each, so they are quantized after they were
gathered. A weight input that arithmetic on variables feeds (a mask, a norm) is no site of a frozen
graph; it is quantized where the op reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Set, Tuple

from graphwq.survey.locate import locate_in
from graphwq.survey.optable import GATHER_OPS, WEIGHT_INPUTS
from graphwq.survey.sites import Consumer, Reason, Skip, Source, Survey, WeightSite
from graphwq.survey.view import View, build
from graphwq.tf1.arithmetic import Arithmetic
from graphwq.tf1.live import snapshot

#: Ops that hand a variable's value on as it is, where it stands.
_READS = ("Identity", "RefIdentity", "ReadVariableOp")
#: ... and those that hand on the handle of a resource variable.
_HANDLE_WAYS = ("Identity", "Enter", "RefEnter", "Switch", "RefSwitch")

WHOLE, ROWS, GATHERED, COMPUTED = "whole", "rows", "gathered", "computed"

Edge = Tuple[Any, int]


@dataclass(frozen=True)
class Insertion:
    """One tensor that is to be fake-quantized.

    Attributes:
        kind: WHOLE (``tensor`` is a weight), ROWS (a table: the rows that the one op of ``edges``
            gathers), GATHERED (the output of a ResourceGather), COMPUTED (the result of arithmetic
            on variables).
        weight: the name of the weight; for COMPUTED the op that computes it.
        variables: names of the variables behind it; none for a Const.
        tensor: the tf.Tensor whose values are quantized; the table itself for ROWS.
        rank: of the weight.
        kept_axes: of the weight: one scale per index of these.
        edges: (op, input) that will read the quantized values.
    """

    kind: str
    weight: str
    variables: Tuple[str, ...]
    tensor: Any
    rank: int
    kept_axes: Tuple[int, ...]
    edges: Tuple[Edge, ...]

    @property
    def reduced(self) -> Tuple[int, ...]:
        """The other axes, counted from the end."""
        return tuple(axis - self.rank for axis in range(self.rank) if axis not in self.kept_axes)


@dataclass(frozen=True)
class Found:
    """What a live graph holds: where to quantize, and what stays float for which reason."""

    insertions: Tuple[Insertion, ...]
    skips: Tuple[Skip, ...]


def find(graph: Any) -> Found:
    """Survey a live graph.

    Raises:
        InputError: the graph cannot be serialized or is broken.
    """
    view = build(snapshot(graph))
    survey = locate_in(view)
    finder = _Finder(graph)
    skips: List[Skip] = []
    for site in survey.sites:
        skips.extend(finder.add_site(site))
    computed = _computed(graph, view, survey)
    behind = {name for insertion in computed for name in insertion.variables}
    skips.extend(skip for skip in survey.skips if skip.node not in behind)
    return Found((*finder.insertions(), *computed), tuple(skips))


class _Finder:
    """Collects the edges of each tensor."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._edges: Dict[Tuple[Any, ...], List[Edge]] = {}
        self._made: Dict[Tuple[Any, ...], Insertion] = {}

    def insertions(self) -> List[Insertion]:
        """One insertion per tensor and kept axes, with all its edges."""
        return [
            Insertion(
                made.kind,
                made.weight,
                made.variables,
                made.tensor,
                made.rank,
                made.kept_axes,
                tuple(self._edges[key]),
            )
            for key, made in self._made.items()
        ]

    def add_site(self, site: WeightSite) -> List[Skip]:
        """Note where a site is quantized; the skips of consumers that cannot be."""
        if site.scope:
            return [_unsupported(site, "it stands in the body of a function")]
        skips = []
        for consumer in site.consumers:
            if not self._add_consumer(site, consumer):
                skips.append(_unsupported(site, f"its handle goes into a function ({consumer.op})"))
        return skips[:1]

    def _add_consumer(self, site: WeightSite, consumer: Consumer) -> bool:
        is_handle = site.source is Source.RESOURCE_VARIABLE
        before = self._graph.get_operation_by_name(site.node)
        way = list(zip(consumer.path, consumer.path_ops))
        while way:
            name, op_type = way[0]
            if op_type not in (_HANDLE_WAYS if is_handle else _READS) + ("ReadVariableOp",):
                break
            is_handle = is_handle and op_type != "ReadVariableOp"
            before = self._graph.get_operation_by_name(name)
            way.pop(0)
        following = self._graph.get_operation_by_name(way[0][0] if way else consumer.node)
        slots = [slot for slot, tensor in enumerate(following.inputs) if tensor.op is before]
        if not way:
            slots = [slot for slot in slots if slot == consumer.slot]
        by_row = (
            not way and consumer.op in GATHER_OPS and site.kept_axes == consumer.kept_axes == (0,)
        )
        if is_handle:
            if way or consumer.op != "ResourceGather":
                return False
            self._add_gathered(site, following)
            return True
        for slot in slots:
            kind = ROWS if by_row else WHOLE
            self._note(site, kind, following.inputs[slot], [(following, slot)])
        return True

    def _add_gathered(self, site: WeightSite, gather: Any) -> None:
        """A ResourceGather reads from a handle: its result is replaced where it is used."""
        output = gather.outputs[0]
        edges = [
            (user, slot)
            for user in output.consumers()
            for slot, tensor in enumerate(user.inputs)
            if tensor is output
        ]
        self._note(site, GATHERED, output, edges)

    def _note(self, site: WeightSite, kind: str, tensor: Any, edges: List[Edge]) -> None:
        key = (kind, tensor.name, *(edges[0] if kind == ROWS else ()))
        variables = () if site.source is Source.CONST else (site.node,)
        rank = len(site.shape)
        self._made.setdefault(
            key, Insertion(kind, site.weight, variables, tensor, rank, site.kept_axes, ())
        )
        known = self._edges.setdefault(key, [])
        known.extend(edge for edge in edges if edge not in known)


def _computed(graph: Any, view: View, survey: Survey) -> List[Insertion]:
    """Weight inputs that arithmetic on variables feeds."""
    reached: Set[Tuple[str, int]] = {
        (consumer.node, consumer.slot)
        for site in survey.sites
        for consumer in site.consumers
        if not consumer.scope
    }
    arithmetic = Arithmetic(graph)
    found: Dict[Tuple[str, Tuple[int, ...]], Insertion] = {}
    for op in graph.get_operations():
        rules = WEIGHT_INPUTS.get(op.type, {})
        slots = [slot for slot in sorted(rules, reverse=True) if slot < len(op.inputs)]
        if any((op.name, slot) in reached for slot in slots):
            continue
        for slot in slots:
            tensor = op.inputs[slot]
            variables = arithmetic.variables(tensor)
            rank = tensor.shape.ndims
            if not variables or not rank:
                continue
            kept = rules[slot](view.main, view.main.nodes[op.name], rank)
            if kept is None:
                continue
            key = (tensor.name, kept)
            edges = found[key].edges if key in found else ()
            found[key] = Insertion(
                COMPUTED, tensor.op.name, variables, tensor, rank, kept, (*edges, (op, slot))
            )
            break  # of two inputs the right one is the weight
    return list(found.values())


def _unsupported(site: WeightSite, detail: str) -> Skip:
    return Skip(site.weight, Reason.UNSUPPORTED_FORM.value, detail)
