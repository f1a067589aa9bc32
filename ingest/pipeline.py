"""The way from sources to rows: compare, prepare (threads), encode (device), upsert (one writer), with bounded queues.

`outcrop.ingest.sources` says what a source is, and `outcrop.ingest.changes` which of its items must be made: this module applies
these changes. Memory holds a few batches of pictures, however large the dataset and however many items one source makes. A broken
item goes to the ledger and the run goes on; a broken stage stops the run.
"""

from __future__ import annotations

import contextlib
import gc
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from outcrop.embed.formats import format_of
from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.reader_versions import damage_of
from outcrop.embed.thumbnail_processes import COUNT, ThumbnailProcesses
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.ahead import Ahead
from outcrop.ingest.changes import STORED, Change, Present, compare, settled
from outcrop.ingest.checked import CheckedFiles
from outcrop.ingest.encoding import Encoded, Encoding, End, Entry, Piece, Vector, Work
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.makers import Makers, wanted_processes
from outcrop.ingest.on_device import OnDevice, is_photograph
from outcrop.ingest.row_writer import RowWriter
from outcrop.ingest.runs import Failure, Run
from outcrop.ingest.sources import (
    Contents,
    Kept,
    LeftOut,
    Outcome,
    Prepared,
    Ready,
    Source,
    Todo,
    Wanted,
    groups,
)
from outcrop.ingest.stages import Stages
from outcrop.schema.column_match import Match
from outcrop.schema.errors import MeshError, PictureError
from outcrop.schema.item import Item, parent_of
from outcrop.schema.machine import cores
from outcrop.schema.places import is_remote
from outcrop.store.collection import Collection
from outcrop.store.first_load import FirstLoad
from outcrop.store.table import LOOKUP

FIRST_BATCH = 32
"""Pictures for which there is room until the encoder says how many it takes at once."""
WRITE_ROWS = 256
"""Rows that the writer gathers, where they are waiting, before it sends them."""


