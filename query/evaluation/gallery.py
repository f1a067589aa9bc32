"""What an evaluation searches: the parents that a collection holds under a filter.

A parent is what several items are made of: the photograph (dataset, capture, frame) of an image and its references, the specimen
of its views. Evaluation counts parents: twelve references of one photograph are one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter
from outcrop.schema.item import AERIAL, Item, Kind, image_key, item_of_key, parent_of, specimen_key
from outcrop.store.collection import Collection


@dataclass(frozen=True)
class Gallery:
    """The parents by key, in order, with one item [N] that represents each (the image or the pooled specimen, if stored).

    `rows` [N] counts the items of each, `ids` names them all.
    """

    parents: tuple[str, ...]
    items: tuple[Item, ...]
    rows: tuple[int, ...]
    ids: frozenset[str] = field(repr=False)
    index: dict[str, int] = field(repr=False)
    by_digest: dict[str, int] = field(repr=False)

    def others(self, place: int, item: Item | None) -> int:
        """How many items of a parent there are beside the one given."""
        return self.rows[place] - (
            item is not None and item.id in self.ids and parent_of(item.key) == self.parents[place]
        )

    @cached_property
    def places(self) -> NDArray[np.float64]:
        """Latitude and longitude [N, 2] in degrees, 999 where unknown."""
        return np.array([(item.latitude, item.longitude) for item in self.items], dtype=np.float64).reshape(-1, 2)

    def own(self, item: Item | None, digest: str) -> int | None:
        """The parent of a stored item, or the one that was made of the very file that has this digest."""
        if item is not None:
            return self.index.get(parent_of(item.key))
        return self.by_digest.get(digest) if digest else None


def parent_named(key: str) -> str:
    """The key of the parent that any of its items' keys names, as the store has it (frames with four digits).

    Raises:
        InputError: the text is not a key.
    """
    item = item_of_key(key)
    if item.kind is Kind.TILE:
        return item.key
    if item.kind in AERIAL:
        return image_key(item.dataset, item.capture_id, item.frame)
    return specimen_key(item.dataset, item.category, item.capture_id)


def read_gallery(collection: Collection, filter: Filter | None = None) -> Gallery:
    """Scans the items that a filter keeps (without their vectors).

    Raises:
        InputError: the filter keeps nothing.
    """
    best: dict[str, Item] = {}
    count: dict[str, int] = {}
    ids: set[str] = set()
    for items, _ in collection.scan(filter):
        for item in items:
            key = parent_of(item.key)
            ids.add(item.id)
            count[key] = count.get(key, 0) + 1
            known = best.get(key)
            if known is None or _order(item) < _order(known):
                best[key] = item
    if not best:
        raise InputError(f"collection {collection.name!r} holds nothing that fits; ingest something, or widen --where")
    parents = tuple(sorted(best))
    shown = tuple(best[key] for key in parents)
    return Gallery(
        parents,
        shown,
        tuple(count[key] for key in parents),
        frozenset(ids),
        {key: i for i, key in enumerate(parents)},
        {
            SourceDigest.parse(item.source_digest).file: i
            for i, item in enumerate(shown)
            if item.kind == Kind.IMAGE and item.source_digest
        },
    )


def _order(item: Item) -> tuple[bool, str]:
    return item.kind not in (Kind.IMAGE, Kind.SPECIMEN), item.key
