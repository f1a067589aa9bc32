"""`ingest watch`: a folder followed, and what comes into it ingested in batches.

The system says which files change (the library watchfiles); a file counts as finished once nothing about it has changed for a
while. Each batch is an ingest like any other, with a run of its own; between batches the store is closed, so that others can ask.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from outcrop.embed.telemetry import TELEMETRY, telemetry_beside
from outcrop.ingest.perform import ingest
from outcrop.ingest.request import FILMS, dataset_name
from outcrop.ingest.requests import AnyRequest, DatasetRequest, ImagesRequest, VideoRequest
from outcrop.ingest.runs import Record
from outcrop.ingest.sources import FileState
from outcrop.ingest.watcher import Watcher
from outcrop.schema.any_names import PICTURES
from outcrop.schema.errors import InputError, StoreUnreachable
from outcrop.schema.films import EVERY, SUFFIXES
from outcrop.schema.frames import dataset_root
from outcrop.schema.places import place, require_disk
from outcrop.schema.registry import declares, read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_missing
from outcrop.store.folders import FOLDERS

LONGEST = 30.0
"""Seconds after which a batch is taken although files are still being written: these wait for the next."""
AGAIN = 60.0
"""Seconds after which a batch that could not be ingested is tried again, whatever happens meanwhile."""
LOOK_EVERY = 0.25
"""Seconds between two looks at files that change."""


@dataclass
class _Pending:
    """A file that changes: how it was seen last, since when it is so, and since when it is waited for."""

    state: FileState | None
    since: float
    begun: float = field(default_factory=time.monotonic)


class Followed:
    """The changes of a folder's files with these endings, in batches: `settle` is for how many seconds a finished file has not
    changed.

    Raises `InputError` where watchfiles is not installed.
    """

    def __init__(self, root: Path, settle: float, endings: frozenset[str] = PICTURES) -> None:
        try:
            import watchfiles
        except ImportError:
            raise InputError("following a folder needs watchfiles: install outcrop[watch]") from None
        self._watch: Any = watchfiles.watch
        self._deleted: Any = watchfiles.Change.deleted
        self._root, self._settle, self._endings = root, settle, endings
        self._pending: dict[Path, _Pending] = {}
        self._due: float | None = 0.0  # what is there already is the first batch

    def batches(self) -> Iterator[frozenset[Path]]:
        """Waits for changes; yields, whenever there is something to be ingested, the files that are not finished yet."""
        first = True
        options = {"watch_filter": self._counts, "yield_on_timeout": True, "rust_timeout": int(LOOK_EVERY * 1000)}
        for changes in self._watch(self._root, debounce=400, step=50, **options):
            now = time.monotonic()
            if first:  # only now are changes seen that happen while the folder is looked through
                first = False
                self._begin(now)
            for _, path in changes:
                self._note(Path(path), now)
            self._look(now)
            unfinished = [path for path, each in self._pending.items() if now - each.since < self._settle]
            late = any(now - each.begun > LONGEST for each in self._pending.values())
            ripe = len(unfinished) < len(self._pending) or (self._due is not None and now >= self._due)
            if ripe and (late or not unfinished):
                self._due = None
                self._pending = {path: _Pending(self._pending[path].state, now) for path in unfinished}
                yield frozenset(unfinished)

    def again(self) -> None:
        """Asks for the batch once more after a while: it could not be ingested."""
        self._due = time.monotonic() + AGAIN

    def _counts(self, change: Any, path: str) -> bool:
        """Whether a change is that of a file that is ingested; one that is deleted needs no ingest."""
        below = Path(path).relative_to(self._root) if Path(path).is_relative_to(self._root) else Path(path)
        inside = all(not part.startswith(".") and not part.endswith(".db") for part in below.parts)
        return change != self._deleted and below.suffix.lower() in self._endings and inside

    def _begin(self, now: float) -> None:
        """Files that changed just before may be unfinished."""
        recently = time.time() - self._settle
        for folder, _, names in os.walk(self._root):
            for path in (Path(folder, name) for name in names):
                state = _state(path) if self._counts(None, str(path)) else None
                if state is not None and state.mtime_ns / 1e9 > recently:
                    self._note(path, now)

    def _note(self, path: Path, now: float) -> None:
        known = self._pending.get(path)
        self._pending[path] = _Pending(_state(path), now, known.begun if known is not None else now)

    def _look(self, now: float) -> None:
        """Looks at what is waited for: the system does not say everything (network drives, memory maps)."""
        for path, each in list(self._pending.items()):
            state = _state(path)
            if state is None:
                del self._pending[path]
            elif state != each.state:
                self._note(path, now)


def _state(path: Path) -> FileState | None:
    try:
        return FileState.of(path)
    except OSError:
        return None


Followable = ImagesRequest | DatasetRequest | VideoRequest
"""What can be followed."""


def request_to_follow(word: str, settings: Settings, **more: object) -> tuple[Followable, Path]:
    """The request that a folder or the name of a dataset stands for, and the folder to be followed. The films of a folder are
    taken too where they can be read.

    Raises:
        InputError: neither; the dataset's root is not there.
    """
    folder = place(word)
    require_disk(folder, "a folder that is followed,", "`ingest images` reads a bucket, as often as it is called")
    if folder.is_dir():
        named = dataset_name(folder, None)
        return _of_folder(settings, named, folder, EVERY, more), folder.absolute()
    if os.sep in word:
        raise InputError(f"no folder at {word}; give a folder, or the name of a dataset")
    if declares(settings.registry, word):
        root = dataset_root(read_registry(settings.registry), word, settings.datasets_folder)
        return DatasetRequest.of(settings, word, **more), root.absolute()
    if is_missing(settings.uri):
        raise InputError(f"{word!r} is neither a folder nor a dataset of the registry {settings.registry}")
    with Store.of(settings, create=False) as store:
        known = FOLDERS.get(Collection.find(store, settings.collection), word)
    if known is None:
        raise InputError(f"{word!r} is neither a folder nor a dataset that the registry or the collection knows")
    if not known.folder.is_dir():
        raise InputError(f"the folder {known.folder} of {word!r} is not there; is its disk mounted?")
    if not known.photographs:
        values = {"name": word, "folder": known.folder, "films": known.films, "every": known.every, **more}
        return VideoRequest.model_validate({**values, "known": settings.state / FILMS}), known.folder
    more["positions"] = more.get("positions") or known.positions
    return _of_folder(settings, word, known.folder, known.every or EVERY, more), known.folder


def _of_folder(settings: Settings, name: str, folder: Path, every: float, more: dict[str, object]) -> ImagesRequest:
    films = {"every": every, "known": settings.state / FILMS} if find_spec("av") is not None else {}
    return ImagesRequest.model_validate({"name": name, "folder": folder, **films, **more})


def endings_of(request: Followable, settings: Settings) -> frozenset[str]:
    """The endings of the files that a request takes, films with their telemetry."""
    films = SUFFIXES | {TELEMETRY}
    match request:
        case VideoRequest():
            return films
        case ImagesRequest():
            return PICTURES | films if request.every is not None else PICTURES
        case DatasetRequest():
            declared = read_registry(settings.registry).dataset(request.name).films is not None
            return PICTURES | films if declared else PICTURES


def follow(
    request: Followable,
    root: Path,
    settings: Settings,
    watching: Callable[[], AbstractContextManager[Watcher]],
    done: Callable[[Record], None],
    settle: float,
) -> None:
    """Ingests what is in a folder and what comes into it, in batches, until a run is interrupted; `done` is given each record.

    A batch that cannot be ingested (the store is away, the folder's disk is gone) is tried again, unless it is the first.

    Raises:
        OutcropError: the first batch cannot be ingested, or a later one whose cause waiting does not heal. KeyboardInterrupt: a
        signal came while nothing was ingested.
    """
    request.check()
    if settings.shard is not None:
        raise InputError("what comes into a folder is not shared out: leave OUTCROP_SHARD (or --shard) out")
    endings = endings_of(request, settings)
    followed = Followed(root, settle, endings)
    batches = followed.batches()
    works = False
    while True:
        with watching() as watcher:
            watcher.say(f"following {root}")
            unfinished = next(batches, None)
            if unfinished is None:
                raise InputError(f"{root} is no longer followed by the system; is it still there?")
            if not works and not _any(root, endings):
                watcher.say(f"{root} holds no photograph {'or film ' if endings != PICTURES else ''}yet")
                continue
            if not works and endings == PICTURES and isinstance(request, ImagesRequest) and _any(root, SUFFIXES):
                watcher.warn(f"{root} holds films, which are not followed: install outcrop[video] to read them")
            try:
                only = _finished(request, unfinished)
                if only is not None and not only:
                    continue
                record = ingest(request, settings, watcher, only=only)
            except (InputError, StoreUnreachable) as error:
                if not works:
                    raise
                watcher.warn(f"{error}; this batch is tried again in {AGAIN:g} s")
                followed.again()
                continue
        works = True
        request = request.model_copy(update={"metadata": None})  # from now on the collection remembers the table
        done(record)
        if record.state == "interrupted":
            return


def _finished(request: AnyRequest, unfinished: frozenset[Path]) -> list[str] | None:
    """The keys of what is finished; None where everything is."""
    if not unfinished:
        return None
    wanted = [each for source in request.list(None).sources for each in source.wanted]
    return [each.item.key for each in wanted if not {each.path, telemetry_beside(each.path)} & unfinished]


def _any(root: Path, endings: frozenset[str]) -> bool:
    return any(Path(name).suffix.lower() in endings for _, _, names in os.walk(root) for name in names)
