"""graphdef/freeze.py, prune.py, restore.py, convert.py: variables to constants, no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from builders import GraphBuilder, random_weight
from checkpoints import meta_graph, write_bundle, write_saved_model
from commandline import assert_one_line, leftovers, run

import graphwq
from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef import dtypes, source
from graphwq.graphdef.checkpoint import open_checkpoint
from graphwq.graphdef.freeze import Frozen, freeze
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.newnode import attr_string, attr_type, new_node
from graphwq.graphdef.opening import Request, open_source
from graphwq.graphdef.protos import AttrValue
from graphwq.graphdef.source import load, save
from graphwq.graphdef.variable import is_writer

_W, _V = random_weight((4, 3)), random_weight((3, 2), 1)


def _handle(b: GraphBuilder, name: str, shape: Any, shared: str = "") -> str:
    b.variable(name, shape, op="VarHandleOp")
    node = b.nodes.pop()
    attrs = {key: bytes(value) for key, value in node.attr_bytes().items()}
    return b.add(
        new_node(name, "VarHandleOp", (), {**attrs, "shared_name": attr_string(shared.encode())})
    )


def _read(b: GraphBuilder, name: str, handle: str, control: str = "") -> str:
    inputs = [handle] + ([control] if control else [])
    return b.op(name, "ReadVariableOp", inputs, dtype=("type", dtypes.DT_FLOAT))


def _training() -> GraphBuilder:
    """x -> w -> v -> y with a loss, a gradient, an update, a saver and an initializer."""
    b = GraphBuilder()
    b.placeholder("x", [-1, 4])
    b.variable("w", (4, 3))
    b.op("w/read", "Identity", ["w"], _class=_location("w"))
    _handle(b, "v", (3, 2))
    b.op("init", "RandomUniform", [b.const("init/shape", np.array([4, 3], np.int32))])
    b.op("w/Assign", "Assign", ["w", "init"])
    b.matmul("h", "x", "w/read")
    b.matmul("y", "h", _read(b, "v/Read", "v", "^update"))
    b.op("loss", "L2Loss", ["y"])
    b.op("gradients/y", "Mul", ["y", "loss"])
    b.op("update", "ApplyGradientDescent", ["w", "loss", "gradients/y"])
    b.op("train", "NoOp", ["^update"])
    b.op("out", "Identity", ["y", "^train", "^update"])
    return b


def _location(name: str) -> AttrValue:
    attr = AttrValue()
    attr.list.s.append(b"loc:@" + name.encode())
    return attr


def _checkpoint(folder: Path, **tensors: Any) -> Path:
    write_bundle(folder / "model", tensors or {"w": _W, "v": _V})
    return folder / "model"


def _freeze(b: GraphBuilder, prefix: Path, *outputs: str, **options: Any) -> Frozen:
    return freeze(b.graph(), open_checkpoint(prefix), outputs, **options)


def _values(graph: Graph) -> Dict[str, np.ndarray]:
    found = {}
    for node in graph.nodes:
        tensor = node.tensor() if node.op == "Const" else None
        if tensor is not None:
            found[node.name] = tensor.numpy()
    return found


def test_variables_become_constants_of_the_same_name(tmp_path: Path) -> None:
    """Pruned to the output, in the order of the file; reads become Identity."""
    frozen = _freeze(_training(), _checkpoint(tmp_path), "y")
    assert frozen.variables == ("w", "v")
    nodes = {node.name: node for node in frozen.graph.nodes}
    assert list(nodes) == ["x", "w", "w/read", "v", "h", "v/Read", "y"]
    assert [nodes[name].op for name in ("w", "v", "v/Read")] == ["Const", "Const", "Identity"]
    assert nodes["v/Read"].inputs == ("v",)
    values = _values(frozen.graph)
    assert values["w"].tobytes() == _W.tobytes()
    assert values["v"].tobytes() == _V.tobytes()
    assert frozen.graph.extra == _training().graph().extra
    sites = graphwq.locate(frozen.graph).sites
    assert {site.weight for site in sites} == {"w", "v"}
    assert Graph.parse(frozen.graph.to_bytes()).digest == frozen.graph.digest


def test_updates_that_are_waited_for_are_left_out(tmp_path: Path) -> None:
    """A control edge from an update goes; other control edges stay."""
    frozen = _freeze(_training(), _checkpoint(tmp_path), "out")
    nodes = {node.name: node for node in frozen.graph.nodes}
    assert nodes["out"].inputs == ("y", "^train")
    assert nodes["train"].inputs == ()
    assert not [node for node in nodes.values() if is_writer(node)]


def test_colocated_nodes_stay(tmp_path: Path) -> None:
    """TensorFlow refuses a node whose companion is gone: it is kept, unless it is an update."""
    b = _training()
    b.op("beside", "NoOp", [])
    both = _location("beside")
    both.list.s.append(b"loc:@update")
    b.op("placed", "Identity", ["y"], _class=both)
    b.op("alone", "Identity", ["y"], _class=_location("update"))
    nodes = {node.name: node for node in _freeze(b, _checkpoint(tmp_path), "placed").graph.nodes}
    assert "beside" in nodes
    assert "update" not in nodes
    attr = nodes["placed"].attr("_class")
    assert attr is not None
    assert list(attr.list.s) == [b"loc:@beside"]
    nodes = {node.name: node for node in _freeze(b, _checkpoint(tmp_path), "alone").graph.nodes}
    assert "_class" not in nodes["alone"].attr_bytes()


def test_an_output_that_needs_an_update(tmp_path: Path) -> None:
    """Op, variable and user are named."""
    b = _training()
    b.op("late", "Identity", ["update"])
    with pytest.raises(
        UnsupportedError, match=r"'late' needs the result of ApplyGrad.*'update'.*'w'"
    ):
        _freeze(b, _checkpoint(tmp_path), "late")


def test_guessed_outputs(tmp_path: Path) -> None:
    """What nobody uses, without the training part; not what the checkpoint has no values for."""
    frozen = _freeze(_training(), _checkpoint(tmp_path))
    assert frozen.outputs == ("loss", "out")
    b = _training()
    b.variable("lost", (2, 2))
    b.matmul("unknown", "y", "lost")
    assert _freeze(b, _checkpoint(tmp_path)).outputs == ("loss", "out")
    with pytest.raises(InputError, match="variable 'lost' is not in the checkpoint"):
        _freeze(b, _checkpoint(tmp_path), "unknown")
    empty = GraphBuilder()
    empty.op("a", "NoOp", [])
    with pytest.raises(InputError, match="name them with --outputs"):
        _freeze(empty, _checkpoint(tmp_path))


def test_shapes_and_dtypes_must_agree(tmp_path: Path) -> None:
    """Both are named."""
    wrong = _checkpoint(tmp_path, w=_W.T.copy(), v=_V)
    with pytest.raises(
        InputError, match=r"'w' has shape \[4, 3\] in the graph and \[3, 4\] in the"
    ):
        _freeze(_training(), wrong, "y")
    wrong = _checkpoint(tmp_path, w=_W.astype(np.float64), v=_V)
    with pytest.raises(
        InputError, match="'w' is float32 in the graph and float64 in the checkpoint"
    ):
        _freeze(_training(), wrong, "y")
    open_shape = GraphBuilder()
    open_shape.variable("u", (-1, 3))
    open_shape.variable("t", None)
    open_shape.variable("old", (), op="Variable")
    for name in ("u", "t", "old"):
        open_shape.op(f"{name}/read", "Identity", [name])
    prefix = _checkpoint(tmp_path, u=_W, t=_V, old=_V)
    frozen = _freeze(open_shape, prefix, "u/read", "t/read", "old/read")
    assert _values(frozen.graph)["old"].shape == (3, 2)
    with pytest.raises(InputError, match=r"'u' has shape \[-1, 3\] in the graph"):
        _freeze(open_shape, _checkpoint(tmp_path, u=_V, t=_V, old=_V), "u/read")


def test_an_unknown_output(tmp_path: Path) -> None:
    """With the nearest names."""
    with pytest.raises(InputError, match=r"no node 'lose' for the output 'lose:0' \(is 'loss'"):
        _freeze(_training(), _checkpoint(tmp_path), "lose:0")


def test_a_missing_variable(tmp_path: Path) -> None:
    """With the nearest key of the checkpoint."""
    with pytest.raises(InputError, match=r"'v' is not in the checkpoint .*nearest there is 'v1'"):
        _freeze(_training(), _checkpoint(tmp_path, w=_W, v1=_V), "y")


def _restoring(cut: bytes = b"") -> GraphBuilder:
    """The saver restores w from "a" and, with another saver, from "b"."""
    b = _training()
    for number, key in enumerate((b"a", b"b")):
        for name, value in (("names", key), ("cuts", cut)):
            attr = AttrValue()
            attr.tensor.dtype = dtypes.DT_STRING
            attr.tensor.tensor_shape.dim.add().size = 1
            attr.tensor.string_val.append(value)
            raw = attr.SerializeToString(deterministic=True)
            attrs = {"dtype": attr_type(dtypes.DT_STRING), "value": raw}
            b.add(new_node(f"save{number}/{name}", "Const", (), attrs))
        inputs = ["x", f"save{number}/names", f"save{number}/cuts"]
        b.op(f"save{number}/restore", "RestoreV2", inputs)
        b.op(f"save{number}/Assign", "Assign", ["w", f"save{number}/restore"])
        b.op(f"save{number}/all", "NoOp", [f"^save{number}/Assign"])
    return b


def test_the_saver_says_which_tensor_it_is(tmp_path: Path) -> None:
    """Its restore op decides, then the order of the savers, then the variable's own name."""
    tensors = {"a": _W, "b": _W + 1, "w": _W + 2, "v": _V}

    def value(restore_op: str = "", **there: Any) -> float:
        prefix = _checkpoint(tmp_path, **there)
        frozen = _freeze(_restoring(), prefix, "y", restore_op=restore_op)
        return float(np.round((_values(frozen.graph)["w"] - _W).mean()))

    assert value("save0/all", **tensors) == 0
    assert value("save1/all", **tensors) == 1
    assert value(**tensors) == 0
    del tensors["a"]
    assert value(**tensors) == 1
    assert value("save0/all", **tensors) == 2


