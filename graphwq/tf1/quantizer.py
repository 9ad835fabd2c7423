"""WeightQuantizer: a live TensorFlow 1 graph is trained on the grid that it will ship on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Union
from weakref import ref

from graphwq.errors import ArgumentError, CallOrderError
from graphwq.graphdef.atomic import check_output
from graphwq.graphdef.source import save
from graphwq.quant.scheme import check_num_bits
from graphwq.survey.sites import Skip
from graphwq.text import name as printable_name
from graphwq.tf1 import strip
from graphwq.tf1.compress import closing_nodes, save_compress_params
from graphwq.tf1.export import export
from graphwq.tf1.flag import new_flag
from graphwq.tf1.load import training_tensorflow as tensorflow
from graphwq.tf1.masks import Masks
from graphwq.tf1.order import check_no_gradients
from graphwq.tf1.place import Inserted, place
from graphwq.tf1.sites import find


class WeightQuantizer:
    """Finetune a network to low bits: every weight is fake-quantized where the graph uses it.

    Built after the forward graph and before the optimizer; then ``init`` once after the checkpoint
    is restored, ``update`` after each training step, and ``strip_wq_ops`` or ``export`` at the end.
    (``mnncompress.tensorflow.weight_quantizer`` has the same calls.)

    Args:
        graph: a tf.Graph; the default graph where not given.
        bits: 2..8; 2 is ternary.
        debug_info: say on stderr what is found and done.
        epsilon: added to every scale. 0 gives the grid of ``graphwq quantize`` and of the MNN
            converter; mnncompress adds 1e-9.

    Attributes:
        bits: of every weight.
        weights: the names of the quantized weights.
        skips: float constants and variables that stay as they are, with reasons.
        sparsity: after ``init``: the part of each trained variable that is zero, and stays so.
        inserted: what was inserted, with tensors for scale, codes and values.

    Raises:
        ArgumentError: (also a ValueError) ``bits`` is not a whole number in 2..8, the graph holds
            gradients, or no weight is found.
        CallOrderError: (also a RuntimeError) the graph has a quantizer already.
    """

    def __init__(
        self,
        graph: Optional[Any] = None,
        bits: int = 8,
        debug_info: bool = False,
        epsilon: float = 0.0,
    ) -> None:
        bits = int(bits) if bits in range(10) else bits
        check_num_bits(bits, ArgumentError)
        default = tensorflow().get_default_graph()
        self.graph = default if graph is None else graph
        self.bits = bits
        self.sparsity: Dict[str, float] = {}
        self._debug = debug_info
        self._initialized = False
        self._session: Callable[[], Optional[Any]] = lambda: None
        self._outputs: Union[str, Sequence[str]] = ()
        if strip.has_quantizer(self.graph):
            raise CallOrderError(
                "the graph has a WeightQuantizer already: call strip_wq_ops before building another"
            )
        check_no_gradients(self.graph)
        found = find(self.graph)
        if not found.insertions:
            reasons = sorted({skip.reason for skip in found.skips}) or ["the graph holds no float"]
            raise ArgumentError(
                f"no weight found to quantize ({', '.join(reasons)}): build the WeightQuantizer "
                "after the forward graph, in the same graph"
            )
        self.skips: Tuple[Skip, ...] = found.skips
        stripped = new_flag(self.graph).stripped
        self.inserted: Tuple[Inserted, ...] = tuple(
            place(self.graph, insertion, stripped, bits, epsilon) for insertion in found.insertions
        )
        names = [name for item in found.insertions for name in item.variables]
        self._masks = Masks(self.graph, list(dict.fromkeys(names)))
        self.weights = tuple(dict.fromkeys(item.weight for item in found.insertions))
        for weight in self.weights:
            self._say(f"{printable_name(weight)}: {bits} bits")

    def init(self, sess: Any) -> None:
        """Find the zeros that ``update`` keeps; call once, when the variables have their values.

        Adds nothing to the graph.

        Raises:
            CallOrderError: called twice, or a variable is not initialized.
        """
        if self._initialized:
            raise CallOrderError("WeightQuantizer.init was called already: call it only once")
        self.attach(sess)

    def attach(self, sess: Any) -> None:
        """``init`` the first time; later calls make another session known, with the same masks.

        Raises:
            CallOrderError: a variable is not initialized.
        """
        if not self._initialized:
            self.sparsity = self._masks.find(sess)
            self._initialized = True
            for weight, part in self.sparsity.items():
                self._say(f"{printable_name(weight)}: {part:.1%} zeros")
        self._know(sess)

    def update(self, sess: Any) -> None:
        """Set pruned weights to zero again; call after each training step.

        After ``strip_wq_ops`` it means that training goes on: the quantization is put back.

        Raises:
            CallOrderError: ``init`` was not called.
        """
        if not self._initialized:
            raise CallOrderError(
                "call WeightQuantizer.init(sess) before update, and before training"
            )
        self._know(sess)
        if strip.is_stripped(self.graph):
            self.resume_wq_ops(sess)
        self._masks.apply(sess)

    def strip_wq_ops(self, sess: Optional[Any] = None) -> None:
        """Let the graph compute with float weights; see ``graphwq.strip_wq_ops``."""
        strip.strip_wq_ops(self.graph, sess)

    def resume_wq_ops(self, sess: Optional[Any] = None) -> None:
        """Undo ``strip_wq_ops``."""
        strip.resume_wq_ops(self.graph, sess)

    def export(
        self,
        sess: Any,
        output_names: Union[str, Sequence[str]],
        path: Union[str, Path],
        bake: bool = True,
        force: bool = False,
    ) -> int:
        """Write a frozen pb without the quantizer's ops; the live graph stays as it is.

        Args:
            sess: holds the trained values.
            output_names: nodes that the pb computes.
            path: of the pb (``.pbtxt`` for text).
            bake: store the quantized values, bit for bit what the training computed with; else the
                float weights, for ``graphwq quantize``.
            force: replace an existing file.

        Returns:
            the number of bytes written.

        Raises:
            ArgumentError: an unknown output.
            InputError: the graph cannot be frozen, or the file exists or cannot be written.
        """
        check_output(Path(path), (), force)
        insertions = [item.insertion for item in self.inserted]
        made = export(self.graph, sess, output_names, insertions, self.bits if bake else None)
        self._outputs = output_names
        return save(made, path, force)

    def save_compress_params(
        self,
        filename: Union[str, Path],
        append: bool = False,
        sess: Optional[Any] = None,
        output_names: Union[str, Sequence[str]] = (),
    ) -> None:
        """Write the MNN compression file: the bits of each layer, by the converter's name for it.

        Args:
            filename: JSON where it ends in ``json``, else binary. An existing file is replaced.
            append: add to what the file holds, for example a pruner's records.
            sess: holds the trained values; the session of ``init`` and ``update`` if not given.
            output_names: what the pb that is converted computes; as in the last ``export``, or the
                nodes that nothing uses, if not given.

        Raises:
            CallOrderError: ``init`` was not called, or its session is gone and none is given.
            InputError: the graph cannot be frozen, or the file cannot be read or written.
        """
        if not self._initialized:
            raise CallOrderError("call WeightQuantizer.init(sess) before save_compress_params")
        session = sess if sess is not None else self._session()
        if session is None or strip.is_closed(session):
            raise CallOrderError(
                "save_compress_params reads the trained weights, but the session of init is "
                "closed: call it before that, or give another session (sess=...)"
            )
        outputs = output_names or self._outputs
        if not outputs:
            used = [op.name for item in self.inserted for op, _ in item.insertion.edges]
            outputs = closing_nodes(strip.stripped_graph_def(self.graph), used)
        insertions = [item.insertion for item in self.inserted]
        frozen = export(self.graph, session, outputs, insertions, None)
        save_compress_params(frozen, self.bits, Path(filename), append)

    def hook(self) -> Any:
        """A SessionRunHook for MonitoredTrainingSession and Estimator."""
        from graphwq.tf1.hooks import WeightQuantizerHook

        return WeightQuantizerHook(self)

    def saver_listener(self) -> Any:
        """A CheckpointSaverListener: checkpoints hold pruned weights as zeros."""
        from graphwq.tf1.hooks import WeightQuantizerSaverListener

        return WeightQuantizerSaverListener(self)

    def keras_callback(self) -> Any:
        """A callback for ``tf.keras.Model.fit``."""
        from graphwq.tf1.hooks import WeightQuantizerCallback

        return WeightQuantizerCallback(self)

    def _know(self, sess: Any) -> None:
        self._session = ref(sess)
        strip.remember(self.graph, sess)

    def _say(self, text: str) -> None:
        if self._debug:
            sys.stderr.write(f"graphwq: {text}\n")
