"""Batch normalization that takes its statistics from the batch it is given.

A graph that was frozen in training mode has it: samples that are run together change each other.
"""

from __future__ import annotations

from graphwq.graphdef.node import Node, attr_of_bool

_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


def by_batch(node: Node) -> bool:
    """Whether an op normalizes by the statistics of the batch that it is given."""
    if node.op not in _BATCH_NORMS:
        return False
    return "is_training" not in node.attr_bytes() or attr_of_bool(node, "is_training")
