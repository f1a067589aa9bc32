"""A first ingest of very many rows into a server, by files that the server reads: nothing that was embedded is lost on the way.

Rows are kept in a file of the state folder first (`outcrop.store.spool`), and count as written once the server has read them
(`outcrop.store.bulk`). After a kill the next ingest waits for jobs that are still under way and sends those rows that they did
not bring. Meanwhile an empty collection compares with every vector: its index is built once, at the end.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.filters import ids_expression
from outcrop.schema.item import Item
from outcrop.schema.objects import ObjectPath
from outcrop.schema.places import place
from outcrop.schema.settings import Settings
from outcrop.store.bulk import Bulk, BulkLoad, Say, rows_of_a_file
from outcrop.store.collection import Collection
from outcrop.store.import_jobs import POLL, appeared, settled
from outcrop.store.later_index import build_later
from outcrop.store.pages import rows_of_a_page
from outcrop.store.spool import Spool, folder_of, kept_in
from outcrop.store.table import LOOKUP

FEWEST = 1000
"""Fewer rows of a partition are sent: a segment of their own would be a burden."""
APPEAR = 60.0
"""Seconds within which the rows of jobs that are done must be counted; then it is looked for rows that are there twice."""


@dataclass
class Arrivals:
    """How many rows are in the collection, of those that were handed over."""

    told: int = 0

    def since(self, rows: int) -> int:
        """How many came since this was asked last, of `rows` in all."""
        new, self.told = rows - self.told, rows
        return new


class FirstLoad:
    """Takes the rows of an ingest. `close` has written them all; where it is not called, the next ingest does what it would."""

    def __init__(self, collection: Collection, bulk: Bulk, folder: Path, say: Say, patience: float = 60.0) -> None:
        self.collection, self._say, self._place = collection, say, folder
        self._before = settled(collection)
        if not self._before:
            build_later(collection)
        self._load = BulkLoad(collection, bulk.folder, say, FEWEST, patience)
        self._file_rows = rows_of_a_file(collection.dim)
        self._token, self._files, self._sent_rows = uuid.uuid4().hex[:8], 0, 0
        self._spool: Spool | None = None
        self._sent: Spool | None = None
        self._rows: list[tuple[Sequence[Item], NDArray[np.float32]]] = []
        self._ids: set[bytes] = set()
        self._arrivals = Arrivals()

    def add(self, items: Sequence[Item], vectors: NDArray[np.float32], *, replacing: bool = False) -> None:
        """Takes items with their vectors [N, D] float32; they are on the disk afterwards, or in the collection.

        Say `replacing` where rows of these ids may be there: these are sent in requests.

        Raises:
            PlaceUnusable: the state folder takes no more. OutcropError: what was handed over before cannot be written.
        """
        ids = [bytes.fromhex(item.id) for item in items]
        if again := len(set(ids)) < len(ids) or not self._ids.isdisjoint(ids):
            self._empty()
            settled(self.collection)
        if again or replacing:
            self._sent_rows += self.collection.upsert(items, vectors, replacing=True, patience=60)
            return
        if self._spool is None:
            path = self._place / f"{self._token}-{self._files:06d}.rows"
            self._spool, self._files = Spool(path, self.collection.dim, str(self._load.folder)), self._files + 1
        self._spool.append(items, vectors)
        self._ids.update(ids)
        self._rows.append((items, vectors))
        if self._spool.rows >= self._file_rows:
            self._pass_on()

    def arrived(self) -> int:
        """How many rows came into the collection since this was asked last."""
        return self._arrivals.since(self._load.rows + self._sent_rows)

    def close(self) -> None:
        """Writes what is left, waits for all jobs, and removes rows that are there twice.

        Raises:
            OutcropError: a job does not end.
        """
        self._empty()
        self.collection.flush()
        expected, end = self._before + len(self._ids), time.monotonic() + APPEAR
        while (self.collection.count() < expected or not appeared(self.collection)) and time.monotonic() < end:
            time.sleep(POLL)
        if self.collection.count() != expected and (doubled := make_single(self.collection)):
            self._say(f"{doubled} rows were there twice, since another process wrote them too; they are there once now")
        self._say(self._load.summary())

    def leave(self) -> None:
        """Lets go of what was not written; the next ingest takes it up."""
        if self._spool is not None:
            self._spool.leave()

    def _pass_on(self) -> None:
        """Begins the jobs of the rows in hand, after those of the rows before have ended."""
        self._wait()
        for items, vectors in self._rows:
            self._load.add(items, vectors)
        self._load.send_all()
        self._rows.clear()
        if self._spool is not None:
            self._spool.close()
        self._spool, self._sent = None, self._spool

    def _wait(self) -> None:
        self._load.finish_all()
        if self._sent is not None:
            self._sent.remove()
            self._sent = None

    def _empty(self) -> None:
        """Has everything written."""
        self._pass_on()
        self._wait()


@dataclass(frozen=True)
class Way:
    """How the rows of an ingest get into the collection: through `load`, where there is one, else in requests.

    `alone` says that no other ingest with this state folder loads the collection, so that its index may be built. `say` is told
    what takes long.
    """

    load: FirstLoad | None = None
    alone: bool = False
    say: Say = lambda text: None


@contextlib.contextmanager
def way_in(collection: Collection, settings: Settings, coming: int, say: Say) -> Iterator[Way]:
    """How about `coming` new rows are written; what an ingest that was killed had on its way is written before.

    Raises:
        StoreUnreachable: jobs that are under way do not end.
    """
    folder, bulk = settings.state / "bulk", Bulk.of(settings)
    wanted = bulk is not None and settings.shard is None and coming >= bulk.least
    if collection.store.lite or not (wanted or folder.is_dir() or collection.later_index):
        yield Way()
        return
    folder /= collection.identity()
    with _alone(folder) as alone:
        if not alone:
            say(f"another ingest with this state folder loads {collection.name!r}: rows are sent in requests")
            yield Way()
            return
        recover(collection, folder, say)
        load = FirstLoad(collection, bulk, folder, say, settings.patience) if wanted and bulk is not None else None
        try:
            yield Way(load, True, say)
        finally:
            if load is not None:
                load.leave()


def recover(collection: Collection, folder: Path, say: Say) -> int:
    """Writes what a killed load kept in `folder` and the collection has not; returns how many rows.

    Raises:
        StoreUnreachable: jobs that are under way do not end.
    """
    kept, sent = sorted(folder.glob("*.rows")), 0
    if kept:
        settled(collection)
    for path in kept:
        for items, vectors in kept_in(path, collection.dim):
            known = collection.lookup([item.id for item in items], ("kind",))
            new = [n for n, item in enumerate(items) if item.id not in known]
            if new:
                sent += collection.upsert([items[n] for n in new], vectors[new], replacing=True, patience=60)
        _remove_files(folder_of(path))
        path.unlink()
    if kept:
        say(f"{sent} rows were written that an ingest had embedded before it was ended")
    return sent


def make_single(collection: Collection) -> int:
    """Writes each row once that is there more than once, since imports do not look; returns how many.

    Milvus deletes all rows of an id where it is written again.
    """
    doubled = 0
    for ids in _ids(collection):
        if more := _counted(collection, ids) - len(ids):
            found = list(collection.items(ids).values())
            collection.upsert([item for item, _ in found], np.stack([each for _, each in found]), replacing=True)
            doubled += more
    return doubled


def _ids(collection: Collection) -> Iterator[list[str]]:
    """All ids, each once, `LOOKUP` at a time."""
    with collection.store.reading(f"list the ids of {collection.name!r}"):
        pages = collection.store.client.query_iterator(
            collection.physical,
            batch_size=rows_of_a_page(10 * LOOKUP, collection.dim, ["id"], collection.about()),
            output_fields=["id"],
            consistency_level="Strong",
            timeout=collection.store.timeout,
        )
        last = ""
        while page := pages.next():  # in the order of their ids
            ids = list({row["id"]: None for row in page if row["id"] > last})
            last = max(ids, default=last)
            yield from (ids[start : start + LOOKUP] for start in range(0, len(ids), LOOKUP))
        pages.close()


def _counted(collection: Collection, ids: Sequence[str]) -> int:
    """How many rows have one of these ids."""
    with collection.store.reading(f"count rows of {collection.name!r}"):
        found = collection.store.client.query(
            collection.physical,
            filter=ids_expression(ids),
            output_fields=["count(*)"],
            consistency_level="Strong",
            timeout=collection.store.timeout,
        )
    return int(found[0]["count(*)"])


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process loads from this folder, for as long as the block lasts."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _remove_files(folder: str) -> None:
    """Removes the server's files that a killed load left."""
    if not folder:
        return
    files = place(folder)
    if isinstance(files, ObjectPath):
        with contextlib.suppress(FileNotFoundError):
            for each in list(files.iterdir()):
                each.unlink(missing_ok=True)
    else:
        shutil.rmtree(files, ignore_errors=True)
