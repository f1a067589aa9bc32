"""The end of an ingest: stale rows, flush, the wait for the index, and the proof that all is there; of shards, once for all."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from outcrop.embed.thumbnails import ThumbnailStore
from outcrop.ingest.changes import Present, accounted
from outcrop.ingest.groups import Group, find_group
from outcrop.ingest.runs import Record, Run, RunSettings, running
from outcrop.ingest.sharding import Marks, unfinished
from outcrop.ingest.sources import Listing
from outcrop.ingest.watcher import Watcher
from outcrop.schema.errors import OutcropError, PartialFailure, StoreUnreachable
from outcrop.schema.item import item_id
from outcrop.schema.settings import Settings
from outcrop.schema.shards import Shard
from outcrop.store.collection import Collection
from outcrop.store.connection import Store
from outcrop.store.later_index import build_now, later_name

if TYPE_CHECKING:
    from outcrop.ingest.requests import AnyRequest

INDEX_DEADLINE = 300.0
"""Seconds to wait for the index."""


def remove_stale(collection: Collection, present: Present, thumbnails: ThumbnailStore | None) -> int:
    """Removes the rows that their sources no longer make (other angles, fewer views), with their thumbnails; returns how many."""
    return remove_rows(collection, [item_id(change.key) for change in present.gone(collection)], thumbnails)


def remove_rows(collection: Collection, gone: Sequence[str], thumbnails: ThumbnailStore | None) -> int:
    """Removes rows by their ids, with their thumbnails; returns how many."""
    collection.delete(gone)
    if thumbnails is not None:
        for id in gone:
            thumbnails.remove(id)
    return len(gone)


def make_searchable(
    collection: Collection, run: Run, deadline: float = INDEX_DEADLINE, building: Callable[[str], None] | None = None
) -> None:
    """Flushes once and waits for the index. With `building` an index that was put off is built, which is said to it.

    Raises:
        StoreUnreachable: it is not finished within `deadline` seconds. Refused: the server cannot build it.
    """
    collection.flush()
    try:
        if building is not None:
            building(
                f"building the index {later_name(collection)} of {collection.name!r}; it does not answer meanwhile"
            )
            build_now(collection)
        collection.wait_for_index(deadline)
        collection.wait_until_served()
    except StoreUnreachable as error:
        run.record.error = str(error)
        raise


def verify_written(collection: Collection, present: Present) -> None:
    """Asks the collection for every item that a run accounted for: after it, nothing may be left to do.

    Raises:
        OutcropError: some are not there; how many.
    """
    if absent := present.absent(collection):
        raise OutcropError(
            f"{absent} of {len(present)} items are not in {collection.name!r} after they were written; "
            "run the same command again"
        )


def finish_whole(
    listing: Listing,
    collection: Collection,
    run: Run,
    failed: int,
    thumbnails: ThumbnailStore | None,
    deadline: float = INDEX_DEADLINE,
    *,
    left_out: int = 0,
) -> int:
    """What is done once after all shards of a listing; opens no file. Returns how many of its items are in the collection.

    `failed` is the number of items that the shards could not make. `left_out` counts the frames of films that they did not keep:
    those that this machine does not know of are in the listing, and have no rows.

    Raises:
        PartialFailure: more items than these are not there. StoreUnreachable: the index is not finished in time.
    """
    present, absent = accounted(listing, collection)
    run.count(removed=remove_stale(collection, present, thumbnails))
    make_searchable(collection, run, deadline)
    verify_written(collection, present)
    without = failed + max(0, left_out - present.left_out_before)
    if absent > without:
        raise PartialFailure(
            f"{absent - without} items of {listing.dataset} are not in {collection.name!r}, and no shard failed to make "
            "them: run its shards again; what is there is not embedded again"
        )
    return len(present)


@dataclass
class ShardEnd:
    """What a shard does at its end, and whether it was the last (`finished`); `whole` is the listing of all shards."""

    shard: Shard
    marks: Marks
    whole: Listing
    say: Callable[[str], None]
    finished: bool = False

    def ends(self, present: Present, run: Run, thumbnails: ThumbnailStore | None, deadline: float) -> None:
        """Verifies what the shard wrote, leaves its mark, and finishes for all where all have ended.

        Raises:
            OutcropError: see `finish_whole`.
        """
        collection = self.marks.collection
        if run.record.upserted:
            verify_written(collection, present)
        if collection.store.lite:
            collection.flush()  # a directory on this machine, made safe against a power cut; a server keeps a log
        self.marks.end(self.shard, run.record, present.left_out_before)
        done = self.marks.done()
        if self.shard.number not in done:  # the marks are gone again, or another process has begun this shard anew
            self.say(f"shard {self.shard} is done; another process finishes {self.marks.group}")
            return
        if left := unfinished(done, self.marks.of):
            self.say(
                f"shard {self.shard} is done; {left}: the last one finishes, or `ingest finish {self.marks.group}`"
            )
            return
        self.say(f"shard {self.shard} is the last of {self.marks.group}: stale rows, flush, index and verification")
        failed, left_out = (sum(getattr(mark, name) for mark in done.values()) for name in ("failed", "left_out"))
        finish_whole(self.whole, collection, run, failed, thumbnails, deadline, left_out=left_out)
        self.marks.clear()
        self.finished = True


def finish(settings: Settings, name: str, watcher: Watcher = Watcher(), *, given: Container[str] = ()) -> Record:
    """Finishes a sharded ingest whose last shard could not, and returns the record of doing so.

    `name` is a group's, or that of one of its runs, or ``last``. Shards that have not ended are named in a warning.

    Raises:
        InputError: no such group in the state folder. OutcropError: see `finish_whole`.
    """
    group = find_group(settings.state, name)
    earlier = group.shards[0]
    assert earlier.request is not None  # a run with a group has one
    if earlier.collection and "collection" not in given:
        settings = settings.model_copy(update={"collection": earlier.collection})
    with Store.of(settings, patience=settings.patience, waiting=watcher.warn) as store:
        collection = Collection.open(store, settings.collection)
        request = cast("AnyRequest", earlier.request.located(collection, settings))
        listing = request.list(collection.space if request.takes_space else None)
        record = _finish(group, Marks(collection, request, group.of, group.name), listing, settings, watcher)
        request.finish(collection, settings, watcher.say)
    return record


def _finish(group: Group, marks: Marks, listing: Listing, settings: Settings, watcher: Watcher) -> Record:
    # What ended is known by the marks, which the last shard takes away, and by the records, where the state folder has them.
    collection, done = marks.collection, marks.done()
    left = unfinished({*done, *group.done}, marks.of)
    if left:
        watcher.warn(f"{left}: what they would have embedded is missing")
    failed = max(sum(mark.failed for mark in done.values()), group.count("failed") - group.count("missing"))
    left_out = max(sum(mark.left_out for mark in done.values()), group.count("left_out"))
    run = Run.begin(settings.state, "finish", marks.request, RunSettings.of(settings), group=marks.group)
    with running(run):
        record = run.record
        record.collection, record.physical = collection.name, collection.physical
        record.model, record.space = collection.space.model, collection.space.fingerprint
        record.expected = listing.expected
        thumbnails = ThumbnailStore.below(settings.state) if settings.thumbnails else None
        run.count(unchanged=finish_whole(listing, collection, run, failed, thumbnails, left_out=left_out))
        if not left:
            marks.clear()
        run.end("done")
    return record
