"""Through the converter and back: the model, and the proof that every code and scale arrived."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import GraphWQError, InputError, MissingDependencyError
from graphwq.graphdef.graph import Graph
from graphwq.graphdef.source import save
from graphwq.mnn import child, compress_params, feeds, model, runtime
from graphwq.mnn.compare import (
    LayerCheck,
    OutputCheck,
    check_layers,
    check_outputs,
    sqnr_db,
    unplanned,
)
from graphwq.mnn.model import Model
from graphwq.mnn.prepare import Prepared


class ConversionError(GraphWQError):
    """The converter made something else of the graph than was planned: nothing is written."""


@dataclass(frozen=True)
class Converted:
    """A model and what is known of it.

    Attributes:
        data: the bytes of the ``.mnn``.
        float_nbytes: size of the model that the converter makes of the float graph.
        layers: every layer beside the plan.
        outputs: the outputs of graph and model on the same feeds.
        not_run: why there are none; "" where there are.
        records: the compression file that was used.
    """

    data: bytes
    float_nbytes: int
    layers: Tuple[LayerCheck, ...]
    outputs: Tuple[OutputCheck, ...]
    not_run: str
    records: bytes

    @property
    def passed(self) -> bool:
        """Whether all outputs are as close as those of the float model."""
        return all(check.passed for check in self.outputs)

    def to_json(self) -> Dict[str, Any]:
        """The result as JSON data."""
        quantized = [check for check in self.layers if check.layer.is_quantized]
        return {
            "bytes": len(self.data),
            "float_bytes": self.float_nbytes,
            "codes": sum(check.codes for check in quantized),
            "equal_codes": sum(check.equal_codes for check in quantized),
            "scales": sum(check.scales for check in quantized),
            "equal_scales": sum(check.equal_scales for check in quantized),
            "layers": [check.to_json() for check in self.layers],
            "outputs": [check.to_json() for check in self.outputs],
            "not_run": self.not_run,
            "passed": self.passed,
        }


def convert(
    prepared: Prepared,
    given: Optional[Mapping[str, np.ndarray]] = None,
    outputs: Optional[Sequence[str]] = None,
    run: bool = True,
    append_to: Optional[Path] = None,
    as_json: bool = False,
) -> Converted:
    """Convert a prepared graph and prove the result.

    Args:
        prepared: see ``prepare``.
        given: feeds by tensor name; seeded noise where None.
        outputs: tensors to compare; the outputs of the model where None or unknown to it.
        run: also run graph and model.
        append_to: a compression file of an earlier step (a pruner's) to which the records go.
        as_json: write a new compression file in the JSON form.

    Raises:
        ConverterError: the converter cannot read the graph.
        ConversionError: a layer is not what was planned, or unknown to the converter.
        MissingDependencyError: the MNN package is not installed.
    """
    child.require()
    with child.workspace() as folder:
        if append_to is not None:
            as_json = compress_params.is_json(append_to)
        params = folder / ("params.json" if as_json else "params.bin")
        records = prepared.records()
        if append_to is not None:
            contents = compress_params.append(append_to, records)
        else:
            contents = compress_params.create(records, prepared.uuid, as_json)
        params.write_bytes(contents)
        float_path = _model(prepared.graph, folder / "float", ())
        options = ["--compressionParamsFile", str(params), "--weightQuantAsymmetric=0"]
        path = _model(prepared.result.graph, folder / "quantized", options)
        converted, float_model = model.read(path), model.read(float_path)
        checks = check_layers(prepared.layers, converted)
        _require_equal(checks, unplanned(prepared.layers, converted) if not append_to else [])
        comparison: List[OutputCheck] = []
        not_run = "not asked for"
        if run:
            comparison, not_run = _compare(
                prepared, (path, converted), (float_path, float_model), given, outputs, folder
            )
        return Converted(
            path.read_bytes(),
            float_model.nbytes,
            tuple(checks),
            tuple(comparison),
            not_run,
            contents,
        )


def _model(graph: Graph, stem: Path, options: Sequence[str]) -> Path:
    """Convert a graph in the workspace."""
    source, target = stem.with_suffix(".pb"), stem.with_suffix(".mnn")
    save(graph, source)
    child.convert(source, target, options)
    return target


def _require_equal(checks: Sequence[LayerCheck], extra: Sequence[str]) -> None:
    wrong = [check for check in checks if check.problem]
    if wrong:
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ConversionError(
            f"layer {first.layer.name!r} of weight {first.layer.weights[0]!r}: {first.problem}"
            f"{more}; nothing was written, keep it float with --exclude {first.layer.weights[0]!r}"
        )
    if extra:
        raise ConversionError(
            f"layer {extra[0]!r} was quantized, but the plan does not name it; nothing was written"
        )


def _compare(
    prepared: Prepared,
    quantized: Tuple[Path, Model],
    floats: Tuple[Path, Model],
    given: Optional[Mapping[str, np.ndarray]],
    outputs: Optional[Sequence[str]],
    folder: Path,
) -> Tuple[List[OutputCheck], str]:
    """The outputs of the four runs, or why there are none."""
    fed = given if given is not None else feeds.seeded(prepared.graph)
    if fed is None:
        return [], "a placeholder has no known shape: give feeds"
    fed = feeds.with_defaults(prepared.graph, fed)
    reason = runtime.runnable(quantized[1], fed) or runtime.runnable(floats[1], fed)
    names = runtime.comparable(prepared.graph, quantized[1], outputs)
    known = set(floats[1].tensors)
    names = [name for name in names if runtime.mnn_name(name) in known]
    if not reason and not names:
        reason = "graph and model have no output in common"
    if reason:
        return [], reason
    try:
        pairs = [
            runtime.run_both(graph, path, found, fed, names, folder)
            for graph, (path, found) in (
                (prepared.result.graph, quantized),
                (prepared.graph, floats),
            )
        ]
    except (InputError, MissingDependencyError) as error:
        return [], str(error)
    checks = check_outputs(pairs[0], pairs[1])
    if not all(check.passed or check.is_float_wrong for check in checks):
        checks = _with_baked(prepared, checks, pairs[0][0], fed, folder)
    return checks, "" if checks else "no output has the same size in both runtimes"


def _with_baked(
    prepared: Prepared,
    checks: Sequence[OutputCheck],
    reference: Mapping[str, np.ndarray],
    fed: Mapping[str, np.ndarray],
    folder: Path,
) -> List[OutputCheck]:
    """The same checks with what the float model of the quantized graph differs by."""
    path = _model(prepared.result.graph, folder / "baked", ())
    found = model.read(path)
    inputs = runtime.by_mnn_name(found, fed)
    names = [check.name for check in checks]
    values = child.run(path, inputs, [runtime.mnn_name(name) for name in names], folder)
    return [
        replace(
            check,
            baked_db=sqnr_db(reference[check.name], values[runtime.mnn_name(check.name)]),
        )
        for check in checks
    ]
