"""``graphwq mnn``: what the MNN converter will do, doing it, and the command to do it yourself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from graphwq import text
from graphwq.cli import calibrated, options, output, sources
from graphwq.cli.about import about
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output, write_atomically
from graphwq.mnn import child, command, compress_params, feeds
from graphwq.mnn.compare import LayerCheck, OutputCheck
from graphwq.mnn.convert import Converted, convert
from graphwq.mnn.lint import Layer
from graphwq.mnn.prepare import STORAGES, Prepared, prepare
from graphwq.mnn.report import LintReport, lint_graph
from graphwq.rewrite.plan import BAKE

_ACTIONS = {
    "lint": "say for every weight whether MNN will quantize it, as which layer, and how large the "
    "model will be",
    "convert": "quantize, convert, read the model back and prove every code and scale",
    "command": "write the quantized graph and the compression file, and print the mnnconvert "
    "command for them",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, about_it in _ACTIONS.items():
        action = actions.add_parser(
            name, help=about_it, description=about_it[0].upper() + about_it[1:] + "."
        )
        action.add_argument("graph", metavar="IN", type=Path, help=sources.HELP)
        action.add_argument("--plan", metavar="PLAN.json", type=Path, help="carry out this plan")
        action.add_argument("--json", action="store_true", help="print JSON")
        if name == "lint":
            action.add_argument(
                "--no-converter",
                action="store_true",
                help="do not ask the converter, also where MNN is installed; the size is then an "
                "estimate",
            )
        else:
            _configure_output(action, name)
        options.configure(action, STORAGES)
        calibrated.configure(action)
        sources.configure(action)


def _configure_output(action: argparse.ArgumentParser, name: str) -> None:
    if name == "convert":
        action.add_argument(
            "-o", "--output", metavar="OUT.mnn", type=Path, required=True, help="write the model"
        )
        action.add_argument(
            "--feeds",
            metavar="FEEDS.npz",
            type=Path,
            help="arrays named after tensors (input:0) to run graph and model on; seeded noise "
            "where not given",
        )
        action.add_argument(
            "--no-run", action="store_true", help="compare codes and scales only, run nothing"
        )
    else:
        action.add_argument(
            "-o", "--output", metavar="OUT.pb", type=Path, required=True, help="write the graph"
        )
        action.add_argument(
            "--model",
            metavar="OUT.mnn",
            type=Path,
            help="the model that the printed command makes (default: OUT.mnn)",
        )
        action.add_argument(
            "--converter", metavar="VERSION", help="the version of your converter, such as 2.8.1"
        )
    action.add_argument(
        "--params",
        metavar="FILE",
        type=Path,
        help="write the compression file here (JSON where the name ends in .json)",
    )
    action.add_argument(
        "--append",
        metavar="FILE",
        type=Path,
        help="keep what this compression file says (a pruner's) and add to it",
    )
    action.add_argument("--force", action="store_true", help="replace existing files")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action."""
    actions = {"lint": _lint, "convert": _convert, "command": _command}
    return actions[arguments.action](arguments)


def _prepare(arguments: argparse.Namespace) -> Prepared:
    plan = options.read_plan(arguments)
    asked = options.from_arguments(arguments)
    measured = calibrated.wanted(arguments, plan)
    how = calibrated.wishes(arguments) if measured else None
    graph = sources.load(arguments).graph
    with about(arguments.graph), output.progress("quantizing") as step:
        return prepare(graph, plan, asked, arguments.storage or BAKE, how, step)


def _calibration(prepared: Prepared) -> Dict[str, Any]:
    """What JSON output says of the calibration, where there was one."""
    return {} if prepared.calibrated is None else prepared.calibrated.to_json()


def _lint(arguments: argparse.Namespace) -> int:
    prepared = _prepare(arguments)
    use_converter = child.is_installed() and not arguments.no_converter
    report = lint_graph(prepared, use_converter)
    if arguments.json:
        data = {"input": str(arguments.graph), **report.to_json()}
        output.print_json({**data, **_calibration(prepared)})
    else:
        _print_lint(arguments.graph, report)
        calibrated.show(prepared.calibrated)
    return 1 if report.refusal else 0


def _convert(arguments: argparse.Namespace) -> int:
    child.require()
    inputs = _given(arguments.graph, arguments.plan, arguments.feeds, arguments.append)
    inputs += calibrated.files(arguments)
    for path in _given(arguments.output, arguments.params):
        check_output(path, inputs, arguments.force)
    _check_forms(arguments.params, arguments.append)
    prepared = _prepare(arguments)
    given = None if arguments.feeds is None else feeds.read(arguments.feeds, prepared.graph)
    with about(arguments.graph):
        result = convert(
            prepared,
            given,
            run=not arguments.no_run,
            append_to=arguments.append,
            as_json=arguments.params is not None and compress_params.is_json(arguments.params),
        )
    write_atomically(arguments.output, (result.data,), arguments.force)
    if arguments.params is not None:
        write_atomically(arguments.params, (result.records,), arguments.force)
    if arguments.json:
        paths = {"input": str(arguments.graph), "output": str(arguments.output)}
        output.print_json({**paths, **result.to_json(), **_calibration(prepared)})
    else:
        _print_converted(arguments, prepared, result)
        calibrated.show(prepared.calibrated)
    uncompared = arguments.feeds is not None and not result.outputs
    return 0 if result.passed and not uncompared else 1


