"""Recall of the live collection: what the index finds, compared with a search row by row.

An index can be "Finished" and near random (GPU_CAGRA has been), or good as a whole and poor under filters. So stored vectors
are asked again, at several filter selectivities, and recall@k is counted: of the true best k, the share that the index gave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.schema.errors import InputError, nearest
from outcrop.schema.filters import Filter
from outcrop.store.collection import Collection
from outcrop.store.integrity import fault_of
from outcrop.store.search import fault_of_score, index_search
from outcrop.store.topk import TopK

SHARES = (1.0, 0.5, 0.1, 0.01)
"""Shares of the rows that the filters keep."""
SAMPLES = 100
"""Stored vectors that are asked for, where nobody says how many."""
EXACT_PRODUCTS, FEWEST = 4 * 10**10, 10
"""Numbers that a server multiplies for all samples where its index compares with every vector: about two minutes of its
processor, a quarter of the samples for a million rows of 384 numbers. At least so many samples are asked for."""
NEAR_RANDOM = 0.3
"""Below this recall an index is called near random."""
RECALL_BUCKETS = ((99, "99+"), (95, "95-98"), (90, "90-94"), (80, "80-89"))
"""The least per cent of each bucket, and its name."""
LITE_PAGE = 8192
"""Rows of Milvus Lite that are read at once: its exact index is asked for each page, and compares with every row for it."""
TIE = 1e-5
"""Scores closer than this are one score: backends round differently."""


@dataclass(frozen=True)
class Check:
    """One selectivity: `share` asked for, `kept` rows of `total`, recall@k over all queries and of the worst one, queries
    that were given fewer hits than there are rows (`short`), and milliseconds per query."""

    share: float
    kept: int
    total: int
    recall: float
    worst: float
    short: int
    milliseconds: float

    @property
    def bucket(self) -> str:
        """The recall's bucket; see `recall_bucket`."""
        return recall_bucket(self.recall)


@dataclass(frozen=True)
class Verification:
    """The checks of one collection, by falling share; `samples` stored vectors were asked for their best `k`."""

    collection: str
    index: str
    k: int
    samples: int
    rows: int
    checks: tuple[Check, ...]
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Rows that are not what was written: the key (or id) and what is wrong."""

    @property
    def recall(self) -> float:
        """The lowest recall@k of all checks."""
        return min(check.recall for check in self.checks)

    @property
    def near_random(self) -> bool:
        """Whether the index misses so much, without any filter, that it cannot be trusted at all."""
        return self.checks[0].recall < NEAR_RANDOM


def recall_bucket(recall: float) -> str:
    """The bucket of a recall (0 to 1): indexes are compared in speed and size only within one.

    The buckets are those of cuVS's guide to comparing indexes (docs.rapids.ai, "Comparing performance of vector indexes").
    """
    percent = int(recall * 100 + 1e-6)
    return next((name for low, name in RECALL_BUCKETS if percent >= low), "below 80")


def verify(
    collection: Collection,
    *,
    k: int = 10,
    samples: int | None = None,
    seed: int = 0,
    shares: Sequence[float] = SHARES,
    search_params: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verification:
    """Samples stored vectors (see `samples_for`) and compares the index's hits with exact ones, per filter selectivity.

    The index is asked as it is, without the plan that saves ordinary queries from it. A filter keeps the rows whose
    id (a digest) is below a bound: a random sample of the rows. All rows are read twice, once whole to compare them
    with their checksums; memory holds one page and the samples' best. `search_params` replaces the profile's. Hits
    that tie with the k-th count as found.

    Raises:
        InputError: the collection is empty, or k, the samples or a search parameter are out of range.
    """
    for name in search_params or ():
        if name not in collection.profile.search:
            raise InputError(
                f"{collection.profile.name} has no search parameter {name!r}{nearest(name, collection.profile.search)}"
            )
    if not 1 <= k <= 1000 or not 1 <= (SAMPLES if samples is None else samples) <= 10_000:
        raise InputError("k must be between 1 and 1000, the number of samples between 1 and 10000")
    collection.load()
    collection.wait_until_served()  # what was just written is answered by an interim index for some seconds
    shares = sorted({1.0, *shares}, reverse=True)
    queries = _sample(collection, samples_for(collection, len(shares)) if samples is None else samples, seed)
    if not len(queries):
        raise InputError(f"collection {collection.name!r} is empty: there is nothing to verify")
    exact = {share: TopK(queries, 2 * k) for share in shares}
    kept = dict.fromkeys(shares, 0)
    damaged: dict[str, str] = {}
    page = LITE_PAGE if collection.store.lite else 1000
    for rows in collection.scan_rows(Filter(), ["*"], batch=page, check=False):
        damaged |= _index_faults(collection, rows)
        damaged |= {str(row.get("key") or row["id"]): fault for row in rows if (fault := fault_of(row))}
        ids = np.asarray([row["id"] for row in rows])
        vectors = np.asarray([row["vector"] for row in rows], dtype=np.float32)
        for share in shares:
            inside = ids < _bound(share) if share < 1 else np.ones(len(ids), dtype=bool)
            kept[share] += int(inside.sum())
            exact[share].add(ids[inside], vectors[inside])
        if progress is not None:
            progress(kept[1.0])
    checks = []
    for share in shares:
        if kept[share]:
            params = dict(search_params if search_params is not None else collection.search_params(k, share))
            filter = Filter(raw=f'id < "{_bound(share)}"') if share < 1 else Filter()
            begun = time.perf_counter()
            answers = index_search(collection, queries, k, filter, None, params, "Strong", check=False)
            seconds = time.perf_counter() - begun
            wanted = min(k, kept[share])
            found = [[hit.item.id for hit in hits] for hits in answers]
            truths = _with_ties(collection, queries, [exact[share].best(q) for q in range(len(queries))], found, wanted)
            recalls = [_recall(truth, ids, wanted) for truth, ids in zip(truths, found, strict=True)]
            short = sum(len(hits) < wanted for hits in answers)
            checks.append(
                Check(
                    share,
                    kept[share],
                    kept[1.0],
                    float(np.mean(recalls)),
                    min(recalls),
                    short,
                    1000 * seconds / len(queries),
                )
            )
    return Verification(collection.name, collection.profile.name, k, len(queries), kept[1.0], tuple(checks), damaged)


def samples_for(collection: Collection, shares: int = len(SHARES)) -> int:
    """How many stored vectors are asked for where nobody says how many, each under so many filters: `SAMPLES`, and fewer where a
    server compares each with a great many rows. What such an index finds is exact whatever is asked."""
    if collection.store.lite or not collection.profile.exact:
        return SAMPLES
    each = max(1, collection.about()) * collection.dim * shares
    return max(FEWEST, min(SAMPLES, EXACT_PRODUCTS // each))


def _index_faults(collection: Collection, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Rows of a page that an exact index of Milvus Lite, a file of its own beside theirs, gives a score that is not that of the
    vector, or does not find: by key (or id), with what is wrong."""
    if not (collection.store.lite and collection.profile.exact):
        return {}
    # Every number of a vector counts the same in the product with this one.
    probe = np.random.default_rng(0).choice((-1.0, 1.0), (1, collection.dim)) / np.sqrt(collection.dim)
    query = probe.astype(np.float32)
    ids = sorted(row["id"] for row in rows)
    page = Filter(raw=f'id >= "{ids[0]}" and id <= "{ids[-1]}"')
    params = collection.profile.search_params(len(ids), 1.0)
    (hits,) = index_search(collection, query, len(ids), page, None, params, "Strong", check=False)
    scores = {hit.item.id: hit.score for hit in hits}
    faults = {}
    for row in rows:
        right = float(np.asarray(row["vector"], dtype=np.float64) @ query[0])
        score = scores.get(row["id"])
        fault = "the index does not find it" if score is None else fault_of_score(score, right)
        if fault:
            faults[str(row.get("key") or row["id"])] = fault
    return faults


