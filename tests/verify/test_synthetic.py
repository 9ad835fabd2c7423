"""Made-up inputs: what the ops behind a placeholder tell, and that they are the same every time."""

from __future__ import annotations

from typing import Any, Optional, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, encode, random_weight

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import new_node
from graphwq.graphdef.protos import AttrValue
from graphwq.survey.view import build
from graphwq.tf1.session import Runner, tensorflow
from graphwq.verify import media
from graphwq.verify.feeds import SYNTHETIC, Feeds
from graphwq.verify.interface import find_interface
from graphwq.verify.synthetic import ATTEMPTS, Attempt, synthesize, wanted_inputs
from graphwq.verify.trial import find_feeds

FLOAT, INT32, BOOL, STRING = dtypes.DT_FLOAT, dtypes.DT_INT32, dtypes.DT_BOOL, dtypes.DT_STRING


def _feeds(b: GraphBuilder, **how: Any) -> Feeds:
    graph = b.graph()
    found = find_interface(graph)
    return synthesize(build(graph).main, found.placeholders, found.tensors, **how)


def _shape(b: GraphBuilder, name: str = "x:0") -> Optional[Tuple[int, ...]]:
    graph = b.graph()
    found = find_interface(graph)
    wanted = wanted_inputs(build(graph).main, found.placeholders, found.tensors)
    return {item.tensor: item.shape for item in wanted}[name]


def _simple(shape: Optional[Sequence[int]], dtype: int = FLOAT) -> GraphBuilder:
    b = GraphBuilder()
    b.op("y", "Identity", [b.placeholder("x", shape, dtype)], T=("type", dtype))
    return b


def test_the_same_seed_gives_the_same_bits() -> None:
    """Another seed, name or sample gives others; the number of samples does not matter."""
    b = _simple([2, 5])
    one, two = _feeds(b, samples=4), _feeds(b, samples=2)
    assert one.digest == _feeds(b, samples=4).digest
    assert Feeds(one.samples[:2], SYNTHETIC).digest == two.digest
    assert _feeds(b, seed=1).digest != one.digest
    values = [sample["x:0"].tobytes() for sample in one.samples]
    assert len(set(values)) == 4
    other = GraphBuilder()
    other.op("y", "Identity", [other.placeholder("z", [2, 5])])
    assert _feeds(other).samples[0]["z:0"].tobytes() != values[0]


def test_known_bits() -> None:
    """The values themselves: they may not change from release to release unseen."""
    values = _feeds(_simple([3])).samples[0]["x:0"]
    np.testing.assert_array_equal(values, np.asarray([0.9004523, 0.4980474, 0.5997526], np.float32))


def test_dtypes_and_ranges() -> None:
    """Floats of several ranges, scalars that switch training off, small whole numbers."""
    images = [s["x:0"] for s in _feeds(_simple([1, 16, 16, 3])).samples]
    assert max(float(image.max()) for image in images) > 200
    assert min(float(image.min()) for image in images) < -0.9
    assert all(np.isfinite(image).all() for image in images)
    assert _feeds(_simple([])).samples[0]["x:0"] == 1
    assert not _feeds(_simple([], BOOL)).samples[0]["x:0"]
    flags = _feeds(_simple([100], BOOL)).samples[0]["x:0"]
    assert 0 < flags.sum() < 100
    whole = _feeds(_simple([100], INT32)).samples[0]["x:0"]
    assert set(whole.tolist()) == {0, 1}
    pixels = _feeds(_simple([1, 8, 8, 3], dtypes.DT_UINT8)).samples[0]["x:0"]
    assert pixels.max() > 200
    text = _feeds(_simple([3], STRING)).samples[0]["x:0"]
    assert all(isinstance(item, bytes) for item in text)
    with pytest.raises(InputError, match="--inputs"):
        _feeds(_simple([3], dtypes.DT_RESOURCE))
    for dtype in (dtypes.DT_HALF, dtypes.DT_DOUBLE, dtypes.DT_INT8, dtypes.DT_INT64):
        value = _feeds(_simple([4, 4], dtype)).samples[0]["x:0"]
        assert value.dtype == dtypes.NUMPY[dtype]


def test_whole_numbers_stay_in_their_table() -> None:
    """Through Reshape and Cast too; of two tables the smaller one counts."""
    b = GraphBuilder()
    x = b.placeholder("x", [50], INT32)
    b.gather("a", b.const("big", random_weight((90, 4))), x)
    flat = b.op("flat", "Reshape", [x, b.const("shape", [5, 10])], T=("type", INT32))
    axis = b.const("axis", 1)
    b.gather("b", b.const("small", random_weight((4, 7))), flat, axis)
    values = _feeds(b).samples[0]["x:0"]
    assert values.min() >= 0
    assert values.max() == 6
    b = GraphBuilder()
    x = b.placeholder("x", [50], INT32)
    b.op("y", "OneHot", [x, b.const("depth", 5), b.const("on", 1.0), b.const("off", 0.0)])
    assert _feeds(b).samples[0]["x:0"].max() == 4