def test_a_saver_that_restores_a_slice(tmp_path: Path) -> None:
    """A part of a larger tensor."""
    whole = random_weight((4, 9))
    prefix = _checkpoint(tmp_path, a=whole, v=_V)
    frozen = _freeze(_restoring(b"4 9 0,4:6,3"), prefix, "y")
    assert _values(frozen.graph)["w"].tobytes() == whole[:, 6:].tobytes()
    for broken in (b"4 9 0,4:7,3", b"4 9 x,y", b"4 9 0,4"):
        with pytest.raises(InputError, match="slice"):
            _freeze(_restoring(broken), prefix, "y")


def test_renames_and_averages(tmp_path: Path) -> None:
    """Exact names, prefixes, the last match; averages where there are any; no wish is ignored."""
    b = GraphBuilder()
    for name in ("net/w", "net/v"):
        b.variable(name, (2,))
    b.op("y", "Add", ["net/w", "net/v"])
    keys = ("net/w", "net/v", "old/w", "old/v", "other", "net/w/EMA")
    save(b.graph(), tmp_path / "g.pb")
    tensors = {key: np.full(2, index, np.float32) for index, key in enumerate(keys)}
    write_bundle(tmp_path / "model", tensors)

    def values(**options: Any) -> List[float]:
        made = _values(load(tmp_path / "g.pb", tmp_path / "model", ["y"], **options))
        return [float(made[name][0]) for name in ("net/w", "net/v")]

    assert values() == [0, 1]
    assert values(rename={"net/": "old/"}) == [2, 3]
    assert values(rename={"net/": "old/", "net/v": "other"}) == [2, 4]
    assert values(ema="EMA") == [5, 1]
    with pytest.raises(InputError, match="no variable that the outputs need is named 'nte/'"):
        values(rename={"nte/": "old/"})
    with pytest.raises(InputError, match=r"as 'none'.*--rename"):
        values(rename={"net/w": "none"})
    with pytest.raises(InputError, match="no variable has a moving average"):
        values(ema="Average")


