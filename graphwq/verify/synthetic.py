"""Seeded inputs for a graph without data, from the dtypes and shapes of its placeholders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.survey.view import ScopeView
from graphwq.verify import guess, media
from graphwq.verify.feeds import SYNTHETIC, Feeds, Sample, Shape, shape_text
from graphwq.verify.interface import Placeholder, missing_placeholders, needed_nodes

#: Elements of one array above which no input is made.
_MAX_ELEMENTS = 1 << 27
_ITERATORS = ("IteratorGetNext", "OneShotIterator", "IteratorGetNextSync")


#: Distributions of floats: 0..1; normal (images: 0..1 in larger grain); -1..1; normal (images:
#: 0..255). The pixels of images repeat 1, 2, 4 and 8 times along each axis.
KINDS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Attempt:
    """Sizes for what the graph leaves open; the runner tries several until one runs.

    Attributes:
        batch: of a first axis that is free.
        size: of the other free axes.
        rank: of a tensor whose rank is not known (its last axis has ``size``).
        ones: whole numbers without a known limit are 1 instead of 0 or 1.
        defaults: placeholders that have a default are fed as well (it may be for another batch).
    """

    batch: int = 1
    size: int = 32
    rank: int = 0
    ones: bool = False
    defaults: bool = False


_SIZES = (32, 64, 28, 224, 96, 1, 8, 16, 128, 299, 256, 48, 160, 416)
#: In this order; common sizes of images and features first, then every even size up to 128.
ATTEMPTS: Tuple[Attempt, ...] = (
    *(Attempt(1, size) for size in _SIZES),
    *(Attempt(1, size, rank) for rank in (1, 2, 3, 4) for size in (1, 8, 32)),
    *(Attempt(batch, size, 2) for batch in (2, 4, 10, 16, 32, 64, 100, 128) for size in (32, 1)),
    *(Attempt(size, size, 2, ones=True) for size in (1, 2, 8)),
    *(Attempt(1, size) for size in range(10, 130, 2) if size not in _SIZES),
)


@dataclass(frozen=True)
class Wanted:
    """A tensor for which an input is to be made."""

    tensor: str
    dtype: int
    shape: Optional[Shape]
    limit: Optional[int]
    decoder: Optional[str]


def wanted_inputs(
    view: ScopeView,
    placeholders: Sequence[Placeholder],
    tensors: Sequence[str],
    defaults: bool = False,
) -> Tuple[Wanted, ...]:
    """The tensors that have to be fed so that ``tensors`` can be fetched, with what is known.

    The results of iterators are fed in place of the iterators. Placeholders with a default keep it
    unless ``defaults`` is set.
    """
    if defaults:
        placeholders = [replace(item, has_default=False) for item in placeholders]
    found: List[Wanted] = []
    fed: Set[str] = set()
    for name in sorted(needed_nodes(view, tensors)):
        node = view.nodes[name]
        if node.op in _ITERATORS:
            for port, dtype, shape in guess.iterator_ports(view, node):
                found.append(_wanted(view, name, port, dtype, shape))
                fed.add(found[-1].tensor)
    for item in missing_placeholders(view, placeholders, tensors, fed):
        found.append(_wanted(view, item.name, 0, item.dtype, item.shape))
    return tuple(found)


def _wanted(view: ScopeView, name: str, port: int, dtype: int, shape: Optional[Shape]) -> Wanted:
    is_whole = dtype in dtypes.NUMPY and dtypes.NUMPY[dtype].kind in "iu"
    return Wanted(
        f"{name}:{port}",
        dtype,
        guess.wanted_shape(view, name, port, shape),
        guess.index_limit(view, name, port) if is_whole else None,
        guess.decoder(view, name, port) if dtype == dtypes.DT_STRING else None,
    )


def synthesize(
    view: ScopeView,
    placeholders: Sequence[Placeholder],
    tensors: Sequence[str],
    seed: int = 0,
    samples: int = 4,
    attempt: Attempt = ATTEMPTS[0],
    kinds: Sequence[int] = KINDS,
) -> Feeds:
    """Inputs that a graph can be run on, the same for the same seed, names and shapes.

    Floats are, from sample to sample, of several distributions (``KINDS``); single floats are 1 (a
    keep probability), single truth values False (not training). Whole numbers stay below the table
    or depth that they index. Strings are files of the format that the graph decodes.

    Args:
        view: the main graph.
        placeholders: its placeholders.
        tensors: the outputs that are to be fetched.
        seed: of the random numbers.
        samples: how many; 1 where the graph takes no input.
        attempt: sizes for what the graph leaves open.
        kinds: the distributions of floats that the samples take in turn, see ``KINDS``.

    Raises:
        InputError: a placeholder of a dtype that cannot be made.
    """
    if samples < 1:
        raise InputError(f"the number of samples must be at least 1, not {samples}")
    wanted = wanted_inputs(view, placeholders, tensors, attempt.defaults)
    shapes = {item.tensor: filled(item, attempt) for item in wanted}
    made: List[Sample] = []
    for number in range(samples if wanted else 1):
        sample: Dict[str, np.ndarray] = {}
        for item in wanted:
            random = random_of(seed, item.tensor, number)
            kind = kinds[number % len(kinds)]
            value = _value(item, shapes[item.tensor], random, kind, attempt)
            value.flags.writeable = False
            sample[item.tensor] = value
        made.append(sample)
    return Feeds(tuple(made), SYNTHETIC, _notes(wanted, shapes, seed))


def filled(item: Wanted, attempt: Attempt) -> Shape:
    """The shape of a tensor with the sizes of an attempt for what is open.

    Raises:
        InputError: it would be larger than any input is.
    """
    if item.shape is None:
        rank = 0 if item.dtype == dtypes.DT_BOOL else attempt.rank
        shape = (attempt.batch,) + (attempt.size,) * (rank - 1) if rank else ()
    else:
        sizes = (attempt.batch,) + (attempt.size,) * len(item.shape)
        shape = tuple(own if own >= 0 else size for own, size in zip(item.shape, sizes))
    count = 1
    for size in shape:
        count *= size
    if count > _MAX_ELEMENTS:
        raise InputError(
            f"placeholder {item.tensor!r} has shape {shape_text(shape)}: too large an input to be "
            "made up, give one with --inputs"
        )
    return shape


def random_of(seed: int, name: str, number: int) -> np.random.RandomState:
    """The numbers of one sample of one tensor."""
    text = hashlib.sha256(f"{seed}\0{name}\0{number}".encode()).digest()
    return np.random.RandomState(np.frombuffer(text[:16], "<u4"))


def _value(
    item: Wanted, shape: Shape, random: np.random.RandomState, kind: int, attempt: Attempt
) -> np.ndarray:
    if item.dtype == dtypes.DT_STRING:
        return _strings(item, shape, random)
    numpy_type = dtypes.NUMPY.get(item.dtype)
    if numpy_type is None or item.dtype == dtypes.DT_BFLOAT16:
        raise InputError(
            f"no input can be made for {item.tensor!r} ({dtypes.dtype_name(item.dtype)}): give one "
            "with --inputs"
        )
    if numpy_type.kind == "b":
        return np.asarray(random.rand(*shape) < 0.5) if shape else np.asarray(False)
    if numpy_type.kind in "iu":
        return _whole(item, shape, random, attempt, numpy_type)
    if not shape:
        return np.asarray(1, numpy_type)
    return _floats(shape, random, kind).astype(numpy_type)


def _whole(
    item: Wanted,
    shape: Shape,
    random: np.random.RandomState,
    attempt: Attempt,
    numpy_type: np.dtype,
) -> np.ndarray:
    """Indices below their limit; images of bytes; else 0 or 1."""
    if item.limit is None and attempt.ones:
        return np.ones(shape, numpy_type)
    is_image = item.dtype == dtypes.DT_UINT8 and len(shape) >= 3
    top = item.limit or (256 if is_image else 2)
    top = min(top, int(np.iinfo(numpy_type).max) + 1)
    return np.asarray(random.randint(0, top, size=shape), numpy_type)


def _floats(shape: Shape, random: np.random.RandomState, kind: int) -> np.ndarray:
    """Numbers of one of the ``KINDS``; float64."""
    is_image = len(shape) in (3, 4) and min(shape[-3:-1], default=1) >= 8
    if kind in (1, 3) and not is_image:
        return np.asarray(random.standard_normal(shape))
    values = grained(shape, random, 1 << kind) if is_image else random.random_sample(shape)
    if kind == 2:
        return np.asarray(values * 2 - 1)
    return np.asarray(values * 255 if kind == 3 else values)


def grained(shape: Shape, random: np.random.RandomState, grain: int) -> np.ndarray:
    """Uniform noise in which pixels repeat ``grain`` times along the two axes before the last."""
    height, width = shape[-3], shape[-2]
    coarse = (*shape[:-3], -(-height // grain), -(-width // grain), shape[-1])
    noise = random.random_sample(coarse).repeat(grain, -3).repeat(grain, -2)
    return np.asarray(noise[..., :height, :width, :])


def _strings(item: Wanted, shape: Shape, random: np.random.RandomState) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64))
    texts = np.empty(count, object)
    for index in range(count):
        texts[index] = _text(item.decoder, random)
    return texts.reshape(shape)


def _text(decoder: Optional[str], random: np.random.RandomState) -> bytes:
    if decoder == "wav":
        return media.wav(random.randint(-8000, 8000, size=16000))
    if decoder in ("png", "bmp"):
        pixels = random.randint(0, 256, size=(64, 64, 3)).astype(np.uint8)
        return media.png(pixels) if decoder == "png" else media.bmp(pixels)
    if decoder == "jpeg":
        return media.jpeg(random.randint(0, 256, size=(64, 64)).astype(np.uint8))
    words = ("weights", "of", "a", "graph", "and", "what", "became", "them")
    return " ".join(words[index] for index in random.randint(0, len(words), size=6)).encode()


def _notes(wanted: Sequence[Wanted], shapes: Mapping[str, Shape], seed: int) -> Tuple[str, ...]:
    """What was made for each tensor, in words."""
    notes = []
    for item in wanted:
        text = f"{item.tensor}: made up, {dtypes.dtype_name(item.dtype)}"
        text += f" {shape_text(shapes[item.tensor])}"
        if item.shape is None or any(size < 0 for size in item.shape):
            text += f" for the shape {shape_text(item.shape)}"
        if item.limit is not None:
            text += f", below {item.limit}"
        if item.decoder is not None:
            text += f", {item.decoder} files"
        notes.append(f"{text} (seed {seed})")
    return tuple(notes)
