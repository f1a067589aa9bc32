"""`query cluster` as one call: the rows of a collection, their clusters with ids that last, figures, exemplars, a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.cluster import UNASSIGNED, Clustering, Floats, Recipe, cluster
from outcrop.query.clusters.ids import Identity, Known, stable_ids
from outcrop.query.clusters.map import Map, lay_out
from outcrop.query.clusters.quality import Quality, quality
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import Kind
from outcrop.screen.notebook import html_table
from outcrop.store.collection import Collection
from outcrop.store.transfer import require_complete

EXEMPLARS = 6
FACTS = ("key", "kind", "dataset", "category", "capture_id", "source")
"""Fields that are kept of every row, for the files and the page."""


@dataclass(frozen=True)
class Rows:
    """What is clustered, ordered by key: `ids` [N], the columns of `FACTS` (and the field of the truth) by name, `vectors`
    [N, D]."""

    ids: tuple[str, ...]
    facts: Mapping[str, tuple[str, ...]]
    vectors: Floats

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Cluster:
    """One cluster: rows of its `exemplars` (the most typical first) and of its `outliers` (the least typical first), its mean
    probability, and the category that most of its members have with their share (of those that have one)."""

    id: int
    size: int
    probability: float
    category: str
    share: float
    exemplars: tuple[int, ...]
    outliers: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """The result: `ids` [N] of the rows' clusters (-1: in none), the `clusters` by size, rows in none (`unassigned`: the
    likeliest members first, `nearest` the id of the cluster next to each). `space` is the fingerprint of the vectors'."""

    collection: str
    recipe: Recipe
    against: str
    rows: Rows
    ids: NDArray[np.int64]
    clustering: Clustering
    clusters: tuple[Cluster, ...]
    unassigned: tuple[int, ...]
    nearest: tuple[int, ...]
    identity: Identity
    quality: Quality
    map: Map
    space: str = ""

    def typical(self, one: Cluster, most: int = 3) -> str:
        """The names of a cluster's first exemplars: specimens by their own name, others by the end of their key."""
        facts = self.rows.facts
        named = [
            facts["capture_id"][row]
            if facts["kind"][row] == Kind.SPECIMEN
            else "/".join(facts["key"][row].split("/")[2:])
            for row in one.exemplars[:most]
        ]
        return ", ".join(named)

    def _repr_html_(self) -> str:
        """The clusters as a table, in a notebook."""
        rows = [
            {
                "cluster": one.id,
                "items": one.size,
                "probability": one.probability,
                "mostly": f"{one.share:.0%} {one.category}" if one.category else "",
                "typical": self.typical(one),
            }
            for one in self.clusters
        ]
        columns = ("cluster", "items", "probability", "mostly", "typical")
        return html_table(rows, columns, f"{len(self.rows)} items", f"{len(self.unassigned)} items in no cluster")


def cluster_collection(
    collection: Collection,
    filter: Filter,
    recipe: Recipe,
    *,
    against: str = "category",
    known: Known | None = None,
    progress: Callable[[int], None] | None = None,
) -> Found:
    """Clusters the items that a filter keeps.

    `against` is the field that holds the true categories; `known` the last result, whose ids are kept.

    Raises:
        InputError: nothing to cluster, or a recipe that does not fit.
    """
    rows = read_rows(collection, filter, against, progress)
    found = cluster(rows.vectors, recipe)
    identity = stable_ids(rows.facts["key"], found.labels, known)
    ids = np.array([*identity.ids, UNASSIGNED], np.int64)[found.labels]
    clusters = tuple(_cluster(label, id, found, rows.facts[against]) for label, id in enumerate(identity.ids))
    unassigned, nearest = _nearest(found, identity)
    return Found(
        collection.name,
        recipe,
        against,
        rows,
        ids,
        found,
        clusters,
        unassigned,
        nearest,
        identity,
        quality(found.points, found.labels, rows.facts[against]),
        lay_out(found.points, found.labels, recipe.seed),
        collection.space.fingerprint,
    )