def test_the_ops_that_read_handles(tmp_path: Path) -> None:
    """Gathers, shapes, checks; what passes a handle on; a shared name that is the key."""
    b = GraphBuilder()
    ids = b.placeholder("ids", [-1], dtypes.DT_INT64)
    _handle(b, "handle", (4, 3), "shared")
    types = {"dtype": ("type", dtypes.DT_FLOAT), "Tindices": ("type", dtypes.DT_INT64)}
    b.op("pass", "Identity", ["handle"], T=("type", dtypes.DT_RESOURCE))
    b.op("rows", "ResourceGather", ["pass", ids], **types)
    b.op("rows/axis", "NoOp", [])
    b.op("points", "ResourceGatherNd", ["handle", ids], **types)
    b.op("shape", "VariableShape", ["handle"], out_type=("type", dtypes.DT_INT64))
    b.op("there", "VarIsInitializedOp", ["handle"])
    b.op("all", "NoOp", ["^rows", "^points", "^shape", "^there", "^rows/axis"])
    frozen = _freeze(b, _checkpoint(tmp_path, shared=_W), "all")
    nodes = {node.name: node for node in frozen.graph.nodes}
    assert _values(frozen.graph)["handle"].tobytes() == _W.tobytes()
    expected = {"rows": "GatherV2", "points": "GatherNd", "shape": "Shape", "there": "Const"}
    assert {name: nodes[name].op for name in expected} == expected
    assert nodes["rows"].inputs == ("pass", "ids", "rows/axis_1")
    assert _values(frozen.graph)["rows/axis_1"] == 0
    assert _values(frozen.graph)["there"].item() is True
    attr = nodes["pass"].attr("T")
    assert attr is not None
    assert attr.type == dtypes.DT_FLOAT
    assert {site.weight for site in graphwq.locate(frozen.graph).sites} == {"handle"}


