"""Record what mnncompress 0.3.2 trains, for test_parity.py.

    pip download --no-deps mnncompress==0.3.2      # in an environment of its own
    python tests/tf/record_mnncompress.py          # with mnncompress and TensorFlow 1.15.3

mnncompress' telemetry is replaced before it is imported: at import it would ask a server for
credentials, and pip-install what it needs for that. Modules that WeightQuantizer has no use for
(yaml, tensorly) are replaced too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from parity import CASES, FLOAT, fingerprint, train

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "training"


def _module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module


class _Silent:
    def on_done(self, *_args: Any) -> bool:
        return True


def main() -> None:
    _module("mnncompress.common.log", mnn_logger=_Silent())
    _module("yaml")
    _module("tensorly")
    _module("tensorly.decomposition", partial_tucker=None)
    from mnncompress.tensorflow import WeightQuantizer

    trained = {case: train(lambda bits: WeightQuantizer(bits=bits), case) for case in CASES}
    trained[FLOAT] = train(None, FLOAT)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    hashes = {case: fingerprint(weights) for case, weights in trained.items()}
    about = "sha256 of the weights after 200 steps; see tests/tf/record_mnncompress.py"
    text = json.dumps({"about": about, "mnncompress": "0.3.2", "sha256": hashes}, indent=1)
    (GOLDEN / "mnncompress.json").write_text(text + "\n")
    arrays = {f"{case}/{name}": value for case in CASES for name, value in trained[case].items()}
    np.savez_compressed(GOLDEN / "mnncompress.npz", **arrays)


if __name__ == "__main__":
    main()
