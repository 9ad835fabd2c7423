"""The layers that need a session: outputs, accuracy, and where the error comes from."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from graphwq import text
from graphwq.errors import InputError, MissingDependencyError, UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View
from graphwq.verify.accuracy import LABELS, Accuracy, Counter, as_labels, read_labels
from graphwq.verify.analysis import analyse_layers
from graphwq.verify.feeds import Declared, Feeds, bind_feeds
from graphwq.verify.golden import Golden, compare_golden, record_golden, save_golden
from graphwq.verify.interface import Interface, find_interface, tensor_name
from graphwq.verify.layers import LayersResult
from graphwq.verify.npz import read_npz
from graphwq.verify.outputs import Limits, OutputsResult, Progress, compare_outputs
from graphwq.verify.problem import OUTPUTS, Problem
from graphwq.verify.runner import Runner
from graphwq.verify.trial import find_feeds
from graphwq.verify.unsafe_ops import check_safe

#: Makes a session for a graph; False: with TensorFlow's graph optimizers off.
MakeRunner = Callable[[Graph, bool], ContextManager[Runner]]
#: A file, or arrays by tensor name.
Arrays = Union[str, Path, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class RunOptions:
    """How the graphs are run and what is asked of them.

    Attributes:
        inputs: arrays by tensor name, or the ``.npz`` that holds them; None: made from ``seed``.
        labels: the right class of every sample, or the ``.npz`` that holds them.
        outputs: tensors to compare; none: they are found.
        limits: what the outputs must reach.
        exact: no bit may differ; graph optimizers off.
        seed, samples: of made inputs.
        layers: find where the error comes from.
        keep: find the fewest weights to keep ``float`` or at ``8`` bits for ``limits.min_sqnr``.
        allow_unsafe_ops: run graphs that reach out of themselves.
        save_golden: write what the reference gives to this ``.npz``.
        force: replace an existing file.
    """

    inputs: Optional[Arrays] = None
    labels: Optional[Union[str, Path, np.ndarray]] = None
    outputs: Tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    exact: bool = False
    seed: int = 0
    samples: int = 4
    layers: bool = False
    keep: Optional[str] = None
    allow_unsafe_ops: bool = False
    save_golden: Optional[Union[str, Path]] = None
    force: bool = False

    @property
    def demanding(self) -> bool:
        """Whether something was asked that only a run can answer."""
        limits = (self.limits.min_sqnr, self.limits.max_abs)
        asked = (self.inputs, self.labels, *limits, self.keep, self.save_golden)
        return any(item is not None for item in asked) or bool(self.outputs) or self.layers


@dataclass(frozen=True)
class Pair:
    """The graphs, views of them, and the weights of the reference."""

    reference: Graph
    candidate: Graph
    reference_view: View
    candidate_view: View
    sites: Tuple[WeightSite, ...]


@dataclass(frozen=True)
class Ran:
    """What running both graphs gave; None where they could not be run, and the reason in a note."""

    outputs: Optional[OutputsResult] = None
    layers: Optional[LayersResult] = None
    accuracy: Optional[Accuracy] = None
    notes: Tuple[str, ...] = ()


def run_both(
    pair: Pair,
    options: RunOptions,
    make_runner: MakeRunner,
    progress: Optional[Progress] = None,
) -> Ran:
    """Run both graphs on the same samples and compare.

    Args:
        pair: the graphs.
        options: see RunOptions.
        make_runner: makes the sessions.
        progress: called with (done, total, what).

    Raises:
        InputError: an input, label or output that does not fit, an unsafe op, or a reference that
            cannot be run although the options ask for it.
        MissingDependencyError, UnsupportedError: TensorFlow is missing, or does not know an op of
            the reference, although the options ask for a run.
    """
    try:
        return _run(pair, options, make_runner, progress)
    except (InputError, UnsupportedError, MissingDependencyError) as error:
        if options.demanding:
            raise
        return Ran(notes=(f"the outputs were not compared: {error}",))


def _run(
    pair: Pair, options: RunOptions, make_runner: MakeRunner, progress: Optional[Progress]
) -> Ran:
    view = pair.reference_view
    interface = find_interface(pair.reference, view)
    tensors = _tensors(view, interface, options)
    if not tensors:
        raise InputError("no output was found to compare: name one with --outputs")
    arrays, labels = _arrays(view, options)
    for looked_at in (view, pair.candidate_view):
        check_safe(looked_at, tensors, _fed(interface, arrays), options.allow_unsafe_ops)
    counter = None if labels is None else Counter(labels)
    with ExitStack() as stack:
        before = stack.enter_context(make_runner(pair.reference, not options.exact))
        feeds = _feeds(before, view, interface, tensors, arrays, options)
        if options.save_golden is not None:
            golden = record_golden(before, tensors, feeds, pair.reference.digest, before.version)
            save_golden(options.save_golden, golden, options.force)
        try:
            after = stack.enter_context(make_runner(pair.candidate, not options.exact))
        except (InputError, UnsupportedError) as error:
            return Ran(_impossible(feeds, options, str(error)))
        outputs = compare_outputs(
            before,
            after,
            tensors,
            feeds,
            options.limits,
            options.exact,
            progress,
            None if counter is None else counter.observe,
        )
    layers = None
    if options.layers or options.keep is not None:
        layers = _layers(pair, tensors, feeds, options, make_runner, progress)
    accuracy = None if counter is None else counter.result()
    notes = feeds.notes + outputs.notes + (() if layers is None else layers.notes)
    if before.random:
        notes += (
            f"{before.random[0]} ({text.plural(len(before.random), 'op')} in all) draws random "
            "numbers: both graphs were made to draw the same ones",
        )
    return Ran(outputs, layers, accuracy, notes)


def run_golden(
    golden: Golden,
    candidate: Graph,
    view: View,
    options: RunOptions,
    make_runner: MakeRunner,
    progress: Optional[Progress] = None,
) -> Ran:
    """Run the candidate on the samples of golden data and compare; see ``run_both``.

    Raises:
        InputError: labels that do not fit, an unsafe op, or options that golden data do not allow.
        MissingDependencyError: TensorFlow is missing.
    """
    if options.inputs is not None or options.outputs or options.layers or options.keep is not None:
        raise InputError(
            "golden data hold inputs and outputs, and there is no reference to look into: leave "
            "out --inputs, --outputs, --layers and --keep"
        )
    fed = frozenset(golden.feeds.tensors)
    check_safe(view, golden.tensors, fed, options.allow_unsafe_ops)
    labels = _labels(options)
    counter = None if labels is None else Counter(labels)
    observe = None if counter is None else counter.observe
    try:
        with make_runner(candidate, not options.exact) as runner:
            outputs = compare_golden(
                golden, runner, options.limits, options.exact, progress, observe
            )
    except UnsupportedError as error:
        return Ran(_impossible(golden.feeds, options, str(error)))
    accuracy = None if counter is None else counter.result()
    recorded = (
        f"the golden data are from TensorFlow {golden.tensorflow} and the graph "
        f"{golden.graph_digest[:12]}..."
    )
    return Ran(outputs, accuracy=accuracy, notes=(recorded, *golden.feeds.notes, *outputs.notes))


def _layers(
    pair: Pair,
    tensors: Tuple[str, ...],
    feeds: Feeds,
    options: RunOptions,
    make_runner: MakeRunner,
    progress: Optional[Progress],
) -> LayersResult:
    return analyse_layers(
        pair.reference,
        pair.candidate,
        pair.reference_view,
        pair.candidate_view,
        _as_computed(pair),
        tensors,
        feeds,
        make_runner,
        options.keep,
        options.limits.min_sqnr,
        progress=progress,
    )


def _as_computed(pair: Pair) -> List[WeightSite]:
    """The weights in the order in which their ops run; those in functions last."""
    order = pair.reference_view.main.topological_order()
    last = len(order)

    def place(site: WeightSite) -> int:
        ops = [item.node for item in site.consumers if not item.scope]
        return min((order[name] for name in ops), default=last)

    return sorted(pair.sites, key=place)


def _tensors(view: View, interface: Interface, options: RunOptions) -> Tuple[str, ...]:
    if options.outputs:
        return tuple(tensor_name(view.main, name, "output") for name in options.outputs)
    return interface.tensors


def _arrays(
    view: View, options: RunOptions
) -> Tuple[Optional[Mapping[str, np.ndarray]], Optional[np.ndarray]]:
    """Feeds and labels; an array ``labels`` among the feeds that is no tensor is the labels."""
    labels = _labels(options)
    arrays: Any = options.inputs
    if isinstance(arrays, (str, Path)):
        arrays = read_npz(arrays)
    if arrays is not None and LABELS in arrays and LABELS not in view.main.nodes:
        arrays = dict(arrays)
        found = arrays.pop(LABELS)
        labels = as_labels(found) if labels is None else labels
    return arrays, labels


def _labels(options: RunOptions) -> Optional[np.ndarray]:
    labels: Any = options.labels
    if isinstance(labels, (str, Path)):
        return read_labels(labels)
    return None if labels is None else as_labels(np.asarray(labels))


def _fed(interface: Interface, arrays: Optional[Mapping[str, np.ndarray]]) -> frozenset:
    if arrays is None:
        return frozenset(item.tensor for item in interface.placeholders)
    return frozenset(name if ":" in name else f"{name}:0" for name in arrays)


def _feeds(
    runner: Runner,
    view: View,
    interface: Interface,
    tensors: Tuple[str, ...],
    arrays: Optional[Mapping[str, np.ndarray]],
    options: RunOptions,
) -> Feeds:
    if arrays is None:
        return find_feeds(
            runner, view.main, interface.placeholders, tensors, options.seed, options.samples
        )
    declared: Dict[str, Declared] = {}
    for name in arrays:
        if name.partition(":")[0] in view.main.nodes:
            tensor = tensor_name(view.main, name)
            declared[tensor] = runner.declared(tensor)
    return bind_feeds(arrays, view.main, interface.placeholders, tensors, declared)


def _impossible(feeds: Feeds, options: RunOptions, why: str) -> OutputsResult:
    """The result for a candidate of which no session can be made."""
    problem = Problem(OUTPUTS, "cannot_run", "", f"the candidate cannot be run: {why}")
    return OutputsResult(
        (),
        len(feeds.samples),
        feeds.to_json(),
        options.limits,
        options.exact,
        None,
        (),
        (problem,),
    )
