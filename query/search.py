"""Top-k questions: which items look like these pictures, like this item, like every item of this dataset.

Each function embeds or fetches query vectors, asks the store once per batch, and returns plain results.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed.images import decode, thumbnail
from embed.photo import PhotoMetadata
from embed.protocol import PictureEncoder
from query.confidence import Verdict
from query.location import Location
from schema.errors import InputError, OutcropError, PictureError
from schema.filters import Filter, equals
from schema.item import ANSWER_FIELDS, UNKNOWN_COORDINATE, Item, Kind, item_id, parent_of
from store.collection import Collection
from store.search import MOST_HITS, Hit, Plan, drop_hits, search

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif"))
"""Endings of the files that are taken from a folder given as a query."""
MOST_BYTES = 2**30
BATCH = 64
"""Query pictures, or stored query vectors, in one go."""


@dataclass(frozen=True)
class Query:
    """What was asked: a picture's path or an item's key; the thumbnail (WebP) and place of a picture, the item of a key."""

    name: str
    digest: str = ""
    thumbnail: bytes | None = None
    metadata: PhotoMetadata | None = None
    item: Item | None = None

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees of the photograph or item, None where unknown."""
        facts = self.metadata
        if facts is not None and facts.latitude is not None and facts.longitude is not None:
            return facts.latitude, facts.longitude
        if self.item is not None and self.item.latitude != UNKNOWN_COORDINATE:
            return self.item.latitude, self.item.longitude
        return None


@dataclass(frozen=True)
class Result:
    """The hits of one query, best first; or why it could not be asked.

    Re-ranked (`query.rerank`), `verdicts` has one for each parent among the hits, `match` tells whether any was verified, and
    `no_match` why none was. Located (`query.locate`), there is a `location`, or `no_location` says what is missing.
    """

    query: Query
    hits: tuple[Hit, ...] = ()
    error: str = ""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    match: bool | None = None
    no_match: str = ""
    location: Location | None = None
    no_location: str = ""

    def verdict(self, hit: Hit) -> Verdict | None:
        """What geometry says of a hit; None where it was not asked."""
        return self.verdicts.get(parent_of(hit.item.key))


@dataclass(frozen=True)
class Results:
    """The answers of one call. `plan` is the one that ran (of the last batch, where there were several).

    `timings` are seconds by step: "embed" (read, decode, encode), "search", and those of later steps.
    """

    collection: str
    plan: Plan | None
    results: tuple[Result, ...] = field(default=())
    timings: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """``{"collection", "plan", "timings", "queries": [{"query", "hits": [{"rank", "key", "score", …}]}]}``."""
        return {
            "collection": self.collection,
            "plan": plan_json(self.plan),
            "timings": timings_json(self.timings),
            "queries": [result_json(r) for r in self.results],
        }


def query_images(
    paths: Sequence[Path],
    encoder: PictureEncoder,
    collection: Collection,
    k: int = 10,
    filter: Filter | None = None,
    *,
    exclude_self: bool = False,
    exact: bool = False,
) -> Results:
    """The best `k` items for each picture file; folders stand for the pictures in them.

    A picture that cannot be read gets an `error` instead of hits, and the others are still asked. `exclude_self` leaves out
    items that were made of the very same file.

    Raises:
        InputError: no such file, or no picture at all.
        PictureError: the only picture cannot be read.
        SpaceMismatch: encoder and collection are of different spaces.
    """
    collection.require(encoder.space)
    files = expand(paths)
    results: list[Result] = []
    plan: Plan | None = None
    timings = {"embed": 0.0, "search": 0.0}
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), BATCH):
            begun = time.perf_counter()
            read = list(pool.map(lambda path: _read(path, encoder), files[start : start + BATCH]))
            good = [(query, pixels) for query, pixels, _ in read if pixels is not None]
            hits: Iterator[tuple[Hit, ...]] = iter(())
            if good:
                vectors = encoder.encode(np.stack([pixels for _, pixels in good]))
                asked = time.perf_counter()
                timings["embed"] += asked - begun
                found, plan = _ask(
                    collection, vectors, k, filter, [q.digest if exclude_self else "" for q, _ in good], exact
                )
                timings["search"] += time.perf_counter() - asked
                hits = iter(found)
            results += [
                Result(query, next(hits)) if pixels is not None else Result(query, error=error)
                for query, pixels, error in read
            ]
    if len(results) == 1 and results[0].error:
        raise PictureError(results[0].error)
    return Results(collection.name, plan, tuple(results), timings)


