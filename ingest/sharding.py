"""A sharded ingest: its parts, the name they have in common, and who of them is the last.

Each shard embeds, writes and verifies its own items, under a run record and a ledger of its own. What is done once for all of
them (stale rows, flush, the wait for the index, the last verification) the shard does that ends last, or `ingest finish` by hand.
Shards do not speak to each other: each leaves a mark among the collection's properties when it begins and when it has ended, and
looks at all marks after it has set its own. Two that end at the same moment both see all of them, and both finish, which does no
harm. A mark counts for the group that it names alone, so those of an earlier pass under another name do not.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, ValidationError

from outcrop.ingest.requests import AnyRequest
from outcrop.ingest.runs import Record
from outcrop.ingest.sources import Listing, parents_of
from outcrop.schema.digests import digest_of
from outcrop.schema.sequences import Chosen
from outcrop.schema.settings import Settings
from outcrop.schema.shards import Shard
from outcrop.store.collection import Collection

PROPERTY_SHARD = "outcrop.shard"
"""The beginning of the properties that hold the marks."""
NOT_THE_WORK = {"force", "features_folder", "known"}
"""What a request says that makes no other group of it."""


def share(listing: Listing, shard: Shard | None) -> Listing:
    """The part of a listing that is a shard's, by the parent's key of a source's first item; everything without a shard.

    What is said of the listing as a whole (undeclared and other files, remarks) is the first shard's.
    """
    if shard is None:
        return listing
    places = array("q", (place for place, key in enumerate(parents_of(listing.sources)) if shard.has(key)))
    missing = [failure for failure in listing.missing if shard.has(failure.key)]
    if shard.number:
        listing = replace(listing, undeclared=(), remarks=(), others={})
    return replace(listing, sources=Chosen(listing.sources, places), missing=missing)


def group_of(settings: Settings, request: AnyRequest, collection: str, shard: Shard) -> str:
    """The name of a sharded ingest: that of the settings, else one made of what is ingested, into what, in how many shards."""
    if settings.group is not None:
        return settings.group
    asked = request.model_dump_json(exclude=NOT_THE_WORK)
    return f"{request.name}-{digest_of(f'{asked} {collection} {shard.of}')[:8]}"


class Mark(BaseModel):
    """What a shard leaves with the collection; `failed` counts the items that it could not make, `left_out` the frames of films
    that it did not keep, in this run or an earlier one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    group: str
    run: str
    done: bool = False
    failed: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Marks:
    """The marks of the `of` shards of a group, ingesting `request` into `collection`."""

    collection: Collection
    request: AnyRequest
    of: int
    group: str

    def begin(self, shard: Shard, run: str) -> None:
        """Notes that a shard is at work, whatever an earlier run of it left."""
        self._set({shard.number: Mark(group=self.group, run=run)})

    def end(self, shard: Shard, record: Record, left_out_before: int = 0) -> None:
        """Notes that a shard has ended; `left_out_before` are frames that an earlier run of it did not keep."""
        failed, left_out = record.failed - record.missing, record.left_out + left_out_before
        self._set({shard.number: Mark(group=self.group, run=record.run, done=True, failed=failed, left_out=left_out)})

    def done(self) -> dict[int, Mark]:
        """The marks of the shards that have ended, by their numbers."""
        properties = self.collection.properties()
        found = {number: _read(properties.get(self._name(number))) for number in range(self.of)}
        return {n: mark for n, mark in found.items() if mark is not None and mark.done and mark.group == self.group}

    def clear(self) -> None:
        """Takes all marks away, for the next pass."""
        self._set(dict.fromkeys(range(self.of)))

    def _set(self, marks: Mapping[int, Mark | None]) -> None:
        texts = {self._name(n): mark.model_dump_json() if mark is not None else "" for n, mark in marks.items()}
        self.collection.set_properties(texts)

    def _name(self, number: int) -> str:
        return f"{PROPERTY_SHARD}.{digest_of(f'{self.request.command} {self.request.name}')[:12]}.{self.of}.{number}"


def unfinished(done: Container[int], of: int) -> str:
    """Which shards have not ended, in words; '' where all have."""
    left = [str(number) for number in range(of) if number not in done]
    more = f" and {len(left) - 8} more" if len(left) > 8 else ""
    return f"{len(left)} of {of} shards have not ended ({', '.join(left[:8])}{more})" if left else ""


def _read(text: str | None) -> Mark | None:
    try:
        return Mark.model_validate(json.loads(text)) if text else None
    except (ValueError, ValidationError, RecursionError):
        return None  # of another version, or damaged: that shard runs again
