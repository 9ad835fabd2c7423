"""Batch normalization that takes its statistics from the batch it is given.

A graph that was frozen in training mode has it: samples that are run together change each other.
"""

from __future__ import annotations

from graphwq.graphdef.node import CONTROL, Node, attr_of_bool, producer
from graphwq.survey.view import ScopeView

#: Ops that shift a channel as a whole, or not at all.
_SHIFTS = ("BiasAdd", "Add", "AddV2", "Identity")
BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def has_by_batch(view: ScopeView) -> bool:
    """Whether a graph normalizes by the batch."""
    return any(map(by_batch, view.scope.nodes))


def by_batch(node: Node) -> bool:
    """Whether an op normalizes by the statistics of the batch that it is given."""
    if node.op not in BATCH_NORMS:
        return False
    return "is_training" not in node.attr_bytes() or attr_of_bool(node, "is_training")


def loses_its_mean(view: ScopeView, node: str) -> bool:
    """Whether all that reads an op's output takes the mean of each channel off it.

    So does batch normalization by the batch, also behind a bias.
    """
    uses = [use for use in view.uses(node) if use.slot != CONTROL]
    while len(uses) == 1 and uses[0].node.op in _SHIFTS:
        if uses[0].node.op in ("Add", "AddV2") and not _adds_constant(view, uses[0].node):
            return False
        uses = [use for use in view.uses(uses[0].node.name) if use.slot != CONTROL]
    return bool(uses) and all(use.slot == 0 and by_batch(use.node) for use in uses)


def _adds_constant(view: ScopeView, node: Node) -> bool:
    producers = [view.nodes.get(producer(item)[0]) for item in node.data_inputs]
    return any(one is not None and one.op == "Const" for one in producers)
