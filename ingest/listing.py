"""What an ingest is to do and does: a list of sources, a look ahead, and the run over them. The same for every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.features import FeatureKeeper, due
from outcrop.ingest.leftovers import remove_leftovers
from outcrop.ingest.pipeline import Options, Pipeline
from outcrop.ingest.runs import Failure, Record, Run, running
from outcrop.ingest.sources import STORED, Source, groups
from outcrop.schema.errors import OutcropError, StoreUnreachable
from outcrop.store.collection import Collection
from outcrop.store.table import LOOKUP


@dataclass(frozen=True)
class Listing:
    """What is to be ingested, held against the disk; nothing has been opened.

    `missing` are items declared but not there, `undeclared` files that look like sources but are not declared, `remarks` what
    a person should be told of both.
    """

    dataset: str
    sources: Sequence[Source]
    missing: Sequence[Failure] = ()
    undeclared: Sequence[Path] = ()
    remarks: Sequence[str] = ()

    @property
    def expected(self) -> int:
        """Declared items, on disk or not."""
        return sum(source.count for source in self.sources) + len(self.missing)


@dataclass(frozen=True)
class Outlook:
    """What a run would do (`--dry-run`): counts of items."""

    dataset: str
    expected: int
    missing: int
    undeclared: int
    unchanged: int
    to_embed: int


def look_ahead(
    listing: Listing, collection: Collection | None, *, force: bool = False, features: FeatureKeeper | None = None
) -> Outlook:
    """What `ingest_listing` would do with a listing, by size and time of the files; embeds and writes nothing."""
    unchanged, items = 0, listing.expected - len(listing.missing)
    if collection is not None and not force:
        for group in groups(listing.sources, LOOKUP):
            known = collection.lookup([item.id for source in group for item in source.items], STORED)
            for source in group:
                rows = {item.id: known[item.id] for item in source.items if item.id in known}
                unchanged += source.count - len(due(source, rows, features)[1])
    return Outlook(
        listing.dataset, listing.expected, len(listing.missing), len(listing.undeclared), unchanged, items - unchanged
    )


def ingest_listing(
    listing: Listing,
    encoder: PictureEncoder,
    collection: Collection,
    run: Run,
    options: Options = Options(),
    *,
    thumbnails: ThumbnailStore | None = None,
    features: FeatureKeeper | None = None,
    progress: Callable[[int], None] | None = None,
    waiting: Callable[[str], None] | None = None,
    on_start: Callable[[Pipeline], None] | None = None,
    index_deadline: float = 300.0,
) -> Record:
    """Embeds new and changed items and upserts them, removes leftovers, flushes once, waits for the index, verifies.

    With `features`, patch features and the like are kept too, from the same pass; items that lack them are embedded again.
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
        pipeline = Pipeline(
            encoder, collection, run, options, thumbnails=thumbnails, features=features, waiting=waiting
        )
        if on_start is not None:
            on_start(pipeline)
        pipeline.run_all(listing.sources, progress)
        if not pipeline.stopped:
            removed = remove_leftovers(collection, pipeline.scopes, pipeline.covered, set(pipeline.ids), thumbnails)
            run.count(removed=removed)
        if record.upserted or record.removed:
            collection.flush()
            try:
                collection.wait_for_index(index_deadline)
                collection.wait_until_served()
            except StoreUnreachable as error:
                record.error = str(error)
                raise
            verify_written(collection, pipeline.ids)
        run.end("interrupted" if pipeline.stopped else "done")
        return record


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
