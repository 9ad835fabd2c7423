"""The real checkpoints of the corpus: read and frozen as TensorFlow reads and froze them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from conftest import corpus_folder

from graphwq import api
from graphwq.graphdef.checkpoint import open_checkpoint
from graphwq.graphdef.opening import Request, open_source
from graphwq.graphdef.source import load, read_graph
from graphwq.graphdef.variable import VARIABLE_OPS

pytestmark = pytest.mark.corpus


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every checkpoint of the corpus."""
    if "stored" not in metafunc.fixturenames:
        return
    manifest = corpus_folder(metafunc.config) / "checkpoints" / "manifest.json"
    if not manifest.is_file():
        reason = f"no checkpoints at {manifest.parent}: give --corpus or GRAPHWQ_CORPUS"
        metafunc.parametrize("stored", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
        return
    entries: List[Dict[str, Any]] = json.loads(manifest.read_text())
    metafunc.parametrize("stored", entries, ids=[entry["frozen"][:80] for entry in entries])


def _prefix(corpus: Path, stored: Dict[str, Any]) -> Path:
    return corpus / "checkpoints" / stored["folder"] / str(stored["prefix"])


def _frozen_twin(corpus: Path, stored: Dict[str, Any]) -> Path:
    path = corpus / str(stored["frozen"])
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the corpus")
    return path


@pytest.mark.tf
def test_every_tensor_is_what_tensorflow_reads(corpus: Path, stored: Dict[str, Any]) -> None:
    """Names, shapes and every byte, by tf.train.load_checkpoint."""
    from graphwq.tf1.session import tensorflow

    prefix = _prefix(corpus, stored)
    reader = tensorflow().train.load_checkpoint(str(prefix))
    checkpoint = open_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    assert set(checkpoint.tensors) == set(shapes)
    assert len(shapes) == stored["variables"]
    for name, tensor in checkpoint.tensors.items():
        assert list(tensor.shape) == shapes[name]
        assert bytes(tensor.content()) == reader.get_tensor(name).tobytes(), name


def test_frozen_as_tensorflow_froze_it(corpus: Path, stored: Dict[str, Any]) -> None:
    """The same nodes in the same order, the same inputs, the same constants bit for bit."""
    twin = read_graph(_frozen_twin(corpus, stored))
    made = load(_prefix(corpus, stored), outputs=stored["outputs"])
    assert [node.name for node in made.nodes] == [node.name for node in twin.nodes]
    constants = 0
    for ours, theirs in zip(made.nodes, twin.nodes):
        assert (ours.op, ours.inputs) == (theirs.op, theirs.inputs), ours.name
        tensor, other = ours.tensor(), theirs.tensor()
        if ours.op != "Const":
            continue
        assert tensor is not None
        assert other is not None
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape)
        constants += 1
        assert tensor.numpy().tobytes() == other.numpy().tobytes(), ours.name
    assert constants


def test_the_guessed_outputs_hold_the_network(corpus: Path, stored: Dict[str, Any]) -> None:
    """Without --outputs: no variable is left, and every weight of the network is there."""
    prefix = _prefix(corpus, stored)
    opened = open_source(prefix)
    wanted = open_source(prefix, Request(outputs=tuple(stored["outputs"])))
    assert not [node.name for node in opened.graph.nodes if node.op in VARIABLE_OPS]
    assert set(wanted.variables) <= set(opened.variables)
    assert len(opened.graph.nodes) < stored["meta_nodes"]
    made = {node.name for node in opened.graph.nodes}
    assert not [name for name in made if "/Adam" in name or "/Momentum" in name]


@pytest.mark.tf
def test_the_frozen_graph_runs_to_the_same_outputs(corpus: Path, stored: Dict[str, Any]) -> None:
    """With the feed of the frozen twin: the same outputs, bit for bit; quantized it runs too."""
    from graphwq.tf1.session import Runner

    twin = _frozen_twin(corpus, stored)
    manifest = json.loads((corpus / "manifest.json").read_text())
    described = next(item for item in manifest if item["file"] == stored["frozen"])
    if not described["run_ok"]:
        pytest.skip(f"{twin.name} does not run in TensorFlow 1.15 (says the manifest)")
    if "feed_file" in described:
        feeds = dict(np.load(corpus / described["feed_file"]))
    else:  # too large to be kept
        random = np.random.RandomState(0)
        feeds = {
            name: random.rand(*shape).astype(dtype)
            for name, (dtype, shape) in described["feed"].items()
        }
    made = load(_prefix(corpus, stored), outputs=described["outputs"])
    with Runner(read_graph(twin)) as runner:
        expected = runner.run(described["outputs"], feeds)
    with Runner(made) as runner:
        found = runner.run(described["outputs"], feeds)
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name
    small = api.quantize(made).graph
    with Runner(small) as runner:
        for name, value in runner.run(described["outputs"], feeds).items():
            assert value.shape == expected[name].shape
            assert np.isfinite(value).all() or not np.isfinite(expected[name]).all()
