"""GPTQ, flips, target correction and their union against scalar versions and brute force."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_methods import brute_force, gptq_by_inverse, quadratic

from graphwq.quant.flips import flip
from graphwq.quant.gptq import factor, gptq, gptq_masked
from graphwq.quant.part import Part, weighted_error
from graphwq.quant.rescale import least_squares_scales
from graphwq.quant.scale import project_scale
from graphwq.quant.scheme import max_code
from graphwq.quant.second_order import second_order, total_error
from graphwq.quant.target import corrected
from graphwq.quant.top import reach_top

_SEEDS = st.integers(0, 2**32 - 1)


def _problem(seed: int, rows: int, size: int, vectors: int = 50) -> Tuple[np.ndarray, np.ndarray]:
    """Rows and a Hessian of correlated inputs: [1, rows, size], [1, size, size]."""
    random = np.random.RandomState(seed)
    mixed = random.randn(vectors, size) @ (np.eye(size) + 0.7 * random.randn(size, size)) + 0.5
    return random.randn(1, rows, size), (mixed.T @ mixed)[None]


def _scale(rows: np.ndarray, bits: int, share: float = 0.8) -> np.ndarray:
    return np.abs(rows).max(2) / max_code(bits) * share


@given(seed=_SEEDS, size=st.integers(1, 12), bits=st.sampled_from([2, 3, 4, 8]))
def test_gptq_equals_its_paper(seed: int, size: int, bits: int) -> None:
    """The Cholesky form gives the codes of the elimination of the inverse, column by column."""
    rows, hessian = _problem(seed, 3, size)
    scale = _scale(rows, bits)
    codes = gptq(rows, scale, factor(hessian, 1e-9), bits).codes[0]
    index = np.arange(size)
    damped = hessian[0].copy()
    damped[index, index] += 1e-9 * np.diagonal(hessian[0]).mean()
    for row, step, own in zip(rows[0], scale[0], codes):
        assert list(own) == gptq_by_inverse(row, float(step), damped, max_code(bits))


def test_gptq_blocks_change_nothing() -> None:
    """150 columns, more than two blocks: the same as the elimination of the inverse."""
    rows, hessian = _problem(1, 2, 150, 600)
    scale = _scale(rows, 4)
    codes = gptq(rows, scale, factor(hessian, 1e-9), 4).codes[0]
    damped = hessian[0] + 1e-9 * np.diagonal(hessian[0]).mean() * np.eye(150)
    for row, step, own in zip(rows[0], scale[0], codes):
        assert list(own) == gptq_by_inverse(row, float(step), damped, 7)


@given(seed=_SEEDS)
def test_gptq_says_its_error(seed: int) -> None:
    """The error that is added up on the way is d H d^T."""
    rows, hessian = _problem(seed, 4, 9)
    scale = _scale(rows, 3)
    found = gptq(rows, scale, factor(hessian, 0.0), 3)
    for row, step, codes, error in zip(rows[0], scale[0], found.codes[0], found.error[0]):
        assert error == pytest.approx(quadratic(row - step * codes, hessian[0]), rel=1e-6, abs=1e-9)


def test_many_problems_at_once_are_many_problems() -> None:
    """A batch of problems gives what each of them gives alone."""
    parts = [_problem(seed, 2, 7) for seed in range(5)]
    rows = np.concatenate([rows for rows, _ in parts])
    hessian = np.concatenate([hessian for _, hessian in parts])
    scale = _scale(rows, 3)
    together = gptq(rows, scale, factor(hessian, 0.01), 3).codes
    for number, (own, weight) in enumerate(parts):
        part = slice(number, number + 1)
        assert np.array_equal(gptq(own, scale[part], factor(weight, 0.01), 3).codes, together[part])


@given(seed=_SEEDS, bits=st.sampled_from([2, 3, 4]))
def test_flips_are_never_worse_than_their_start(seed: int, bits: int) -> None:
    """From any start the error does not rise, and no single move is left that lowers it."""
    random = np.random.RandomState(seed)
    rows, hessian = _problem(seed, 3, 8, vectors=5)
    scale, top = _scale(rows, bits), max_code(bits)
    start = random.randint(-top, top + 1, rows.shape).astype(float)
    end = flip(start, rows, scale, hessian, bits)
    before, after = (weighted_error(codes, rows, scale, hessian) for codes in (start, end))
    assert (after <= before * (1 + 1e-9)).all()
    for line in range(3):
        for column in range(8):
            for move in (-1, 1):
                other = end[0, line].copy()
                pinned = abs(other[column]) == top and (np.abs(other) == top).sum() == 1
                other[column] += move
                if abs(other[column]) <= top and not pinned:
                    error = quadratic(rows[0, line] - scale[0, line] * other, hessian[0])
                    assert error >= after[0, line] * (1 - 1e-6) - 1e-9


def test_gptq_with_flips_is_near_the_best() -> None:
    """3 codes, 6 weights, all 729 choices: within 15 % of the least error on average."""
    ratio = []
    for seed in range(30):
        rows, hessian = _problem(seed, 1, 6)
        scale = _scale(rows, 2)
        codes = flip(gptq(rows, scale, factor(hessian, 1e-9), 2).codes, rows, scale, hessian, 2)
        best = brute_force(rows[0, 0], float(scale[0, 0]), hessian[0], 1)
        found = float(weighted_error(codes, rows, scale, hessian)[0, 0])
        assert found >= best * (1 - 1e-9)
        ratio.append(found / best)
    assert np.mean(ratio) < 1.15


def test_zeros_stay_zero_in_every_step() -> None:
    """Where nothing may move the code is 0: also where the corrected target is not."""
    rows, hessian = _problem(2, 5, 12)
    movable = np.random.RandomState(0).uniform(size=rows.shape) < 0.5
    scale = _scale(rows, 4)
    codes = gptq_masked(rows, movable, scale, factor(hessian, 0.01), 4).codes
    assert not codes[~movable].any()
    assert not flip(codes, rows, scale, hessian, 4, movable)[~movable].any()
    part = Part(rows, movable, hessian, np.arange(5)[None])
    (codes,), _ = second_order([part], 5, 4, 0.01)
    assert not codes[~movable].any()
    assert codes[movable].any()


def test_singular_hessians_and_dead_inputs() -> None:
    """Without any input rounding is to nearest; a Hessian of rank one is damped until it works."""
    rows, _ = _problem(4, 3, 10)
    scale = _scale(rows, 4, 1.0)
    codes = gptq(rows, scale, factor(np.zeros((1, 10, 10)), 0.0), 4).codes
    assert np.array_equal(codes, np.clip(np.rint(rows / scale[:, :, None]), -7, 7))
    one = np.ones((1, 10, 10))
    assert np.isfinite(gptq(rows, scale, factor(one, 0.0), 4).codes).all()
    part = Part(rows, rows != 0, one, np.arange(3)[None])
    (codes,), found = second_order([part], 3, 2, 0.0)
    assert np.isfinite(codes).all()
    assert np.isfinite(found).all()


def test_a_hessian_with_nan_is_refused() -> None:
    """NaN never becomes a code."""
    with pytest.raises(np.linalg.LinAlgError, match="NaN"):
        factor(np.full((1, 3, 3), np.nan), 0.01)


def test_an_indefinite_hessian_is_refused() -> None:
    """What is no sum of squares cannot be rounded under."""
    with pytest.raises(np.linalg.LinAlgError, match="semidefinite"):
        factor(np.diag([1.0, -1e9, 1.0])[None] + 1.0, 1e-12)


def test_the_target_is_the_least_squares_solution() -> None:
    """Without a ridge it is what numpy's lstsq finds; with an infinite one the weights."""
    random = np.random.RandomState(0)
    float_inputs, inputs = random.randn(200, 6), random.randn(200, 6)
    inputs += float_inputs
    weight = random.randn(4, 6)
    hessian, cross = (inputs.T @ inputs)[None], (float_inputs.T @ inputs)[None]
    expected = np.linalg.lstsq(inputs, float_inputs @ weight.T, rcond=None)[0].T
    assert np.allclose(corrected(weight[None], hessian, cross, 0.0)[0], expected)
    assert np.allclose(corrected(weight[None], hessian, cross, 1e12)[0], weight)
    same = corrected(weight[None], hessian, hessian, 0.003)[0]
    assert np.allclose(same, weight)


