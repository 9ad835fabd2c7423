"""Named hostile files: each way a file can be wrong, the error it gives, and what to do about it.

``files`` are written into a folder and ``command`` is run there. ``said`` must stand in the one
line of the error; None means that the file is read, however odd: time and memory are bounded.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from builders import GraphBuilder, random_weight
from checkpoints import snappy, table, v1_table
from fuzz import seeds

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.wire import delimited, varint
from graphwq.rewrite.options import Options
from graphwq.rewrite.planning import make_plan
from hostile.build import (
    FLOAT,
    GOOD,
    HALF,
    INT8,
    INT32,
    ONE,
    STRING,
    TWO,
    behind,
    calls,
    chain,
    const,
    nested,
    node,
    npy,
    number,
    shape,
    used,
    zip_bomb,
    zip_of,
)

Files = Dict[str, bytes]
INSPECT, QUANTIZE = ("inspect", "g.pb"), ("quantize", "g.pb", "-o", "out.pb", "--keep-larger")
TEXT = ("inspect", "g.pbtxt")
PLANNED = ("quantize", "g.pb", "--plan", "plan.json", "-o", "out.pb")
FROZEN = (
    "quantize",
    "g.pb",
    "--checkpoint",
    "m",
    "--outputs",
    "y",
    "-o",
    "out.pb",
    "--keep-larger",
)
SAVED = ("inspect", "saved_model.pb")
APPLIED = ("diff", "g.pb", "--apply", "d.json", "-o", "out.pb")
REPORTED = ("report", "r.json")
APPENDED = ("mnn", "lint", "g.pb", "--no-converter")


class Case(NamedTuple):
    """One hostile file."""

    what: str
    command: Tuple[str, ...]
    build: Callable[[], Files]
    said: Optional[str]
    do: str = ""


def _graph(what: str, build: Callable[[], bytes], said: Optional[str], do: str = "") -> Case:
    return Case(what, QUANTIZE, lambda: {"g.pb": build()}, said, do)


def _text(what: str, build: Callable[[], bytes], said: str, do: str = "") -> Case:
    return Case(what, TEXT, lambda: {"g.pbtxt": build()}, said, do)


_AGAIN = "get the file again; compare its size and checksum with the source"
_EXPORT = "export the graph again from the model"
_FREEZE = "give a frozen GraphDef, or freeze this one first"

GRAPHS: Dict[str, Case] = {
    "empty": _graph("no bytes at all", lambda: b"", "is empty", _AGAIN),
    "cut_in_a_node": _graph("cut inside a node", lambda: GOOD[:40], "claims to end", _AGAIN),
    "cut_in_a_length": _graph(
        "cut inside a length", lambda: b"\x0a\xff", "ends inside a number", _AGAIN
    ),
    "endless_varint": _graph(
        "a number of more than ten bytes", lambda: b"\x0a" + b"\xff" * 12, "more than ten", _AGAIN
    ),
    "field_zero": _graph("field number 0", lambda: b"\x02\x00", "field number 0", _AGAIN),
    "group_wire_type": _graph(
        "a wire type of protobuf 2", lambda: b"\x0b\x0c", "wire type 3", _FREEZE
    ),
    "length_beyond_the_end": _graph(
        "a field of 2^62 bytes", lambda: b"\x0a" + varint(2**62), "claims to end", _AGAIN
    ),
    "node_as_number": _graph(
        "a node that is a number", lambda: b"\x0d\0\0\0\0", "not what a GraphDef has", _FREEZE
    ),
    "no_name": _graph("a node without a name", lambda: node(op=b"NoOp"), "no name", _FREEZE),
    "no_op": _graph("a node without an op", lambda: node(b"a"), "no op", _FREEZE),
    "name_not_utf8": _graph(
        "a name that is not UTF-8", lambda: node(b"\xff\xfe", b"NoOp"), "not UTF-8", _EXPORT
    ),
    "two_of_one_name": _graph(
        "two nodes of one name", lambda: node(b"a", b"NoOp") * 2, "two nodes are named", _EXPORT
    ),
    "lost_input": _graph(
        "an input that no node is",
        lambda: behind(lambda b: b.matmul("y", "x", "v")),
        "no such node exists",
        _EXPORT,
    ),
    "lost_input_of_a_megabyte": _graph(
        "the same, the name a megabyte long, among 20,000 others",
        lambda: behind(_long_lost_input),
        "no such node exists",
        _EXPORT,
    ),
    "cycle": _graph(
        "two nodes that wait for each other",
        lambda: behind(lambda b: (b.matmul("a", "b", "w"), b.matmul("b", "a", "w"))),
        "cycle",
        _EXPORT,
    ),
    "one_argument_twice": _graph(
        "a function with two arguments of one name",
        lambda: behind(lambda b: b.function("f", [("a", 1), ("a", 1)], GraphBuilder())),
        "have one name",
        _EXPORT,
    ),
    "two_functions_of_one_name": _graph(
        "two functions of one name",
        lambda: behind(lambda b: [b.function("f", [], GraphBuilder()) for _ in range(2)]),
        "two functions are named",
        _EXPORT,
    ),
    "unknown_rank": _graph(
        "a constant of unknown rank",
        lambda: const("w", FLOAT, [], b"", rank=False),
        "must have a full shape",
        _EXPORT,
    ),
    "negative_dimension": _graph(
        "a constant of shape [-4, 4]", lambda: used([-4, 4], ONE), "must have a full shape", _EXPORT
    ),
    "dimensions_that_overflow": _graph(
        "a constant of shape [2^62, 2^62]",
        lambda: used([2**62, 2**62], ONE),
        "larger than any machine",
        _EXPORT,
    ),
    "content_too_short": _graph(
        "tensor_content of 12 bytes for four floats",
        lambda: used([2, 2], delimited(4, b"\0" * 12)),
        "tensor_content has 12 bytes",
        _AGAIN,
    ),
    "list_too_long": _graph(
        "five values for four floats", lambda: used([2, 2], ONE * 5), "lists 5 values", _AGAIN
    ),
    "forty_axes": _graph("a constant of 40 axes", lambda: used([1] * 40, ONE), None),
    "nan": _graph("a weight that holds NaN", lambda: used([1], b"\x2d\0\0\xc0\x7f"), None),
    "nan_weight": _graph(
        "a weight of a MatMul that holds NaN",
        lambda: used([8, 4], delimited(4, np.full(32, np.nan, np.float32).tobytes())),
        "NaN",
        "train again, or keep that weight float: --exclude NAME",
    ),
    "damaged_attribute": _graph(
        "functions in functions in attributes, 100,000 deep",
        lambda: nested(100_000),
        "cannot be parsed",
        _EXPORT,
    ),
    "hdf5": _graph("an HDF5 file", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5", _FREEZE),
    "zip": _graph("a zip archive", lambda: zip_of("g.pb", GOOD), "zip archive", "unpack it"),
    "git_lfs": _graph(
        "the pointer of Git LFS",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
        "git lfs pull",
    ),
}

TEXTS: Dict[str, Case] = {
    "text_not_utf8": _text(
        "text that is not UTF-8", lambda: b'node { name: "\xff" }', "UTF-8", "rename it to .pb"
    ),
    "text_unknown_field": _text(
        "a field that no GraphDef has", lambda: b"layer { }", "not a GraphDef in text", _FREEZE
    ),
    "text_nested": _text(
        "braces 100,000 deep",
        lambda: b"node { attr { value { " + b"func { attr { value { " * 100_000,
        "not a GraphDef in text",
        _EXPORT,
    ),
    "text_number": _text(
        "a number of 1,000,000 digits",
        lambda: b"versions { producer: " + b"9" * 1_000_000 + b" }",
        "not a GraphDef in text",
        _EXPORT,
    ),
}

_ONE_MORE = node(b"one more", b"NoOp")

#: Files that are read, however odd: what they cost is bounded.
BOMBS: Dict[str, Case] = {
    "one_value_for_a_terabyte": _graph(
        "one value that stands for 2^38 floats", lambda: used([2**20, 2**18], ONE), None
    ),
    "no_value_for_a_terabyte": _graph(
        "no value at all for 2^38 floats", lambda: used([2**20, 2**18], b""), None
    ),
    "two_values_for_a_gigabyte": _graph(
        "two values that stand for 2^28 floats", lambda: used([2**14, 2**14], ONE + TWO), None
    ),
    "one_half_for_a_gigabyte": _graph(
        "one half_val that stands for 2^29 halves",
        lambda: used([2**15, 2**14], b"\x6a\x02\x80\x78", HALF),
        None,
    ),
    "one_code_for_a_gigabyte": _graph(
        "one int_val that stands for 2^30 codes of a quantized weight", lambda: _codes(), None
    ),
    "one_text_for_a_gigabyte": _graph(
        "one string_val that stands for 2^30 strings",
        lambda: used([2**15, 2**15], b"\x42\x01a", STRING),
        None,
    ),
    "shape_of_a_gigabyte": _graph(
        "a Reshape to 2^28 axes",
        lambda: (
            const("s", INT32, [2**28], b"\x38\x01")
            + behind(lambda b: b.matmul("y", "x", b.op("r", "Reshape", ["w", "s"])))
        ),
        None,
    ),
    "split_in_two_thousand_million": _graph(
        "a Split and an Unpack into 2^31 - 1 pieces", lambda: behind(_many_pieces), None
    ),
    "chain_of_identities": _graph(
        "a weight behind 100,000 Identities", lambda: chain(100_000), None
    ),
    "chains_to_compare": Case(
        "two such graphs in a diff",
        ("diff", "g.pb", "new.pb", "--fail-on", "breaking"),
        lambda: {"g.pb": chain(100_000), "new.pb": chain(100_000) + _ONE_MORE},
        None,
    ),
    "chains_to_verify": Case(
        "two such graphs in a verification",
        ("verify", "g.pb", "new.pb", "--static"),
        lambda: {"g.pb": chain(100_000), "new.pb": chain(100_000)},
        None,
    ),
    "chain_of_functions": _graph(
        "5,000 functions, each calling the next", lambda: calls(5000), None
    ),
    "ring_of_functions": _graph(
        "1,000 functions that call one another in a ring", lambda: calls(1000, ring=True), None
    ),
    "names_of_a_megabyte": _graph(
        "names of a megabyte",
        lambda: behind(lambda b: b.matmul("y" * 2**20, "x", b.op("r" * 2**20, "Identity", ["w"]))),
        None,
    ),
    "many_attributes": _graph(
        "a node of 100,000 attributes",
        lambda: behind(
            lambda b: b.op("y", "MatMul", ["x", "w"], **{f"a{i}": 1 for i in range(100_000)})
        ),
        None,
    ),
    "many_inputs": _graph(
        "a node that reads the weight 100,000 times",
        lambda: behind(lambda b: b.matmul("y", b.op("s", "AddN", ["w"] * 100_000), "w")),
        None,
    ),
    "many_paths": _graph(
        "60 layers of two ops that each read both of the layer before: 2^60 paths",
        lambda: behind(_fan),
        None,
    ),
    "many_readers_of_the_codes": _graph(
        "5,000 products of the same codes", lambda: _readers(), None
    ),
}


def _long_lost_input(b: GraphBuilder) -> None:
    for index in range(20_000):
        b.op(f"some_long_name_of_a_node_{index}", "NoOp", [])
    b.op("n" * 2**20, "NoOp", [])
    b.op("y", "Relu", ["n" * (2**20 - 1) + "m"])


def _many_pieces(b: GraphBuilder) -> None:
    b.op("s", "Split", [b.const("axis", 1), "w"], num_split=2**31 - 1)
    b.op("u", "Unpack", ["w"], num=2**31 - 1, axis=0)
    b.matmul("y", "x", "s:1")
    b.matmul("z", "x", "u:3")


def _fan(b: GraphBuilder) -> None:
    left = right = "w"
    for index in range(60):
        left, right = (b.op(f"{side}{index}", "Pack", [left, right], axis=0, N=2) for side in "lr")
    b.matmul("y", left, right)


def _codes() -> bytes:
    b = GraphBuilder()
    b.placeholder("x", [1, 2**15])
    b.cast("f", "c", INT8, FLOAT)
    b.matmul("y", "x", b.op("w", "Mul", ["f", b.const("s", np.ones((1, 1), np.float32))]))
    return const("c", INT8, [2**15, 2**15], b"\x38\x01") + b.to_bytes()


def _readers() -> bytes:
    b = GraphBuilder()
    b.placeholder("x", [1, 256])
    f = b.cast("f", b.const("c", np.ones((256, 256), np.int8)), INT8, FLOAT)
    s = b.const("s", np.full((1, 256), 0.5, np.float32))
    for index in range(5000):
        b.matmul(f"y{index}", "x", b.op(f"w{index}", "Mul", [f, s]))
    return b.to_bytes()


# ------------------------------------------------------------------------------------ other files


def _plan(change: Callable[[Any], None]) -> bytes:
    data = json.loads(make_plan(Graph.parse(GOOD), Options(keep_larger=True)).dumps())
    change(data)
    return json.dumps(data).encode()


def _item(**changes: Any) -> Callable[[Any], None]:
    return lambda data: data["items"][0].update(changes)


def _planned(what: str, plan: Callable[[], bytes], said: str) -> Case:
    return Case(
        what,
        PLANNED,
        lambda: {"g.pb": GOOD, "plan.json": plan()},
        said,
        "graphwq plan makes a new one",
    )


_GROUP = {"kind": "per_group", "axes": [1], "axis": 0, "group_size": 10**30}
PLANS: Dict[str, Case] = {
    "plan_nested": _planned("brackets 1,000,000 deep", lambda: b"[" * 1_000_000, "not a plan"),
    "plan_number": _planned(
        "a number of 1,000,000 digits", lambda: b'{"version": ' + b"9" * 1_000_000 + b"}", "digits"
    ),
    "plan_nan": _planned("NaN, which JSON has not", lambda: b'{"version": NaN}', "NaN"),
    "plan_twice": _planned(
        "a weight that occurs twice",
        lambda: _plan(lambda data: data["items"].append(data["items"][0])),
        "occurs twice",
    ),
    "plan_bits": _planned(
        "bits as a truth value", lambda: _plan(_item(num_bits=True)), "whole number"
    ),
    "plan_storage": _planned(
        "a storage of its own", lambda: _plan(_item(storage="zip")), "storage"
    ),
    "plan_other_graph": _planned(
        "the digest of another graph",
        lambda: _plan(lambda data: data.update(graph_digest="0" * 64)),
        "another graph",
    ),
}
PLANS["plan_group"] = Case(
    "a group of 10^30 elements",
    PLANNED,
    lambda: {"g.pb": GOOD, "plan.json": _plan(_item(granularity=_GROUP))},
    None,
)


def _bundle(index: bytes, data: bytes = b"") -> Files:
    return {
        "g.pb": seeds.variables_graph(),
        "m.index": index,
        "m.data-00000-of-00001": data or seeds.bundle()[1],
    }


def _frozen(what: str, files: Callable[[], Files], said: str, do: str = "") -> Case:
    return Case(what, FROZEN, files, said, do or "copy the checkpoint again, all of its files")


def _flipped() -> Files:
    index, data = seeds.bundle()
    return _bundle(index, bytes([data[0] ^ 1]) + data[1:])


def _overlapping() -> bytes:
    """A table whose index names one block a thousand times: megabytes of entries from little."""
    from checkpoints import checksum

    def block(content: bytes) -> bytes:
        whole = content + bytes(4) + b"\x01\x00\x00\x00" + b"\x00"
        return whole + checksum(whole).to_bytes(4, "little")

    keys = [b"\x00\x02\x00" + bytes(divmod(index, 256)) for index in range(4000)]
    first = block(b"".join(keys))
    handle = b"\x00" + varint(len(first) - 5)
    entry = b"\x00\x01" + varint(len(handle)) + b"z" + handle
    index = block(entry * 1000)
    footer = b"\x00\x00" + varint(len(first)) + varint(len(index) - 5)
    return first + index + footer + bytes(40 - len(footer)) + bytes.fromhex("57fb808b247547db")


def _entry(**fields: int) -> bytes:
    """A bundle index in which ``w`` has other numbers."""
    header = number(1, fields.pop("shards", 1)) + delimited(3, number(1, 1))
    entry = number(1, FLOAT) + delimited(2, shape([4, 3])) + number(4, fields.get("offset", 0))
    entry += number(3, fields.get("shard", 0)) + number(5, fields.get("size", 48))
    return table([(b"", header), (b"w", entry)])


CHECKPOINTS: Dict[str, Case] = {
    "checkpoint_cut": _frozen(
        "an index that is cut short", lambda: _bundle(seeds.bundle()[0][:-9]), "does not end like"
    ),
    "checkpoint_flipped": _frozen("a bit of a weight flipped", _flipped, "checksum"),
    "checkpoint_without_data": _frozen(
        "an index without its data file",
        lambda: {"g.pb": seeds.variables_graph(), "m.index": seeds.bundle()[0]},
        "is missing",
    ),
    "checkpoint_short_data": _frozen(
        "a data file of one byte", lambda: _bundle(seeds.bundle()[0], b"x"), "cut short"
    ),
    "checkpoint_shards": _frozen(
        "an index of 2^40 data files", lambda: _bundle(_entry(shards=2**40)), "data files"
    ),
    "checkpoint_shard": _frozen(
        "a weight in part 9 of 1", lambda: _bundle(_entry(shard=9)), "part 9"
    ),
    "checkpoint_offset": _frozen(
        "a weight at byte 2^62", lambda: _bundle(_entry(offset=2**62)), "cut short"
    ),
    "checkpoint_size": _frozen(
        "a weight of 2^40 bytes", lambda: _bundle(_entry(size=2**40)), "its shape needs"
    ),
    "checkpoint_overlapping": _frozen(
        "an index that names one block a thousand times", lambda: _bundle(_overlapping()), "overlap"
    ),
    "checkpoint_snappy_lie": _frozen(
        "a compressed block that promises 2^40 bytes",
        lambda: _bundle(_snappy_lie()),
        "more than it can hold",
    ),
    "checkpoint_v1_cut": _frozen(
        "a checkpoint of format V1 without its end",
        lambda: {
            "g.pb": seeds.variables_graph(),
            "m": v1_table({"w": random_weight((4, 3))})[:-20],
        },
        "its end is missing",
    ),
}


def _snappy_lie() -> bytes:
    from checkpoints import checksum

    content = varint(2**40) + snappy(b"x" * 40)[1:]
    block = content + b"\x01"
    block += checksum(block).to_bytes(4, "little")
    handle = b"\x00" + varint(len(content))
    entry = b"\x00\x01" + varint(len(handle)) + b"z" + handle
    index = entry + bytes(4) + b"\x01\x00\x00\x00" + b"\x00"
    index += checksum(index).to_bytes(4, "little")
    footer = b"\x00\x00" + varint(len(block)) + varint(len(index) - 5)
    return block + index + footer + bytes(40 - len(footer)) + bytes.fromhex("57fb808b247547db")


def _saved(what: str, data: Callable[[], bytes], said: Optional[str], do: str = "") -> Case:
    return Case(what, SAVED, lambda: {"saved_model.pb": data()}, said, do)


def _signatures() -> bytes:
    """Two signatures of one name; the last one counts."""
    meta = delimited(2, seeds.small_graph().to_bytes())
    for tensor in (b"h:0", b"y:0"):
        output = delimited(1, b"o") + delimited(2, delimited(1, tensor))
        meta += delimited(5, delimited(1, b"s") + delimited(2, delimited(2, output)))
    return b"\x08\x01" + delimited(2, meta)


SAVED_MODELS: Dict[str, Case] = {
    "saved_model_empty": _saved(
        "a SavedModel without a graph", lambda: b"\x08\x01", "no graph in it", _EXPORT
    ),
    "saved_model_cut": _saved(
        "a SavedModel that is cut short",
        lambda: b"\x08\x01" + delimited(2, delimited(2, GOOD))[:-7],
        "not a SavedModel",
        _AGAIN,
    ),
    "saved_model_signatures": _saved("two signatures of one name", _signatures, None),
}


def _feeds(what: str, data: Callable[[], bytes], said: str) -> Case:
    return Case(
        what,
        ("verify", "g.pb", "g.pb", "--inputs", "f.npz"),
        lambda: {"g.pb": GOOD, "f.npz": data()},
        said,
        "write it with numpy.savez(path, **{'input:0': array})",
    )


_HUGE_NPY = npy("'<f4'", "(1073741824,)", b"")
FEEDS: Dict[str, Case] = {
    "npz_no_archive": _feeds("no archive", lambda: b"PK\x03\x04" + bytes(60), "not an .npz"),
    "npz_of_objects": _feeds(
        "a pickle", lambda: zip_of("x.npy", npy("'|O'", "(1,)", b"cos\nsystem\n")), "pickle"
    ),
    "npz_bomb": _feeds(
        "8 GB of zeros in 8 MB", lambda: zip_bomb("x.npy", bytes(1 << 24), 512), "would take"
    ),
    "npz_declares": _feeds(
        "a header of 4 GB and no data", lambda: zip_of("x.npy", _HUGE_NPY), "the file is damaged"
    ),
    "npz_negative": _feeds(
        "a negative length",
        lambda: zip_of("x.npy", npy("'<f4'", "(-1,)", b"")),
        "declares the shape",
    ),
    "npz_code": _feeds(
        "a header that is code",
        lambda: zip_of("x.npy", npy("__import__('os')", "(1,)", b"")),
        "header that cannot be read",
    ),
    "npz_nested": _feeds(
        "a header of 20,000 brackets",
        lambda: zip_of("x.npy", npy("'<f4'", "(" * 20_000, b"")),
        "header that cannot be read",
    ),
    "npz_text": _feeds(
        "an entry that is no array", lambda: zip_of("readme.txt", b"hello"), "which is no array"
    ),
}


def _applied(what: str, diff: Callable[[], bytes], said: str) -> Case:
    graph = seeds.small_graph().to_bytes()
    return Case(
        what,
        APPLIED,
        lambda: {"g.pb": graph, "d.json": diff()},
        said,
        "graphwq diff OLD NEW --format json makes a new one",
    )


def _diff(change: Callable[[Any], None]) -> bytes:
    data = json.loads(seeds.diffs()["small-8-dequant"])
    change(data)
    return json.dumps(data).encode()


DIFFS: Dict[str, Case] = {
    "diff_copies": _applied(
        "a patch that copies field 10^12",
        lambda: _diff(lambda data: data["patch"].update(steps=[{"copy": [0, 10**12]}])),
        "made for another graph",
    ),
    "diff_lies": _applied(
        "a patch that makes another graph",
        lambda: _diff(lambda data: data["patch"].update(steps=[{"copy": [0, 2]}])),
        "the diff is damaged",
    ),
    "diff_base64": _applied(
        "bytes that are no base64",
        lambda: _diff(lambda data: data["patch"].update(steps=[{"put": "!"}])),
        "damaged patch",
    ),
    "diff_repeats": _applied(
        "a patch that copies the graph 100,000 times",
        lambda: _diff(lambda data: data["patch"].update(steps=[{"copy": [0, 7]}] * 100_000)),
        "copies the same parts again and again",
    ),
    "diff_renames": _applied(
        "a name of a megabyte for a node that is read a hundred times",
        lambda: _diff(lambda data: data["patch"].update(renames={"": {"v": "v" * 2**27}})),
        "under their new names",
    ),
}


def _report(change: Callable[[Any], None]) -> bytes:
    data = json.loads(seeds.reports()["bake"])
    change(data)
    return json.dumps(data).encode()


def _reported(what: str, report: Callable[[], bytes], said: str) -> Case:
    return Case(
        what,
        REPORTED,
        lambda: {"r.json": report()},
        said,
        "graphwq verify --report makes a new one",
    )


def _weight(**changes: Any) -> Callable[[Any], None]:
    return lambda data: data["weights"]["weights"][0].update(changes)


REPORTS: Dict[str, Case] = {
    "report_words": _reported(
        "words where numbers belong",
        lambda: _report(_weight(bytes_before="many")),
        "damaged report",
    ),
    "report_negative": _reported(
        "negative counts", lambda: _report(_weight(levels=-1)), "damaged report"
    ),
    "report_negative_squares": _reported(
        "a negative sum of squares", lambda: _report(_weight(sum_squares=-1.0)), "damaged report"
    ),
    "report_no_bins": _reported(
        "a histogram without bins",
        lambda: _report(_weight(histogram={"low": 0.0, "high": 1.0, "before": [], "after": []})),
        "damaged report",
    ),
    "report_no_elements": _reported(
        "a weight without elements", lambda: _report(_weight(elements=0)), "damaged report"
    ),
}

GROUPS: List[Tuple[str, Dict[str, Case]]] = [
    ("Graphs (.pb)", GRAPHS),
    ("Graphs in text (.pbtxt)", TEXTS),
    ("Graphs that are read, at a bounded cost", BOMBS),
    ("Plans", PLANS),
    ("Checkpoints", CHECKPOINTS),
    ("SavedModels", SAVED_MODELS),
    ("Feeds (.npz)", FEEDS),
    ("Diffs that are applied", DIFFS),
    ("Reports", REPORTS),
]
CASES: Dict[str, Case] = {name: case for _, group in GROUPS for name, case in group.items()}
