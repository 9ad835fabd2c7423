"""Bad input: one line (what, where, what to do), exit 2, nothing written, nothing lost."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, dense, random_weight
from commandline import assert_one_line, leftovers, process, run
from rewriting import function_graph

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.wire import delimited

_GOOD = dense(64, 64).to_bytes()


def _edited(change: Callable[[Any], None], data: bytes = _GOOD) -> bytes:
    proto = GraphDef.FromString(data)
    change({node.name: node for node in proto.node})
    return bytes(proto.SerializeToString(deterministic=True))


def _tensor(nodes: Any) -> Any:
    return nodes["w"].attr["value"].tensor


def _shape(*dims: int) -> Callable[[Any], None]:
    def change(nodes: Any) -> None:
        tensor = _tensor(nodes)
        del tensor.tensor_shape.dim[:]
        for dim in dims:
            tensor.tensor_shape.dim.add().size = dim

    return change


def _listed(*dims: int, values: int = 1) -> Callable[[Any], None]:
    def change(nodes: Any) -> None:
        _shape(*dims)(nodes)
        _tensor(nodes).ClearField("tensor_content")
        _tensor(nodes).float_val.extend([0.5] * values)

    return change


def _values(bad: float, where: Tuple[int, int] = (3, 4)) -> bytes:
    data = random_weight((64, 64))
    data[where] = bad

    def change(nodes: Any) -> None:
        _tensor(nodes).tensor_content = data.tobytes()

    return _edited(change)


def _saved_model() -> bytes:
    meta = delimited(1, delimited(4, b"serve")) + delimited(2, _GOOD)
    return b"\x08\x01" + delimited(2, meta)


def _meta_graph() -> bytes:
    info = delimited(1, delimited(4, b"train"))
    return info + delimited(2, _GOOD) + delimited(3, b"\x0a\x0asave/Const")


def _cycle(nodes: Any) -> None:
    nodes["w/read"].input[0] = "y"


def _dangling(nodes: Any) -> None:
    nodes["y"].input[1] = "w/raed"


def _duplicate() -> bytes:
    b = GraphBuilder()
    b.op("twice", "NoOp", [])
    b.op("twice", "NoOp", [])
    return b.to_bytes()


def _other_dtype(nodes: Any) -> None:
    nodes["w"].attr["dtype"].type = 2


def _function(change: Callable[[Any], None]) -> bytes:
    proto = GraphDef.FromString(function_graph().to_bytes())
    change({node.name: node for node in proto.library.function[0].node_def})
    return bytes(proto.SerializeToString(deterministic=True))


def _two_functions() -> bytes:
    proto = GraphDef.FromString(function_graph().to_bytes())
    proto.library.function.add().CopyFrom(proto.library.function[0])
    return bytes(proto.SerializeToString(deterministic=True))


#: File content -> what the message has to say. These are refused by inspect, plan and quantize.
_FILES: Dict[str, Tuple[bytes, List[str]]] = {
    "empty": (b"", ["is empty"]),
    "truncated early": (_GOOD[:5], ["complete"]),
    "truncated in a node": (_GOOD[:100], ["complete"]),
    "truncated in a weight": (_GOOD[: len(_GOOD) // 2], ["complete"]),
    "truncated by a byte": (_GOOD[:-1], ["complete"]),
    "text": (b"Hello, this is no graph at all.\n", ["not a frozen GraphDef"]),
    "zeros": (b"\0" * 1000, ["not a frozen GraphDef"]),
    "noise": (np.random.RandomState(0).bytes(4096), ["not a frozen GraphDef"]),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, ["not a frozen GraphDef"]),
    "html": (b"<!DOCTYPE html><html>404</html>", ["not a frozen GraphDef"]),
    "a broken saved model": (_saved_model()[:-20], ["not a frozen GraphDef", "complete"]),
    "a meta graph": (_meta_graph(), ["a MetaGraph", "--checkpoint"]),
    "tflite": (struct.pack("<I", 28) + b"TFL3" + b"\0" * 64, ["a TFLite model"]),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 64, ["HDF5", "freeze"]),
    "zip": (b"PK\x03\x04" + b"\0" * 64, ["zip archive", "unpack"]),
    "gzip": (b"\x1f\x8b\x08\0" + b"\0" * 64, ["gzip", "unpack"]),
    "a git lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
        ["Git LFS pointer", "git lfs pull"],
    ),
    "broken text": (b"node { name: 'x' op: ", ["text format"]),
    "duplicate names": (_duplicate(), ["'twice'", "export it again"]),
    "duplicate functions": (_two_functions(), ["'dense'", "export it again"]),
    "duplicate names in a function": (
        _function(lambda nodes: setattr(nodes["w/read"], "name", "w")),
        ["'dense:w'"],
    ),
    "content too short": (_edited(_shape(64, 65)), ["'w'", "16384", "16640"]),
    "content too long": (_edited(_shape(64, 63)), ["'w'", "16384", "16128"]),
    "a negative dimension": (_edited(_shape(64, -64)), ["'w'", "-64"]),
    "two negative dimensions": (_edited(_shape(-64, -64)), ["'w'", "-64"]),
    "a huge dimension": (_edited(_shape(2**62, 2**62)), ["'w'"]),
    "a dimension of 2^63-1": (_edited(_shape(2**63 - 1)), ["'w'"]),
    "a dtype that is another": (_edited(_other_dtype), ["'w'", "float64", "float32"]),
    "content too short in a function": (
        _function(lambda nodes: _shape(24, 41)(nodes)),
        ["3840", "3936"],
    ),
}

#: Graphs that inspect can still show, with a warning, and that nothing can be made of.
_BROKEN: Dict[str, Tuple[bytes, List[str]]] = {
    "cyclic": (_edited(_cycle), ["cycle", "w/read", "export it again"]),
    "cyclic function": (
        _function(lambda nodes: nodes["w/read"].input.__setitem__(0, "product:product:0")),
        ["cycle", "dense", "export it again"],
    ),
    "dangling": (_edited(_dangling), ["'y'", "'w/raed'", "'w/read'", "export it again"]),
    "dangling control": (
        _edited(lambda nodes: nodes["y"].input.append("^nowhere")),
        ["'y'", "'^nowhere'"],
    ),
    "dangling in a function": (
        _function(lambda nodes: nodes["product"].input.__setitem__(0, "z")),
        ["dense:product", "'z'"],
    ),
}

#: Graphs whose weights cannot be quantized: refused by quantize alone.
_WEIGHTS: Dict[str, Tuple[bytes, List[str]]] = {
    "NaN": (_values(float("nan")), ["'w'", "NaN", "--exclude"]),
    "Inf": (_values(float("inf")), ["'w'", "Inf", "--exclude"]),
    "-Inf": (_values(float("-inf")), ["'w'", "Inf", "--exclude"]),
    "NaN in the last value": (_values(float("nan"), (63, 63)), ["'w'", "NaN"]),
}


def _written(tmp_path: Path, data: bytes, name: str = "in.pb") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def _refused(capsys: Any, tmp_path: Path, said: List[str], *arguments: Any) -> None:
    """Refused without output; and with --force the old output stays as it was."""
    out = tmp_path / "out.pb"
    assert not out.exists()
    found = run(capsys, *arguments, "-o", out)
    assert found.status == 2, found
    assert found.out == ""
    assert_one_line(found.err, *said)
    assert not out.exists()
    assert leftovers(tmp_path) == []
    out.write_bytes(b"precious")
    found = run(capsys, *arguments, "-o", out, "--force")
    assert found.status == 2, found
    assert_one_line(found.err, *said)
    assert out.read_bytes() == b"precious"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", sorted(_FILES))
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_files_that_are_no_graph(name: str, command: str, capsys: Any, tmp_path: Path) -> None:
    """Every kind of wrong file: refused with its path or its node, and what to do."""
    data, said = _FILES[name]
    path = _written(tmp_path, data)
    _refused(capsys, tmp_path, said, command, path)
    assert path.read_bytes() == data


@pytest.mark.parametrize("name", sorted(_FILES))
@pytest.mark.parametrize("form", ["table", "json"])
def test_inspect_refuses_them_as_well(name: str, form: str, capsys: Any, tmp_path: Path) -> None:
    """The same for inspect, which never prints half a report."""
    data, said = _FILES[name]
    found = run(capsys, "inspect", _written(tmp_path, data), *(["--json"] * (form == "json")))
    assert (found.status, found.out) == (2, "")
    assert_one_line(found.err, *said)


@pytest.mark.parametrize("name", sorted(_FILES))
def test_messages_name_the_file(name: str, capsys: Any, tmp_path: Path) -> None:
    """Whoever quantizes ten files in a loop must see which one it is."""
    data, _ = _FILES[name]
    for command in ("inspect", "plan"):
        assert_one_line(run(capsys, command, _written(tmp_path, data)).err, "in.pb")


@pytest.mark.parametrize("name", sorted(_BROKEN))
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_broken_graphs(name: str, command: str, capsys: Any, tmp_path: Path) -> None:
    """A cycle or an input that is not there: the message names the nodes."""
    data, said = _BROKEN[name]
    _refused(capsys, tmp_path, said, command, _written(tmp_path, data))


@pytest.mark.parametrize("name", sorted(_BROKEN))
def test_inspect_shows_broken_graphs(name: str, capsys: Any, tmp_path: Path) -> None:
    """inspect still shows the weights, warns on stderr, and lists the problem in its JSON."""
    data, said = _BROKEN[name]
    found = run(capsys, "inspect", _written(tmp_path, data), "--json")
    assert found.status == 0
    problems = json.loads(found.out)["problems"]
    assert len(problems) == 1
    assert said[0].split(":")[0].strip("'") in problems[0]
    assert found.err.startswith("graphwq: warning: ")
    assert found.err.count("\n") == 1


@pytest.mark.parametrize("name", sorted(_WEIGHTS))
@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
def test_weights_that_are_no_numbers(name: str, storage: str, capsys: Any, tmp_path: Path) -> None:
    """NaN and Inf: the message names the weight and how to go on without it."""
    data, said = _WEIGHTS[name]
    path = _written(tmp_path, data)
    _refused(capsys, tmp_path, said, "quantize", path, "--storage", storage)
    for granularity in ("tensor", "group"):
        if (storage, granularity) != ("fake_quant", "group"):
            found = run(capsys, "quantize", path, "-o", tmp_path / "x", "--storage", storage,
                        "--granularity", granularity)  # fmt: skip
            assert found.status == 2
            assert_one_line(found.err, *said)
    done = run(capsys, "quantize", path, "-o", tmp_path / "fine.pb", "--exclude", "w")
    assert done.status == 0, done.err


@pytest.mark.parametrize("values", [4097, 5000])
def test_more_values_than_the_shape_holds(values: int, capsys: Any, tmp_path: Path) -> None:
    """A list of values that overflows the shape: refused when the weight is read."""
    path = _written(tmp_path, _edited(_listed(64, 64, values=values)))
    said = ["in.pb", str(values), "4096", "damaged"]
    _refused(capsys, tmp_path, said, "quantize", path, "--bits", "4", "--keep-larger")


def test_an_infinite_weight_that_nothing_uses_is_no_matter(capsys: Any, tmp_path: Path) -> None:
    """-Inf as a mask or an initial maximum is no weight and no reason to refuse."""
    b = GraphBuilder()
    w = b.const("w", random_weight((64, 64)))
    y = b.matmul("y", b.placeholder("x", [-1, 64]), w)
    b.op("z", "Add", [y, b.const("mask", np.full(64, -np.inf, np.float32))])
    path = _written(tmp_path, b.to_bytes())
    assert run(capsys, "quantize", path, "-o", tmp_path / "out.pb").status == 0


@pytest.mark.parametrize("bits", ["1", "0", "9", "16", "32", "-1", "-8", "99999999999999999999"])
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_bits_outside_2_to_8(bits: str, command: str, capsys: Any, tmp_path: Path) -> None:
    """The message says the range and what was given."""
    path = _written(tmp_path, _GOOD)
    _refused(capsys, tmp_path, ["from 2 to 8", bits], command, path, "--bits", bits)
    _refused_rule = ["from 2 to 8"] if bits.isdigit() else [bits]
    (tmp_path / "out.pb").unlink()
    _refused(capsys, tmp_path, _refused_rule, command, path, "--rule", f"w={bits}")


@pytest.mark.parametrize("bits", ["4.5", "four", "", "8bit", "²", "0x8"])
def test_bits_that_are_no_number(bits: str, capsys: Any, tmp_path: Path) -> None:
    """The same for what is no whole number, as an option and in a rule."""
    path = _written(tmp_path, _GOOD)
    _refused(capsys, tmp_path, [], "quantize", path, "--rule", f"w={bits}")
    (tmp_path / "out.pb").unlink()
    _refused(capsys, tmp_path, [], "quantize", path, "--bits", bits)


@pytest.mark.parametrize("rule", ["w", "=4", "w=", "w=eight", "w==", "4"])
def test_rules_that_are_none(rule: str, capsys: Any, tmp_path: Path) -> None:
    """A rule without pattern or bits: the message shows the rule."""
    path = _written(tmp_path, _GOOD)
    _refused(capsys, tmp_path, ["--rule", repr(rule)], "quantize", path, "--rule", rule)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--include", "kernel"], ["--include 'kernel' matches no weight", "graphwq inspect"]),
        (["--exclude", "bias*"], ["--exclude 'bias*' matches no weight", "graphwq inspect"]),
        (["--rule", "conv*=4"], ["--rule 'conv*' matches no weight", "graphwq inspect"]),
        (["--include", "w/read"], ["--include 'w/read' matches no weight"]),
        (["--ops", "Conv2D"], ["'Conv2D'", "the ops are: MatMul"]),
        (["--ops", "MatMul,Conv3D"], ["'Conv3D'"]),
        (["--include", ""], ["--include ''"]),
        (["--min-elements", "-1"], ["negative", "-1"]),
        (["--group-size", "0"], ["group", "0"]),
        (["--scale-bits", "9"], ["scale", "9"]),
        (["--scale-bits", "20"], ["scale", "20"]),
        (["--scale-bits", "25"], ["scale", "25"]),
        (["--storage", "fake_quant", "--granularity", "group"], ["per group"]),
    ],
)
@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_wishes_that_cannot_be(
    command: str, arguments: List[str], said: List[str], capsys: Any, tmp_path: Path
) -> None:
    """A pattern that matches nothing, or an option out of its range."""
    _refused(capsys, tmp_path, said, command, _written(tmp_path, _GOOD), *arguments)


@pytest.mark.parametrize("command", ["quantize", "plan", "inspect"])
def test_missing_and_unreadable_files(command: str, capsys: Any, tmp_path: Path) -> None:
    """A path that is not there, a folder, a path through a file, a long name, a loop of links."""
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    for path, said in (
        (tmp_path / "no.pb", ["no.pb", "No such file"]),
        (tmp_path, ["is a folder"]),
        (tmp_path / "file" / "x.pb", ["x.pb"]),
        (tmp_path / ("n" * 300), ["too long"]),
        (tmp_path / "loop", ["loop"]),
        (tmp_path / "dead", ["dead", "No such file"]),
        (Path(""), ["folder"]),
    ):
        out = [] if command == "inspect" else ["-o", tmp_path / "out.pb"]
        found = run(capsys, command, path, *out)
        assert (found.status, found.out) == (2, ""), path
        assert_one_line(found.err, *said)
        assert not (tmp_path / "out.pb").exists()


def _same(tmp_path: Path) -> List[Path]:
    """Names for tmp_path/in.pb."""
    (tmp_path / "symlink.pb").symlink_to(tmp_path / "in.pb")
    (tmp_path / "relative.pb").symlink_to("in.pb")
    (tmp_path / "twice.pb").symlink_to("symlink.pb")
    os.link(str(tmp_path / "in.pb"), str(tmp_path / "hardlink.pb"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path)
    names = ["in.pb", "symlink.pb", "relative.pb", "twice.pb", "hardlink.pb"]
    paths = [tmp_path / name for name in names]
    return [*paths, tmp_path / "folder" / ".." / "in.pb", tmp_path / "linked" / "in.pb"]


@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_the_input_is_never_overwritten(command: str, capsys: Any, tmp_path: Path) -> None:
    """Not by its own name, another spelling, a symbolic or a hard link; --force does not help."""
    path = _written(tmp_path, _GOOD)
    for out in _same(tmp_path):
        for force in ([], ["--force"]):
            found = run(capsys, command, path, "-o", out, *force)
            assert (found.status, found.out) == (2, ""), out
            assert_one_line(found.err, "the input itself", "another output")
            assert path.read_bytes() == _GOOD
    assert leftovers(tmp_path) == []


def test_the_input_through_a_link(capsys: Any, tmp_path: Path) -> None:
    """The same where the input is the link and the output its target."""
    path = _written(tmp_path, _GOOD)
    for source in _same(tmp_path):
        found = run(capsys, "quantize", source, "-o", path, "--force")
        assert found.status == 2
        assert_one_line(found.err, "the input itself")
        assert path.read_bytes() == _GOOD


def test_the_plan_is_never_overwritten(capsys: Any, tmp_path: Path) -> None:
    """The plan is an input too."""
    path = _written(tmp_path, _GOOD)
    plan = tmp_path / "plan.json"
    assert run(capsys, "plan", path, "-o", plan).status == 0
    before = plan.read_bytes()
    found = run(capsys, "quantize", path, "--plan", plan, "-o", plan, "--force")
    assert found.status == 2
    assert_one_line(found.err, "the input itself")
    assert plan.read_bytes() == before


@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_an_existing_output_stays(command: str, capsys: Any, tmp_path: Path) -> None:
    """Without --force; the message says so. With it the file is replaced."""
    path, out = _written(tmp_path, _GOOD), tmp_path / "out.pb"
    out.write_bytes(b"precious")
    (tmp_path / "link.pb").symlink_to(out)
    for name in ("out.pb", "link.pb"):
        found = run(capsys, command, path, "-o", tmp_path / name)
        assert (found.status, found.out) == (2, "")
        assert_one_line(found.err, name, "exists", "--force")
        assert out.read_bytes() == b"precious"
    assert run(capsys, command, path, "-o", tmp_path / "link.pb", "--force").status == 0
    assert (tmp_path / "link.pb").is_symlink()
    assert out.read_bytes() != b"precious"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_the_output_is_looked_at_first(command: str, capsys: Any, tmp_path: Path) -> None:
    """Minutes of work are not done for an output that is refused: it is checked before reading."""
    path, out = _written(tmp_path, b"no graph"), tmp_path / "out.pb"
    out.write_bytes(b"precious")
    assert_one_line(run(capsys, command, path, "-o", out).err, "out.pb", "exists")
    assert_one_line(run(capsys, command, path, "-o", tmp_path / "no" / "out.pb").err, "no folder")
    assert_one_line(run(capsys, command, path, "-o", tmp_path).err, "is a folder")


@pytest.mark.parametrize("command", ["quantize", "plan"])
def test_outputs_that_cannot_be(command: str, capsys: Any, tmp_path: Path) -> None:
    """A folder, a missing folder, a file as folder, a name too long, a loop, a device."""
    path = _written(tmp_path, _GOOD)
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out, said in (
        (tmp_path, ["is a folder"]),
        (tmp_path / "no" / "out.pb", ["no folder", "create it"]),
        (tmp_path / "no" / "no" / "out.pb", ["no folder", "create it"]),
        (tmp_path / "file" / "out.pb", ["out.pb"]),
        (tmp_path / ("n" * 300), []),
        (tmp_path / "loop", []),
        (Path("/dev/null"), ["/dev/null"]),
        (Path("/proc/graphwq-out.pb"), ["/proc"]),
    ):
        for force in ([], ["--force"]):
            found = run(capsys, command, path, "-o", out, *force)
            assert (found.status, found.out) == (2, ""), (out, found)
            assert_one_line(found.err, *said)
    assert leftovers(tmp_path) == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "in.pb", "loop"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(capsys: Any, tmp_path: Path) -> None:
    """A folder that may not be written."""
    path = _written(tmp_path, _GOOD)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    found = run(capsys, "quantize", path, "-o", locked / "out.pb")
    assert found.status == 2
    assert_one_line(found.err, "not writable", "locked")


def test_a_folder_that_says_it_is_not_writable(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the tests run as root, who may write everywhere."""
    path = _written(tmp_path, _GOOD)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = run(capsys, "quantize", path, "-o", tmp_path / "out.pb")
    assert found.status == 2
    assert_one_line(found.err, "not writable", str(tmp_path))
    assert not (tmp_path / "out.pb").exists()


