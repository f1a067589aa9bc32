"""Cluster ids that stay: a cluster keeps the id of the one it grew from, so that what was written about "cluster 7" holds.

Clusters of a run and of the last one are paired so that their overlap is largest in all (Hungarian method: Kuhn 1955), among
the items that both runs have. Overlap is Jaccard's: items in both by items in either. A pair that overlaps by less than
`MIN_OVERLAP` is not a pair: the cluster is new, and takes an id that no cluster ever had. When a cluster splits, its id stays
with the larger part; when two merge, with the larger one's id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_OVERLAP = 0.25
"""Jaccard's overlap below which a cluster counts as another one."""


@dataclass(frozen=True)
class Known:
    """The last result: cluster id by item (-1 or absent: in none), and the first id that was never given."""

    ids: Mapping[str, int]
    next_id: int


@dataclass(frozen=True)
class Identity:
    """`ids` by label; which of them were `kept` and `new`; which ids of the last result are `gone`; the next free id."""

    ids: tuple[int, ...]
    kept: tuple[int, ...]
    new: tuple[int, ...]
    gone: tuple[int, ...]
    next_id: int


def stable_ids(names: Sequence[str], labels: NDArray[np.int64], known: Known | None) -> Identity:
    """Ids for the clusters of `labels` [N] (from 0, -1 = in none) of items with unique `names`."""
    from scipy.optimize import linear_sum_assignment

    count = int(labels.max(initial=-1)) + 1
    if known is None or not known.next_id:
        return Identity(tuple(range(count)), (), tuple(range(count)), (), count)
    before = np.array([known.ids.get(name, -1) for name in names], dtype=np.int64)
    present = np.array([name in known.ids for name in names], dtype=bool)
    older = np.unique(np.fromiter((id for id in known.ids.values() if id >= 0), np.int64))
    found: dict[int, int] = {}
    if count and len(older):
        overlap = np.zeros((count, len(older)))
        both = (labels >= 0) & (before >= 0)
        np.add.at(overlap, (labels[both], np.searchsorted(older, before[both])), 1)
        # Among the items of both runs: what came or went since makes no cluster another.
        now = np.bincount(labels[(labels >= 0) & present], minlength=count)
        then = np.bincount(np.searchsorted(older, before[before >= 0]), minlength=len(older))
        union = now[:, None] + then[None] - overlap
        jaccard = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
        jaccard[jaccard < MIN_OVERLAP] = 0
        for label, column in zip(*linear_sum_assignment(-jaccard), strict=True):
            if jaccard[label, column] > 0:
                found[int(label)] = int(older[column])
    following = known.next_id
    ids = []
    for label in range(count):
        if label not in found:
            found[label] = following
            following += 1
        ids.append(found[label])
    kept = tuple(id for id in ids if id < known.next_id)
    gone = tuple(int(id) for id in older if int(id) not in ids)
    return Identity(tuple(ids), kept, tuple(id for id in ids if id >= known.next_id), gone, following)
