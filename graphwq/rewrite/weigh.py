"""What each width costs a weight, judged by its values alone: no data, nothing is run.

    error(b) = sum (w - w')^2 / sum w^2,    w' the values by the method at b bits

Where the errors of the layers are small and have nothing to do with each other, each adds about its
own part of noise to the signal, wherever it stands: so the sum of these ratios is a measure of the
noise at the outputs. It does not know which layers the outputs depend on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

from graphwq.graphdef.mapping import release
from graphwq.quant.scheme import DATA_FREE, MAX_BITS, MIN_BITS, MSE
from graphwq.rewrite.codes import quantize_weight
from graphwq.rewrite.parallel import in_order
from graphwq.rewrite.plan import PlanItem
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View

WIDTHS = tuple(range(MIN_BITS, MAX_BITS + 1))


def weight_errors(
    view: View, work: Sequence[Tuple[WeightSite, PlanItem]]
) -> Dict[str, Sequence[float]]:
    """The errors at each of WIDTHS, by weight, for weights with an item of any width.

    A method that looks at more than the weight is judged by the best scale for its values.

    Raises:
        QuantizationError: a weight holds NaN or Inf.
    """

    def errors(pair: Tuple[WeightSite, PlanItem]) -> List[float]:
        site, item = pair
        tensor = view.tensor(site)
        values = tensor.numpy()
        method = item.scheme.method if item.scheme.method in DATA_FREE else MSE
        found = []
        for bits in WIDTHS:
            scheme = replace(item.scheme, num_bits=bits, method=method)
            error = quantize_weight(item.weight, values, scheme)[1]
            signal = error.sum_squares
            found.append(error.sum_squared_errors / signal if signal > 0 else 0.0)
        if tensor.content is not None:
            release(tensor.content)
        return found

    table: Dict[str, Sequence[float]] = {}
    for (site, _), own in zip(work, in_order(errors, work)):
        table[site.weight] = own
    return table