def _command(arguments: argparse.Namespace) -> int:
    target: Path = arguments.output
    model = arguments.model or target.with_suffix(".mnn")
    params = arguments.params or target.with_suffix(".params.bin")
    version = None if arguments.converter is None else command.parse_version(arguments.converter)
    inputs = _given(arguments.graph, arguments.plan, arguments.append)
    inputs += calibrated.files(arguments)
    if len({target, model, params}) < 3:
        raise InputError("graph, model and compression file need three names")
    for path in (target, params):
        check_output(path, inputs, arguments.force)
    _check_forms(params, arguments.append)
    prepared = _prepare(arguments)
    records = prepared.records(keep_float=True)
    line = command.make(target, model, params, records, version)
    if arguments.append:
        contents = compress_params.append(arguments.append, records)
    else:
        as_json = compress_params.is_json(params)
        contents = compress_params.create(records, prepared.uuid, as_json)
    prepared.result.save(target, arguments.force)
    write_atomically(params, (contents,), arguments.force)
    if arguments.json:
        data = {"graph": str(target), "model": str(model), "params": str(params)}
        told = {"command": list(line.argv), "notes": list(line.notes), **_calibration(prepared)}
        output.print_json({**data, **told})
        return 0
    print(text.printable(line.line))
    for note in line.notes:
        print(f"# {text.one_line(note)}")
    return 0


def _check_forms(params: Optional[Path], append: Optional[Path]) -> None:
    """What is appended to keeps its form."""
    if params is None or append is None:
        return
    if compress_params.is_json(params) != compress_params.is_json(append):
        raise InputError("--append and --params must both end in .json, or neither")


def _given(*paths: Optional[Path]) -> List[Path]:
    return [path for path in paths if path is not None]


def _print_lint(path: Path, report: LintReport) -> None:
    quantized = [layer for layer in report.layers if layer.is_quantized]
    count = len(report.layers)
    title = f"{len(quantized)} of {text.plural(count, 'use')} of weights quantized by MNN"
    if quantized:
        columns = ("weight", "op", "layer in MNN", "bits>", "one scale for each of", "bytes>")
        output.print_table(title, columns, [_row(layer) for layer in quantized])
    else:
        print(f"{text.one_line(str(path))}: MNN will quantize no weight")
    _print_float(report.layers)
    output.print_skips(report.skips)
    if report.refusal:
        print(f"MNN cannot read this graph: {text.one_line(report.refusal)}")
    elif report.is_measured:
        print(
            f"predicted size of the .mnn: {text.size(report.predicted_nbytes)}, of the float one "
            f"{text.size(report.float_nbytes)} (MNN converted the float graph)"
        )
    else:
        print(
            f"predicted size of the .mnn: about {text.size(report.predicted_nbytes)} (an estimate: "
            "the converter was not asked)"
        )


def _print_float(layers: Sequence[Layer]) -> None:
    rows: Dict[Tuple[str, ...], int] = {}
    for layer in layers:
        if not layer.is_quantized:
            names = ", ".join(text.name(weight) for weight in layer.weights[:3])
            detail = text.one_line(layer.detail)
            key = (names, layer.op, text.name(layer.name) or "-", layer.fate.value, detail)
            rows[key] = rows.get(key, 0) + 1
    if rows:
        shown = [
            (names, f"{op} x{count}" if count > 1 else op, *rest)
            for (names, op, *rest), count in rows.items()
        ]
        columns = ("weight", "op", "layer in MNN", "reason", "detail")
        output.print_table("stay float", columns, shown)


def _row(layer: Layer) -> Tuple[str, ...]:
    return (
        ", ".join(text.name(weight) for weight in layer.weights),
        layer.op,
        text.name(layer.name) + (f" in {text.name(layer.subgraph)}" if layer.subgraph else ""),
        str(layer.num_bits),
        layer.grouping,
        text.size(layer.nbytes),
    )


def _print_converted(arguments: argparse.Namespace, prepared: Prepared, result: Converted) -> None:
    quantized = [check for check in result.layers if check.layer.is_quantized]
    if quantized:
        columns = ("weight", "layer in MNN", "bits>", "equal codes>", "equal scales>", "bytes>")
        title = f"{text.plural(len(quantized), 'layer')} quantized, read back from the model"
        output.print_table(title, columns, [_check_row(check) for check in quantized])
    else:
        print("MNN quantized no weight of this graph")
    _print_float([check.layer for check in result.layers])
    output.print_skips(prepared.skips)
    if result.outputs:
        title = "outputs of .mnn against .pb"
        headings = ("output", "quantized, dB>", "float, dB>", "")
        output.print_table(title, headings, [_output_row(check) for check in result.outputs])
    else:
        print(f"outputs not compared: {text.one_line(result.not_run)}")
    before = arguments.graph.stat().st_size
    print(
        f"{text.one_line(str(arguments.graph))} {text.size(before)} -> "
        f"{text.one_line(str(arguments.output))} {text.size(len(result.data))} "
        f"({text.ratio(len(result.data), result.float_nbytes)} of the float .mnn)"
    )


def _check_row(check: LayerCheck) -> Tuple[str, ...]:
    row = _row(check.layer)
    codes = f"{check.equal_codes} of {check.codes}"
    scales = f"{check.equal_scales} of {check.scales}"
    return row[0], row[2], row[3], codes, scales, row[5]


def _output_row(check: OutputCheck) -> Tuple[str, ...]:
    verdict = "as close" if check.passed else "NOT as close"
    if check.is_float_wrong:
        verdict = "MNN is WRONG for the float graph too"
    numbers = text.decibel(check.quantized_db), text.decibel(check.float_db)
    return (text.name(check.name), *numbers, verdict)
