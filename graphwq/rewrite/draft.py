"""From a plan to the nodes of a new graph, whose values are computed later.

Everything but the values is decided here: names, order, sizes. So the graph can be written while
its values are computed, and none of them has to wait in memory for the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from graphwq.errors import InputError, QuantizationError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import release
from graphwq.graphdef.node import Node
from graphwq.graphdef.wire import header
from graphwq.quant.method import quantize_by_method
from graphwq.quant.metrics import WeightError
from graphwq.quant.quantize import some_channels
from graphwq.quant.scheme import MAX_BITS, PerGroup, QuantizedTensor
from graphwq.quant.shift import Shift
from graphwq.rewrite import bake, dequant, fake_quant, invariants, rows, split
from graphwq.rewrite.builder import Builder, Place
from graphwq.rewrite.codes import quantize_weight
from graphwq.rewrite.edits import Edit, apply, replace_by
from graphwq.rewrite.mixture import Mixture
from graphwq.rewrite.names import Names
from graphwq.rewrite.parallel import in_order
from graphwq.rewrite.plan import BAKE, BITS, DEQUANT, Plan, PlanItem, Rows, Split, Whole
from graphwq.rewrite.tables import Tables
from graphwq.rewrite.values import Job, Make, Values
from graphwq.survey.sites import Skip, Source, WeightSite
from graphwq.survey.view import View

Work = Tuple[PlanItem, WeightSite]


@dataclass(frozen=True)
class Given:
    """Codes that are there already, for ``rebuild``.

    Attributes:
        quantized: codes and scale.
        error: of their values against the weight.
        prefix: number of the first name prefix that the weight's nodes have; None where the next
            free one will do.
        shift: of the constant that the item names as its ``bias``; None leaves it as it is.
    """

    quantized: QuantizedTensor
    error: WeightError
    prefix: Optional[int] = None
    shift: Optional[Shift] = None


@dataclass(frozen=True)
class DraftedWeight:
    """What becomes of one weight.

    Attributes:
        item: what the plan says.
        site: where the weight is.
        job: what computes the values of ``edits``.
        bytes_before, bytes_after: see ``WeightResult``.
        edits: none where the weight is already what the plan asks for; then ``job`` has run.
        shift: see ``WeightResult``.
    """

    item: PlanItem
    site: WeightSite
    job: Job
    bytes_before: int
    bytes_after: int
    edits: Tuple[Edit, ...]
    shift: Optional[Shift] = None


@dataclass(frozen=True)
class Draft:
    """A rewrite without its values.

    Attributes:
        graph: what is rewritten.
        weights: in the order of the plan.
        skips: what is left as it is, with reasons.
        shared_bytes: bytes of the decoding tables that several weights share.
        mixture: what the widths were chosen by, where a target asked for it.
    """

    graph: Graph
    weights: Tuple[DraftedWeight, ...]
    skips: Tuple[Skip, ...]
    shared_bytes: int
    mixture: Optional[Mixture] = None

    @property
    def edits(self) -> Tuple[Edit, ...]:
        """What changes, in the order of the plan."""
        return tuple(edit for weight in self.weights for edit in weight.edits)


def applied(graph: Graph, edits: Sequence[Edit]) -> Graph:
    """The new graph, of which it was checked that nothing else changed.

    Raises:
        InvariantError: a promise is broken; this is a bug in graphwq.
    """
    new = apply(graph, edits) if edits else graph
    invariants.check(graph, new, edits)
    return new


class Drafter:
    """One run over one graph."""

    def __init__(
        self,
        graph: Graph,
        view: View,
        sites: Dict[str, WeightSite],
        given: Optional[Mapping[str, Given]] = None,
    ) -> None:
        self._graph = graph
        self._view = view
        self._sites = sites
        self._given = given or {}
        self._names = Names(graph)
        self._tables = Tables(self._names.root)

    def draft(self, plan: Plan, keep_codes: bool = False) -> Draft:
        """Make all nodes of a plan; ``keep_codes`` is for the jobs that already run here."""
        work = [(item, self._site(item)) for item in plan.items]
        _check_cuts(work)
        jobs = [Job(partial(self._quantize, item, site)) for item, site in work]
        kept = self._kept(work, jobs, keep_codes)
        weights: List[DraftedWeight] = []
        shared = 0
        for (item, site), job, same in zip(work, jobs, kept):
            there = self._given.get(item.weight)
            if there is not None and there.prefix is not None:
                self._names.go_on_from(there.prefix)
            own = () if same else self._edits(site, self._node(site), item, job.values)
            before, after, tables = self._sizes(own)
            shared += tables
            shift = None if there is None else there.shift
            if shift is not None:
                bias = bake.shifted(self._view.main.nodes[item.bias], shift)
                own += replace_by("", bias.name, [bias])
            sizes = before or site.nbytes, after or site.nbytes
            weights.append(DraftedWeight(item, site, job, *sizes, own, shift))
        return Draft(self._graph, tuple(weights), plan.skips, shared, plan.mixture)

    def _kept(self, work: Sequence[Work], jobs: Sequence[Job], keep: bool) -> Iterator[bool]:
        """Whether baking leaves each weight as it is; the jobs of those that it does have run."""
        if not any(item.storage == BAKE for item, _ in work):
            return iter([False] * len(work))

        def keeps(number: int) -> bool:
            item, site = work[number]
            return item.storage == BAKE and self._keeps(item, site, jobs[number], keep)

        return in_order(keeps, range(len(work)))

    def _keeps(self, item: PlanItem, site: WeightSite, job: Job, keep: bool) -> bool:
        """See ``_kept``; a few channels are looked at first."""
        weight = self._view.tensor(site).numpy()
        few = some_channels(weight, item.scheme.granularity)
        if few is not None and item.weight not in self._given:
            try:
                quantized = quantize_by_method(few, item.scheme)[0]
            except QuantizationError:
                return False  # the job will say so
            if not _same_bits(bake.baked(quantized, site.dtype), few):
                return False
        quantized, error = self._quantize(item, site)
        if not _same_bits(bake.baked(quantized, site.dtype), weight):
            return False
        job.done(error, quantized if keep else None)
        return True

    def _site(self, item: PlanItem) -> WeightSite:
        site = self._sites.get(item.weight)
        if site is None or site.source is not Source.CONST:
            raise InputError(
                f"the plan names {item.weight!r}, which is no constant weight of this graph: make "
                "a new plan"
            )
        if item.bias and item.weight not in self._given:
            raise InputError(
                f"the plan corrects {item.bias!r}, the bias of {item.weight!r}, by what the layer "
                "sees: give inputs with --calibration"
            )
        form = item.form
        fits = True
        if isinstance(form, Split):
            chosen = split.choose(self._view.main, site)
            fits = chosen is not None and chosen.axis == form.axis
            fits = fits and sum(form.sizes) == site.shape[form.axis] and min(form.sizes) > 0
            granularity = item.scheme.granularity
            fits = fits and not (
                isinstance(granularity, PerGroup) and granularity.axis == form.axis
            )
        elif isinstance(form, Rows):
            fitting = rows.choose(self._view.main, site, item.scheme)
            fits = fitting is not None and bool(fitting.sizes) == bool(form.sizes)
            if form.sizes:
                fits = fits and sum(form.sizes) == site.shape[0] and min(form.sizes) > 0
        if item.layout == BITS:
            whole = isinstance(form, Whole) and item.stored_bits < MAX_BITS
            fits = fits and whole
        if not fits:
            raise InputError(f"the plan's form for {item.weight!r} does not fit: make a new plan")
        return site

    def _node(self, site: WeightSite) -> Node:
        return self._view.scopes[site.scope].nodes[site.node]

    def _quantize(self, item: PlanItem, site: WeightSite) -> Tuple[QuantizedTensor, WeightError]:
        there = self._given.get(item.weight)
        if there is not None:
            return there.quantized, there.error
        tensor = self._view.tensor(site)
        quantized, error = quantize_weight(item.weight, tensor.numpy(), item.scheme)
        if tensor.content is not None:
            release(tensor.content)
        return quantized, error

    def _edits(
        self, site: WeightSite, node: Node, item: PlanItem, values: Values
    ) -> Tuple[Edit, ...]:
        if item.storage == BAKE:
            baked = bake.build(node, site.shape, site.dtype, values)
            return replace_by(site.scope, node.name, [baked])
        if item.storage == DEQUANT and isinstance(item.form, Split):
            return self._split(site, node, item, values, item.form)
        if item.storage == DEQUANT and isinstance(item.form, Rows):
            return self._rows(site, node, item, values, item.form)
        builder = Builder(Place.of(site.scope, node), self._names.prefix())
        if item.storage == DEQUANT:
            dequant.build(builder, self._tables, site.shape, site.dtype, item, values)
        else:
            fake_quant.build(builder, site.shape, site.dtype, item.scheme, values)
        return replace_by(site.scope, node.name, builder.nodes)

    def _split(
        self,
        site: WeightSite,
        node: Node,
        item: PlanItem,
        values: Values,
        form: Split,
    ) -> Tuple[Edit, ...]:
        place = Place.of(site.scope, node)
        nodes: List[Node] = []
        refs = []
        begin = 0
        for size in form.sizes:
            prefix = self._names.prefix()
            inner = Builder(Place("", f"{prefix}/value", place.device, place.control, {}), prefix)
            shape = site.shape[: form.axis] + (size,) + site.shape[form.axis + 1 :]
            of_piece = _of_piece(values, form.axis, begin, size)
            dequant.build(inner, self._tables, shape, site.dtype, item, of_piece)
            begin += size
            nodes.extend(inner.nodes)
            refs.append(inner.place.name)
        outer = Builder(place, self._names.prefix(), nodes)
        split.join_weight(outer, refs, form.axis, site.dtype)
        edits = replace_by("", node.name, nodes)
        return edits + self._consumers(site, site.consumers, refs, form)

    def _consumers(
        self, site: WeightSite, consumers: Sequence[Any], refs: Sequence[str], form: Split
    ) -> Tuple[Edit, ...]:
        edits: Tuple[Edit, ...] = ()
        for consumer in consumers:
            nodes = split.rewrite_consumer(
                self._view.main, consumer, refs, site.dtype, form, self._names.prefix
            )
            edits += replace_by("", consumer.node, nodes)
        return edits

    def _rows(
        self,
        site: WeightSite,
        node: Node,
        item: PlanItem,
        values: Values,
        form: Rows,
    ) -> Tuple[Edit, ...]:
        place = Place.of(site.scope, node)
        builder = Builder(place, self._names.prefix())
        stored = rows.store(builder, site.shape, item.scheme, item.stored_bits, values)
        refs = []
        begin = 0
        for size in form.sizes:
            piece = Builder(place, self._names.prefix(), builder.nodes)
            refs.append(rows.decode_piece(piece, self._tables, stored, begin, size, site.dtype))
            begin += size
        rows.decode_all(builder, self._tables, stored, site.shape[0], site.dtype)
        edits = replace_by("", node.name, builder.nodes)
        others = []
        for consumer in site.consumers:
            if not rows.gathers_rows(self._view.main, consumer):
                others.append(consumer)
                continue
            target = self._view.main.nodes[consumer.node]
            beside = split.place_beside(self._view.main, target, consumer.slot)
            anchor = tuple(name for name in place.control if name not in beside.control)
            inner = Builder(replace(beside, anchor=beside.anchor + anchor), self._names.prefix())
            nodes = rows.rewrite_gather(inner, self._tables, target, stored, site.dtype)
            edits += replace_by("", target.name, nodes)
        return edits + self._consumers(site, others, refs, Split(0, form.sizes))

    def _sizes(self, edits: Sequence[Edit]) -> Tuple[int, int, int]:
        """Bytes of the replaced nodes before, of the new nodes, and of shared tables among them."""
        before = after = tables = 0
        for edit in edits:
            size = len(header(1, edit.node.nbytes)) + edit.node.nbytes
            if edit.node.name.startswith(self._tables.prefixes):
                tables += size
                continue
            after += size
            old = self._view.scopes[edit.scope].nodes.get(edit.node.name)
            if old is not None:
                before += len(header(1, old.nbytes)) + old.nbytes
        return before, after, tables


def _same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return left.tobytes() == right.tobytes()  # a negative zero is another value


def _of_piece(values: Values, axis: int, begin: int, size: int) -> Values:
    """The values of constants that hold only a piece of a weight."""

    def of_piece(make: Make) -> Any:
        return values(lambda quantized: make(split.piece(quantized, axis, begin, size)))

    return of_piece


def _check_cuts(work: Sequence[Work]) -> None:
    cut: Set[str] = set()
    for item, site in work:
        if item.storage == DEQUANT and not isinstance(item.form, Whole):
            consumers = {consumer.node for consumer in site.consumers}
            if consumers & cut:
                raise InputError(
                    f"the plan cuts {min(consumers & cut)!r} for two weights: make a new plan"
                )
            cut |= consumers
