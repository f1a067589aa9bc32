"""An ingest of any kind: a look at what it would do, and the run over its listing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from outcrop.embed.protocol import PictureEncoder
from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.changes import changes
from outcrop.ingest.checked import CheckedFiles
from outcrop.ingest.features import FeatureKeeper
from outcrop.ingest.finishing import (
    INDEX_DEADLINE,
    ShardEnd,
    make_searchable,
    remove_rows,
    remove_stale,
    verify_written,
)
from outcrop.ingest.pipeline import Options, Pipeline
from outcrop.ingest.runs import Record, Run, running
from outcrop.ingest.sources import Listing
from outcrop.store.collection import Collection
from outcrop.store.first_load import Way


@dataclass(frozen=True)
class Outlook:
    """What a run would do (`--dry-run`): counts of items; `to_remove` are stale rows, of items that are no longer made."""

    dataset: str
    expected: int
    missing: int
    undeclared: int
    unchanged: int
    to_embed: int
    to_remove: int = 0


def look_ahead(
    listing: Listing,
    collection: Collection | None,
    *,
    force: bool = False,
    features: FeatureKeeper | None = None,
    checked: CheckedFiles | None = None,
    stale: bool = True,
) -> Outlook:
    """What `ingest_listing` would do with a listing; reads only files whose time is another, embeds and writes nothing.

    Without `stale` the listing is that of a shard, which removes nothing.
    """
    counts: Counter[str] = Counter()
    found = changes(listing, collection, force=force, features=features, checked=checked, stale=stale)
    for change in found:
        counts["embed" if change.embed else change.kind] += 1
    return Outlook(
        listing.dataset,
        listing.expected,
        len(listing.missing),
        len(listing.undeclared),
        unchanged=counts["unchanged"] + counts["lacking"],  # without `embed`: only output files are to be written
        to_embed=counts["embed"],
        to_remove=counts["gone"],
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
    on_change: Callable[[], None] | None = None,
    index_deadline: float = INDEX_DEADLINE,
    shard_end: ShardEnd | None = None,
    way: Way = Way(),
) -> Record:
    """Embeds new and changed items and upserts them, removes stale rows, flushes once, waits for the index, verifies.

    With `features`, patch features and the like are kept too, from the same pass; items that lack them are embedded again.
    `on_start` is given the pipeline, so that a signal handler can stop it; `on_change` is called by the thread that compares,
    each time that it finds an item that must be embedded; `way` is how rows get into the collection. With `shard_end` the
    listing is a shard's, and what is done once for all shards is left to the last of them. Returns the run's record, which is
    also on disk with its ledger of failures.

    Raises:
        StoreUnreachable: Milvus went away for longer than the patience; what was written stays, the next run goes on.
        SpaceMismatch: encoder and collection are of different spaces. Refused: the collection's vectors are averaged.
    """
    with running(run):
        collection.require(encoder.space)
        collection.require_plain()
        record = run.record
        record.collection, record.physical, record.space = (
            collection.name,
            collection.physical,
            encoder.space.fingerprint,
        )
        record.expected, record.undeclared = listing.expected, len(listing.undeclared)
        record.others = dict(listing.others)
        for failure in listing.missing:
            run.fail(failure)
        run.count(missing=len(listing.missing))
        run.save()
        pipeline = Pipeline(
            encoder,
            collection,
            run,
            options,
            thumbnails=thumbnails,
            features=features,
            waiting=waiting,
            on_change=on_change,
            load=way.load,
        )
        if on_start is not None:
            on_start(pipeline)
        pipeline.run_all(listing.sources, progress)
        if not pipeline.stopped:
            run.count(removed=remove_rows(collection, pipeline.misread, thumbnails))
        if not pipeline.stopped and shard_end is not None:
            shard_end.ends(pipeline.present, run, thumbnails, index_deadline)
        elif not pipeline.stopped:
            run.count(removed=remove_stale(collection, pipeline.present, thumbnails))
        later = way.alone and bool(collection.later_index) and not pipeline.stopped
        if shard_end is None and (record.upserted or record.removed or later):
            make_searchable(collection, run, index_deadline, way.say if later else None)
            verify_written(collection, pipeline.present)
        run.end("interrupted" if pipeline.stopped else "done")
        return record
