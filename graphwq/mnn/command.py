"""The mnnconvert command for people who run a converter of their own.

What the converter's versions understand (cli.cpp of alibaba/MNN, before and after 2.8.4):

    before 2.8.4      weights are quantized symmetrically unless --weightQuantAsymmetric is there
                      at all, whatever its value; one number of bits for all layers
    2.8.4 to 3.0.3    asymmetrically unless it is =0; one number of bits for all layers
    from 3.0.4        the same, but the records of the compression file come first: bits,
                      asymmetric and block size per layer

So the one form that is right before 2.8.4 and from 3.0.4 on names the bits, leaves the flag out
and lets the records say that the weights are symmetric.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from graphwq.errors import InputError
from graphwq.mnn.compress_params import Record

_DEFAULT_ASYMMETRIC = (2, 8, 4)
_RECORDS_PER_LAYER = (3, 0, 4)


@dataclass(frozen=True)
class Command:
    """A command and what has to be known about it.

    Attributes:
        argv: the command, word by word.
        notes: for whom it is right, and for whom it is not.
    """

    argv: Tuple[str, ...]
    notes: Tuple[str, ...]

    @property
    def line(self) -> str:
        """The command for a shell."""
        return " ".join(shlex.quote(word) for word in self.argv)


def parse_version(text: str) -> Tuple[int, ...]:
    """3.6.0 -> (3, 6, 0).

    Raises:
        InputError: not a version.
    """
    if not re.fullmatch(r"\d{1,4}(\.\d{1,4}){0,2}", text, re.ASCII):
        raise InputError(f"{text!r} is no version of MNN: write it like 2.8.1 or 3.6.0")
    return tuple(int(part) for part in text.split(".")) + (0,) * (2 - text.count("."))


def make(
    graph: Path,
    model: Path,
    params: Path,
    records: Sequence[Record],
    version: Optional[Tuple[int, ...]] = None,
) -> Command:
    """The command that converts a quantized graph as planned.

    Args:
        graph: the baked ``.pb``.
        model: the ``.mnn`` to be made.
        params: the compression file, with a record for every layer, float ones too.
        records: what stands in it.
        version: of the converter; None asks for the form that old and new ones understand.

    Raises:
        InputError: the converter of that version cannot do what the records say.
    """
    argv = ["mnnconvert", "-f", "TF", "--modelFile", str(graph), "--MNNModel", str(model)]
    argv += ["--bizCode", "graphwq"]
    obstacle = _obstacle(records)
    file = ["--compressionParamsFile", str(params)]
    bits = max((record.num_bits for record in records), default=0)
    width = ["--weightQuantBits", str(bits)]
    if version is None:
        return _universal(argv, file, width, obstacle)
    if version >= _RECORDS_PER_LAYER:
        return Command((*argv, *file, "--weightQuantAsymmetric=0"), ())
    if obstacle:
        raise InputError(
            f"a converter before 3.0.4 quantizes all layers alike: {obstacle}; use a newer one"
        )
    if version >= _DEFAULT_ASYMMETRIC:
        return Command((*argv, *width, "--weightQuantAsymmetric=0"), ())
    return Command((*argv, *width), ())


def _universal(argv: List[str], file: List[str], width: List[str], obstacle: str) -> Command:
    if obstacle:
        note = f"for converters from 3.0.4 on: older ones quantize all layers alike, and {obstacle}"
        return Command((*argv, *file), (note,))
    return Command(
        (*argv, *width, *file),
        (
            "for converters before 2.8.4 and from 3.0.4 on; to one in between also give "
            "--weightQuantAsymmetric=0 (before 2.8.4 that would mean the opposite)",
        ),
    )


def _obstacle(records: Sequence[Record]) -> str:
    """Why one number of bits for all layers would not do; "" where it does."""
    widths = sorted({record.num_bits for record in records if record.num_bits})
    if len(widths) > 1:
        return f"this model has layers of {' and '.join(str(bits) for bits in widths)} bits"
    kept = [record.op_name for record in records if not record.num_bits]
    if kept:
        return f"{kept[0]!r} has to stay float"
    if any(record.block_size for record in records):
        return "this model has scales per block"
    return "" if widths else "nothing is quantized in this model"