def test_a_full_disk(capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while writing leaves the old file and no temporary one."""
    path, out = _written(tmp_path, _GOOD), tmp_path / "out.pb"
    out.write_bytes(b"precious")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = run(capsys, "quantize", path, "-o", out, "--force")
    assert found.status == 2
    assert_one_line(found.err, "out.pb", "No space left on device")
    assert out.read_bytes() == b"precious"
    assert leftovers(tmp_path) == []


_PLANS: Dict[str, Tuple[bytes, List[str]]] = {
    "missing": (b"", ["plan.json"]),
    "empty": (b"", ["plan.json", "empty"]),
    "binary": (_GOOD, ["plan.json"]),
    "text": (b"bits: 4\n", ["plan.json", "not a plan"]),
    "half": (b'{"format": "graphwq-plan", "version": 1, "ite', ["plan.json"]),
    "other json": (b"[1, 2]", ["plan.json", "not a plan"]),
    "later": (b'{"format": "graphwq-plan", "version": 99}', ["plan.json", "version 99"]),
    "deep": (b"[" * 200_000, ["plan.json"]),
}


@pytest.mark.parametrize("name", sorted(_PLANS))
def test_plans_that_are_none(name: str, capsys: Any, tmp_path: Path) -> None:
    """A plan that cannot be read is refused like a graph that cannot."""
    data, said = _PLANS[name]
    path, plan = _written(tmp_path, _GOOD), tmp_path / "plan.json"
    if name != "missing":
        plan.write_bytes(data)
    _refused(capsys, tmp_path, said, "quantize", path, "--plan", plan)


def test_the_plan_of_another_graph(capsys: Any, tmp_path: Path) -> None:
    """Refused with both digests and what to do."""
    other = _written(tmp_path, dense(64, 64, seed=9).to_bytes(), "other.pb")
    plan = tmp_path / "plan.json"
    assert run(capsys, "plan", other, "-o", plan).status == 0
    digests = [Graph.parse(data).digest[:12] for data in (_GOOD, other.read_bytes())]
    path = _written(tmp_path, _GOOD)
    said = ["another graph", "make a new plan", *digests]
    _refused(capsys, tmp_path, said, "quantize", path, "--plan", plan)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--bits", "4"],
        ["--rule", "w=4"],
        ["--include", "w"],
        ["--exclude", "w"],
        ["--ops", "MatMul"],
        ["--granularity", "tensor"],
        ["--group-size", "8"],
        ["--min-elements", "0"],
        ["--keep-larger"],
        ["--scale-bits", "16"],
    ],
)
def test_wishes_beside_a_plan(arguments: List[str], capsys: Any, tmp_path: Path) -> None:
    """What a plan has decided cannot be wished otherwise: refused instead of ignored."""
    path, plan = _written(tmp_path, _GOOD), tmp_path / "plan.json"
    assert run(capsys, "plan", path, "-o", plan).status == 0
    said = [arguments[0], "--plan"]
    _refused(capsys, tmp_path, said, "quantize", path, "--plan", plan, *arguments)


def test_names_cannot_take_over_the_terminal(capsys: Any, tmp_path: Path) -> None:
    """Names of files and nodes are hostile input: nothing in them starts a line or an escape."""
    hostile = "a\nb\x1b[2J\rgraphwq: error: all is well"
    b = GraphBuilder()
    b.matmul(hostile, b.placeholder("x", [-1, 64]), "nowhere\n" + hostile)
    path = _written(tmp_path, b.to_bytes(), "in\n\x1b[31m.pb")
    for command in (["inspect"], ["plan"], ["quantize", "-o", tmp_path / "out.pb"]):
        found = run(capsys, command[0], path, *command[1:])
        text = (found.out + found.err).replace("\n", "")
        assert text.isprintable()
        if command[0] != "inspect":
            assert_one_line(found.err)


def test_random_damage(capsys: Any, tmp_path: Path) -> None:
    """Any byte of a graph changed: quantized, or refused in one line; never exit 70."""
    random = np.random.RandomState(5)
    data = dense(6, 5).to_bytes()
    path, out = tmp_path / "in.pb", tmp_path / "out.pb"
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random.randint(1, 4)):
            damaged[random.randint(len(data))] = random.randint(256)
        path.write_bytes(bytes(damaged))
        found = run(capsys, "quantize", path, "-o", out, "--force", "--keep-larger")
        assert found.status in (0, 2), (found, bytes(damaged))
        if found.status == 2:
            assert_one_line(found.err)


def test_truncation_at_every_byte(capsys: Any, tmp_path: Path) -> None:
    """A download that broke off anywhere: refused, or (between two nodes) a graph in itself."""
    data = dense(6, 5).to_bytes()
    path, out = tmp_path / "in.pb", tmp_path / "out.pb"
    for end in range(1, len(data), 3):
        path.write_bytes(data[:end])
        found = run(capsys, "quantize", path, "-o", out, "--force", "--keep-larger")
        assert found.status in (0, 2), (found, end)
        if found.status == 2:
            assert_one_line(found.err, "in.pb")


@pytest.mark.parametrize("name", ["NaN", "Inf"])
def test_as_a_process(name: str, tmp_path: Path) -> None:
    """The same from outside: exit status 2, one line, nothing written."""
    path = _written(tmp_path, _WEIGHTS[name][0])
    found = process("quantize", path, "-o", tmp_path / "out.pb")
    assert (found.status, found.out) == (2, "")
    assert_one_line(found.err, "'w'")
    assert [item.name for item in tmp_path.iterdir()] == ["in.pb"]


def test_a_killed_reader(tmp_path: Path) -> None:
    """A closed pipe on stdout (``graphwq inspect | head -1``) is no error and no traceback."""
    import subprocess
    import sys

    from commandline import environment
    from conftest import ROOT

    path = _written(tmp_path, _GOOD)
    command = f"{sys.executable} -m graphwq inspect {path} --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=environment(),
        cwd=str(ROOT),
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b""