@dataclass(frozen=True)
class Options:
    """How the pipeline runs.

    `batch` pictures are encoded at once (0: as many as the encoder takes best); `workers` preparing threads; `force` embeds
    unchanged items too; `patience` seconds for which the writer waits for a server that went away; `digests` compares the bytes
    of every file instead of trusting its size and time; `checked` are files that need not be read for their ctime.

    `columns` are tables of own columns. `processes` decode photographs for the preparing threads; None: one per core, where
    there are many of both (`outcrop.ingest.makers`), 0: the threads do it. `thumbnail_processes` write
    thumbnails; None: two, likewise.

    `decode` is where JPEGs are decoded: ``cpu``, ``device`` (the encoder's) or ``auto`` (a GPU's decoder beside the CPU);
    `decode_megapixels` bounds what the device has in hand.
    """

    batch: int = 32
    workers: int = 0
    force: bool = False
    patience: float = 60.0
    digests: bool = False
    checked: CheckedFiles | None = None
    decode: str = "auto"
    decode_megapixels: int = 1024
    columns: Sequence[Match] = ()
    processes: int | None = None
    thumbnail_processes: int | None = None

    def worker_count(self) -> int:
        """The preparing threads: as asked for, else one per core."""
        return self.workers or cores()


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
        features: FeatureKeeper | None = None,
        waiting: Callable[[str], None] | None = None,
        on_change: Callable[[], None] | None = None,
        load: FirstLoad | None = None,
    ) -> None:
        self.features = features
        self._on_change = on_change
        self.encoder, self.collection, self.run, self.options = encoder, collection, run, options
        self._thumbnails = thumbnails is not None
        self._waiting = waiting
        self._apart = self._thumbnail_processes(thumbnails)
        patience, columns = options.patience, options.columns
        self._writer = RowWriter(collection, thumbnails, features, patience, waiting, columns, load, self._apart)
        self._lock = threading.Lock()
        self._stages = Stages()
        self._put, self._take = self._stages.put, self._stages.take
        self._preparing = 0
        depth = 2 * (options.batch or FIRST_BATCH)
        self._to_prepare: queue.Queue[Work | None] = self._stages.new_queue(depth)
        self._to_encode: queue.Queue[Sequence[Entry] | None] = self._stages.new_bundles(depth)
        self._to_write: queue.Queue[Encoded | None] = self._stages.new_queue(4)
        self._ahead = Ahead()
        self._makers: Makers | None = None
        self._device: OnDevice | None = None
        if options.decode != "cpu":
            always = options.decode == "device"
            self._device = OnDevice(encoder, self._stages, options.decode_megapixels, always, self._decoder)
        self.present = Present()
        """All items that are in the collection after the pass: written, or found unchanged."""
        self.misread: list[str] = []
        """Ids of rows that an earlier reader made of bytes that this one refuses."""

    def _thumbnail_processes(self, thumbnails: ThumbnailStore | None) -> ThumbnailProcesses | None:
        """What writes thumbnails where there is so much to do that processes earn back their start; not into object stores."""
        wanted = self.options.thumbnail_processes
        if wanted is None:
            wanted = COUNT if wanted_processes(self.run.record.expected) else 0
        if thumbnails is None or not wanted or is_remote(thumbnails.folder):
            return None
        return ThumbnailProcesses(thumbnails, wanted)

    def stop(self) -> None:
        """Ends the pass: pictures that are being made are embedded and written; nothing more is begun."""
        self._stages.stop()

    @property
    def stopped(self) -> bool:
        """Whether the pass was ended before its sources were."""
        return self._stages.stopped

    def run_all(self, sources: Iterable[Source], progress: Callable[[int], None] | None = None) -> None:
        """Takes all sources through; `progress` is called with the number of finished items (written, unchanged or failed).

        Raises:
            OutcropError: a stage broke (the store is away, the device is out of memory); what was written stays.
        """
        workers = self.options.worker_count()
        self._preparing = workers
        stages: list[tuple[str, Callable[[], None]]] = [(f"prepare-{n}", self._prepare) for n in range(workers)]
        stages += self._device.stages(self._prepared) if self._device is not None else []
        queues = self._to_encode, self._to_write
        encoding = Encoding(self.encoder, self.features, self.run, self._stages, self.options.batch, *queues)
        stages += [("list", lambda: self._list(sources, workers)), ("encode", encoding.run_all), ("write", self._write)]

        def waiting() -> None:
            if progress is not None:
                record = self.run.record
                progress(record.upserted + record.unchanged + record.failed)
            self.run.save(soon=True)

        cpu = time.process_time()
        asked = self.options.processes
        count = wanted_processes(self.run.record.expected) if asked is None else asked
        self._makers = Makers(count) if count else None
        try:
            with _old_objects_left():
                self._stages.run(stages, waiting)
        finally:
            for apart in (self._makers, self._apart):
                if apart is not None:
                    apart.close()
            self._ahead.close()
            self.run.spent("all", time.process_time() - cpu)

    # -- stages ----------------------------------------------------------------------------------------------------

    def _list(self, sources: Iterable[Source], workers: int) -> None:
        for group in groups(sources, LOOKUP):
            begun = time.thread_time()
            wanted = [source.wanted for source in group]
            ids = [] if self.options.force else [each.item.id for some in wanted for each in some]
            rows = self.collection.lookup(ids, STORED)
            self.run.spent("look up", time.thread_time() - begun)
            for source, some in zip(group, wanted, strict=True):
                if self.stopped:
                    break
                self._compare(source, some, rows)
            if self.stopped:
                break
        for _ in range(workers):
            self._put(self._to_prepare, None, always=True)

    def _compare(self, source: Source, wanted: Sequence[Wanted], rows: dict[str, dict[str, Any]]) -> None:
        """Counts what is unchanged, and hands on the rest."""
        digests, checked = self.options.digests, self.options.checked
        found = compare(source, wanted, rows, digests=digests, features=self.features, checked=checked)
        todo = [change for change in found if change.kind != "unchanged" or change.open]
        if todo and source.atomic:
            todo = found  # one that turns out to be changed takes the others along
        if self._on_change is not None and any(change.embed for change in todo):
            self._on_change()
        left = {change.todo.item.id: change.todo.item for change in todo}
        for each in wanted:
            if each.item.id not in left:
                self._unchanged(each.item)
        with self._lock:
            self.present.look_at(source)
        replaces = self.options.force or any(each.item.id in rows for each in wanted)
        work = Work(source, wanted, todo, replaces, left)
        if todo:
            self._ahead.begin(source.path)
            self._put(self._to_prepare, work)
        else:
            self._covered(work)

    def _prepare(self) -> None:
        while (work := self._take(self._to_prepare)) is not None:
            if self.stopped:
                continue
            begun = time.thread_time()
            self._prepare_work(work)
            self.run.spent(work.source.stage, time.thread_time() - begun)
        with self._lock:
            self._preparing -= 1
            last = self._preparing == 0
        if last and self._device is not None:
            self._device.close()
        elif last:
            self._prepared()

    def _prepared(self) -> None:
        self._put(self._to_encode, None, always=True)

    def _prepare_work(self, work: Work) -> None:
        """Makes what must be made of a source, file by file, unless the device goes on with its only one."""
        files = list(_by_file(work.changes))
        complete = True
        for path, some in files:
            with self._breaking_off(work, path, some):
                if self._make_file(work, path, some, only=len(files) == 1):
                    return
            complete = not self.stopped or not work.left
            if not complete:
                break
        self._put(self._to_encode, [End(work, complete)], always=True)

    def _make_file(self, work: Work, path: Path, some: Sequence[Change], only: bool) -> bool:
        """Makes what must be made of one file, the `only` one of its source or one of several.

        Returns whether the device goes on with it.
        """
        if self._is_read_apart(work, path, some):
            self._deliver_apart(work, path, some)
            return False
        todo, contents = self._read(work, path, some)
        if todo and only and self._is_on_device(work, path, some, todo, contents):
            return True
        if todo:
            parts = self._made_here(work.source, todo, contents)
            read = replace(contents, data=contents.data[:64])
            del contents  # the source knows how long it needs the bytes
            if self._deliver(work, path, parts) and format_of(read.data) == "PNG":
                self._note(path, read)
        return False

    def _is_read_apart(self, work: Work, path: Path, some: Sequence[Change]) -> bool:
        """Whether a process that makes what is in a file also reads it: nothing here depends on its bytes."""
        if self._makers is None or not is_photograph(type(work.source)) or is_remote(path):
            return False
        if self._device is not None and self._device.may_take():
            return False
        return not any(change.open or change.misread or change.kind == "unchanged" for change in some)

    def _deliver_apart(self, work: Work, path: Path, some: Sequence[Change]) -> None:
        """Hands on what a process reads and makes."""
        assert self._makers is not None
        todo = [change.todo for change in some]
        made = self._makers.make(work.source, todo, path, self.encoder.space, self._thumbnails)
        decoded = self._deliver(work, path, made)
        if decoded and made.contents is not None and format_of(made.contents.data) == "PNG":
            self._note(path, made.contents)

    def _read(self, work: Work, path: Path, some: Sequence[Change]) -> tuple[list[Todo], Contents]:
        """Reads one file of a source: what must be made of it, and its contents."""
        contents = work.source.read(path)
        damage = ""
        if any(change.open for change in some) and not (damage := damage_of(contents.data)):
            self._note(path, contents)
        todo = []
        for change in settled(work.source, some, contents.digest, damage):
            if change.misread == contents.digest:
                work.misread.add(change.todo.item.id)
            if change.kind == "unchanged":
                del work.left[change.todo.item.id]
                self._unchanged(change.todo.item)
            else:
                todo.append(change.todo)
        return todo, contents

    def _note(self, path: Path, contents: Contents) -> None:
        if self.options.checked is not None:
            self.options.checked.note(path, contents.state, contents.digest)

    def _is_on_device(
        self, work: Work, path: Path, some: Sequence[Change], todo: Sequence[Todo], contents: Contents
    ) -> bool:
        """Hands a file over to the device, if it takes it."""
        if self._device is None:
            return False

        def otherwise() -> Iterator[Sequence[Outcome]]:
            return self._made_here(work.source, todo, contents)

        def deliver(parts: Iterator[Sequence[Outcome]] | None) -> None:
            begun = time.thread_time()
            with self._breaking_off(work, path, some):
                self._deliver(work, path, parts or iter(()))
            self._put(self._to_encode, [End(work, not self.stopped or not work.left)], always=True)
            self.run.spent(work.source.stage, time.thread_time() - begun)

        return self._device.offer(work.source, todo, contents, self._thumbnails, otherwise, deliver)

    def _made_here(self, source: Source, todo: Sequence[Todo], contents: Contents) -> Iterator[Sequence[Outcome]]:
        """What is made of a file on the CPU, in this thread or for it."""
        if self._makers is not None and is_photograph(type(source)):
            return iter(self._makers.make(source, todo, contents, self.encoder.space, self._thumbnails))
        return ((outcome,) for outcome in source.make(todo, contents, self.encoder, self._thumbnails))

    def _deliver(self, work: Work, path: Path, parts: Iterable[Sequence[Outcome]]) -> bool:
        """Hands on what is made of a file, as many outcomes at once as come together, until the pass is stopped; whether
        something of it is to be embedded."""
        decoded = False
        for part in parts:
            entries = [entry for outcome in part if (entry := self._entry(work, path, outcome)) is not None]
            if entries:
                decoded = decoded or any(isinstance(entry, Piece) for entry in entries)
                self._put(self._to_encode, entries, always=True)
            if self.stopped and work.left:
                break
        return decoded

    def _entry(self, work: Work, path: Path, outcome: Outcome) -> Entry | None:
        """What an outcome sends to the encoder; counts what sends nothing there."""
        if isinstance(outcome, Ready) and outcome.keep is not None and self.features is not None:
            outcome.keep(self.features.folder)
        del work.left[outcome.item.id]
        if isinstance(outcome, Prepared):
            self.run.remark(outcome.item.key, path, outcome.remarks)
            return Piece(work, outcome)
        if isinstance(outcome, Ready):
            return Vector(work, outcome)
        if isinstance(outcome, Kept):
            self._unchanged(outcome.item)
        elif isinstance(outcome, LeftOut):
            self.run.count(expected=-1, left_out=1)
        else:
            work.fail(self.run, path, [outcome.item], work.source.stage, outcome.reason)
        return None

    @contextlib.contextmanager
    def _breaking_off(self, work: Work, path: Path, some: Sequence[Change]) -> Iterator[None]:
        """What is left of a file when it cannot be read or made is failed, and the pass goes on."""
        try:
            yield
        except (PictureError, MeshError) as error:
            self._broke_off(work, path, some, work.source.stage, f"{error}{self._misread(work, some)}")
        except OSError as error:
            self._broke_off(work, path, some, "read", error.strerror or str(error))

    def _decoder(self, text: str, wrong: bool) -> None:
        """Notes where JPEGs are decoded, and says it aloud where the device was meant to."""
        self.run.record.decoder = text
        if wrong and self._waiting is not None:
            self._waiting(text)

    def _write(self) -> None:
        for parts in self._stages.gathered(
            self._to_write, lambda found: sum(len(p.items) for p in found) >= WRITE_ROWS
        ):
            begun = time.thread_time()
            written = self._writer.write(parts)
            with self._lock:
                for item in written:
                    self.present.add(item, found=True)
            self.run.count(upserted=self._writer.arrived(len(written)))
            self.run.spent("store", time.thread_time() - begun)
            for part in parts:
                for work in part.covered:
                    self._covered(work)
        if not self._stages.broken:
            self._writer.close()
            self.run.count(upserted=self._writer.arrived(0))

    # -- between stages --------------------------------------------------------------------------------------------

    def _unchanged(self, item: Item) -> None:
        with self._lock:
            self.present.add(item, found=True)
        self.run.count(unchanged=1)

    def _covered(self, work: Work) -> None:
        with self._lock:
            self.present.cover(work.source, work.wanted)

    def _misread(self, work: Work, some: Sequence[Change]) -> str:
        """Notes the rows that an earlier reader made of a file that is refused; what the ledger says of it ('' = none)."""
        ids = {change.todo.item.id for change in some} & work.misread & work.left.keys()
        if ids and work.source.atomic:
            ids = {change.todo.item.id for change in work.changes if change.kind != "new"}
        with self._lock:
            self.misread += ids
        return "; what an earlier version stored of it is removed" if ids else ""

    def _broke_off(self, work: Work, path: Path, some: Sequence[Change], stage: str, reason: str) -> None:
        """What was not made of a file, failed; an atomic source is of no use in part, and fails under its parent's key."""
        left = [item for change in some if (item := work.left.pop(change.todo.item.id, None)) is not None]
        if not work.source.atomic:
            work.fail(self.run, path, left, stage, reason)
        elif left:
            work.failed = True
            self.run.fail(Failure(parent_of(left[0].key), str(path), stage, reason, len(left)))


@contextlib.contextmanager
def _old_objects_left() -> Iterator[None]:
    """Leaves what is there already, libraries above all, out of Python's search for cycles, for which all threads wait 0.2 s."""
    if gc.get_freeze_count():  # somebody else's
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _by_file(changes: Sequence[Change]) -> Iterator[tuple[Path, list[Change]]]:
    """Changes by the file that they are made of, in their order."""
    for path, some in groupby(changes, key=lambda change: change.todo.wanted.path):
        yield path, list(some)
