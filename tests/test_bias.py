"""survey/bias.py: the constants that can take a mean error, and those that cannot."""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.graphdef.protos import AttrValue
from graphwq.survey.bias import BiasPlace, bias_of
from graphwq.survey.locate import locate_in
from graphwq.survey.view import build

OUT = 6


def _vector(b: GraphBuilder, name: str = "c", shape: Any = (OUT,), dtype: Any = np.float32) -> str:
    return b.const(name, random_weight(shape, 5, dtype))


def _layer(b: GraphBuilder) -> str:
    x = b.placeholder("x", [2, 5, 5, 3])
    return b.conv("y", x, b.const("w", random_weight((3, 3, 3, OUT))))


def _norm(b: GraphBuilder, x: str, training: Optional[bool] = False, op: str = "") -> str:
    epsilon = AttrValue()
    epsilon.f = 1e-3
    constants = [b.const(f"n/{name}", np.ones(OUT, np.float32)) for name in ("g", "b", "m", "v")]
    attrs = {} if training is None else {"is_training": training}
    name = op or "FusedBatchNormV3"
    return b.op("n", name, [x, *constants], epsilon=epsilon, T=("type", 1), **attrs)


def _place(make: Callable[[GraphBuilder], Any]) -> Optional[BiasPlace]:
    b = GraphBuilder()
    make(b)
    view = build(b.graph())
    (site,) = [site for site in locate_in(view).sites if site.node == "w"]
    return bias_of(view.main, site)


def _read(b: GraphBuilder) -> None:
    b.op("z", "BiasAdd", [_layer(b), b.op("c/read", "Identity", [_vector(b)])])


def _scaled(b: GraphBuilder) -> None:
    b.op("z", "Add", [b.op("scaled", "Mul", [_layer(b), _vector(b, "k")]), _vector(b)])


def _first_channel(b: GraphBuilder) -> None:
    b.op("z", "BiasAdd", [_layer(b), _vector(b)], data_format="NCHW")


@pytest.mark.parametrize(
    ("make", "constant", "tensor", "sign", "channel"),
    [
        (lambda b: b.op("z", "BiasAdd", [_layer(b), _vector(b)]), "c", "y:0", -1, -1),
        (lambda b: b.op("z", "Add", [_layer(b), _vector(b)]), "c", "y:0", -1, None),
        (lambda b: b.op("z", "AddV2", [_vector(b), _layer(b)]), "c", "y:0", -1, None),
        (lambda b: b.op("z", "Sub", [_layer(b), _vector(b)]), "c", "y:0", 1, None),
        (lambda b: _norm(b, _layer(b)), "n/m", "y:0", 1, -1),
        (_read, "c", "y:0", -1, -1),
        (_scaled, "c", "scaled:0", -1, None),
        (_first_channel, "c", "y:0", -1, 1),
    ],
)
def test_where_a_mean_error_can_go(
    make: Callable[[GraphBuilder], Any],
    constant: str,
    tensor: str,
    sign: int,
    channel: Optional[int],
) -> None:
    """Biases and moving means of each kind, with the sign of the change."""
    place = _place(make)
    assert place is not None
    assert (place.constant, place.tensor) == (constant, tensor)
    assert (place.sign, place.channel) == (sign, channel)
    assert place.shape == (OUT,)


def _two_ops(b: GraphBuilder) -> None:
    y, c = _layer(b), _vector(b)
    b.op("z", "BiasAdd", [y, c])
    b.op("other", "Neg", [c])


def _used_before(b: GraphBuilder) -> None:
    y = _layer(b)
    b.op("z", "BiasAdd", [y, _vector(b)])
    b.op("other", "Neg", [y])


def _shared_read(b: GraphBuilder) -> None:
    y, read = _layer(b), b.op("c/read", "Identity", [_vector(b)])
    b.op("z", "BiasAdd", [y, read])
    b.op("other", "Neg", [read])


def _shared_weight(b: GraphBuilder) -> None:
    y = _layer(b)
    b.op("z", "BiasAdd", [y, _vector(b)])
    b.conv("again", b.placeholder("x2", [2, 5, 5, 3]), "w")


def _computed(b: GraphBuilder) -> None:
    b.op("z", "BiasAdd", [_layer(b), b.op("half", "Neg", [_vector(b)])])


def _after_relu(b: GraphBuilder) -> None:
    b.op("z", "BiasAdd", [b.op("r", "Relu", [_layer(b)]), _vector(b)])


def _taken_from(b: GraphBuilder) -> None:
    b.op("z", "Sub", [_vector(b), _layer(b)])


def _scaled_by_input(b: GraphBuilder) -> None:
    gate = b.placeholder("gate", [OUT])
    b.op("z", "Add", [b.op("scaled", "Mul", [_layer(b), gate]), _vector(b)])


@pytest.mark.parametrize(
    "make",
    [
        _layer,
        _two_ops,
        _used_before,
        _shared_read,
        _shared_weight,
        _computed,
        _after_relu,
        _taken_from,
        _scaled_by_input,
        lambda b: b.op("z", "BiasAdd", [_layer(b), b.placeholder("c", [OUT])]),
        lambda b: b.op("z", "BiasAdd", [_layer(b), _vector(b, dtype=np.float16)]),
        lambda b: _norm(b, _layer(b), training=True),
        lambda b: _norm(b, _layer(b), training=None),
    ],
)
def test_where_it_cannot(make: Callable[[GraphBuilder], Any]) -> None:
    """No bias, one that others see, a sum that is not taken, norms of the batch, half floats."""
    assert _place(make) is None


def test_the_mean_is_taken_over_what_shares_a_value() -> None:
    """Channels last, channels first, broadcast shapes; None where the constant does not fit."""
    errors = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)

    def mean(shape: Any, channel: Optional[int]) -> Any:
        place = BiasPlace("c", shape, 1, "y:0", "z", -1, channel)
        found = place.mean(errors)
        return None if found is None else found.tolist()

    assert mean((4,), -1) == errors.mean((0, 1)).tolist()
    assert mean((3,), 1) == errors.mean((0, 2)).tolist()
    assert mean((4,), None) == errors.mean((0, 1)).tolist()
    assert mean((3, 1), None) == errors.mean((0, 2)).reshape(3, 1).tolist()
    assert mean((1, 1, 4), None) == errors.mean((0, 1)).reshape(1, 1, 4).tolist()
    assert mean((3, 4), None) == errors.mean(0).tolist()
    assert mean((), None) == errors.mean()
    for shape, channel in (((5,), -1), ((2,), None), ((1, 2, 3, 4), None), ((3, 4), -1)):
        assert mean(shape, channel) is None
