"""Codes of one weight of a graph, by a method that needs nothing but its values."""

from __future__ import annotations

from typing import Tuple

import numpy as np

from graphwq.errors import QuantizationError
from graphwq.quant.method import quantize_by_method
from graphwq.quant.metrics import WeightError
from graphwq.quant.scheme import QuantizedTensor, QuantScheme


def quantize_weight(
    weight: str, values: np.ndarray, scheme: QuantScheme
) -> Tuple[QuantizedTensor, WeightError]:
    """See ``quant.method.quantize_by_method``.

    Raises:
        QuantizationError: the values hold NaN or Inf; the message names the weight.
    """
    try:
        return quantize_by_method(values, scheme)
    except QuantizationError as problem:
        raise QuantizationError(
            f"weight {weight!r} cannot be quantized: {problem}; mend the model, or keep it float "
            f"with --exclude {weight!r}"
        ) from problem