def test_an_op_that_needs_the_variable_itself(tmp_path: Path) -> None:
    """Named, with what to do."""
    b = GraphBuilder()
    _handle(b, "handle", (4, 3))
    b.op("y", "MapDataset", ["handle"])
    with pytest.raises(UnsupportedError, match="MapDataset 'y' needs a variable.*--outputs"):
        _freeze(b, _checkpoint(tmp_path, handle=_W), "y")


def test_functions_that_are_not_needed_go(tmp_path: Path) -> None:
    """Only functions that the kept nodes reach stay, as they are where no handle goes in."""
    b = _training()
    for name in ("used", "unused"):
        body = GraphBuilder()
        body.op("m", "Relu", ["a"])
        b.function(name, [("a", 1)], body, [("r", "m:activations:0", 1)])
    b.call("called", "used", ["y"])
    frozen = _freeze(b, _checkpoint(tmp_path), "called")
    assert [function.name for function in frozen.graph.functions] == ["used"]
    assert _freeze(b, _checkpoint(tmp_path), "y").graph.functions == ()


# ------------------------------------------------------------------------------- sources


def _meta(folder: Path, outputs: Any = None) -> Path:
    prefix = _checkpoint(folder)
    signatures = {"serving_default": {"y": "y:0"}, "__saved_model_train_op": {"t": "train"}}
    data = meta_graph(_training().to_bytes(), (), signatures if outputs is None else outputs)
    prefix.with_name("model.meta").write_bytes(data)
    return prefix


