"""Processes that decode photographs and cut references, where there are many cores and much to do.

Threads that decode wait for each other: each needs Python's lock at every step, and of 16 cores beside a graphics card nine were
busy, and the card for a quarter of the time. So the threads of the pass only ask: a process reads the file, unless its bytes are
here already or decide whether it is made at all, and does the rest. What comes back, several items at once, are the pixels that
the network takes. A process that ends costs the one photograph that ended it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from outcrop.ingest.sources import Contents, FileState, Outcome, Prepared, Source, Todo
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
"""Processes at most: each takes 530 MB where it cuts references, and up to 32 MB for what it sends."""
TOGETHER, TOGETHER_BYTES = 32, 8 * 2**20
"""Items that come back at once, and bytes of their pixels, at most."""


def wanted_processes(expected: int) -> int:
    """How many processes make `expected` items here; 0 where threads do."""
    return min(cores(), MOST) if cores() >= MANY_CORES and expected >= MANY_ITEMS else 0


@dataclass(frozen=True)
class _Making:
    """Asks a process for the items of a source with these ids; `embed` as in `Todo`. With a `state` and `digest` the bytes of the
    file come with it, else the process reads `path`."""

    source: Source
    ids: tuple[str, ...]
    embed: tuple[bool, ...]
    path: Path
    state: FileState | None
    digest: str
    space: Space
    thumbnails: bool


@dataclass(frozen=True)
class _Part:
    """What has been made since the last part, and what was read: the file's first bytes, its state and digest."""

    outcomes: Sequence[Outcome]
    contents: Contents


@dataclass(frozen=True)
class _Unread:
    """The file cannot be read, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class _Target:
    """What sources need to know of the encoder."""

    space: Space
    device: str = "cpu"


class Made:
    """The outcomes of one file, as many at once as come together; `contents` are what was read (its first bytes only) once the
    first has come."""

    def __init__(self, parts: Iterator[_Part]) -> None:
        self._parts = parts
        self.contents: Contents | None = None

    def __iter__(self) -> Iterator[Sequence[Outcome]]:
        for part in self._parts:
            self.contents = part.contents
            yield part.outcomes


class Makers:
    """Up to `count` processes, started when they are needed. Threads may share them; close them."""

    def __init__(self, count: int) -> None:
        self._pool = Pool(_start, count)
        self._answered = self._useless = False

    def make(
        self, source: Source, todo: Sequence[Todo], given: Contents | Path, space: Space, thumbnails: bool
    ) -> Made:
        """As `outcrop.ingest.sources.Source.make`, in a process, of a file that was read or, by its path, is read there.

        Raises (when it is taken):
            PictureError: what has not been yielded yet cannot be made, or ended its process. OSError: it cannot be read.
        """
        return Made(self._parts(source, todo, given, space, thumbnails))

    def _parts(
        self, source: Source, todo: Sequence[Todo], given: Contents | Path, space: Space, thumbnails: bool
    ) -> Iterator[_Part]:
        if self._useless:
            yield from _made_here(source, todo, given, space, thumbnails)
            return
        ids, embed = tuple(each.item.id for each in todo), tuple(each.embed for each in todo)
        if isinstance(given, Contents):
            path, state, digest, data = source.path, given.state, given.digest, memoryview(given.data)
            request = _Making(source, ids, embed, path, state, digest, space, thumbnails)
        else:
            request, data = _Making(source, ids, embed, given, None, "", space, thumbnails), memoryview(b"")
        with self._pool.worker() as worker:
            worker.send(request, data)
            try:
                for part in worker.answer():
                    self._answered = True
                    if isinstance(part, _Unread):
                        raise OSError(part.number, part.reason)
                    yield part
            except Ended as fate:
                if not self._answered:  # not one has ever worked: nothing is wrong with the photograph
                    _log.warning("processes that decode end at once (%s): threads decode instead", fate)
                    self._useless = True
                    yield from _made_here(source, todo, given, space, thumbnails)
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


def _made_here(
    source: Source, todo: Sequence[Todo], given: Contents | Path, space: Space, thumbnails: bool, together: int = 1
) -> Iterator[_Part]:
    """What is made of a file in this process, `together` items at once.

    Raises:
        PictureError: what has not been yielded yet cannot be made. OSError: the file cannot be read.
    """
    contents = given if isinstance(given, Contents) else source.read(given)
    head, some, held = replace(contents, data=contents.data[:64]), list[Outcome](), 0
    outcomes = source.make(todo, contents, _Target(space), thumbnails)  # type: ignore[arg-type]
    del contents  # the source knows how long it needs the bytes
    try:
        for outcome in outcomes:
            some.append(outcome)
            held += outcome.pixels.nbytes if isinstance(outcome, Prepared) else 0
            if len(some) >= together or held >= TOGETHER_BYTES:
                yield _Part(some, head)
                some, held = [], 0
    except (PictureError, OSError):
        if some:
            yield _Part(some, head)
        raise
    if some:
        yield _Part(some, head)


def making() -> Handler:
    """What a process runs."""

    def make(request: _Making, data: memoryview) -> Iterator[_Part | _Unread]:
        source = request.source
        wanted = {each.item.id: each for each in source.wanted}
        todo = [Todo(wanted[id], embed) for id, embed in zip(request.ids, request.embed, strict=True)]
        try:
            if request.state is None:
                contents = source.read(request.path)
            else:
                contents = Contents(bytes(data), request.state, request.digest)
        except OSError as error:
            yield _Unread(error.errno or 0, error.strerror or str(error))
            return
        try:
            yield from _made_here(source, todo, contents, request.space, request.thumbnails, TOGETHER)
        except OSError as error:
            raise PictureError(f"{source.path}: {error.strerror or error}") from error

    return make
