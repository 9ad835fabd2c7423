"""What the fuzzer starts from: small valid inputs of every kind, made by the code of the tests."""

from __future__ import annotations

import io
import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
from builders import GraphBuilder, convolution, dense, random_weight
from checkpoints import meta_graph, snappy, v1_table, write_bundle

from fuzz.files import pack
from graphwq.api import quantize
from graphwq.diff.compare import diff_graphs
from graphwq.diff.document import document
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import to_text
from graphwq.graphdef.wire import delimited, tag, varint
from graphwq.mnn.compress_params import Record, create
from graphwq.rewrite.options import Options
from graphwq.rewrite.planning import make_plan
from graphwq.verify.feeds import SYNTHETIC, Feeds
from graphwq.verify.golden import Golden, save_golden
from graphwq.verify.run import verify


@lru_cache(maxsize=None)
def small_graph() -> Graph:
    """Two dense layers, the second of which is used twice."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 6])
    h = b.op("h", "Relu", [b.matmul("m", x, b.const("w", random_weight((6, 5))))])
    v = b.const("v", random_weight((5, 5), 1))
    b.matmul("y", b.matmul("g", h, v), v, tb=True)
    return b.graph()


@lru_cache(maxsize=None)
def fed_graph() -> Graph:
    """Inputs of several dtypes."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4])
    ids = b.placeholder("ids", [2], dtypes.DT_INT32)
    b.placeholder("s", [], dtypes.DT_STRING)
    b.placeholder("any", None, dtypes.DT_HALF)
    rows = b.gather("rows", b.const("table", random_weight((3, 4))), ids)
    b.op("y", "AddN", [x, rows, "any", "s"], N=2)
    return b.graph()


def _table() -> Graph:
    b = GraphBuilder()
    ids = b.placeholder("ids", [-1], dtypes.DT_INT32)
    w = b.const("table", random_weight((40, 6)))
    rows = b.gather("rows", w, ids, b.const("axis", 0))
    b.matmul("logits", rows, w, tb=True)
    return b.graph()


def _wired() -> Graph:
    """What stands between a weight and its op: Enter, Split, Reshape, Transpose, Cast and more."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4])
    w = b.const("w", random_weight((8, 4)))
    entered = b.op("w/enter", "Enter", [w], frame_name="loop", is_constant=True)
    axis = b.const("axis", 1)
    b.op("cat", "ConcatV2", [x, x, axis], Tidx=("type", dtypes.DT_INT32), N=2)
    product = b.matmul("mul", "cat", entered)
    b.op("split", "Split", [axis, product], num_split=2)
    b.op("y", "Sigmoid", ["split:1"])
    w2 = b.const("w2", random_weight((4, 6)))
    shape = b.const("shape", np.array([1, 1, 4, 6], np.int32))
    perm = b.const("perm", np.array([0, 1, 2, 3], np.int32))
    moved = b.op("w2/t", "Transpose", [b.op("w2/r", "Reshape", [w2, shape]), perm])
    image = b.placeholder("image", [1, 8, 8, 4])
    b.conv("c", image, moved)
    half = b.const("half", random_weight((1, 1, 4, 2), 4, np.float16))
    cast = b.cast("half/cast", half, dtypes.DT_HALF, dtypes.DT_FLOAT)
    b.op("d", "DepthwiseConv2dNative", [image, cast], strides=[1, 1, 1, 1], padding="SAME")
    kernel = b.const("kernel", random_weight((3, 4, 5), 5))
    b.conv("e", image, b.op("kernel/e", "ExpandDims", [kernel, b.const("zero", 0)]))
    return b.graph()


def _functions() -> Graph:
    b, body = GraphBuilder(), GraphBuilder()
    body.const("w", random_weight((4, 4)))
    body.op("m", "MatMul", ["a", "w:output:0"])
    body.op("n", "MatMul", ["m:product:0", "k"])
    b.function("f", [("a", 1), ("k", 1)], body, [("r", "n:product:0", 1)])
    outer = GraphBuilder()
    outer.op("c", "PartitionedCall", ["a", "k"], f=("func", "f"), Tin=("types", [1, 1]))
    b.function("g", [("a", 1), ("k", 1)], outer, [("r", "c:output:0", 1)])
    x = b.placeholder("x", [-1, 4])
    b.op("y", "Identity", [b.call("call", "g", [x, b.const("k", random_weight((4, 3), 2))])])
    b.op("i", "If", [b.const("p", np.array(True)), x], then_branch=("func", "f"))
    return b.graph()


def _repeated() -> bytes:
    """A constant of one value in a typed list, and one of zeros without any."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4])
    data = b.to_bytes()
    for name, values in (("w", b"\x2d\0\0\x80\x3f"), ("z", b""), ("h", b"\x6a\x02\x80\x78")):
        dtype = 19 if name == "h" else 1
        shape = delimited(2, delimited(2, b"\x08\x04") + delimited(2, b"\x08\x03"))
        tensor = tag(1, 0) + varint(dtype) + shape + values
        attrs = delimited(5, delimited(1, b"dtype") + delimited(2, tag(6, 0) + varint(dtype)))
        attrs += delimited(5, delimited(1, b"value") + delimited(2, delimited(8, tensor)))
        data += delimited(1, delimited(1, name.encode()) + delimited(2, b"Const") + attrs)
    b = GraphBuilder()
    b.matmul("y", b.matmul("g", x, "w"), "z", ta=True)
    return data + b.to_bytes()


