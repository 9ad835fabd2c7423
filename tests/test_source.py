"""graphdef/source.py and mapping.py: from a path to a graph, and a clear word on all else."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Callable, Dict

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense
from strategies import UNKNOWN_FIELDS, field
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef

import graphwq
from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef import mapping
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.source import load, save, to_text

ROOT = Path(__file__).resolve().parent.parent


def _write(folder: Path, data: bytes, name: str = "model.pb") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --------------------------------------------------------------------------------------- binary


def test_a_binary_graph_is_read_and_written_unchanged(tmp_path: Path) -> None:
    """Law 1 through files: unknown fields and all."""
    data = convolution().to_bytes() + UNKNOWN_FIELDS[2] + b"\x18\x80\x00"
    graph = load(_write(tmp_path, data))
    assert graph.to_bytes() == data
    assert save(graph, tmp_path / "copy.pb") == len(data)
    assert (tmp_path / "copy.pb").read_bytes() == data


def test_paths_may_be_text(tmp_path: Path) -> None:
    """A ``str`` does as well as a ``Path``, also through the public names."""
    path = str(_write(tmp_path, dense().to_bytes()))
    assert graphwq.load(path).digest == dense().digest
    graphwq.save(graphwq.load(path), str(tmp_path / "copy.pb"))
    assert load(tmp_path / "copy.pb").digest == dense().digest


def test_a_graph_may_have_any_name(tmp_path: Path) -> None:
    """Binary graphs are told by their content, not by their suffix."""
    assert load(_write(tmp_path, dense().to_bytes(), "graph")).digest == dense().digest
    assert load(_write(tmp_path, dense().to_bytes(), "model.tflite")).digest == dense().digest


def test_a_large_file_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a size on the file is mapped, and reads and writes the same bytes."""
    import mmap

    data = convolution((3, 3, 64, 64)).to_bytes()
    path = _write(tmp_path, data)
    monkeypatch.setattr(mapping, "MAP_FROM_BYTES", 1)
    view = mapping.read_file(path)
    assert isinstance(view.obj, mmap.mmap)
    graph = load(path)
    assert graph.to_bytes() == data
    save(graph, tmp_path / "copy.pb")
    assert (tmp_path / "copy.pb").read_bytes() == data
    assert graph.to_bytes() == data  # pages that were given back are read again
    view.release()
    with pytest.raises(InputError, match="is empty"):
        load(_write(tmp_path, b"", "empty.pb"))


_REPLACE = """
import sys
from graphwq.graphdef import mapping
from graphwq.graphdef.source import load, save
mapping.MAP_FROM_BYTES = 1
graph = load(sys.argv[1])
save(graph, sys.argv[1], force=True)
print(graph.digest)
"""


def test_a_graph_may_replace_the_mapped_file_it_was_read_from(tmp_path: Path) -> None:
    """The old file stays readable for who has it mapped (the command line refuses this anyway).

    In a process of its own: truncating a mapped file would kill whoever reads it.
    """
    data = convolution((3, 3, 64, 64)).to_bytes()
    path = _write(tmp_path, data)
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    child = subprocess.run(
        [sys.executable, "-c", _REPLACE, str(path)], env=environment, stdout=subprocess.PIPE
    )
    assert child.returncode == 0
    assert child.stdout.decode().strip() == hashlib.sha256(data).hexdigest()
    assert path.read_bytes() == data