def test_the_ways_to_name_a_checkpoint(tmp_path: Path) -> None:
    """Prefix, each of its files, its folder: the same graph, all files known."""
    prefix = _meta(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model"\n')
    digest = load(prefix).digest
    names = ["model.meta", "model.index", "model.data-00000-of-00001", ""]
    assert {load(tmp_path / name).digest for name in names} == {digest}
    opened = open_source(prefix)
    assert {path.name for path in opened.files} == set(names[:3])
    assert opened.outputs == ("y",)
    prefix.with_name("model.meta").unlink()
    with pytest.raises(InputError, match="its graph model.meta is not beside it.*--checkpoint"):
        load(prefix)


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    """What has no effect is said, not ignored."""
    prefix = _meta(tmp_path)
    graph = tmp_path / "g.pb"
    save(load(prefix), graph)
    for options, said in (
        ({"outputs": ["y"]}, "--outputs is for a graph with a checkpoint"),
        ({"ema": "E"}, "--ema"),
        ({"tags": ["serve"]}, "--tags is for a SavedModel"),
        ({"checkpoint": prefix, "outputs": ["y"]}, "need no variable"),
        ({"checkpoint": tmp_path / "none"}, "no checkpoint"),
    ):
        with pytest.raises(InputError, match=said):
            load(graph, **options)
    with pytest.raises(InputError, match="--tags is for a SavedModel"):
        load(prefix, tags=["serve"])
    with pytest.raises(InputError, match="give one of them"):
        load(prefix, outputs=["y"], signature="serving_default")


def test_saved_models(tmp_path: Path) -> None:
    """Tags, signatures, the checkpoint inside, text; and one without its variables."""
    graph = _training().to_bytes()
    serve = meta_graph(graph, ("serve",), {"a": {"y": "y:0"}, "b": {"l": "loss:0"}})
    train = meta_graph(graph, ("train", "x"), {"a": {"out": "out:0"}})
    folder = tmp_path / "model"
    write_saved_model(folder, (serve, train), {"w": _W, "v": _V})
    assert open_source(folder).outputs == ("y", "loss")
    assert open_source(folder, Request(tags=("x", "train"))).outputs == ("out",)
    assert open_source(folder, Request(signature="b")).outputs == ("loss",)
    with pytest.raises(InputError, match="with the tags gpu: give --tags as one of serve; train,x"):
        load(folder, tags=["gpu"])
    with pytest.raises(InputError, match="with the tags train: give --tags"):
        load(folder, tags=["train"])  # all tags of a graph, not some
    with pytest.raises(InputError, match="no signature 'c': there are 'a', 'b'"):
        load(folder, signature="c")
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(InputError, match="2 variables .*'w'.*no checkpoint"):
        load(folder)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(InputError, match="is not a SavedModel"):
        load(folder)


def test_the_commands_take_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """inspect, plan and quantize --plan of a MetaGraph: the plan is for the frozen graph."""
    prefix, plan, out = _meta(tmp_path), tmp_path / "p.json", tmp_path / "o.pb"
    found = run(capsys, "inspect", prefix)
    assert found.status == 0
    assert "2 variables from" in found.err
    assert "2 weights" in found.out
    assert run(capsys, "plan", prefix, "-o", plan, "--keep-larger").status == 0
    assert run(capsys, "quantize", prefix, "--plan", plan, "-o", out).status == 0
    assert out.read_bytes() == graphwq.quantize(load(prefix), keep_larger=True).graph.to_bytes()
    found = run(
        capsys, "quantize", prefix, "--plan", plan, "-o", out, "--force", "--outputs", "loss"
    )
    assert found.status == 2
    assert "another graph" in found.err
    for number, arguments in enumerate(
        (
            ["quantize", prefix, "-o", tmp_path / "model.index", "--force"],
            ["quantize", prefix, "-o", tmp_path / "n.pb", "--outputs", "y_"],
            ["quantize", prefix, "-o", tmp_path / "n.pb", "--rename", "w"],
            ["quantize", prefix, "-o", tmp_path / "n.pb", "--rename", "w=nothing"],
            ["plan", tmp_path / "model.ckpt", "-o", tmp_path / "n.pb"],
        )
    ):
        found = run(capsys, *arguments)
        assert found.status == 2, number
        assert_one_line(found.err.splitlines()[-1] + "\n")
    assert not (tmp_path / "n.pb").exists()
    assert leftovers(tmp_path) == []
    assert load(prefix).digest


def test_a_graph_of_more_than_two_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Plans and quantizes; written is only what fits, the rest is refused and nothing is there."""
    b = GraphBuilder()
    b.placeholder("x", [-1, 300])
    b.variable("w", (300, 300))
    b.matmul("y", "x", "w")
    prefix = _checkpoint(tmp_path, w=random_weight((300, 300)))
    prefix.with_name("model.meta").write_bytes(meta_graph(b.to_bytes()))
    monkeypatch.setattr(source, "MAX_BYTES", 200_000)
    graph = load(prefix)
    assert graph.nbytes > 360_000
    assert graph.digest
    with pytest.raises(InputError, match="no GraphDef can be larger than 2 GiB"):
        save(graph, tmp_path / "float.pb")
    found = run(capsys, "quantize", prefix, "-o", tmp_path / "o.pb", "--storage", "bake")
    assert found.status == 2
    assert "was not written" in found.err
    assert not (tmp_path / "o.pb").exists()
    assert run(capsys, "quantize", prefix, "-o", tmp_path / "o.pb").status == 0
    assert load(tmp_path / "o.pb").nbytes < 100_000
