"""Methods by name: what all of them promise, and the way from the command line to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest
from commandline import assert_one_line, run
from hypothesis import given, settings
from hypothesis import strategies as st

import graphwq
from graphwq.errors import InputError, QuantizationError
from graphwq.quant.method import quantize_by_method
from graphwq.quant.quantize import quantize_with_error
from graphwq.quant.scale import project_scale
from graphwq.quant.scheme import (
    DATA_FREE,
    PerChannel,
    PerGroup,
    PerTensor,
    QuantizedTensor,
    QuantScheme,
    max_code,
)
from graphwq.rewrite.recover import recover_surveyed
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build
from graphwq.verify.weights import check_weights

_CASES = [
    ((3, 3, 8, 6), PerChannel((3,))),
    ((3, 3, 8, 2), PerChannel((2, 3))),
    ((3, 3, 6, 8), PerChannel((2,))),
    ((40, 12), PerChannel((1,))),
    ((40, 12), PerTensor()),
    ((3, 3, 8, 6), PerTensor()),
    ((2, 2, 20, 6), PerGroup((3,), 2, 8)),
    ((7,), PerTensor()),
]


def _weight(seed: int, shape: Tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    random = np.random.RandomState(seed)
    values = random.standard_t(3, shape)
    values[random.uniform(size=shape) < 0.2] = 0.0
    return values.astype(dtype)


def _largest_codes(quantized: QuantizedTensor, absmax: QuantizedTensor) -> np.ndarray:
    """The largest code of each group that has a value at all, found through the absmax codes."""
    scale = quantized.scale_for(0, len(quantized.codes))
    group = np.broadcast_to(
        QuantizedTensor(
            quantized.codes,
            np.arange(quantized.scale.size).reshape(quantized.scale.shape).astype(np.float32),
            quantized.scheme,
        ).scale_for(0, len(quantized.codes)),
        quantized.codes.shape,
    ).astype(int)
    assert scale.size
    largest = np.zeros(quantized.scale.size, int)
    np.maximum.at(largest, group.reshape(-1), np.abs(quantized.codes.astype(int)).reshape(-1))
    there = np.zeros(quantized.scale.size, int)
    np.maximum.at(there, group.reshape(-1), np.abs(absmax.codes.astype(int)).reshape(-1))
    return largest[there > 0]


@pytest.mark.parametrize("method", DATA_FREE)
@pytest.mark.parametrize(("shape", "granularity"), _CASES)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(2, 8))
def test_what_every_method_promises(
    method: str, shape: Tuple[int, ...], granularity: Any, seed: int, bits: int
) -> None:
    """Codes in -T..T with +-T in every group, scales that MNN derives again, zeros stay zeros."""
    weight = _weight(seed, shape)
    quantized, error = quantize_by_method(weight, QuantScheme(bits, granularity, method=method))
    absmax, plain = quantize_with_error(weight, QuantScheme(bits, granularity))
    assert quantized.codes.shape == weight.shape
    assert quantized.codes.dtype == np.int8
    assert quantized.scale.shape == absmax.scale.shape
    assert np.abs(quantized.codes.astype(int)).max() <= max_code(bits)
    assert (_largest_codes(quantized, absmax) == max_code(bits)).all()
    assert np.array_equal(project_scale(quantized.scale, bits), quantized.scale)
    assert not quantized.codes[weight == 0].any()
    assert quantized.scheme.method == method
    missing = weight.astype(np.float64) - quantized.dequantize()
    assert error.sum_squared_errors == pytest.approx(np.square(missing).sum(), rel=1e-5)
    if method == "mse":
        assert error.sum_squared_errors <= plain.sum_squared_errors * (1 + 1e-5) + 1e-30


@pytest.mark.parametrize("method", DATA_FREE)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_half_and_double_weights(method: str, dtype: Any) -> None:
    """They are quantized like the same values in float32."""
    weight = _weight(1, (3, 3, 4, 5), np.float16)
    scheme = QuantScheme(4, PerChannel((3,)), method=method)
    expected = quantize_by_method(weight.astype(np.float32), scheme)[0]
    quantized = quantize_by_method(weight.astype(dtype), scheme)[0]
    assert np.array_equal(quantized.codes, expected.codes)
    assert np.array_equal(quantized.scale, expected.scale)


@pytest.mark.parametrize("method", DATA_FREE)
def test_groups_of_zeros_and_of_tiny_values(method: str) -> None:
    """Scale 1 and code 0, and nothing that is not finite."""
    weight = _weight(2, (6, 3))
    weight[:, 0], weight[:, 1] = 0, 1e-44
    scheme = QuantScheme(4, PerChannel((1,)), method=method)
    quantized = quantize_by_method(weight, scheme)[0]
    assert (quantized.scale[0, :2] == 1).all()
    assert not quantized.codes[:, :2].any()
    assert np.isfinite(quantized.scale).all()


@pytest.mark.parametrize("method", DATA_FREE)
def test_nan_is_refused(method: str) -> None:
    """NaN in a weight is an error under every method."""
    weight = _weight(3, (4, 4))
    weight[1, 2] = np.nan
    with pytest.raises(QuantizationError, match="NaN"):
        quantize_by_method(weight, QuantScheme(4, PerChannel((1,)), method=method))


def test_gptq_needs_a_calibration() -> None:
    """A method that has to see inputs says so instead of guessing."""
    with pytest.raises(QuantizationError, match="needs a calibration"):
        quantize_by_method(_weight(1, (4, 4)), QuantScheme(4, method="gptq"))


def test_unknown_methods_are_refused(fixtures: Path) -> None:
    """The methods that exist are named."""
    with pytest.raises(InputError, match="no method 'magic': use absmax, mse, squant"):
        graphwq.plan(fixtures / "digits_cnn.pb", method="magic")


@pytest.mark.parametrize("method", ["mse", "squant"])
def test_from_the_command_line_to_the_file(
    method: str, tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture
) -> None:
    """--method stands in the plan; the plan gives the same bytes; verification accepts it."""
    source = fixtures / "digits_cnn.pb"
    options = ("--bits", 3, "--method", method)
    one, two, plan = tmp_path / "one.pb", tmp_path / "two.pb", tmp_path / "plan.json"
    assert run(capsys, "quantize", source, "-o", one, *options).status == 0
    assert run(capsys, "plan", source, "-o", plan, *options).status == 0
    assert run(capsys, "quantize", source, "-o", two, "--plan", plan).status == 0
    assert one.read_bytes() == two.read_bytes()
    made = graphwq.Plan.loads(plan.read_text())
    assert {item.scheme.method for item in made.items} == {method}
    assert graphwq.Plan.loads(made.dumps()) == made
    reference, candidate = graphwq.load(source), graphwq.load(one)
    view = build(reference)
    survey = locate_in(view)
    recovered = recover_surveyed(reference, view, survey, build(candidate), made)
    assert not recovered.missing
    assert check_weights(view, survey.sites, build(candidate), recovered).passed
    plain = graphwq.quantize(reference, bits=3)
    assert candidate.to_bytes() != plain.graph.to_bytes()


def test_an_unknown_method_on_the_command_line(
    tmp_path: Path, fixtures: Path, capsys: pytest.CaptureFixture
) -> None:
    """One line on stderr, status 2."""
    outcome = run(
        capsys, "quantize", fixtures / "digits_cnn.pb", "-o", tmp_path / "x.pb", "--method", "best"
    )
    assert outcome.status == 2
    assert_one_line(outcome.err, "--method", "best")
