"""Made-up pictures: what photographs have and noise has not."""

from __future__ import annotations

import numpy as np
import pytest

from graphwq.calibrate.scenes import scene


def _scene(seed: int = 0, size: int = 128, channels: int = 3) -> np.ndarray:
    return scene(size, size, channels, np.random.RandomState(seed))


def test_values_and_shape() -> None:
    """0..1, of the asked size, using most of the range."""
    for height, width, channels in ((16, 16, 1), (40, 90, 3), (64, 33, 4)):
        picture = scene(height, width, channels, np.random.RandomState(1))
        assert picture.shape == (height, width, channels)
        assert 0 <= picture.min() < 0.35
        assert 0.6 < picture.max() <= 1


def test_the_same_numbers_give_the_same_picture() -> None:
    """And others another."""
    assert np.array_equal(_scene(3), _scene(3))
    assert not np.array_equal(_scene(3), _scene(4))


@pytest.mark.parametrize("seed", range(3))
def test_edges_are_sparse(seed: int) -> None:
    """Differences of neighbours have heavy tails: kurtosis 8 to 40 in photographs, 2.4 in noise."""
    steps = np.diff(_scene(seed), axis=1).reshape(-1)
    noise = np.diff(np.random.RandomState(seed).random_sample((128, 128, 3)), axis=1).reshape(-1)

    def kurtosis(values: np.ndarray) -> float:
        spread = values - values.mean()
        return float((spread**4).mean() / (spread**2).mean() ** 2)

    assert kurtosis(noise) < 3 < 7 < kurtosis(steps)


def test_the_spectrum_falls_as_in_photographs() -> None:
    """Power falls as 1/f^2 to 1/f^3.2 between 4 and 32 cycles in photographs of 128 x 128."""
    power = sum(
        np.abs(np.fft.fft2(_scene(seed)[:, :, 0] - _scene(seed)[:, :, 0].mean())) ** 2
        for seed in range(8)
    )
    frequency = np.fft.fftfreq(128) * 128
    radius = np.hypot(frequency[:, None], frequency[None])
    rings = [power[(radius >= low) & (radius < 2 * low)].mean() for low in (4, 8, 16)]
    slope = np.polyfit(np.log2([4, 8, 16]), np.log2(rings), 1)[0]
    assert -3.5 < slope < -2.0


def test_colours_vary_together() -> None:
    """As under one light: correlations of channels are 0.3 to 0.95 in photographs."""
    rows = np.concatenate([_scene(seed).reshape(-1, 3) for seed in range(4)])
    together = np.corrcoef(rows.T)
    assert together[np.triu_indices(3, 1)].min() > 0.5
