"""The session: what it tells of a graph, and what it says where it cannot run one."""

from __future__ import annotations

import numpy as np
import pytest
from builders import GraphBuilder, dense, random_weight
from rewriting import function_graph

from graphwq.errors import InputError, UnsupportedError
from graphwq.graphdef import dtypes
from graphwq.graphdef.graph import Graph
from graphwq.tf1.session import Runner, tensorflow, unregistered_ops

pytestmark = pytest.mark.tf


def test_what_is_declared() -> None:
    """Dtype and static shape; -1 for a dimension and None for a rank that is not known."""
    b = GraphBuilder()
    x = b.placeholder("x", [-1, 4])
    b.matmul("y", x, b.const("w", random_weight((4, 3))))
    b.op("any", "Relu", [b.placeholder("any_x", None)])
    b.variable("v", [2])
    with Runner(b.graph()) as runner:
        assert runner.declared("y:0") == (dtypes.DT_FLOAT, (-1, 3))
        assert runner.declared("any:0") == (dtypes.DT_FLOAT, None)
        assert runner.declared("v:0") == (dtypes.DT_FLOAT, (2,)), "a reference is its value"
        for wrong in ("z:0", "y:1", "y", "y:a", ""):
            with pytest.raises(InputError, match="no tensor"):
                runner.declared(wrong)


def test_how_many_outputs() -> None:
    """TensorFlow knows, where a NodeDef does not say."""
    b = GraphBuilder()
    b.op("parts", "Split", [b.const("axis", 0), b.placeholder("x", [6])], num_split=3)
    with Runner(b.graph()) as runner:
        assert runner.output_count("parts") == 3
        assert runner.output_count("x") == 1
        with pytest.raises(InputError, match="no node"):
            runner.output_count("nothing")


def test_an_op_that_nobody_knows() -> None:
    """UnsupportedError with op and node, in the main graph and in functions."""
    b = GraphBuilder()
    b.op("strange", "ProdEnvMat", [b.placeholder("x", [3])])
    with pytest.raises(UnsupportedError, match="'ProdEnvMat' of node 'strange'"):
        Runner(b.graph())
    body = GraphBuilder()
    body.op("inner", "NoSuchOp", ["t"])
    b = GraphBuilder()
    b.function("f", [("t", 1)], body, [("r", "inner:output:0", 1)])
    b.call("y", "f", [b.placeholder("x", [3])])
    assert unregistered_ops(b.graph()) == (("NoSuchOp", "inner"),)
    assert unregistered_ops(function_graph()) == ()
    assert unregistered_ops(dense()) == ()


def test_an_op_without_a_kernel() -> None:
    """Known, and not to be run on this machine."""
    b = GraphBuilder()
    x = b.placeholder("x", [1, 2, 8, 8])
    b.op("y", "TPUReplicatedInput", [x], N=1, T=("type", 1))
    with Runner(b.graph()) as runner:
        with pytest.raises(UnsupportedError, match="No OpKernel"):
            runner.run(["y:0"], {"x:0": np.ones((1, 2, 8, 8), np.float32)})


def test_results_are_arrays_of_plain_types() -> None:
    """Scalars, strings, quantized types and bfloat16."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [3], name="x")
        tf.quantize(x, -1.0, 1.0, tf.quint8, name="q")
        tf.cast(x, tf.bfloat16, name="b")
        tf.as_string(x, name="s")
        tf.as_string(tf.reduce_sum(x), name="one")
        tf.reduce_sum(x, name="r")
    made = Graph.parse(graph.as_graph_def().SerializeToString())
    names = ["q:0", "b:0", "s:0", "one:0", "r:0"]
    with Runner(made) as runner:
        found = runner.run(names, {"x:0": np.asarray([0, 0.5, 1], np.float32)})
    assert all(type(value) is np.ndarray for value in found.values())
    assert found["q:0"].dtype == np.uint8
    assert found["b:0"].dtype == np.float32
    assert found["b:0"].tolist() == [0, 0.5, 1]
    assert found["s:0"].dtype == object
    assert found["one:0"].shape == ()
    assert found["one:0"].item() == b"1.500000"
    assert found["r:0"] == 1.5


def test_random_ops_draw_the_same_numbers() -> None:
    """In each run and in each session, with a seed or without; two ops draw different ones."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        tf.random_uniform([64], name="free")
        tf.random_uniform([64], name="other")
        tf.random_uniform([64], seed=5, name="seeded")
        tf.constant(1.0, name="one")
    made = Graph.parse(graph.as_graph_def().SerializeToString())
    names = [f"{op}/RandomUniform" for op in ("free", "other", "seeded")]
    tensors = [f"{name}:0" for name in names]
    with Runner(made) as runner, Runner(made) as second:
        assert runner.random == tuple(names)
        runs = [runner.run(tensors), runner.run(tensors), second.run(tensors)]
    for run in runs[1:]:
        for name in tensors:
            np.testing.assert_array_equal(run[name], runs[0][name])
    assert (runs[0][tensors[0]] != runs[0][tensors[1]]).all()


def test_training_needs_tensorflow_1() -> None:
    """Under TensorFlow 2 the training API says so, in one line; sessions run."""
    import graphwq
    from graphwq.errors import MissingDependencyError
    from graphwq.tf1.load import major

    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        calls = [graphwq.WeightQuantizer, graphwq.strip_wq_ops]
        calls += [lambda: graphwq.WeightQuantizer(graph=graph)]
        for call in calls:
            if major(tf) > 1:
                with pytest.raises(MissingDependencyError, match=r"needs TensorFlow 1\.15"):
                    call()
    with Runner(dense()) as runner:
        assert runner.version == tf.VERSION


def test_messages_of_both_tensorflows() -> None:
    """The line that says what is wrong, whatever stands in front of it."""
    from graphwq.tf1.session import _first

    one = "Input to reshape is a tensor with 10 values\n\t [[{{node y}}]]"
    before = "Detected at node 'y' defined at (most recent call last):\nNode: 'y'"
    two = f"Graph execution error:\n\n{before}\n{one}"
    nested = f"{two}\nDetected at node 'z'\nNode: 'z'\nsecond"
    assert _first(ValueError(one)) == "Input to reshape is a tensor with 10 values"
    assert _first(ValueError(two)) == "Input to reshape is a tensor with 10 values"
    assert _first(ValueError(nested)) == "second"
    assert _first(ValueError("")) == "ValueError"
    assert _first(ValueError("Graph execution error:")) == "ValueError"
