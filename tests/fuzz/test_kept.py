"""The seeds, their seeded mutations and the kept inputs through every target of the fuzzer."""

from __future__ import annotations

import pytest

from fuzz.kept import kept
from fuzz.mutate import once
from fuzz.targets import TARGETS, outcome


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target(name: str) -> None:
    """A result or a GraphWQError with a message; anything else is a bug."""
    target = TARGETS[name]
    inputs = list(target.seeds().values())
    for number, data in enumerate(inputs * 2):
        outcome(target, data)
        outcome(target, once(target.mutate, data, number))
    for data in kept()[name]:
        outcome(target, data)
