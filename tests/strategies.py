"""Hypothesis strategies: weights, schemes, valid graphs as bytes, and damaged files."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorboard.compat.proto.function_pb2 import FunctionDef, GradientDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef
from tensorboard.compat.proto.versions_pb2 import VersionDef

from graphwq.errors import InputError
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantScheme

Shape = Tuple[int, ...]
FLOATS = (np.float16, np.float32, np.float64)


def _is_accepted(scale_bits: int) -> bool:
    try:
        QuantScheme(scale_bits=scale_bits)
    except InputError:
        return False
    return True


#: Every length of a scale that schemes accept.
SCALE_BITS = tuple(bits for bits in range(25) if _is_accepted(bits))

# ------------------------------------------------------------------------------------- weights


def _fill(value: float) -> Callable[[Shape, Any], np.ndarray]:
    return lambda shape, dtype: np.full(shape, value, dtype)


def _subnormals(shape: Shape, dtype: Any) -> np.ndarray:
    count = int(np.prod(shape))
    smallest = np.float64(np.finfo(np.float32 if dtype != np.float16 else np.float16).tiny)
    return (np.linspace(-1, 1, count) * smallest * 0.99).reshape(shape).astype(dtype)


def _huge(shape: Shape, dtype: Any) -> np.ndarray:
    largest = 6e4 if dtype == np.float16 else 1e38
    return (np.linspace(-1, 0.9, int(np.prod(shape))) * largest).reshape(shape).astype(dtype)


def _tiny(shape: Shape, dtype: Any) -> np.ndarray:
    """Around the magnitude at which the scale leaves the normal float32 numbers."""
    values = np.linspace(-1, 1, int(np.prod(shape))) * (1e-36 if dtype != np.float16 else 1e-4)
    return values.reshape(shape).astype(dtype)


def _outlier(shape: Shape, dtype: Any) -> np.ndarray:
    values = np.full(shape, 1e-3, dtype)
    values.reshape(-1)[-1] = 1000.0
    return values


def _half_steps(shape: Shape, dtype: Any) -> np.ndarray:
    """Values half way between two codes, where only round-half-to-even is right."""
    values = (np.arange(int(np.prod(shape))) % 253 - 126 + 0.5).astype(dtype)
    values[0] = 127.0
    return values.reshape(shape)


def _one_sided(shape: Shape, dtype: Any) -> np.ndarray:
    return np.linspace(0.25, 0.5, int(np.prod(shape))).reshape(shape).astype(dtype)


def _sparse(shape: Shape, dtype: Any) -> np.ndarray:
    values = np.zeros(int(np.prod(shape)), dtype)
    values[::5] = 0.3
    return values.reshape(shape)


#: Edge cases by name: function of shape and dtype.
EDGES: Dict[str, Callable[[Shape, Any], np.ndarray]] = {
    "zeros": _fill(0.0),
    "negative_zeros": _fill(-0.0),
    "constant": _fill(0.1),
    "negative_constant": _fill(-3.0),
    "subnormals": _subnormals,
    "1e38": _huge,
    "tiny": _tiny,
    "outlier": _outlier,
    "half_steps": _half_steps,
    "one_sided": _one_sided,
    "sparse": _sparse,
}


def shapes(max_rank: int = 4, max_side: int = 6) -> st.SearchStrategy[Shape]:
    """Shapes of 1..max_rank axes, none of size 0; (1,), a single element, among them."""
    return st.lists(st.integers(1, max_side), min_size=1, max_size=max_rank).map(tuple)


def gaussian(shape: Shape, dtype: Any, seed: int, std: float = 0.1) -> np.ndarray:
    """Seeded Gaussian values."""
    return (np.random.RandomState(seed).randn(*shape) * std).astype(dtype)


@st.composite
def weights(
    draw: st.DrawFn,
    dtypes: Sequence[Any] = FLOATS,
    max_rank: int = 4,
    max_side: int = 6,
    edges: bool = True,
) -> np.ndarray:
    """Finite weights: an edge case by name, Gaussian values, or any floats at all."""
    shape = draw(shapes(max_rank, max_side))
    dtype = draw(st.sampled_from(dtypes))
    kind = draw(st.sampled_from(["gaussian", "gaussian", "any", "edge"] if edges else ["gaussian"]))
    if kind == "edge":
        return EDGES[draw(st.sampled_from(sorted(EDGES)))](shape, dtype)
    if kind == "any" and int(np.prod(shape)) <= 48:
        width = np.dtype(dtype).itemsize * 8
        limit = 6e4 if width == 16 else 2.0**120
        elements = st.floats(-limit, limit, width=width)
        return draw(hnp.arrays(dtype, shape, elements=elements))
    std = draw(st.sampled_from([1e-3, 0.1, 5.0]))
    return gaussian(shape, dtype, draw(st.integers(0, 2**31 - 1)), std)


@st.composite
def granularities(draw: st.DrawFn, rank: int) -> Any:
    """Per tensor, per channel of any axes, or per group, fitting a weight of ``rank`` axes."""
    kind = draw(st.sampled_from(["tensor", "channel", "group"]))
    if kind == "tensor":
        return PerTensor()
    axes = draw(st.lists(st.integers(0, rank - 1), unique=True, max_size=rank).map(sorted))
    if kind == "channel" or len(axes) == rank:
        return PerChannel(tuple(axes))
    axis = draw(st.sampled_from([axis for axis in range(rank) if axis not in axes]))
    return PerGroup(tuple(axes), axis, draw(st.integers(1, 7)))


@st.composite
def schemes(draw: st.DrawFn, rank: int, scale_bits: Sequence[int] = (24, 16)) -> QuantScheme:
    """A scheme for a weight of ``rank`` axes."""
    return QuantScheme(
        draw(st.integers(2, 8)),
        draw(granularities(rank)),
        scale_bits=draw(st.sampled_from(scale_bits)),
    )


@st.composite
def weights_and_schemes(draw: st.DrawFn, **kwargs: Any) -> Tuple[np.ndarray, QuantScheme]:
    """A weight and a scheme that fits it."""
    scale_bits = kwargs.pop("scale_bits", (24, 16))
    weight = draw(weights(**kwargs))
    return weight, draw(schemes(weight.ndim, scale_bits))


# -------------------------------------------------------------------------------- graphs as bytes


def padded_varint(value: int, padding: int = 0) -> bytes:
    """A base-128 varint with ``padding`` superfluous bytes: legal, but no writer makes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value | (0x80 if padding else 0))
    for left in range(padding, 0, -1):
        out.append(0x80 if left > 1 else 0x00)
    return bytes(out)


