"""`ingest features`: vectors that were made elsewhere, from a tree of files in a known layout. No model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from outcrop.embed.feature_files import FeatureFolder
from outcrop.ingest.changes import Present
from outcrop.ingest.layouts import Bundle, Layout, Vectors, stamped, unit_vectors
from outcrop.ingest.listing import Outlook, verify_written
from outcrop.ingest.runs import Failure, Record, Run, running
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.item import Item
from outcrop.store.collection import Collection

ROWS = 512
"""Vectors sent at once."""


@dataclass(frozen=True)
class Tree:
    """A listed tree of files: the items that it makes, and the length of their vectors."""

    layout: Layout
    dataset: str
    bundles: tuple[Bundle, ...]

    @property
    def expected(self) -> int:
        """Items that the files make."""
        return sum(len(bundle.items) for bundle in self.bundles)

    def of(self, keys: Iterable[str]) -> Tree:
        """The files that make items of these keys."""
        known = frozenset(keys)
        kept = tuple(bundle for bundle in self.bundles if any(item.key in known for item in bundle.items))
        return replace(self, bundles=kept)

    def dim(self) -> int | None:
        """The length of a vector, from the first readable file; None where there is none."""
        for bundle in self.bundles:
            try:
                return int(bundle.load().shape[-1])
            except (InputError, PictureError):
                continue
        return None


def list_tree(layout: Layout, folder: Path, dataset: str) -> Tree:
    """Lists a folder.

    Raises:
        InputError: the folder does not exist or has another layout, or two files make the same item.
    """
    if not folder.is_dir():
        raise InputError(f"no folder at {folder}; give the folder of the tree")
    bundles = tuple(layout.bundles(folder, dataset))
    owners: dict[str, Path] = {}
    for bundle in bundles:
        for item in bundle.items:
            if (first := owners.setdefault(item.key, bundle.path)) != bundle.path:
                raise InputError(f"{first} and {bundle.path} would both be {item.key}; rename one of them")
    return Tree(layout, dataset, bundles)


def look_ahead_tree(tree: Tree, collection: Collection | None, *, force: bool = False) -> Outlook:
    """What `ingest_tree` would do; writes nothing."""
    unchanged = 0
    if collection is not None and not force:
        unchanged = sum(len(bundle.items) for bundle in tree.bundles if _unchanged(collection, _stamped(bundle)))
    return Outlook(tree.dataset, tree.expected, 0, 0, unchanged, tree.expected - unchanged)


def ingest_tree(
    tree: Tree,
    collection: Collection,
    run: Run,
    *,
    features: FeatureFolder | None = None,
    force: bool = False,
    patience: float = 60.0,
    progress: Callable[[int], None] | None = None,
    waiting: Callable[[str], None] | None = None,
) -> Record:
    """Upserts the vectors of a tree that are new or changed; flushes once, waits for the index, verifies.

    A file that cannot be used goes to the ledger, and the others are written. Other features that lie beside the vectors are
    kept in `features`, where it is given.

    Raises:
        StoreUnreachable: Milvus went away for longer than the patience; what was written stays.
    """
    with running(run):
        record = run.record
        record.collection, record.physical, record.space = (
            collection.name,
            collection.physical,
            collection.space.fingerprint,
        )
        record.expected = tree.expected
        rows = _Rows(collection, run, patience, waiting)
        for bundle in tree.bundles:
            _take(bundle, rows, features, force)
            if progress is not None:
                progress(record.upserted + record.unchanged + record.failed)
            run.save(soon=True)
        rows.send()
        if record.upserted:
            collection.flush()
            collection.wait_for_index()
            collection.wait_until_served()
            verify_written(collection, rows.present)
        run.end("done")
        return record


class _Rows:
    """Rows on their way into the collection, `ROWS` at a time; `present` are those that are in it."""

    def __init__(
        self, collection: Collection, run: Run, patience: float, waiting: Callable[[str], None] | None
    ) -> None:
        self.collection, self.run, self.present = collection, run, Present()
        self._patience, self._waiting = patience, waiting
        self._items: list[Item] = []
        self._vectors: list[Vectors] = []

    def unchanged(self, items: Sequence[Item]) -> None:
        """Counts items whose rows stay as they are."""
        self.run.count(unchanged=len(items))
        self._found(items)

    def add(self, items: Sequence[Item], vectors: Vectors) -> None:
        """Takes items with their vectors [n, D]; sends what has gathered once there is enough."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._items += [_at(item, now) for item in items]
        self._vectors.append(vectors)
        if len(self._items) >= ROWS:
            self.send()

    def send(self) -> None:
        """Sends what has gathered."""
        if not self._items:
            return
        vectors = np.concatenate(self._vectors)
        self.collection.upsert(self._items, vectors, replacing=True, patience=self._patience, waiting=self._waiting)
        self.run.count(upserted=len(self._items))
        self._found(self._items)
        self._items, self._vectors = [], []

    def _found(self, items: Sequence[Item]) -> None:
        for item in items:
            self.present.add(item, found=True)


def _take(bundle: Bundle, rows: _Rows, features: FeatureFolder | None, force: bool) -> None:
    """Reads a bundle where it is new or changed; a file that cannot be used is noted as failed."""
    try:
        items = stamped(bundle)
        if not force and _unchanged(rows.collection, items):
            rows.unchanged(items)
            return
        vectors = unit_vectors(bundle, rows.collection.dim)
        if features is not None and bundle.keep is not None:
            for item in items:
                bundle.keep(features, item)
    except (InputError, PictureError, OSError) as error:
        for item in bundle.items:
            rows.run.fail(Failure(item.key, str(bundle.path), "read", str(error)))
        return
    rows.add(items, vectors)


def _stamped(bundle: Bundle) -> Sequence[Item]:
    try:
        return stamped(bundle)
    except OSError:
        return ()


def _unchanged(collection: Collection, items: Sequence[Item]) -> bool:
    rows = collection.lookup([item.id for item in items], ("source_digest",))
    return bool(items) and all(
        item.id in rows and rows[item.id]["source_digest"] == item.source_digest for item in items
    )


def _at(item: Item, now: str) -> Item:
    return replace(item, ingested_at=item.ingested_at or now)
