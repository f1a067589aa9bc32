"""The stage of an ingest that encodes: pictures in batches to the device, their vectors from it while it computes the next ones.

What comes in are pieces of sources in their order, each source with an end behind it; what goes out are rows to be written, and
the sources that are covered once they are.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.protocol import Pending, PictureEncoder
from outcrop.ingest.changes import Change
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.row_writer import Rows
from outcrop.ingest.runs import Failure, Run
from outcrop.ingest.sources import Pools, Prepared, Ready, Source, Wanted, addressed, pools
from outcrop.ingest.stages import Stages
from outcrop.schema.errors import PictureError
from outcrop.schema.item import Item


@dataclass
class Work:
    """One source in the pass: the changes to apply, the items still to come of them, and what became of them.

    Only one thread has it at a time: the lister, then one that prepares, then the encoder. `misread` are the ids of rows that an
    earlier reader made of the same bytes.
    """

    source: Source
    wanted: Sequence[Wanted]
    changes: Sequence[Change]
    replaces: bool
    left: dict[str, Item]
    failed: bool = False
    items: list[Item] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    misread: set[str] = field(default_factory=set)

    def fail(self, run: Run, path: Path, items: Iterable[Item], stage: str, reason: str) -> None:
        """Puts items that could not be made of a file into the run's ledger."""
        self.failed = True
        for item in items:
            run.fail(Failure(item.key, str(path), stage, reason))


@dataclass(frozen=True)
class Piece:
    """One picture on its way to the encoder."""

    work: Work
    prepared: Prepared


@dataclass(frozen=True)
class Vector:
    """One item whose vector was made elsewhere, on its way past the encoder."""

    work: Work
    ready: Ready


@dataclass(frozen=True)
class End:
    """Behind the last piece of a source; `complete` unless the pass was stopped before it."""

    work: Work
    complete: bool


@dataclass(frozen=True)
class Flying:
    """A batch that is being encoded: its entries, the pieces among them, and their vectors to come."""

    entries: Sequence[Entry]
    pieces: Sequence[Piece]
    pending: Pending | None

    @property
    def done(self) -> bool:
        """Whether its vectors need not be waited for."""
        return self.pending is None or self.pending.done


@dataclass
class Encoded(Rows):
    """Rows to be written, and the sources that are covered once they are."""

    covered: list[Work] = field(default_factory=list)


Entry = Piece | Vector | End
"""What is on its way to the encoder."""


