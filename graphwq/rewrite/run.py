"""Carrying out a plan: weights to codes, codes to nodes, nodes to a new graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import release
from graphwq.graphdef.node import Node
from graphwq.graphdef.source import save
from graphwq.graphdef.wire import header
from graphwq.quant.metrics import WeightError
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
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Skip, Source, WeightSite
from graphwq.survey.view import View, build

#: Called with (done, total, weight) after each weight.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class WeightResult:
    """What became of one weight.

    Attributes:
        item: what the plan said.
        error: of the quantized values against the original ones.
        bytes_before, bytes_after: in the file, scales and added nodes included, shared decoding
            tables not.
        changed: False where the weight was already what the plan asks for.
        shift: what the bias of the layer was changed by; None where it was not.
    """

    item: PlanItem
    error: WeightError
    bytes_before: int
    bytes_after: int
    changed: bool
    shift: Optional[Shift] = None

    def to_json(self) -> Dict[str, Any]:
        """The result as JSON data; ``sqnr_db`` is null where there is no error at all."""
        sqnr = self.error.sqnr_db
        corrected = {}
        if self.shift is not None:
            corrected = {"bias": self.item.bias, "bias_shift": self.shift.largest}
        return {
            "weight": self.item.weight,
            "num_bits": self.item.scheme.num_bits,
            "storage": self.item.storage,
            "sqnr_db": sqnr if math.isfinite(sqnr) else None,
            "max_abs_error": self.error.max_abs_error,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            **corrected,
        }


@dataclass(frozen=True)
class RewriteResult:
    """The outcome of a rewrite.

    Attributes:
        graph: the new graph.
        edits: what changed, as data.
        weights: what became of each weight of the plan, in its order.
        quantized: codes and scales by weight; empty where they were not to be kept.
        skips: what was left as it is, with reasons.
        modified: False where nothing changed; then ``graph`` is the original.
        shared_bytes: bytes of the decoding tables that several weights share.
        edit_counts: how many of ``edits`` are for each of ``weights``.
        mixture: what the widths were chosen by, where a target asked for it.
    """

    graph: Graph
    edits: Tuple[Edit, ...]
    weights: Tuple[WeightResult, ...]
    quantized: Dict[str, QuantizedTensor]
    skips: Tuple[Skip, ...]
    modified: bool
    shared_bytes: int
    edit_counts: Tuple[int, ...]
    mixture: Optional[Mixture] = None

    def save(self, path: Union[str, Path], force: bool = False) -> int:
        """Write the new graph atomically; return the number of bytes.

        Raises:
            InputError: the file exists and ``force`` is not set, or it cannot be written.
        """
        return save(self.graph, path, force)


def rewrite(
    graph: Graph, plan: Plan, progress: Optional[Progress] = None, keep_codes: bool = True
) -> RewriteResult:
    """Carry out a plan; ``keep_codes`` keeps the codes a second time, beside the new graph.

    Raises:
        InputError: the plan is for another graph or does not fit this one.
        QuantizationError: a weight holds NaN or Inf.
    """
    if plan.graph_digest is not None and plan.graph_digest != graph.digest:
        raise InputError(
            "the plan was made for another graph (its digest is "
            f"{plan.graph_digest[:12]}..., this graph's {graph.digest[:12]}...): make a new plan"
        )
    view = build(graph)
    view.check()
    sites = {site.weight: site for site in locate_in(view).sites}
    return _Rewriter(graph, view, sites).run(plan, progress, keep_codes)


def rewrite_surveyed(
    graph: Graph,
    view: View,
    sites: Sequence[WeightSite],
    plan: Plan,
    progress: Optional[Progress] = None,
    keep_codes: bool = True,
) -> RewriteResult:
    """Carry out a plan on a graph that is already surveyed; see ``rewrite``."""
    rewriter = _Rewriter(graph, view, {site.weight: site for site in sites})
    return rewriter.run(plan, progress, keep_codes)


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


def rebuild(
    graph: Graph,
    view: View,
    sites: Sequence[WeightSite],
    plan: Plan,
    given: Mapping[str, Given],
) -> RewriteResult:
    """Carry out a plan with codes that come from elsewhere; ``given`` has them by weight.

    Raises:
        InputError: the plan does not fit this graph.
    """
    rewriter = _Rewriter(graph, view, {site.weight: site for site in sites}, given)
    return rewriter.run(plan, None)


class _Rewriter:
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

    def run(
        self, plan: Plan, progress: Optional[Progress], keep_codes: bool = True
    ) -> RewriteResult:
        edits: List[Edit] = []
        weights: List[WeightResult] = []
        quantized: Dict[str, QuantizedTensor] = {}
        counts: List[int] = []
        shared = 0
        work = [(item, self._site(item)) for item in plan.items]
        _check_cuts(work)
        computed = in_order(lambda pair: self._quantize(*pair), work)
        for number, ((item, site), (codes, error)) in enumerate(zip(work, computed), 1):
            node = self._node(site)
            there = self._given.get(item.weight)
            if there is not None and there.prefix is not None:
                self._names.go_on_from(there.prefix)
            own = self._edits(site, node, item, codes)
            before, after, tables = self._sizes(own)
            shared += tables
            shift = None if there is None else there.shift
            if shift is not None:
                bias = bake.shifted(self._view.main.nodes[item.bias], shift)
                own += replace_by("", bias.name, [bias])
            sizes = before or site.nbytes, after or site.nbytes
            weights.append(WeightResult(item, error, *sizes, bool(own), shift))
            if keep_codes:
                quantized[item.weight] = codes
            edits.extend(own)
            counts.append(len(own))
            if progress is not None:
                progress(number, len(plan.items), item.weight)
        graph = apply(self._graph, edits) if edits else self._graph
        invariants.check(self._graph, graph, edits)
        return RewriteResult(
            graph,
            tuple(edits),
            tuple(weights),
            quantized,
            plan.skips,
            bool(edits),
            shared,
            tuple(counts),
            plan.mixture,
        )

    def _site(self, item: PlanItem) -> WeightSite:
        site = self._sites.get(item.weight)
        if site is None or site.source is not Source.CONST:
            raise InputError(
                f"the plan names {item.weight!r}, which is no constant weight of this graph: make "
                "a new plan"
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
        if item.bias:
            raise InputError(
                f"the plan corrects {item.bias!r}, the bias of {item.weight!r}, by what the layer "
                "sees: give inputs with --calibration"
            )
        tensor = self._view.tensor(site)
        quantized, error = quantize_weight(item.weight, tensor.numpy(), item.scheme)
        if tensor.content is not None:
            release(tensor.content)
        return quantized, error

    def _edits(
        self, site: WeightSite, node: Node, item: PlanItem, quantized: QuantizedTensor
    ) -> Tuple[Edit, ...]:
        if item.storage == BAKE:
            baked = bake.build(node, site.dtype, quantized)
            return (
                () if bake.same_values(node, baked) else replace_by(site.scope, node.name, [baked])
            )
        if item.storage == DEQUANT and isinstance(item.form, Split):
            return self._split(site, node, item, quantized, item.form)
        if item.storage == DEQUANT and isinstance(item.form, Rows):
            return self._rows(site, node, item, quantized, item.form)
        builder = Builder(Place.of(site.scope, node), self._names.prefix())
        if item.storage == DEQUANT:
            dequant.build(builder, self._tables, site.shape, site.dtype, item, quantized)
        else:
            fake_quant.build(builder, site.dtype, quantized)
        return replace_by(site.scope, node.name, builder.nodes)

    def _split(
        self,
        site: WeightSite,
        node: Node,
        item: PlanItem,
        quantized: QuantizedTensor,
        form: Split,
    ) -> Tuple[Edit, ...]:
        place = Place.of(site.scope, node)
        nodes: List[Node] = []
        refs = []
        for piece in split.pieces(quantized, form):
            prefix = self._names.prefix()
            inner = Builder(Place("", f"{prefix}/value", place.device, place.control, {}), prefix)
            shape = piece.codes.shape
            dequant.build(inner, self._tables, shape, site.dtype, item, piece)
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
        quantized: QuantizedTensor,
        form: Rows,
    ) -> Tuple[Edit, ...]:
        place = Place.of(site.scope, node)
        builder = Builder(place, self._names.prefix())
        stored = rows.store(builder, site.shape, item.scheme, item.stored_bits, quantized)
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


def _check_cuts(work: Sequence[Tuple[PlanItem, WeightSite]]) -> None:
    cut: Set[str] = set()
    for item, site in work:
        if item.storage == DEQUANT and not isinstance(item.form, Whole):
            consumers = {consumer.node for consumer in site.consumers}
            if consumers & cut:
                raise InputError(
                    f"the plan cuts {min(consumers & cut)!r} for two weights: make a new plan"
                )
            cut |= consumers
