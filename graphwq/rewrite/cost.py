"""What a storage form costs in the file, exactly, without touching a value."""

from __future__ import annotations

from typing import Dict, Tuple

from graphwq.quant.packing import ONE_BIT, Plane, planes
from graphwq.rewrite import dequant, rows
from graphwq.rewrite.builder import Builder, Place
from graphwq.rewrite.plan import BITS, PlanItem, Rows, Split
from graphwq.rewrite.tables import Tables
from graphwq.survey.sites import WeightSite
from graphwq.survey.view import View

#: Stands for the prefix of a weight in a graph of many.
_PREFIX = "q00"


class _KnownTables(Tables):
    """Tables that are already there and cost nothing."""

    def table(self, builder: Builder, plane: Plane) -> str:
        """The name of a table."""
        return "q/4s3"

    def bit_weights(self, builder: Builder, num_bits: int) -> str:
        """The name of the weights of bits."""
        return f"q/b{num_bits}"


def dequant_nbytes(place: Place, site: WeightSite, item: PlanItem) -> int:
    """Bytes of all nodes that stand for a weight in the ``dequant`` form, without shared tables."""
    tables = _KnownTables("")
    if isinstance(item.form, Split):
        return sum(
            _whole(place, tables, _cut(site.shape, item.form.axis, size), site.dtype, item)
            for size in item.form.sizes
        )
    if isinstance(item.form, Rows):
        builder = Builder(place, _PREFIX)
        stored = rows.store(builder, site.shape, item.scheme, item.stored_bits, None)
        rows.decode_all(builder, tables, stored, site.shape[0], site.dtype)
        return builder.nbytes
    return _whole(place, tables, site.shape, site.dtype, item)


class Prices:
    """What storage forms cost in one graph, each looked up once."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: Dict[PlanItem, int] = {}

    def of(self, site: WeightSite, item: PlanItem) -> int:
        """Bytes of a weight in the ``dequant`` form of an item, without shared tables."""
        found = self._known.get(item)
        if found is None:
            node = self._view.scopes[site.scope].nodes[site.node]
            found = self._known[item] = dequant_nbytes(Place.of(site.scope, node), site, item)
        return found


def _cut(shape: Tuple[int, ...], axis: int, size: int) -> Tuple[int, ...]:
    return shape[:axis] + (size,) + shape[axis + 1 :]


def _whole(place: Place, tables: Tables, shape: Tuple[int, ...], dtype: int, item: PlanItem) -> int:
    builder = Builder(place, _PREFIX)
    dequant.build(builder, tables, shape, dtype, item, None)
    return builder.nbytes


def table_nbytes(stored_bits: int, layout: str) -> int:
    """Bytes of the tables of a width and layout, once per graph."""
    builder = Builder(Place("", "", "", (), {}), _PREFIX)
    tables = Tables("q")
    if layout == BITS:
        tables.table(builder, ONE_BIT)
        tables.bit_weights(builder, stored_bits)
        return builder.nbytes
    for plane in planes(stored_bits):
        tables.table(builder, plane)
    return builder.nbytes
