"""The table of ops that use weights: every row, and what must not match."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder
from hypothesis import given
from hypothesis import strategies as st

from graphwq.survey.optable import GATHER_OPS, WEIGHT_INPUTS
from graphwq.survey.view import build

Axes = Optional[Tuple[int, ...]]


def kept(
    op: str, slot: int, rank: int, inputs: int = 0, constants: Sequence[Any] = (), **attrs: Any
) -> Axes:
    """The axes the table says ``op`` keeps of a weight of ``rank`` at ``slot``.

    ``constants`` are its last inputs: Python values, or None for one that is fed.
    """
    b = GraphBuilder()
    names = [b.placeholder(f"x{number}") for number in range(max(inputs, slot + 1))]
    for number, value in enumerate(constants):
        if value is None:
            names.append(b.placeholder(f"fed{number}"))
        else:
            names.append(b.const(f"c{number}", np.asarray(value)))
    b.op("node", op, names, **attrs)
    view = build(b.graph()).main
    return WEIGHT_INPUTS[op][slot](view, view.nodes["node"], rank)


#: op, slot, rank, attributes -> kept axes. Layouts: filters [h, w, in, out] for convolutions,
#: [h, w, out, in] for transposed ones, [h, w, in, multiplier] for depthwise ones.
ROWS: List[Tuple[str, int, int, Dict[str, Any], Tuple[int, ...]]] = [
    ("Conv2D", 1, 4, {}, (3,)),
    ("Conv2D", 1, 4, {"data_format": "NCHW"}, (3,)),
    ("_FusedConv2D", 1, 4, {}, (3,)),
    ("FusedPadConv2D", 2, 4, {}, (3,)),
    ("FusedResizeAndPadConv2D", 3, 4, {}, (3,)),
    ("DepthwiseConv2dNative", 1, 4, {}, (2, 3)),
    ("_FusedDepthwiseConv2dNative", 1, 4, {}, (2, 3)),
    ("Conv2DBackpropInput", 1, 4, {}, (2,)),
    ("DepthwiseConv2dNativeBackpropInput", 1, 4, {}, (2,)),
    ("Conv3D", 1, 5, {}, (4,)),
    ("Conv3DBackpropInput", 1, 5, {}, (3,)),
    ("Conv3DBackpropInputV2", 1, 5, {}, (3,)),
    ("Dilation2D", 1, 3, {}, (2,)),
    *[
        (op, slot, 2, {f"transpose_{'ab'[slot]}": transposed}, (int(transposed == (slot == 0)),))
        for op in ("MatMul", "_FusedMatMul", "SparseMatMul")
        for slot in (0, 1)
        for transposed in (False, True)
    ],
    ("SparseTensorDenseMatMul", 3, 2, {"adjoint_b": False}, (1,)),
    ("SparseTensorDenseMatMul", 3, 2, {"adjoint_b": True}, (0,)),
    *[
        (op, slot, rank, {f"adj_{'xy'[slot]}": transposed}, axes)
        for op in ("BatchMatMul", "BatchMatMulV2")
        for slot, rank, transposed, axes in [
            (0, 2, False, (0,)), (0, 2, True, (1,)), (1, 2, False, (1,)), (1, 2, True, (0,)),
            (0, 3, False, (0, 1)), (0, 3, True, (0, 2)),
            (1, 3, False, (0, 2)), (1, 3, True, (0, 1)), (1, 4, False, (0, 1, 3)),
        ]
    ],
    ("Einsum", 0, 2, {"equation": "ab,bc->ac"}, (0,)),
    ("Einsum", 1, 2, {"equation": "ab,bc->ac"}, (1,)),
    ("Gather", 0, 2, {}, (0,)),
    ("Gather", 0, 1, {}, (0,)),
    ("ResourceGather", 0, 3, {}, (0,)),
    ("LSTMBlockCell", 3, 2, {}, (1,)),
    ("BlockLSTM", 4, 2, {}, (1,)),
    ("BlockLSTMV2", 4, 2, {}, (1,)),
    ("GRUBlockCell", 2, 2, {}, (1,)),
    ("GRUBlockCell", 3, 2, {}, (1,)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "slot", "rank", "attrs", "axes"), ROWS)
def test_a_row(op: str, slot: int, rank: int, attrs: Dict[str, Any], axes: Tuple[int, ...]) -> None:
    """op, input and attributes give these channels."""
    assert kept(op, slot, rank, inputs=slot + 2 if op != "Einsum" else 2, **attrs) == axes


def test_every_row_of_the_table_is_tested_here() -> None:
    """A new row needs a test: the layouts are easy to get wrong."""
    tested = {(op, slot) for op, slot, _, _, _ in ROWS} | {("GatherV2", 0)}
    assert tested == {(op, slot) for op, slots in WEIGHT_INPUTS.items() for slot in slots}


def test_flags_that_are_not_set_are_false() -> None:
    """A default attribute may be stripped from the file."""
    assert kept("MatMul", 1, 2) == (1,)
    assert kept("MatMul", 0, 2) == (0,)
    assert kept("BatchMatMulV2", 1, 3) == (0, 2)


def test_the_flag_of_the_other_input_does_not_matter() -> None:
    """transpose_a says nothing of b."""
    assert kept("MatMul", 1, 2, transpose_a=True, transpose_b=False) == (1,)
    assert kept("MatMul", 0, 2, transpose_a=False, transpose_b=True) == (0,)
    assert kept("BatchMatMul", 1, 3, adj_x=True) == (0, 2)
    assert kept("SparseTensorDenseMatMul", 3, 2, adjoint_a=True) == (1,)


@pytest.mark.parametrize(
    ("op", "slot", "right"),
    [(op, slot, rank) for op, slot, rank, _, _ in ROWS
     if op not in ("Gather", "ResourceGather", "Einsum") and "MatMul" not in op],
)  # fmt: skip
def test_another_rank_is_no_weight(op: str, slot: int, right: int) -> None:
    """A filter of rank 3 in a Conv2D is a broken graph: nothing is claimed."""
    for rank in (1, 2, 3, 4, 5, 6):
        if rank != right:
            assert kept(op, slot, rank) is None


@pytest.mark.parametrize("op", ["MatMul", "_FusedMatMul", "SparseMatMul", "BatchMatMulV2"])
@pytest.mark.parametrize("slot", [0, 1])
def test_a_vector_is_no_matrix(op: str, slot: int) -> None:
    """A matrix product needs two axes."""
    assert kept(op, slot, 1) is None


@pytest.mark.parametrize("op", ["MatMul", "_FusedMatMul", "SparseMatMul"])
@pytest.mark.parametrize("slot", [0, 1])
def test_a_matmul_takes_matrices_only(op: str, slot: int) -> None:
    """Only the batched ops take more than two axes: nothing is claimed for what cannot run."""
    assert kept(op, slot, 3) is None


def test_ops_that_are_not_in_the_table() -> None:
    """No weight is claimed of ops whose layout nobody has looked up."""
    for op in ("Conv2DBackpropFilter", "BiasAdd", "Mul", "FusedBatchNorm", "Assign", "Identity"):
        assert op not in WEIGHT_INPUTS


@pytest.mark.parametrize(
    ("op", "slots"),
    [("Conv2D", {1}), ("FusedPadConv2D", {2}), ("FusedResizeAndPadConv2D", {3}), ("MatMul", {0, 1}),
     ("Conv2DBackpropInput", {1}), ("Gather", {0}), ("LSTMBlockCell", {3}), ("BlockLSTM", {4}),
     ("GRUBlockCell", {2, 3})],
)  # fmt: skip
def test_other_inputs_are_no_weights(op: str, slots: set) -> None:
    """Images, paddings, indices, peepholes and biases are no weights."""
    assert set(WEIGHT_INPUTS[op]) == slots


# ---------------------------------------------------------------------------------------- gather


@pytest.mark.parametrize(
    ("axis", "rank", "axes"),
    [(0, 2, (0,)), (1, 2, (1,)), (-1, 2, (1,)), (-2, 3, (1,)), (2, 3, (2,)), (0, 1, (0,))],
)
def test_gather_v2_keeps_the_axis_it_indexes(axis: int, rank: int, axes: Tuple[int, ...]) -> None:
    """Every row (or column) that can be looked up has a scale of its own."""
    assert kept("GatherV2", 0, rank, 2, [np.int32(axis)], batch_dims=0) == axes
    assert kept("GatherV2", 0, rank, 2, [np.int64(axis)]) == axes


@pytest.mark.parametrize("axis", [2, -3, [0, 1], 0.0])
def test_gather_v2_along_no_axis(axis: Any) -> None:
    """An axis out of range, several, or no whole number: nothing is claimed."""
    value = np.asarray(axis, np.float32 if isinstance(axis, float) else np.int32)
    assert kept("GatherV2", 0, 2, 2, [value]) is None


def test_gather_v2_along_an_axis_that_is_fed() -> None:
    """Which axis it is, only the run will tell."""
    assert kept("GatherV2", 0, 2, 2, [None]) is None
    assert kept("GatherV2", 0, 2, 2) is None


@pytest.mark.parametrize("batch_dims", [1, 2, -1])
def test_gather_v2_with_batch_axes(batch_dims: int) -> None:
    """Batched lookups are not followed."""
    assert kept("GatherV2", 0, 3, 2, [np.int32(1)], batch_dims=batch_dims) is None


def test_a_scalar_cannot_be_gathered_from() -> None:
    """Rank 0 has no axis."""
    for op in ("Gather", "ResourceGather"):
        assert kept(op, 0, 0) is None


def test_gather_ops_are_those_of_the_table() -> None:
    """The list of gathers and the table agree."""
    assert set(GATHER_OPS) == {op for op in WEIGHT_INPUTS if "Gather" in op}


# ---------------------------------------------------------------------------------------- einsum


@pytest.mark.parametrize(
    ("equation", "slot", "rank", "axes"),
    [
        ("ab,bc->ac", 0, 2, (0,)),
        ("ab,bc->ac", 1, 2, (1,)),
        ("ab,cb->ac", 1, 2, (0,)),
        ("bij,bjk->bik", 1, 3, (0, 2)),
        ("abc,cde->abde", 1, 3, (1, 2)),
        ("BTNH,BFNH->BNFT", 0, 4, (0, 1, 2)),
        (" ab , bc -> ac ", 1, 2, (1,)),
        ("ab,bc->", 1, 2, ()),
        ("...a,ab->...b", 1, 2, (1,)),
        ("ab->ba", 0, 2, (0, 1)),
    ],
)
def test_einsum(equation: str, slot: int, rank: int, axes: Tuple[int, ...]) -> None:
    """The labels of the weight that come out again are its channels."""
    inputs = equation.count(",") + 1
    assert kept("Einsum", slot, rank, inputs, equation=equation) == axes


@pytest.mark.parametrize(
    ("equation", "slot", "rank", "inputs"),
    [
        ("ab,bc", 1, 2, 2),  # no arrow
        ("ab,bc->ac", 1, 3, 2),  # another rank
        ("ab,bc->ac", 1, 2, 3),  # another number of inputs
        ("ab,...c->a...c", 1, 2, 2),  # an ellipsis in the weight
        ("", 1, 2, 2),
        ("->", 0, 2, 2),
        ("\xff\xfe,->", 1, 2, 2),
    ],
)
def test_einsum_that_is_not_understood(equation: str, slot: int, rank: int, inputs: int) -> None:
    """Nothing is claimed of an equation that does not fit."""
    assert kept("Einsum", slot, rank, inputs, equation=equation) is None


def test_einsum_without_an_equation() -> None:
    """The attribute may be missing."""
    assert kept("Einsum", 1, 2, 2) is None


# ----------------------------------------------------------------------------- products, by force


def _dependent(product: Any, shape: Tuple[int, ...]) -> Tuple[int, ...]:
    """The axes of a weight along which no two elements ever meet in one element of the result."""
    meet = np.zeros((int(np.prod(shape)),) * 2, bool)
    touched = []
    for place in range(meet.shape[0]):
        weight = np.zeros(shape)
        weight.reshape(-1)[place] = 1.0
        touched.append(np.flatnonzero(product(weight)))
    index = np.stack(np.unravel_index(np.arange(meet.shape[0]), shape))
    axes = []
    for axis in range(len(shape)):
        alone = all(
            not np.intersect1d(touched[a], touched[b]).size
            for a in range(meet.shape[0])
            for b in range(a)
            if index[axis, a] != index[axis, b]
        )
        if alone:
            axes.append(axis)
    return tuple(axes)


def _other(shape: Sequence[int]) -> np.ndarray:
    return 1.0 + np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape)


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_matrix_products_by_force(slot: int, transposed: bool, batch: Tuple[int, ...]) -> None:
    """An axis is kept exactly where weights of two indices never add up in one result."""
    shape = (*batch, 2, 3)

    def product(weight: np.ndarray) -> np.ndarray:
        matrix = weight.swapaxes(-1, -2) if transposed else weight
        inner = matrix.shape[-1] if slot == 0 else matrix.shape[-2]
        other = _other((*batch, inner, 2) if slot == 0 else (*batch, 2, inner))
        return matrix @ other if slot == 0 else other @ matrix

    flag = {f"adj_{'xy'[slot]}": transposed}
    assert kept("BatchMatMulV2", slot, len(shape), 2, **flag) == _dependent(product, shape)
    if not batch:
        flag = {f"transpose_{'ab'[slot]}": transposed}
        assert kept("MatMul", slot, 2, 2, **flag) == _dependent(product, shape)


@st.composite
def equations(draw: st.DrawFn) -> Tuple[str, int]:
    """An equation of two terms without a repeated label in a term, and the weight's place."""
    terms = [
        "".join(draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)))
        for _ in range(2)
    ]
    labels = sorted(set("".join(terms)))
    output = "".join(draw(st.lists(st.sampled_from(labels), unique=True)))
    return f"{terms[0]},{terms[1]}->{output}", draw(st.integers(0, 1))


@given(equations())
def test_einsum_by_force(chosen: Tuple[str, int]) -> None:
    """For any equation of two terms the labels kept are those that numpy's einsum keeps apart."""
    equation, slot = chosen
    sizes = {"a": 2, "b": 3, "c": 2, "d": 2}
    terms = equation.split("->")[0].split(",")
    shapes = [tuple(sizes[label] for label in term) for term in terms]

    def product(weight: np.ndarray) -> np.ndarray:
        operands = [_other(shapes[0]), _other(shapes[1])]
        operands[slot] = weight
        return np.einsum(equation, *operands)

    claim = kept("Einsum", slot, len(terms[slot]), 2, equation=equation)
    assert claim == _dependent(product, shapes[slot])
