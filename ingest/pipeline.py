"""The way from sources to rows: look up, decode (threads), encode (device), upsert (one writer), with bounded queues.

Memory holds a few batches, however large the dataset. A broken item goes to the ledger and the run goes on; a broken stage
stops the run. Items that are there already, unchanged, are skipped before they are read.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embed.images import decode, thumbnail
from embed.protocol import PictureEncoder
from embed.thumbnails import ThumbnailStore
from ingest.runs import Failure, Run
from ingest.sources import STORED, Contents, Source, complete
from schema.errors import OutcropError, PictureError
from schema.item import Item
from store.collection import Collection
from store.table import LOOKUP

T = TypeVar("T")
WRITE_ROWS = 256
"""Rows that the writer gathers, where they are waiting, before it sends them."""


@dataclass(frozen=True)
class Options:
    """How the pipeline runs.

    `batch` pictures per forward pass; `workers` decoding threads; `force` embeds unchanged items too; `patience` seconds
    for which the writer waits for a server that went away.
    """

    batch: int = 32
    workers: int = 0
    force: bool = False
    patience: float = 60.0

    def worker_count(self) -> int:
        """The decoding threads: as asked for, else one per core."""
        return self.workers or cores()


@dataclass(frozen=True)
class _Prepared:
    item: Item
    path: Path
    pixels: NDArray[np.uint8]
    thumbnail: bytes | None
    replaces: bool


@dataclass(frozen=True)
class _Encoded:
    items: list[Item]
    vectors: NDArray[np.float32]
    thumbnails: list[bytes | None]
    replaces: bool


class Pipeline:
    """One pass over sources. `run_all` does it; `stop` (from a signal handler, say) ends it after the batches in flight."""

    def __init__(
        self,
        encoder: PictureEncoder,
        collection: Collection,
        run: Run,
        options: Options = Options(),
        *,
        thumbnails: ThumbnailStore | None = None,
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        self.encoder, self.collection, self.run, self.options, self.thumbnails = (
            encoder,
            collection,
            run,
            options,
            thumbnails,
        )
        self._waiting = waiting
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._broken: list[BaseException] = []
        self._decoding = 0
        depth = 2 * options.batch
        self._to_decode: queue.Queue[tuple[Source, dict[str, Any] | None] | None] = queue.Queue(depth)
        self._to_encode: queue.Queue[_Prepared | None] = queue.Queue(depth)
        self._to_write: queue.Queue[_Encoded | None] = queue.Queue(4)
        self.ids: list[str] = []
        """The ids of all items that are in the collection after the pass: written, or found unchanged."""

    def stop(self) -> None:
        """Ends the pass: what is being decoded is finished, embedded and written; nothing more is begun."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether the pass was ended before its sources were."""
        return self._stop.is_set()

    def run_all(self, sources: Iterable[Source], progress: Callable[[int], None] | None = None) -> None:
        """Takes all sources through; `progress` is told how many items are finished (written, unchanged or failed).

        Raises:
            OutcropError: a stage broke (the store is away, the device is out of memory); what was written stays.
        """
        workers = self.options.worker_count()
        self._decoding = workers
        stages: list[tuple[str, Callable[[], None]]] = [(f"decode-{n}", self._decode) for n in range(workers)]
        stages += [("list", lambda: self._list(sources, workers)), ("encode", self._encode), ("write", self._write)]
        threads = [
            threading.Thread(target=self._guard, args=(stage,), name=name, daemon=True) for name, stage in stages
        ]
        cpu = time.process_time()
        for thread in threads:
            thread.start()
        for thread in reversed(threads):
            while thread.is_alive():
                thread.join(0.1)
                if progress is not None:
                    record = self.run.record
                    progress(record.upserted + record.unchanged + record.failed)
                self.run.save(soon=True)
        self.run.spent("all", time.process_time() - cpu)
        if self._broken:
            raise self._broken[0]

    # -- stages ----------------------------------------------------------------------------------------------------

    def _list(self, sources: Iterable[Source], workers: int) -> None:
        for group in _groups(sources, LOOKUP):
            begun = time.thread_time()
            known = {} if self.options.force else self.collection.lookup([source.item.id for source in group], STORED)
            self.run.spent("look up", time.thread_time() - begun)
            for source in group:
                if self.stopped:
                    break
                row = known.get(source.item.id)
                if row is not None and source.unchanged_since(row):
                    self._unchanged(source.item)
                else:
                    self._put(self._to_decode, (source, row))
            if self.stopped:
                break
        for _ in range(workers):
            self._put(self._to_decode, None, always=True)

    def _decode(self) -> None:
        while (work := self._take(self._to_decode)) is not None:
            source, row = work
            if self.stopped:
                continue
            begun = time.thread_time()
            stage = "read"
            try:
                contents = Contents.read(source.path)
                if row is not None and row["source_digest"] == contents.digest and source.registered_as(row):
                    self._unchanged(source.item)
                    continue
                stage = "decode"
                decoded = decode(contents.data, name=str(source.path), at_least=self.encoder.space.size)
                item = complete(source, decoded, contents)
                del contents
                small = thumbnail(decoded.image) if self.thumbnails is not None else None
                known = row is not None or self.options.force
                prepared = _Prepared(item, source.path, self.encoder.prepare(decoded), small, known)
                del decoded
            except PictureError as error:
                self._failed(source, stage, str(error))
                continue
            except OSError as error:
                self._failed(source, stage, error.strerror or str(error))
                continue
            finally:
                self.run.spent("decode", time.thread_time() - begun)
            self._put(self._to_encode, prepared, always=True)
        with self._lock:
            self._decoding -= 1
            last = self._decoding == 0
        if last:
            self._put(self._to_encode, None, always=True)

    def _encode(self) -> None:
        for batch in self._batches():
            begun = time.perf_counter()
            try:
                vectors = self.encoder.encode(np.stack([p.pixels for p in batch]))
                good = batch
            except PictureError:
                # One picture of the batch gives no usable vector: find out which, and keep the others.
                good, kept = [], []
                for prepared in batch:
                    try:
                        kept.append(self.encoder.encode(prepared.pixels[None])[0])
                        good.append(prepared)
                    except PictureError as error:
                        self._failed(Source(prepared.item, prepared.path), "embed", str(error))
                if not good:
                    continue
                vectors = np.stack(kept)
            self.run.spent("encode", time.perf_counter() - begun)
            self.run.count(embedded=len(good))
            known = any(p.replaces for p in good)
            encoded = _Encoded([p.item for p in good], vectors, [p.thumbnail for p in good], known)
            self._put(self._to_write, encoded, always=True)
        self._put(self._to_write, None, always=True)

    def _write(self) -> None:
        open_end = True
        while open_end:
            first = self._take(self._to_write)
            if first is None:
                return
            parts = [first]
            while sum(len(p.items) for p in parts) < WRITE_ROWS:
                try:
                    more = self._to_write.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    open_end = False
                    break
                parts.append(more)
            begun = time.thread_time()
            items = [item for part in parts for item in part.items]
            vectors = np.concatenate([part.vectors for part in parts])
            if self.thumbnails is not None:
                for item, small in zip(items, (t for part in parts for t in part.thumbnails), strict=True):
                    if small is not None:
                        self.thumbnails.write(item.id, small)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            items = [replace(item, ingested_at=now) for item in items]
            self.collection.upsert(
                items,
                vectors,
                replacing=any(part.replaces for part in parts),
                patience=self.options.patience,
                waiting=self._waiting,
            )
            self.run.spent("store", time.thread_time() - begun)
            self.ids += [item.id for item in items]
            self.run.count(upserted=len(items))

    # -- between stages --------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[list[_Prepared]]:
        batch: list[_Prepared] = []
        while (prepared := self._take(self._to_encode)) is not None:
            batch.append(prepared)
            if len(batch) == self.options.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _unchanged(self, item: Item) -> None:
        self.ids.append(item.id)
        self.run.count(unchanged=1)

    def _failed(self, source: Source, stage: str, reason: str) -> None:
        self.run.fail(Failure(source.item.key, str(source.path), stage, reason))

    def _guard(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:  # noqa: BLE001  kept, and raised again by the thread that waits
            self._broken.append(error)
            self._stop.set()
        finally:
            # A stage that broke may leave a full queue before it: drain, so that nobody waits for ever.
            if self._broken:
                for waiting in (self._to_decode, self._to_encode, self._to_write):
                    with contextlib.suppress(queue.Empty):
                        while True:
                            waiting.get_nowait()

    def _put(self, target: queue.Queue[Any], value: Any, always: bool = False) -> None:
        """Puts a value, giving up when the pass is broken (or, unless `always`, stopped)."""
        while not self._broken and (always or not self.stopped):
            try:
                target.put(value, timeout=0.1)
                return
            except queue.Full:
                continue

    def _take(self, source: queue.Queue[T | None]) -> T | None:
        """Takes a value; None at the end or when the pass is broken."""
        while not self._broken:
            try:
                return source.get(timeout=0.1)
            except queue.Empty:
                continue
        return None


def verify_written(collection: Collection, ids: list[str]) -> None:
    """Asks the collection for every id that a run says is there.

    Raises:
        OutcropError: some are not; how many.
    """
    found = 0
    for start in range(0, len(ids), LOOKUP):
        found += len(collection.lookup(ids[start : start + LOOKUP], fields=("kind",)))
    if found != len(set(ids)):
        raise OutcropError(
            f"{len(set(ids)) - found} of {len(set(ids))} items are not in {collection.name!r} after they were written; "
            "run the same command again"
        )


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _groups(values: Iterable[T], size: int) -> Iterator[list[T]]:
    group: list[T] = []
    for value in values:
        group.append(value)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
