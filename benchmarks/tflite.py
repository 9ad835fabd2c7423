"""The peer: TensorFlow Lite's converter, weights to 8 bits, from the frozen graph.

python benchmarks/tflite.py IN.pb OUT.tflite INPUT OUTPUT
"""

from __future__ import annotations

import os
import sys


def main(source: str, target: str, input_name: str, output_name: str) -> None:
    """Run as a script."""
    os.environ["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    import tensorflow as tf  # its converter is a program beside python

    converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(
        source, [input_name], [output_name]
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with open(target, "wb") as file:
        file.write(converter.convert())


if __name__ == "__main__":
    main(*sys.argv[1:])
