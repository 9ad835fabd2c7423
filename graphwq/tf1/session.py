"""Running a graph in TensorFlow, 1.15 or 2.x (the only way into a tf.Session)."""

from __future__ import annotations

import zlib
from types import ModuleType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef.dtypes import REF_OFFSET
from graphwq.graphdef.graph import Graph
from graphwq.tf1.load import every_op, tensorflow

_NO_KERNEL = "No OpKernel was registered"
#: TensorFlow's own graph seed where only ops have one.
_GRAPH_SEED = 87654321
#: Lines in front of the one that says what is wrong.
_BEFORE = ("Graph execution error:", "Detected at node ", "Node: '")


def unregistered_ops(graph: Graph) -> Tuple[Tuple[str, str], ...]:
    """(op, node) of each op that this TensorFlow does not know, with the first node that has it.

    Raises:
        MissingDependencyError: TensorFlow is not installed.
    """
    return _unregistered(graph, every_op(tensorflow()))


def _unregistered(graph: Graph, ops: Mapping[str, Any]) -> Tuple[Tuple[str, str], ...]:
    first: Dict[str, str] = {}
    for scope in graph.scopes:
        for node in scope.nodes:
            first.setdefault(node.op, node.name)
    known = set(ops).union(scope.name for scope in graph.scopes)
    return tuple((op, node) for op, node in first.items() if op not in known)


class Runner:
    """A graph in a session of its own.

    Args:
        graph: to be run.
        optimize: leave TensorFlow's graph optimizers on (as users run it); off, every op of the
            graph is executed as it stands.
        threads: intra-op threads; 1 makes sums reproducible.

    Attributes:
        version: of TensorFlow.
        dropped: "op.attribute" of what a newer TensorFlow wrote and this one does not know. Such
            attributes are left out, as TensorFlow itself does with those that have their default.
        random: names of random ops. Those without a seed are given one, made of their name, and
            each run has a session of its own, so that runs and graphs that are compared draw the
            same numbers.

    Raises:
        InputError: TensorFlow cannot import the graph; the message is TensorFlow's.
        UnsupportedError: the graph has an op that TensorFlow does not know.
        MissingDependencyError: TensorFlow is not installed.
    """

    def __init__(self, graph: Graph, optimize: bool = True, threads: int = 1) -> None:
        tf = tensorflow()
        ops = every_op(tf)
        for op, node in _unregistered(graph, ops)[:1]:
            raise UnsupportedError(
                f"TensorFlow {tf.VERSION} does not know the op {op!r:.200} of node {node!r:.200}: "
                "the graph cannot be run"
            )
        proto = tf.GraphDef.FromString(graph.to_bytes())
        nodes = _nodes(proto)
        self.dropped = _drop_unknown_attributes(nodes, ops)
        self.random = _seed(nodes)
        self.graph = tf.Graph()
        with self.graph.as_default():
            try:
                tf.import_graph_def(proto, name="")
            except (ValueError, KeyError, tf.errors.OpError) as error:
                raise InputError(f"TensorFlow cannot import the graph: {_first(error)}") from error
        self._tf = tf
        self.version: str = tf.VERSION
        self._config = _config(tf, optimize, threads)
        self._session = tf.Session(graph=self.graph, config=self._config)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the session."""
        self._session.close()

    def run(
        self, outputs: Sequence[str], feeds: Optional[Mapping[str, np.ndarray]] = None
    ) -> Dict[str, np.ndarray]:
        """Fetch tensors by name (``node:0``), feeding tensors by name.

        Quantized types come as the integers behind them, bfloat16 as float32, strings as object
        arrays of bytes.

        Raises:
            InputError: an unknown tensor, a feed that does not fit, or an op that fails.
            UnsupportedError: an op for which TensorFlow has no kernel on this machine.
        """
        names: List[str] = list(outputs)
        try:
            if self.random:
                self._session.close()
                self._session = self._tf.Session(graph=self.graph, config=self._config)
            values = self._session.run(names, feed_dict=dict(feeds or {}))
        except (ValueError, TypeError, KeyError, self._tf.errors.OpError) as error:
            message = f"TensorFlow cannot run the graph: {_first(error)}"
            if _NO_KERNEL in message:
                raise UnsupportedError(message) from error
            raise InputError(message) from error
        return {name: _plain(value) for name, value in zip(names, values)}

    def declared(self, tensor: str) -> Tuple[int, Optional[Tuple[int, ...]]]:
        """The DataType number and the static shape (-1: unknown; None: any rank) of a tensor.

        Raises:
            InputError: the graph has no such tensor.
        """
        try:
            found = self.graph.get_tensor_by_name(tensor)
        except (ValueError, KeyError) as error:
            raise InputError(f"the graph has no tensor {tensor!r:.300}") from error
        number = int(found.dtype.as_datatype_enum)
        number = number - REF_OFFSET if number > REF_OFFSET else number
        shape = found.shape
        if shape.ndims is None:
            return number, None
        return number, tuple(-1 if size is None else size for size in shape.as_list())

    def output_count(self, node: str) -> int:
        """How many outputs a node has.

        Raises:
            InputError: the graph has no such node.
        """
        try:
            return len(self.graph.get_operation_by_name(node).outputs)
        except (ValueError, KeyError) as error:
            raise InputError(f"the graph has no node {node!r:.300}") from error

    def make_callable(self, outputs: Sequence[str], feeds: Sequence[str] = ()) -> Any:
        """A function of the feeds' values that runs the session with little overhead."""
        fetches = [self.graph.get_tensor_by_name(name) for name in outputs]
        fed = [self.graph.get_tensor_by_name(name) for name in feeds]
        return self._session.make_callable(fetches, feed_list=fed)