def test_walking_through_a_file_gives_each_step_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of a graph of gigabytes must not keep them in memory."""
    given_back = []
    monkeypatch.setattr(mapping, "_STEP", 1000)
    monkeypatch.setattr(mapping, "release", lambda view: given_back.append(bytes(view)))
    data = convolution((3, 3, 16, 16)).to_bytes()
    walked = []
    for piece in mapping.pieces(data):
        assert len(walked) == len(given_back)
        walked.append(bytes(piece))
    assert b"".join(walked) == data
    assert given_back == walked
    assert max(map(len, walked)) == 1000
    graph = convolution((3, 3, 16, 16))
    del given_back[:]
    assert graph.digest == hashlib.sha256(data).hexdigest()
    assert b"".join(given_back) == data


def test_a_small_file_is_read(tmp_path: Path) -> None:
    """Below the size nothing stays open: the file may change under us."""
    path = _write(tmp_path, dense().to_bytes())
    graph = load(path)
    path.write_bytes(b"something else")
    assert graph.to_bytes() == dense().to_bytes()


def test_save_needs_force_to_replace(tmp_path: Path) -> None:
    """Both forms of file are written atomically and with the same rules."""
    for name in ("out.pb", "out.pbtxt"):
        path = _write(tmp_path, b"old", name)
        with pytest.raises(InputError, match="exists: add --force"):
            save(dense(), path)
        assert path.read_bytes() == b"old"
        save(dense(), path, force=True)
        assert [node.name for node in load(path).nodes] == [node.name for node in dense().nodes]


# ----------------------------------------------------------------------------------------- text


def _rich() -> Graph:
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4])
    w = b.const("w", np.array([[1.5, -0.0, 1e-45, 3e38]], np.float32).T, control=[x])
    b.const("h", np.array([1, 2], np.float16), device="/cpu:0")
    b.op("y", "MatMul", [x, w], transpose_a=False, label=b"\xff\x00\n\"'")
    return b.graph()


@pytest.mark.parametrize("suffix", [".pbtxt", ".prototxt", ".textproto"])
def test_text_round_trip(tmp_path: Path, suffix: str) -> None:
    """Written as text and read back: the same graph to protobuf, weights bit for bit."""
    path = tmp_path / ("graph" + suffix)
    graph = _rich()
    size = save(graph, path)
    assert path.stat().st_size == size
    text = path.read_text(encoding="utf-8")
    assert text.startswith("node {")
    again = load(path)
    assert GraphDef.FromString(again.to_bytes()) == GraphDef.FromString(graph.to_bytes())
    assert again.nodes[1].tensor().numpy().tobytes() == graph.nodes[1].tensor().numpy().tobytes()  # type: ignore[union-attr]
    assert to_text(again) == text


def test_text_is_read_to_the_same_bytes_every_time(tmp_path: Path) -> None:
    """The map order of attributes does not reach the bytes (law 8)."""
    path = tmp_path / "graph.pbtxt"
    save(convolution(), path)
    assert load(path).digest == load(path).digest
    assert load(path).to_bytes() == GraphDef.FromString(load(path).to_bytes()).SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("start", ["", "\n  ", "# a comment\n"])
def test_text_under_a_binary_name(tmp_path: Path, start: str) -> None:
    """A text graph named .pb is read as what it is."""
    data = (start + to_text(_rich())).encode()
    assert [node.name for node in load(_write(tmp_path, data)).nodes] == ["x", "w", "h", "y"]


def test_text_with_a_field_that_graphdef_does_not_have(tmp_path: Path) -> None:
    """Said with line and field: dropping it silently would change the graph."""
    path = _write(tmp_path, b'node { name: "a" op: "NoOp" }\nnonsense: 3\n', "graph.pbtxt")
    with pytest.raises(InputError, match=r"graph\.pbtxt is not a GraphDef in text format") as info:
        load(path)
    assert "nonsense" in str(info.value)
    assert "2:1" in str(info.value)


@pytest.mark.parametrize(
    "data",
    [
        b'node { name: "a" op: "NoOp" ',
        b'node { name: "a" op: 3 }',
        b'node { name: "\\xff" op: "NoOp" }',
        b'node { name: "a" op: "C" attr { key: "T" value { type: 99999999999 } } }',
        b'node { name: "a" op: "C" attr { key: "T" value { i: 99999999999999999999 } } }',
        b'node { name: "a" op: "C" attr { key: "T" value { type: DT_NONSENSE } } }',
        b'node { name: "a" op: "C" attr { key: "T" value { b: maybe } } }',
        b"node <",
        b"random words in a file",
        b"\x00\x01\x02",
        b'node { name: "a" }',
        b'node { op: "NoOp" }',
        b"node { attr { value { list { func { attr { value { " * 3000,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_broken_text(tmp_path: Path, data: bytes) -> None:
    """Whatever is wrong with a text graph is an InputError that names the file."""
    with pytest.raises(InputError, match=r"graph\.pbtxt"):
        load(_write(tmp_path, data, "graph.pbtxt"))


def test_a_binary_graph_under_a_text_name(tmp_path: Path) -> None:
    """The message says what to do: rename it."""
    path = _write(tmp_path, convolution().to_bytes(), "graph.pbtxt")
    with pytest.raises(InputError, match=r"is not UTF-8 text: rename it if it is a binary graph"):
        load(path)


def test_a_graph_that_cannot_be_put_into_text(tmp_path: Path) -> None:
    """A broken attribute is carried through binary files, but text has no place for it."""
    entry = field(5, field(1, b"T") + field(2, b"\x0a\x05ab"))
    graph = Graph.parse(field(1, b"\x0a\x01a\x12\x01b" + entry))
    save(graph, tmp_path / "out.pb")
    assert load(tmp_path / "out.pb").to_bytes() == graph.to_bytes()
    with pytest.raises(GraphWQError):
        save(graph, tmp_path / "out.pbtxt")
    assert not (tmp_path / "out.pbtxt").exists()


# ------------------------------------------------------------------------------- the wrong files


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.pb", dense().to_bytes())
    return buffer.getvalue()


def _meta_graph(version: str) -> bytes:
    proto = MetaGraphDef()
    proto.meta_info_def.meta_graph_version = version
    proto.meta_info_def.stripped_op_list.op.add(name="NoOp")
    proto.meta_info_def.tensorflow_version = "1.15.3"
    proto.graph_def.node.add(name="a", op="NoOp")
    proto.graph_def.node.add(name="conv1/weights", op="Const")
    return proto.SerializeToString()


_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
_WRONG: Dict[str, Callable[[], bytes]] = {
    "is a TFLite model": lambda: b"\x1c\x00\x00\x00TFL3" + bytes(100),
    "is an HDF5 file": lambda: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "is a zip archive: unpack it first": _zip,
    "is gzip-compressed: unpack it first": lambda: gzip.compress(dense().to_bytes()),
    "is a Git LFS pointer, not the model: run `git lfs pull` first": lambda: _LFS,
}


@pytest.mark.parametrize("message", sorted(_WRONG))
def test_files_of_another_kind(tmp_path: Path, message: str) -> None:
    """What the file is and what to do about it."""
    with pytest.raises(InputError, match=r"model\.pb") as info:
        load(_write(tmp_path, _WRONG[message]()))
    assert message in str(info.value)


@pytest.mark.parametrize("version", ["", "v1"])
def test_a_meta_graph(tmp_path: Path, version: str) -> None:
    """A MetaGraph is no frozen graph, although its bytes resemble one: it needs a checkpoint."""
    bare = _meta_graph(version)
    with pytest.raises(InputError, match="is not a frozen GraphDef"):
        load(_write(tmp_path, bare, "bare.pb"))
    proto = MetaGraphDef.FromString(bare)
    proto.saver_def.filename_tensor_name = "save/Const:0"
    proto.collection_def["variables"].bytes_list.value.append(b"x")
    path = _write(tmp_path, proto.SerializeToString(), "model.ckpt.meta")
    with pytest.raises(InputError, match=r"there is no checkpoint .*model\.ckpt"):
        load(path)
    path = _write(tmp_path, proto.SerializeToString(), "graph.pb")
    with pytest.raises(InputError, match="is a MetaGraph: give --checkpoint"):
        load(path)


def test_an_empty_file(tmp_path: Path) -> None:
    """Zero bytes are not taken for the graph without nodes."""
    for name in ("model.pb", "graph.pbtxt"):
        with pytest.raises(InputError, match="is empty: there is no graph in it"):
            load(_write(tmp_path, b"", name))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Name, reason, advice; also where a file stands in the place of a folder."""
    with pytest.raises(InputError, match=r"cannot read .*none\.pb: No such file .*check the path"):
        load(tmp_path / "none.pb")
    _write(tmp_path, b"x", "file")
    with pytest.raises(InputError, match="cannot read .*: Not a directory"):
        load(tmp_path / "file" / "model.pb")


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "ring"], ids=["too_long", "null", "ring"])
def test_names_that_the_system_refuses(tmp_path: Path, name: str) -> None:
    """No name makes reading die of anything but an InputError."""
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(InputError, match="cannot read"):
        load(str(tmp_path) + "/" + name)


