"""quant/scratch.py: memory that is used again, and what must not be seen of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from builders import random_weight

from graphwq.quant import scratch
from graphwq.quant.quantize import quantize_with_error
from graphwq.quant.scheme import PerChannel, PerGroup, PerTensor, QuantScheme

SCHEMES = [QuantScheme(8, PerTensor()), QuantScheme(4, PerChannel((1,)))]


def unaligned(weight: np.ndarray) -> np.ndarray:
    """The same values one byte off any alignment."""
    return (
        np.frombuffer(b"x" + weight.tobytes(), np.uint8)[1:]
        .view(weight.dtype)
        .reshape(weight.shape)
    )


def test_memory_is_used_again_where_it_suffices() -> None:
    """By purpose; a smaller array lies in the same memory, a larger one gets new."""
    first = scratch.take("test", (4, 8), np.float32)
    assert np.shares_memory(first, scratch.take("test", (3,), np.float64))
    assert not np.shares_memory(first, scratch.take("test2", (4, 8), np.float32))
    larger = scratch.take("test", (400, 8), np.float32)
    assert not np.shares_memory(first, larger)
    assert larger.shape == (400, 8)
    assert np.shares_memory(larger, scratch.take("test", (4, 8), np.float32))


def test_little_is_held_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the limit is given back."""
    monkeypatch.setattr(scratch, "LIMIT", 1000)
    first = scratch.take("test3", (1001,), np.uint8)
    assert not np.shares_memory(first, scratch.take("test3", (1001,), np.uint8))
    weight = unaligned(random_weight((16, 16)))
    assert scratch.aligned(weight) is weight


def test_only_what_is_unaligned_is_copied() -> None:
    """An aligned weight is read where it is, and one that no copy would help (not contiguous)."""
    weight = random_weight((16, 16))
    assert scratch.aligned(weight) is weight
    copy = scratch.aligned(unaligned(weight))
    assert copy.flags.aligned
    assert np.array_equal(copy, weight)
    crossed = unaligned(weight).T
    assert scratch.aligned(crossed) is crossed


def test_lasting_memory_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two arrays overlap, also where a slab is used up."""
    monkeypatch.setattr(scratch, "LIMIT", 100)
    arrays = [scratch.lasting((size, 2)) for size in (5, 6, 1, 12, 13, 0, 12, 12, 12, 200)]
    for number, array in enumerate(arrays):
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(arrays))


def test_each_thread_has_its_own() -> None:
    """Two threads at the same time never get the same memory."""
    barrier = threading.Barrier(2)

    def work(_: int) -> Any:
        barrier.wait()
        found = scratch.take("test4", (10,), np.uint8), scratch.lasting((10,))
        barrier.wait()
        return found

    with ThreadPoolExecutor(2) as pool:
        (one, codes), (two, others) = pool.map(work, range(2))
    assert not np.shares_memory(one, two)
    assert not np.shares_memory(codes, others)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("scheme", [*SCHEMES, QuantScheme(3, PerGroup((1,), 0, 8))], ids=repr)
def test_unaligned_weights(dtype: Any, scheme: QuantScheme) -> None:
    """A weight that begins at an odd byte of a file has the same codes, scales and error."""
    weight = random_weight((40, 30)).astype(dtype)
    twisted = unaligned(weight)
    assert not twisted.flags.aligned
    (one, error), (two, same) = (quantize_with_error(each, scheme) for each in (weight, twisted))
    assert np.array_equal(one.codes, two.codes)
    assert one.scale.tobytes() == two.scale.tobytes()
    assert error == same


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(30, 40), (1200,), (1, 1)])
def test_results_keep_their_values(dtype: Any, shape: Any) -> None:
    """What was handed out does not change when the next weight is quantized."""
    schemes = [QuantScheme(8), QuantScheme(4, PerChannel(tuple(range(len(shape)))))]
    for scheme in schemes:
        weight = random_weight(shape).astype(dtype)
        first, _ = quantize_with_error(weight, scheme)
        codes, scale = first.codes.copy(), first.scale.copy()
        quantize_with_error((weight * -3 + 1).astype(dtype), scheme)
        assert np.array_equal(first.codes, codes)
        assert np.array_equal(first.scale, scale)


def test_threads_do_not_disturb_each_other() -> None:
    """Many weights at once give what they give one after the other."""
    weights = [unaligned(random_weight((64, 32), seed)) for seed in range(40)]

    def work(weight: np.ndarray) -> Any:
        found, error = quantize_with_error(weight, SCHEMES[1])
        return found.codes, found.scale, error

    alone = list(map(work, weights))
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, weights))
    for (codes, scale, error), (others, scales, same) in zip(alone, together):
        assert np.array_equal(codes, others)
        assert np.array_equal(scale, scales)
        assert error == same
