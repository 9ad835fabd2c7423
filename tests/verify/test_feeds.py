"""Feeds from files: names, dtypes, shapes and samples, and files that are not what they claim."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import pytest
from builders import GraphBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.graphdef import dtypes
from graphwq.survey.view import ScopeView, build
from graphwq.verify.feeds import FILE, Feeds, batched, bind_feeds, load_feeds
from graphwq.verify.interface import Placeholder, placeholders
from graphwq.verify.npz import read_npz, write_npz

INT32, INT64, STRING = dtypes.DT_INT32, dtypes.DT_INT64, dtypes.DT_STRING


def _graph(
    shape: Optional[Sequence[int]] = (-1, 4), dtype: int = dtypes.DT_FLOAT
) -> Tuple[ScopeView, Tuple[Placeholder, ...]]:
    b = GraphBuilder()
    x = b.placeholder("input/x", shape, dtype)
    b.op("y", "Identity", [x])
    b.placeholder("unneeded", [3])
    graph = b.graph()
    return build(graph).main, placeholders(graph)


def _bind(arrays: Dict[str, Any], *graph: Any, **how: Any) -> Feeds:
    return bind_feeds(arrays, *(_graph(*graph, **how)), ["y:0"])


def _ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_from_a_file(tmp_path: Path) -> None:
    """Keys are tensors; a node alone means its first output."""
    for key in ("input/x:0", "input/x"):
        path = tmp_path / f"{len(key)}.npz"
        np.savez(path, **{key: _ones(2, 4)})
        feeds = load_feeds(path, *_graph(), ["y:0"])
        assert feeds.tensors == ("input/x:0",)
        assert feeds.origin == FILE
        assert feeds.notes == ()
        np.testing.assert_array_equal(feeds.samples[0]["input/x:0"], _ones(2, 4))
        assert feeds.to_json()["tensors"] == {"input/x:0": {"dtype": "float32", "shape": [2, 4]}}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inptu/x": _ones(1, 4)}, "no tensor 'inptu/x' to feed; is 'input/x:0' meant"),
        ({"zzz": _ones(1, 4)}, "no tensor 'zzz'"),
        ({}, "leave out 'input/x:0'"),
        ({"unneeded": _ones(3)}, r"leave out 'input/x:0' \(float32, \[\?, 4\]\)"),
        ({"input/x": _ones(1, 5)}, r"shape \[1, 5\], the tensor \[\?, 4\]"),
        ({"input/x": _ones(4)}, r"shape \[4\]"),
        ({"input/x:1": _ones(1, 4)}, "only the output input/x:0"),
        ({"input/x": _ones(1, 4), "input/x:0": _ones(1, 4)}, "twice"),
        ({"input/x": np.ones((1, 4), bool)}, "dtype bool"),
        ({"input/x": np.ones((1, 4), complex)}, "dtype complex128"),
        ({"input/x": np.full((1, 4), 1e300)}, "too large for float32"),
        ({"input/x": np.full((1, 4), 2**24 + 1)}, "dtype int64"),
        ({"input/x": np.full((1, 4), "a")}, "the tensor of float32"),
    ],
)
def test_feeds_that_do_not_fit(arrays: Dict[str, np.ndarray], message: str) -> None:
    """One sentence that says what is wrong and with which tensor."""
    with pytest.raises(InputError, match=message) as caught:
        _bind(arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "dtype", "said"),
    [
        (np.ones((1, 4), np.float64), dtypes.DT_FLOAT, True),
        (np.ones((1, 4), np.float16), dtypes.DT_FLOAT, True),
        (np.ones((1, 4), np.uint8), dtypes.DT_FLOAT, True),
        (np.full((1, 4), 2**24), dtypes.DT_FLOAT, True),
        (np.ones((1, 4), np.int64), INT32, True),
        (np.ones((1, 4), np.uint8), INT64, True),
        (np.ones((1, 4), ">f4"), dtypes.DT_FLOAT, False),
        (np.ones((1, 4), bool), dtypes.DT_BOOL, False),
        (np.asarray([[np.nan, np.inf, 1, 2]]), dtypes.DT_FLOAT, True),
    ],
)
def test_casts_that_keep_the_values(array: np.ndarray, dtype: int, said: bool) -> None:
    """They are done, and said."""
    feeds = _bind({"input/x": array}, (-1, 4), dtype)
    value = feeds.samples[0]["input/x:0"]
    assert value.dtype == dtypes.NUMPY[dtype]
    np.testing.assert_array_equal(value.astype(array.dtype), array)
    assert bool(feeds.notes) is said
    assert all(str(dtypes.NUMPY[dtype]) in note for note in feeds.notes)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.full((1, 4), 2**31), INT32),
        (np.full((1, 4), -1), dtypes.DT_UINT8),
        (np.full((1, 4), 2**63, np.uint64), INT64),
        (np.full((1, 4), 1.0), INT32),
        (np.full((1, 4), 1), dtypes.DT_BOOL),
        (np.full((1, 4), 1.0), dtypes.DT_QUINT8),
    ],
)
def test_casts_that_would_not(array: np.ndarray, dtype: int) -> None:
    """They are refused."""
    with pytest.raises(InputError):
        _bind({"input/x": array}, (-1, 4), dtype)


def test_strings() -> None:
    """Bytes, text, void (which keeps zeros at the end) and uint8 all become bytes."""
    for array in (
        np.asarray([b"ab", b"c"]),
        np.asarray(["ab", "c"]),
        np.asarray([b"ab", b"c"], object),
    ):
        value = _bind({"input/x": array}, (-1,), STRING).samples[0]["input/x:0"]
        assert value.dtype == object
        assert list(value) == [b"ab", b"c"]
    raw = np.frombuffer(b"\x01\x00", np.uint8)
    assert _bind({"input/x": raw}, (), STRING).samples[0]["input/x:0"].item() == b"\x01\x00"
    void = np.asarray(np.void(b"\x01\x00"))
    assert _bind({"input/x": void}, (), STRING).samples[0]["input/x:0"].item() == b"\x01\x00"
    with pytest.raises(InputError, match="takes strings"):
        _bind({"input/x": np.ones(2)}, (-1,), STRING)


@pytest.mark.parametrize(
    ("declared", "given", "samples"),
    [
        ((-1, 4), (7, 4), [(7, 4)]),  # 1: it fits, the whole batch at once
        ((2, 4), (2, 4), [(2, 4)]),
        ((), (), [()]),
        ((2, 4), (3, 2, 4), [(2, 4)] * 3),  # 2: one more axis in front
        ((-1, 4), (3, 5, 4), [(5, 4)] * 3),
        ((), (3,), [()] * 3),
        ((2, 4), (6, 4), [(2, 4)] * 3),  # 3: a multiple of the batch
        ((1, 4), (5, 4), [(1, 4)] * 5),
        (None, (3, 2), [(3, 2)]),  # 4: nothing is known
    ],
)
def test_how_arrays_become_samples(declared: Any, given: Any, samples: Any) -> None:
    """The rule in the docstring of feeds.py, with the values in their order."""
    array = np.arange(np.prod(given, dtype=int), dtype=np.float32).reshape(given)
    feeds = _bind({"input/x": array}, declared)
    values = [sample["input/x:0"] for sample in feeds.samples]
    assert [value.shape for value in values] == samples
    np.testing.assert_array_equal(np.concatenate([v.reshape(-1) for v in values]), array.ravel())


def test_samples_of_several_inputs() -> None:
    """Numbers of samples must agree; what fits as it is goes with each of them."""
    b = GraphBuilder()
    b.op("y", "Sub", [b.placeholder("a", [1, 2]), b.placeholder("b", [])])
    graph = b.graph()
    view, declared = build(graph).main, placeholders(graph)
    feeds = bind_feeds({"a": _ones(3, 2), "b": _ones()}, view, declared, ["y:0"])
    assert [sorted(sample) for sample in feeds.samples] == [["a:0", "b:0"]] * 3
    feeds = bind_feeds({"a": _ones(3, 2), "b": np.arange(3.0)}, view, declared, ["y:0"])
    assert [float(sample["b:0"]) for sample in feeds.samples] == [0, 1, 2]
    with pytest.raises(InputError, match="different numbers of samples"):
        bind_feeds({"a": _ones(3, 2), "b": _ones(2)}, view, declared, ["y:0"])


def test_strings_as_samples_stay_bytes() -> None:
    """Also where a sample is a single string."""
    feeds = _bind({"input/x": np.asarray([b"a", b"bc"])}, (), STRING)
    assert [sample["input/x:0"].item() for sample in feeds.samples] == [b"a", b"bc"]
    assert all(sample["input/x:0"].dtype == object for sample in feeds.samples)


def test_a_feed_inside_the_graph() -> None:
    """What is upstream of it need not be fed; its dtype and shape are checked where known."""
    view, declared = _graph()
    feeds = bind_feeds({"y": _ones(9)}, view, declared, ["y:0"])
    assert feeds.tensors == ("y:0",)
    known = {"y:0": (dtypes.DT_FLOAT, (-1, 4))}
    with pytest.raises(InputError, match=r"the tensor \[\?, 4\]"):
        bind_feeds({"y": _ones(9)}, view, declared, ["y:0"], known)


def test_a_graph_that_takes_nothing() -> None:
    """No arrays are one sample."""
    b = GraphBuilder()
    b.op("y", "Relu", [b.const("c", np.ones(3, np.float32))])
    assert bind_feeds({}, build(b.graph()).main, (), ["y:0"]).samples == ({},)


def test_large_batches_are_cut() -> None:
    """Only where every array has one free batch axis; the values stay what they are."""
    sample = {"x:0": np.arange(40, dtype=np.float32).reshape(10, 4), "flag:0": np.asarray(True)}
    feeds = Feeds((sample,), FILE)
    shapes = {"x:0": (-1, 4), "flag:0": ()}
    cut = batched(feeds, shapes, 64)
    assert [len(item["x:0"]) for item in cut.samples] == [3, 3, 3, 1]
    assert all(item["flag:0"] for item in cut.samples)
    np.testing.assert_array_equal(np.concatenate([i["x:0"] for i in cut.samples]), sample["x:0"])
    assert "10" in cut.notes[0]
    assert batched(feeds, shapes, 10_000) is feeds
    assert batched(feeds, {"x:0": (10, 4), "flag:0": ()}, 64) is feeds


def test_the_digest_tells_feeds_apart() -> None:
    """Names, dtypes, shapes, values and the order of samples count; other things do not."""
    one = {"a:0": _ones(2, 2)}
    base = Feeds((one,), FILE).digest
    assert Feeds(({"a:0": _ones(2, 2).copy()},), "synthetic", ("note",)).digest == base
    others = [{"b:0": _ones(2, 2)}, {"a:0": _ones(4)}, {"a:0": _ones(2, 2) * 2}]
    others.append({"a:0": np.ones((2, 2))})
    digests = {Feeds((other,), FILE).digest for other in others}
    digests |= {Feeds((one, one), FILE).digest, base}
    assert len(digests) == 6
    texts = [np.asarray([b"a", b"bc"], object), np.asarray([b"ab", b"c"], object)]
    assert len({Feeds(({"a:0": text},), FILE).digest for text in texts}) == 2


def test_the_arrays_of_the_caller_stay_writable() -> None:
    """Samples are read-only; what they were made from is not touched."""
    array = _ones(1, 4)
    feeds = _bind({"input/x": array})
    array[0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        feeds.samples[0]["input/x:0"][0, 0] = 1


# ---------------------------------------------------------------------------------- the file


def _npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + version + len(text).to_bytes(width, "little") + text + data


def _zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_npy(_HEADER, b"\0" * 7), "declares 8 bytes and holds 7"),
        (_npy(_HEADER, b"\0" * 9), "declares 8 bytes and holds 9"),
        (_npy(_HEADER.replace("(2,)", "(2**40,)"), b"\0" * 8), "cannot be read"),
        (_npy(_HEADER.replace("(2,)", "(1099511627776,)"), b"\0" * 8), "declares 4398046511104"),
        (_npy(_HEADER.replace("(2,)", "(-1,)"), b""), "declares the shape"),
        (_npy(_HEADER.replace("(2,)", "(True, 2)"), b"\0" * 8), "declares the shape"),
        (_npy(_HEADER.replace("(2,)", str((1,) * 40)), b"\0" * 4), "cannot be read"),
        (_npy(_HEADER.replace("<f4", "|O"), b"\0" * 16), "Python objects"),
        (_npy(_HEADER.replace("'<f4'", "[('a', '<f4')]"), b"\0" * 8), "no tensor has"),
        (_npy(_HEADER.replace("<f4", "<M8[s]"), b"\0" * 16), "no tensor has"),
        (_npy(_HEADER.replace("<f4", "|S0"), b""), "declares 0 bytes"),
        (_npy("__import__('os').system('true')"), "cannot be read"),
        (_npy("(" * 5000), "cannot be read"),
        (_npy("{"), "cannot be read"),
        (_npy(_HEADER, b"\0" * 8, b"\x07\x00"), "not in the .npy format"),
        (b"hello", "not in the .npy format"),
        (b"", "not in the .npy format"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "header of 2147483647 bytes"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "ends inside its header"),
    ],
    ids=[f"case{number}" for number in range(19)],
)
def test_hostile_arrays(content: bytes, message: str, tmp_path: Path) -> None:
    """Each is refused in a sentence, before memory is taken for what it declares."""
    with pytest.raises(InputError, match=message) as caught:
        read_npz(_zip(tmp_path / "a.npz", x=content))
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    """numpy's own object arrays."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.asarray([{}, 1], object))
    with pytest.raises(InputError, match="pickle"):
        read_npz(path)