def field(number: int, payload: bytes, padding: int = 0) -> bytes:
    """A length-delimited field whose length is written with ``padding`` superfluous bytes."""
    return padded_varint(number << 3 | 2) + padded_varint(len(payload), padding) + payload


#: Fields of numbers that no TensorFlow message has, one per wire type.
UNKNOWN_FIELDS = (
    padded_varint(1000 << 3 | 0) + b"\x96\x01",
    padded_varint(1001 << 3 | 1) + b"\x01\x02\x03\x04\x05\x06\x07\x08",
    padded_varint(1002 << 3 | 2) + b"\x05hello",
    padded_varint(1003 << 3 | 5) + b"\xff\xfe\xfd\xfc",
    padded_varint(1004 << 3 | 2) + b"\x00",
)

_NAMES = st.sampled_from(
    ["w", "conv1/weights", "x", "y_1", "scope/a/b", "gr\u00fc\u00df", "\u5377\u79ef", "n" * 130]
)
_OPS = st.sampled_from(["Const", "Identity", "MatMul", "Conv2D", "Placeholder", "NoOp", "MyOp"])
_INPUTS = st.lists(st.sampled_from(["w", "x:0", "^y_1", "conv1/weights:1", "missing"]), max_size=4)
_BYTES = st.binary(max_size=40)


@st.composite
def _attr_pieces(draw: st.DrawFn) -> List[bytes]:
    pieces = []
    for key in draw(st.lists(st.sampled_from(["dtype", "value", "T", "_x"]), max_size=3)):
        node = NodeDef()
        attr = node.attr[key]
        kind = draw(st.sampled_from(["type", "tensor", "list", "func", "shape", "s", "none"]))
        if kind == "type":
            attr.type = draw(st.sampled_from([1, 3, 19, 101]))
        elif kind == "tensor":
            values = gaussian(tuple(draw(shapes(3, 4))), np.float32, draw(st.integers(0, 99)))
            attr.tensor.dtype = 1
            for size in values.shape:
                attr.tensor.tensor_shape.dim.add().size = size
            attr.tensor.tensor_content = values.tobytes()
        elif kind == "list":
            attr.list.i.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)))
        elif kind == "func":
            attr.func.name = "f"
        elif kind == "shape":
            attr.shape.unknown_rank = True
        elif kind == "s":
            attr.s = draw(_BYTES)
        pieces.append(node.SerializeToString())
    return pieces


