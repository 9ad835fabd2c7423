"""Where the variables of a graph are: the options that every command has which reads graphs.

sources.configure(parser)                  adds them
opened = sources.load(arguments)           reads arguments.graph; opened.graph, opened.files
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from graphwq import text
from graphwq.errors import InputError
from graphwq.graphdef.atomic import check_output
from graphwq.graphdef.opening import Opened, Request, open_source

#: What IN may be, for the help texts.
HELP = "a frozen graph (.pb or .pbtxt), a SavedModel folder, or a MetaGraph with its checkpoint"

#: tf.train.ExponentialMovingAverage's own name.
_AVERAGE = "ExponentialMovingAverage"
_MAX_SHOWN = 5


def configure(parser: argparse.ArgumentParser, outputs: bool = True) -> None:
    """Add the options; ``--outputs`` only where the command has no other use for that name."""
    group = parser.add_argument_group("where the variables are (a frozen graph has none)")
    group.add_argument(
        "--checkpoint",
        metavar="PREFIX",
        type=Path,
        help="the checkpoint with their values, like model.ckpt-100; of a MetaGraph the one beside "
        "it, of a SavedModel its own unless given",
    )
    if outputs:
        group.add_argument(
            "--outputs",
            metavar="NAME,NAME",
            help="keep only what these nodes or tensors need; unless given those of the "
            "signatures, or those that nobody uses",
        )
    group.add_argument("--tags", metavar="TAG,TAG", help="which graph of a SavedModel")
    group.add_argument(
        "--signature", metavar="NAME", help="keep only what this signature needs (default: all)"
    )
    group.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="VARIABLE=KEY",
        help="take a variable from another name in the checkpoint, or with a/=b/ all whose names "
        "begin like that; may be repeated, the last match wins",
    )
    group.add_argument(
        "--ema",
        metavar="SUFFIX",
        nargs="?",
        const=_AVERAGE,
        help=f"take moving averages where there are any (suffix {_AVERAGE} unless given)",
    )
    group.add_argument(
        "--no-checksum", action="store_true", help="do not compare the values with their checksums"
    )


def load(
    arguments: argparse.Namespace, path: Optional[Path] = None, output: Optional[Path] = None
) -> Opened:
    """Read the graph that the arguments name, and say on stderr what became of its variables.

    Args:
        arguments: with the options of ``configure``.
        path: of the graph; ``arguments.graph`` unless given.
        output: what will be written, which must be none of the files that are read.

    Raises:
        InputError, UnsupportedError: see ``opening.open_source``.
    """
    opened = open_source(arguments.graph if path is None else path, request(arguments))
    if output is not None:
        check_output(output, opened.files, force=True)
    if opened.variables:
        names = ", ".join(text.name(name) for name in opened.outputs[:_MAX_SHOWN])
        more = len(opened.outputs) - _MAX_SHOWN
        names += f" and {more} more" if more > 0 else ""
        print(
            f"graphwq: {text.plural(len(opened.variables), 'variable')} from "
            f"{text.one_line(str(opened.checkpoint))}; {_outputs(len(opened.outputs))} {names}",
            file=sys.stderr,
        )
    return opened


def request(arguments: argparse.Namespace) -> Request:
    """What the options say.

    Raises:
        InputError: a rename is not VARIABLE=KEY.
    """
    return Request(
        arguments.checkpoint,
        _listed(arguments.outputs),
        _listed(arguments.tags),
        arguments.signature,
        tuple(_rename(item) for item in arguments.rename),
        arguments.ema,
        not arguments.no_checksum,
    )


def size_of(path: Path, opened: Opened) -> int:
    """The size to compare with: of the file that was given, or of the float graph made from it."""
    return path.stat().st_size if opened.files == (path,) else opened.graph.nbytes


def _outputs(count: int) -> str:
    return "output" if count == 1 else "outputs"


def _listed(value: Optional[str]) -> Tuple[str, ...]:
    found: List[str] = [item.strip() for item in (value or "").split(",")]
    return tuple(item for item in found if item)


def _rename(item: str) -> Tuple[str, str]:
    source, sign, target = item.partition("=")
    if not sign or not source or not target:
        raise InputError(f"--rename {item!r}: write VARIABLE=KEY, for example tower/=model/")
    return source, target