def query_items(
    keys: Sequence[str],
    collection: Collection,
    k: int = 10,
    filter: Filter | None = None,
    *,
    exclude_self: bool = False,
    exact: bool = False,
) -> Results:
    """The best `k` items for each stored item, named by its key; needs no model.

    Raises:
        InputError: a key is not in the collection.
    """
    ids = [item_id(key) for key in keys]
    stored = collection.items(ids)
    for key, id in zip(keys, ids, strict=True):
        if id not in stored:
            raise InputError(f"no item {key!r} in collection {collection.name!r}{_near(key, collection)}")
    items = [stored[id][0] for id in ids]
    vectors = np.stack([stored[id][1] for id in ids])
    return _ask_items(collection, items, vectors, k, filter, exclude_self, exact)


def query_dataset(
    name: str,
    collection: Collection,
    k: int = 10,
    filter: Filter | None = None,
    *,
    kind: Kind = Kind.IMAGE,
    limit: int | None = None,
    exclude_self: bool = False,
    exact: bool = False,
) -> Iterator[Results]:
    """The best `k` items for every stored item of a dataset, in batches (so that memory does not grow with the dataset).

    Raises:
        InputError: the collection holds nothing of this dataset.
    """
    left = limit
    seen = False
    for items, vectors in collection.scan(equals("kind", str(kind)) & equals("dataset", name), vectors=True, batch=256):
        if left is not None:
            items, vectors = items[:left], vectors[:left]
            left -= len(items)
        if items:
            seen = True
            yield _ask_items(collection, items, vectors, k, filter, exclude_self, exact)
        if left is not None and left <= 0:
            return
    if not seen:
        raise InputError(
            f"collection {collection.name!r} holds no {kind} of dataset {name!r}; "
            f"`ingest dataset {name}` first, or see `ingest status`"
        )


def expand(paths: Sequence[Path]) -> list[Path]:
    """The picture files that paths stand for: files as they are, folders as the pictures below them, by name.

    Raises:
        InputError: a path does not exist, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"the folder {path} holds no picture ({', '.join(sorted(SUFFIXES))})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"no picture at {path}; check the path")
    if not files:
        raise InputError("no picture is given")
    return files


def first_hits(results: Results, k: int) -> Results:
    """The same answers with the first `k` hits of each, and the verdicts on these."""

    def cut(result: Result) -> Result:
        hits = result.hits[:k]
        kept = {parent_of(hit.item.key) for hit in hits}
        verdicts = {parent: verdict for parent, verdict in result.verdicts.items() if parent in kept}
        return replace(result, hits=hits, verdicts=verdicts)

    return replace(results, results=tuple(cut(result) for result in results.results))


def hit_json(hit: Hit, verdict: Verdict | None = None) -> dict[str, Any]:
    """A hit as the answers' plain values; with what geometry says of it, where that was asked."""
    row: dict[str, Any] = {"rank": hit.rank, "key": hit.item.key, "score": round(hit.score, 6)}
    row.update({name: getattr(hit.item, name) for name in ANSWER_FIELDS if name != "key"})
    row["kind"] = str(hit.item.kind)
    return row if verdict is None else {**row, **verdict.as_json(hit.score)}


