"""graphdef/checkpoint.py, bundle.py, checkpoint_v1.py, pieces.py: tensors of a checkpoint."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import checkpoints
import numpy as np
import pytest
from checkpoints import entry, header, number, table, v1_table, write_bundle, write_v1
from hypothesis import given
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.graphdef import mapping
from graphwq.graphdef.checkpoint import exists, latest, open_checkpoint, prefix_of
from graphwq.graphdef.dtypes import DT_FLOAT
from graphwq.graphdef.pieces import Piece, StoredTensor
from graphwq.graphdef.wire import delimited

_WRITERS: Dict[str, Callable[..., None]] = {"bundle": write_bundle, "v1": write_v1}


def _values() -> Dict[str, np.ndarray]:
    random = np.random.RandomState(0)
    kinds: List[Any] = [np.float32, np.float64, np.float16, np.int32, np.int64, np.uint8, np.bool_]
    values = {f"v/{np.dtype(kind)}": (random.randn(3, 5) * 9).astype(kind) for kind in kinds}
    return {**values, "scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.float32)}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("form", sorted(_WRITERS))
def test_values(tmp_path: Path, form: str, compress: bool) -> None:
    """Every dtype, scalars and empty tensors, bit for bit."""
    values = _values()
    _WRITERS[form](tmp_path / "model", values, compress=compress)
    checkpoint = open_checkpoint(tmp_path / "model")
    assert set(checkpoint.tensors) == set(values)
    for name, value in values.items():
        tensor = checkpoint.tensors[name]
        assert (tensor.shape, bytes(tensor.content())) == (value.shape, value.tobytes()), name
    assert all(path.is_file() for path in checkpoint.files)
    assert len(checkpoint.files) == (1 if form == "v1" else 2)


@pytest.mark.parametrize("form", sorted(_WRITERS))
def test_a_float_tensor_is_a_slice_of_the_mapped_file(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is copied, whole or the rows of a part."""
    monkeypatch.setattr(mapping, "MAP_FROM_BYTES", 1)
    value = np.random.RandomState(0).randn(40, 30).astype(np.float32)
    _WRITERS[form](tmp_path / "model", {"w": value, "x": value})
    tensor = open_checkpoint(tmp_path / "model").tensors["w"]
    assert isinstance(tensor.content().obj, mmap.mmap)
    rows = tensor.content(((7, 20), (0, 30)))
    assert isinstance(rows.obj, mmap.mmap)
    assert bytes(rows) == value[7:27].tobytes()


@st.composite
def _cut_up(draw: st.DrawFn) -> Tuple[np.ndarray, Dict[Any, np.ndarray], Any]:
    """An array, a partition of it, and a region."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    cuts = [sorted(draw(st.sets(st.integers(1, size), max_size=2)) | {0, size}) for size in shape]
    pieces: Dict[Any, np.ndarray] = {(): array}
    for axis, places in enumerate(cuts):
        finer = {}
        for key, part in pieces.items():
            for begin, end in zip(places, places[1:]):
                index = (slice(None),) * axis + (slice(begin, end),)
                finer[(*key, (begin, end - begin))] = part[index]
        pieces = finer
    region = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        region.append((start, draw(st.integers(1, size - start))))
    return array, pieces, tuple(region)


@pytest.mark.parametrize("form", sorted(_WRITERS))
@given(case=_cut_up())
def test_any_region_of_any_partition(
    tmp_path_factory: pytest.TempPathFactory, form: str, case: Any
) -> None:
    """Whatever the pieces, whatever the region: numpy's slice."""
    array, pieces, region = case
    prefix = tmp_path_factory.mktemp("cut") / "model"
    _WRITERS[form](prefix, {"w": (array.shape, pieces), "other": array})
    tensor = open_checkpoint(prefix).tensors["w"]
    index = tuple(slice(start, start + length) for start, length in region)
    assert bytes(tensor.content(region)) == array[index].tobytes()
    assert bytes(tensor.content()) == array.tobytes()


def test_pieces_that_do_not_fit() -> None:
    """A gap, an overlap, too many: an error, never values that nobody stored."""
    ones = memoryview(np.ones(4, np.float32).tobytes())

    def tensor(*starts: int) -> StoredTensor:
        pieces = tuple(Piece(((start, 4),), lambda: ones) for start in starts)
        return StoredTensor("w", DT_FLOAT, (8,), pieces)

    assert len(tensor(0, 4).content()) == 32
    with pytest.raises(InputError, match="only a part of 'w'"):
        tensor(0).content()
    with pytest.raises(InputError, match="overlap"):
        tensor(0, 3).content()
    with pytest.raises(InputError, match="overlap"):
        tensor(0, 2, 4).content()


