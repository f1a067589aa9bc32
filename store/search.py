"""Search: the plan (which partitions, index or exact), the hits, and an exact search that no index can spoil.

Under a filter that keeps few rows an index may miss hits or give fewer than were asked for. Then the filtered rows are
compared one by one, and the plan says so.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.columns import Columns
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter
from outcrop.schema.item import FIELDS, Item
from outcrop.store.collection import Collection
from outcrop.store.integrity import damaged, fault_of, require_sound
from outcrop.store.topk import TopK

WIDER = 2
"""By which factor more hits are asked for than wanted in an area; a circle is four fifths of the square around it."""
MAX_QUERIES = 256
"""Query vectors in one request."""
HITS_AT_ONCE = 16_384
"""Hits in one request, of all its vectors together: Milvus Lite needs seconds for more, and a connection gives up after some."""
MAX_PRODUCTS = 5 * 10**8
"""Numbers that a server multiplies for one request where its index compares with every vector: 1.4 s of its processor (Milvus
2.3.5), ten times as long where eight other programs want the same. Many queries in one request take longer than an answer may."""
MAX_HITS = 16_384
"""Milvus's limit on k."""
CHECKED_HITS = 1024
"""Up to this many hits in one request are read with their vectors, to compare them with their checksums."""
MAX_SCORE = 1.5
"""Scores above this come from a damaged vector: those of unit vectors are at most 1, and a little more in quantised indexes."""
SCORE_ERROR = 1e-5
"""How far a score of Milvus Lite's exact index may be from the product with the stored vector: its index is a file of its own."""
EXACT_ROWS = 5_000
"""Up to this many rows are compared one by one instead of asking an index that is not exact."""
EXACT_SHARE = 0.02
"""Filters that keep less than this share of the rows are searched exactly, up to `EXACT_FALLBACK` rows."""
EXACT_FALLBACK = 200_000
"""Up to this many rows are compared one by one where the index returned fewer hits than there are."""


@dataclass(frozen=True)
class Hit:
    """One answer: `rank` from 1, `score` the inner product of unit vectors (cosine, 1 = the same), and the item."""

    rank: int
    score: float
    item: Item


@dataclass(frozen=True)
class Plan:
    """How a search was done: `method` is "exact" (row by row), "flat" (an exact index) or "index"."""

    method: str
    index: str
    reason: str
    partitions: tuple[str, ...] | None
    filter: str
    kept: int | None = None
    total: int | None = None
    params: dict[str, Any] | None = None
    fallback: bool = False
    seconds: float = 0.0

    def changed(self, **values: Any) -> Plan:
        """As `dataclasses.replace`, which takes ten times as long: every search does this several times."""
        made = object.__new__(Plan)
        vars(made).update(vars(self), **values)
        return made

    def __str__(self) -> str:
        where = "all partitions" if self.partitions is None else f"partitions {', '.join(self.partitions) or 'none'}"
        rows = f"; {self.kept} of {self.total} rows kept" if self.kept is not None else ""
        rest = f"; filter {self.filter}" if self.filter else ""
        return f"{self.method} ({self.index}): {self.reason}; {where}{rest}{rows}; {self.seconds * 1000:.0f} ms"


@dataclass(frozen=True)
class Answer:
    """Hits for each query vector, best first, and the plan that ran."""

    hits: tuple[tuple[Hit, ...], ...]
    plan: Plan


def search(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter | None = None,
    *,
    exact: bool = False,
    consistency: str = "Strong",
) -> Answer:
    """The best `k` items for each of the query vectors [Q, D] float32 (length 1) among those a filter keeps.

    `exact` compares row by row whatever the index. Ties are broken by id in an exact search, by Milvus otherwise.

    Raises:
        InputError: k or the vectors' shape is wrong, or the filter's raw expression is not understood.
        StoreUnreachable: no answer.
    """
    started = time.perf_counter()
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != collection.space.dim:
        raise InputError(f"query vectors must have shape [Q, {collection.space.dim}], got {list(vectors.shape)}")
    if not np.isfinite(vectors).all():
        raise InputError("a query vector is not finite")
    if not 1 <= k <= MAX_HITS:
        raise InputError(f"-k must be between 1 and {MAX_HITS}, got {k}")
    filter = collection.bound(filter or Filter())
    collection.load()
    names, rest = collection.chosen(filter)
    if filter.areas and not exact:
        plan, hits = _in_areas(collection, vectors, k, filter, rest, names, consistency)
    else:
        plan, hits = _run(collection, vectors, k, filter, rest, names, exact, consistency)
    return Answer(hits, plan.changed(seconds=time.perf_counter() - started))


