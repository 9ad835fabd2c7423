"""Each op between a weight and its consumer, against numpy."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
from axis_oracle import Labels, check_claims
from builders import GraphBuilder
from hypothesis import given
from hypothesis import strategies as st

from graphwq.graphdef import dtypes
from graphwq.survey import axes
from graphwq.survey.axes import AxisMap
from graphwq.survey.paths import JOINING_OPS, PASS_OPS, carry
from graphwq.survey.view import build

Shape = Tuple[int, ...]
COMPUTED = "computed"


def behind(
    op: str, shape: Shape, parameters: Sequence[Any] = (), slot: int = 0, **attrs: Any
) -> Any:
    """What ``carry`` says of a weight of ``shape`` at data input ``slot`` of an op.

    ``parameters`` are the other inputs: constants from Python values, or COMPUTED.
    """
    b = GraphBuilder()
    inputs: List[str] = []
    for number, value in enumerate(parameters):
        if isinstance(value, str) and value == COMPUTED:
            inputs.append(b.op(f"p{number}", "Shape", [b.placeholder(f"x{number}", [2])]))
        else:
            inputs.append(b.const(f"p{number}", np.asarray(value, np.int32)))
    inputs.insert(slot, b.placeholder("w", list(shape)))
    b.op("node", op, inputs, **attrs)
    view = build(b.graph()).main
    return carry(view, view.nodes["node"], slot, axes.start(shape))


def agrees(outputs: Any, tensors: Sequence[Labels]) -> None:
    """The maps are those of the tensors, port by port; a single map stands for every port."""
    assert outputs is not None
    if len(outputs) == 1:
        outputs = outputs * len(tensors)
    assert len(outputs) == len(tensors)
    for current, labels in zip(outputs, tensors):
        assert current is not None
        assert current.shape == labels.shape
        check_claims(current, labels)


# ------------------------------------------------------------------------------- passed as it is


@pytest.mark.parametrize("op", PASS_OPS)
def test_passing_ops_change_nothing(op: str) -> None:
    """The map of the output is that of the input."""
    assert behind(op, (3, 4)) == (axes.start((3, 4)),)


@pytest.mark.parametrize("op", PASS_OPS)
def test_passing_ops_pass_their_first_input_only(op: str) -> None:
    """The predicate of a Switch and the like do not move a weight about."""
    assert behind(op, (3, 4), [1], slot=1) is None


@pytest.mark.parametrize(
    "op",
    ["Add", "Mul", "Relu", "Softmax", "Merge", "Exit", "NextIteration", "Fill", "Shape", "Assign",
     "FakeQuantWithMinMaxVars", "Dequantize", "Pad", "Tile", "ReverseV2", "Mean", "NoSuchOp"],
)  # fmt: skip
def test_other_ops_end_the_way(op: str) -> None:
    """What changes values or is unknown is no way for a weight."""
    assert behind(op, (3, 4)) is None


@pytest.mark.parametrize("target", sorted(dtypes.FLOATING))
def test_a_cast_to_a_float_passes(target: int) -> None:
    """half -> float is how mixed-precision graphs store weights."""
    result = behind("Cast", (3, 4), SrcT=("type", dtypes.DT_HALF), DstT=("type", target))
    assert [current.kept([1]) for current in result] == [(1,)]


@pytest.mark.parametrize(
    "target", [dtypes.DT_INT32, dtypes.DT_INT8, dtypes.DT_BOOL, dtypes.DT_STRING]
)
def test_a_cast_to_anything_else_loses_the_weight(target: int) -> None:
    """Whole numbers are no weights any more."""
    attrs = {"SrcT": ("type", dtypes.DT_FLOAT), "DstT": ("type", target)}
    assert behind("Cast", (3, 4), **attrs) == (None,)


# ------------------------------------------------------------------------------------ one axis


@pytest.mark.parametrize("axis", range(-4, 4))
def test_expand_dims(axis: int) -> None:
    """A new axis anywhere, counted from either end."""
    labels = Labels((2, 3, 4)).apply(lambda array: np.expand_dims(array, axis))
    agrees(behind("ExpandDims", (2, 3, 4), [axis]), [labels])


@pytest.mark.parametrize("axis", [4, -5, [0, 1], COMPUTED])
def test_expand_dims_nowhere(axis: Any) -> None:
    """An axis out of range, several, or one that is computed: the map is lost."""
    assert behind("ExpandDims", (2, 3, 4), [axis]) == (None,)


@pytest.mark.parametrize("dims", [[], [0], [2], [0, 2], [-1], [-3, -1], [-3]])
def test_squeeze(dims: List[int]) -> None:
    """The listed axes of size 1, or all of them."""
    labels = Labels((1, 5, 1)).apply(lambda array: np.squeeze(array, tuple(dims) or None))
    agrees(behind("Squeeze", (1, 5, 1), squeeze_dims=dims), [labels])


def test_squeeze_without_the_attribute() -> None:
    """squeeze_dims is optional."""
    agrees(behind("Squeeze", (1, 5)), [Labels((1, 5)).apply(np.squeeze)])


@pytest.mark.parametrize("dims", [[3], [-4]])
def test_squeeze_of_no_axis(dims: List[int]) -> None:
    """An axis out of range: the map is lost."""
    assert behind("Squeeze", (1, 5, 1), squeeze_dims=dims) == (None,)


@pytest.mark.parametrize("perm", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 2, 1)])
def test_transpose(perm: Shape) -> None:
    """Every permutation, as numpy does it."""
    labels = Labels((2, 3, 4)).apply(lambda array: array.transpose(perm))
    agrees(behind("Transpose", (2, 3, 4), [perm]), [labels])


@pytest.mark.parametrize("perm", [(0, 1), (0, 1, 1), (0, 1, 3), (0, 1, 2, 3), COMPUTED])
def test_transpose_by_no_permutation(perm: Any) -> None:
    """Not a permutation of the axes, or a computed one: the map is lost."""
    assert behind("Transpose", (2, 3, 4), [perm]) == (None,)


@pytest.mark.parametrize(
    "target", [(6, 4), (-1, 4), (2, -1), (24,), (-1,), (2, 1, 3, 4), (2, 3, 4)]
)
def test_reshape(target: Shape) -> None:
    """Merging and unit axes, with or without a hole in the target."""
    labels = Labels((2, 3, 4)).apply(lambda array: array.reshape(target))
    agrees(behind("Reshape", (2, 3, 4), [target]), [labels])


@pytest.mark.parametrize("target", [(5,), (7, -1), (-1, -1), COMPUTED])
def test_reshape_to_a_shape_that_does_not_fit(target: Any) -> None:
    """A wrong or computed shape: the map is lost."""
    assert behind("Reshape", (2, 3, 4), [target]) == (None,)


# ---------------------------------------------------------------------------------- cut in pieces


@pytest.mark.parametrize(("axis", "parts"), [(0, 2), (1, 3), (2, 2), (-1, 4), (-3, 1), (1, 1)])
def test_split(axis: int, parts: int) -> None:
    """Grouped convolution: equal pieces, every port alike."""
    pieces = [
        Labels((2, 3, 4)).apply(lambda array, part=part: np.split(array, parts, axis)[part])
        for part in range(parts)
    ]
    agrees(behind("Split", (2, 3, 4), [axis], slot=1, num_split=parts), pieces)


@pytest.mark.parametrize(
    ("axis", "parts"), [(0, 3), (3, 1), (-4, 1), (1, 0), (1, -3), (COMPUTED, 1)]
)
def test_split_that_cannot_be(axis: Any, parts: int) -> None:
    """Pieces of unequal size, no axis, no pieces, a computed axis: the map is lost."""
    assert behind("Split", (2, 3, 4), [axis], slot=1, num_split=parts) == (None,)


def test_the_axis_of_a_split_is_no_weight() -> None:
    """Data input 0 of Split is its axis."""
    assert behind("Split", (2, 3, 4), [0], slot=0, num_split=1) is None


@pytest.mark.parametrize(
    ("axis", "sizes"),
    [(2, [1, 3]), (2, [2, 1, 1]), (2, [1, -1]), (-1, [-1, 1, 1]), (0, [2]), (1, [-1]), (1, [0, 3])],
)
def test_split_v(axis: int, sizes: List[int]) -> None:
    """Pieces of given sizes, one of which may be open; each port has its own."""
    full = (2, 3, 4)[axis]
    closed = [full - sum(size for size in sizes if size >= 0) if s < 0 else s for s in sizes]
    cuts = np.cumsum(closed)[:-1]
    outputs = behind("SplitV", (2, 3, 4), [sizes, axis])
    assert len(outputs) == len(sizes)
    for part, current in enumerate(outputs):
        labels = Labels((2, 3, 4))
        piece = [np.split(array, cuts, axis)[part] for array in labels.arrays]
        assert current.shape == piece[0].shape
        if piece[0].size:
            agrees((current,), [labels.apply(lambda a, p=part: np.split(a, cuts, axis)[p])])


@pytest.mark.parametrize(
    "parameters", [[[2, 2], 3], [[2, 2], -4], [COMPUTED, 2], [[2, 2], COMPUTED]]
)
def test_split_v_that_cannot_be(parameters: List[Any]) -> None:
    """No such axis, computed sizes or axis: the map is lost."""
    assert behind("SplitV", (2, 3, 4), parameters) == (None,)


@pytest.mark.parametrize("axis", range(-3, 3))
def test_unpack(axis: int) -> None:
    """tf.unstack: the axis vanishes, every port alike."""
    count = (2, 3, 4)[axis]
    pieces = [
        Labels((2, 3, 4)).apply(lambda array, index=index: np.take(array, index, axis))
        for index in range(count)
    ]
    agrees(behind("Unpack", (2, 3, 4), axis=axis, num=count), pieces)


@pytest.mark.parametrize("axis", [3, -4])
def test_unpack_of_no_axis(axis: int) -> None:
    """An axis out of range: the map is lost."""
    assert behind("Unpack", (2, 3, 4), axis=axis, num=2) == (None,)


@pytest.mark.parametrize(
    ("begin", "size"),
    [
        ([0, 0, 0], [2, 3, 4]),
        ([0, 1, 2], [1, 2, 2]),
        ([1, 0, 3], [-1, -1, -1]),
        ([0, 0, 1], [2, 1, 1]),
    ],
)
def test_slice(begin: List[int], size: List[int]) -> None:
    """A window; -1 reaches to the end."""
    window = tuple(
        slice(first, None if length == -1 else first + length) for first, length in zip(begin, size)
    )
    labels = Labels((2, 3, 4)).apply(lambda array: array[window])
    agrees(behind("Slice", (2, 3, 4), [begin, size]), [labels])


@pytest.mark.parametrize(
    "parameters",
    [[[0, 0], [1, 1]], [[0, 0, 0], [1, 1]], [COMPUTED, [1, 1, 1]], [[0, 0, 0], COMPUTED]],
)
def test_slice_that_cannot_be(parameters: List[Any]) -> None:
    """Windows of another rank and computed ones: the map is lost."""
    assert behind("Slice", (2, 3, 4), parameters) == (None,)


@pytest.mark.parametrize(
    ("op", "parameters", "attrs"),
    [
        ("Squeeze", [], {"squeeze_dims": [1]}),
        ("SplitV", [[3, 3], 2], {}),
        ("SplitV", [[-1, -1], 2], {}),
        ("SplitV", [[], 2], {}),
        ("Slice", [[0, 0, 3], [2, 3, 2]], {}),
        ("Slice", [[0, -1, 0], [2, 1, -2]], {}),
        ("Reshape", [[-2, -12]], {}),
        ("Reshape", [[0, -1]], {}),
        ("StridedSlice", [[9, 9], [0, 0], [1, 1]], {}),
        ("StridedSlice", [[0], [2**31 - 1], [-(2**31)]], {}),
    ],
)
def test_what_tensorflow_refuses_is_no_reason_to_crash(
    op: str, parameters: List[Any], attrs: Dict[str, Any]
) -> None:
    """A file may hold any numbers; whatever is said of such an op, it is said calmly."""
    outputs = behind(op, (2, 3, 4), parameters, **attrs)
    assert isinstance(outputs, tuple)


# ------------------------------------------------------------------------------- strided slice


def _index(
    begin: Sequence[int], end: Sequence[int], strides: Sequence[int], masks: Dict[str, int]
) -> Tuple[Any, ...]:
    """The numpy index of a strided slice, from the documentation of tf.strided_slice."""
    index: List[Any] = []
    for place in range(len(begin)):
        if masks["ellipsis"] >> place & 1:
            index.append(Ellipsis)
        elif masks["new_axis"] >> place & 1:
            index.append(None)
        elif masks["shrink_axis"] >> place & 1:
            index.append(begin[place])
        else:
            first = None if masks["begin"] >> place & 1 else begin[place]
            last = None if masks["end"] >> place & 1 else end[place]
            index.append(slice(first, last, strides[place]))
    return tuple(index)


@st.composite
def strided_slices(draw: st.DrawFn) -> Tuple[Shape, List[List[int]], Dict[str, int]]:
    """A weight and a spec with all five masks that TensorFlow would accept."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    kinds = [draw(st.sampled_from(["range", "range", "shrink"])) for _ in shape]
    kinds = kinds[: draw(st.integers(0, len(kinds)))]
    dense: List[Tuple[str, int]] = [(kind, size) for kind, size in zip(kinds, shape)]
    if draw(st.booleans()):
        place = draw(st.integers(0, len(dense)))
        skipped = draw(st.integers(0, len(shape) - len(dense)))
        left = len(dense) - place
        sizes = shape[:place] + shape[place + skipped :]
        dense = [(kind, sizes[number]) for number, (kind, _) in enumerate(dense)]
        rest = len(shape) - (place + skipped + left)
        for number in range(rest):
            dense.append(("range", shape[len(shape) - rest + number]))
        dense.insert(place, ("ellipsis", 0))
    for _ in range(draw(st.integers(0, 2))):
        dense.insert(draw(st.integers(0, len(dense))), ("new_axis", 0))
    masks = dict.fromkeys(("begin", "end", "ellipsis", "new_axis", "shrink_axis"), 0)
    begin, end, strides = [], [], []
    for place, (kind, size) in enumerate(dense):
        if kind == "range":
            masks["begin"] |= draw(st.booleans()) << place
            masks["end"] |= draw(st.booleans()) << place
            begin.append(draw(st.integers(-size - 2, size + 2)))
            end.append(draw(st.integers(-size - 2, size + 2)))
            strides.append(draw(st.sampled_from([-2, -1, 1, 1, 1, 2, 3])))
            continue
        if kind == "shrink":
            begin.append(draw(st.integers(-size, size - 1)))
            masks["shrink_axis"] |= 1 << place
        else:
            begin.append(draw(st.integers(-1, 1)))
            masks[kind] |= 1 << place
        end.append(draw(st.integers(-1, 1)))
        strides.append(1)
        # Other masks mean nothing here.
        masks["begin"] |= draw(st.booleans()) << place
        masks["end"] |= draw(st.booleans()) << place
        if kind == "ellipsis":
            masks["new_axis"] |= draw(st.booleans()) << place
        if kind in ("ellipsis", "new_axis"):
            masks["shrink_axis"] |= draw(st.booleans()) << place
    return shape, [begin, end, strides], masks