def test_a_folder(tmp_path: Path) -> None:
    """A folder (of a SavedModel?) is named as such."""
    with pytest.raises(
        InputError, match="is a folder without saved_model.pb or a 'checkpoint' file: give"
    ):
        load(tmp_path)


def test_truncated_graphs(tmp_path: Path) -> None:
    """A graph that lacks its end is refused wherever it was cut inside a field."""
    data = convolution((1, 1, 2, 3)).to_bytes()
    whole = {0}
    for item in Graph.parse(data).layout:
        size = len(item if isinstance(item, memoryview) else item.frame or b"")
        whole.add(max(whole) + size)
    assert max(whole) == len(data)
    refused = 0
    for length in range(1, len(data)):
        path = _write(tmp_path, data[:length])
        if length in whole:
            assert load(path).to_bytes() == data[:length]
            continue
        refused += 1
        with pytest.raises(
            InputError, match="is not a frozen GraphDef .*check that it is complete"
        ):
            load(path)
    assert refused == len(data) - len(whole) + 1


@pytest.mark.parametrize(
    "data",
    [
        b"Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"#!/bin/sh\necho hello\n",
        b"<!DOCTYPE html><html></html>",
        b'{"json": true}',
        bytes(100),
        b"\xff" * 100,
        b"\n",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_files_of_no_kind_we_know(tmp_path: Path, data: bytes) -> None:
    """Anything else is an InputError that names the file and what to check."""
    with pytest.raises(InputError, match=r"model\.pb is not a (frozen )?GraphDef"):
        load(_write(tmp_path, data))


def test_messages_are_one_line(tmp_path: Path) -> None:
    """Every message fits the one line that the command line prints."""
    for make in _WRONG.values():
        with pytest.raises(InputError) as info:
            load(_write(tmp_path, make()))
        assert "\n" not in str(info.value)
