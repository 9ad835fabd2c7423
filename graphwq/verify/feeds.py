"""What the graphs are run on: samples, each of them a value for every tensor that is fed.

The rule by which an array becomes samples. Let the tensor have the declared shape ``s`` (-1: free):

1. The array fits ``s``: it is one value. (A free first axis takes the whole batch at once.)
2. It has one axis more than ``s`` and fits without its first: the first axis counts samples.
3. ``s[0]`` is a number n and the first axis of the array is k*n, the rest fits: k samples of n.
4. The rank of the tensor is not known: it is one value.

Arrays that are split must give the same number of samples; the values of the others are used for
each of them. One sample whose arrays are large is cut along free first axes of one length, so that
memory stays bounded; see ``batched``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef.dtypes import dtype_name
from graphwq.graphdef.spelling import close
from graphwq.survey.view import ScopeView
from graphwq.verify.interface import Placeholder, missing_placeholders, tensor_name
from graphwq.verify.npz import read_npz
from graphwq.verify.values import fitted

FILE, SYNTHETIC = "file", "synthetic"

Shape = Tuple[int, ...]
Sample = Mapping[str, np.ndarray]
#: What is known of a tensor: DataType number and declared shape (None: rank unknown).
Declared = Tuple[int, Optional[Shape]]

#: Bytes of the feeds of one run above which a batch is cut.
BATCH_BYTES = 64 << 20
_SUGGESTIONS = 3


@dataclass(frozen=True)
class Feeds:
    """The samples that both graphs are run on.

    Attributes:
        samples: each maps the names of tensors (``node:0``) to their values; strings are object
            arrays of bytes. The keys are the same in all.
        origin: ``file`` or ``synthetic``.
        notes: what was done to make them, one sentence each.
    """

    samples: Tuple[Sample, ...]
    origin: str
    notes: Tuple[str, ...] = ()

    @property
    def tensors(self) -> Tuple[str, ...]:
        """The names of the tensors that are fed, sorted."""
        return tuple(sorted(self.samples[0])) if self.samples else ()

    @property
    def digest(self) -> str:
        """sha256 over the names, dtypes, shapes and values of all samples, in hex."""
        state = hashlib.sha256()
        for sample in self.samples:
            for name in sorted(sample):
                array = sample[name]
                state.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
                if array.dtype == object:
                    for item in array.reshape(-1):
                        state.update(b"%d:" % len(item) + item)
                else:
                    state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    def to_json(self) -> Dict[str, Any]:
        """What the feeds are (not their values), as JSON data."""
        return {
            "origin": self.origin,
            "samples": len(self.samples),
            "tensors": {
                name: {"dtype": _dtype(value), "shape": list(value.shape)}
                for name, value in sorted(self.samples[0].items() if self.samples else ())
            },
            "notes": list(self.notes),
            "digest": self.digest,
        }


def _dtype(array: np.ndarray) -> str:
    return "string" if array.dtype == object else array.dtype.name


def load_feeds(
    path: Union[str, Path],
    view: ScopeView,
    placeholders: Sequence[Placeholder],
    tensors: Sequence[str],
    declared: Optional[Mapping[str, Declared]] = None,
) -> Feeds:
    """Feeds from an ``.npz`` whose keys are names of tensors (``input:0``, or ``input``).

    Args:
        path: of the file.
        view: the main graph.
        placeholders: its placeholders.
        tensors: the outputs that are to be fetched.
        declared: dtype and shape of tensors that are no placeholders, where TensorFlow tells them.

    Raises:
        InputError: the file cannot be read, or does not fit the graph; see ``bind_feeds``.
    """
    return bind_feeds(read_npz(path), view, placeholders, tensors, declared)


def bind_feeds(
    arrays: Mapping[str, np.ndarray],
    view: ScopeView,
    placeholders: Sequence[Placeholder],
    tensors: Sequence[str],
    declared: Optional[Mapping[str, Declared]] = None,
) -> Feeds:
    """Feeds from arrays by name; see ``load_feeds`` for the arguments.

    Raises:
        InputError: a name that the graph does not have (near misses are offered), a dtype or shape
            that does not fit, a missing feed, or arrays that give different numbers of samples.
    """
    known = {item.tensor: (item.dtype, item.shape) for item in placeholders}
    known.update({name: what for name, what in (declared or {}).items() if name not in known})
    named = _named(arrays, view, placeholders)
    check_complete(view, placeholders, tensors, set(named))
    notes: List[str] = []
    pieces: Dict[str, List[np.ndarray]] = {}
    for name, given in named.items():
        array = np.asarray(given)
        shape: Optional[Shape] = None
        if name in known:
            dtype, shape = known[name]
            array, note = fitted(name, array, dtype)
            notes += [note] if note else []
        pieces[name] = _split(name, array, shape)
    samples = _zipped(pieces)
    feeds = Feeds(samples, FILE, tuple(notes))
    return batched(feeds, {name: known[name][1] for name in named if name in known})


def check_complete(
    view: ScopeView, placeholders: Sequence[Placeholder], tensors: Sequence[str], fed: Set[str]
) -> None:
    """Refuse feeds that leave out a placeholder that the outputs need.

    Raises:
        InputError: it names the placeholders, their dtypes and shapes.
    """
    missing = missing_placeholders(view, placeholders, tensors, fed)
    if missing:
        texts = [
            f"{item.tensor!r} ({dtype_name(item.dtype)}, {shape_text(item.shape)})"
            for item in missing
        ]
        raise InputError(f"the feeds leave out {', '.join(texts)}, which the outputs need")


def _named(
    arrays: Mapping[str, np.ndarray], view: ScopeView, placeholders: Sequence[Placeholder]
) -> Dict[str, np.ndarray]:
    """The arrays by full tensor name."""
    named: Dict[str, np.ndarray] = {}
    inputs = {item.name for item in placeholders}
    for key, array in arrays.items():
        node = key.partition(":")[0]
        if node not in view.nodes:
            near = close(node, sorted(inputs), _SUGGESTIONS, 0.5)
            near = near or close(node, view.nodes, _SUGGESTIONS)
            hint = f"; is {' or '.join(repr(item + ':0') for item in near)} meant?" if near else ""
            raise InputError(f"the graph has no tensor {key!r:.300} to feed{hint}")
        name = tensor_name(view, key)
        if node in inputs and not name.endswith(":0"):
            raise InputError(f"placeholder {node!r} has only the output {node}:0, not {name!r}")
        if name in named:
            raise InputError(f"the feeds give {name!r} twice, as {node!r} and as {name!r}")
        named[name] = array
    return named


def _split(name: str, array: np.ndarray, shape: Optional[Shape]) -> List[np.ndarray]:
    """The samples that an array holds; see the rule above."""
    if shape is None or _fits(array.shape, shape):
        return [array]
    if array.ndim == len(shape) + 1 and _fits(array.shape[1:], shape) and len(array):
        return [array[at : at + 1].reshape(array.shape[1:]) for at in range(len(array))]
    if array.ndim == len(shape) > 0 and shape[0] > 0 and len(array):
        size, rest = divmod(len(array), shape[0])
        if not rest and _fits(array.shape[1:], shape[1:]):
            return [array[at * shape[0] : (at + 1) * shape[0]] for at in range(size)]
    raise InputError(
        f"{name}: the feed has shape {list(array.shape)}, the tensor {shape_text(shape)}: give "
        "that shape, or several samples along one more axis in front"
    )


def _fits(actual: Shape, declared: Shape) -> bool:
    return len(actual) == len(declared) and all(
        wanted in (-1, size) for size, wanted in zip(actual, declared)
    )


def _zipped(pieces: Mapping[str, List[np.ndarray]]) -> Tuple[Sample, ...]:
    counts = {name: len(values) for name, values in pieces.items() if len(values) > 1}
    if len(set(counts.values())) > 1:
        texts = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise InputError(f"the feeds hold different numbers of samples ({texts})")
    total = max(counts.values(), default=1)
    return tuple(
        {name: _at(values, number) for name, values in pieces.items()} for number in range(total)
    )


def _at(values: List[np.ndarray], number: int) -> np.ndarray:
    value = values[number if len(values) > 1 else 0].view()
    value.flags.writeable = False
    return value


def batched(feeds: Feeds, shapes: Mapping[str, Optional[Shape]], limit: int = BATCH_BYTES) -> Feeds:
    """Cut a single sample of more than ``limit`` bytes into batches.

    Done only where every array that has axes has a free first axis, all of one length; other feeds
    are returned as they are.
    """
    if len(feeds.samples) != 1:
        return feeds
    sample = feeds.samples[0]
    total = sum(array.nbytes for array in sample.values())
    stacked = {name: array for name, array in sample.items() if array.ndim}
    lengths = {len(array) for array in stacked.values()}
    free = all((shapes.get(name) or (0,))[0] == -1 for name in stacked)
    if total <= limit or len(lengths) != 1 or not free:
        return feeds
    length = lengths.pop()
    step = max(1, int(length * limit // total))
    if step >= length:
        return feeds
    samples = tuple(
        {
            name: array[at : at + step] if name in stacked else array
            for name, array in sample.items()
        }
        for at in range(0, length, step)
    )
    note = f"the batch of {length} is run in pieces of {step}"
    return replace(feeds, samples=samples, notes=(*feeds.notes, note))


def shape_text(shape: Optional[Shape]) -> str:
    """A declared shape for people: [?, 224, 224, 3], or "any shape"."""
    if shape is None:
        return "any shape"
    return "[" + ", ".join("?" if size < 0 else str(size) for size in shape) + "]"
