"""Whole models in TensorFlow, TensorFlow Lite and MNN: outputs and time of a step, against float.

    python benchmarks/inference.py FLOAT.pb [NAME=FILE ...]      FILE.pb, FILE.tflite or FILE.mnn

Prints JSON: name -> {"ratio", "milliseconds", "sqnr_db"}. Graphs (.pb) and .tflite models run in
this process and take turns with the float graph; a ratio is the median over the turns of the time
against the float graph's two turns around it. An .mnn model runs alone in a process of its own,
after which the float graph runs again, and its ratio is one of medians.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List

import numpy as np
import support  # noqa: F401  (makes graphwq importable)

from graphwq.mnn.model import read as read_model
from graphwq.tf1.session import tensorflow

_TURNS = 9
_TURN_SECONDS, _TURN_STEPS = 0.2, 2
#: What takes longer than this in one step is timed in fewer turns.
_SLOW_SECONDS, _SLOW_TURNS = 2.0, 3

_MNN = """
import json, sys, time
sys.modules["_socket"] = None
import MNN.expr as expr, numpy as np
from MNN import nn
model, feed, output, seconds, source, target = sys.argv[1:]
module = nn.load_module_from_file(model, [source], [target])
x = np.load(feed)
def step():
    given = expr.const(x, list(x.shape), expr.NHWC, expr.float)
    value = module.forward([given])[0]
    if value.data_format == expr.NC4HW4:
        value = expr.convert(value, expr.NHWC)
    return np.array(value.read())
np.save(output, step())
times, end = [], time.perf_counter() + float(seconds)
while time.perf_counter() < end or len(times) < 5:
    begin = time.perf_counter(); step(); times.append(time.perf_counter() - begin)
print(json.dumps(times))
"""

Step = Callable[[], np.ndarray]


def graph_step(path: Path, x: np.ndarray) -> Step:
    """A step of a frozen graph in a session with TensorFlow's default options."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        proto = tf.GraphDef.FromString(path.read_bytes())
        tf.import_graph_def(proto, name="")
        del proto
    session = tf.Session(graph=graph)
    feeds = [graph.get_tensor_by_name("x:0")]
    call = session.make_callable(graph.get_tensor_by_name("out:0"), feed_list=feeds)
    return lambda: np.asarray(call(x))


def lite_step(path: Path, x: np.ndarray) -> Step:
    """A step of TensorFlow Lite's interpreter."""
    interpreter = tensorflow().lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]

    def step() -> np.ndarray:
        interpreter.set_tensor(source, x)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(target))

    return step


def turn(step: Step, steps: int) -> float:
    """Median seconds of a step."""
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return median(times)


def paired(reference: Step, step: Step) -> Dict[str, float]:
    """Time of a step, and its ratio to the reference's."""
    once = max(turn(reference, 2), turn(step, 2))
    turns = _TURNS if once < _SLOW_SECONDS else _SLOW_TURNS
    counts = [max(_TURN_STEPS, int(_TURN_SECONDS / turn(each, 2))) for each in (reference, step)]
    before = turn(reference, counts[0])
    ratios, times = [], []
    for _ in range(turns):
        mine = turn(step, counts[1])
        after = turn(reference, counts[0])
        ratios.append(2 * mine / (before + after))
        times.append(mine)
        before = after
    return {"ratio": median(ratios), "milliseconds": median(times) * 1e3}


def mnn(path: Path, x: np.ndarray, reference: Step) -> Dict[str, Any]:
    """The same for an MNN model; with its output under "value"."""
    with tempfile.TemporaryDirectory() as folder:
        feed, output = Path(folder) / "x.npy", Path(folder) / "out.npy"
        np.save(str(feed), x)
        argv = [sys.executable, "-c", _MNN, str(path), str(feed), str(output), "2"]
        names = read_model(path)
        argv += [names.inputs[0], names.outputs[0]]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the MNN runtime failed (status {done.returncode})")
        times = json.loads(done.stdout.decode().splitlines()[-1])
        value = np.load(str(output))
    mine = median(times)
    ratio = mine / turn(reference, max(5, int(1 / turn(reference, 2))))
    return {"ratio": ratio, "milliseconds": mine * 1e3, "value": value}


def sqnr_db(reference: np.ndarray, value: np.ndarray) -> float:
    """Signal to noise of an output, at most 200 dB."""
    if reference.size != value.size or not np.isfinite(value).all():
        return float("nan")
    exact = reference.astype(np.float64).reshape(-1)
    noise = float(np.square(exact - value.reshape(-1)).sum())
    signal = float(np.square(exact).sum())
    return min(200.0, float(10 * np.log10(signal / noise)) if noise else 200.0)


def main(arguments: List[str]) -> None:
    """Run as a script."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tensorflow().get_logger().setLevel("ERROR")
    source = Path(arguments[0])
    x = _feed(source)
    reference = graph_step(source, x)
    exact = reference()
    found: Dict[str, Dict[str, Any]] = {}
    for name, path in (argument.split("=", 1) for argument in arguments[1:]):
        try:
            if path.endswith(".mnn"):
                found[name] = mnn(Path(path), x, reference)
                value = found[name].pop("value")
            else:
                make = lite_step if path.endswith(".tflite") else graph_step
                step = make(Path(path), x)
                value = step()
                found[name] = dict(paired(reference, step))
            found[name]["sqnr_db"] = sqnr_db(exact, value)
        except Exception as error:
            lines = str(error).strip().splitlines()
            found[name] = {"failure": lines[-1][:160] if lines else type(error).__name__}
    json.dump(found, sys.stdout)


def _feed(source: Path) -> np.ndarray:
    from graphwq.graphdef.source import load

    node = next(node for node in load(source).nodes if node.op == "Placeholder")
    attr = node.attr("shape")
    assert attr is not None
    shape = [dim.size for dim in attr.shape.dim]
    return np.random.RandomState(1).randn(*shape).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])
