"""Hits put together by parent: twelve references of one photograph, or twelve turns of the query, are one answer.

A parent's score is that of its best comparison. Means over the best two or three were measured and find no more parents: on 43
real photographs with references every 30 degrees and 86 queries askew, 85 come first either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from outcrop.query.answers import Group, Hit
from outcrop.schema.crops import apart, normal
from outcrop.schema.item import Item, Kind, parent_of
from outcrop.store.search import Hit as StoredHit


@dataclass(frozen=True)
class Comparison:
    """One comparison of the query, turned counter-clockwise by `turn` degrees, with a stored item."""

    item: Item
    score: float
    turn: float = 0.0

    @property
    def rotation(self) -> float:
        """By how many degrees the parent is turned counter-clockwise to look like the query, if this comparison is right."""
        return normal(self.item.rotation - self.turn)


def comparisons(hits: Iterable[StoredHit], turn: float = 0.0) -> list[Comparison]:
    """Hits as comparisons, of the query turned by `turn` degrees."""
    return [Comparison(hit.item, hit.score, turn) for hit in hits]


def grouped(made: Iterable[Comparison], k: int, *, turned: bool = False) -> tuple[Hit, ...]:
    """The best `k` parents with their best item, votes, estimated rotation and margin.

    `turned` says that the query was rotated, so that images speak of rotations too; otherwise only references do.
    """
    by_parent: dict[str, list[Comparison]] = {}
    for one in made:
        by_parent.setdefault(parent_of(one.item.key), []).append(one)
    for some in by_parent.values():
        some.sort(key=lambda one: (-one.score, one.item.id, one.turn))
    ordered = sorted(by_parent.items(), key=lambda entry: (-entry[1][0].score, entry[1][0].item.id))
    hits = []
    for rank, (parent, some) in enumerate(ordered[:k], 1):
        best = some[0]
        rotations = _rotations([one for one in some if turned or one.item.kind is Kind.REFERENCE])
        margin = best.score - ordered[rank][1][0].score if rank < len(ordered) else None
        group = Group(parent, len(some), rotations, estimated_rotation(rotations), margin)
        hits.append(Hit(rank, best.score, best.item, group))
    return tuple(hits)


def estimated_rotation(rotations: Sequence[tuple[float, float]]) -> float | None:
    """The rotation in degrees [0, 360) from the scores of several: the best one, moved towards its better neighbour.

    Between neighbours `d` degrees away with scores a and b, the peak is taken for a tent of equal slopes: it lies
    (b - a) / (best - min(a, b)) * d / 2 from the best. On real photographs turned by eight angles against references every 30
    degrees, the median error is 4.1 degrees; of the best rotation alone 13, of a parabola 5.6.
    """
    if not rotations:
        return None
    best, score = max(rotations, key=lambda pair: pair[1])
    others = sorted((apart(rotation, best), rotation, value) for rotation, value in rotations if rotation != best)
    before = next((o for o in others if normal(best - o[1]) < 180), None)
    after = next((o for o in others if normal(o[1] - best) < 180), None)
    if before is None or after is None or abs(before[0] - after[0]) > 1e-6 or before[0] >= 90:
        return normal(best)  # a neighbour is missing among the best hits: the best rotation is all there is
    lower = min(before[2], after[2])
    if not score > lower:
        return normal(best)
    return normal(best + (after[2] - before[2]) / (score - lower) * after[0] / 2)


def ungrouped(hits: Iterable[StoredHit], k: int) -> tuple[Hit, ...]:
    """The first `k` hits as they are, ranked anew."""
    return tuple(replace(Hit.of(hit), rank=rank) for rank, hit in enumerate(list(hits)[:k], 1))


def best_of(parts: Iterable[Iterable[StoredHit]]) -> list[StoredHit]:
    """The hits of several windows of one query as one list: every item once, with its best score."""
    best: dict[str, StoredHit] = {}
    for hits in parts:
        for hit in hits:
            known = best.get(hit.item.id)
            if known is None or hit.score > known.score:
                best[hit.item.id] = hit
    return sorted(best.values(), key=lambda hit: (-hit.score, hit.item.id))


def _rotations(made: Sequence[Comparison]) -> tuple[tuple[float, float], ...]:
    """The best score of each rotation, by degrees."""
    best: dict[float, float] = {}
    for one in made:
        best[one.rotation] = max(one.score, best.get(one.rotation, -2.0))
    return tuple(sorted(best.items()))
