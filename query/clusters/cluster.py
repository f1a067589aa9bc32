"""Clusters of vectors: PCA, then HDBSCAN, k-means or Ward's agglomeration. Numbers in, numbers out; nothing is random twice.

The recipe is that of multi-view fossil studies: principal components (64), then density clusters (HDBSCAN: Campello, Moulavi,
Sander 2013), which need no number of clusters and leave out what belongs nowhere. Vectors of length 1 are taken as they are:
their Euclidean distances rank as their cosines do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.hierarchy import clusters_of
from outcrop.query.clusters.spanning import spanning_tree
from outcrop.query.distinct import distinct_rows
from outcrop.schema.errors import InputError, nearest

Method = Literal["hdbscan", "kmeans", "agglomerative"]
METHODS: tuple[str, ...] = get_args(Method)
UNASSIGNED = -1
"""The label of what belongs to no cluster."""
MAX_AGGLOMERATED = 20_000
"""Ward's method holds all pairs of distances: 1.6 GB at 20,000."""
MAX_GUESSED = 30
"""The largest number of clusters tried where none is given."""
GUESS_ROWS = 2000
"""Rows on which a number of clusters is chosen."""

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How to cluster. `clusters` is for k-means and agglomerative (None: the best silhouette chooses); the rest of HDBSCAN.

    `pca` principal components are kept (0: the vectors as they are). `min_samples` neighbours make a place dense: three found
    groups better than five or more in every collection tried, small ones above all (docs/decisions/0009).

    Raises:
        InputError: a value is out of range.
    """

    method: Method = "hdbscan"
    pca: int = 64
    min_cluster_size: int = 5
    min_samples: int = 3
    clusters: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"--method is {', '.join(METHODS)}, not {self.method!r}{nearest(self.method, METHODS)}")
        if self.clusters is not None and self.method == "hdbscan":
            raise InputError(
                f"--clusters is for kmeans and agglomerative; {self.method} finds the number itself (see --min-cluster-size)"
            )
        for name, value, least in (
            ("--pca", self.pca, 0),
            ("--min-cluster-size", self.min_cluster_size, 2),
            ("--min-samples", self.min_samples, 1),
            ("--clusters", self.clusters, 2),
            ("--seed", self.seed, 0),
        ):
            if value is not None and value < least:
                raise InputError(f"{name} is at least {least}, not {value}")


@dataclass(frozen=True)
class Clustering:
    """What was found, row by row: `labels` [N] from 0, the largest cluster first (-1: in none), `probability` [N] float64 from
    0 to 1 (how firmly a row belongs; 0 in none), `outlier` [N] from 0 to 1 (how far from the density of its surroundings), and
    the `points` [N, P] that were clustered."""

    labels: Labels
    probability: NDArray[np.float64]
    outlier: NDArray[np.float64]
    points: Floats

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return int(self.labels.max(initial=UNASSIGNED)) + 1


def cluster(vectors: Floats, recipe: Recipe) -> Clustering:
    """Clusters vectors [N, D] float32. The same vectors, recipe and machine give the same numbers, bit for bit.

    Equal vectors have equal labels, probabilities and outlier scores.

    Raises:
        InputError: too many vectors for the method, or fewer than clusters asked for.
    """
    points = reduced(vectors, recipe.pca)
    first, same = distinct_rows(vectors)
    if len(first) < len(
        vectors
    ):  # the product that reduces them rounds equal rows differently, depending on their place
        points = points[first][same]
    if recipe.method == "hdbscan":
        labels, probability, outlier = _density(points, recipe)
    else:
        labels, probability, outlier = _partition(points, recipe)
    return Clustering(_by_size(labels), probability, outlier, points)


def reduced(vectors: Floats, components: int) -> Floats:
    """The first principal components of vectors [N, D] float32: [N, P]; all there are where they are fewer."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    components = min(components, len(vectors) - 1, vectors.shape[1])
    if components < 1 or components >= vectors.shape[1]:
        return vectors
    with threadpool_limits(1), np.errstate(invalid="ignore"):  # shares of no variance at all
        # Of the covariance where rows are many: no copy of the rows is made.
        solver = "covariance_eigh" if len(vectors) > 4 * vectors.shape[1] else "full"
        return np.asarray(PCA(components, svd_solver=solver).fit_transform(vectors), dtype=np.float32)