def test_unknown_dimensions_from_the_ops_behind() -> None:
    """MatMul, Conv2D (NHWC, NCHW), Reshape and constants that are added."""
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", None), b.const("w", random_weight((7, 3))))
    assert _shape(b) == (-1, 7)
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [-1, -1]), b.const("w", random_weight((7, 3))), tb=True)
    assert _shape(b) == (-1, 3)
    b = GraphBuilder()
    read = b.op("read", "Identity", [b.const("w", random_weight((3, 3, 5, 2)))])
    b.conv("y", b.op("half", "Mul", [b.placeholder("x", None), b.const("c", 0.5)]), read)
    assert _shape(b) == (-1, -1, -1, 5)
    b = GraphBuilder()
    w = b.const("w", random_weight((3, 3, 5, 2)))
    strides = [1, 1, 1, 1]
    x = b.placeholder("x", None)
    b.op("y", "Conv2D", [x, w], strides=strides, padding="SAME", data_format="NCHW")
    assert _shape(b) == (-1, 5, -1, -1)
    b = GraphBuilder()
    b.op("y", "Reshape", [b.placeholder("x", [-1, -1]), b.const("shape", [-1, 4, 6, 1])])
    assert _shape(b) == (-1, 24)
    b = GraphBuilder()
    b.op("y", "Reshape", [b.placeholder("x", None), b.const("shape", [-1, 4, 6, 1])])
    assert _shape(b) == (-1, 4, 6, 1)
    b = GraphBuilder()
    b.op("y", "Add", [b.placeholder("x", [-1, -1]), b.const("c", random_weight((9,)))])
    assert _shape(b) == (-1, 9)
    assert _shape(_simple(None)) is None
    assert _shape(_simple([2, 3])) == (2, 3)


def test_a_probability_beside_an_activation_is_a_scalar() -> None:
    """What is added to another fed tensor need not have its shape."""
    b = GraphBuilder()
    x, keep = b.placeholder("x", [-1, 4]), b.placeholder("keep", None)
    b.matmul("y", b.op("dropped", "Mul", [x, keep]), b.const("w", random_weight((4, 2))))
    assert _shape(b, "keep:0") is None
    assert _feeds(b).samples[0]["keep:0"] == 1


def test_notes_say_what_was_made() -> None:
    """Tensor, dtype, shape and seed."""
    b = GraphBuilder()
    b.gather("y", b.const("w", random_weight((9, 4))), b.placeholder("x", [-1], INT32))
    (note,) = _feeds(b, seed=7).notes
    for part in ("x:0", "int32", "[1]", "[?]", "below 9", "seed 7"):
        assert part in note


def test_too_large_to_be_made_up() -> None:
    """A placeholder of absurd size is refused before memory is taken."""
    with pytest.raises(InputError, match="too large"):
        _feeds(_simple([1 << 20, 1 << 20]))
    with pytest.raises(InputError, match="at least 1"):
        _feeds(_simple([1]), samples=0)


def test_results_of_iterators_are_fed() -> None:
    """In place of the iterator, whose handle nobody can make up."""
    b = GraphBuilder()
    handle = b.placeholder("handle", [], STRING)
    b.op("iterator", "IteratorFromStringHandleV2", [handle])
    types = ("types", [FLOAT, INT32])
    b.op("next", "IteratorGetNext", ["iterator"], output_types=types)
    b.op("y", "Relu", ["next:1"], T=("type", INT32))
    feeds = _feeds(b, attempt=Attempt(2, 3, 2))
    assert feeds.tensors == ("next:1",)
    assert feeds.samples[0]["next:1"].shape == (2, 3)
    assert feeds.samples[0]["next:1"].dtype == np.int32


def test_attempts_are_all_different() -> None:
    """Each costs a run."""
    assert len(set(ATTEMPTS)) == len(ATTEMPTS)


def test_no_inputs_at_all() -> None:
    """One sample that feeds nothing."""
    b = GraphBuilder()
    b.op("y", "Relu", [b.const("c", np.ones(3, np.float32))])
    assert _feeds(b).samples == ({},)


# -------------------------------------------------------------------------------- in TensorFlow


