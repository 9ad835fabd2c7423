"""The exception families of graphwq.

Every message is one line and says what is wrong, where, and what to do about it. ``exit_code`` is
what the command line returns for the family.
"""

from __future__ import annotations


class GraphWQError(Exception):
    """Base of every error that graphwq raises on purpose."""

    exit_code = 2


class InputError(GraphWQError):
    """A file or an argument is wrong; the user can mend it."""


class ArgumentError(InputError, ValueError):
    """A wrong argument or graph of the training API, which other code catches as a ValueError."""


class CallOrderError(InputError, RuntimeError):
    """A call of the training API at the wrong time, which other code catches as a RuntimeError."""


class UnsupportedError(GraphWQError):
    """The input is legal, but graphwq cannot do this with it."""


class QuantizationError(GraphWQError):
    """A weight cannot be put on the grid that the plan asks for (NaN, Inf, out of range)."""


class MissingDependencyError(GraphWQError):
    """An optional package is needed; the message says which extra installs it."""


class InvariantError(GraphWQError):
    """A promise that graphwq makes about its own output does not hold: a bug in graphwq."""

    exit_code = 70