@st.composite
def node_defs(draw: st.DrawFn) -> bytes:
    """A NodeDef: fields in any order, names given twice, unknown fields in between."""
    pieces = [NodeDef(name=draw(_NAMES)).SerializeToString()]
    pieces.append(NodeDef(op=draw(_OPS)).SerializeToString())
    pieces += [NodeDef(input=[item]).SerializeToString() for item in draw(_INPUTS)]
    if draw(st.booleans()):
        pieces.append(NodeDef(device=draw(st.sampled_from(["/cpu:0", ""]))).SerializeToString())
    if draw(st.integers(0, 9)) == 0:
        pieces.append(NodeDef(name=draw(_NAMES)).SerializeToString())
    pieces += draw(_attr_pieces())
    pieces += draw(st.lists(st.sampled_from(UNKNOWN_FIELDS), max_size=2))
    if draw(st.booleans()):
        pieces = draw(st.permutations(pieces))
    return b"".join(pieces)


_LENGTH_PADDING = st.sampled_from([0, 0, 0, 1, 2])


@st.composite
def function_defs(draw: st.DrawFn) -> bytes:
    """A FunctionDef: signature, body, returns and unknown fields in any order."""
    signature = FunctionDef()
    signature.signature.name = draw(st.sampled_from(["f", "g", "branch_true"]))
    for name in draw(st.lists(st.sampled_from(["a", "b", "w_in"]), unique=True, max_size=3)):
        signature.signature.input_arg.add(name=name, type=1)
    pieces = [signature.SerializeToString()]
    for body in draw(st.lists(node_defs(), max_size=2)):
        pieces.append(field(3, body, draw(_LENGTH_PADDING)))
    if draw(st.booleans()):
        returns = FunctionDef()
        returns.ret["out"] = "y:0"
        pieces.append(returns.SerializeToString())
    pieces += draw(st.lists(st.sampled_from(UNKNOWN_FIELDS), max_size=1))
    return b"".join(draw(st.permutations(pieces)))


@st.composite
def libraries(draw: st.DrawFn) -> bytes:
    """A FunctionDefLibrary: functions, gradients and unknown fields in any order."""
    pieces = [
        field(1, body, draw(_LENGTH_PADDING))
        for body in draw(st.lists(function_defs(), max_size=2))
    ]
    if draw(st.booleans()):
        gradient = GradientDef(function_name="f", gradient_func="g").SerializeToString()
        pieces.append(field(2, gradient))
    pieces += draw(st.lists(st.sampled_from(UNKNOWN_FIELDS), max_size=1))
    return b"".join(draw(st.permutations(pieces)))


@st.composite
def graph_bytes(draw: st.DrawFn, max_nodes: int = 5) -> bytes:
    """A valid GraphDef as no writer would write it.

    Odd field order, unknown fields of all wire types, several library and versions fields, lengths
    in more bytes than they need, and the deprecated varint field 3.
    """
    pieces = [
        field(1, body, draw(_LENGTH_PADDING))
        for body in draw(st.lists(node_defs(), max_size=max_nodes))
    ]
    pieces += [
        field(2, body, draw(_LENGTH_PADDING)) for body in draw(st.lists(libraries(), max_size=2))
    ]
    for producer in draw(st.lists(st.integers(0, 2000), max_size=2)):
        versions = VersionDef(producer=producer).SerializeToString()
        pieces.append(field(4, versions, draw(_LENGTH_PADDING)))
    if draw(st.booleans()):
        pieces.append(b"\x18" + padded_varint(draw(st.integers(0, 30)), draw(st.integers(0, 4))))
    pieces += draw(st.lists(st.sampled_from(UNKNOWN_FIELDS), max_size=2))
    return b"".join(draw(st.permutations(pieces)))


# ---------------------------------------------------------------------------------- damaged files


@st.composite
def mutated(draw: st.DrawFn, sources: Sequence[bytes]) -> bytes:
    """One of ``sources`` after one to four accidents: cut, bit flips, splices, garbage."""
    data = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 4))):
        _damage(draw, data, sources)
    return bytes(data)


def _damage(draw: st.DrawFn, data: bytearray, sources: Sequence[bytes]) -> None:
    kind = draw(
        st.sampled_from(["truncate", "flip", "set", "delete", "repeat", "splice", "insert"])
    )
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    if kind == "truncate":
        del data[place:]
    elif kind == "flip" and data:
        data[place] ^= 1 << draw(st.integers(0, 7))
    elif kind == "set" and data:
        data[place] = draw(st.sampled_from([0x00, 0x01, 0x7F, 0x80, 0xFF]))
    elif kind == "delete":
        del data[place : place + draw(st.integers(1, 20))]
    elif kind == "repeat":
        data[place:place] = data[place : place + draw(st.integers(1, 200))]
    elif kind == "splice":
        other = draw(st.sampled_from(sources))
        start = draw(st.integers(0, max(len(other) - 1, 0)))
        data[place:place] = other[start : start + draw(st.integers(1, 200))]
    elif kind == "insert":
        data[place:place] = draw(_BYTES)
