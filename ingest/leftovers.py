"""Removes rows that their source no longer makes: other angles, other crops, fewer views."""

from __future__ import annotations

from collections.abc import Iterable

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.schema.filters import equals
from outcrop.schema.item import Kind, parent_of
from outcrop.store.collection import Collection


def remove_leftovers(
    collection: Collection,
    scopes: Iterable[tuple[Kind, str]],
    covered: set[str],
    kept: set[str],
    thumbnails: ThumbnailStore | None = None,
) -> int:
    """Removes the rows of covered parents that are not kept, with their thumbnails; returns how many.

    `scopes` are the kinds and datasets to look through, `covered` the keys of parents all of whose items were made or found
    (see `schema.item.parent_of`), `kept` the ids of these items. Rows are gone through only where there are more than were kept.
    """
    removed = 0
    for dataset in sorted({dataset for _, dataset in scopes}):
        kinds = sorted(str(kind) for kind, name in scopes if name == dataset)
        filter = equals("kind", *kinds) & equals("dataset", dataset)
        if collection.count(filter) == len(kept):
            continue
        unwanted = [
            row["id"]
            for rows in collection.scan_rows(filter, ["id", "key"])
            for row in rows
            if row["id"] not in kept and parent_of(row["key"]) in covered
        ]
        removed += collection.delete(unwanted)
        if thumbnails is not None:
            for id in unwanted:
                thumbnails.remove(id)
    return removed
