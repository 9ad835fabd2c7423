"""Write graphwq/diff/op_defaults.json: the default of every attribute of every TensorFlow op.

    .venv/bin/python scripts/op_defaults.py

Needs TensorFlow 1.15.3. Op -> attribute -> serialized AttrValue in hex.
"""

from __future__ import annotations

import json
from pathlib import Path

from tensorflow.core.framework import op_def_pb2  # noqa: TID251
from tensorflow.python import pywrap_tensorflow  # noqa: TID251

TARGET = Path(__file__).resolve().parent.parent / "graphwq" / "diff" / "op_defaults.json"


def main() -> None:
    """Write the table, one op a line."""
    ops = op_def_pb2.OpList()
    ops.ParseFromString(pywrap_tensorflow.TF_GetBuffer(pywrap_tensorflow.TF_GetAllOpList()))
    lines = []
    for op in sorted(ops.op, key=lambda item: item.name):
        defaults = {
            attr.name: attr.default_value.SerializeToString(deterministic=True).hex()
            for attr in op.attr
            if attr.HasField("default_value")
        }
        if defaults:
            lines.append(f"{json.dumps(op.name)}: {json.dumps(defaults, sort_keys=True)}")
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
