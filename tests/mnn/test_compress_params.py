"""The compression file: beside protobuf itself, appended to, damaged, and read by the converter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given
from hypothesis import strategies as st

from graphwq.errors import InputError
from graphwq.graphdef.wire import delimited, tag, varint
from graphwq.mnn.compress_params import Record, append, create, is_json, read

from .layers import bias, conv, converted, graph_of, matmul, relu

RECORDS = [Record("conv/a", "", 4), Record("fc__matmul_converted", "loop/body", 8, 32)]

_FIELD = descriptor_pb2.FieldDescriptorProto
#: message -> (number, name, type or message, repeated, required); MNN_compression.proto of 3.6.0
_SCHEMA: Dict[str, List[Any]] = {
    "Act": [(1, "name", "string", 0, 1), (2, "bits", "int32", 0, 0), (3, "scales", "float", 1, 0)],
    "Weight": [
        (1, "name", "string", 0, 1),
        (2, "bits", "int32", 0, 0),
        (3, "scales", "float", 1, 0),
        (6, "asymmetric", "bool", 0, 0),
        (7, "block_size", "int32", 0, 0),
    ],
    "Layer": [
        (1, "input", "Act", 1, 0),
        (2, "weight", "Weight", 1, 0),
        (3, "output", "Act", 1, 0),
        (6, "op_name", "string", 0, 0),
        (7, "subgraph_name", "string", 0, 0),
    ],
    "Quantize": [(1, "round_mode", "int32", 0, 0), (4, "layer", "Layer", 1, 0)],
    "Level": [(1, "weight_tensor_names", "string", 1, 0), (2, "prune_ratios", "float", 1, 0)],
    "Prune": [(1, "type", "int32", 0, 0), (2, "level_pruner_params", "Level", 0, 0)],
    "Algo": [
        (1, "type", "int32", 0, 0),
        (2, "quant_params", "Quantize", 0, 0),
        (3, "prune_params", "Prune", 0, 0),
    ],
    "Pipeline": [
        (1, "version", "string", 0, 1),
        (2, "algo", "Algo", 1, 0),
        (3, "mnn_uuid", "string", 0, 0),
        (4, "for_guide", "bool", 0, 0),
        (99, "from_the_future", "string", 0, 0),
    ],
}


def _pipeline_class() -> Any:
    """The messages, made by protobuf from the schema: an independent reader and writer."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto2")
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for number, name, kind, repeated, required in fields:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            field = described.field.add(
                name=name, number=number, label=_FIELD.LABEL_REQUIRED if required else label
            )
            if kind in _SCHEMA:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".t.{kind}"
            else:
                field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("t.Pipeline")
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(found)
    return message_factory.MessageFactory(pool).GetPrototype(found)


PIPELINE = _pipeline_class()


def _pruner() -> Any:
    """What a pruner of mnncompress leaves behind, with something newer in it."""
    pipeline = PIPELINE(version="0.0.0", mnn_uuid="the-uuid", from_the_future="kept")
    algo = pipeline.algo.add(type=1)
    algo.prune_params.type = 0
    algo.prune_params.level_pruner_params.weight_tensor_names.append("conv/kernel")
    algo.prune_params.level_pruner_params.prune_ratios.append(0.5)
    return pipeline


def _check_layers(layers: Any, records: List[Record]) -> None:
    assert len(layers) == len(records)
    for layer, record in zip(layers, records):
        assert (layer.op_name, layer.subgraph_name) == (record.op_name, record.subgraph)
        (weight,) = layer.weight
        assert (weight.name, weight.bits) == (record.op_name, record.num_bits)
        assert weight.HasField("asymmetric")
        assert weight.asymmetric is False
        assert weight.block_size == record.block_size
        assert [output.name for output in layer.output] == ["(weights only)"]


@pytest.mark.parametrize("as_json", [False, True])
def test_create(as_json: bool) -> None:
    """protobuf reads what was written: version, uuid, for_guide, and every field of a record."""
    data = create(RECORDS, "some-uuid", as_json)
    if as_json:
        pipeline = json_format.Parse(
            data.decode().replace('"QUANTIZE"', "0"), PIPELINE(), ignore_unknown_fields=False
        )
    else:
        pipeline = PIPELINE.FromString(data)
    assert (pipeline.version, pipeline.mnn_uuid, pipeline.for_guide) == ("0.0.0", "some-uuid", True)
    (algo,) = pipeline.algo
    assert (algo.type, algo.HasField("prune_params")) == (0, False)
    _check_layers(algo.quant_params.layer, RECORDS)