def _plain(value: Any) -> np.ndarray:
    """An array of one of numpy's own types; strings are objects of bytes."""
    array = np.asarray(value, object) if isinstance(value, (bytes, str)) else np.asarray(value)
    if array.dtype.kind in "biufcO":
        return array
    if array.dtype.names is not None and len(array.dtype.names) == 1:  # qint8 and so on
        return array.view(array.dtype[0].base)
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _config(tf: ModuleType, optimize: bool, threads: int) -> Any:
    config = tf.ConfigProto(
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=1,
        device_count={"GPU": 0},
        allow_soft_placement=True,
    )
    if not optimize:
        options = config.graph_options
        options.optimizer_options.opt_level = tf.OptimizerOptions.L0
        options.rewrite_options.disable_meta_optimizer = True
    return config


def _nodes(proto: Any) -> List[Any]:
    """The nodes of the graph and of its functions."""
    bodies = [function.node_def for function in proto.library.function]
    return [node for nodes in (proto.node, *bodies) for node in nodes]


def _drop_unknown_attributes(nodes: Sequence[Any], ops: Mapping[str, Any]) -> Tuple[str, ...]:
    used = {node.op for node in nodes}
    known = {name: {attr.name for attr in op.attr} for name, op in ops.items() if name in used}
    dropped: Dict[str, None] = {}
    for node in nodes:
        if node.op not in known:
            continue
        for name in sorted(node.attr):
            if name not in known[node.op] and not name.startswith("_"):
                del node.attr[name]
                dropped[f"{node.op}.{name}"] = None
    return tuple(dropped)


def _seed(nodes: Sequence[Any]) -> Tuple[str, ...]:
    """The names of random ops, after those without a seed got one made of their name."""
    found: Dict[str, None] = {}
    for node in nodes:
        pair = [node.attr[key] for key in ("seed", "seed2") if key in node.attr]
        if len(pair) < 2 or any(one.WhichOneof("value") != "i" for one in pair):
            continue
        found[node.name] = None
        if not any(one.i for one in pair):
            pair[0].i, pair[1].i = _GRAPH_SEED, zlib.crc32(node.name.encode())
    return tuple(found)


def _first(error: Exception) -> str:
    """The line of TensorFlow's message that says what is wrong.

    TensorFlow 2 puts a stack of "Detected at node ... Node: 'y'" in front of it.
    """
    lines = [line.strip() for line in str(getattr(error, "message", error)).splitlines()]
    starts = [at for at, line in enumerate(lines) if line.startswith(_BEFORE)]
    said = [line for line in lines[starts[-1] + 1 if starts else 0 :] if line]
    return said[0][:300] if said else type(error).__name__