@pytest.mark.tf
def test_files_that_tensorflow_decodes() -> None:
    """PNG and BMP to the pixel, JPEG to the mean of its blocks, WAV to the sample."""
    tf = tensorflow()
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, size=(24, 17, 3)).astype(np.uint8)
    grey = random.randint(0, 256, size=(64, 48)).astype(np.uint8)
    board = (np.indices((64, 48)).sum(0) // 8 % 2 * 255).astype(np.uint8)
    sound = random.randint(-32768, 32768, size=99)
    with tf.Graph().as_default(), tf.Session() as session:
        assert (session.run(tf.image.decode_png(media.png(pixels))) == pixels).all()
        assert (session.run(tf.image.decode_bmp(media.bmp(pixels))) == pixels).all()
        for image in (grey, board):
            found = session.run(tf.image.decode_jpeg(media.jpeg(image)))[..., 0]
            means = image.reshape(8, 8, 6, 8).mean((1, 3))
            assert np.abs(found[::8, ::8] - means).max() <= 1.5
            assert found.shape == image.shape
        audio, rate = session.run(tf.audio.decode_wav(media.wav(sound)))
        np.testing.assert_allclose(audio[:, 0] * 32768, sound, atol=0.01)
        assert rate == 16000


def _found(graph: Graph, samples: int = 2) -> Feeds:
    interface = find_interface(graph)
    with Runner(graph) as runner:
        main = build(graph).main
        return find_feeds(runner, main, interface.placeholders, interface.tensors, 0, samples)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("op", "decoder", "content"),
    [
        ("DecodePng", "png", b"\x89PNG"),
        ("DecodeJpeg", "jpeg", b"\xff\xd8"),
        ("DecodeWav", "wav", b"RIFF"),
        ("DecodeBmp", "bmp", b"BM"),
    ],
)
def test_a_graph_that_decodes_its_input(op: str, decoder: str, content: bytes) -> None:
    """A file of the right kind is made."""
    b = GraphBuilder()
    b.op("image", op, [b.placeholder("x", [], STRING)])
    feeds = _found(b.graph())
    assert feeds.samples[0]["x:0"].item().startswith(content)
    assert f"{decoder} files" in feeds.notes[0]


@pytest.mark.tf
def test_sizes_are_found_by_trying() -> None:
    """A convolution whose result must have 7*7 pixels runs on images of 28 only."""
    b = GraphBuilder()
    w = b.const("w", random_weight((4, 4, 3, 2)))
    y = b.conv("conv", b.placeholder("x", [-1, -1, -1, 3]), w, stride=4)
    flat = b.op("flat", "Reshape", [y, b.const("shape", [1, 98])])
    b.matmul("y", flat, b.const("v", random_weight((98, 2))))
    feeds = _found(b.graph())
    assert feeds.samples[1]["x:0"].shape == (1, 28, 28, 3)


@pytest.mark.tf
def test_numbers_in_complaints_are_tried() -> None:
    """A batch of 37 is in no list; TensorFlow names it."""
    b = GraphBuilder()
    b.op("y", "Reshape", [b.placeholder("x", [-1, 5]), b.const("shape", [37, 5])])
    assert _found(b.graph()).samples[0]["x:0"].shape == (37, 5)


@pytest.mark.tf
def test_a_default_for_another_batch() -> None:
    """The state of a recurrent network may be frozen for a batch of 20: then it is fed."""
    b = GraphBuilder()
    default = b.const("zeros", np.zeros((20, 4), np.float32))
    state = b.op("state", "PlaceholderWithDefault", [default], dtype=("type", FLOAT))
    b.op("y", "ConcatV2", [b.placeholder("x", [1, 3]), state, b.const("axis", 1)], N=2)
    graph = b.graph()
    shape = AttrValue()
    for size in (-1, 4):
        shape.shape.dim.add().size = size
    node = {item.name: item for item in graph.nodes}["state"]
    attrs = {"dtype": encode(("type", FLOAT)), "shape": encode(shape)}
    new = new_node("state", node.op, node.inputs, attrs)
    feeds = _found(graph.edited({"": {"state": (new,)}}))
    assert feeds.samples[0]["state:0"].shape == (1, 4)


@pytest.mark.tf
def test_floats_that_serve_as_indices() -> None:
    """Negative ones are no rows of a table: samples of that kind are not made."""
    b = GraphBuilder()
    index = b.cast("index", b.placeholder("x", [1, 20]), FLOAT, INT32)
    b.gather("y", b.const("w", random_weight((9, 4))), index)
    feeds = _found(b.graph(), 4)
    assert len(feeds.samples) == 4
    assert all(float(sample["x:0"].min()) > -1 for sample in feeds.samples)
    assert len({sample["x:0"].tobytes() for sample in feeds.samples}) == 4


@pytest.mark.tf
def test_where_no_input_is_found() -> None:
    """What TensorFlow said is passed on, with what to do."""
    b = GraphBuilder()
    x = b.placeholder("x", [2, 5])
    b.op("y", "Reshape", [x, b.const("shape", [3, 3])])
    with pytest.raises(InputError):
        _found(b.graph())
    b = GraphBuilder()
    b.op("y", "Reshape", [b.placeholder("x", [-1, 5]), b.const("shape", [1009, 5])])
    b.op("z", "Reshape", ["x", b.const("other", [1013, 5])])
    with pytest.raises(InputError, match="--inputs"):
        _found(b.graph())
