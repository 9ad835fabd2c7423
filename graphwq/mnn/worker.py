"""What runs in the child process: the converter and the runtime of the MNN package.

Started as a script by ``child.py`` and imported by nobody. It uses nothing of graphwq, so that a
crash or a hang in native code takes nothing along. Sockets are taken away first: neither the
package nor anything that it imports can talk to the network.

    worker.py convert ARGUMENT ...             the arguments of mnnconvert
    worker.py run MODEL REQUEST.json FEEDS.npz OUTPUTS.npz
"""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List


def convert(arguments: List[str]) -> None:
    """Run the converter; it prints what went wrong and tells nothing by its result."""
    import _tools
    import MNN  # noqa: F401  the converter needs it loaded

    _tools.mnnconvert(["mnnconvert", *arguments])


def run(model: str, request: str, feeds: str, outputs: str) -> None:
    """Run a model on feeds and write its outputs.

    The request is {"inputs": {MNN name: array of FEEDS}, "outputs": {array of OUTPUTS: MNN name}}.
    """
    import MNN.expr as expr
    import numpy as np
    from MNN import nn

    with open(request, encoding="utf-8") as file:
        wanted: Dict[str, Dict[str, str]] = json.load(file)
    inputs, names = wanted["inputs"], wanted["outputs"]
    module = nn.load_module_from_file(model, list(inputs), list(names.values()))
    with np.load(feeds, allow_pickle=False) as arrays:
        given = [_variable(expr, arrays[key]) for key in inputs.values()]
    computed = module.forward(given)
    found = {}
    for key, value in zip(names, computed):
        if value.data_format == expr.NC4HW4:
            value = expr.convert(value, expr.NHWC)
        found[key] = np.array(value.read())
    np.savez(outputs, **found)


def _variable(expr: Any, array: Any) -> Any:
    kinds = {"f": (expr.float, "float32"), "i": (expr.int, "int32"), "u": (expr.int, "int32")}
    kinds["b"] = kinds["i"]
    if array.dtype.name == "uint8":
        kinds["u"] = (expr.uint8, "uint8")
    kind, name = kinds[array.dtype.kind]
    shape = list(array.shape)
    return expr.const(array.astype(name), shape, expr.NHWC, kind)


def main() -> int:
    """Do what the arguments say."""
    sys.path.pop(0)  # the folder of this file: its modules are not for import by their short names
    sys.modules["_socket"] = None  # type: ignore[assignment]
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "convert":
        convert(arguments)
    else:
        run(*arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
