"""`ingest dataset`: the pictures of a registered dataset into a collection; and the retry of what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embed.protocol import PictureEncoder
from embed.thumbnails import ThumbnailStore
from ingest.pipeline import Options, Pipeline, verify_written
from ingest.runs import Failure, Record, Run, running
from ingest.sources import STORED, Source
from schema.errors import InputError, StoreUnreachable
from schema.filters import equals
from schema.frames import CaptureFiles, Frame, list_captures
from schema.item import Item, Kind, image_key
from schema.registry import read_registry
from store.collection import Collection
from store.table import LOOKUP


@dataclass(frozen=True)
class Listing:
    """What a dataset declares, held against the disk. Lists in the registry's order; nothing has been opened."""

    dataset: str
    sources: tuple[Source, ...]
    missing: tuple[Failure, ...]
    undeclared: tuple[Path, ...]
    captures: tuple[CaptureFiles, ...]

    @property
    def expected(self) -> int:
        """Declared items, on disk or not."""
        return len(self.sources) + len(self.missing)


@dataclass(frozen=True)
class Outlook:
    """What a run would do (`--dry-run`): counts of items."""

    dataset: str
    expected: int
    missing: int
    undeclared: int
    unchanged: int
    to_embed: int
    sources: tuple[Source, ...] = field(default=(), repr=False)


def list_dataset(
    registry: Path, name: str, datasets: Path, *, limit: int | None = None, only: Iterable[str] | None = None
) -> Listing:
    """Lists a dataset's items.

    `limit` keeps the first so many that are on disk; `only` keeps the items with these keys.

    Raises:
        RegistryError: the registry, the dataset's name, a template or a folder is wrong.
    """
    captures = list_captures(read_registry(registry), name, datasets)
    sources = [_source(frame) for capture in captures for frame in capture.frames]
    missing = [failure for capture in captures for failure in _missing(name, capture)]
    if only is not None:
        keys = set(only)
        sources = [s for s in sources if s.item.key in keys]
        missing = [m for m in missing if m.key in keys]
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        sources, missing = sources[:limit], []
    undeclared = tuple(path for capture in captures for path in capture.undeclared)
    return Listing(name, tuple(sources), tuple(missing), undeclared, tuple(captures))


def look_ahead(listing: Listing, collection: Collection | None, *, force: bool = False) -> Outlook:
    """What `ingest_dataset` would do with a listing, by size and time of the files; embeds and writes nothing."""
    unchanged = 0
    if collection is not None and not force:
        for start in range(0, len(listing.sources), LOOKUP):
            group = listing.sources[start : start + LOOKUP]
            known = collection.lookup([s.item.id for s in group], STORED)
            unchanged += sum(s.item.id in known and s.unchanged_since(known[s.item.id]) for s in group)
    return Outlook(
        listing.dataset,
        listing.expected,
        len(listing.missing),
        len(listing.undeclared),
        unchanged,
        len(listing.sources) - unchanged,
        listing.sources,
    )


def ingest_dataset(
    listing: Listing,
    encoder: PictureEncoder,
    collection: Collection,
    run: Run,
    options: Options = Options(),
    *,
    thumbnails: ThumbnailStore | None = None,
    progress: Callable[[int], None] | None = None,
    waiting: Callable[[str], None] | None = None,
    on_start: Callable[[Pipeline], None] | None = None,
    index_deadline: float = 300.0,
) -> Record:
    """Embeds a dataset's new and changed pictures and upserts them; flushes once, waits for the index, verifies.

    `on_start` is given the pipeline, so that a signal handler can stop it. Returns the run's record, which is also on disk
    with its ledger of failures.

    Raises:
        StoreUnreachable: Milvus went away for longer than the patience; what was written stays, the next run goes on.
        SpaceMismatch: encoder and collection are of different spaces.
    """
    with running(run):
        collection.require(encoder.space)
        record = run.record
        record.collection, record.physical, record.space = (
            collection.name,
            collection.physical,
            encoder.space.fingerprint,
        )
        record.expected, record.undeclared = listing.expected, len(listing.undeclared)
        for failure in listing.missing:
            run.fail(failure)
        run.count(missing=len(listing.missing))
        run.save()
        pipeline = Pipeline(encoder, collection, run, options, thumbnails=thumbnails, waiting=waiting)
        if on_start is not None:
            on_start(pipeline)
        pipeline.run_all(listing.sources, progress)
        if record.upserted:
            collection.flush()
            try:
                collection.wait_for_index(index_deadline)
            except StoreUnreachable as error:
                record.error = str(error)
                raise
            verify_written(collection, pipeline.ids)
        run.end("interrupted" if pipeline.stopped else "done")
        return record


def stored_count(collection: Collection, dataset: str) -> int:
    """How many images of a dataset the collection holds."""
    return collection.count(equals("kind", "image") & equals("dataset", dataset))


def retry_arguments(record: Record, failures: list[Failure]) -> tuple[dict[str, Any], list[str]]:
    """The arguments of a run that is to be retried, and the keys of what failed in it.

    Raises:
        InputError: nothing failed, or the run was no `ingest dataset`.
    """
    if record.command != "dataset":
        raise InputError(
            f"run {record.run} was `ingest {record.command}`; only runs of `ingest dataset` can be retried"
        )
    if not failures:
        raise InputError(
            f"run {record.run} has no failures to retry"
            + ("; it did not end: run the same command again" if record.state != "done" else "")
        )
    return record.arguments, sorted({failure.key for failure in failures})


def _source(frame: Frame) -> Source:
    key = frame.key
    item = Item(
        key=str(key),
        kind=Kind.IMAGE,
        dataset=key.dataset,
        capture_id=key.capture_id,
        frame=key.frame,
        altitude=frame.altitude or 0.0,
        source=frame.source,
        extra={"label": frame.label} if frame.label is not None else {},
    )
    return Source(item, frame.path, altitude_stated=frame.altitude is not None)


def _missing(dataset: str, capture: CaptureFiles) -> list[Failure]:
    reason = "declared in the registry, but not on disk"
    named = [Failure(image_key(dataset, capture.capture_id, n), "", "list", reason) for n in capture.missing]
    rest = capture.missing_count - len(named)
    unnamed = [
        Failure(
            f"{image_key(dataset, capture.capture_id, 0)}?{n}",
            "",
            "list",
            f"{reason} (one of {rest}; their numbers are not known)",
        )
        for n in range(1, rest + 1)
    ]
    return named + unnamed
