"""Proving what a rewrite did, in layers that each stand alone: structure, weights, outputs.

The package is also the function ``graphwq.verify(reference, candidate, ...)``, which runs them all;
see ``graphwq.verification.verify``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Verify(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Verify a candidate; see ``graphwq.verification.verify``."""
        from graphwq.verification import verify

        return verify(*args, **kwargs)


sys.modules[__name__].__class__ = _Verify
