"""Top-k questions: which items look like these pictures, like this item, like every item of this dataset.

Each function embeds or fetches query vectors, asks the store once per batch (and again, wider, for queries of which too few
parents came out), and returns plain results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from outcrop.embed.protocol import PictureEncoder
from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.expansion import Again
from outcrop.query.grouping import best_of, comparisons, grouped, ungrouped
from outcrop.query.held import explained, queried_kind, require_held
from outcrop.query.keys import full_keys
from outcrop.query.pictures import NOTHING_ASSUMED, QueryPicture, expand, read_query, turn_angles
from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import InputError, PictureError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.ground import MOST_OF_QUERY, Footing
from outcrop.schema.item import Item, Kind, item_id, parent_of
from outcrop.store.collection import Collection
from outcrop.store.search import MAX_HITS, Plan, search
from outcrop.store.search import Hit as StoredHit

BATCH = 64
"""Query pictures, or stored query vectors, in one go."""
TURNED_BATCH = 256
"""Turned query pictures in one go."""
MAP_TURNS = 12
"""Turns of a picture that is to be located on a map."""
WIDER, MIN_WIDE = 4, 50
"""Where hits are grouped: hits to search for per parent wanted, and at least; the first is also the factor by which a search is
widened while too few parents come out."""

Grouping = Literal["auto", "parent", "none"]
"""By parent, not at all, or ("auto") by parent where references are among the hits."""
GROUPINGS: tuple[Grouping, ...] = ("auto", "parent", "none")


def query_images(
    paths: Sequence[Path],
    encoder: PictureEncoder,
    collection: Collection,
    k: int = 10,
    filter: Filter | None = None,
    *,
    exclude_self: bool = False,
    exact: bool = False,
    group: Grouping = "auto",
    turns: int = 0,
    locate: bool = False,
    assumed: Footing = NOTHING_ASSUMED,
    expandable: bool = False,
) -> Results:
    """The best `k` items for each picture file; folders stand for the pictures in them.

    A picture that cannot be read gets an `error` instead of hits, and the others are still asked. `exclude_self` leaves out
    items that were made of the very same file. `group` puts hits together by parent (see `query.grouping`). With `turns`, every
    picture is rotated to that many angles, only images are searched (unless the filter names kinds), and hits are always grouped.
    Pictures that are to be located afterwards (`locate`) are turned without being asked to where maps are searched. In a
    collection with a ground scale the windows of each picture are asked together, its height and focal length being as `assumed`
    where it does not say; turned ones search references that are not turned, too. Results that are `expandable` can be
    asked again.

    Raises:
        InputError: no such file, or no picture at all; too many turns, or `turns` without grouping.
        PictureError: the only picture cannot be read.
        SpaceMismatch: encoder and collection are of different spaces.
    """
    collection.require(encoder.space)
    check_turns(turns, group)
    turns = turns or turns_for_maps(collection, filter, group, locate=locate)
    if turns:
        group, filter = "parent", _images_alone(filter, windows=encoder.space.window is not None)
    require_held(filter, collection)
    files = expand(paths)
    results: list[Result] = []
    plan: Plan | None = None
    timings = {"embed": 0.0, "search": 0.0}
    each = max(1, turns) * (MOST_OF_QUERY**2 if encoder.space.window is not None else 1)
    step = min(BATCH, max(1, TURNED_BATCH // each)) if each > 1 else BATCH
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), step):
            begun = time.perf_counter()
            read = list(pool.map(lambda path: read_query(path, encoder, turns, assumed), files[start : start + step]))
            good = [picture for picture in read if picture.pixels is not None]
            hits: dict[int, tuple[Hit, ...]] = {}
            again: dict[int, Again] = {}
            if good:
                vectors = encoder.encode(np.concatenate([each.pixels for each in good if each.pixels is not None]))
                asked = time.perf_counter()
                timings["embed"] += asked - begun
                for angles, some in _alike(good, vectors):
                    same = [_same_file(each.query.digest) if exclude_self else None for each, _ in some]
                    stacked = np.stack([rows for _, rows in some])
                    found, plan = ask(collection, stacked, k, filter, same, exact=exact, group=group, angles=angles)
                    hits |= {id(each): answer for (each, _), answer in zip(some, found, strict=True)}
                    again |= {
                        id(one): _again(collection, rows, k, filter, left_out, exact, group, angles)
                        for (one, rows), left_out in zip(some, same, strict=True)
                        if expandable
                    }
                timings["search"] += time.perf_counter() - asked
            results += [
                Result(picture.query, hits[id(picture)], again=again.get(id(picture)))
                if picture.pixels is not None
                else Result(picture.query, error=picture.error)
                for picture in read
            ]
    if len(results) == 1 and results[0].error:
        raise PictureError(results[0].error)
    return explained(Results(collection.name, plan, tuple(results), timings), filter, collection)


def turns_for_maps(collection: Collection, filter: Filter | None, group: Grouping, *, locate: bool) -> int:
    """How often a picture that is to be located is turned where nobody says it: tiles of maps lie north up, and a photograph does
    not; 0 where none are searched."""
    names, _ = collection.chosen(filter or Filter())
    tiles = any(name.startswith(str(Kind.TILE)) for name in (collection.partitions() if names is None else names))
    return MAP_TURNS if locate and tiles and group != "none" else 0


def check_turns(turns: int, group: Grouping) -> tuple[float, ...]:
    """The angles in degrees that query pictures are turned by (0: as they are).

    Raises:
        InputError: too many turns, or turns without grouping.
    """
    if turns and group == "none":
        raise InputError("--turns gives one answer per photograph; leave --group none out")
    return turn_angles(turns) if turns else (0.0,)


def query_items(
    keys: Sequence[str],
    collection: Collection,
    k: int = 10,
    filter: Filter | None = None,
    *,
    exclude_self: bool = False,
    exact: bool = False,
    group: Grouping = "auto",
    expandable: bool = False,
) -> Results:
    """The best `k` items for each stored item, named by its key or the end of it (`keys.py`); needs no model. `exclude_self`
    leaves out all items that were made of the same photograph or specimen; `group` and `expandable` as in `query_images`.

    Raises:
        InputError: a key is not in the collection. FilterError: the filter names what the collection does not hold.
    """
    require_held(filter, collection)
    ids = [item_id(key) for key in full_keys(keys, collection)]
    stored = collection.items(ids)
    items = [stored[id][0] for id in ids]
    vectors = np.stack([stored[id][1] for id in ids])
    return _ask_items(collection, items, vectors, k, filter, exclude_self, exact, group, expandable)


def query_dataset(
    name: str,
    collection: Collection,
    k: int = 10,
    filter: Filter | None = None,
    *,
    kind: Kind | None = None,
    limit: int | None = None,
    exclude_self: bool = False,
    exact: bool = False,
    group: Grouping = "auto",
    expandable: bool = False,
) -> Iterator[Results]:
    """The best `k` items for every stored item of a dataset, in batches (so that memory does not grow with the dataset).

    Without a `kind`, the queries are the dataset's images, or the only kind that it holds. `exclude_self` and `group` as in
    `query_items`.

    Raises:
        InputError: the collection holds nothing of this dataset and kind. FilterError: as `query_items`.
    """
    require_held(filter, collection)
    kind = queried_kind(name, collection, kind)
    left = limit
    for items, vectors in collection.scan(equals("kind", str(kind)) & equals("dataset", name), vectors=True, batch=256):
        if left is not None:
            items, vectors = items[:left], vectors[:left]
            left -= len(items)
        if items:
            yield _ask_items(collection, items, vectors, k, filter, exclude_self, exact, group, expandable)
        if left is not None and left <= 0:
            return


Unwanted = Callable[[Item], bool]
"""Whether an item is left out of the answers to a query."""


def ask(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter | None = None,
    unwanted: Sequence[Unwanted | None] = (),
    *,
    exact: bool = False,
    group: Grouping = "auto",
    angles: Sequence[float] = (0.0,),
) -> tuple[list[tuple[Hit, ...]], Plan]:
    """The hits of each query, and the plan that ran. `vectors` [Q, T, D] float32: every query turned by `angles` [T] degrees.

    `unwanted` [Q] says of each query which items are left out of its answers. Queries with fewer than `k` answers left are
    asked again for more hits, up to Milvus's limit.
    """
    queries, turns, _ = vectors.shape
    may_group = group == "parent" or (group == "auto" and _holds_references(collection, filter))
    if not unwanted:
        unwanted = [None] * queries
    wide = max(WIDER * k, MIN_WIDE) if may_group else k + (8 if any(unwanted) else 0)
    found: list[tuple[Hit, ...]] = [()] * queries
    open_queries = list(range(queries))
    while True:
        wide = min(MAX_HITS, wide)
        flat = vectors[open_queries].reshape(len(open_queries) * turns, -1)
        answer = search(collection, flat, wide, filter, exact=exact)
        short = []
        for place, query in enumerate(open_queries):
            per_turn = answer.hits[place * turns : (place + 1) * turns]
            found[query] = _chosen(per_turn, angles, k, unwanted[query], group)
            if len(found[query]) < k and any(len(hits) == wide for hits in per_turn):
                short.append(query)
        open_queries = short
        if not short or wide == MAX_HITS:
            return found, answer.plan
        wide *= WIDER


def _chosen(
    per_turn: Sequence[Sequence[StoredHit]],
    angles: Sequence[float],
    k: int,
    unwanted: Unwanted | None,
    group: Grouping,
) -> tuple[Hit, ...]:
    """The answers to one query from the hits of each of its turns."""
    if unwanted is not None:
        # What a parent shares with an unwanted item is unwanted too: references of the very same photograph.
        parents = {parent_of(hit.item.key) for hits in per_turn for hit in hits if unwanted(hit.item)}
        per_turn = [[hit for hit in hits if parent_of(hit.item.key) not in parents] for hits in per_turn]
    references = any(hit.item.kind is Kind.REFERENCE for hits in per_turn for hit in hits)
    if group == "none" or (group == "auto" and not references):
        return ungrouped(per_turn[0] if len(per_turn) == 1 else best_of(per_turn), k)
    made = [one for hits, angle in zip(per_turn, angles, strict=True) for one in comparisons(hits, angle)]
    return grouped(made, k, turned=len(set(angles)) > 1)


def _ask_items(
    collection: Collection,
    items: Sequence[Item],
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter | None,
    exclude_self: bool,
    exact: bool,
    group: Grouping,
    expandable: bool,
) -> Results:
    begun = time.perf_counter()
    same = [_same_parent(item) if exclude_self else None for item in items]
    found, plan = ask(collection, vectors[:, None], k, filter, same, exact=exact, group=group)
    files = [SourceDigest.parse(item.source_digest).file for item in items]
    again = [
        _again(collection, vector[None], k, filter, each, exact, group) if expandable else None
        for vector, each in zip(vectors, same, strict=True)
    ]
    results = [
        Result(Query(item.key, file, item=item), hits, again=other)
        for item, file, hits, other in zip(items, files, found, again, strict=True)
    ]
    answers = Results(collection.name, plan, tuple(results), {"search": time.perf_counter() - begun})
    return explained(answers, filter, collection)


def _again(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter | None,
    unwanted: Unwanted | None,
    exact: bool,
    group: Grouping,
    angles: Sequence[float] = (0.0,),
) -> Again:
    """How a query of `vectors` [T, D], turned by `angles` [T], is asked once more under the same conditions."""

    def search(vector: NDArray[np.float32]) -> tuple[Hit, ...]:
        found, _ = ask(collection, vector[None, None], k, filter, [unwanted], exact=exact, group=group)
        return found[0]

    def deeper(count: int) -> tuple[Hit, ...]:
        how: dict[str, Any] = {"exact": exact, "group": group, "angles": angles}
        found, _ = ask(collection, vectors[None], count, filter, [unwanted], **how)
        return found[0]

    def stored(ids: Sequence[str]) -> NDArray[np.float32]:
        known = collection.items(ids)
        return np.stack([known[id][1] for id in ids])

    return Again(vectors, search, stored, deeper)


def _same_file(digest: str) -> Unwanted:
    """Items made of the file whose bytes have this digest: it begins theirs, the transform's follows."""
    return lambda item: SourceDigest.parse(item.source_digest).file == digest


