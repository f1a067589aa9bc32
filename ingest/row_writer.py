"""What was embedded, on its way into the collection, with its thumbnails and features into their folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.thumbnail_processes import Thumbnail, ThumbnailProcesses
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.features import Arrays, FeatureKeeper
from outcrop.ingest.sources import Prepared
from outcrop.schema.column_match import Match
from outcrop.schema.item import Item
from outcrop.store.annotate import with_columns
from outcrop.store.collection import Collection
from outcrop.store.first_load import FirstLoad


@dataclass
class Rows:
    """Items with their vectors [D] float32 and thumbnails (or None), in the same order; and features, of some of them.

    `replaces` says whether the collection may hold rows of these ids.
    """

    items: list[Item] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    thumbnails: list[bytes | None] = field(default_factory=list)
    features: list[tuple[Prepared, Arrays]] = field(default_factory=list)
    replaces: bool = False

    def add(self, item: Item, vector: NDArray[np.float32], thumbnail: bytes | None, replaces: bool) -> None:
        """Takes one more item."""
        self.items.append(item)
        self.vectors.append(vector)
        self.thumbnails.append(thumbnail)
        self.replaces |= replaces


@dataclass(frozen=True)
class RowWriter:
    """Writes rows; waits `patience` seconds for a server that went away, and says so to `waiting`.

    With `apart`, processes write the thumbnails; whoever started them ends them.

    With `load`, rows that are new go through it, and are in the collection when it says so (`arrived`).

    Own columns of rows that are replaced stay, but for those of which `columns`, tables, have others.
    """

    collection: Collection
    thumbnails: ThumbnailStore | None = None
    features: FeatureKeeper | None = None
    patience: float = 60.0
    waiting: Callable[[str], None] | None = None
    columns: Sequence[Match] = ()
    load: FirstLoad | None = None
    apart: ThumbnailProcesses | None = None

    def write(self, parts: Sequence[Rows]) -> list[Item]:
        """Writes all parts in one request, thumbnails and features first; returns the items.

        Raises:
            StoreUnreachable: no answer within the patience. InputError: thumbnails or features cannot be written.
        """
        items = [item for part in parts for item in part.items]
        if not items:
            return []
        small = (thumbnail for part in parts for thumbnail in part.thumbnails)
        self._keep([(item.id, one) for item, one in zip(items, small, strict=True) if one is not None])
        if self.features is not None:
            for prepared, arrays in (kept for part in parts for kept in part.features):
                self.features.keep(prepared, arrays)
        replacing = any(part.replaces for part in parts)
        items = with_columns(self.collection, items, self.columns, replacing=replacing)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        items = [item if item.ingested_at else item.changed(ingested_at=now) for item in items]
        vectors = np.stack([vector for part in parts for vector in part.vectors])
        if self.apart is not None:
            self.apart.finish()
        if self.load is None:
            self.collection.upsert(items, vectors, replacing=replacing, patience=self.patience, waiting=self.waiting)
        else:
            self.load.add(items, vectors, replacing=replacing)
        return items

    def _keep(self, thumbnails: Sequence[Thumbnail]) -> None:
        """Writes thumbnails, or has them written."""
        if self.apart is not None:
            self.apart.begin(thumbnails)
        elif self.thumbnails is not None:
            for id, data in thumbnails:
                self.thumbnails.write(id, data)

    def arrived(self, written: int) -> int:
        """How many rows are in the collection that were not when this was asked before; `written` were written since."""
        return written if self.load is None else self.load.arrived()

    def close(self) -> None:
        """Has everything written that is on its way.

        Raises:
            OutcropError: the server does not read it.
        """
        if self.load is not None:
            self.load.close()
