"""Carrying out an insertion: the fake-quantized tensor takes the place of the original one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphwq.tf1.insert import FakeQuant, fake_quant
from graphwq.tf1.live import OUTPUT_MARK, creating, mark
from graphwq.tf1.load import training_tensorflow as tensorflow
from graphwq.tf1.sites import GATHERED, ROWS, Insertion

#: Values of OUTPUT_MARK: how stripping finds the original inputs again.
TENSOR_OUTPUT, ROWS_OUTPUT = "tensor", "rows"


@dataclass(frozen=True)
class Inserted:
    """An insertion that was carried out.

    Attributes:
        insertion: what was asked for.
        fake_quant: its tensors (of the gathered rows where only these are quantized).
        output: what the ops of the edges read now: the quantized values, or the original ones in a
            session that is stripped.
    """

    insertion: Insertion
    fake_quant: FakeQuant
    output: Any


def place(graph: Any, insertion: Insertion, stripped: Any, bits: int, epsilon: float) -> Inserted:
    """Insert one fake-quantization into a live graph."""
    if insertion.kind == ROWS:
        return _place_rows(graph, insertion, stripped, bits, epsilon)
    tf = tensorflow()
    tensor = insertion.tensor
    with creating(graph, tensor.op.name, tensor.op):
        if insertion.kind == GATHERED and insertion.kept_axes != (0,):
            handle, indices = tensor.op.inputs
            table = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tensor.dtype)
            made = fake_quant(table, insertion.reduced, bits, epsilon)
            value = tf.gather(made.value, indices)
        else:
            made = fake_quant(tensor, insertion.reduced, bits, epsilon)
            value = made.value
        output = tf.where(stripped, tensor, value, name="weight")
        mark(output.op, OUTPUT_MARK, TENSOR_OUTPUT)
    for op, slot in insertion.edges:
        op._update_input(slot, output)
    return Inserted(insertion, made, output)


def _place_rows(
    graph: Any, insertion: Insertion, stripped: Any, bits: int, epsilon: float
) -> Inserted:
    """Gather(table, ids) becomes Gather(fake_quant(rows), range), rows = table[ids].

    The output of the op stays the tensor that the program holds, the gradient of the table stays
    sparse, and only the rows in use are computed.
    """
    tf = tensorflow()
    ((gather, slot),) = insertion.edges
    indices = gather.inputs[1]
    with creating(graph, gather.name, gather):
        flat = tf.reshape(indices, [-1], name="flat")
        rows = tf.gather(insertion.tensor, flat, axis=0, name="rows")
        made = fake_quant(rows, insertion.reduced, bits, epsilon)
        output = tf.where(stripped, rows, made.value, name="weight")
        mark(output.op, OUTPUT_MARK, ROWS_OUTPUT)
        count = tf.range(tf.size(flat, out_type=flat.dtype), name="count")
        places = tf.reshape(count, tf.shape(indices), name="places")
    gather._update_input(slot, output)
    gather._update_input(1, places)
    return Inserted(insertion, made, output)
