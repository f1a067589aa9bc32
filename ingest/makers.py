"""Processes that decode photographs and cut references, where there are many cores and much to do.

Threads that decode wait for each other: each needs Python's lock at every step, and of 16 cores beside a graphics card nine were
busy, and the card for a quarter of the time. So the threads of the pass only read files,
and each has a process do the rest. What comes back are the pixels that the network takes. A process that ends costs the one
photograph that ended it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outcrop.ingest.sources import Contents, FileState, Outcome, Source, Todo
from outcrop.schema.errors import PictureError
from outcrop.schema.machine import cores
from outcrop.schema.processes import Ended, Handler, Pool, Worker
from outcrop.schema.space import Space

_log = logging.getLogger(__name__)

PATIENCE = 600.0
"""Seconds after which a silent process is given up."""
MANY_CORES, MANY_ITEMS = 8, 1000
"""Cores and items from which processes earn back the second that each needs to start."""
MOST = 16
"""Processes at most: each takes 530 MB where it cuts references."""


def wanted_processes(expected: int) -> int:
    """How many processes make `expected` items here; 0 where threads do."""
    return min(cores(), MOST) if cores() >= MANY_CORES and expected >= MANY_ITEMS else 0


@dataclass(frozen=True)
class _Making:
    """Asks a process for the items of a source with these ids, of the file whose bytes come with it; `embed` as in `Todo`."""

    source: Source
    ids: tuple[str, ...]
    embed: tuple[bool, ...]
    state: FileState
    digest: str
    space: Space
    thumbnails: bool


@dataclass(frozen=True)
class _Target:
    """What sources need to know of the encoder."""

    space: Space
    device: str = "cpu"


class Makers:
    """Up to `count` processes, started when they are needed. Threads may share them; close them."""

    def __init__(self, count: int) -> None:
        self._pool = Pool(_start, count)
        self._answered = self._useless = False

    def make(
        self, source: Source, todo: Sequence[Todo], contents: Contents, space: Space, thumbnails: bool
    ) -> Iterator[Outcome]:
        """As `outcrop.ingest.sources.Source.make`, in a process.

        Raises:
            PictureError: what has not been yielded yet cannot be made, or ended its process.
        """
        if self._useless:
            yield from source.make(todo, contents, _Target(space), thumbnails)  # type: ignore[arg-type]
            return
        ids, embed = tuple(each.item.id for each in todo), tuple(each.embed for each in todo)
        request = _Making(source, ids, embed, contents.state, contents.digest, space, thumbnails)
        with self._pool.worker() as worker:
            worker.send(request, memoryview(contents.data))
            try:
                for outcome in worker.answer():
                    self._answered = True
                    yield outcome
            except Ended as fate:
                if not self._answered:  # not one has ever worked: nothing is wrong with the photograph
                    _log.warning("processes that decode end at once (%s): threads decode instead", fate)
                    self._useless = True
                    yield from source.make(todo, contents, _Target(space), thumbnails)  # type: ignore[arg-type]
                    return
                raise PictureError(
                    f"{source.path}: decoding it ended the process ({fate}); copy or export the file again"
                ) from None
            except TimeoutError:
                raise PictureError(f"{source.path}: decoding it took longer than {PATIENCE:.0f} seconds") from None

    def close(self) -> None:
        """Ends all processes."""
        self._pool.close()


def _start() -> Worker:
    # One thread each: there are as many processes as cores.
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return Worker("outcrop.ingest.makers:making", environment=environment, patience=PATIENCE)


def making() -> Handler:
    """What a process runs."""

    def make(request: _Making, data: memoryview) -> Iterator[Outcome]:
        source = request.source
        wanted = {each.item.id: each for each in source.wanted}
        todo = [Todo(wanted[id], embed) for id, embed in zip(request.ids, request.embed, strict=True)]
        contents = Contents(bytes(data), request.state, request.digest)
        try:
            yield from source.make(todo, contents, _Target(request.space), request.thumbnails)  # type: ignore[arg-type]
        except OSError as error:
            raise PictureError(f"{source.path}: {error.strerror or error}") from error

    return make
