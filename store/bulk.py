"""Many rows at once: Parquet files that a Milvus server reads from its own storage, instead of rows that are sent to it.

The files are those of pymilvus's bulk writer: a column for each field, the rest of a row as JSON in ``$meta``, one partition a
file. A job of the server reads each. A server's import never looks whether an id is there already, so rows whose ids are there
(a load that was killed is done again by the same command) are sent as ever, and jobs that are still under way are waited for
first. What a job cannot read is sent as well: then with a remark.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import OutcropError, StoreUnreachable
from outcrop.schema.files import whole_file
from outcrop.schema.item import FIELDS, Item
from outcrop.schema.objects import ObjectPath
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.import_jobs import APPEAR, POLL, begin_job, settled, why_it_failed
from outcrop.store.patience import patiently
from outcrop.store.rows import pack

FILE_BYTES = 128 * 2**20
"""Bytes of vectors and fields, about, in one file: as many rows as one segment of the server, or a part of it."""
UNDER_WAY = 3
"""Jobs that are waited for at the same time; their rows are held meanwhile."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bulk:
    """Where files are put for the server: a `folder` of its storage, at the same path there; from `least` rows on."""

    folder: Path
    least: int

    @classmethod
    def of(cls, settings: Settings) -> Bulk | None:
        """As the settings say; None where they name no folder."""
        return cls(settings.bulk, settings.bulk_from) if settings.bulk is not None else None