def read_rows(
    collection: Collection, filter: Filter, against: str, progress: Callable[[int], None] | None = None
) -> Rows:
    """The rows that a filter keeps, ordered by key, whatever order the store gives them in.

    Keys are read first, so that every vector goes straight to its place: one matrix is all that memory holds.

    Raises:
        InputError: the filter keeps no rows. OutcropError: rows were added or removed meanwhile.
    """
    names = tuple(dict.fromkeys((*FACTS, against)))
    listed = [
        (row["key"], row["id"], *(str(row[name]) for name in names))
        for page in collection.scan_rows(filter, ["id", *names])
        for row in page
    ]
    if not listed:
        kinds = {str(kind): collection.count(equals("kind", str(kind))) for kind in Kind}
        there = ", ".join(f"{count} of kind {kind}" for kind, count in kinds.items() if count)
        raise InputError(
            f"nothing in collection {collection.name!r} fits; it holds {there or 'nothing at all'} (see --kind and --where)"
        )
    listed.sort()
    place = {row[1]: number for number, row in enumerate(listed)}
    vectors = np.empty((len(listed), collection.space.dim), np.float32)
    read = strange = 0
    for page in collection.scan_rows(filter, ["id", "vector"]):
        kept = [row for row in page if row["id"] in place]
        if kept:
            vectors[[place[row["id"]] for row in kept]] = np.asarray([row["vector"] for row in kept], np.float32)
        read, strange = read + len(kept), strange + len(page) - len(kept)
        if progress is not None:
            progress(read)
    require_complete(collection, read + strange, len(listed))
    require_complete(collection, read, len(listed))
    facts = {name: tuple(row[2 + number] for row in listed) for number, name in enumerate(names)}
    return Rows(tuple(row[1] for row in listed), facts, vectors)


def _cluster(label: int, id: int, found: Clustering, truth: tuple[str, ...]) -> Cluster:
    members = np.flatnonzero(found.labels == label)
    probability = found.probability[members]
    weights = np.maximum(probability, 1e-9)
    centre = (found.points[members] * weights[:, None]).sum(axis=0) / weights.sum()
    away = np.linalg.norm(found.points[members] - centre, axis=1)
    typical = np.lexsort((members, away, -probability.round(6)))
    categories = [truth[row] for row in members if truth[row]]
    names, counts = np.unique(np.array(categories, dtype=str), return_counts=True)
    best = int(counts.argmax()) if len(counts) else -1
    ordered = members[typical]
    outliers = [int(row) for row in ordered[::-1][:EXEMPLARS] if len(members) > EXEMPLARS]
    return Cluster(
        id,
        len(members),
        float(probability.mean()),
        str(names[best]) if best >= 0 else "",
        float(counts[best] / counts.sum()) if best >= 0 else 0.0,
        tuple(int(row) for row in ordered[:EXEMPLARS]),
        tuple(row for row in outliers if row not in ordered[:EXEMPLARS]),
    )


def _nearest(found: Clustering, identity: Identity) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows in no cluster, the nearest to a cluster's centre first (compared with its members' mean distance), and these
    clusters' ids."""
    alone = np.flatnonzero(found.labels == UNASSIGNED)
    if not found.count or not len(alone):
        return tuple(int(row) for row in alone), (UNASSIGNED,) * len(alone)
    best, which = np.full(len(alone), np.inf), np.zeros(len(alone), np.int64)
    for label in range(found.count):
        members = found.points[found.labels == label]
        centre = members.mean(axis=0)
        typical = max(float(np.linalg.norm(members - centre, axis=1).mean()), 1e-9)
        away = np.linalg.norm(found.points[alone] - centre, axis=1) / typical
        nearer = away < best
        best, which = np.where(nearer, away, best), np.where(nearer, label, which)
    order = np.lexsort((alone, best))
    return tuple(int(row) for row in alone[order]), tuple(identity.ids[int(label)] for label in which[order])