def _deconv() -> Graph:
    b = GraphBuilder()
    x = b.placeholder("x", [1, 4, 4, 3])
    w = b.const("w", random_weight((2, 2, 5, 3)))
    sizes = b.const("sizes", np.array([1, 8, 8, 5], np.int32))
    b.op("y", "Conv2DBackpropInput", [sizes, w, x], strides=[1, 2, 2, 1], padding="SAME")
    flat = b.op(
        "flat", "Einsum", ["y", b.const("k", random_weight((5, 7)))], equation="abcd,de->abce"
    )
    b.op("z", "BiasAdd", [flat, b.const("b", random_weight((7,)))], device="/cpu:0")
    return b.graph()


@lru_cache(maxsize=None)
def graphs() -> Dict[str, bytes]:
    """Graphs, float and quantized in every storage form."""
    made: Dict[str, Graph] = {
        "dense": dense(6, 4),
        "conv": convolution((2, 2, 3, 4)),
        "small": small_graph(),
        "table": _table(),
        "wired": _wired(),
        "functions": _functions(),
        "deconv": _deconv(),
    }
    for name, bits, storage in (
        ("small", 8, "dequant"),
        ("small", 4, "dequant"),
        ("small", 3, "bake"),
        ("conv", 5, "dequant"),
        ("conv", 8, "fake_quant"),
        ("table", 4, "dequant"),
        ("functions", 6, "dequant"),
    ):
        result = quantize(made[name], bits, storage, keep_larger=True)
        made[f"{name}-{bits}-{storage}"] = result.graph
    found = {name: graph.to_bytes() for name, graph in made.items()}
    found["repeated"] = _repeated()
    found["empty"] = b"\x22\x03\x08\x86\x01"
    return found


def graphs_with_options() -> Dict[str, bytes]:
    """Two bytes of options before each graph."""
    return {
        f"{name}-{index}": bytes([index * 37 % 256, index * 91 % 256]) + data
        for index, (name, data) in enumerate(sorted(graphs().items()))
    }


@lru_cache(maxsize=None)
def variables_graph() -> bytes:
    """A graph with variables of every kind."""
    b = GraphBuilder()
    b.placeholder("x", [-1, 4])
    b.variable("w", (4, 3))
    b.variable("handle", (3, 2), op="VarHandleOp")
    b.op("read", "ReadVariableOp", ["handle"], dtype=("type", dtypes.DT_FLOAT))
    body = GraphBuilder()
    body.op("get", "ReadVariableOp", ["a"], dtype=("type", dtypes.DT_FLOAT))
    b.function("f", [("a", dtypes.DT_RESOURCE)], body, [("r", "get:value:0", 1)])
    b.call("called", "f", ["handle"], types=[dtypes.DT_RESOURCE])
    h = b.matmul("h", b.op("xw", "MatMul", ["x", "w"]), "read")
    b.op("y", "Add", [h, "called"])
    b.op("update", "Assign", ["w", "w"])
    return b.to_bytes()


_TENSORS = {
    "w": random_weight((4, 3)),
    "handle": random_weight((3, 2)),
    "part": ((4, 6), {((0, 4), (0, 2)): random_weight((4, 2)),
                      ((0, 4), (2, 4)): random_weight((4, 4))}),
    "i": np.arange(3, dtype=np.int32),
    "h": np.ones(3, np.float16),
}  # fmt: skip