class Load(Protocol):
    """Takes rows, and has written them all when it is closed."""

    rows: int

    def add(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> None:
        """Takes items with their vectors [N, D] float32."""
        ...

    def close(self) -> None:
        """Writes what is left, and waits."""
        ...


@dataclass
class Upserts:
    """Sends rows as they come."""

    collection: Collection
    rows: int = 0

    def add(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> None:
        """See `Load.add`."""
        self.rows += self.collection.upsert(items, vectors, replacing=True, patience=60)

    def close(self) -> None:
        """Nothing is left."""


def rows_of_a_file(dim: int) -> int:
    """How many rows with vectors of `dim` numbers one file takes."""
    return max(1000, FILE_BYTES // (dim * 4 + 1024))


def load_into(collection: Collection, bulk: Bulk | None, rows: int, say: Say | None = None) -> Load:
    """What writes `rows` rows: files where the server reads them and they are many, else requests."""
    if bulk is None or collection.store.lite or rows < bulk.least:
        return Upserts(collection)
    return BulkLoad(collection, bulk.folder, say or (lambda text: None))


@dataclass
class _Batch:
    """Rows of one partition, gathered for a file."""

    partition: str
    items: list[Item] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)


@dataclass
class _Job:
    """A file that the server reads, and its rows, should it not."""

    batch: _Batch
    file: Path
    task: int


class BulkLoad:
    """Writes files of rows and has the server read them; see the module.

    Fewer rows than `fewest` of a partition are sent. Where the server does not answer when a job is begun, it is asked again for
    `patience` seconds: rows may be there twice then.
    """

    def __init__(self, collection: Collection, folder: Path, say: Say, fewest: int = 1, patience: float = 0.0) -> None:
        self.collection, self.rows, self._say = collection, 0, say
        self._folder = folder / f"outcrop-{collection.physical}-{uuid.uuid4().hex[:8]}"
        self._fewest, self._patience = fewest, patience
        self._before = settled(collection)
        self._file_rows = rows_of_a_file(collection.dim)
        self._batches: dict[str, _Batch] = {}
        self._jobs: deque[_Job] = deque()
        self._files = 0

    def add(self, items: Sequence[Item], vectors: NDArray[np.float32]) -> None:
        """See `Load.add`.

        Raises:
            OutcropError: a job does not end.
        """
        for item, vector in zip(items, vectors, strict=True):
            partition = self.collection.home(item.kind, item.dataset)
            batch = self._batches.setdefault(partition, _Batch(partition))
            batch.items.append(item)
            batch.vectors.append(vector.copy())  # a view would keep its whole page, as long as one row of it waits
        for batch in list(self._batches.values()):
            if len(batch.items) >= self._file_rows:
                self._send(self._batches.pop(batch.partition))
        if sum(len(batch.items) for batch in self._batches.values()) >= 2 * self._file_rows:
            largest = max(self._batches.values(), key=lambda each: len(each.items))
            self._send(self._batches.pop(largest.partition))

    def close(self) -> None:
        """Writes what is left, waits for all jobs, and looks whether the rows are as many as they should be.

        Raises:
            OutcropError: a job does not end, or rows are missing or doubled.
        """
        self.send_all()
        self.finish_all()
        self.collection.flush()
        if not self._before:
            self._require_all()
        self._say(self.summary())

    @property
    def folder(self) -> Path:
        """Where the files are while the server reads them."""
        return self._folder

    def summary(self) -> str:
        """What was done, for people."""
        return f"{self.rows} rows in {self._files} files, which the server read from {self._folder.parent}"

    def send_all(self) -> None:
        """Begins to write what is gathered.

        Raises:
            OutcropError: a job does not end.
        """
        for batch in self._batches.values():
            self._send(batch)
        self._batches.clear()

    def finish_all(self) -> None:
        """Waits until what was begun is written.

        Raises:
            OutcropError: a job does not end.
        """
        while self._jobs:
            self._finish(self._jobs.popleft())

    def _require_all(self) -> None:
        """Waits until a new collection has all rows: those of a job appear some seconds after it is done."""
        deadline = time.monotonic() + APPEAR
        while (there := self.collection.count()) < self.rows and time.monotonic() < deadline:
            time.sleep(POLL)
        if there != self.rows:
            raise OutcropError(
                f"{self.collection.name!r} has {there} rows after {self.rows} were read into it; "
                f"drop it (`collection drop {self.collection.name}`) and do it again"
            )

    def _send(self, batch: _Batch) -> None:
        """Has a batch read by the server, but for the rows that are there already: these are sent."""
        batch = self._without_known(batch)
        if len(batch.items) < self._fewest:
            self._upsert(batch)
            return
        file = self._folder / f"{self._files:06d}.parquet"
        self._files += 1
        with whole_file(
            file, what=f"the file for Milvus {file}", fix="give another OUTCROP_BULK", parents=True
        ) as made:
            _write(made, batch, self.collection.dim)
        if isinstance(file, Path) and not isinstance(file, ObjectPath):
            file.chmod(0o644)  # the server is another user
        try:
            task = patiently(lambda: begin_job(self.collection, batch.partition, file), self._patience)
        except StoreUnreachable:
            raise
        except OutcropError as error:
            self._sent_instead(batch, file, str(error))
            return
        self._jobs.append(_Job(batch, file, task))
        if len(self._jobs) >= UNDER_WAY:
            self._finish(self._jobs.popleft())

    def _without_known(self, batch: _Batch) -> _Batch:
        """The rows whose ids are not in the collection; the others are written on the way."""
        if not self._before:
            return batch
        known = self.collection.lookup([item.id for item in batch.items], ("kind",))
        new, old = _Batch(batch.partition), _Batch(batch.partition)
        for item, vector in zip(batch.items, batch.vectors, strict=True):
            some = old if item.id in known else new
            some.items.append(item)
            some.vectors.append(vector)
        self._upsert(old)
        return new

    def _finish(self, job: _Job) -> None:
        """Waits for a job; where it failed, sends its rows.

        Raises:
            StoreUnreachable: it does not end.
        """
        if (reason := why_it_failed(self.collection, job.task, str(job.file))) is not None:
            self._sent_instead(job.batch, job.file, reason)
            return
        self.rows += len(job.batch.items)
        self._remove(job.file)

    def _sent_instead(self, batch: _Batch, file: Path, reason: str) -> None:
        self._say(f"the server cannot read {file} ({reason.strip()[:200]}): its rows are sent instead")
        self._remove(file)
        self._upsert(batch)

    def _upsert(self, batch: _Batch) -> None:
        for start in range(0, len(batch.items), 1000):
            some, vectors = batch.items[start : start + 1000], np.stack(batch.vectors[start : start + 1000])
            self.rows += self.collection.upsert(some, vectors, replacing=True, patience=60)

    def _remove(self, file: Path) -> None:
        with contextlib.suppress(OSError):
            file.unlink()
            if not isinstance(file, ObjectPath):
                file.parent.rmdir()


def _write(path: Path, batch: _Batch, dim: int) -> None:
    """Writes rows as Milvus reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    fields = [pa.field("id", pa.string()), *(pa.field(name, types[each.type]) for name, each in FIELDS.items())]
    schema = pa.schema([*fields, pa.field("vector", pa.list_(pa.float32())), pa.field("$meta", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in _pages(batch, dim):
            vectors = np.stack([row.pop("vector") for row in rows]).reshape(-1)
            columns = [pa.array([row.pop(each.name) for row in rows], type=each.type) for each in fields]
            offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * dim)
            columns.append(pa.ListArray.from_arrays(offsets, pa.array(vectors, type=pa.float32())))
            columns.append(pa.array([json.dumps(row, ensure_ascii=False) for row in rows], type=pa.string()))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _pages(batch: _Batch, dim: int, page: int = 10_000) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(batch.items), page):
        yield pack(batch.items[start : start + page], np.stack(batch.vectors[start : start + page]), dim).rows()