def _with_ties(
    collection: Collection,
    queries: NDArray[np.float32],
    truths: list[list[tuple[float, str]]],
    found: list[list[str]],
    wanted: int,
) -> list[list[tuple[float, str]]]:
    """The truths, and the exact scores of what was found beyond them where more rows tie than were kept."""
    unknown = {
        q: set(found[q]) - {id for _, id in truth}
        for q, truth in enumerate(truths)
        if len(truth) > wanted and truth[-1][0] >= truth[wanted - 1][0] - TIE
    }
    stored = collection.items(sorted(set().union(*unknown.values())), check=False)
    more = {q: [(float(queries[q] @ stored[id][1]), id) for id in ids if id in stored] for q, ids in unknown.items()}
    return [[*truth, *more.get(q, ())] for q, truth in enumerate(truths)]


def _recall(truth: list[tuple[float, str]], found: list[str], wanted: int) -> float:
    floor = truth[wanted - 1][0] - TIE
    right = {id for score, id in truth if score >= floor}
    return min(1.0, len(right & set(found)) / wanted)


def _sample(collection: Collection, samples: int, seed: int) -> NDArray[np.float32]:
    """Vectors [S, D] of random rows (reservoir sampling), in the order of their ids."""
    rng = np.random.default_rng(seed)
    chosen: list[str] = []
    seen = 0
    for rows in collection.scan_rows(Filter(), ["id"], batch=5000):
        for row in rows:
            seen += 1
            if len(chosen) < samples:
                chosen.append(row["id"])
            elif (place := int(rng.integers(seen))) < samples:
                chosen[place] = row["id"]
    stored = collection.items(chosen, check=False)
    return np.stack([stored[id][1] for id in sorted(stored)]) if stored else np.zeros((0, 0), np.float32)


def _bound(share: float) -> str:
    """The id below which `share` of all ids lie (32 hex characters)."""
    return f"{min(2**128 - 1, int(share * 2**128)):032x}"
