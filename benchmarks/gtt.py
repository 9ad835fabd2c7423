"""The peer: TensorFlow's Graph Transform Tool, ``quantize_weights``, as a process of its own.

    python benchmarks/gtt.py IN.pb OUT.pb [INPUTS OUTPUTS]     names separated by commas
    python benchmarks/gtt.py --batch JOBS.json                 many graphs, each in a fork

It writes 8-bit codes with one minimum and maximum per tensor and a Dequantize node.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, Dict, List, Sequence

#: A graph that takes longer counts as failed.
_SECONDS = 60.0


def transform(source: str, target: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Quantize one graph."""
    import tensorflow as tf
    from tensorflow.tools.graph_transforms import TransformGraph

    graph = tf.compat.v1.GraphDef()
    with open(source, "rb") as file:
        graph.ParseFromString(file.read())
    result = TransformGraph(graph, list(inputs), list(outputs), ["quantize_weights"])
    with open(target, "wb") as file:
        file.write(result.SerializeToString())


def batch(jobs: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Quantize many graphs; a crash or a hang costs only the graph that caused it.

    TensorFlow is imported once; it starts no thread before its first session, so forks are safe.
    """
    import tensorflow  # noqa: F401
    from tensorflow.tools import graph_transforms  # noqa: F401

    results = []
    for job in jobs:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                transform(job["source"], job["target"], job["inputs"], job["outputs"])
                code = 0
            except BaseException as error:
                print(f"{job['source']}: {error}", file=sys.stderr)
            finally:
                os._exit(code)
        results.append({"file": job["file"], "failure": _wait(pid)})
    return results


def _wait(pid: int) -> str:
    """Why the child failed, or nothing."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"died of signal {os.WTERMSIG(status)}"
            return "refused" if status else ""
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "took too long"


def main(arguments: Sequence[str]) -> None:
    """Run as a script."""
    if arguments[0] == "--batch":
        with open(arguments[1], encoding="utf-8") as file:
            jobs = json.load(file)
        print(json.dumps(batch(jobs)))
        return
    names = [item.split(",") for item in arguments[2:]] or [["x"], ["out"]]
    transform(arguments[0], arguments[1], names[0], names[1])


if __name__ == "__main__":
    main(sys.argv[1:])