def test_least_squares_scales() -> None:
    """The scale of fixed codes is where the error is least, over all rows that share it."""
    rows, hessian = _problem(5, 4, 7)
    groups = np.array([[0, 0, 1, 1]])
    part = Part(rows, rows != 0, hessian, groups)
    codes = np.rint(rows * 3)
    scale = least_squares_scales([part], [codes], np.ones(2))
    best = total_error([part], [codes], scale)
    for factor_ in (0.99, 1.01):
        assert (total_error([part], [codes], scale * factor_) > best).all()
    assert (least_squares_scales([part], [codes * 0], np.full(2, 5.0)) == 5).all()


@given(seed=_SEEDS, bits=st.integers(2, 8))
def test_what_comes_out_is_what_mnn_reads(seed: int, bits: int) -> None:
    """Codes within -T..T, one of them +-T in each group, scales fixed points."""
    rows, hessian = _problem(seed, 4, 6)
    rows[0, 3] = 0
    groups = np.array([[0, 1, 1, 2]])
    part = Part(rows, rows != 0, hessian, groups)
    (codes,), scale = second_order([part], 3, bits, 0.001)
    top = max_code(bits)
    assert np.abs(codes).max() <= top
    assert np.array_equal(codes, np.rint(codes))
    assert np.array_equal(project_scale(scale, bits), scale)
    assert np.abs(codes[0, 0]).max() == top
    assert np.abs(codes[0, 1:3]).max() == top
    assert not codes[0, 3].any()
    assert scale[2] == 1


