"""From a graph and a plan to what the converter is given: a quantized graph and its layers."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.mnn import lint
from graphwq.mnn.compress_params import Key, Record
from graphwq.mnn.lint import Layer
from graphwq.mnn.stored import as_floats
from graphwq.quant.scheme import DATA_FREE
from graphwq.rewrite.options import Options
from graphwq.rewrite.plan import BAKE, DEQUANT, Plan, Whole
from graphwq.rewrite.planner import plan_survey
from graphwq.rewrite.run import Progress, RewriteResult, rewrite_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.sites import Skip
from graphwq.survey.view import build

if TYPE_CHECKING:
    from graphwq.calibration import Calibrated, Wishes

#: What the converter reads: it has no FakeQuant op.
STORAGES = (BAKE, DEQUANT)
_NAMESPACE = uuid.UUID("6f1b1d39-4b0e-5c57-8b8c-5d4a1c1f2a77")


@dataclass(frozen=True)
class Prepared:
    """A quantized graph and what the converter will make of it.

    Attributes:
        graph: the original graph, its stored weights as floats.
        plan: what was done.
        result: the quantized graph.
        layers: every use of every weight.
        skips: the float constants that are no weights, or stay float, with the reason.
        uuid: for the model; the same for the same graph and plan.
        calibrated: what calibration did, where the plan asked for it.
    """

    graph: Graph
    plan: Plan
    result: RewriteResult
    layers: Tuple[Layer, ...]
    skips: Tuple[Skip, ...]
    uuid: str
    calibrated: Optional[Calibrated] = None

    def records(self, keep_float: bool = False) -> List[Record]:
        """The records of the compression file: one per quantized layer, each name once.

        Args:
            keep_float: also say of the other layers that they stay float, which is needed where the
                command has bits of its own.
        """
        found: Dict[Key, Record] = {}
        for layer in self.layers:
            if layer.name and (layer.is_quantized or keep_float):
                record = Record(layer.name, layer.subgraph, layer.num_bits, layer.block_size)
                known = found.setdefault(record.key, record)
                if known != record:
                    raise InputError(
                        f"two layers would be named {layer.name!r} and need different records: "
                        "quantize both or neither (--exclude)"
                    )
        return list(found.values())


def prepare(
    graph: Graph,
    plan: Optional[Plan] = None,
    options: Optional[Options] = None,
    storage: str = BAKE,
    wishes: Optional[Wishes] = None,
    progress: Optional[Progress] = None,
) -> Prepared:
    """Quantize a graph for the converter.

    Args:
        graph: a float graph, or one whose weights are stored as integers.
        plan: for this graph; its storage forms are replaced by ``storage``.
        options: how to plan where there is no plan; weights that are larger as integers in a
            ``.pb`` are quantized too, since in a ``.mnn`` they are not.
        storage: ``bake`` or ``dequant``, the form in which the converter gets the weights.
        wishes: how to calibrate, where the method asks for it; of a plan that was calibrated its
            own inputs are used.
        progress: called with (done, total, weight) after each weight.

    Raises:
        InputError: a broken graph, a plan of another graph, a storage that MNN cannot read, or
            calibration inputs that are not those of the plan.
        QuantizationError: a weight holds NaN or Inf.
        MissingDependencyError: the method needs TensorFlow, which is not installed.
    """
    if storage not in STORAGES:
        raise InputError(f"MNN cannot read the storage {storage!r}: use {' or '.join(STORAGES)}")
    digest = graph.digest
    made_for = digest if plan is None or plan.graph_digest is None else plan.graph_digest
    if made_for != digest:
        raise InputError(
            f"the plan was made for another graph (its digest is {made_for[:12]}..., this graph's "
            f"{digest[:12]}...): make a new plan"
        )
    is_given = plan is not None
    if plan is None:
        graph = as_floats(graph)
    view = build(graph)
    view.check()
    survey = locate_in(view)
    if plan is None:
        asked = replace(options or Options(), keep_larger=True, storage=storage)
        plan = plan_survey(view, survey, asked, None)
    items = tuple(replace(item, storage=storage, form=Whole()) for item in plan.items)
    plan = replace(plan, graph_digest=None, items=items)
    made: Optional[Calibrated] = None
    if all(item.scheme.method in DATA_FREE and not item.bias for item in items):
        plan = Plan(None, items, plan.skips)
        result = rewrite_surveyed(graph, view, survey.sites, plan, progress)
    else:
        from graphwq import calibration

        how = wishes or calibration.Wishes()
        how = how.as_made(plan) if is_given else how
        made = calibration.carry_out(graph, view, survey, plan, how, progress)
        plan, result = replace(made.plan, mixture=None), made.result
    layers = tuple(lint.layers(view, survey, result.quantized))
    name = f"{digest}:{replace(plan, graph_digest=digest).dumps()}"
    uid = str(uuid.uuid5(_NAMESPACE, name))
    return Prepared(graph, plan, result, layers, plan.skips, uid, made)
