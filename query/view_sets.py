"""Specimens as the sets of their views: for each view of one the most similar view of the other, averaged (as ColBERT compares
texts; O. Khattab and M. Zaharia, 2020). Both ways was measured, and finds no more (docs/specimens.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.query.answers import Hit, Query, Result, Results
from outcrop.query.held import require_held
from outcrop.render.views import ViewSpec
from outcrop.schema.digests import SourceDigest
from outcrop.schema.errors import InputError, nearest
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Item, Kind, item_id, parent_of, view_key
from outcrop.store.collection import Collection

By = Literal["pooled", "views"]
BYS: tuple[str, ...] = get_args(By)
BATCH = 256
"""Stored specimens that are compared in one go, as `outcrop.query.search.query_dataset` asks them."""

Vectors = NDArray[np.float32]
Doubles = NDArray[np.float64]


def by_views(by: str) -> bool:
    """Whether specimens are compared view by view, as `by` says.

    Raises:
        InputError: it is not a way to compare them.
    """
    if by not in BYS:
        raise InputError(f"--by must be {' or '.join(BYS)}, got {by!r}{nearest(by, BYS)}")
    return by == "views"


def likeness(views: Vectors, others: Vectors) -> float:
    """For each of the views [V, D] the similarity of the most similar of the others [N, D]; the mean of these.

    Rounded to 1e-9: a product of matrices rounds equal pairs differently, and would order equal specimens by it.
    """
    pairs = views.astype(np.float64) @ others.T.astype(np.float64)
    return round(float(pairs.max(axis=1).mean()), 9)


@dataclass(frozen=True)
class ViewSets:
    """Stored specimens and their views: `vectors` [R, D], one specimen's after the other's, each from its `starts` [N] on."""

    specimens: tuple[Item, ...]
    vectors: Vectors
    starts: NDArray[np.int64]

    def likeness(self, views: Vectors) -> Doubles:
        """How similar the views [V, D] of a specimen are to those of each stored one: [N], 1 = the same."""
        best: Doubles = np.maximum.reduceat(views @ self.vectors.T, self.starts, axis=1).mean(axis=0, dtype=np.float64)
        return best

    def hits(self, views: Vectors, k: int) -> tuple[Hit, ...]:
        """The best `k` stored specimens for the views of one."""
        scores = self.likeness(views)
        order = sorted(range(len(scores)), key=lambda place: (-scores[place], self.specimens[place].key))[:k]
        return tuple(
            Hit(rank, float(scores[place]), self.specimens[place]) for rank, place in enumerate(order, start=1)
        )


def read_view_sets(collection: Collection, filter: Filter) -> ViewSets:
    """All views that a filter keeps, in memory (4 bytes a number), and the specimens that they show. Views without their specimen
    are left out: they are those of an ingest that was interrupted.

    Raises:
        InputError: it keeps none.
    """
    found: dict[str, list[tuple[int, NDArray[np.float32]]]] = {}
    for items, vectors in collection.scan(filter.without("kind") & equals("kind", str(Kind.VIEW)), vectors=True):
        for item, vector in zip(items, vectors, strict=True):
            found.setdefault(parent_of(item.key), []).append((item.view, vector))
    stored = collection.items([item_id(key) for key in found])
    keys = [key for key in sorted(found) if item_id(key) in stored]
    if not keys:
        raise InputError(f"collection {collection.name!r} holds no views that fit; widen --where")
    sets = [[vector for _, vector in sorted(found.pop(key), key=lambda one: one[0])] for key in keys]
    starts = np.cumsum([0, *(len(views) for views in sets[:-1])])
    return ViewSets(
        tuple(stored[item_id(key)][0] for key in keys),
        np.asarray([vector for views in sets for vector in views], np.float32),
        starts,
    )


def specimens_by_views(
    name: str, collection: Collection, k: int, filter: Filter | None = None, *, limit: int | None = None
) -> Iterator[Results]:
    """The best `k` specimens for every stored specimen of a dataset, compared view by view with all that a filter keeps, in the
    batches and the order of `outcrop.query.search.query_dataset`. The specimen itself is among the answers.

    Raises:
        InputError: the collection holds no specimens of this dataset, or no views under the filter.
    """
    require_held(filter, collection)
    sets: ViewSets | None = None
    left = limit
    asked = equals("kind", str(Kind.SPECIMEN)) & equals("dataset", name)
    for items, vectors in collection.scan(asked, vectors=True, batch=BATCH):
        begun = time.perf_counter()
        if left is not None:
            items, vectors = items[:left], vectors[:left]
            left -= len(items)
        sets = sets or read_view_sets(collection, filter or Filter())
        results = []
        for item, views in zip(items, asked_views(collection, items, vectors), strict=True):
            query = Query(item.key, SourceDigest.parse(item.source_digest).file, item=item)
            results.append(Result(query, sets.hits(views, k)))
        if results:
            yield Results(collection.name, None, tuple(results), {"search": time.perf_counter() - begun})
        if left is not None and left <= 0:
            return


def asked_views(collection: Collection, specimens: Sequence[Item], vectors: Vectors) -> list[Vectors]:
    """The vectors [V, D] that stored specimens are asked with: those of their views of the whole, or their own (of `vectors`
    [N, D]) where none are stored."""
    found = []
    for item, vector, (shown, views) in zip(specimens, vectors, specimen_views(collection, specimens), strict=True):
        look = ViewSpec.of_extra(item.extra)
        whole = views if look is None else views[[view.view < look.views for view in shown]]
        found.append(whole if len(whole) else vector[None])
    return found


def specimen_views(collection: Collection, specimens: Sequence[Item]) -> list[tuple[list[Item], Vectors]]:
    """The stored views of stored specimens: for each its views in their order, and their vectors [V, D]."""
    looks = [ViewSpec.of_extra(item.extra) for item in specimens]
    ids = [
        [item_id(view_key(item.dataset, item.category, item.capture_id, n)) for n in range(look.count)] if look else []
        for item, look in zip(specimens, looks, strict=True)
    ]
    found = collection.items([id for of_one in ids for id in of_one])
    views = []
    for item, look, of_one in zip(specimens, looks, ids, strict=True):
        there = [found[id] for id in of_one if id in found] if look else _imported_views(collection, item)
        vectors = [vector for _, vector in there] or np.empty((0, collection.space.dim), np.float32)
        views.append(([view for view, _ in there], np.asarray(vectors)))
    return views


def _imported_views(collection: Collection, item: Item) -> list[tuple[Item, Vectors]]:
    """The views of a specimen that came as vectors: it does not say how many there are."""
    filter = equals("kind", str(Kind.VIEW)) & equals("dataset", item.dataset)
    filter &= equals("category", item.category) & equals("capture_id", item.capture_id)
    pages = collection.scan(filter, vectors=True)
    found = [pair for items, vectors in pages for pair in zip(items, vectors, strict=True)]
    return sorted(found, key=lambda pair: pair[0].view)
