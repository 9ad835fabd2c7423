"""The part of a report that says which widths were chosen, and by what."""

from __future__ import annotations

from typing import Optional, Tuple

from graphwq import text
from graphwq.cli import output
from graphwq.rewrite.mixture import COSTS, MixedWeight, Mixture
from graphwq.rewrite.weigh import WIDTHS


def show(mixture: Optional[Mixture], table: bool = False) -> None:
    """Print what a target came to; with ``table`` also what each width would cost each weight."""
    if mixture is None:
        return
    if table:
        columns = ("weight", "values>", "chosen>", *(f"{bits} bits>" for bits in WIDTHS))
        rows = [_row(one) for one in mixture.weights]
        output.print_table(f"error by width: {COSTS[mixture.cost]}", columns, rows)
    total = text.size(mixture.nbytes)
    words = f"mixed for {mixture.target}: {mixture.average_bits:.2f} bits on average, {total}"
    if mixture.uniform_bytes is not None:
        words += f" ({text.size(mixture.uniform_bytes)} with one width for all)"
    print(words)
    if mixture.trials:
        tried = [f"{one.cost} {one.sqnr_db:.1f} dB" for one in mixture.trials]
        print(f"run on inputs, the first is taken: {', '.join(tried)}")


def _row(one: MixedWeight) -> Tuple[str, ...]:
    errors = [f"{choice.error:.2g}" for choice in one.choices if choice.num_bits is not None]
    chosen = "float" if one.chosen is None else str(one.chosen)
    return (text.name(one.weight), str(one.values), chosen, *errors)
