"""``graphwq inspect``: its JSON, its text, its verdict, and names that mean harm."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from builders import GraphBuilder, convolution, dense, random_weight

from graphwq.api import quantize
from graphwq.cli.main import main
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.protos import GraphDef
from graphwq.graphdef.source import save

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = sorted(path.stem for path in (ROOT / "fixtures").glob("*.pb"))


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


class Run:
    """inspect on a graph: exit status, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture, *arguments: str) -> None:
        self.status = main(["inspect", *arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def json(self) -> Dict[str, Any]:
        """stdout as JSON."""
        found: Dict[str, Any] = json.loads(self.out)
        return found


def inspect(capsys: pytest.CaptureFixture, folder: Path, graph: Graph, *options: str) -> Run:
    """Write a graph and inspect it."""
    path = folder / "graph.pb"
    save(graph, path, force=True)
    return Run(capsys, str(path), *options)


def subprocess_inspect(path: Path, *options: str, **env: str) -> Tuple[int, bytes, bytes]:
    """inspect in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "graphwq", "inspect", os.fspath(path), *options],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


# ----------------------------------------------------------------------------------------- JSON


def _kinds(value: Any, kinds: Dict[str, Any], where: str) -> None:
    assert set(kinds) <= set(value), f"{where} lacks {set(kinds) - set(value)}"
    for key, kind in kinds.items():
        found = value[key]
        if isinstance(kind, list):
            assert isinstance(found, list), f"{where}.{key}"
            for item in found:
                if isinstance(kind[0], dict):
                    _kinds(item, kind[0], f"{where}.{key}")
                else:
                    assert type(item) is kind[0], f"{where}.{key}"
        else:
            assert type(found) is kind, f"{where}.{key}"


#: What was promised, and must stay, for scripts that read it.
CONSUMER = {"node": str, "op": str, "slot": int, "kept_axes": [int]}
SITE = {
    "weight": str, "shape": [int], "dtype": str, "source": str, "path": [str],
    "consumers": [CONSUMER],
}  # fmt: skip
SKIP = {"node": str, "reason": str, "detail": str}
PROMISED = {"sites": [SITE], "skips": [SKIP]}


def everything() -> Graph:
    """A site of each source, functions, skips of several reasons."""
    b, body = GraphBuilder(), GraphBuilder()
    x = b.placeholder("x", [1, 16])
    w = b.const("w", random_weight((16, 8)))
    b.matmul("y", x, b.op("w/read", "Identity", [w]))
    b.matmul("v_y", x, b.variable("v", [16, 8]))
    handle = b.variable("h", [16, 8], op="VarHandleOp")
    b.matmul("h_y", x, b.op("read", "ReadVariableOp", [handle]))
    half = b.const("half", random_weight((16, 8), dtype=np.float16))
    b.op("half_y", "MatMul", ["x", half], T=("type", dtypes.DT_HALF))
    b.op("biased", "BiasAdd", ["y", b.const("bias", random_weight((8,)))])
    b.const("scalar", np.float32(3))
    b.const("empty", np.zeros((0, 2), np.float32))
    b.const("unused", random_weight((4, 4)))
    body.const("inner", random_weight((16, 8)))
    body.op("product", "MatMul", ["a", "inner:output:0"])
    b.function("f", [("a", 1)], body, [("out", "product:product:0", 1)])
    b.call("call", "f", [x])
    return b.graph()


@pytest.mark.parametrize("name", FIXTURES)
def test_the_json_has_what_was_promised(name: str, capsys: pytest.CaptureFixture) -> None:
    """{"sites": [{weight, shape, ..., consumers: [...]}], "skips": [{node, reason, detail}]}."""
    run = Run(capsys, str(ROOT / "fixtures" / f"{name}.pb"), "--json")
    assert run.status == 0
    assert run.err == ""
    assert run.json["sites"]
    _kinds(run.json, PROMISED, "inspect")


def test_the_json_of_every_kind_of_site(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Sources, dtypes, functions and skips by their names."""
    run = inspect(capsys, tmp_path, everything(), "--json")
    _kinds(run.json, PROMISED, "inspect")
    sites = {site["weight"]: site for site in run.json["sites"]}
    assert {name: site["source"] for name, site in sites.items()} == {
        "w": "CONST",
        "v": "VARIABLE",
        "h": "RESOURCE_VARIABLE",
        "half": "CONST",
        "f:inner": "CONST",
    }
    assert sites["half"]["dtype"] == "float16"
    assert sites["w"]["path"] == ["Identity"]
    assert sites["w"]["shape"] == [16, 8]
    (consumer,) = sites["f:inner"]["consumers"]
    assert {key: consumer[key] for key in CONSUMER} == {
        "node": "f:product",
        "op": "MatMul",
        "slot": 1,
        "kept_axes": [1],
    }
    skips = {skip["node"]: skip["reason"] for skip in run.json["skips"]}
    assert skips == {
        "bias": "not_a_weight", "scalar": "scalar", "empty": "empty", "unused": "unused",
    }  # fmt: skip
    assert run.json["problems"] == []


def test_the_keys_of_the_json(tmp_path: Path, capsys: pytest.CaptureFixture, golden: Any) -> None:
    """The whole of the JSON, key by key: scripts depend on it, so a change must be seen."""
    path = ROOT / "fixtures" / "digits_embedding.pb"
    data = Run(capsys, str(path), "--json").json
    data["input"] = Path(data["input"]).name
    golden("inspect_digits_embedding.json", json.dumps(data, indent=1) + "\n")


def test_a_text_graph_is_inspected_as_well(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The same sites from .pb and .pbtxt."""
    graph = everything()
    binary = inspect(capsys, tmp_path, graph, "--json").json
    save(graph, tmp_path / "graph.pbtxt")
    text = Run(capsys, str(tmp_path / "graph.pbtxt"), "--json").json

    def names(data: Dict[str, Any]) -> List[Any]:
        return [(site["weight"], site["consumers"]) for site in data["sites"]]

    assert names(binary) == names(text)
    assert binary["skips"] == text["skips"]


def test_an_empty_graph(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A graph without a node has no weight; that is said and is no error."""
    b = GraphBuilder()
    run = inspect(capsys, tmp_path, b.graph())
    assert run.status == 0
    assert "no weight was found in this graph" in run.out
    assert inspect(capsys, tmp_path, b.graph(), "--json").json["sites"] == []


def test_a_file_that_is_no_graph(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Exit 2, one line on stderr, nothing on stdout."""
    path = tmp_path / "photo.pb"
    path.write_bytes(b"\x89PNG not a graph")
    run = Run(capsys, str(path), "--json")
    assert (run.status, run.out) == (2, "")
    assert run.err.count("\n") == 1
    assert "photo.pb" in run.err


# ----------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("name", FIXTURES)
def test_the_text_of_a_fixture(
    name: str, golden: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What people see, character by character."""
    monkeypatch.chdir(ROOT / "fixtures")
    run = Run(capsys, f"{name}.pb")
    assert (run.status, run.err) == (0, "")
    golden(f"inspect_{name}.txt", run.out)


def test_the_text_of_every_kind_of_site(
    tmp_path: Path, golden: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables, functions, halves, skips worth a line and skips that are only counted."""
    monkeypatch.chdir(tmp_path)
    save(everything(), "everything.pb")
    golden("inspect_everything.txt", Run(capsys, "everything.pb").out)


def test_the_text_of_a_quantized_graph(
    tmp_path: Path, golden: Any, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that are stored as integers are listed with bits, form and axes."""
    monkeypatch.chdir(tmp_path)
    quantize(ROOT / "fixtures" / "digits_cnn.pb", 4).save("quantized.pb")
    out = Run(capsys, "quantized.pb").out
    size = out.split(" ", 2)[1]  # depends on how small the form is made, which others test
    lines = [line for line in out.replace(size, "N").splitlines() if "bit " in line]
    assert len(lines) == 5
    for line, weight in zip(lines, ("conv1", "depthwise", "pointwise", "conv2", "output")):
        assert f" {weight}/kernel " in line
        assert " 4 bit " in line
        assert " dequant " in line
    assert out.splitlines()[-1].startswith("quantized: 5 of 5 weights as integers, 0 as floats")


# -------------------------------------------------------------------------------------- verdict


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_baked_weights_are_recognized(
    bits: int, granularity: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Floats on a grid: bits and axes are found from the values alone, exactly."""
    result = quantize(convolution(), bits, "bake", granularity=granularity)
    run = inspect(capsys, tmp_path, result.graph, "--json")
    (site,) = run.json["sites"]
    assert site["grid"]["num_bits"] == bits
    assert site["grid"]["axes"] == ([3] if granularity == "channel" else [])
    assert site["grid"]["exact"] is True
    assert run.json["quantized"] == []
    out = inspect(capsys, tmp_path, result.graph).out
    assert f"{bits} bit per {'axis 3' if granularity == 'channel' else 'tensor'}" in out
    assert "quantized: 0 of 1 weight as integers, 1 as floats on a grid" in out


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("storage", ["dequant", "fake_quant"])
@pytest.mark.parametrize("scale_bits", [24, 16])
def test_stored_weights_are_recognized(
    bits: int, storage: str, scale_bits: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Every form that we write is recognized as quantized when it is read."""
    result = quantize(convolution(), bits, storage, scale_bits=scale_bits, keep_larger=True)
    run = inspect(capsys, tmp_path, result.graph, "--json")
    assert run.json["sites"] == []
    (stored,) = run.json["quantized"]
    assert (stored["weight"], stored["num_bits"], stored["storage"]) == ("w", bits, storage)
    assert stored["axes"] == [3]
    assert stored["shape"] == [3, 3, 16, 32]
    out = inspect(capsys, tmp_path, result.graph).out
    assert "quantized: 1 of 1 weight as integers" in out


def test_a_graph_quantized_in_part(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Some integers, some floats: the verdict counts both."""
    b = GraphBuilder()
    for name in ("u", "v", "w"):
        b.matmul(f"y_{name}", b.placeholder(f"x_{name}"), b.const(name, random_weight((64, 64))))
    graph = quantize(b.graph(), exclude=("v", "w")).graph
    graph = quantize(graph, 4, "bake", exclude=("w",)).graph
    out = inspect(capsys, tmp_path, graph).out
    assert "quantized: 1 of 3 weights as integers, 1 as floats on a grid" in out


def test_a_float_graph_is_not_quantized(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Trained floats lie on no grid."""
    run = inspect(capsys, tmp_path, dense())
    assert "not quantized: every weight is plain float" in run.out
    (site,) = inspect(capsys, tmp_path, dense(), "--json").json["sites"]
    assert site["grid"] is None


def test_our_own_scales_are_not_listed_as_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The constants of a form that we wrote ourselves are no arithmetic on a weight's path."""
    for storage in ("dequant", "fake_quant"):
        run = inspect(capsys, tmp_path, quantize(dense(), 8, storage).graph)
        assert "arithmetic_on_path" not in run.out


# ------------------------------------------------------------------------------- broken graphs


def test_a_dangling_graph_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The problem is told on stderr, the survey on stdout, exit 0."""
    b = GraphBuilder()
    b.matmul("y", "gone:1", b.const("w", random_weight((64, 8))))
    body = GraphBuilder()
    body.op("z", "Relu", ["lost:output:0"])
    b.function("f", [("a", 1)], body)
    run = inspect(capsys, tmp_path, b.graph())
    assert run.status == 0
    lines = run.err.splitlines()
    assert len(lines) == 2
    assert "warning: node 'y' has input 'gone:1', but no such node exists" in lines[0]
    assert "warning: node 'f:z' has input 'lost:output:0'" in lines[1]
    assert "1 weight" in run.out
    data = inspect(capsys, tmp_path, b.graph(), "--json").json
    assert [site["weight"] for site in data["sites"]] == ["w"]
    assert len(data["problems"]) == 2
    assert "gone:1" in data["problems"][0]


def test_a_graph_with_a_cycle_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """No runtime loads it; what it holds can be said all the same."""
    b = GraphBuilder()
    w = b.const("w", random_weight((8, 8)))
    b.matmul("a", "b", w)
    b.matmul("b", "a", w)
    run = inspect(capsys, tmp_path, b.graph())
    assert run.status == 0
    assert "cycle" in run.err
    assert "MatMul[1] x2" in run.out


def test_duplicate_names_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Nobody can say what such a graph means: exit 2, and the file is named."""
    b = GraphBuilder()
    b.const("w", [1.0])
    b.const("w", [2.0])
    run = inspect(capsys, tmp_path, b.graph())
    assert (run.status, run.out) == (2, "")
    assert "graph.pb" in run.err
    assert "two nodes are named 'w'" in run.err


def test_a_graph_of_concatenated_quantized_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Two weights that the model joins along its last axis, quantized, inspected."""
    b = GraphBuilder()
    u, v = b.const("u", random_weight((64, 8))), b.const("v", random_weight((64, 8)))
    both = b.op("both", "ConcatV2", [u, v, b.const("axis", -1)], N=2)
    b.matmul("y", b.placeholder("x", [1, 64]), both)
    run = inspect(capsys, tmp_path, quantize(b.graph()).graph, "--json")
    assert run.status == 0, run.err
    for stored in run.json["quantized"]:
        assert stored["axes"] == [1]


# -------------------------------------------------------------------------------- hostile names

HOSTILE = {
    "clear screen": "\x1b[2J\x1b[H",
    "window title": "\x1b]0;owned\x07",
    "newlines": "a\nb\r\nc",
    "backspaces": "weight\b\b\b\b\b\bgood",
    "tabs": "a\tb\x0bc",
    "C1 control": "\x9b31mred",
    "delete": "a\x7fb",
    "right to left": "w\u202etxt.exe",
    "isolates": "\u2066x\u2069",
    "zero width": "w\u200b\u200d\ufeff",
    "markup": "[red]w[/red][link=evil]",
    "very long": "x" * 10_000,
    "very long and wide": "\u91cd" * 10_000,
    "line separators": "a\u2028b\u2029c\x85d",
}


def hostile_graph(name: str) -> Graph:
    """The name everywhere that inspect speaks of: weights, skips, ops, functions, problems."""
    b, body = GraphBuilder(), GraphBuilder()
    x = b.placeholder("x", [1, 64])
    w = b.const(f"{name}/w", random_weight((64, 8)))
    b.matmul("y", x, b.op(f"{name}/read", "Identity", [w]))
    b.op(f"{name}/op", f"Op{name}", [b.const("other", random_weight((4, 4)))])
    b.op(f"{name}/add", "Add", [x, b.const(f"{name}/bias", random_weight((64,)))])
    b.const(f"{name}/unused", random_weight((4, 4)))
    b.op(f"{name}/broken", "Identity", [f"{name}/gone"])
    body.op("product", "MatMul", ["a", "given"])
    b.function(f"Fn{name}", [("a", 1), ("given", 1)], body)
    b.op("call", f"Fn{name}", [x, b.const("passed", random_weight((64, 8)))])
    codes = b.const("codes", np.arange(-16, 16, dtype=np.int8).reshape(4, 8))
    value = b.cast("value", codes, dtypes.DT_INT8, dtypes.DT_FLOAT)
    scale = b.const(f"{name}/scale", np.full((1, 8), 0.5, np.float32))
    b.op(f"{name}/stored", "Mul", [value, scale])
    return b.graph()


def assert_harmless(text: str) -> None:
    """Nothing but printable characters and line ends."""
    bad = sorted({char for char in text if not char.isprintable() and char != "\n"})
    assert not bad, f"{bad} reach the terminal"


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_do_not_reach_the_terminal(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """In the text every character is printable, every line bounded."""
    run = inspect(capsys, tmp_path, hostile_graph(HOSTILE[kind]))
    assert run.status == 0
    for stream in (run.out, run.err):
        assert_harmless(stream)
        assert max(len(line) for line in stream.splitlines()) < 1100
    assert len(run.out) < 60_000
    assert "warning: node" in run.err


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_in_json(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """JSON keeps the names whole, and escapes what a terminal would obey."""
    name = HOSTILE[kind]
    run = inspect(capsys, tmp_path, hostile_graph(name), "--json")
    assert run.status == 0
    assert_harmless(run.out)
    assert run.json["sites"][0]["weight"] == f"{name}/w"
    assert run.json["quantized"][0]["weight"] == f"{name}/stored"
    assert any(skip["node"] == f"{name}/unused" for skip in run.json["skips"])


def test_names_that_look_like_markup_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """[red] and :bomb: are letters of a name, nothing else."""
    for name in ("[red]w[/red]", "a\\[b]", ":bomb:"):
        run = inspect(capsys, tmp_path, hostile_graph(name))
        assert f" {name}/w " in run.out


@pytest.mark.parametrize("kind", ["clear screen", "window title", "C1 control", "newlines"])
def test_hostile_names_on_a_real_terminal(kind: str, tmp_path: Path) -> None:
    """Colours of our own may go to a terminal; the name's sequences may not."""
    path = tmp_path / "graph.pb"
    save(hostile_graph(HOSTILE[kind]), path)
    main_end, far_end = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-m", "graphwq", "inspect", str(path)],
        stdout=far_end, stderr=far_end, stdin=subprocess.DEVNULL, env=env,
    )  # fmt: skip
    os.close(far_end)
    seen = b""
    while True:
        try:
            piece = os.read(main_end, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    assert process.wait(30) == 0
    os.close(main_end)
    text = seen.decode().replace("\r\n", "\n")
    assert "weight" in text
    for sequence in ("\x1b[2J", "\x1b[H", "\x1b]", "\x07", "\x9b", "\r"):
        assert sequence not in text


def test_a_terminal_that_cannot_show_the_names(tmp_path: Path) -> None:
    """A Chinese name on an ASCII terminal is shown escaped, not answered with a crash."""
    path = tmp_path / "graph.pb"
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x"), b.const("\u91cd\u307f/w", random_weight((64, 8))))
    save(b.graph(), path)
    for options in ([], ["--json"]):
        status, out, err = subprocess_inspect(path, *options, PYTHONIOENCODING="ascii")
        assert status == 0, err
        assert out


def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    """Linux file names are bytes; the JSON is written all the same."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[2J.pb"))
    try:
        save(dense(), path)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    for options in ([], ["--json"]):
        status, out, err = subprocess_inspect(path, *options, PYTHONIOENCODING="utf-8")
        assert status == 0, err
        assert b"\x1b" not in out


# -------------------------------------------------------------------------------- hostile sizes


def _splat(name: str, dtype: int, dims: List[int]) -> bytes:
    """A Const that declares a huge shape and holds a single value."""
    proto = GraphDef()
    node = proto.node.add(name=name, op="Const")
    node.attr["dtype"].type = dtype
    tensor = node.attr["value"].tensor
    tensor.dtype = dtype
    for size in dims:
        tensor.tensor_shape.dim.add().size = size
    if dtype == dtypes.DT_FLOAT:
        tensor.float_val.append(0.5)
    else:
        tensor.int_val.append(3)
    return proto.SerializeToString()


def _limited(path: Path, *options: str) -> Tuple[int, str]:
    """inspect with 3 GB of address space."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "from graphwq.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(path), *options],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        timeout=60,
    )
    return done.returncode, done.stderr.decode()


def test_a_tiny_file_that_declares_a_huge_weight(tmp_path: Path) -> None:
    """A float Const of 2^31 equal values in 80 bytes is inspected without making them."""
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x"), "w")
    path = tmp_path / "huge.pb"
    path.write_bytes(b.to_bytes() + _splat("w", dtypes.DT_FLOAT, [1 << 16, 1 << 15]))
    assert _limited(path, "--json") == (0, "")


@pytest.mark.parametrize("dims", [[1 << 15, 1 << 15], [1 << 30, 1]])
def test_a_tiny_file_that_declares_huge_codes(dims: List[int], tmp_path: Path) -> None:
    """A dequantization of 2^30 equal codes in 200 bytes is inspected without carrying it out."""
    b = GraphBuilder()
    value = b.cast("value", "codes", dtypes.DT_INT8, dtypes.DT_FLOAT)
    b.op("w", "Mul", [value, b.const("scale", np.float32([[0.5]]))])
    path = tmp_path / "huge.pb"
    path.write_bytes(b.to_bytes() + _splat("codes", dtypes.DT_INT8, dims))
    assert _limited(path, "--json") == (0, "")


def test_a_tiny_file_whose_sum_is_huge(tmp_path: Path) -> None:
    """[65536, 1] + [1, 65536] is 2^32 numbers: nothing that an inspection needs to know."""
    b = GraphBuilder()
    value = b.cast("value", "codes", dtypes.DT_INT8, dtypes.DT_FLOAT)
    value = b.op("sum", "Add", [value, "row"])
    b.op("w", "Mul", [value, b.const("scale", np.float32([[0.5]]))])
    parts = [b.to_bytes(), _splat("codes", dtypes.DT_INT8, [1 << 16, 1])]
    parts.append(_splat("row", dtypes.DT_FLOAT, [1, 1 << 16]))
    path = tmp_path / "huge.pb"
    path.write_bytes(b"".join(parts))
    assert _limited(path, "--json") == (0, "")
