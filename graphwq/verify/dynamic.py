"""The layers that need a session: outputs, accuracy, and where the error comes from."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Mapping, Optional, Tuple, Union

import numpy as np

from graphwq.errors import InputError, MissingDependencyError, UnsupportedError
from graphwq.graphdef.graph import Graph
from graphwq.survey.view import View
from graphwq.verify.accuracy import LABELS, Accuracy, Counter, as_labels, read_labels
from graphwq.verify.feeds import Declared, Feeds, bind_feeds
from graphwq.verify.interface import Interface, find_interface, tensor_name
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

    @property
    def demanding(self) -> bool:
        """Whether something was asked that only a run can answer."""
        asked = (self.inputs, self.labels, self.limits.min_sqnr, self.limits.max_abs, self.keep)
        return any(item is not None for item in asked) or bool(self.outputs) or self.layers


@dataclass(frozen=True)
class Ran:
    """What running both graphs gave; None where they could not be run, and the reason in a note."""

    outputs: Optional[OutputsResult] = None
    accuracy: Optional[Accuracy] = None
    notes: Tuple[str, ...] = ()


def run_both(
    reference: Graph,
    candidate: Graph,
    views: Tuple[View, View],
    options: RunOptions,
    make_runner: MakeRunner,
    progress: Optional[Progress] = None,
) -> Ran:
    """Run both graphs on the same samples and compare.

    Args:
        reference, candidate: the graphs.
        views: of them.
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
        return _run(reference, candidate, views, options, make_runner, progress)
    except (InputError, UnsupportedError, MissingDependencyError) as error:
        if options.demanding:
            raise
        return Ran(notes=(f"the outputs were not compared: {error}",))


def _run(
    reference: Graph,
    candidate: Graph,
    views: Tuple[View, View],
    options: RunOptions,
    make_runner: MakeRunner,
    progress: Optional[Progress],
) -> Ran:
    interface = find_interface(reference, views[0])
    tensors = _tensors(views[0], interface, options)
    if not tensors:
        raise InputError("no output was found to compare: name one with --outputs")
    arrays, labels = _arrays(views[0], options)
    for view in views:
        check_safe(view, tensors, _fed(interface, arrays), options.allow_unsafe_ops)
    with ExitStack() as stack:
        before = stack.enter_context(make_runner(reference, not options.exact))
        feeds = _feeds(before, views[0], interface, tensors, arrays, options)
        try:
            after = stack.enter_context(make_runner(candidate, not options.exact))
        except (InputError, UnsupportedError) as error:
            return Ran(_impossible(feeds, options, str(error)))
        counter = None if labels is None else Counter(labels)
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
    accuracy = None if counter is None else counter.result()
    return Ran(outputs, accuracy, feeds.notes + outputs.notes)


def _tensors(view: View, interface: Interface, options: RunOptions) -> Tuple[str, ...]:
    if options.outputs:
        return tuple(tensor_name(view.main, name, "output") for name in options.outputs)
    return interface.tensors


def _arrays(
    view: View, options: RunOptions
) -> Tuple[Optional[Mapping[str, np.ndarray]], Optional[np.ndarray]]:
    """Feeds and labels; an array ``labels`` among the feeds that is no tensor is the labels."""
    labels: Any = options.labels
    if isinstance(labels, (str, Path)):
        labels = read_labels(labels)
    elif labels is not None:
        labels = as_labels(np.asarray(labels))
    arrays: Any = options.inputs
    if isinstance(arrays, (str, Path)):
        arrays = read_npz(arrays)
    if arrays is not None and LABELS in arrays and LABELS not in view.main.nodes:
        arrays = dict(arrays)
        found = arrays.pop(LABELS)
        labels = as_labels(found) if labels is None else labels
    return arrays, labels


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
