"""Errors say which file they are about."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from graphwq.errors import InputError, QuantizationError, UnsupportedError


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Put the path in front of an error that does not name it."""
    try:
        yield
    except (InputError, QuantizationError, UnsupportedError) as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