@pytest.mark.parametrize("seed", range(8))
def test_reaching_the_top_costs_as_little_as_can_be(seed: int) -> None:
    """Of all codes and both signs the one is taken that raises the error least."""
    rows, hessian = _problem(seed, 2, 5)
    part = Part(rows, rows != 0, hessian, np.array([[0, 0]]))
    scale = np.array([np.abs(rows).max() / 3.0])
    codes = np.clip(np.rint(rows / scale), -2, 2)
    (found,) = reach_top([part], [codes], scale, 3)
    changed = np.argwhere(found != codes)
    assert len(changed) == 1
    best = np.inf
    for line in range(2):
        for column in range(5):
            for target in (-3, 3):
                other = codes.copy()
                other[0, line, column] = target
                best = min(best, float(total_error([part], [other], scale)[0]))
    assert float(total_error([part], [found], scale)[0]) == pytest.approx(best)
    assert reach_top([part], [found], scale, 3)[0] is found


def test_second_order_beats_rounding() -> None:
    """Under its own objective it is far below rounding to nearest with the absmax scale."""
    for bits, least in ((2, 4.0), (3, 2.5), (4, 2.5), (8, 2.0)):
        rows, hessian = _problem(11, 16, 24, 100)
        part = Part(rows, rows != 0, hessian, np.arange(16)[None])
        (codes,), scale = second_order([part], 16, bits, 0.001)
        absmax = np.abs(rows[0]).max(1) / max_code(bits)
        plain = np.rint(rows / absmax[None, :, None])
        gains: List[float] = [
            float(total_error([part], [own], step.astype(float)).sum())
            for own, step in ((plain, absmax), (codes, scale))
        ]
        assert gains[0] > least * gains[1], bits
