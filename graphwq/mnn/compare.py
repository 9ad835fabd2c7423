"""Did the codes and scales arrive, and does the model compute what the graph computes?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.mnn import model as mnn_model
from graphwq.mnn.lint import Layer
from graphwq.mnn.model import Model, Quantized
from graphwq.mnn.verdict import FOLD_TOLERANCE

#: The quantized model may be this much farther from its graph than the float model is from its own.
MARGIN_DB = 3.0
#: Above this (an error of 1e-5) two runtimes differ by float32 rounding and no more: how much
#: varies by tens of dB from graph to graph, and the scale of a layer with a folded batch norm is
#: rounded once for all its weights, which does not average out in a deep network.
ROUNDING_DB = 100.0
#: Below this the float model computes something else than its graph: MNN, not the quantization.
WRONG_DB = 20.0


@dataclass(frozen=True)
class LayerCheck:
    """One layer of the plan beside the same layer of the model.

    Attributes:
        layer: what was expected.
        found: whether the model has a layer of that name.
        codes, equal_codes: number of codes, and of those that are equal.
        scales, equal_scales: number of scales, and of those that are equal (within a few float32
            roundings where batch normalisation was folded in; any where all codes are 0).
        problem: "" where all is as planned.
    """

    layer: Layer
    found: bool
    codes: int
    equal_codes: int
    scales: int
    equal_scales: int
    problem: str

    def to_json(self) -> Dict[str, Any]:
        """The check as JSON data."""
        return {
            **self.layer.to_json(),
            "codes": self.codes,
            "equal_codes": self.equal_codes,
            "scales": self.scales,
            "equal_scales": self.equal_scales,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class OutputCheck:
    """One output of the model beside the same output of the graph in TensorFlow.

    Attributes:
        name: of the tensor.
        quantized_db: SQNR of the quantized ``.mnn`` against the quantized graph.
        float_db: SQNR of the float ``.mnn`` against the float graph.
        baked_db: SQNR of the float ``.mnn`` of the *quantized* graph against that graph: what two
            runtimes differ by where no code was made at all. Low bits can leave a network whose
            outputs are small differences of large numbers, and rounding weighs more there. None
            where it was not needed.
    """

    name: str
    quantized_db: float
    float_db: float
    baked_db: Optional[float] = None

    @property
    def passed(self) -> bool:
        """Whether quantization cost nothing on the way: within the margin, or mere rounding."""
        bounds = [self.float_db - MARGIN_DB, ROUNDING_DB]
        if self.baked_db is not None:
            bounds.append(self.baked_db - MARGIN_DB)
        return self.quantized_db >= min(bounds) and not self.is_float_wrong

    @property
    def is_float_wrong(self) -> bool:
        """Whether MNN does not even compute what the float graph computes."""
        return self.float_db < WRONG_DB

    def to_json(self) -> Dict[str, Any]:
        """The check as JSON data; an exact output has null."""
        return {
            "name": self.name,
            "quantized_db": _number(self.quantized_db),
            "float_db": _number(self.float_db),
            "baked_db": None if self.baked_db is None else _number(self.baked_db),
            "passed": self.passed,
            "float_is_wrong": self.is_float_wrong,
        }


def check_layers(layers: Sequence[Layer], converted: Model) -> List[LayerCheck]:
    """Compare every layer that lint names with the model, float ones too."""
    known: Dict[Tuple[str, str], mnn_model.Layer] = {
        (item.subgraph, item.name): item for item in converted.layers
    }
    checks = []
    for layer in layers:
        item = known.get((layer.subgraph, layer.name)) if layer.name else None
        if layer.is_quantized:
            checks.append(_check_quantized(layer, item))
        else:
            problem = ""
            if item is not None and item.quantized is not None:
                problem = "quantized, but the plan keeps it float"
            checks.append(LayerCheck(layer, item is not None, 0, 0, 0, 0, problem))
    return checks


def unplanned(layers: Sequence[Layer], converted: Model) -> List[str]:
    """Layers of the model that are quantized though nobody asked for it."""
    wanted = {(layer.subgraph, layer.name) for layer in layers if layer.is_quantized}
    return [
        item.name
        for item in converted.layers
        if item.quantized is not None and (item.subgraph, item.name) not in wanted
    ]


def check_outputs(
    quantized: Tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    floats: Tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
) -> List[OutputCheck]:
    """Compare the outputs that all four runs have in the same size.

    Args:
        quantized: outputs of the quantized graph in TensorFlow, and of the quantized model.
        floats: the same of the float graph and the float model.
    """
    checks = []
    for name in quantized[0]:
        runs = [run.get(name) for run in (*quantized, *floats)]
        arrays = [run for run in runs if run is not None and run.dtype.kind in "fiub"]
        if len(arrays) < 4 or len({array.size for array in arrays}) > 1 or not arrays[0].size:
            continue
        first = sqnr_db(arrays[0], arrays[1])
        checks.append(OutputCheck(name, first, sqnr_db(arrays[2], arrays[3])))
    return checks


def sqnr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    """10 log10(sum x^2 / sum (x - x')^2); Inf where they are equal, -Inf at a new NaN."""
    left = reference.astype(np.float64).reshape(-1)
    right = candidate.astype(np.float64).reshape(-1)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    if same.all():
        return math.inf
    finite = np.isfinite(left) & np.isfinite(right)
    if (~finite & ~same).any():
        return -math.inf
    noise = float(np.square(left[finite] - right[finite]).sum())
    signal = float(np.square(left[finite]).sum())
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _check_quantized(layer: Layer, item: Any) -> LayerCheck:
    assert layer.codes is not None
    assert layer.scale is not None
    size, rows = layer.codes.size, len(layer.scale)

    def failed(problem: str, found: bool = True) -> LayerCheck:
        return LayerCheck(layer, found, size, 0, rows, 0, problem)

    if item is None:
        return failed("the converter knows no layer of this name", found=False)
    stored: Quantized = item.quantized
    if stored is None:
        return failed("it stayed float")
    if stored.asymmetric:
        return failed("it was quantized asymmetrically")
    if stored.num_bits != layer.num_bits:
        return failed(f"it has {stored.num_bits} bits, not {layer.num_bits}")
    if stored.codes.shape != layer.codes.shape:
        return failed(f"its rows are {list(stored.codes.shape)}, not {list(layer.codes.shape)}")
    equal_codes = int(np.count_nonzero(stored.codes == layer.codes))
    if layer.factor is None:
        same = stored.scale == layer.scale
    else:
        same = np.abs(stored.scale - layer.scale) <= FOLD_TOLERANCE * layer.scale
    equal_scales = int(np.count_nonzero(same | ~layer.codes.any(1)))
    problem = ""
    if equal_codes < size:
        problem = f"{size - equal_codes} of {size} codes differ"
    elif equal_scales < rows:
        problem = f"{rows - equal_scales} of {rows} scales differ"
    return LayerCheck(layer, True, size, equal_codes, rows, equal_scales, problem)


def _number(value: float) -> Any:
    return value if math.isfinite(value) else None
