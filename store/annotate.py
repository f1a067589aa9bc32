"""Own columns into rows that are there already: matched with a table, changed and written again, without being embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.column_match import Match, match
from outcrop.schema.column_tables import MetadataTable
from outcrop.schema.darwin_core import CATEGORY_SOURCE, POSITION_SOURCE, kept
from outcrop.schema.filters import Filter
from outcrop.schema.item import Item, item_id, parent_of
from outcrop.store.collection import Collection
from outcrop.store.integrity import require_sound
from outcrop.store.rows import unpack

PAGE = 1000
FEW = 0.05
"""Up to this share of a server's rows is asked for by id; for more, all rows are read once."""
JUDGED = ("id", "key", "kind", "dataset", "capture_id", "category", "source", "latitude", "longitude")
"""The fields by which a row is matched, and which a table may fill."""


@dataclass(frozen=True)
class Annotation:
    """What a table changes: the match, the ids of the rows that become others, and how many rows were looked at."""

    match: Match
    changed: Sequence[str]
    looked_at: int


def plan_annotation(collection: Collection, table: MetadataTable, filter: Filter | None = None) -> Annotation:
    """What a table would change of the rows that a filter keeps; reads no vectors and writes nothing.

    Raises:
        InputError: two rows of the table are about the same unit.
    """
    found = match(table, (item for items in _judged(collection, filter, ()) for item in items))
    changed: list[str] = []
    looked_at = 0
    keys = [column.key for column in table.columns.values()]
    for items in _judged(collection, filter, (*keys, CATEGORY_SOURCE, POSITION_SOURCE)):
        looked_at += len(items)
        changed += [item.id for item in items if found.has(item) and found.of(item) != item]
    return Annotation(found, changed, looked_at)


def annotate(
    collection: Collection,
    plan: Annotation,
    filter: Filter | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes what was planned, flushes once, and returns how many rows are others now.

    Raises:
        InputError: the collection has a column of another type. Damaged: a row is not what was written.
        StoreUnreachable: no answer; what was written stays, and the same table again does the rest.
    """
    collection.add_columns(plan.match.table.columns)
    wanted = set(plan.changed)
    written = 0
    for items, vectors in _whole(collection, wanted, plan.looked_at, filter):
        written += collection.upsert([plan.match.of(item) for item in items], vectors, replacing=True, patience=60)
        if progress is not None:
            progress(written)
    if written:
        collection.flush()
        collection.wait_for_index()
        collection.wait_until_served()
    return written


def with_columns(
    collection: Collection, items: Sequence[Item], found: Sequence[Match], *, replacing: bool
) -> list[Item]:
    """Items that are about to be written, with the own columns of their rows of tables (the last one wins), else of their rows in
    the collection (asked for where they are `replacing` any), else of the photograph or specimen that they are part of.
    """
    if not collection.columns:
        return list(items)
    ids = {item_id(parent) for item in items if (parent := parent_of(item.key)) != item.key}
    ids |= {item.id for item in items} if replacing else set()
    fields = (CATEGORY_SOURCE, POSITION_SOURCE, "category", "latitude", "longitude", *collection.columns.keys_in_rows)
    rows = collection.lookup(sorted(ids), fields) if ids else {}
    made = []
    for item in items:
        row = rows.get(item.id) or rows.get(item_id(parent_of(item.key)))
        if row is not None:
            own = {key: row[key] for key in collection.columns.keys_in_rows if key in row}
            item = kept(replace(item, extra={**item.extra, **own}), row)
        for table in found:
            item = table.of(item)
        made.append(item)
    return made


def _judged(collection: Collection, filter: Filter | None, more: Sequence[str]) -> Iterator[list[Item]]:
    for rows in collection.scan_rows(filter, [*JUDGED, *more], batch=5000):
        yield [Item.from_row(row) for row in rows]


def _whole(
    collection: Collection, ids: set[str], looked_at: int, filter: Filter | None
) -> Iterator[tuple[list[Item], NDArray[np.float32]]]:
    """Items with their vectors [N, D], by their ids, in pages."""
    if not ids:
        return
    if not collection.store.lite and len(ids) <= FEW * looked_at:
        ordered = sorted(ids)
        for start in range(0, len(ordered), PAGE):
            rows = collection.lookup(ordered[start : start + PAGE], ("*",))
            require_sound(rows.values(), collection.name)
            yield unpack(rows.values())
        return
    for page in collection.scan_rows(filter, ["*"], batch=PAGE):
        chosen = [row for row in page if row["id"] in ids]
        if chosen:
            yield unpack(chosen)
