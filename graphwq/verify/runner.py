"""What verify needs of whatever runs a graph; graphwq/tf1/session.py provides it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Protocol
else:
    Protocol = object


class Runner(Protocol):
    """A graph that can be run.

    Strings are object arrays of bytes. Tensors are named ``node:port``.

    Attributes:
        version: of what runs it.
        random: names of ops that draw random numbers: the same ones in each run, and in all
            graphs in which they have this name.
    """

    version: str
    random: Tuple[str, ...]

    def run(
        self, outputs: Sequence[str], feeds: Optional[Mapping[str, np.ndarray]] = None
    ) -> Dict[str, np.ndarray]:
        """Fetch tensors, feeding others.

        Raises:
            InputError: an unknown tensor, a feed that does not fit, an op that fails.
            UnsupportedError: an op for which there is no kernel.
        """
        ...

    def declared(self, tensor: str) -> Tuple[int, Optional[Tuple[int, ...]]]:
        """The DataType number and the static shape (-1: unknown; None: unknown rank) of a tensor.

        Raises:
            InputError: the graph has no such tensor.
        """
        ...

    def output_count(self, node: str) -> int:
        """How many outputs a node has.

        Raises:
            InputError: the graph has no such node.
        """
        ...
