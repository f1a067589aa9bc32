"""New items into a clustering that stands: nothing in it is computed anew, and no id changes.

An item goes where its nearest neighbours among the clustered items are (exact, by the vectors as they are stored), each counted
by the inverse of its distance. Neighbours in no cluster count for none. Where the method leaves items out (hdbscan), so is
one that lies farther from a cluster than the outermost of its own members do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.cluster import UNASSIGNED
from outcrop.query.clusters.distances import NO_DISTANCE
from outcrop.query.clusters.run import Rows, read_rows
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, equals
from outcrop.store.collection import Collection

NEIGHBOURS = 5
MEASURED = 2000
"""Members of a cluster whose distances to their fellows say how far it reaches; of larger ones every n-th."""
_BLOCK = 4_000_000
"""Distances held at once."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Clustered:
    """A clustering as its files have it: id and probability by key, the kinds of its items, the categories of its clusters by
    id, whether its method leaves items out, and the collection and the fingerprint of the space that it is of ('': not said)."""

    ids: Mapping[str, int]
    probability: Mapping[str, float]
    kinds: tuple[str, ...]
    categories: Mapping[int, str]
    leaves_out: bool
    collection: str = ""
    space: str = ""

    def doubt(self, collection: str, space: str) -> str:
        """What to say where items of another collection, or vectors of another space, are assigned; '' otherwise."""
        if self.space and self.space != space:
            what = f"of vectors of another space ({self.space[:8]}; those of {collection!r} are of {space[:8]})"
        elif (
            self.collection and len({name.removesuffix(f"__{space[:8]}") for name in (self.collection, collection)}) > 1
        ):
            what = f"of collection {self.collection!r}, not of {collection!r}"
        else:
            return ""
        return f"the clustering was made {what}: where its items lie now decides, and may not be where its clusters were found"


@dataclass(frozen=True)
class Assigned:
    """New items, ordered by key: `ids` of their clusters (-1: in none), `probability`, the `nearest` clustered item of each and
    how far that is; `gone` counts clustered items that the collection no longer holds; `remark` is what makes them doubtful."""

    collection: str
    rows: Rows
    ids: Integers
    probability: Doubles
    nearest: tuple[str, ...]
    distance: Doubles
    forced: bool
    gone: int
    remark: str = ""


