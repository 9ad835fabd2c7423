"""A graph whose weights are stored as integers, with the weights as float constants again.

A weight of the ``dequant`` or ``fake_quant`` form is replaced, under its own name, by the constant
that its nodes compute. Planning and naming then work as on the graph it was made from.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Set

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_const
from graphwq.graphdef.node import CONTROL, Node, TensorRef, attr_of_type
from graphwq.rewrite.decode import StoredWeight, stored_weights
from graphwq.survey.view import ScopeView, build


def as_floats(graph: Graph) -> Graph:
    """The same graph with every stored weight of the main graph as a float Const.

    Raises:
        InputError: a broken graph.
    """
    view = build(graph)
    found = [item for item in stored_weights(view) if ":" not in item.weight]
    names = {item.weight for item in found} & set(view.main.nodes)
    if not names:
        return graph
    changed: Dict[str, Sequence[Node]] = {
        item.weight: [_constant(view.main.nodes[item.weight], item)]
        for item in found
        if item.weight in names
    }
    changed.update((name, ()) for name in _unused(view.main, names))
    return graph.edited({"": changed})


def _constant(node: Node, item: StoredWeight) -> Node:
    dtype = attr_of_type(node, "DstT") or attr_of_type(node, "T") or dtypes.DT_FLOAT
    dtype = dtype if dtype in dtypes.QUANTIZABLE else dtypes.DT_FLOAT  # of a graph that is broken
    values = np.ascontiguousarray(item.values()).astype(dtypes.NUMPY[dtype])
    control = node.control_inputs
    return new_const(node.name, dtype, values.shape, values, control, None, node.device)


def _unused(view: ScopeView, names: Set[str]) -> List[str]:
    """The nodes that only the replaced ones needed."""
    gone: Set[str] = set()
    pending = [
        TensorRef.parse(item).node for name in names for item in view.nodes[name].data_inputs
    ]
    while pending:
        name = pending.pop()
        node = view.nodes.get(name)
        if node is None or name in gone or name in names:
            continue
        uses = list(view.uses(name))
        if all(use.node.name in gone or use.node.name in names for use in uses):
            if any(use.slot == CONTROL and use.node.name in names for use in uses):
                continue  # the constant keeps this control input
            gone.add(name)
            pending.extend(TensorRef.parse(item).node for item in node.data_inputs)
    return [name for name in view.nodes if name in gone]