@given(strided_slices())
def test_strided_slice(spec: Tuple[Shape, List[List[int]], Dict[str, int]]) -> None:
    """All five masks, open ends, steps forward and backward: as numpy's indexing."""
    shape, parameters, masks = spec
    index = _index(*parameters, masks)
    attrs = {key + "_mask": value for key, value in masks.items()}
    outputs = behind("StridedSlice", shape, parameters, **attrs)
    expected = np.zeros(shape)[index]
    assert [current.shape for current in outputs] == [expected.shape]
    if expected.size:
        agrees(outputs, [Labels(shape).apply(lambda array: array[index])])


def test_strided_slice_of_keras_gates() -> None:
    """w[:, 5:10]: the kernel of one LSTM gate, as Keras cuts it."""
    result = behind("StridedSlice", (3, 20), [[0, 5], [0, 10], [1, 1]], begin_mask=1, end_mask=1)
    assert result == (AxisMap((3, 5), axes.start((3, 5)).origins),)


@pytest.mark.parametrize(
    "parameters",
    [
        [[0, 0], [1, 1], [1, 0]],
        [[0, 0], [1], [1, 1]],
        [[0, 0], [1, 1], [1]],
        [[0] * 4, [1] * 4, [1] * 4],
        [COMPUTED, [1, 1], [1, 1]],
        [[0, 0], COMPUTED, [1, 1]],
        [[0, 0], [1, 1], COMPUTED],
    ],
)
def test_strided_slice_that_cannot_be(parameters: List[Any]) -> None:
    """A step of 0, lists of unequal length, too many axes, computed bounds: the map is lost."""
    assert behind("StridedSlice", (2, 3, 4), parameters) == (None,)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 3, 4)])