class Encoding:
    """The stage itself: `entries` come in, several at once, until there is a None, `encoded` go out; `batch` pictures at once
    (0: as many as the encoder takes best). With `features`, these are kept of the same pass."""

    def __init__(
        self,
        encoder: PictureEncoder,
        features: FeatureKeeper | None,
        run: Run,
        stages: Stages,
        batch: int,
        entries: queue.Queue[Sequence[Entry] | None],
        encoded: queue.Queue[Encoded | None],
    ) -> None:
        self._encoder, self._features, self._run, self._stages, self._batch = encoder, features, run, stages, batch
        self._entries, self._encoded = entries, encoded

    def run_all(self) -> None:
        """Hands batches to the device, and takes vectors from it while it computes the next ones."""
        flying: deque[Flying] = deque()
        for batch in self._batches():
            begun = time.perf_counter()
            flying.append(self._launched(batch))
            while flying and (flying[0].done or len(flying) > self._encoder.in_flight):
                self._landed(flying.popleft())
            self._run.spent("encode", time.perf_counter() - begun)
        while flying:
            begun = time.perf_counter()
            self._landed(flying.popleft())
            self._run.spent("encode", time.perf_counter() - begun)
        self._stages.put(self._encoded, None, always=True)

    def _launched(self, batch: list[Entry]) -> Flying:
        """A batch whose pictures are on their way through the network; with features they have been through already."""
        pieces = [entry for entry in batch if isinstance(entry, Piece)]
        pending = None
        if pieces and self._features is None:
            pending = self._encoder.submit([piece.prepared.pixels for piece in pieces])
        return Flying(batch, pieces, pending)

    def _landed(self, flying: Flying) -> None:
        """Hands the vectors of a batch on to the writer."""
        encoded = Encoded()
        vectors = iter(self._vectors(flying.pieces, encoded, flying.pending))
        for entry in flying.entries:
            if isinstance(entry, End):
                self._finished(entry, encoded)
            elif isinstance(entry, Vector):
                encoded.add(
                    addressed(entry.ready.item, entry.work.source), entry.ready.vector, None, entry.work.replaces
                )
            elif (vector := next(vectors)) is not None:
                item = addressed(entry.prepared.item, entry.work.source)
                encoded.add(item, vector, entry.prepared.thumbnail, entry.work.replaces)
                if pools(type(entry.work.source)):
                    entry.work.items.append(entry.prepared.item)
                    entry.work.vectors.append(vector)
        made_elsewhere = sum(isinstance(entry, Vector) for entry in flying.entries)
        self._run.count(embedded=len(encoded.items) - made_elsewhere)
        self._stages.put(self._encoded, encoded, always=True)

    def _vectors(
        self, pieces: Sequence[Piece], encoded: Encoded, pending: Pending | None
    ) -> Sequence[NDArray[np.float32] | None]:
        """A vector for each piece; None for one that gives no usable vector, which is noted as failed."""
        if not pieces:
            return []
        try:
            return self._made(pieces, encoded) if pending is None else list(pending.result())
        except PictureError:
            # One picture of the batch gives no usable vector: find out which, and keep the others.
            found: list[NDArray[np.float32] | None] = []
            for piece in pieces:
                try:
                    found += self._made([piece], encoded)
                except PictureError as error:
                    piece.work.fail(self._run, piece.work.source.path, [piece.prepared.item], "embed", str(error))
                    found.append(None)
            return found

    def _made(self, pieces: Sequence[Piece], encoded: Encoded) -> list[NDArray[np.float32]]:
        """Vectors of pieces in one pass, with their features noted where those are kept."""
        pixels = [piece.prepared.pixels for piece in pieces]
        if self._features is None:
            return list(self._encoder.submit(pixels).result())
        vectors, arrays = self._features.encode(self._encoder, pixels)
        encoded.features += [(piece.prepared, made) for piece, made in zip(pieces, arrays, strict=True)]
        return list(vectors)

    def _finished(self, end: End, encoded: Encoded) -> None:
        """Behind a source's last picture: pools what is to be pooled, and lets the writer know that the source is covered."""
        work, source = end.work, end.work.source
        if end.complete and work.left and work.items and isinstance(source, Pools):
            try:
                pooled = source.pool(work.items, np.stack(work.vectors))
                for item, vector, small in zip(pooled.items, pooled.vectors, pooled.thumbnails, strict=True):
                    del work.left[item.id]
                    encoded.add(addressed(item, source), vector, small, work.replaces)
            except PictureError as error:
                work.fail(self._run, source.path, work.left.values(), "embed", str(error))
                work.left.clear()
        if end.complete and work.left:
            work.fail(self._run, source.path, work.left.values(), source.stage, "no picture was made of this item")
        if end.complete and not work.failed:
            encoded.covered.append(work)

    def _batches(self) -> Iterator[list[Entry]]:
        """Entries with up to a batch of pieces among them, in the order in which they came."""
        batch: list[Entry] = []
        pieces, most = 0, self._batch
        while (some := self._stages.take(self._entries)) is not None:
            for entry in some:
                batch.append(entry)
                pieces += not isinstance(entry, End)
                if pieces and not most:
                    most = self._encoder.batch
                    with self._entries.mutex:
                        self._entries.maxsize = max(self._entries.maxsize, 2 * most)
                if pieces in (0, most):  # an end with no piece before it has nothing to wait for
                    yield batch
                    batch, pieces = [], 0
        if batch:
            yield batch
