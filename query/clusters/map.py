"""A map of vectors on a plane: near on it is near among the vectors. t-SNE (van der Maaten 2014), begun from the principal
components, one thread, one seed: the same map every time.

Where rows are many, some from every cluster are laid out; a map of ten thousand marks shows no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.cluster import UNASSIGNED, Floats, Labels

MAX_MARKS = 2000


@dataclass(frozen=True)
class Map:
    """The `rows` that are shown [M] and where: `places` [M, 2], each from 0 to 1."""

    rows: NDArray[np.int64]
    places: NDArray[np.float64]


def lay_out(points: Floats, labels: Labels, seed: int = 0, most: int = MAX_MARKS) -> Map:
    """The map of points [N, P] with labels [N]."""
    rows = chosen(labels, most)
    shown = points[rows].astype(np.float64)
    places = _tsne(shown, seed) if len(rows) >= 8 else _plane(shown)
    low, span = places.min(axis=0, initial=np.inf), np.ptp(places, axis=0) if len(places) else np.ones(2)
    return Map(rows, (places - low) / np.maximum(span, 1e-12) if len(places) else places)


def chosen(labels: Labels, most: int) -> NDArray[np.int64]:
    """At most about `most` rows, evenly from every cluster, from each at least ten (or all)."""
    if len(labels) <= most:
        return np.arange(len(labels))
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        least = 0 if label == UNASSIGNED else 10
        count = min(len(members), max(least, round(most * len(members) / len(labels))))
        kept.append(members[np.linspace(0, len(members) - 1, count).astype(np.int64)])
    rows: NDArray[np.int64] = np.unique(np.concatenate(kept))
    return rows


def _tsne(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    begun = _plane(points)
    deviation = float(begun[:, 0].std())
    if deviation < 1e-9:  # all points are one
        return begun
    method = TSNE(
        perplexity=min(30.0, (len(points) - 1) / 3), init=begun / deviation * 1e-4, random_state=seed, n_jobs=1
    )
    with threadpool_limits(1):  # sums of several threads come in any order, and round differently
        return np.asarray(method.fit_transform(points), dtype=np.float64)


def _plane(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two principal components [M, 2]."""
    if len(points) < 2:
        return np.zeros((len(points), 2))
    centred = points - points.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    width = min(2, left.shape[1])
    plane[:, :width] = left[:, :width] * size[:width]
    signs = np.sign(plane[np.abs(plane).argmax(axis=0), range(2)])  # the signs of the factors are arbitrary
    return plane * np.where(signs == 0, 1, signs)
