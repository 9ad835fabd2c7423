"""What a storage form costs in the file, exactly, without touching a value."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Dict, Tuple

from graphwq.quant.packing import ONE_BIT, Plane, planes
from graphwq.rewrite import dequant, rows
from graphwq.rewrite.builder import Builder, Place
from graphwq.rewrite.plan import BITS, PlanItem, Rows, Split
from graphwq.rewrite.tables import Tables
from graphwq.rewrite.values import no_values
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
    item = replace(item, weight="")
    if place.attrs:
        return _nbytes(place, site.shape, site.dtype, item)
    size, inner = len(place.name.encode()), bool(place.scope)
    return _known(size, inner, place.device, place.control, site.shape, site.dtype, item)


@lru_cache(maxsize=4096)
def _known(
    size: int,
    inner: bool,
    device: str,
    control: Tuple[str, ...],
    shape: Tuple[int, ...],
    dtype: int,
    item: PlanItem,
) -> int:
    """The layers of a network are much alike, and only the length of a name counts."""
    place = Place("f" if inner else "", "x" * size, device, control, {})
    return _nbytes(place, shape, dtype, item)


def _nbytes(place: Place, shape: Tuple[int, ...], dtype: int, item: PlanItem) -> int:
    tables = _KnownTables("")
    if isinstance(item.form, Split):
        axis, sizes = item.form.axis, item.form.sizes
        return sum(_whole(place, tables, _cut(shape, axis, size), dtype, item) for size in sizes)
    if isinstance(item.form, Rows):
        builder = Builder(place, _PREFIX)
        stored = rows.store(builder, shape, item.scheme, item.stored_bits, no_values)
        rows.decode_all(builder, tables, stored, shape[0], dtype)
        return builder.nbytes
    return _whole(place, tables, shape, dtype, item)


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
    dequant.build(builder, tables, shape, dtype, item, no_values)
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