def result_json(result: Result) -> dict[str, Any]:
    """A result as plain values."""
    row: dict[str, Any] = {"query": result.query.name}
    if result.match is not None:
        row["match"] = result.match
        if result.no_match:
            row["reason"] = result.no_match
    if result.location is not None or result.no_location:
        row["location"] = result.location.as_json() if result.location is not None else None
        if result.no_location:
            row["location_missing"] = result.no_location
    row["hits"] = [hit_json(hit, result.verdict(hit)) for hit in result.hits]
    return {**row, "error": result.error} if result.error else row


def total_timings(batches: Sequence[Results]) -> dict[str, float]:
    """Seconds by step over several answers."""
    total: dict[str, float] = {}
    for batch in batches:
        for step, seconds in batch.timings.items():
            total[step] = total.get(step, 0.0) + seconds
    return total


def timings_json(timings: Mapping[str, float]) -> dict[str, float]:
    """Seconds by step as plain values."""
    return {step: round(seconds, 4) for step, seconds in timings.items()}


def plan_json(plan: Plan | None) -> dict[str, Any] | None:
    """A plan as plain values."""
    if plan is None:
        return None
    return {
        "method": plan.method,
        "index": plan.index,
        "reason": plan.reason,
        "partitions": list(plan.partitions) if plan.partitions is not None else None,
        "filter": plan.filter,
        "kept": plan.kept,
        "total": plan.total,
        "params": plan.params,
        "fallback": plan.fallback,
        "seconds": round(plan.seconds, 4),
    }


def _ask_items(
    collection: Collection,
    items: Sequence[Item],
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter | None,
    exclude_self: bool,
    exact: bool,
) -> Results:
    begun = time.perf_counter()
    answer = search(collection, vectors, _wider(k, 1) if exclude_self else k, filter, exact=exact)
    timings = {"search": time.perf_counter() - begun}
    results = []
    for item, hits in zip(items, answer.hits, strict=True):
        kept = drop_hits(hits, {item.id}, k) if exclude_self else hits
        results.append(Result(Query(item.key, item.source_digest, item=item), kept))
    return Results(collection.name, answer.plan, tuple(results), timings)


def _ask(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter | None,
    unwanted: Sequence[str],
    exact: bool,
) -> tuple[list[tuple[Hit, ...]], Plan]:
    """Hits per query, without the items that were made of a file with the unwanted digest ('' = nothing unwanted)."""
    extra = 8 if any(unwanted) else 0
    answer = search(collection, vectors, _wider(k, extra), filter, exact=exact)
    found = []
    for digest, hits in zip(unwanted, answer.hits, strict=True):
        same = {hit.item.id for hit in hits if digest and hit.item.source_digest == digest}
        found.append(drop_hits(hits, same, k) if same or extra else hits)
    return found, answer.plan


def _wider(k: int, extra: int) -> int:
    return min(MOST_HITS, k + extra)


def _read(path: Path, encoder: PictureEncoder) -> tuple[Query, NDArray[np.uint8] | None, str]:
    query = Query(str(path))
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PictureError(f"{path} is larger than any photograph; give a picture")
        data = path.read_bytes()
        decoded = decode(data, name=str(path), at_least=encoder.space.size)
        query = replace(
            query,
            digest=hashlib.blake2b(data, digest_size=16).hexdigest(),
            thumbnail=thumbnail(decoded.image),
            metadata=decoded.metadata,
        )
        return query, encoder.prepare(decoded), ""
    except PictureError as error:
        return query, None, str(error)
    except OSError as error:
        return query, None, f"{path} cannot be read: {error.strerror or error}"


def _near(key: str, collection: Collection) -> str:
    """A hint: a key that is there and begins as the missing one does."""
    from schema.filters import Condition

    pieces = key.split("/")
    for depth in range(len(pieces) - 1, 1, -1):
        prefix = "/".join(pieces[:depth]) + "/"
        try:
            for items, _ in collection.scan(Filter((Condition("key", "prefix", (prefix,)),)), batch=1):
                return f"; there is {items[0].key!r}"
        except OutcropError:
            return ""
    return "; a key looks like image/<dataset>/<capture_id>/<frame>"