def _density(points: Floats, recipe: Recipe) -> tuple[Labels, NDArray[np.float64], NDArray[np.float64]]:
    count = len(points)
    if count < max(3, recipe.min_cluster_size):
        return np.full(count, UNASSIGNED), np.zeros(count), np.zeros(count)
    return clusters_of(spanning_tree(points, recipe.min_samples), recipe.min_cluster_size)


def _partition(points: Floats, recipe: Recipe) -> tuple[Labels, NDArray[np.float64], NDArray[np.float64]]:
    """k-means or Ward; a row's probability says how much nearer its cluster's centre is than the next one's."""
    from threadpoolctl import threadpool_limits

    count = len(points)
    if recipe.method == "agglomerative" and count > MAX_AGGLOMERATED:
        raise InputError(
            f"agglomerative holds all pairs of {count} items, too many ({MAX_AGGLOMERATED} at most); "
            "use --method hdbscan or kmeans, or fewer items (--where)"
        )
    if count < (recipe.clusters or 2):
        raise InputError(f"{count} items cannot make {recipe.clusters or 2} clusters; give a smaller --clusters")
    with threadpool_limits(1):  # partial sums of several threads come in any order, and round differently
        clusters = recipe.clusters or _best_count(points, recipe)
        labels = _split(points, recipe.method, clusters, recipe.seed)
    centres = np.stack([points[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)])
    own = np.linalg.norm(points - centres[labels], axis=1).astype(np.float64)
    other = np.full(count, np.inf)
    for label, centre in enumerate(centres):
        away = np.linalg.norm(points - centre, axis=1)
        other = np.where(labels == label, other, np.minimum(other, away))
    probability = np.clip(1 - own / np.maximum(other, 1e-12), 0, 1)
    return labels, probability, 1 - probability


def _split(points: Floats, method: str, clusters: int, seed: int) -> Labels:
    """Labels from 0 without gaps; fewer than `clusters` if fewer points are different."""
    from sklearn.cluster import AgglomerativeClustering, KMeans
    from sklearn.exceptions import ConvergenceWarning

    first, same = distinct_rows(points)
    clusters = min(clusters, len(first))
    if clusters < 2:
        return np.zeros(len(points), np.int64)
    if method == "kmeans":
        means = KMeans(clusters, n_init=10, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer points than clusters that differ enough
            found = means.fit_predict(points[first], sample_weight=np.bincount(same))[same]
    else:
        found = AgglomerativeClustering(clusters).fit_predict(points)  # equal points, at no distance, are merged first
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _best_count(points: Floats, recipe: Recipe) -> int:
    """The number of clusters with the best silhouette (Rousseeuw 1987), on a sample where rows are many; the fewest of those
    that are equally good, 1 where all points are equal."""
    from sklearn.metrics import silhouette_score

    if len(points) > GUESS_ROWS:
        points = points[np.linspace(0, len(points) - 1, GUESS_ROWS).astype(np.int64)]
    distinct = len(distinct_rows(points)[0])
    if distinct < 2:
        return 1
    tried = range(2, max(3, min(MAX_GUESSED, len(points) // 2, distinct) + 1))
    scores = []
    for clusters in tried:
        labels = _split(points, recipe.method, clusters, recipe.seed)
        several = 2 <= len(np.unique(labels)) < len(points)
        scores.append(round(float(silhouette_score(points, labels)), 9) if several else -1.0)
    return tried[int(np.argmax(scores))]


def _by_size(labels: Labels) -> Labels:
    """The same clusters numbered from 0, the largest first, then the one whose first row comes first."""
    names, first, counts = np.unique(labels, return_index=True, return_counts=True)
    kept = names != UNASSIGNED
    order = np.lexsort((first[kept], -counts[kept]))
    numbers = {int(name): number for number, name in enumerate(names[kept][order])}
    return np.array([numbers.get(int(label), UNASSIGNED) for label in labels], np.int64)
