"""`ingest all`: every dataset that the registry declares or the collection remembers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from outcrop.ingest.perform import Preview, ingest, preview
from outcrop.ingest.requests import DatasetRequest
from outcrop.ingest.runs import Record
from outcrop.ingest.watcher import Watcher
from outcrop.schema.errors import InputError, OutcropError, PartialFailure
from outcrop.schema.registry import read_registry
from outcrop.schema.settings import Settings
from outcrop.store.collection import Collection
from outcrop.store.connection import Store, is_missing
from outcrop.store.folders import FOLDERS

Watching = Callable[[], AbstractContextManager[Watcher]]
"""Opens what follows one ingest."""


@dataclass(frozen=True)
class Done:
    """What became of one dataset: its run's record, or what would be done (`preview`), or why there is neither (`error`)."""

    dataset: str
    record: Record | None = None
    preview: Preview | None = None
    error: OutcropError | None = None

    @property
    def interrupted(self) -> bool:
        """Whether a person stopped it."""
        return self.record is not None and self.record.state == "interrupted"

    @property
    def code(self) -> int:
        """The exit code that `ingest dataset` would have ended with."""
        if self.error is not None:
            return self.error.exit_code
        failed = self.record is not None and self.record.failed
        return PartialFailure.exit_code if failed else 0

    @property
    def result(self) -> str:
        """In words: ``done``, ``interrupted``, how many failed, or the error."""
        if self.error is not None:
            return str(self.error)
        if self.record is None:
            return "not tried" if self.preview is None else "would be done"
        return f"{self.record.failed} failed" if self.record.failed else self.record.state


def every_dataset(settings: Settings) -> list[str]:
    """The datasets of the registry in its order, and then the folders that the collection remembers besides.

    Raises:
        RegistryError: the registry is there but cannot be read. InputError: there is nothing. StoreUnreachable: see the store.
    """
    names = list(read_registry(settings.registry).datasets) if settings.registry.exists() else []
    if not is_missing(settings.uri):
        with Store.of(settings, create=False) as store:
            found = Collection.find(store, settings.collection)
            names += [name for name in FOLDERS.all(found) if name not in names] if found is not None else []
    if not names:
        raise InputError(
            f"there is no dataset: no registry at {settings.registry}, and collection {settings.collection!r} remembers "
            "no folder; begin with `ingest images DIR`"
        )
    return names


def ingest_every(
    settings: Settings, names: Sequence[str], watching: Watching, *, dry_run: bool = False, **more: object
) -> Iterator[Done]:
    """Ingests datasets one after the other; one that fails does not keep the others from being tried. `more` is for each request.

    Ends early where a person stops one of them.
    """
    for name in names:
        done = _one(settings, name, watching, dry_run, more)
        yield done
        if done.interrupted:
            return


def _one(settings: Settings, name: str, watching: Watching, dry_run: bool, more: dict[str, object]) -> Done:
    try:
        request = DatasetRequest.of(settings, name, **more)
        with watching() as watcher:
            if dry_run:
                return Done(name, preview=preview(request, settings, watcher))
            return Done(name, ingest(request, settings, watcher))
    except OutcropError as error:
        return Done(name, error=error)


def worst(outcomes: Sequence[Done]) -> OutcropError | None:
    """The error to end with: of the outcome with the highest exit code, with how many datasets are not in order."""
    wrong = [done for done in outcomes if done.code]
    if not wrong:
        return None
    last = max(wrong, key=lambda done: done.code)
    text = f"{len(wrong)} of {len(outcomes)} datasets are not in order ({', '.join(done.dataset for done in wrong)})"
    return type(last.error)(text) if last.error is not None else PartialFailure(f"{text}; see `ingest status`")
