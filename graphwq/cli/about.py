"""Errors say which file they are about."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from graphwq.errors import InputError, QuantizationError, UnsupportedError


@contextmanager
def about(path: Path, *others: Path) -> Iterator[None]:
    """Put the path in front of an error that names neither it nor one of the others."""
    try:
        yield
    except (InputError, QuantizationError, UnsupportedError) as error:
        if any(str(named) in str(error) for named in (path, *others)):
            raise
        raise type(error)(f"{path}: {error}") from error