def test_strided_slice_with_two_ellipses(shape: Shape) -> None:
    """TensorFlow refuses two ellipses; a file that has them is no reason to crash."""
    parameters = [[0, 0], [0, 0], [1, 1]]
    assert behind("StridedSlice", shape, parameters, ellipsis_mask=3) == (None,)


# ------------------------------------------------------------------------------------ put together


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("slot", [0, 1])
def test_concat_v2(axis: int, slot: int) -> None:
    """The axes stay, one of them of unknown length; any place among the pieces will do."""
    (current,) = behind("ConcatV2", (2, 3, 4), [[9], axis], slot=slot, N=2)
    assert [current.kept([place]) for place in range(3)] == [(0,), (1,), (2,)]
    assert current.shape[axis] == -1
    assert sorted(current.shape)[1:] == sorted(
        size for place, size in enumerate((2, 3, 4)) if place != axis % 3
    )


@pytest.mark.parametrize("axis", [3, -4, COMPUTED])
def test_concat_v2_along_no_axis(axis: Any) -> None:
    """An axis out of range, or a computed one: the map is lost."""
    assert behind("ConcatV2", (2, 3, 4), [[9], axis], N=2) == (None,)


def test_the_axis_of_a_concat_is_no_piece() -> None:
    """The last input of ConcatV2 and the first of Concat are the axis."""
    assert behind("ConcatV2", (2, 3), [[9], [9]], slot=2, N=2) is None
    assert behind("Concat", (2, 3), [[9], [9]], slot=0, N=2) is None