def assign_collection(
    collection: Collection,
    known: Clustered,
    filter: Filter = Filter(),
    *,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Assigned:
    """Assigns the items of the clustering's kinds that a filter keeps and the clustering does not have.

    `force` puts each of them in a cluster.

    Raises:
        InputError: nothing is new, nothing clustered is left, or there is no cluster to force anything into.
    """
    kinds = equals("kind", *known.kinds)
    rows = read_rows(collection, kinds, "category", progress)
    keys = rows.facts["key"]
    kept = (
        {str(row["key"]) for page in collection.scan_rows(kinds & filter, ["key"]) for row in page} if filter else None
    )
    old = np.array([key in known.ids for key in keys])
    new = np.array([key not in known.ids and (kept is None or key in kept) for key in keys])
    if not new.any():
        raise InputError(f"every item of collection {collection.name!r} that fits is in the clustering; nothing is new")
    if not old.any():
        raise InputError(f"collection {collection.name!r} holds none of the {len(known.ids):,} clustered items")
    members, wanted = _some(rows, old), _some(rows, new)
    names = members.facts["key"]
    ids = np.array([known.ids[key] for key in names], np.int64)
    if force and (ids == UNASSIGNED).all():
        raise InputError("the clustering has no cluster that items could be put into; cluster again")
    probability = np.array([known.probability[key] for key in names])
    given, certain, nearest, distance = assigned(
        wanted.vectors, members.vectors, ids, probability, force=force, leaves_out=known.leaves_out
    )
    closest = tuple(names[row] for row in nearest)
    gone = len(known.ids) - len(members)
    doubt = known.doubt(collection.name, collection.space.fingerprint)
    return Assigned(collection.name, wanted, given, certain, closest, distance, force, gone, doubt)


def assigned(
    vectors: Floats,
    members: Floats,
    ids: Integers,
    probability: Doubles,
    *,
    force: bool = False,
    leaves_out: bool = True,
) -> tuple[Integers, Doubles, Integers, Doubles]:
    """For vectors [N, D] the ids, the probabilities, the rows of the nearest `members` [M, D], and how far these are: [N] each.

    `ids` [M] (-1: in none) and `probability` [M] are the members'. A copy of a member is what the member is, unless forced.
    """
    found = np.full(len(vectors), UNASSIGNED)
    certain, distance = np.zeros(len(vectors)), np.zeros(len(vectors))
    nearest = np.zeros(len(vectors), np.int64)
    reach: dict[int, float] = {}
    placed = np.flatnonzero(ids != UNASSIGNED)
    for part, away, rows in _neighbours(vectors, members):
        nearest[part], distance[part] = rows[:, 0], away[:, 0]
        for number, (gaps, near) in enumerate(zip(away, rows, strict=True), start=part.start):
            label, share = _vote(gaps, ids[near], probability[near])
            if label != UNASSIGNED and leaves_out and not _within(vectors[number], label, members, ids, reach):
                label, share = UNASSIGNED, 0.0
            found[number], certain[number] = label, share
    left = np.flatnonzero(found == UNASSIGNED)
    if force and len(left) and len(placed):
        for part, away, rows in _neighbours(vectors[left], members[placed]):
            for number, (gaps, near) in enumerate(zip(away, rows, strict=True), start=part.start):
                label, share = _vote(gaps, ids[placed[near]], probability[placed[near]])
                beyond = _beyond(vectors[left[number]], label, members, ids, reach) if leaves_out else 1.0
                found[left[number]], certain[left[number]] = label, share / max(beyond, 1.0)
    return found, certain, nearest, distance


def _vote(gaps: Doubles, labels: Integers, probability: Doubles) -> tuple[int, float]:
    """The label that most of the neighbours' weight is for (of equal ones the nearest's), and how probable it is: the mean of the
    probabilities of its neighbours, the others counted as 0."""
    weights = 1 / np.maximum(gaps, NO_DISTANCE)
    if gaps[0] <= NO_DISTANCE:
        weights = (gaps <= NO_DISTANCE).astype(np.float64)  # the same vector: no other has a say
    order = list(dict.fromkeys(labels.tolist()))
    votes = [float(weights[labels == label].sum()) for label in order]
    best = order[int(np.argmax(np.round(np.array(votes) / weights.sum(), 9)))]
    if best == UNASSIGNED:
        return UNASSIGNED, 0.0
    own = labels == best
    return best, float((weights[own] * probability[own]).sum() / weights.sum())


def _within(vector: Floats, label: int, members: Floats, ids: Integers, reach: dict[int, float]) -> bool:
    return _beyond(vector, label, members, ids, reach) <= 1


def _beyond(vector: Floats, label: int, members: Floats, ids: Integers, reach: dict[int, float]) -> float:
    """How far a vector is from a cluster, as a multiple of how far its outermost member is from its fellows: the distance to the
    `NEIGHBOURS`-th nearest counts (the farthest in a smaller cluster)."""
    fellows = members[ids == label]
    if label not in reach:
        every = fellows[:: -(-len(fellows) // MEASURED)]
        furthest = max(float(away[:, -1].max()) for _, away, _ in _neighbours(every, fellows, NEIGHBOURS + 1))
        reach[label] = max(furthest, NO_DISTANCE)
    _, away, _ = next(_neighbours(vector[None], fellows))
    return float(away[0, -1]) / (reach[label] * (1 + 1e-9))


def _neighbours(vectors: Floats, members: Floats, count: int = NEIGHBOURS) -> Iterator[tuple[slice, Doubles, Integers]]:
    """The nearest members of each vector, block by block: which vectors, distances [B, count] and rows [B, count], nearest first;
    equally near ones in the order of the members. In float64, so that copies of a vector have no distance."""
    count, step = min(count, len(members)), max(1, _BLOCK // len(members))
    others = members.astype(np.float64)
    squares = np.einsum("ij,ij->i", others, others)
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        away = np.einsum("ij,ij->i", block, block)[:, None] + squares - 2 * block @ others.T
        away = np.round(np.sqrt(np.maximum(away, 0)), 7)  # what rounds to 1e-8 apart is one place
        rows = np.argsort(away, axis=1, kind="stable")[:, :count].astype(np.int64)
        yield slice(start, start + len(block)), np.take_along_axis(away, rows, axis=1), rows


def _some(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    which: Sequence[int] = np.flatnonzero(kept).tolist()
    facts = {name: tuple(column[row] for row in which) for name, column in rows.facts.items()}
    return Rows(tuple(rows.ids[row] for row in which), facts, rows.vectors[kept])
