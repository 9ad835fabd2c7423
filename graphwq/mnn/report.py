"""The lint of a whole graph: its layers, and how large the model will be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Sequence, Tuple

from graphwq.graphdef.source import save
from graphwq.mnn import child, model, size
from graphwq.mnn.child import ConverterError
from graphwq.mnn.lint import Layer
from graphwq.mnn.model import Model
from graphwq.mnn.prepare import Prepared
from graphwq.mnn.verdict import Fate
from graphwq.survey.sites import Skip
from graphwq.survey.view import build


@dataclass(frozen=True)
class LintReport:
    """What MNN will make of a graph.

    Attributes:
        layers: every use of every weight.
        skips: float constants that are no weights, or that the plan leaves alone.
        predicted_nbytes: size of the ``.mnn``; 0 where the converter cannot read the graph.
        float_nbytes: size of the ``.mnn`` of the float graph; 0 where the converter was not asked.
        refusal: the converter's reason where it cannot read the graph, else "".
    """

    layers: Tuple[Layer, ...]
    skips: Tuple[Skip, ...]
    predicted_nbytes: int
    float_nbytes: int
    refusal: str

    @property
    def is_measured(self) -> bool:
        """Whether the converter was asked, with the float graph."""
        return bool(self.float_nbytes or self.refusal)

    def to_json(self) -> Dict[str, Any]:
        """The report as JSON data."""
        return {
            "layers": [layer.to_json() for layer in self.layers],
            "skips": [skip.to_json() for skip in self.skips],
            "predicted_bytes": self.predicted_nbytes,
            "float_bytes": self.float_nbytes,
            "measured": self.is_measured,
            "refusal": self.refusal,
        }


def lint_graph(prepared: Prepared, use_converter: bool) -> LintReport:
    """Say what MNN will do with every weight of a graph.

    Args:
        prepared: graph and plan.
        use_converter: convert the float graph (in a child process) to learn the size of everything
            but the weights, and whether the converter can read the graph at all. Without it the
            size is an estimate.

    Raises:
        MissingDependencyError: the converter is to be used and not installed.
    """
    layers = prepared.layers
    if not use_converter:
        nbytes = size.estimate(build(prepared.graph), layers)
        return LintReport(layers, prepared.skips, nbytes, 0, "")
    try:
        found = _float_model(prepared)
    except ConverterError as error:
        return LintReport(layers, prepared.skips, 0, 0, error.reason)
    layers = tuple(known(layers, found))
    nbytes = size.from_float_model(found.nbytes, layers)
    return LintReport(layers, prepared.skips, nbytes, found.nbytes, "")


def known(layers: Sequence[Layer], found: Model) -> List[Layer]:
    """The layers, those that the converter does not know as float ones with that reason."""
    names = {(layer.subgraph, layer.name) for layer in found.layers}
    detail = "the converter makes no layer of this name: please report this graph"
    return [
        replace(layer, fate=Fate.UNKNOWN_LAYER, detail=detail, codes=None, scale=None, num_bits=0)
        if layer.is_quantized and (layer.subgraph, layer.name) not in names
        else layer
        for layer in layers
    ]


def _float_model(prepared: Prepared) -> Model:
    with child.workspace() as folder:
        source, target = folder / "float.pb", folder / "float.mnn"
        save(prepared.graph, source)
        child.convert(source, target)
        return model.parse(memoryview(target.read_bytes()))