@pytest.mark.parametrize("slot", [1, 2])
def test_concat_of_old_graphs(slot: int) -> None:
    """Concat has its axis in front."""
    (current,) = behind("Concat", (2, 3), [1, [9]], slot=slot, N=2)
    assert current.shape == (2, -1)
    assert [current.kept([place]) for place in range(2)] == [(0,), (1,)]


@pytest.mark.parametrize("axis", range(-3, 3))
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_pack(axis: int, slot: int) -> None:
    """tf.stack: a new axis as long as there are pieces."""
    labels = Labels((2, 3)).apply(lambda array: np.stack([array] * 3, axis))
    (current,) = behind("Pack", (2, 3), [[9], [9]], slot=slot, axis=axis, N=3)
    assert current.shape == labels.shape
    check_claims(current, labels)


@pytest.mark.parametrize("axis", [3, -4])
def test_pack_along_no_axis(axis: int) -> None:
    """An axis out of range: the map is lost."""
    assert behind("Pack", (2, 3), [[9]], axis=axis, N=2) == (None,)


def test_joining_ops_are_those_that_take_many() -> None:
    """A fed tensor may stand beside a weight in these only."""
    assert set(JOINING_OPS) == {"ConcatV2", "Concat", "Pack"}


# ------------------------------------------------------------------- behind an unknown length


