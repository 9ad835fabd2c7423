"""The command line: finds the command, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import sys
import traceback
from importlib import import_module
from typing import List, NoReturn, Optional, Sequence

from graphwq import __version__
from graphwq.cli import stopping
from graphwq.errors import GraphWQError, InputError
from graphwq.graphdef.watch import check_unchanged, survive
from graphwq.text import one_line

#: Command -> what it is for. The module graphwq.cli.NAME has ``configure`` and ``run``.
COMMANDS = {
    "inspect": "show the weights of a graph, where they go, and whether they are quantized",
    "plan": "decide what to do with every weight and write that down as JSON",
    "quantize": "quantize the weights of a graph and write the new graph",
    "verify": "prove what differs between a graph and what was made of it, and what it costs",
    "report": "show a saved report of verify, or write it as a page",
    "diff": "show what changed between any two graphs, for a review",
    "git": "let git show changes to graphs with graphwq diff",
    "mnn": "go through the MNN converter, bit for bit: lint, convert, command",
}

_EPILOG = """\
begin with:
  graphwq inspect model.pb
  graphwq quantize model.pb -o small.pb --bits 4
  graphwq verify model.pb small.pb

graphwq COMMAND --help explains a command. The graph is run (in TensorFlow, which executes its ops)
by verify without --static, by mnn convert without --no-run, and by --method gptq and auto.
exit status: 0 fine, 1 findings, 2 bad input, 70 an error in graphwq itself"""

INTERNAL_ERROR = 70
INTERRUPTED = 130
_NOT_WRITTEN = "every output is as it was, or complete"
#: stdout is a file, and its disk is full or broken.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like those about files."""

    def error(self, message: str) -> NoReturn:
        """Raise InputError instead of printing the usage and leaving."""
        raise InputError(f"{message} (see {self.prog} --help)")


def build_parser(command: Optional[str] = None) -> argparse.ArgumentParser:
    """The parser; only ``command`` (all where None) is configured, to start quickly."""
    parser = Parser(
        prog="graphwq",
        description="Quantize the weights of frozen TensorFlow 1.x graphs, without training.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"graphwq {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        if command in (None, name):
            import_module(f"graphwq.cli.{name}").configure(sub)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command and return the exit status."""
    arguments: List[str] = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a name shows its escape
            stream.reconfigure(errors="backslashreplace")
    named = next((item for item in arguments if item in COMMANDS), "")
    try:
        with stopping.signals():
            survive()
            return _run(named, arguments)
    except GraphWQError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except BrokenPipeError:
        _drop_output()
        return 0
    except KeyboardInterrupt as stop:
        status = getattr(stop, "status", INTERRUPTED)
        what = "interrupted" if status == INTERRUPTED else f"stopped by {getattr(stop, 'name', '')}"
        _complain(f"{what}; {_NOT_WRITTEN}")
        return int(status)
    except MemoryError:
        _complain("error: not enough memory for this graph; run it on a larger machine")
        return GraphWQError.exit_code
    except OSError as error:
        if error.errno not in _FULL:
            return _internal(error)
        _drop_output()
        _complain(f"error: cannot write to stdout: {error.strerror}; make room, or use -o")
        return GraphWQError.exit_code
    except Exception as error:
        return _internal(error)


def _run(named: str, arguments: List[str]) -> int:
    """Run a command; whatever goes wrong with a file that changes meanwhile is said to be that."""
    try:
        options = build_parser(named).parse_args(arguments)
        status: int = import_module(f"graphwq.cli.{options.command}").run(options)
        check_unchanged()
        sys.stdout.flush()
        return status
    except Exception:
        stopping.again()
        check_unchanged()
        raise


def _internal(error: Exception) -> int:
    if os.environ.get("GRAPHWQ_DEBUG"):
        traceback.print_exception(type(error), error, error.__traceback__)
    _complain(
        f"internal error: {type(error).__name__}: {error} (a bug in graphwq; "
        "set GRAPHWQ_DEBUG=1 for the traceback and report it)"
    )
    return INTERNAL_ERROR


def _drop_output() -> None:
    """What is still buffered for stdout goes nowhere: Python would complain of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def entry() -> int:
    """The console script: ``main`` in a process that ends with it.

    Such a process makes no garbage that is worth looking for, and looking through the nodes of a
    large graph again and again takes a tenth of the time.
    """
    gc.disable()
    status = main()
    stopping.leave()
    return status


def _complain(message: str) -> None:
    print(f"graphwq: {one_line(message)}", file=sys.stderr)
