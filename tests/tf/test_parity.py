"""With its epsilon the training equals mnncompress 0.3.2, bit for bit, after 200 steps."""

from __future__ import annotations

import json
from typing import Any, Dict

import numpy as np
import pytest
from conftest import GOLDEN

from graphwq import WeightQuantizer

from .parity import CASES, FLOAT, fingerprint, train

pytestmark = [pytest.mark.tf, pytest.mark.tf1]

_EPSILON = 1e-9


@pytest.fixture(scope="module")
def recorded() -> Dict[str, Any]:
    """What mnncompress trained; skipped on a processor that sums in another order."""
    hashes = json.loads((GOLDEN / "training" / "mnncompress.json").read_text())["sha256"]
    if fingerprint(train(None, FLOAT)) != hashes[FLOAT]:
        pytest.skip("plain float training differs from the recording already: another processor")
    return hashes


@pytest.mark.parametrize("case", CASES)
def test_weights_equal_those_of_mnncompress(case: str, recorded: Dict[str, Any]) -> None:
    """Same seeds, same data, epsilon 1e-9: the same weights after 200 steps, every bit of them."""
    trained = train(lambda bits: WeightQuantizer(bits=bits, epsilon=_EPSILON), case)
    with np.load(GOLDEN / "training" / "mnncompress.npz") as expected:
        for name, value in trained.items():
            np.testing.assert_array_equal(value, expected[f"{case}/{name}"], name)
    assert fingerprint(trained) == recorded[case]


def test_the_comparison_can_fail(recorded: Dict[str, Any]) -> None:
    """Without the epsilon 8 bits end elsewhere, and so does float training.

    (At 4 bits the scales here are so large that adding 1e-9 to them changes no bit.)
    """
    case = "8_bits_sgd"
    assert fingerprint(train(lambda bits: WeightQuantizer(bits=bits), case)) != recorded[case]
    assert len(set(recorded.values())) == len(CASES) + 1


def test_pruned_weights_stay_zero(recorded: Dict[str, Any]) -> None:
    """The recorded run with half of the weights pruned kept them so, and so do we."""
    del recorded
    trained = train(lambda bits: WeightQuantizer(bits=bits), "4_bits_pruned")
    with np.load(GOLDEN / "training" / "mnncompress.npz") as expected:
        for name, value in trained.items():
            zeros = expected[f"4_bits_pruned/{name}"] == 0
            assert 0.2 < zeros.mean() < 0.8
            np.testing.assert_array_equal(value == 0, zeros)