def _written(tmp_path: Path, data: bytes, name: str = "params.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_append_to_a_pruner(tmp_path: Path) -> None:
    """Earlier algorithms, the uuid and unknown fields stay; the records come behind."""
    path = _written(tmp_path, _pruner().SerializeToString())
    found = PIPELINE.FromString(append(path, RECORDS))
    assert (found.mnn_uuid, found.from_the_future, found.for_guide) == ("the-uuid", "kept", True)
    assert found.algo[0] == _pruner().algo[0]
    _check_layers(found.algo[1].quant_params.layer, RECORDS)
    assert len(found.algo) == 2


def test_append_to_earlier_records(tmp_path: Path) -> None:
    """Records go in front of those of the first quantizer; of one name only ours is left."""
    pipeline = _pruner()
    params = pipeline.algo.add(type=0).quant_params
    params.round_mode = 2
    for name in ("conv/a", "other"):
        layer = params.layer.add(op_name=name)
        layer.weight.add(name=name, bits=6, scales=[1.0, 2.0])
    pipeline.algo.add(type=0).quant_params.layer.add(op_name="never read")
    path = _written(tmp_path, pipeline.SerializeToString())
    found = PIPELINE.FromString(append(path, RECORDS))
    assert found.algo[1].quant_params.round_mode == 2
    _check_layers(found.algo[1].quant_params.layer[:2], RECORDS)
    assert list(found.algo[1].quant_params.layer[2:]) == [params.layer[1]]
    assert found.algo[2] == pipeline.algo[2]
    assert read(_written(tmp_path, found.SerializeToString())) == [*RECORDS, Record("other", "", 6)]


def test_append_twice_changes_nothing(tmp_path: Path) -> None:
    """The same records again: the same bytes."""
    once = append(_written(tmp_path, _pruner().SerializeToString()), RECORDS)
    assert append(_written(tmp_path, once), RECORDS) == once


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_for_guide_and_channel_pruning(kind: int, tmp_path: Path) -> None:
    """for_guide would keep the converter from pruning channels: it is not set beside FILTER (2)."""
    pipeline = _pruner()
    pipeline.algo[0].prune_params.type = kind
    path = _written(tmp_path, pipeline.SerializeToString())
    assert PIPELINE.FromString(append(path, RECORDS)).for_guide is (kind != 2)
    text = {"version": "0.0.0", "algo": [{"type": "PRUNE", "prune_params": {}}]}
    text["algo"][0]["prune_params"]["type"] = ["RANDOM", "SIMD_OC", "FILTER"][kind]  # type: ignore
    path = _written(tmp_path, json.dumps(text).encode(), "params.json")
    assert json.loads(append(path, RECORDS)).get("forGuide", False) is (kind != 2)


@pytest.mark.parametrize("snake", [False, True])
def test_append_json(snake: bool, tmp_path: Path) -> None:
    """JSON in either spelling keeps what it has, unknown keys too, and takes the records."""
    keys = ("quant_params", "op_name") if snake else ("quantParams", "opName")
    old = {"weight": [{"name": "conv/a", "bits": 2}], keys[1]: "conv/a"}
    kept = {"weight": [{"name": "b", "bits": 3}], keys[1]: "b", "new": 1}
    text = {
        "version": "0.0.0", "mnnUuid": "u", "future": [1],
        "algo": [{"type": "PRUNE", "future": 2}, {keys[0]: {"layer": [old, kept], "roundMode": 1}}],
    }  # fmt: skip
    path = _written(tmp_path, json.dumps(text).encode(), "params.json")
    found = json.loads(append(path, RECORDS))
    assert (found["mnnUuid"], found["future"], found["forGuide"]) == ("u", [1], True)
    assert found["algo"][0] == text["algo"][0]  # type: ignore[index]
    params = found["algo"][1][keys[0]]
    assert params["roundMode"] == 1
    assert [layer.get("opName") for layer in params["layer"][:2]] == ["conv/a", RECORDS[1].op_name]
    assert params["layer"][2:] == [kept]
    again = _written(tmp_path, append(path, RECORDS), "params.json")
    assert read(again) == [*RECORDS, Record("b", "", 3)]


def test_the_suffix_decides() -> None:
    """As in the converter: what stands behind the last dot is exactly ``json``."""
    assert is_json(Path("a/b.json"))
    assert is_json(Path("json"))
    assert not is_json(Path("a.JSON"))
    assert not is_json(Path("a.json.bin"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.bin", b"just some text"),
        ("p.bin", b"\x08\x01"),
        ("p.bin", delimited(2, b"\x08\x00")),
        ("p.bin", delimited(1, b"\xff\xfe")),
        ("p.bin", delimited(1, b"0") + delimited(2, delimited(2, delimited(4, b"\xff")))),
        ("p.bin", delimited(1, b"0") + b"\x12\x7f"),
        ("p.json", b"{"),
        ("p.json", b"[]"),
        ("p.json", b'{"algo": []}'),
        ("p.json", b'{"version": "0", "algo": {}}'),
        ("p.json", b'{"version": "0", "algo": [{"quantParams": {"layer": [1]}}]}'),
        ("p.json", b'{"version": "0", "algo": [{"quantParams": []}]}'),
        ("p.json", b'{"version": "0", "algo": [{"quantParams": {"layer": [{"opName": 1}]}}]}'),
        ("p.json", b"\xff"),
        ("p.json", b"[" * 100_000),
    ],
)
def test_no_compression_file(name: str, data: bytes, tmp_path: Path) -> None:
    """A file that is none is refused, with its path, for reading as for appending."""
    path = _written(tmp_path, data, name)
    for action in (lambda: append(path, RECORDS), lambda: read(path)):
        with pytest.raises(InputError, match=f"{name} is not an MNN compression file"):
            action()


def test_append_to_a_missing_file(tmp_path: Path) -> None:
    """Append to a missing file: an error that says how to make a new one."""
    with pytest.raises(InputError, match=r"gone.bin.*without --append"):
        append(tmp_path / "gone.bin", RECORDS)


@given(st.binary(max_size=60))
def test_any_bytes(tmp_path_factory: Any, data: bytes) -> None:
    """Any bytes: a compression file or an InputError."""
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("p.bin", "p.json"):
        path = folder / name
        path.write_bytes(data)
        try:
            append(path, RECORDS)
        except InputError:
            pass


def _bits(graph: Any, folder: Path, name: str, data: bytes, *options: str) -> Dict[str, Any]:
    """Bits per layer of what the converter makes with a compression file; 0 is float."""
    path = _written(folder, data, name)
    model = converted(graph, folder, ["--compressionParamsFile", str(path), *options])
    found = {}
    for layer in model.layers:
        stored = layer.quantized
        assert stored is None or not stored.asymmetric
        found[layer.name] = 0 if stored is None else (stored.num_bits, len(stored.scale))
    return found


def _two_layers() -> Any:
    def build(b: Any) -> None:
        c = b.op("sum", "BiasAdd", [conv(b, (3, 3, 32, 16), 32), bias(b)])
        flat = b.op("flat", "Reshape", [relu(b, c), b.const("shape", [1, 1024])])
        from builders import random_weight

        relu(b, b.matmul("d", flat, b.const("w2", random_weight((1024, 16)))), "z")

    return graph_of(build)


@pytest.mark.mnn
@pytest.mark.parametrize("name", ["params.bin", "params.json"])
def test_the_converter_honours_it(name: str, tmp_path: Path) -> None:
    """Bits and blocks per layer as the records say, in both forms; unlisted layers stay float."""
    graph, fc = _two_layers(), "d__matmul_converted"
    as_json = name.endswith("json")
    every = [Record("sum", "", 3, 16), Record(fc, "", 8)]
    found = _bits(graph, tmp_path, name, create(every, "u", as_json))
    assert found == {"sum": (3, 32), fc: (8, 16)}
    found = _bits(graph, tmp_path, name, create(every[:1], "u", as_json))
    assert found == {"sum": (3, 32), fc: 0}
    off = [Record("sum", "", 0), Record(fc, "", 4)]
    found = _bits(graph, tmp_path, name, create(off, "u", as_json), "--weightQuantBits", "4")
    assert found == {"sum": 0, fc: (4, 16)}


@pytest.mark.mnn
@pytest.mark.parametrize("guide", [False, True])
def test_the_dummy_output_is_harmless(guide: bool, tmp_path: Path) -> None:
    """With and without for_guide: the full-int8 path finds no tensor of that name."""
    data = create([Record("c__matmul_converted", "", 4)], "u", False)
    if not guide:
        data = data[: -len(tag(4, 0) + varint(1))]
    found = _bits(graph_of(lambda b: relu(b, matmul(b))), tmp_path, "p.bin", data)
    assert found == {"c__matmul_converted": (4, 16)}


@pytest.mark.mnn
def test_the_uuid_reaches_the_model(tmp_path: Path) -> None:
    """The uuid of the file is the model's."""
    path = _written(tmp_path, create([], "12345678-aaaa", False))
    model = converted(
        graph_of(lambda b: relu(b, matmul(b))), tmp_path, ["--compressionParamsFile", str(path)]
    )
    assert model.uuid == "12345678-aaaa"
