"""Was the optimizer built already? Then gradients would bypass what is inserted now."""

from __future__ import annotations

import re
from typing import Any, Optional

from graphwq.errors import ArgumentError
from graphwq.tf1.live import MARK, mark_of

#: Op types that only gradients and optimizers use: ReluGrad, BiasAddGrad, Conv2DBackpropFilter,
#: ApplyAdam... (tensorflow/core/ops). An op that is a gradient and nothing else is enough: the
#: ``...BackpropInput`` ops are transposed convolutions as well, and never come without the Filter.
_GRADIENT_TYPE = re.compile(
    r"(Grad|Gradient|GradV\d|GradGrad|GradGradV\d|GradWithArgmax|GradGradWithArgmax)$"
    r"|Backprop(?!Input)|^(Resource)?(Sparse)?Apply[A-Z]"
)
_NO_GRADIENTS = ("StopGradient", "PreventGradient")
#: What tf.gradients calls its ops; in an imported MetaGraph the names are all that is left.
_GRADIENT_NAME = re.compile(r"(^|/)gradients(_\d+)?/(.*/)?[^/]+_grad(_\d+)?/")


def is_gradient(name: str, op_type: str) -> bool:
    """Whether name or type of an op tell that it belongs to a gradient or an optimizer."""
    if op_type in _NO_GRADIENTS:
        return False
    return bool(_GRADIENT_TYPE.search(op_type) or _GRADIENT_NAME.search(name))


def gradient_op(graph: Any) -> Optional[Any]:
    """The first op that belongs to a gradient or an optimizer, or None."""
    for op in graph.get_operations():
        made_by_gradients = getattr(op, "_original_op", None) is not None
        if (made_by_gradients or is_gradient(op.name, op.type)) and mark_of(op, MARK) is None:
            return op
    return None


def check_no_gradients(graph: Any) -> None:
    """Refuse a graph with gradients.

    Raises:
        ArgumentError: (a ValueError as well) there is a gradient or optimizer op.
    """
    found = gradient_op(graph)
    if found is not None:
        raise ArgumentError(
            f"gradient op found in the graph: {found.type} {found.name!r}; build the "
            "WeightQuantizer after the forward graph and before the optimizer"
        )
