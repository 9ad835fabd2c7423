"""What the reference gave, in a file, so that it need not be there later.

An ``.npz`` without pickles: ``meta`` (JSON as bytes), and for each sample
``feed/<sample>/<tensor>`` and ``output/<sample>/<tensor>``, tensors by their number in ``meta``.
Strings are stored as their bytes one after the other and their lengths. The same data gives the
same bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from graphwq.errors import InputError
from graphwq.graphdef import jsontext
from graphwq.verify.feeds import FILE, SYNTHETIC, Feeds, Sample
from graphwq.verify.npz import read_npz, write_npz
from graphwq.verify.outputs import (
    TRIES,
    Comparison,
    Limits,
    Observer,
    OutputsResult,
    Progress,
    same_bits,
)
from graphwq.verify.runner import Runner

FORMAT, VERSION = "graphwq-golden", 1
_LENGTHS, _BYTES = "/lengths", "/bytes"


@dataclass(frozen=True)
class Golden:
    """The outputs of a reference for some samples.

    Attributes:
        graph_digest: sha256 of the reference.
        tensorflow: version that ran it.
        feeds: the samples.
        outputs: for each sample the values by tensor name; strings are object arrays of bytes.
        repeatable: whether the reference gave the same bits twice for the first sample.
    """

    graph_digest: str
    tensorflow: str
    feeds: Feeds
    outputs: Tuple[Mapping[str, np.ndarray], ...]
    repeatable: bool

    @property
    def tensors(self) -> Tuple[str, ...]:
        """The names of the outputs, in the order in which they were asked for."""
        return tuple(self.outputs[0]) if self.outputs else ()


def record_golden(
    reference: Runner,
    tensors: Sequence[str],
    feeds: Feeds,
    graph_digest: str,
    tensorflow: str,
    progress: Optional[Progress] = None,
) -> Golden:
    """Run the reference on every sample and keep what it gives.

    Raises:
        InputError: it cannot be run, or there is nothing to be kept.
    """
    if not tensors or not feeds.samples:
        raise InputError("golden data of no outputs or no samples would prove nothing")
    outputs: List[Mapping[str, np.ndarray]] = []
    repeatable = True
    for number, sample in enumerate(feeds.samples):
        found = reference.run(tensors, sample)
        if number == 0:
            again = reference.run(tensors, sample)
            repeatable = all(same_bits(np.asarray(found[n]), np.asarray(again[n])) for n in tensors)
        outputs.append({name: np.asarray(found[name]) for name in tensors})
        if progress is not None:
            progress(number + 1, len(feeds.samples), "golden")
    return Golden(graph_digest, tensorflow, feeds, tuple(outputs), repeatable)


def compare_golden(
    golden: Golden,
    candidate: Runner,
    limits: Optional[Limits] = None,
    exact: bool = False,
    progress: Optional[Progress] = None,
    observe: Optional[Observer] = None,
) -> OutputsResult:
    """Like ``outputs.compare_outputs``, with golden data in the place of the reference."""
    comparison = Comparison(candidate, golden.tensors, limits or Limits(), exact, observe)
    tries = TRIES if exact else 1
    comparison.run(lambda number, _: dict(golden.outputs[number]), golden.feeds, progress, tries)
    return comparison.result(golden.feeds, golden.repeatable)


def save_golden(path: Union[str, Path], golden: Golden, force: bool = False) -> int:
    """Write golden data in one step; return the bytes written.

    Raises:
        InputError: the file exists and ``force`` is not set, or it cannot be written.
    """
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "graph_digest": golden.graph_digest,
        "tensorflow": golden.tensorflow,
        "samples": len(golden.feeds.samples),
        "feeds": list(golden.feeds.tensors),
        "outputs": list(golden.tensors),
        "origin": golden.feeds.origin,
        "notes": list(golden.feeds.notes),
        "repeatable": golden.repeatable,
    }
    text = json.dumps(meta, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    arrays: Dict[str, np.ndarray] = {"meta": np.frombuffer(text, np.uint8)}
    for kind, names, samples in _parts(golden):
        for number, sample in enumerate(samples):
            for index, name in enumerate(names):
                arrays.update(_encoded(f"{kind}/{number}/{index}", sample[name]))
    return write_npz(path, arrays, force)


def load_golden(path: Union[str, Path]) -> Golden:
    """Read golden data.

    Raises:
        InputError: no such file, no golden data, data of another version, or damaged data.
    """
    arrays = read_npz(path)
    meta = _meta(arrays, path)
    try:
        count, fed, fetched = meta["samples"], meta["feeds"], meta["outputs"]
        if not (isinstance(count, int) and 0 < count <= len(arrays) and fetched):
            raise InputError(f"{path} holds no samples or no outputs")
        samples: List[Sample] = []
        outputs: List[Mapping[str, np.ndarray]] = []
        for number in range(count):
            samples.append(_sample(arrays, "feed", number, fed))
            outputs.append(_sample(arrays, "output", number, fetched))
        if meta["origin"] not in (FILE, SYNTHETIC):
            raise InputError(f"{path} is damaged: its feeds are from {meta['origin']!r:.100}")
        notes = tuple(str(note) for note in meta["notes"])
        return Golden(
            str(meta["graph_digest"]),
            str(meta["tensorflow"]),
            Feeds(tuple(samples), meta["origin"], notes),
            tuple(outputs),
            bool(meta["repeatable"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged golden data: {error!r:.200}") from error


def _meta(arrays: Mapping[str, np.ndarray], path: Union[str, Path]) -> Dict[str, Any]:
    found = arrays.get("meta")
    try:
        text = (
            "null"
            if found is None
            else found.astype(np.uint8).tobytes().decode("utf-8", "surrogatepass")
        )
        data = jsontext.loads(text)
    except (ValueError, TypeError):
        data = None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path} is not golden data: make it with graphwq verify --save-golden")
    if data.get("version") != VERSION:
        raise InputError(
            f"{path} is golden data of version {data.get('version')!r:.50}; this graphwq reads "
            f"version {VERSION}"
        )
    return data


def _parts(golden: Golden) -> Sequence[Tuple[str, Sequence[str], Sequence[Sample]]]:
    return (
        ("feed", golden.feeds.tensors, golden.feeds.samples),
        ("output", golden.tensors, golden.outputs),
    )


def _encoded(key: str, array: np.ndarray) -> Dict[str, np.ndarray]:
    if array.dtype != object:
        return {key: array}
    texts = [bytes(item) for item in array.reshape(-1)]
    lengths = np.asarray([len(text) for text in texts], np.int64).reshape(array.shape)
    return {key + _LENGTHS: lengths, key + _BYTES: np.frombuffer(b"".join(texts), np.uint8)}


def _sample(
    arrays: Mapping[str, np.ndarray], kind: str, number: int, names: Sequence[str]
) -> Dict[str, np.ndarray]:
    found: Dict[str, np.ndarray] = {}
    for index, name in enumerate(names):
        value = _decoded(arrays, f"{kind}/{number}/{index}")
        value.flags.writeable = False
        found[str(name)] = value
    return found


def _decoded(arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key in arrays:
        return arrays[key].view()
    lengths, data = arrays[key + _LENGTHS], arrays[key + _BYTES]
    flat = [int(size) for size in lengths.reshape(-1)]
    if data.dtype != np.uint8 or min(flat, default=0) < 0 or sum(flat) != data.size:
        raise InputError(f"the strings of {key!r} are damaged")
    content = data.tobytes()
    texts = np.empty(len(flat), object)
    begin = 0
    for place, size in enumerate(flat):
        texts[place] = content[begin : begin + size]
        begin += size
    return texts.reshape(lengths.shape)
