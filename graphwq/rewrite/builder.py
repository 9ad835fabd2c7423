"""Making the nodes that take the place of one node, in the main graph or in a function body."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from operator import mul
from typing import Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from graphwq.graphdef import dtypes
from graphwq.graphdef.newnode import Data, attr_bool, attr_int, attr_type, new_const, new_node
from graphwq.graphdef.node import Node, private_attrs
from graphwq.graphdef.wire import Buffer

#: The name of the first output of each op that graphwq makes; function bodies refer to it.
_OUTPUT: Dict[str, str] = {
    "Add": "z",
    "Cast": "y",
    "FakeQuantWithMinMaxVars": "outputs",
    "FakeQuantWithMinMaxVarsPerChannel": "outputs",
    "Floor": "y",
    "FloorMod": "z",
    "Mul": "z",
    "Transpose": "y",
}
_DEFAULT_OUTPUT = "output"

Shape = Tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """What new nodes inherit from the node they replace.

    Control inputs go to every new constant: a constant inside the frame of a while loop or a branch
    must stay there. ``anchor`` are further control inputs for constants alone, which put them into
    the frame of an op that has none itself.
    """

    scope: str
    name: str
    device: str
    control: Tuple[str, ...]
    attrs: Mapping[str, Buffer]
    anchor: Tuple[str, ...] = ()

    @classmethod
    def of(cls, scope: str, node: Node) -> Place:
        """The place of a node."""
        return cls(scope, node.name, node.device, node.control_inputs, private_attrs(node))


@dataclass
class Builder:
    """Collects the nodes that replace the node at ``place``; inner names start with ``prefix``.

    Attributes that have their op's default value are left out; TensorFlow puts them in.
    """

    place: Place
    prefix: str
    nodes: List[Node] = field(default_factory=list)
    _hollow: int = 0

    def ref(self, name: str, op: str) -> str:
        """How an input names the output of a node of this scope."""
        if not self.place.scope:
            return name
        return f"{name}:{_OUTPUT.get(op, _DEFAULT_OUTPUT)}:0"

    def const(self, name: str, dtype: int, shape: Shape, data: Data) -> str:
        """Add a constant ``prefix/name``; without data it only has a size (see ``nbytes``)."""
        full = f"{self.prefix}/{name}"
        control = self.place.control + self.place.anchor
        self.nodes.append(new_const(full, dtype, shape, data, control, device=self.place.device))
        if data is None:
            self._hollow += _nbytes(dtype, shape)
        return self.ref(full, "Const")

    def ints(self, name: str, values: Union[int, Sequence[int], np.ndarray]) -> str:
        """Add an int32 constant: a number or a list of numbers."""
        data = np.asarray(values, np.int32)
        return self.const(name, dtypes.DT_INT32, data.shape, data)

    def floats(self, name: str, values: Union[np.floating, np.ndarray]) -> str:
        """Add a float32 constant."""
        data = np.asarray(values, np.float32)
        return self.const(name, dtypes.DT_FLOAT, data.shape, data)

    def op(self, name: str, op: str, inputs: Sequence[str], **attrs: Buffer) -> str:
        """Add a node ``prefix/name``."""
        full = f"{self.prefix}/{name}"
        self.nodes.append(new_node(full, op, tuple(inputs), attrs, self.place.device))
        return self.ref(full, op)

    def final(self, op: str, inputs: Sequence[str], **attrs: Buffer) -> None:
        """Add the node that carries the original name.

        In a function body consumers name the output as well; where the op's is another than the
        original's, an Identity stands behind it.
        """
        if self.place.scope and _OUTPUT.get(op, _DEFAULT_OUTPUT) != _DEFAULT_OUTPUT:
            value = self.op("value", op, inputs, **attrs)
            dtype = attrs["DstT"] if op == "Cast" else attrs["T"]
            op, inputs, attrs = "Identity", (value,), {"T": dtype}
        self.nodes.append(
            new_node(
                self.place.name,
                op,
                tuple(inputs) + self.place.control,
                {**self.place.attrs, **attrs},
                self.place.device,
            )
        )

    @property
    def nbytes(self) -> int:
        """Bytes that the nodes take in the file, the values of hollow constants included."""
        framing = 6  # tag and length of a field
        return sum(node.nbytes + framing for node in self.nodes) + self._hollow

    # The ops of the decoding arithmetic, with their attributes.

    def cast(self, name: str, value: str, source: int, target: int) -> str:
        """Cast."""
        return self.op(name, "Cast", (value,), SrcT=attr_type(source), DstT=attr_type(target))

    def gather(self, name: str, table: str, indices: str, dtype: int, index: int) -> str:
        """Gather rows of a table (op ``Gather``: axis 0)."""
        return self.op(
            name, "Gather", (table, indices), Tparams=attr_type(dtype), Tindices=attr_type(index)
        )

    def gather_axis(self, name: str, table: str, indices: np.ndarray, axis: int) -> str:
        """Gather float32 slices along any axis by constant indices."""
        index = self.ints(f"{name}_index", indices)
        place = self.ints(f"{name}_axis", axis)
        return self.op(
            name,
            "GatherV2",
            (table, index, place),
            Tparams=attr_type(dtypes.DT_FLOAT),
            Tindices=attr_type(dtypes.DT_INT32),
            Taxis=attr_type(dtypes.DT_INT32),
        )

    def reshape(self, name: str, value: str, shape: str, dtype: int) -> str:
        """Reshape to the shape that ``shape`` names."""
        return self.op(name, "Reshape", (value, shape), T=attr_type(dtype))

    def slice(
        self,
        name: str,
        value: str,
        begin: Sequence[int],
        size: Sequence[int],
        dtype: int = dtypes.DT_FLOAT,
    ) -> str:
        """Slice of a tensor; a size of -1 reaches to the end."""
        return self.op(
            name,
            "Slice",
            (value, self.ints(f"{name}_begin", begin), self.ints(f"{name}_size", size)),
            T=attr_type(dtype),
            Index=attr_type(dtypes.DT_INT32),
        )

    def binary(self, name: str, op: str, left: str, right: str) -> str:
        """Element-wise arithmetic on float32."""
        return self.op(name, op, (left, right), T=attr_type(dtypes.DT_FLOAT))


def concat_attrs(count: int, dtype: int) -> Dict[str, bytes]:
    """The attributes of a ConcatV2 of ``count`` tensors."""
    return {"N": attr_int(count), "T": attr_type(dtype)}


def fake_quant_attrs(num_bits: int) -> Dict[str, bytes]:
    """The attributes of a FakeQuant op on a symmetric grid."""
    return {"num_bits": attr_int(num_bits), "narrow_range": attr_bool(True)}


def _nbytes(dtype: int, shape: Shape) -> int:
    return reduce(mul, shape, 1) * dtypes.NUMPY[dtype].itemsize
