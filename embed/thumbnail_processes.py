"""Processes that write thumbnails, where references come by the thousand.

A file takes four calls of the system, and the process that feeds a graphics card waits for Python's lock behind each. So it only
says which thumbnails there are, a batch at once, whose bytes lie in shared memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.schema.processes import Ended, Handler, Worker

_log = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds after which a silent process is given up."""
COUNT = 2
"""Processes: while they write a batch nothing is added to the store, so that no row is without its thumbnail."""

Thumbnail = tuple[str, bytes]
"""An item's id, and its thumbnail as it is kept."""


@dataclass(frozen=True)
class _Share:
    """Asks a process to write thumbnails, whose bytes come with it, one behind the other."""

    folder: Path
    ids: tuple[str, ...]
    sizes: tuple[int, ...]


class ThumbnailProcesses:
    """Writes into a store; `begin` a batch, and `finish` it before the next. One thread may use it; close it."""

    def __init__(self, store: ThumbnailStore, count: int = COUNT) -> None:
        self._store, self._count = store, count
        self._workers: list[Worker] = []
        self._begun: list[tuple[Worker, Sequence[Thumbnail]]] = []
        self._answered = self._useless = False

    def begin(self, thumbnails: Sequence[Thumbnail]) -> None:
        """Has thumbnails written; any process that ended before is replaced."""
        self._workers = [worker for worker in self._workers if worker.alive]
        if self._useless:
            self._write(thumbnails)
            return
        while thumbnails and len(self._workers) < self._count:
            self._workers.append(Worker(f"{__name__}:writing", patience=PATIENCE))
        for number, worker in enumerate(self._workers):
            if share := thumbnails[number :: len(self._workers)]:
                ids, each = tuple(id for id, _ in share), [data for _, data in share]
                asked = _Share(self._store.folder, ids, tuple(map(len, each)))
                worker.send(asked, memoryview(b"".join(each)))
                self._begun.append((worker, share))

    def finish(self) -> None:
        """Waits until all that was begun is written; what a process that ended has not written is written here.

        Raises:
            InputError: a thumbnail cannot be written.
        """
        begun, self._begun = self._begun, []
        for worker, share in begun:
            try:
                for _ in worker.answer():
                    pass
                self._answered = True
            except (Ended, TimeoutError) as fate:
                if not self._useless:
                    _log.warning("a process that writes thumbnails ended (%s)", fate)
                self._useless = not self._answered  # not one has ever worked
                self._write(share)

    def _write(self, thumbnails: Sequence[Thumbnail]) -> None:
        for id, data in thumbnails:
            self._store.write(id, data)

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers:
            worker.end()
        self._workers, self._begun = [], []


def writing() -> Handler:
    """What a process runs."""

    def write(share: _Share, data: memoryview) -> Iterator[None]:
        store, start = ThumbnailStore(share.folder), 0
        for id, size in zip(share.ids, share.sizes, strict=True):
            store.write(id, bytes(data[start : start + size]))
            start += size
        return iter(())

    return write
