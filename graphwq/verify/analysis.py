"""The layers layer as one function: sessions are made, errors found, weights to keep chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Sequence

from graphwq.errors import InputError
from graphwq.graphdef.graph import Graph
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View
from graphwq.verify.feeds import Feeds
from graphwq.verify.keep import fewest_to_keep
from graphwq.verify.lab import Lab, MakeRunner, changed_weights
from graphwq.verify.layers import BUDGET, LayersResult, find_errors
from graphwq.verify.outputs import Progress


def analyse_layers(
    reference: Graph,
    candidate: Graph,
    reference_view: View,
    candidate_view: View,
    sites: Sequence[WeightSite],
    tensors: Sequence[str],
    feeds: Feeds,
    make_runner: MakeRunner,
    keep: Optional[str] = None,
    min_sqnr: Optional[float] = None,
    budget: int = BUDGET,
    progress: Optional[Progress] = None,
) -> LayersResult:
    """Find where the error of a candidate comes from.

    Args:
        reference, candidate: the graphs, and views of them.
        sites: the weights of the reference.
        tensors: the outputs of the reference.
        feeds: the samples.
        make_runner: makes sessions.
        keep: also find the fewest weights to keep ``float`` or at ``8`` bits for ``min_sqnr``.
        min_sqnr: dB; needed with ``keep``.
        budget: bytes of tensors that are held at once, of one graph and one sample.
        progress: called with (done, total, what).

    Raises:
        InputError: a graph that cannot be run on the feeds, or ``keep`` without ``min_sqnr``.
        UnsupportedError: an op that TensorFlow does not know.
    """
    if keep is not None and min_sqnr is None:
        raise InputError("to choose weights to keep, say which SQNR the outputs must reach")
    changed = changed_weights(reference_view, candidate_view, sites)
    with Lab(reference, reference_view, sites, make_runner) as lab:
        with make_runner(candidate, False) as runner:
            found = find_errors(
                lab, reference_view, sites, changed, runner, tensors, feeds, budget, progress
            )
        if keep is None or min_sqnr is None or not changed:
            return found
        noise = {effect.weight: effect.noise for effect in found.effects}
        kept = fewest_to_keep(
            lab, sites, changed, noise, tensors, feeds, min_sqnr, keep, progress=progress
        )
    return replace(found, keep=kept)