def test_v1_in_parts(tmp_path: Path) -> None:
    """A sharded V1 checkpoint, its pieces in two files; by TensorFlow's pattern too."""
    value = np.arange(12, dtype=np.float32).reshape(4, 3)
    for index in range(2):
        piece = {((2 * index, 2), (0, 3)): value[2 * index : 2 * index + 2]}
        data = v1_table({"w": (value.shape, piece), f"own{index}": value})
        (tmp_path / f"model-{index:05d}-of-00002").write_bytes(data)
    for name in ("model", "model-?????-of-00002", "model-00001-of-00002"):
        checkpoint = open_checkpoint(tmp_path / name)
        assert bytes(checkpoint.tensors["w"].content()) == value.tobytes()
        assert set(checkpoint.tensors) == {"w", "own0", "own1"}
    (tmp_path / "model-00000-of-00002").unlink()
    with pytest.raises(InputError, match="model-00000-of-00002 is missing"):
        open_checkpoint(tmp_path / "model")
    other = v1_table({"w": np.zeros((9, 9), np.float32)})
    (tmp_path / "model-00000-of-00002").write_bytes(other)
    with pytest.raises(InputError, match="not of one checkpoint"):
        open_checkpoint(tmp_path / "model")


# ------------------------------------------------------------------------- what is damaged


def test_a_missing_data_file(tmp_path: Path) -> None:
    """Named, with the tensor; tensors of the other files can be read."""
    values = {f"v{n}": np.full(9, n, np.float32) for n in range(4)}
    write_bundle(tmp_path / "model", values, shards=2)
    (tmp_path / "model.data-00001-of-00002").unlink()
    tensors = open_checkpoint(tmp_path / "model").tensors
    assert bytes(tensors["v0"].content()) == values["v0"].tobytes()
    with pytest.raises(InputError, match="model.data-00001-of-00002 is missing, which holds 'v1'"):
        tensors["v1"].content()


def test_a_truncated_data_file(tmp_path: Path) -> None:
    """Cut anywhere: an error that names the file, also where nothing is left."""
    write_bundle(tmp_path / "model", {"v": np.arange(9, dtype=np.float32)})
    path = tmp_path / "model.data-00000-of-00001"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="model.data-00000-of-00001 is (cut short|empty)"):
            open_checkpoint(tmp_path / "model").tensors["v"].content()


@pytest.mark.parametrize("form", sorted(_WRITERS))
def test_a_changed_value(tmp_path: Path, form: str) -> None:
    """The checksum tells, unless it is not to be looked at."""
    value = np.arange(4000, dtype=np.float32)
    _WRITERS[form](tmp_path / "model", {"v": value})
    path = tmp_path / ("model" if form == "v1" else "model.data-00000-of-00001")
    data = bytearray(path.read_bytes())
    data[data.index(value[2000:2004].tobytes())] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"model.*checksum|checksum of 'v'.*damaged"):
        open_checkpoint(tmp_path / "model").tensors["v"].content()
    found = open_checkpoint(tmp_path / "model", check=False).tensors["v"].content()
    assert bytes(found) != value.tobytes()
    assert len(found) == value.nbytes


@pytest.mark.parametrize("form", sorted(_WRITERS))
def test_a_truncated_index(tmp_path: Path, form: str) -> None:
    """The file is named."""
    _WRITERS[form](tmp_path / "model", {"v": np.arange(9, dtype=np.float32)})
    path = tmp_path / ("model" if form == "v1" else "model.index")
    data = path.read_bytes()
    for length in (0, 1, 47, 48, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=path.name.replace(".", r"\.")) as info:
            open_checkpoint(tmp_path / "model")
        assert "\n" not in str(info.value)


