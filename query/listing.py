"""Stored items in order of their keys, page by page: a page begins behind a key, so that none costs more than another."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

from outcrop.query.held import require_held, why_empty
from outcrop.query.keys import full_keys
from outcrop.schema.column_files import harmless
from outcrop.schema.columns import own_of
from outcrop.schema.filters import Condition, Filter
from outcrop.schema.item import ANSWER_FIELDS, FIELDS, UNKNOWN_COORDINATE, Item, Kind, item_id
from outcrop.store.collection import Collection

FACTS = (*ANSWER_FIELDS, "latitude", "longitude", "captured_at", "source_size", "ingested_at")
"""What is said of an item in JSON and CSV; coordinates are None where they are not known."""
COLUMNS = ("key", "category", "altitude", "latitude", "longitude", "captured_at", "source")


@dataclass(frozen=True)
class Page:
    """Items by key; `total` are all that the filter keeps, on this page or not. `after` is the key behind which the next page
    begins, '' where this is the last. `why_empty` says why there is nothing."""

    items: tuple[Item, ...]
    total: int
    after: str = ""
    why_empty: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """The items as plain values; own columns, where an item has any, are `columns`."""
        return [
            {name: _known(getattr(item, name)) for name in FACTS}
            | {"kind": str(item.kind)}
            | ({"columns": own} if (own := own_of(item.extra)) else {})
            for item in self.items
        ]

    def as_json(self, collection: str) -> dict[str, Any]:
        """The page as `collection items --json` prints it."""
        return {"collection": collection, "total": self.total, "next": self.after or None, "items": self.rows()}

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the own columns that some item has."""
        return tuple(dict.fromkeys(name for item in self.items for name in own_of(item.extra)))

    def csv_rows(self) -> list[dict[str, Any]]:
        """The items as rows of CSV, with own columns among the others."""
        return [row | {name: harmless(value) for name, value in row.get("columns", {}).items()} for row in self.rows()]

    def shown(self) -> list[dict[str, Any]]:
        """The items as rows of a table: places with five decimals (a metre), nothing for what is not known."""
        return [
            {
                **row,
                "altitude": row["altitude"] or None,
                **{name: _degrees(row[name]) for name in ("latitude", "longitude")},
            }
            for row in self.rows()
        ]

    def columns(self) -> list[str]:
        """The columns of `shown` that say something."""
        return [name for name in COLUMNS if name == "key" or any(row[name] not in ("", None) for row in self.shown())]


def page_of_items(collection: Collection, filter: Filter | None, limit: int, after: str = "", until: str = "") -> Page:
    """The first `limit` items that a filter keeps, by key, behind the key `after`, which may be an end of one (`keys.py`).

    Keys are read one page of the store after the other; in memory are no more than `limit` of them. With `until`, no key behind
    that one is read, and the page says nothing of those.

    Raises:
        FilterError: the filter names what the collection does not hold. InputError: `after` names no item.
    """
    require_held(filter, collection)
    filter = filter or Filter()
    behind = _whole(after, collection) if after else ""
    ends = (behind or None, until or None)
    rest = filter & Filter((Condition("key", "range", ends),)) if behind or until else filter
    keys = (row["key"] for rows in collection.scan_rows(rest, ["id", "key"], batch=5000) for row in rows)
    first = heapq.nsmallest(limit + 1, (key for key in keys if key > behind))
    items = _items(collection, first[:limit])
    total = collection.count(filter)
    nothing = why_empty(filter, collection) if not total else ""
    return Page(tuple(items), total, first[limit - 1] if len(first) > limit else "", nothing)


def _items(collection: Collection, keys: list[str]) -> list[Item]:
    fields = (*FIELDS, *collection.columns.keys_in_rows)
    found = collection.lookup([item_id(key) for key in keys], fields=fields)
    rows = ({name: row[name] for name in fields if name in row} for row in found.values())
    return sorted(map(Item.from_row, rows), key=lambda i: i.key)


def _whole(after: str, collection: Collection) -> str:
    """A key that begins with its kind is taken as it is: the item may be gone since the last page."""
    return after if after.split("/")[0] in tuple(Kind) else full_keys([after], collection)[0]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and value == UNKNOWN_COORDINATE else value


def _degrees(value: float | None) -> str | None:
    return None if value is None else f"{value:.5f}"
