"""A table of own columns in an ingest: matched before anything is embedded, and written into new rows and those that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from outcrop.ingest.requests import Request
from outcrop.ingest.sources import Listing
from outcrop.schema.column_match import Match, match
from outcrop.schema.column_tables import read_metadata
from outcrop.schema.columns import Columns
from outcrop.schema.filters import equals
from outcrop.schema.item import Item
from outcrop.store.annotate import annotate, plan_annotation
from outcrop.store.collection import Collection


def matched(
    request: Request, listing: Listing, collection: Collection | None, say: Callable[[str], None]
) -> Match | None:
    """The table of a request, matched with what is to be ingested; None where it has none. Columns, types and what does not
    match are said.

    Raises:
        InputError: the table is wrong; nothing has been written.
    """
    asked = request.metadata
    if asked is None:
        return None
    known = collection.columns if collection is not None else Columns()
    table = read_metadata(asked.table, asked.on, asked.encoding, known)
    say(str(table))
    found = match(table, _items(listing))
    for remark in (*table.remarks, *found.remarks()):
        say(remark)
    return found


def complete(
    collection: Collection, found: Match, listing: Listing, say: Callable[[str], None], *, alone: bool = True
) -> None:
    """Gives the rows of the listing's datasets that were not embedded what the table says of them; where the run is not `alone`
    but a shard of several, only the rows of its own listing: others may be embedded at this moment.
    """
    changed = 0
    for dataset in sorted({item.dataset for item in _items(listing)}):
        filter = equals("dataset", dataset)
        plan = plan_annotation(collection, found.table, filter)
        if not alone:
            ours = {item.id for item in _items(listing)}
            plan = replace(plan, changed=[id for id in plan.changed if id in ours])
        changed += annotate(collection, plan, filter)
    say(f"{found.table.path.name}: {changed} items that were there already have other columns now")


def _items(listing: Listing) -> Iterator[Item]:
    return (wanted.item for source in listing.sources for wanted in source.wanted)
