"""Where new constants get their values from, so that nodes can be made before there are any.

What makes nodes never looks at codes: it says, for each constant, how its array follows from the
quantized weight (a ``Make``). The values themselves are computed by a ``Job``, once for all
constants of a weight, when the first of them is written or at once.
"""

from __future__ import annotations

from typing import Callable, List, Optional, Tuple

import numpy as np

from graphwq.errors import InvariantError
from graphwq.graphdef.newnode import Data
from graphwq.quant.blocks import contiguous
from graphwq.quant.metrics import WeightError
from graphwq.quant.scheme import QuantizedTensor

#: From the codes and scale of a weight to the array that a constant holds.
Make = Callable[[QuantizedTensor], np.ndarray]
#: What a constant is given for its ``Make``.
Values = Callable[[Make], Data]


def no_values(_make: Make) -> None:
    """The constants only have a size."""


class Job:
    """The computation of one weight and of the arrays of its constants.

    An array is handed out once, so that it is gone when it is written.

    Attributes:
        error: of the quantized values; None before ``run``.
        quantized: codes and scale; None before ``run``, and unless they are to be kept.
        wait: called when an array is wanted before ``run``; it sees to it that the job runs.
    """

    def __init__(self, compute: Callable[[], Tuple[QuantizedTensor, WeightError]]) -> None:
        self._compute = compute
        self._makes: List[Make] = []
        self._arrays: List[Optional[np.ndarray]] = []
        self.error: Optional[WeightError] = None
        self.quantized: Optional[QuantizedTensor] = None
        self.wait: Optional[Callable[[], None]] = None

    def values(self, make: Make) -> Callable[[], np.ndarray]:
        """What gives the array of a constant, once there is one."""
        number = len(self._makes)
        self._makes.append(make)
        return lambda: self._take(number)

    def run(self, keep: bool = False) -> Job:
        """Compute everything; ``keep`` keeps the codes.

        Raises:
            QuantizationError: the weight holds NaN or Inf.
        """
        quantized, error = self._compute()
        self._arrays = [*contiguous([make(quantized) for make in self._makes])]
        if keep:
            self.quantized = quantized
        self.error = error  # the last: it tells other threads that the arrays are there
        return self

    def done(self, error: WeightError, quantized: Optional[QuantizedTensor]) -> None:
        """Take a result from elsewhere, where no constant needs its values."""
        self.error, self.quantized = error, quantized

    def _take(self, number: int) -> np.ndarray:
        if self.error is None and self.wait is not None:
            self.wait()
        array = self._arrays[number] if self._arrays else None
        if array is None:
            raise InvariantError("values are wanted before they are computed, or a second time")
        self._arrays[number] = None
        return array