def _same_parent(item: Item) -> Unwanted:
    parent = parent_of(item.key)
    return lambda other: parent_of(other.key) == parent


def _images_alone(filter: Filter | None, *, windows: bool = False) -> Filter:
    """The filter, and images and tiles alone where it names no kinds; with `windows` also references that are not turned."""
    filter = filter or Filter()
    if any(condition.field == "kind" for condition in filter.conditions):
        return filter
    if windows:
        return filter & equals("kind", str(Kind.IMAGE), str(Kind.TILE), str(Kind.REFERENCE)) & equals("rotation", 0)
    return filter & equals("kind", str(Kind.IMAGE), str(Kind.TILE))


def _alike(
    pictures: Sequence[QueryPicture], vectors: NDArray[np.float32]
) -> Iterator[tuple[tuple[float, ...], list[tuple[QueryPicture, NDArray[np.float32]]]]]:
    """Pictures that were cut at the same angles, each with its vectors [T, D]; `vectors` has those of all, one after the
    other."""
    found: dict[tuple[float, ...], list[tuple[QueryPicture, NDArray[np.float32]]]] = {}
    start = 0
    for each in pictures:
        found.setdefault(each.angles, []).append((each, vectors[start : start + len(each.angles)]))
        start += len(each.angles)
    yield from found.items()


def _holds_references(collection: Collection, filter: Filter | None) -> bool:
    """Whether what is searched may hold references, going by its partitions."""
    names, _ = collection.chosen(filter or Filter())
    return any(name.startswith(str(Kind.REFERENCE)) for name in (collection.partitions() if names is None else names))