def _in_areas(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter,
    rest: Filter,
    names: list[str] | None,
    consistency: str,
) -> tuple[Plan, tuple[tuple[Hit, ...], ...]]:
    """The best `k` in the areas of a filter: more hits are asked for among the ranges around them, and sifted here. Where the
    most that Milvus gives leaves too few, every row in the areas is compared."""
    box, left = filter.boxed(), rest.boxed()
    wide = k
    while wide < MAX_HITS:
        wide = min(MAX_HITS, WIDER * wide + WIDER)
        plan, raw = _run(collection, vectors, wide, box, left, names, False, consistency)
        hits = tuple(_first_inside(some, filter, k) for some in raw)
        if all(len(few) == k or len(some) < wide for few, some in zip(hits, raw, strict=True)):
            return plan.changed(reason=f"{plan.reason}; {wide} hits were sifted by the area"), hits
    plan, hits = _run(collection, vectors, k, filter, rest, names, True, consistency)
    return plan.changed(reason="the area is a small part of the ranges around it"), hits


def _first_inside(hits: Sequence[Hit], filter: Filter, k: int) -> tuple[Hit, ...]:
    """The first `k` hits in the areas of a filter, ranked anew."""
    places = [{"latitude": hit.item.latitude, "longitude": hit.item.longitude} for hit in hits]
    kept = [hit for hit, inside in zip(hits, filter.inside(places), strict=True) if inside]
    return tuple(replace(hit, rank=rank) for rank, hit in enumerate(kept[:k], 1))


def _run(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    filter: Filter,
    rest: Filter,
    names: list[str] | None,
    exact: bool,
    consistency: str,
) -> tuple[Plan, tuple[tuple[Hit, ...], ...]]:
    profile = collection.profile
    plan = Plan(
        "index",
        profile.name,
        "no filter beyond the partitions",
        None if names is None else tuple(names),
        rest.expression,
    )
    if names is not None and not names:
        return plan.changed(method="exact", reason="no partition holds such items"), ((),) * len(vectors)
    if exact:
        return plan.changed(method="exact", reason="asked for"), exact_search(collection, vectors, k, filter)
    if profile.exact:
        plan = plan.changed(method="flat", reason="the index compares with every vector")
        return plan, index_search(collection, vectors, k, rest, names, collection.search_params(k), consistency)
    share = 1.0
    if rest and collection.sifts():
        plan = plan.changed(reason="the index compares row by row itself where a filter leaves few rows")
    elif rest:
        kept = collection.count(filter)
        total = collection.count()
        share = kept / max(1, total)
        plan = plan.changed(kept=kept, total=total, reason=f"the filter keeps {share:.1%} of the rows")
        if kept <= EXACT_ROWS or (share < EXACT_SHARE and kept <= EXACT_FALLBACK):
            return plan.changed(method="exact"), exact_search(collection, vectors, k, filter)
    params = collection.search_params(k, share)
    plan = plan.changed(params=params)
    hits = index_search(collection, vectors, k, rest, names, params, consistency)
    fewest = min((len(h) for h in hits), default=k)
    if fewest < k:
        matching = plan.kept if plan.kept is not None else collection.count(filter)
        if fewest < min(k, matching) and matching <= EXACT_FALLBACK:
            reason = f"the index gave {fewest} of {min(k, matching)} hits, so {matching} rows were compared one by one"
            return plan.changed(
                method="exact", reason=reason, kept=matching, total=plan.total or matching, fallback=True
            ), exact_search(collection, vectors, k, filter)
    return plan, hits


