"""Query expansion: a search again with what geometry verified, and only with that.

The query's vector is averaged with those of its verified hits, weighted (Chum et al., "Total recall", ICCV 2007; Radenović et
al., TPAMI 2019), and what is nearest to the mean are new candidates. They are verified like the others, so that nothing comes
first for looking like a wrong hit. Stored vectors stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outcrop.query.answers import Hit
from outcrop.schema.item import parent_of

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Again:
    """How a query is asked again: its `vectors` [T, D] (one for each turn), the `search` under the same conditions for another
    vector [D], and the `stored` vectors [N, D] of items by their ids. All have length 1. `deeper` is the very same search for
    another number of hits, where that can be had."""

    vectors: Vectors
    search: Callable[[Vectors], tuple[Hit, ...]]
    stored: Callable[[Sequence[str]], Vectors]
    deeper: Callable[[int], tuple[Hit, ...]] | None = None


@dataclass(frozen=True)
class Expanded:
    """The hits of both searches, those of the first one before the others; their scores are those of the query itself. `nearness`
    is the cosine of each to the mean, by the id of its item."""

    hits: tuple[Hit, ...]
    nearness: dict[str, float]

    def candidates(self, matched: Iterable[str], depth: int) -> list[Hit]:
        """The best hit of each parent that was not `matched` yet, nearest to the mean first; `depth` at most."""
        seen, found = set(matched), []
        for hit in sorted(self.hits, key=lambda hit: -self.nearness[hit.item.id]):
            parent = parent_of(hit.item.key)
            if parent not in seen:
                seen.add(parent)
                found.append(hit)
        return found[:depth]


def mean_vector(query: Vectors, verified: Vectors, weights: NDArray[np.float64]) -> Vectors:
    """The mean [D], of length 1, of a query and its verified hits [V, D] by their `weights` [V]; the query has the weight 1.

    Of a query that was turned (vectors [T, D]), the turn counts that is nearest to the verified hits.
    """
    of_hits = weights @ verified.astype(np.float64)
    turn = query[int(np.argmax(query.astype(np.float64) @ of_hits))]
    mean = turn + of_hits
    return np.asarray(mean / np.linalg.norm(mean), dtype=np.float32)


def expanded(again: Again, hits: Sequence[Hit], evidence: dict[str, float]) -> Expanded:
    """Searches again; `evidence` has that of each verified parent among the hits, which is its weight."""
    best = {parent_of(hit.item.key): hit for hit in reversed(hits)}
    verified = again.stored([best[parent].item.id for parent in evidence])
    aim = mean_vector(again.vectors, verified, np.array(list(evidence.values()), np.float64))
    both = [*hits, *new_hits(hits, again.search(aim))]
    vectors = again.stored([hit.item.id for hit in both])
    own = (again.vectors @ vectors.T).max(axis=0)
    scored = (hit if n < len(hits) else replace(hit, score=float(own[n])) for n, hit in enumerate(both))
    return Expanded(tuple(scored), {hit.item.id: float(near) for hit, near in zip(both, vectors @ aim, strict=True)})


def new_hits(hits: Sequence[Hit], found: Sequence[Hit]) -> list[Hit]:
    """Those of another search that the first one has not; where hits are grouped, no second hit of a parent."""
    ids, parents = {hit.item.id for hit in hits}, {parent_of(hit.item.key) for hit in hits if hit.group is not None}
    return [hit for hit in found if hit.item.id not in ids and parent_of(hit.item.key) not in parents]
