"""The converter's naming rules: one graph per rule, converted by the real converter."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import numpy as np
import pytest
from builders import GraphBuilder, random_weight

from graphwq.mnn.layout import CONVOLUTIONS

from .layers import (
    OUT,
    Build,
    bias,
    conv,
    converted,
    depthwise,
    graph_of,
    lint_of,
    matmul,
    names_of,
    norm,
    relu,
    transposed,
)


def _conv_bias_add(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [conv(b), bias(b)]))


def _conv_add_wide(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Add", [conv(b), bias(b, shape=(1, 1, 1, OUT))]))


def _conv_add_swapped(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Add", [bias(b), conv(b)]))


def _conv_add_one_value(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Add", [conv(b), bias(b, shape=(1,))]))


def _conv_two_adds(b: GraphBuilder) -> None:
    first = b.op("first", "Add", [conv(b), bias(b)])
    relu(b, b.op("second", "AddV2", [first, bias(b, "bias2")]))


def _conv_sub(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Sub", [conv(b), bias(b)]))


def _conv_two_users(b: GraphBuilder) -> None:
    c = conv(b)
    relu(b, b.op("sum", "BiasAdd", [c, bias(b)]))
    relu(b, c, "z")


def _conv_identity_bias(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [b.op("i", "Identity", [conv(b)]), bias(b)]))


def _conv_norm(b: GraphBuilder) -> None:
    relu(b, norm(b, "n", conv(b)))


def _conv_norm_bias(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [norm(b, "n", conv(b)), bias(b)]))


def _conv_bias_norm(b: GraphBuilder) -> None:
    relu(b, norm(b, "n", b.op("sum", "BiasAdd", [conv(b), bias(b)])))


def _conv_two_norms(b: GraphBuilder) -> None:
    relu(b, norm(b, "m", norm(b, "n", conv(b))))


def _conv_norm_two_users(b: GraphBuilder) -> None:
    c = conv(b)
    relu(b, norm(b, "n", c))
    relu(b, c, "z")


def _conv_squeeze_bias(b: GraphBuilder) -> None:
    squeezed = b.op("s", "Squeeze", [conv(b)], squeeze_dims=[0])
    relu(b, b.op("sum", "BiasAdd", [squeezed, bias(b)]))


def _conv_squeeze_add(b: GraphBuilder) -> None:
    squeezed = b.op("s", "Squeeze", [conv(b)], squeeze_dims=[0])
    relu(b, b.op("sum", "Add", [squeezed, bias(b, shape=(1, 1, OUT))]))


def _conv_residual(b: GraphBuilder) -> None:
    c = conv(b)
    d = b.conv("d", c, b.const("w2", random_weight((3, 3, OUT, OUT))))
    biased = b.op("sum", "BiasAdd", [d, bias(b)])
    relu(b, b.op("add", "Add", [biased, c]))


def _grouped(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [conv(b, (3, 3, 4, OUT)), bias(b)]))


def _grouped_four(b: GraphBuilder) -> None:
    x = b.op("r", "Relu", [b.placeholder("x", [1, 8, 8, 16])])
    relu(b, b.conv("c", x, b.const("w", random_weight((3, 3, 4, OUT)))))


def _split_groups(b: GraphBuilder) -> None:
    axis = b.const("axis", 3)
    x = b.op("sx", "Split", [axis, b.placeholder("x", [1, 8, 8, 16])], num_split=2)
    w = b.op("sw", "Split", [axis, b.const("w", random_weight((3, 3, 8, OUT)))], num_split=2)
    parts = [b.conv("c0", x, w), b.conv("c1", f"{x}:1", f"{w}:1")]
    joined = b.op("j", "ConcatV2", [*parts, axis], N=2)
    relu(b, b.op("sum", "BiasAdd", [joined, bias(b)]))


def _depthwise_bias(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [depthwise(b), bias(b)]))


def _depthwise_multiplier(b: GraphBuilder) -> None:
    relu(b, depthwise(b, 2))


def _transposed_bias(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [transposed(b), bias(b)]))


def _matmul(b: GraphBuilder) -> None:
    relu(b, matmul(b))


def _matmul_bias(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "BiasAdd", [matmul(b), bias(b)]))


def _matmul_add_swapped(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Add", [bias(b), matmul(b)]))


def _matmul_two_adds(b: GraphBuilder) -> None:
    first = b.op("first", "Add", [matmul(b), bias(b)])
    relu(b, b.op("second", "Add", [first, bias(b, "bias2")]))


def _matmul_add_one_value(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Add", [matmul(b), bias(b, shape=(1,))]))


def _matmul_add_fed(b: GraphBuilder) -> None:
    relu(b, b.op("sum", "Add", [matmul(b), b.placeholder("z", [1, OUT])]))


def _matmul_transposed(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((OUT, 8)))
    relu(b, b.matmul("c", b.placeholder("x", [1, 8]), w, tb=True))


def _matmul_left(b: GraphBuilder) -> None:
    relu(b, b.matmul("c", b.const("w", random_weight((OUT, 8))), b.placeholder("x", [8, 1])))


def _shared(count: int) -> Build:
    def build(b: GraphBuilder) -> None:
        w = b.const("w", random_weight((8, OUT)))
        for index in range(count):
            read = b.op(f"read{index}", "Identity", [w])
            relu(b, b.matmul(f"c{index}", b.placeholder(f"x{index}", [1, 8]), read), f"y{index}")

    return build


def _shared_convolution(b: GraphBuilder) -> None:
    w = b.const("w", random_weight((3, 3, 8, OUT)))
    for index in range(6):
        relu(b, b.conv(f"c{index}", b.placeholder(f"x{index}", [1, 8, 8, 8]), w), f"y{index}")


def _constant_matmul(b: GraphBuilder) -> None:
    x = b.const("x", random_weight((1, 8)))
    relu(b, b.matmul("c", x, b.const("w", random_weight((8, OUT)))))


def _constant_output(b: GraphBuilder) -> None:
    x = b.const("x", random_weight((1, 8, 8, 8)))
    b.conv("c", x, b.const("w", random_weight((3, 3, 8, OUT))))


def _constant_unpacked(b: GraphBuilder) -> None:
    x = b.op("u", "Unpack", [b.const("x", random_weight((2, 1, 8)))], num=2, axis=0)
    relu(b, b.matmul("c", f"{x}:1", b.const("w", random_weight((8, OUT)))))


#: name -> (graph, what the layers are called; None: what lint names as floats only)
RULES: Dict[str, object] = {
    "conv": (lambda b: relu(b, conv(b)), ["c"]),
    "conv_bias_add": (_conv_bias_add, ["sum"]),
    "conv_add_wide": (_conv_add_wide, ["sum"]),
    "conv_add_swapped": (_conv_add_swapped, ["c"]),
    "conv_add_one_value": (_conv_add_one_value, ["c"]),
    "conv_two_adds": (_conv_two_adds, ["second"]),
    "conv_sub": (_conv_sub, ["c"]),
    "conv_two_users": (_conv_two_users, ["c"]),
    "conv_identity_bias": (_conv_identity_bias, ["sum"]),
    "conv_norm": (_conv_norm, ["c"]),
    "conv_norm_bias": (_conv_norm_bias, ["c"]),
    "conv_bias_norm": (_conv_bias_norm, ["sum"]),
    "conv_two_norms": (_conv_two_norms, ["c"]),
    "conv_norm_two_users": (_conv_norm_two_users, ["c"]),
    "conv_squeeze_bias": (_conv_squeeze_bias, ["sum"]),
    "conv_squeeze_add": (_conv_squeeze_add, ["c"]),
    "conv_residual": (_conv_residual, ["c", "sum"]),
    "grouped": (_grouped, ["sum__group__0", "sum__group__1"]),
    "grouped_four": (_grouped_four, [f"c__group__{index}" for index in range(4)]),
    "split_groups": (_split_groups, ["c0", "c1"]),
    "depthwise": (lambda b: relu(b, depthwise(b)), ["c"]),
    "depthwise_bias": (_depthwise_bias, ["sum"]),
    "depthwise_multiplier": (_depthwise_multiplier, []),
    "transposed": (lambda b: relu(b, transposed(b)), ["c"]),
    "transposed_bias": (_transposed_bias, ["sum"]),
    "matmul": (_matmul, ["c__matmul_converted"]),
    "matmul_bias": (_matmul_bias, ["sum__matmul_converted"]),
    "matmul_add_swapped": (_matmul_add_swapped, ["sum__matmul_converted"]),
    "matmul_two_adds": (_matmul_two_adds, ["first__matmul_converted"]),
    "matmul_add_one_value": (_matmul_add_one_value, ["c__matmul_converted"]),
    "matmul_add_fed": (_matmul_add_fed, ["c__matmul_converted"]),
    "matmul_transposed": (_matmul_transposed, ["c__matmul_converted"]),
    "matmul_left": (_matmul_left, []),
    "shared_4": (_shared(4), [f"c{index}__matmul_converted" for index in range(4)]),
    "shared_5": (_shared(5), []),
    "shared_convolution": (_shared_convolution, [f"c{index}" for index in range(6)]),
    "constant_matmul": (_constant_matmul, []),
    "constant_output": (_constant_output, ["c"]),
    "constant_unpacked": (_constant_unpacked, ["c__matmul_converted"]),
}


@pytest.mark.parametrize("rule", RULES)
def test_lint_names_the_layers(rule: str) -> None:
    """The names as the rules say, without the converter."""
    build, expected = RULES[rule]  # type: ignore[misc]
    found = [layer.name for layer in lint_of(graph_of(build)) if layer.name]
    assert sorted(found) == sorted(expected)


@pytest.mark.mnn
@pytest.mark.parametrize("rule", RULES)
def test_the_converter_uses_these_names(rule: str, tmp_path: Path) -> None:
    """The same graphs in the converter: the same names, no other layer with weights."""
    build, expected = RULES[rule]  # type: ignore[misc]
    found = names_of(converted(graph_of(build), tmp_path))
    assert sorted(found) == sorted(("", name) for name in expected)


@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV3"])
def test_batch_norm_factor(op: str) -> None:
    """gamma / sqrt(variance + epsilon) per output channel; of two norms the product."""
    gamma = np.linspace(-2, 2, OUT).astype(np.float32)

    def build(b: GraphBuilder) -> None:
        relu(b, norm(b, "m", norm(b, "n", conv(b), gamma, op), gamma, op))

    graph = graph_of(build)
    (layer,) = lint_of(graph)
    variance = {node.name: node for node in graph.nodes}["n/variance"].tensor()
    assert variance is not None
    once = gamma / np.sqrt(variance.numpy().astype(np.float64) + 1e-3)
    assert layer.factor is not None
    assert np.allclose(layer.factor, once * once, rtol=1e-6)


def test_a_training_norm_is_not_folded() -> None:
    """A batch norm whose statistics are fed is none that can be folded."""

    def build(b: GraphBuilder) -> None:
        c = conv(b)
        others: List[str] = [bias(b, f"k{index}") for index in range(3)]
        relu(b, b.op("n", "FusedBatchNorm", [c, *others, b.placeholder("v", [OUT])]))

    (layer,) = lint_of(graph_of(build))
    assert layer.factor is None
    assert layer.op in CONVOLUTIONS