_VALUES = np.ones((2, 3), np.float32)
_GOOD = entry(DT_FLOAT, (2, 3), 0, 0, 24, 0)
_INDEXES: Dict[str, Tuple[List[Tuple[bytes, bytes]], str]] = {
    "no header": ([(b"v", _GOOD)], "no header"),
    "big endian": ([(b"", number(1, 1) + number(2, 1)), (b"v", _GOOD)], "big-endian"),
    "later": ([(b"", number(1, 1) + delimited(3, number(2, 7))), (b"v", _GOOD)], "later format"),
    "shards": ([(b"", number(1, 10**9)), (b"v", _GOOD)], "data files"),
    "a shard": ([(b"", header()), (b"v", entry(1, (2, 3), 5, 0, 24, 0))], "part 5 of 1"),
    "an offset": ([(b"", header()), (b"v", entry(1, (2, 3), 0, -9, 24, 0))], "cut short"),
    "a size": ([(b"", header()), (b"v", entry(1, (2, 4), 0, 0, 24, 0))], "24 bytes .* needs 32"),
    "a huge shape": ([(b"", header()), (b"v", entry(1, (2**61, 8), 0, 0, 24, 0))], "its shape"),
    "a negative shape": ([(b"", header()), (b"v", entry(1, (-2, -3), 0, 0, 24, 0))], "shape"),
    "a dtype": ([(b"", header()), (b"v", entry(20, (2, 3), 0, 0, 24, 0))], "resource"),
    "a lost slice": (
        [(b"", header()), (b"v", _GOOD + delimited(7, delimited(1, number(2, 2))))],
        "slice",
    ),
    "not a message": ([(b"", header()), (b"v", b"\x0f")], "wire type"),
    "a name": ([(b"", header()), (b"\xff", _GOOD)], "not UTF-8"),
}


@pytest.mark.parametrize("name", sorted(_INDEXES))
def test_an_index_that_lies(tmp_path: Path, name: str) -> None:
    """One line about each way to be wrong; nothing is allocated for it."""
    items, said = _INDEXES[name]
    (tmp_path / "m.index").write_bytes(table(items))
    (tmp_path / "m.data-00000-of-00001").write_bytes(_VALUES.tobytes())
    with pytest.raises(InputError, match=said):
        open_checkpoint(tmp_path / "m", check=False).tensors["v"].content()


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.float16, np.bool_])
@pytest.mark.parametrize("there", [0, 1, 2, 5])
def test_too_few_values(tmp_path: Path, kind: Any, there: int, monkeypatch: Any) -> None:
    """In a constant the last value repeats; in a checkpoint that would be made up."""
    values = np.ones(there, kind)
    real = checkpoints._values
    monkeypatch.setattr(checkpoints, "_values", lambda _array: real(values))
    write_v1(tmp_path / "model", {"v": np.ones(4, kind)})
    with pytest.raises(InputError, match=f"'v' has {there} values in the checkpoint.* needs 4"):
        open_checkpoint(tmp_path / "model").tensors["v"].content()


# ----------------------------------------------------------------------------------- names


def test_prefixes() -> None:
    """Of any of the files; a prefix stays what it is."""
    for name in ("m.ckpt-7.index", "m.ckpt-7.meta", "m.ckpt-7.data-00000-of-00001", "m.ckpt-7"):
        assert prefix_of(Path("a") / name) == Path("a/m.ckpt-7")
    assert prefix_of(Path("m-00000-of-00003")) == Path("m")
    assert prefix_of(Path("m-?????-of-00003")) == Path("m")
    for name in (".meta", ".index", "-00000-of-00001", "x.data", "data-0-of-1"):
        assert prefix_of(Path(name)) == Path(name)


def test_a_prefix_that_is_not_there(tmp_path: Path) -> None:
    """What is near, what is missing, what to write."""
    write_bundle(tmp_path / "model.ckpt-100", {"v": _VALUES})
    with pytest.raises(InputError, match=r"no checkpoint .*model\.ckpt-10 \(is 'model.ckpt-100'"):
        open_checkpoint(tmp_path / "model.ckpt-10")
    with pytest.raises(InputError, match="there is no folder"):
        open_checkpoint(tmp_path / "nowhere" / "model")
    (tmp_path / "model.ckpt-100.index").unlink()
    with pytest.raises(InputError, match="model.ckpt-100.index is missing"):
        open_checkpoint(tmp_path / "model.ckpt-100")
    (tmp_path / "text").write_text("no checkpoint at all, but long enough to look into its end")
    with pytest.raises(InputError, match="is no checkpoint"):
        open_checkpoint(tmp_path / "text")
    assert not exists(tmp_path / "text")


def test_the_latest_of_a_folder(tmp_path: Path) -> None:
    """What the ``checkpoint`` file names, also after the folder was moved."""
    assert latest(tmp_path) is None
    write_bundle(tmp_path / "m-2", {"v": _VALUES})
    for named in ("m-2", str(tmp_path / "m-2"), "/was/elsewhere/m-2"):
        state = f'model_checkpoint_path: "{named}"\nall_model_checkpoint_paths: "m-1"\n'
        (tmp_path / "checkpoint").write_text(state)
        found = latest(tmp_path)
        assert found is not None
        assert found.resolve() == (tmp_path / "m-2").resolve()
    (tmp_path / "checkpoint").write_text("something else")
    assert latest(tmp_path) is None
