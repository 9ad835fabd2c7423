"""What each width costs a weight, judged by its values alone: no data, nothing is run.

    error(b) = sum (w - w')^2 / sum w^2,    w' the values by the method at b bits

Where the errors of the layers are small and have nothing to do with each other, each adds about its
own part of noise to the signal, wherever it stands: so the sum of these ratios is a measure of the
noise at the outputs. It does not know which layers the outputs depend on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

import numpy as np

from graphwq.graphdef.graph import Graph
from graphwq.graphdef.mapping import release
from graphwq.quant.metrics import WeightError
from graphwq.quant.quantize import scale_shape
from graphwq.quant.scheme import MAX_BITS, MIN_BITS, MSE, QuantizedTensor, data_free
from graphwq.rewrite.codes import quantize_weight
from graphwq.rewrite.draft import Drafter, Given, applied
from graphwq.rewrite.parallel import in_order
from graphwq.rewrite.plan import Plan, PlanItem
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View

WIDTHS = tuple(range(MIN_BITS, MAX_BITS + 1))


def file_nbytes(graph: Graph, view: View, sites: Sequence[WeightSite], plan: Plan) -> int:
    """Bytes of the file that a plan gives, by writing it with zeros for codes."""
    places = {site.weight: site for site in sites}
    nothing = WeightError(0.0, 0.0, 0.0)
    given = {}
    for item in plan.items:
        shape = places[item.weight].shape
        scale = np.ones(scale_shape(shape, item.scheme.granularity), np.float32)
        codes = QuantizedTensor(np.zeros(shape, np.int8), scale, item.scheme)
        given[item.weight] = Given(codes, nothing)
    drafted = Drafter(graph, view, places, given).draft(plan)
    return applied(graph, drafted.edits).nbytes


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
        found = []
        for bits in WIDTHS:
            scheme = replace(data_free(item.scheme, MSE), num_bits=bits)
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
