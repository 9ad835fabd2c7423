"""How an op multiplies its weights: which values of the weight meet which values of the input.

For each op two sides of one thing: ``arrange`` brings the weight operand into rows (one per
output), ``unfold`` the activation into the vectors that these rows are multiplied with, in the same
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from graphwq.calibrate.patches import rows_of, same_pads, windows
from graphwq.errors import UnsupportedError
from graphwq.graphdef.node import Node, attr_of_bool
from graphwq.survey.sites import Consumer

#: Vectors taken of one activation at most, and multiplications of one product of them that make it
#: fewer; but never fewer than half as many as a vector has numbers, lest they say too little.
POSITIONS = 1 << 13
_WORK = 5 * 10**9


def positions(columns: int) -> int:
    """How many vectors of so many numbers are taken of one activation."""
    return min(POSITIONS, max(_WORK // max(columns, 1) ** 2, columns // 2, 1))


@dataclass(frozen=True)
class Block:
    """Independent problems of one size within one op.

    Attributes:
        arrange: operand of the op -> [problems, rows, n].
        unfold: activation -> [problems, positions, n].
    """

    arrange: Callable[[np.ndarray], np.ndarray]
    unfold: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Geometry:
    """An op with a weight.

    Attributes:
        activation: data input that the weights are multiplied with.
        blocks: the problems, for the shape of the operand.
    """

    activation: int
    blocks: Callable[[Sequence[int]], List[Block]]


def geometry(node: Node, consumer: Consumer) -> Geometry:
    """The geometry of a consumer.

    Raises:
        UnsupportedError: an op or a form of it that is not known here.
    """
    make = _OPS.get(node.op)
    if make is None:
        raise UnsupportedError(_WHY_NOT.get(node.op, f"{node.op} is not calibrated"))
    found = make(node, consumer.slot)
    if found is None:
        raise UnsupportedError(f"{node.op} takes its weight as input {consumer.slot}")
    return found


_EMBEDDING = "an embedding table: a row meets no input that could weigh its errors"
_WHY_NOT = {
    "Gather": _EMBEDDING,
    "GatherV2": _EMBEDDING,
    "ResourceGather": _EMBEDDING,
    "LSTMBlockCell": "the cell keeps its state and gates inside one op",
    "BlockLSTM": "the time steps are inside one op",
    "BlockLSTMV2": "the time steps are inside one op",
    "GRUBlockCell": "the cell keeps its state and gates inside one op",
}


def _ints(node: Node, key: str, count: int) -> Tuple[int, ...]:
    attr = node.attr(key)
    found = tuple(int(item) for item in attr.list.i) if attr is not None else ()
    return found or (1,) * count


def _text(node: Node, key: str, default: str) -> str:
    attr = node.attr(key)
    return attr.s.decode("ascii", "replace") if attr is not None and attr.s else default


@dataclass(frozen=True)
class _Window:
    """Attributes of a convolution, for the spatial axes only."""

    strides: Tuple[int, ...]
    dilations: Tuple[int, ...]
    padding: str
    explicit: Tuple[Tuple[int, int], ...]
    channels_first: bool

    def last(self, value: np.ndarray) -> np.ndarray:
        """The activation with its channels last."""
        return np.moveaxis(value, 1, -1) if self.channels_first else value

    def cut(self, value: np.ndarray, kernel: Tuple[int, ...], limit: int) -> np.ndarray:
        """At most ``limit`` windows [windows, *kernel, channels] of an activation."""
        value = self.last(value)
        pads = ((0, 0),) * len(kernel)
        if self.padding == "SAME":
            pads = same_pads(value.shape[1:-1], kernel, self.strides, self.dilations)
        elif self.padding == "EXPLICIT":
            pads = self.explicit
        view = windows(value, kernel, self.strides, self.dilations, pads)
        return rows_of(view, len(kernel), limit)


def _window(node: Node, rank: int) -> _Window:
    layout = _text(node, "data_format", "NHWC" if rank == 2 else "NDHWC")
    first = layout.startswith("NC")
    inner = slice(2, None) if first else slice(1, -1)
    pads = _ints(node, "explicit_paddings", 0)
    pairs = tuple(zip(pads[::2], pads[1::2]))[inner]
    return _Window(
        _ints(node, "strides", rank + 2)[inner],
        _ints(node, "dilations", rank + 2)[inner],
        _text(node, "padding", "VALID"),
        pairs,
        first,
    )


def _convolution(rank: int) -> Callable[[Node, int], Optional[Geometry]]:
    def make(node: Node, slot: int) -> Optional[Geometry]:
        window = _window(node, rank)

        def arrange(operand: np.ndarray) -> np.ndarray:
            return operand.reshape(-1, operand.shape[-1]).T[None]

        def blocks(shape: Sequence[int]) -> List[Block]:
            kernel, inputs = tuple(shape[:rank]), shape[rank]

            def unfold(value: np.ndarray) -> np.ndarray:
                rows = window.cut(value, kernel, positions(reduce(mul, shape[:-1])))
                if rows.shape[-1] != inputs:
                    raise UnsupportedError(
                        f"the input has {rows.shape[-1]} channels, the weight {inputs}"
                    )
                return rows.reshape(1, len(rows), -1)

            return [Block(arrange, unfold)]

        return Geometry(0, blocks) if slot == 1 else None

    return make


def _depthwise(node: Node, slot: int) -> Optional[Geometry]:
    window = _window(node, 2)

    def arrange(operand: np.ndarray) -> np.ndarray:
        height, width, channels, multiplier = operand.shape
        return operand.transpose(2, 3, 0, 1).reshape(channels, multiplier, height * width)

    def blocks(shape: Sequence[int]) -> List[Block]:
        def unfold(value: np.ndarray) -> np.ndarray:
            rows = window.cut(value, tuple(shape[:2]), positions(shape[0] * shape[1]))
            return np.ascontiguousarray(rows.reshape(len(rows), -1, shape[2]).transpose(2, 0, 1))

        return [Block(arrange, unfold)]

    return Geometry(0, blocks) if slot == 1 else None


def _transposed(node: Node, slot: int) -> Optional[Geometry]:
    """Each phase (output position modulo stride) is a convolution of its own.

    It sees every stride-th tap of the kernel over the input as it is; no other phase sees those.
    """
    window = _window(node, 2)

    def taps(shape: Sequence[int]) -> Dict[Tuple[int, int], List[Tuple[int, int]]]:
        groups: Dict[Tuple[int, int], List[Tuple[int, int]]] = {}
        for down in range(min(window.strides[0], shape[0])):
            for across in range(min(window.strides[1], shape[1])):
                size = (
                    len(range(down, shape[0], window.strides[0])),
                    len(range(across, shape[1], window.strides[1])),
                )
                groups.setdefault(size, []).append((down, across))
        return groups

    def block(size: Tuple[int, int], phases: List[Tuple[int, int]]) -> Block:
        def arrange(operand: np.ndarray) -> np.ndarray:
            rows = []
            for down, across in phases:
                own = operand[down :: window.strides[0], across :: window.strides[1]]
                rows.append(own.transpose(2, 0, 1, 3).reshape(operand.shape[2], -1))
            return np.stack(rows)

        def unfold(value: np.ndarray) -> np.ndarray:
            value = window.last(value)
            pads = tuple((taps - 1, taps - 1) for taps in size)
            view = windows(value, size, (1, 1), (1, 1), pads)[:, :, :, ::-1, ::-1]
            columns = size[0] * size[1] * value.shape[-1]
            rows = rows_of(view, 2, positions(columns)).reshape(1, -1, columns)
            return np.broadcast_to(rows, (len(phases), *rows.shape[1:]))

        return Block(arrange, unfold)

    def blocks(shape: Sequence[int]) -> List[Block]:
        if window.dilations != (1, 1):
            raise UnsupportedError("a transposed convolution with dilation is not calibrated")
        return [block(size, phases) for size, phases in taps(shape).items()]

    return Geometry(2, blocks) if slot == 1 else None


def _matmul(left_key: str, right_key: str) -> Callable[[Node, int], Optional[Geometry]]:
    def make(node: Node, slot: int) -> Optional[Geometry]:
        flip_left, flip_right = attr_of_bool(node, left_key), attr_of_bool(node, right_key)

        def turned(value: np.ndarray, turn: bool) -> np.ndarray:
            return value.swapaxes(-1, -2) if turn else value

        def arrange(operand: np.ndarray) -> np.ndarray:
            rows = turned(operand, flip_left if slot == 0 else not flip_right)
            return rows.reshape(-1, *rows.shape[-2:])

        def blocks(shape: Sequence[int]) -> List[Block]:
            outer = tuple(shape[:-2])

            def unfold(value: np.ndarray) -> np.ndarray:
                rows = turned(value, not flip_right if slot == 0 else flip_left)
                if not outer:
                    rows = rows.reshape(1, -1, rows.shape[-1])
                elif rows.shape[:-2] == outer:
                    rows = rows.reshape(-1, *rows.shape[-2:])
                else:
                    raise UnsupportedError("a batch of matrices that broadcasts is not calibrated")
                return rows[:, : positions(rows.shape[-1])]

            return [Block(arrange, unfold)]

        return Geometry(1 - slot, blocks) if slot in (0, 1) else None

    return make


_OPS: Dict[str, Callable[[Node, int], Optional[Geometry]]] = {
    "Conv2D": _convolution(2),
    "_FusedConv2D": _convolution(2),
    "Conv3D": _convolution(3),
    "DepthwiseConv2dNative": _depthwise,
    "_FusedDepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "MatMul": _matmul("transpose_a", "transpose_b"),
    "_FusedMatMul": _matmul("transpose_a", "transpose_b"),
    "BatchMatMul": _matmul("adj_x", "adj_y"),
    "BatchMatMulV2": _matmul("adj_x", "adj_y"),
}
