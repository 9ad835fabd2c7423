"""What the user wants of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple, Union

from graphwq.errors import InputError
from graphwq.quant.scheme import ABSMAX, FLOAT32_BITS, METHODS, check_num_bits
from graphwq.rewrite.plan import DEQUANT, FAKE_QUANT, STORAGES, Rule
from graphwq.rewrite.target import Target, target_bits, target_size

GRANULARITIES = ("channel", "tensor", "group")


@dataclass(frozen=True)
class Options:
    """What the user wants.

    Attributes:
        bits: 2..8, for every weight that no rule names.
        storage: ``dequant``, ``bake`` or ``fake_quant``.
        granularity: ``channel``, ``tensor`` or ``group``.
        group_size: input channels per group, for ``group``.
        rules: of several that match a weight the last one wins.
        include: shell patterns; where there are any, only weights that match one are quantized.
        exclude: shell patterns of weights that stay float.
        ops: shell patterns; where there are any, only weights used by such an op are quantized.
        min_elements: smaller weights stay float.
        keep_larger: also quantize weights whose integer form is not smaller on disk.
        scale_bits: significant bits of a scale, see QuantScheme.
        method: how scale and codes are chosen, see QuantScheme.
        target_bits: instead of ``bits``: an average, see ``mixed.py``.
        target_size: instead of ``bits``: the size of the file, see ``target.target_size``.
        correct_bias: let biases take the mean of the layers' output errors, see ``survey.bias``.
    """

    bits: int = 8
    storage: str = DEQUANT
    granularity: str = "channel"
    group_size: int = 32
    rules: Tuple[Rule, ...] = ()
    include: Tuple[str, ...] = ()
    exclude: Tuple[str, ...] = ()
    ops: Tuple[str, ...] = ()
    min_elements: int = 0
    keep_larger: bool = False
    scale_bits: int = FLOAT32_BITS
    method: str = ABSMAX
    target_bits: Optional[float] = None
    target_size: Union[int, str, None] = None
    correct_bias: bool = False

    def __post_init__(self) -> None:
        check_num_bits(self.bits)
        for rule in self.rules:
            if rule.num_bits is not None:
                check_num_bits(rule.num_bits)
        if self.storage not in STORAGES:
            raise InputError(f"there is no storage {self.storage!r}: use {', '.join(STORAGES)}")
        if self.method not in METHODS:
            raise InputError(f"there is no method {self.method!r}: use {', '.join(METHODS)}")
        if self.granularity not in GRANULARITIES:
            raise InputError(
                f"there is no granularity {self.granularity!r}: use {', '.join(GRANULARITIES)}"
            )
        if self.group_size < 1:
            raise InputError(f"a group needs at least 1 element, not {self.group_size}")
        if self.min_elements < 0:
            raise InputError(f"the minimum size cannot be negative ({self.min_elements})")
        if self.storage == FAKE_QUANT and self.granularity == "group":
            raise InputError(
                "FakeQuant ops have no scale per group: use another storage or granularity"
            )
        if self.target_bits is not None and self.target_size is not None:
            raise InputError("an average of bits and a size are two targets: give one of them")
        if self.target_size is not None and self.storage != DEQUANT:
            raise InputError(
                f"the storage {self.storage} does not make the file smaller, so there is no size "
                "to aim at: use dequant, or an average of bits"
            )
        _ = self.target  # raises where it is wrong

    @property
    def target(self) -> Optional[Target]:
        """What the widths are chosen for; None where ``bits`` says them."""
        if self.target_bits is not None:
            return target_bits(self.target_bits)
        return None if self.target_size is None else target_size(self.target_size)
