"""The trained networks of fixtures/ keep their accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

import graphwq
from graphwq.graphdef.graph import Graph
from graphwq.tf1.session import Runner

pytestmark = pytest.mark.tf

_NETWORKS = ("digits_cnn", "digits_mlp", "digits_lstm", "digits_embedding")


def _entry(fixtures: Path, name: str) -> Dict[str, Any]:
    manifest: Dict[str, Any] = json.loads((fixtures / "manifest.json").read_text())
    entry: Dict[str, Any] = manifest["files"][f"{name}.pb"]
    return entry


def _accuracy(graph: Graph, fixtures: Path, entry: Dict[str, Any]) -> float:
    with np.load(fixtures / entry["test"], allow_pickle=False) as data:
        feeds = {key: data[key] for key in entry["inputs"]}
        labels = data["labels"]
    with Runner(graph) as runner:
        scores = runner.run(["softmax:0"], feeds)["softmax:0"]
    assert scores.shape == (len(labels), 10)
    assert np.isfinite(scores).all()
    return float((scores.argmax(1) == labels).mean())


@pytest.mark.parametrize("name", _NETWORKS)
def test_the_float_networks_are_as_good_as_the_manifest_says(name: str, fixtures: Path) -> None:
    """The accuracy in the manifest is that of the file (another processor may round a digit)."""
    entry = _entry(fixtures, name)
    graph = graphwq.load(fixtures / f"{name}.pb")
    found = _accuracy(graph, fixtures, entry)
    assert found == pytest.approx(entry["accuracy"], abs=0.005)
    assert found > 0.95


@pytest.mark.parametrize("storage", ["dequant", "bake", "fake_quant"])
@pytest.mark.parametrize("name", _NETWORKS)
def test_eight_bits_cost_less_than_a_point(name: str, storage: str, fixtures: Path) -> None:
    """At 8 bits the accuracy is within one point of the float network, in every storage form."""
    entry = _entry(fixtures, name)
    result = graphwq.quantize(fixtures / f"{name}.pb", 8, storage)
    assert result.weights
    assert abs(_accuracy(result.graph, fixtures, entry) - entry["accuracy"]) <= 0.01


@pytest.mark.parametrize("name", _NETWORKS)
def test_six_bits_cost_less_than_two_points(name: str, fixtures: Path) -> None:
    """Down to 6 bits the loss stays under two points, without data and without training."""
    entry = _entry(fixtures, name)
    result = graphwq.quantize(fixtures / f"{name}.pb", 6)
    assert _accuracy(result.graph, fixtures, entry) >= entry["accuracy"] - 0.02


def test_fewer_bits_make_smaller_files(fixtures: Path) -> None:
    """The point of it all: 8 bits make the networks about a quarter, 4 bits about an eighth."""
    for name, eight, four in (("digits_mlp", 0.28, 0.17), ("digits_cnn", 0.32, 0.24)):
        before = (fixtures / f"{name}.pb").stat().st_size
        for bits, limit in ((8, eight), (4, four)):
            after = len(graphwq.quantize(fixtures / f"{name}.pb", bits).graph.to_bytes())
            assert after <= limit * before, (name, bits, after / before)