def test_hostile_archives(tmp_path: Path) -> None:
    """Bombs, strangers in the archive, names that occur twice, files of other kinds."""
    bomb = _zip(tmp_path / "bomb.npz", x=_npy(_HEADER, b"\0" * 10_000_000))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(InputError, match="split them"):
        read_npz(bomb, max_bytes=1_000_000)
    with zipfile.ZipFile(str(tmp_path / "other.npz"), "w") as archive:
        archive.writestr("../evil.txt", b"")
    with pytest.raises(InputError, match="no array"):
        read_npz(tmp_path / "other.npz")
    with zipfile.ZipFile(str(tmp_path / "twice.npz"), "w") as archive:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr("x.npy", _npy(_HEADER, b"\0" * 8))
    with pytest.raises(InputError, match="two arrays"):
        read_npz(tmp_path / "twice.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(InputError, match="single .npy"):
        read_npz(tmp_path / "single.npy")
    for content in (b"", b"PK", b"PK\x03\x04 nothing"):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            read_npz(tmp_path / "broken.npz")
    with pytest.raises(InputError, match="no file"):
        read_npz(tmp_path / "none.npz")
    with pytest.raises(InputError):
        read_npz(tmp_path)


def test_a_flipped_byte_is_seen(tmp_path: Path) -> None:
    """The checksum of the archive is looked at."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(1000, np.float32))
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError):
        read_npz(path)


@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_arrays_or_an_error(data: bytes, at: int) -> None:
    """Bytes written into a valid file anywhere: arrays or an InputError, nothing else."""
    import tempfile

    buffer = io.BytesIO()
    np.savez(buffer, x=np.arange(6, dtype=np.float32), y=np.asarray([b"ab"]))
    content = bytearray(buffer.getvalue())
    content[at : at + len(data)] = data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(content)
        try:
            found = read_npz(path)
        except InputError:
            return
        assert all(not array.dtype.hasobject for array in found.values())


def test_written_and_read(tmp_path: Path) -> None:
    """What is written is read, and the same arrays give the same bytes."""
    arrays = {
        "a/b:0": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.asarray(3, np.int64),
        "empty": np.zeros((0, 3), np.float16),
        "text": np.asarray([b"a", b"bc"]),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "flags": np.asarray([True, False]),
    }
    write_npz(tmp_path / "one.npz", arrays)
    write_npz(tmp_path / "two.npz", dict(reversed(list(arrays.items()))))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = read_npz(tmp_path / "one.npz")
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
    with np.load(tmp_path / "one.npz", allow_pickle=False) as loaded:
        np.testing.assert_array_equal(loaded["fortran"], arrays["fortran"])
    with pytest.raises(InputError, match="exists"):
        write_npz(tmp_path / "one.npz", arrays)
    with pytest.raises(InputError, match="objects"):
        write_npz(tmp_path / "three.npz", {"x": np.asarray([b""], object)})
