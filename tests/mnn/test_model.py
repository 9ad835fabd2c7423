"""Reading .mnn files: beside the converter's own JSON dump, and damaged ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from conftest import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.mnn import child
from graphwq.mnn.flat import FlatError, root
from graphwq.mnn.model import parse, read, unpack


def _pack(codes: np.ndarray, bits: int, wide: bool = False) -> np.ndarray:
    """A weight record, written from the description of the format."""
    item = "<u4" if wide else "<u2"
    low = -(1 << (bits - 1))
    table = np.arange(low, -low, dtype=np.int8)
    text = "".join(format(int(code) - low, f"0{bits}b") for code in codes.reshape(-1))
    text += "0" * (-len(text) % 8)
    packed = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    head = b"\x02" + np.array(codes.shape, item).tobytes()
    count = bytes([len(table) % 256])
    return np.frombuffer(head + count + table.tobytes() + packed, np.uint8)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 64)])
def test_unpack(bits: int, wide: bool, shape: Any) -> None:
    """Codes of every width come back as they were packed, odd sizes and 32-bit shapes included."""
    random = np.random.RandomState(bits)
    codes = random.randint(-(1 << (bits - 1)), 1 << (bits - 1), shape).astype(np.int8)
    found = unpack(_pack(codes, bits, wide), wide)
    assert found[0] == bits
    assert np.array_equal(found[1], codes)


def test_unpack_of_a_large_record() -> None:
    """More codes than are unpacked at a time."""
    codes = np.random.RandomState(0).randint(-4, 4, (3, 200_001)).astype(np.int8)
    assert np.array_equal(unpack(_pack(codes, 3, True), True)[1], codes)


@pytest.mark.parametrize("cut", [0, 1, 4, 6, 9, -1])
def test_unpack_of_damaged_records(cut: int) -> None:
    """A record that is cut off is an error, as is one that has too much."""
    record = _pack(np.zeros((2, 5), np.int8), 4)
    with pytest.raises(FlatError):
        unpack(record[:cut], False)
    with pytest.raises(FlatError):
        unpack(np.concatenate([record, record[:1]]), False)


def test_an_index_outside_of_its_table() -> None:
    """A table of three values has two-bit indices; the fourth leads nowhere."""
    record = bytes([2, 1, 0, 1, 0, 3, 255, 0, 1, 0b11000000])
    with pytest.raises(FlatError, match="outside"):
        unpack(np.frombuffer(record, np.uint8), False)


def _dump(model: Path, folder: Path) -> Dict[str, Any]:
    """The model as the converter itself dumps it: an independent reader."""
    script = (
        "import sys, _tools, MNN; _tools.mnnconvert(['mnnconvert', '-f', 'MNN', '--modelFile',"
        "sys.argv[1], '--JsonFile', sys.argv[2]])"
    )
    target = folder / "dump.json"
    command = [sys.executable, "-c", script, str(model), str(target)]
    subprocess.run(command, cwd=str(folder), capture_output=True, timeout=120, check=True)
    found: Dict[str, Any] = json.loads(target.read_text())
    return found


@pytest.mark.mnn
@pytest.mark.parametrize("name", ["digits_cnn", "digits_lstm", "digits_embedding"])
@pytest.mark.parametrize("bits", [0, 3, 8])
def test_reader_agrees_with_the_converters_own(name: str, bits: int, tmp_path: Path) -> None:
    """Names, shapes, types, codes, scales and biases are those of MNN's JSON dump."""
    target = tmp_path / "model.mnn"
    options = [f"--weightQuantBits={bits}", "--weightQuantAsymmetric=0"] if bits else []
    child.convert(FIXTURES / f"{name}.pb", target, options)
    model, dump = read(target), _dump(target, tmp_path)
    ops = [("", op) for op in dump["oplists"]]
    for graph in dump.get("subgraphs", []):
        ops += [(graph["name"], op) for op in graph["nodes"]]
    assert model.names == tuple(op.get("name", "") for _, op in ops)
    assert model.uuid == dump["mnn_uuid"]
    assert model.nbytes == target.stat().st_size
    assert model.tensors == tuple(dump["tensorName"])
    wanted = [(graph, op) for graph, op in ops if op["main_type"] == "Convolution2D"]
    assert len(wanted) == len(model.layers) > 0
    for layer, (graph, op) in zip(model.layers, wanted):
        common, main = op["main"]["common"], op["main"]
        assert (layer.subgraph, layer.name, layer.op) == (graph, op["name"], op["type"])
        assert layer.kernel == (common["kernelY"], common["kernelX"])
        assert (layer.outputs, layer.group) == (common["outputCount"], common["group"])
        assert np.allclose(layer.bias, main["bias"], atol=1e-6)
        assert np.allclose(layer.weight, main.get("weight", []), atol=1e-6)
        stored = main.get("quanParameter")
        assert (layer.quantized is None) == (stored is None) == (bits == 0)
        if layer.quantized is not None:
            buffer = np.array(stored["buffer"], np.int8).view(np.uint8)
            assert np.array_equal(unpack(buffer, stored["shapeInt32"])[1], layer.quantized.codes)
            assert layer.quantized.num_bits == bits
            assert np.allclose(layer.quantized.scale, stored["alpha"], atol=1e-6)


@pytest.mark.mnn
def test_inputs_and_outputs(tmp_path: Path) -> None:
    """The ends of the model, by name."""
    target = tmp_path / "model.mnn"
    child.convert(FIXTURES / "digits_cnn.pb", target)
    model = read(target)
    assert model.inputs == ("input",)
    assert model.outputs == ("softmax",)


def test_no_model_at_all(tmp_path: Path) -> None:
    """A file that is none is bad input with its path in the message."""
    path = tmp_path / "x.mnn"
    path.write_bytes(b"no model, just some text of a few bytes")
    with pytest.raises(InputError, match="x.mnn"):
        read(path)
    with pytest.raises(InputError, match="missing.mnn"):
        read(tmp_path / "missing.mnn")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Any bytes give a model or an InputError."""
    try:
        parse(memoryview(data))
    except InputError:
        pass


@pytest.mark.mnn
def test_damaged_models(tmp_path: Path) -> None:
    """A real model with bits flipped or its end cut off gives a model or an InputError."""
    target = tmp_path / "model.mnn"
    child.convert(FIXTURES / "digits_cnn.pb", target, ["--weightQuantBits=4"])
    data = target.read_bytes()
    random = np.random.RandomState(0)
    for _ in range(300):
        damaged = bytearray(data[: random.randint(8, len(data))] if random.rand() < 0.3 else data)
        for place in random.randint(0, len(damaged), 3):
            damaged[place] ^= 1 << random.randint(8)
        try:
            parse(memoryview(bytes(damaged)))
        except InputError:
            pass


def _texts_at_one_place(count: int, length: int) -> bytes:
    """A FlatBuffer whose root has a vector of texts, all of them the same bytes."""
    numbers = np.array([12, 0x00080006, 4, 8, 4, count], "<u4").tobytes()  # root, vtable, table
    end = len(numbers) + 4 * count
    offsets = end - (len(numbers) + 4 * np.arange(count))
    return numbers + offsets.astype("<u4").tobytes() + np.uint32(length).tobytes() + b"a" * length


def test_bytes_that_are_used_again_and_again() -> None:
    """Offsets that all lead to one long text: a small file that stands for any amount of data."""
    honest = root(memoryview(_texts_at_one_place(10, 1000)))
    assert honest.texts(0) == ("a" * 1000,) * 10
    with pytest.raises(FlatError, match="again and again"):
        root(memoryview(_texts_at_one_place(1000, 100_000))).texts(0)