def _after(current: Optional[AxisMap], op: str, parameters: Sequence[Any], **attrs: Any) -> Any:
    b = GraphBuilder()
    inputs = [b.const(f"p{n}", np.asarray(value, np.int32)) for n, value in enumerate(parameters)]
    inputs.insert(1 if op == "Split" else 0, b.placeholder("w", [1]))
    b.op("node", op, inputs, **attrs)
    view = build(b.graph()).main
    assert current is not None
    return carry(view, view.nodes["node"], 1 if op == "Split" else 0, current)


@pytest.mark.parametrize(
    ("op", "parameters", "attrs", "joined"),
    [
        ("Split", [0], {"num_split": 2}, 4),
        ("SplitV", [[1, 3], 0], {}, 4),
        ("SplitV", [[-1, 2], 0], {}, 4),
        ("Slice", [[1, 0, 0], [3, -1, -1]], {}, 4),
        ("Slice", [[2, 0, 0], [-1, -1, -1]], {}, 4),
        ("StridedSlice", [[1], [4], [1]], {}, 4),
        ("StridedSlice", [[0], [1], [1]], {}, 4),
        ("StridedSlice", [[-2], [0], [1]], {"end_mask": 1}, 4),
    ],
)
def test_no_wrong_length_behind_a_concat(
    op: str, parameters: List[Any], attrs: Dict[str, Any], joined: int
) -> None:
    """The length of a joined axis is not known: what is cut from it is unknown or right.

    A wrong length makes Squeeze and Reshape behind it go wrong.
    """
    (start,) = behind("ConcatV2", (2, 5, 7), [[9], 0], N=2)
    real = np.zeros((joined, 5, 7))
    if op == "Split":
        truth = [part.shape for part in np.split(real, attrs["num_split"], 0)]
    elif op == "SplitV":
        sizes = [size if size >= 0 else joined - sum(s for s in parameters[0] if s >= 0)
                 for size in parameters[0]]  # fmt: skip
        truth = [(size, 5, 7) for size in sizes]
    elif op == "Slice":
        first, size = parameters[0][0], parameters[1][0]
        truth = [real[first : None if size == -1 else first + size].shape]
    else:
        last = None if attrs.get("end_mask") else parameters[1][0]
        truth = [real[parameters[0][0] : last].shape]
    outputs = _after(start, op, parameters, **attrs)
    if len(outputs) == 1:
        outputs = outputs * len(truth)
    for current, shape in zip(outputs, truth):
        assert current is not None, "the axes are still known"
        assert current.shape[1:] == shape[1:]
        assert current.shape[0] in (-1, shape[0])


def test_squeeze_behind_an_unknown_length() -> None:
    """Whether an axis of unknown length is 1, and vanishes, is unknown: no axis may be mistaken."""
    (joined,) = behind("ConcatV2", (2, 5, 7), [[9], 0], N=2)
    (first,) = _after(joined, "StridedSlice", [[0], [1], [1]])
    assert first is not None
    (squeezed,) = _after(first, "Squeeze", [])  # numpy: (1, 5, 7) -> (5, 7)
    assert squeezed is None or squeezed.shape == (5, 7)
