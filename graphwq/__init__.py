"""Quantize the weights of frozen TensorFlow 1.x graphs to 2..8 bits, without training.

The public names are resolved on first use, so that ``import graphwq`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, List

__version__ = "0.1.0"

_PUBLIC = {
    "ArgumentError": "graphwq.errors",
    "CallOrderError": "graphwq.errors",
    "Graph": "graphwq.graphdef.graph",
    "GraphWQError": "graphwq.errors",
    "InputError": "graphwq.errors",
    "InvariantError": "graphwq.errors",
    "MissingDependencyError": "graphwq.errors",
    "Node": "graphwq.graphdef.node",
    "PerChannel": "graphwq.quant.scheme",
    "PerGroup": "graphwq.quant.scheme",
    "PerTensor": "graphwq.quant.scheme",
    "Plan": "graphwq.rewrite.plan",
    "QuantScheme": "graphwq.quant.scheme",
    "QuantizationError": "graphwq.errors",
    "QuantizedTensor": "graphwq.quant.scheme",
    "RewriteResult": "graphwq.rewrite.run",
    "Rule": "graphwq.rewrite.plan",
    "Skip": "graphwq.survey.sites",
    "Survey": "graphwq.survey.sites",
    "UnsupportedError": "graphwq.errors",
    "WeightQuantizer": "graphwq.tf1.quantizer",
    "WeightSite": "graphwq.survey.sites",
    "convert_mnn": "graphwq.mnn.api",
    "lint_mnn": "graphwq.mnn.api",
    "load": "graphwq.graphdef.source",
    "locate": "graphwq.survey.locate",
    "plan": "graphwq.api",
    "quantize": "graphwq.api",
    "save": "graphwq.graphdef.source",
    "strip_wq_ops": "graphwq.tf1.strip",
}

#: Packages that are also the function they are named after.
_CALLABLE = ("verify",)

__all__ = ["__version__", *sorted([*_PUBLIC, *_CALLABLE])]


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return import_module(f"graphwq.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'graphwq' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted(set(globals()) | set(_PUBLIC) | set(_CALLABLE))