def index_search(
    collection: Collection,
    vectors: NDArray[np.float32],
    k: int,
    rest: Filter,
    names: list[str] | None,
    params: dict[str, Any],
    consistency: str,
    *,
    check: bool = True,
) -> tuple[tuple[Hit, ...], ...]:
    """The best `k` as the index gives them, for each of the query vectors [Q, D] float32.

    Raises:
        Damaged: a hit is not what was written (unless `check` is false).
    """
    store = collection.store
    found: list[tuple[Hit, ...]] = []
    at_once = max(1, min(queries_at_once(collection) if len(vectors) > 1 else 1, HITS_AT_ONCE // k))
    # A few hits are read whole, and compared with their checksums; of many only what is shown, and judged by id and score.
    few = min(len(vectors), at_once) * k <= CHECKED_HITS
    fields = ["*"] if check and few and collection.reads_whole() else _shown(collection)
    for start in range(0, len(vectors), at_once):
        with store.reading(f"search {collection.name!r}", rest.raw):
            answer = store.client.search(
                collection.physical,
                data=list(vectors[start : start + at_once]),
                limit=k,
                filter=rest.expression,
                output_fields=fields,
                partition_names=names,
                search_params={"metric_type": "IP", "params": params},
                anns_field="vector",
                consistency_level=consistency,
                timeout=store.timeout,
            )
        exact = store.lite and collection.profile.exact
        for query, hits in zip(vectors[start : start + at_once], answer, strict=True):
            found.append(_hits(hits, query if exact else None, collection, check))
    return tuple(found)


def queries_at_once(collection: Collection) -> int:
    """How many query vectors go into one request: `MAX_QUERIES`, and fewer where each is compared with a great many rows."""
    if collection.store.lite or not collection.profile.exact:
        return MAX_QUERIES
    return max(1, min(MAX_QUERIES, MAX_PRODUCTS // (max(1, collection.about()) * collection.dim)))


def _hits(
    hits: Sequence[Any], query: NDArray[np.float32] | None, collection: Collection, check: bool
) -> tuple[Hit, ...]:
    """The hits of one query as Milvus gave them; with `check` a Damaged where one is not what was written.

    With the `query` [D], hits that were read with their vectors must have the scores that these give with it.
    """
    rows = [{**hit["entity"], "id": hit["id"]} for hit in hits]
    scores = [float(hit["distance"]) for hit in hits]
    if check:
        right = _scores(rows, query)
        for place, row in enumerate(rows):
            if fault := fault_of(row) or fault_of_score(scores[place], None if right is None else float(right[place])):
                raise damaged(row, fault, collection.name)
    items = _items(rows, collection.columns)
    return tuple([Hit(rank, score, item) for rank, (score, item) in enumerate(zip(scores, items, strict=True), 1)])


def _shown(collection: Collection) -> list[str]:
    """The fields of a hit: those of every item, and own columns."""
    return [*FIELDS, *collection.columns.keys_in_rows] if collection.columns else list(FIELDS)


def _items(rows: Sequence[dict[str, Any]], columns: Columns) -> list[Item]:
    """Rows as the items of hits: their fields and own columns, without what else their sources know."""
    keys = columns.keys_in_rows if columns else ()
    items = [Item.of_fields(row) for row in rows]
    if not keys:
        return items
    return [
        item.changed(extra={key: row[key] for key in keys if key in row}) for item, row in zip(items, rows, strict=True)
    ]


def _scores(rows: list[dict[str, Any]], query: NDArray[np.float32] | None) -> NDArray[np.float64] | None:
    """What the vectors of rows give with the query [D]; None where there is nothing to compare. The vectors become arrays."""
    if not rows or any(row.get("vector") is None for row in rows):
        return None
    # What pymilvus gives are lists of floats: `struct` packs them five times as fast as numpy reads them.
    packed = b"".join(struct.pack(f"{len(row['vector'])}f", *row["vector"]) for row in rows)
    matrix = np.frombuffer(packed, dtype=np.float32).reshape(len(rows), -1)
    for row, vector in zip(rows, matrix, strict=True):
        row["vector"] = vector
    if query is None:
        return None
    with np.errstate(invalid="ignore", over="ignore"):  # vectors that are damaged may hold anything; `fault_of` says so
        return matrix.astype(np.float64) @ query.astype(np.float64)


def fault_of_score(score: float, right: float | None) -> str:
    """What is wrong with a hit's score; '' where nothing is seen to be."""
    if right is not None and not abs(right - score) <= SCORE_ERROR:
        return f"the index gives it a score of {score:.6g}, its vector one of {right:.6g}"
    return "" if abs(score) <= MAX_SCORE else f"its vector gives a score of {score:.4g}"


def exact_search(
    collection: Collection, vectors: NDArray[np.float32], k: int, filter: Filter | None = None
) -> tuple[tuple[Hit, ...], ...]:
    """The best `k` by comparing the query vectors [Q, D] with every row the filter keeps; memory is bounded by a page and k.

    Ties are broken by id, so that the answer is always the same.
    """
    best = TopK(vectors, k)
    for rows in collection.scan_rows(filter, ["id", "vector"]):
        best.add(np.asarray([row["id"] for row in rows]), np.asarray([row["vector"] for row in rows], dtype=np.float32))
    lines = [best.best(query) for query in range(len(vectors))]
    ids = sorted({id for line in lines for _, id in line})
    # As in `index_search`: a few are read whole, and compared with their checksums.
    found = collection.lookup(ids, fields=("*",) if len(ids) <= CHECKED_HITS else _shown(collection))
    require_sound(found.values(), collection.name)
    items = dict(zip(found, _items(list(found.values()), collection.columns), strict=True))
    # A row deleted between the scan and the lookup is left out.
    kept = [[(score, items[id]) for score, id in line if id in items] for line in lines]
    return tuple(tuple(Hit(rank, score, item) for rank, (score, item) in enumerate(line, 1)) for line in kept)