@lru_cache(maxsize=None)
def bundle(compress: bool = False) -> Tuple[bytes, bytes]:
    """Index and data of a V2 checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "m"
        write_bundle(prefix, _TENSORS, compress=compress)
        data = Path(folder) / "m.data-00000-of-00001"
        return (Path(folder) / "m.index").read_bytes(), data.read_bytes()


def checkpoints() -> Dict[str, bytes]:
    """Checkpoints of both formats, with the graph where it is not the usual one."""
    graph = variables_graph()
    index, data = bundle()
    packed = bundle(compress=True)
    return {
        "v2": pack({"index": index, "data": data, "graph": graph}),
        "v2-compressed": pack({"index": packed[0], "data": packed[1]}),
        "v2-unchecked": pack({"index": index, "data": data, "check": b"0"}),
        "v1": pack({"v1": v1_table(_TENSORS), "graph": graph}),
        "v1-unchecked": pack({"v1": v1_table(_TENSORS, compress=True), "check": b"0"}),
    }


def tables() -> Dict[str, bytes]:
    """Tables, and blocks of snappy behind an ``s``."""
    return {
        "index": bundle()[0],
        "compressed": bundle(compress=True)[0],
        "v1": v1_table(_TENSORS, block_size=100),
        "snappy": b"s" + snappy(b"abcabcabcabcabcabc" * 20 + bytes(range(256))),
    }


def metas() -> Dict[str, bytes]:
    """SavedModels and MetaGraphs, binary and text."""
    signatures = {"serving_default": {"scores": "y:0"}, "other": {"h": "h:0"}}
    meta = meta_graph(variables_graph(), ["serve"], signatures)
    second = meta_graph(small_graph().to_bytes(), ["train", "gpu"])
    saved = b"\x08\x01" + delimited(2, meta) + delimited(2, second)
    text = b'meta_info_def { tags: "serve" }\ngraph_def { ' + texts()["small"] + b" }\n"
    return {
        "saved": pack({"saved": saved}),
        "saved-signature": pack({"saved": saved, "signature": b"other"}),
        "meta": pack({"meta": meta_graph(variables_graph(), (), signatures, "save/restore_all")}),
        "saved-text": pack({"saved_text": b"meta_graphs { " + text + b" }\n"}),
        "meta-text": pack({"meta": text}),
    }


def texts() -> Dict[str, bytes]:
    """Graphs in text format."""
    names = ("dense", "small", "functions", "repeated")
    return {name: to_text(Graph.parse(graphs()[name])).encode() for name in names}


def tensors() -> Dict[str, bytes]:
    """TensorProtos behind a 1 and TensorShapeProtos behind a 0."""
    from graphwq.graphdef.protos import TensorProto

    found = {}
    lists = {
        1: ("float_val", [1.5, 2.0]),
        2: ("double_val", [0.5]),
        3: ("int_val", [3]),
        4: ("int_val", [4, 5]),
        7: ("string_val", [b"a", b"bc"]),
        8: ("scomplex_val", [1.0, 2.0]),
        9: ("int64_val", [-9]),
        10: ("bool_val", [True]),
        14: ("half_val", [16256]),
        17: ("int_val", [65535]),
        18: ("dcomplex_val", [1.0, 2.0]),
        19: ("half_val", [15360]),
        22: ("uint32_val", [7]),
        23: ("uint64_val", [2**63]),
    }
    for dtype, (field, values) in lists.items():
        proto = TensorProto(dtype=dtype)
        for size in (2, 3):
            proto.tensor_shape.dim.add().size = size
        getattr(proto, field).extend(values)
        found[f"{dtype}"] = b"\1" + proto.SerializeToString()
    proto = TensorProto(dtype=1, tensor_content=np.ones(6, np.float32).tobytes())
    for size in (2, 3):
        proto.tensor_shape.dim.add().size = size
    found["content"] = b"\1" + proto.SerializeToString()
    found["shape"] = b"\0" + proto.tensor_shape.SerializeToString()
    return found


def plans() -> Dict[str, bytes]:
    """Plans for ``small_graph``."""
    found = {}
    for index, options in enumerate(
        (
            Options(keep_larger=True),
            Options(bits=4, keep_larger=True, granularity="group", group_size=2),
            Options(bits=3, storage="bake", granularity="tensor", method="mse"),
            Options(bits=5, storage="fake_quant", scale_bits=16, keep_larger=True),
        )
    ):
        found[str(index)] = make_plan(small_graph(), options).dumps().encode()
    item = json.loads(found["0"])
    item["items"][1]["form"] = {"kind": "split", "axis": 1, "sizes": [2, 3]}
    found["split"] = json.dumps(item).encode()
    item["items"][1]["form"] = {"kind": "rows", "sizes": [2, 3]}
    item["calibration"] = {"origin": "synthetic", "samples": 4, "seed": 0, "digest": "0" * 64}
    found["rows"] = json.dumps(item).encode()
    return found


def feeds() -> Dict[str, bytes]:
    """Feeds for ``fed_graph``."""
    found = {}
    for index, batch in enumerate(((3, 4), (2, 3, 4))):
        arrays = {
            "x:0": np.ones(batch, np.float32),
            "ids": np.array([0, 2], np.int32),
            "s:0": np.array(b"text"),
            "any": np.ones((2, 2), np.float16),
        }
        out = io.BytesIO()
        np.savez(out, **arrays)
        found[str(index)] = out.getvalue()
    return found


def goldens() -> Dict[str, bytes]:
    """Golden files."""
    sample = {"x:0": np.ones((2, 3), np.float32), "s:0": np.array([b"a\0b", b""], object)}
    outputs = {"y:0": np.array([[1.5, np.nan]], np.float32), "t:0": np.array(b"one", object)}
    golden = Golden(
        "ab" * 32, "1.15.3", Feeds((sample, sample), SYNTHETIC, ("n",)), (outputs,) * 2, True
    )
    with tempfile.TemporaryDirectory() as folder:
        save_golden(Path(folder) / "g.npz", golden)
        return {"golden": (Path(folder) / "g.npz").read_bytes()}


def compressions() -> Dict[str, bytes]:
    """Compression files of both forms."""
    records = [Record("conv/a", "", 4), Record("fc__matmul_converted", "loop/body", 8, 32)]
    pruner = delimited(2, tag(1, 0) + varint(1) + delimited(3, tag(1, 0) + varint(2)))
    return {
        "json": create(records, "an-id", True),
        "binary": create(records, "an-id", False),
        "pruned": create(records[:1], "", False) + pruner,
    }


def reports() -> Dict[str, bytes]:
    """Reports of static verifications."""
    found = {}
    for bits, storage in ((8, "dequant"), (3, "bake")):
        new = quantize(small_graph(), bits, storage, keep_larger=True).graph
        made = verify(
            small_graph(), Graph.parse(new.to_bytes()), ("a", "b"), None, None, False, None
        )  # type: ignore[arg-type]
        found[storage] = made.dumps().encode()
    return found


def pairs() -> Dict[str, bytes]:
    """Two graphs each: float and quantized, renamed, of two networks."""
    known = graphs()
    names = [
        ("small", "small-8-dequant"),
        ("small", "small-3-bake"),
        ("conv", "conv-8-fake_quant"),
        ("table", "table-4-dequant"),
        ("functions", "functions-6-dequant"),
        ("dense", "small"),
        ("wired", "wired"),
        ("small-4-dequant", "small-8-dequant"),
    ]
    return {f"{a}+{b}": pack({"old": known[a], "new": known[b]}) for a, b in names}


def diffs() -> Dict[str, bytes]:
    """Diffs from ``small_graph`` in their JSON form."""
    found = {}
    for name in ("small-8-dequant", "small-3-bake", "dense", "conv"):
        new = Graph.parse(graphs()[name])
        diff = document(diff_graphs(small_graph(), new), "old", "new", with_patch=True)
        found[name] = json.dumps(diff.to_json(), allow_nan=False).encode()
    return found


def mnn_models() -> Dict[str, bytes]:
    """Models that the converter of MNN 3.6.0 made of ``dense(6, 4)`` and of a convolution 2 x 2.

    Float, 8 bits symmetric and 4 bits asymmetric; files, since nothing here writes that format.
    """
    folder = Path(__file__).resolve().parent / "models"
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.mnn"))}


def real_graphs(max_bytes: int) -> Dict[str, bytes]:
    """The small graphs of the corpus; none where there is no corpus."""
    chosen = os.environ.get("GRAPHWQ_CORPUS")
    beside = Path(__file__).resolve().parent.parent.parent.parent / "shared" / "corpus"
    files = sorted((Path(chosen) if chosen else beside).glob("*.pb"))
    small = [path for path in files if path.stat().st_size <= max_bytes]
    return {f"real-{index}": path.read_bytes() for index, path in enumerate(small)}
