"""The options that ``plan``, ``quantize`` and ``mnn`` share."""

from __future__ import annotations

import argparse
from typing import Optional, Sequence, Tuple

from graphwq.cli import plans
from graphwq.errors import InputError
from graphwq.quant.scheme import GPTQ, METHODS
from graphwq.rewrite.options import GRANULARITIES, Options
from graphwq.rewrite.plan import STORAGES, Plan, Rule

#: Not a method of a weight: chooses one for each.
AUTO = "auto"


def configure(parser: argparse.ArgumentParser, for_mnn: Sequence[str] = ()) -> None:
    """Add the options that say what is to be quantized and how.

    Args:
        parser: of the command.
        for_mnn: of the commands that lead to the MNN converter: the storage forms it can read, the
            default first. There no weight is skipped for being larger as integers.
    """
    group = parser.add_argument_group("what and how")
    group.add_argument("--bits", type=_number, metavar="N", help="2..8 (default 8)")
    group.add_argument(
        "--method",
        choices=(*METHODS, AUTO),
        help="how scale and codes are chosen: absmax: scale from the largest value (default); mse: "
        "the scale of least error; squant: rounding errors cancel within a kernel and a channel; "
        "gptq: second-order rounding under what the layers see (runs TensorFlow, see "
        "--calibration); auto: gptq where measuring says that it is better, else absmax",
    )
    group.add_argument(
        "--storage",
        choices=for_mnn or STORAGES,
        help="the form in which the converter gets the weights: bake (default) or dequant; both "
        "give the same model"
        if for_mnn
        else "dequant: integers and arithmetic, the small file (default); bake: float constants "
        "with the quantized values; fake_quant: behind FakeQuant ops",
    )
    group.add_argument(
        "--granularity",
        choices=GRANULARITIES,
        help="which values share a scale: an output channel (default), the whole tensor, or a "
        "group of input channels within an output channel",
    )
    group.add_argument(
        "--group-size", type=_number, metavar="N", help="input channels in a group (default 32)"
    )
    group.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="PATTERN=BITS",
        help="other bits (or 'float') for the weights whose name matches a shell pattern; may be "
        "repeated, the last match wins",
    )
    group.add_argument(
        "--include", action="append", default=[], metavar="PATTERN", help="only these weights"
    )
    group.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="not these weights"
    )
    group.add_argument(
        "--ops", metavar="OP,OP", help="only weights used by these ops (Conv2D,MatMul)"
    )
    group.add_argument(
        "--min-elements", type=_number, metavar="N", help="leave smaller weights as they are"
    )
    if for_mnn:
        parser.set_defaults(keep_larger=False)  # of no effect: larger ones are always kept
        parser.set_defaults(target_bits=None, target_size=None)  # of a plan: mnn takes --plan
    else:
        group.add_argument(
            "--target-bits",
            type=_float,
            metavar="N",
            help="mixed precision: bits for each weight by a cost table, together no larger than "
            "with N bits (4.0, 3.5) for all",
        )
        group.add_argument(
            "--target-size",
            metavar="SIZE",
            help="mixed precision for a file of at most that size: 20%% of the float graph, 1.2MB, "
            "300kB, or a number of bytes",
        )
        group.add_argument(
            "--keep-larger",
            action="store_true",
            help="also quantize weights whose integer form is not smaller on disk",
        )
    group.add_argument(
        "--correct-bias",
        action="store_true",
        help="let biases and moving means that are there take the mean of the layers' output "
        "errors, measured on the inputs of --calibration",
    )
    group.add_argument(
        "--scale-bits",
        type=_number,
        metavar="N",
        help="significant bits of a scale, 24 (default) or 13..16, which lets FakeQuant ops stand "
        "on the weights themselves",
    )


def from_arguments(arguments: argparse.Namespace) -> Options:
    """The Options that the arguments ask for.

    Raises:
        InputError: a rule or number is wrong.
    """
    chosen = {
        "bits": arguments.bits,
        "storage": arguments.storage,
        "granularity": arguments.granularity,
        "group_size": arguments.group_size,
        "min_elements": arguments.min_elements,
        "scale_bits": arguments.scale_bits,
        "method": GPTQ if arguments.method == AUTO else arguments.method,
        "target_bits": arguments.target_bits,
        "target_size": arguments.target_size,
    }
    if arguments.bits is not None and has_target(arguments):
        raise InputError("a target chooses the bits of every weight: leave out --bits")
    if arguments.group_size is not None and arguments.granularity is None:
        chosen["granularity"] = "group"
    return Options(
        rules=tuple(_rule(item) for item in arguments.rule),
        include=tuple(arguments.include),
        exclude=tuple(arguments.exclude),
        ops=_listed(arguments.ops),
        keep_larger=arguments.keep_larger,
        correct_bias=arguments.correct_bias,
        **{key: value for key, value in chosen.items() if value is not None},
    )


def has_target(arguments: argparse.Namespace) -> bool:
    """Whether the width of every weight is to be chosen."""
    return arguments.target_bits is not None or arguments.target_size is not None


def given(arguments: argparse.Namespace) -> Tuple[str, ...]:
    """Those of these options, apart from --storage, that stand on the command line."""
    names = ["bits", "granularity", "group_size", "rule", "include", "exclude", "ops"]
    names += ["min_elements", "keep_larger", "scale_bits", "method"]
    names += ["target_bits", "target_size", "correct_bias"]
    values = {name: getattr(arguments, name) for name in names}
    return tuple(
        "--" + name.replace("_", "-")
        for name, value in values.items()
        if not (value is None or value is False or value == [])
    )


def read_plan(arguments: argparse.Namespace) -> Optional[Plan]:
    """The plan of ``--plan``; None where it is not given.

    Raises:
        InputError: not a plan, or there are options beside it that would have no effect.
    """
    if arguments.plan is None:
        return None
    clash = given(arguments)
    if clash:
        raise InputError(f"{clash[0]} has no effect with --plan: leave it out, or make a new plan")
    return plans.read_plan(arguments.plan)


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number") from error


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number") from error


def _rule(item: str) -> Rule:
    pattern, sign, bits = item.rpartition("=")
    if not sign or not pattern:
        raise InputError(f"--rule {item!r}: write PATTERN=BITS, for example 'conv1/*=4'")
    if bits == "float":
        return Rule(pattern, None)
    if not (bits.isascii() and bits.isdigit()):
        raise InputError(f"--rule {item!r}: {bits!r} is neither a number of bits nor 'float'")
    return Rule(pattern, int(bits))


def _listed(value: Optional[str]) -> Tuple[str, ...]:
    return tuple(item.strip() for item in (value or "").split(",") if item.strip())
