"""Where few bytes of an input could stand for much work: the bounds themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.graphdef import jsontext, spelling
from graphwq.rewrite import readback
from graphwq.survey.locate import locate
from graphwq.survey.view import build


@pytest.mark.parametrize("digits", [1, 400])
def test_a_number_of_json(digits: int) -> None:
    """Whole numbers of any use are read."""
    assert jsontext.loads("9" * digits) == 10**digits - 1


_LONG = "9" * 401


@pytest.mark.parametrize("text", [_LONG, f"[-{_LONG}]", "NaN", "-Infinity", "[" * 10**6])
def test_what_is_no_json(text: str) -> None:
    """Reading a number takes time that grows with the square of its length."""
    with pytest.raises(ValueError, match=r"digits|no number in JSON|nested"):
        jsontext.loads(text)


def test_near_names() -> None:
    """The nearest name, where names are short and not too many."""
    assert spelling.close("conv1", ["conv2", "dense", "n" * 10**6], 1) == ["conv2"]
    assert spelling.close("n" * 201, ["n" * 200], 1) == []
    assert spelling.close("n" * 200, ["n" * 199, "n" * 201], 2) == ["n" * 199]
    assert spelling.close("conv1", [f"conv{number}" for number in range(20_001)], 1) == []


def _weight(value: Any, shape: Any) -> GraphBuilder:
    b = GraphBuilder()
    b.matmul("y", b.placeholder("x", [1, shape[0]]), b.const("w", value))
    return b


def test_a_repeated_value_is_not_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight of which the file holds a fraction is never unfolded to look for a grid."""
    looked = []
    monkeypatch.setattr(readback, "baked", lambda *_: looked.append(1))
    graph = _weight(random_weight((4, 4)), (4, 4)).graph()
    view = build(graph)
    (site,) = locate(graph).sites
    readback.read_back(view, view, site, None)
    assert looked
    looked.clear()
    monkeypatch.setattr(readback, "_FEW_ELEMENTS", 8)
    monkeypatch.setattr(readback, "_EXPANSION", 0)
    assert readback.read_back(view, view, site, None) is None
    assert not looked
    assert np.prod(site.shape) == 16
