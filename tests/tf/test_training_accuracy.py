"""Finetuning is worth it: 2 bits within a point of float, where rounding alone collapses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.tf, pytest.mark.tf1, pytest.mark.slow]


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """examples/train_mnist.py as a module."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples"), *sys.path])
    return pytest.importorskip("train_mnist", reason="examples/train_mnist.py needs scikit-learn")


def test_two_bits_after_finetuning(example: Any, tmp_path: Path) -> None:
    """The example, shortened: 3 epochs of float, 3 of finetuning, 8 channels."""
    data = example.load(None)
    epochs = 3 if len(data.train[0]) > 5000 else 15
    stages = example.run(data, example.Options(epochs, epochs, 8), tmp_path, (2,))
    accuracy = {name: part for name, (part, _) in stages.items()}
    assert accuracy["float"] > 0.95
    assert accuracy["2 bits, without training"] < accuracy["float"] - 0.05
    assert accuracy["2 bits, finetuned, baked"] > accuracy["float"] - 0.01
    assert accuracy["2 bits, finetuned, integers"] == accuracy["2 bits, finetuned, baked"]
    if "2 bits, finetuned, MNN" in accuracy:
        assert accuracy["2 bits, finetuned, MNN"] > accuracy["float"] - 0.01
    sizes = {name: path.stat().st_size for name, (_, path) in stages.items()}
    assert sizes["2 bits, finetuned, integers"] < sizes["float"] / 6


def test_digits_where_there_is_no_mnist(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users without the file train on scikit-learn's digits."""
    monkeypatch.setattr(example, "MNIST", Path("/nowhere"))
    data = example.load(None)
    assert data.name == "digits"
    assert data.train[0].shape[1:] == (8, 8, 1)
    assert len(data.train[0]) + len(data.test[0]) == 1797
    assert 0 <= data.train[0].min() <= data.train[0].max() <= 1
