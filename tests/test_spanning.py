"""The spanning tree under HDBSCAN is the lightest one, and gives the clusters that the library itself gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree

from outcrop.query.clusters import spanning
from outcrop.query.clusters.spanning import NO_DISTANCE, spanning_tree


def blobs(n: int, dim: int, seed: int, clusters: int = 5, noise: float = 0.1) -> NDArray[np.float32]:
    """Clusters of unequal density and scattered points, float32 [n, dim]."""
    rng = np.random.default_rng(seed)
    centres, spread = rng.normal(size=(clusters, dim)), rng.uniform(0.05, 0.4, clusters)
    which = rng.integers(clusters, size=n)
    points = centres[which] + rng.normal(size=(n, dim)) * spread[which, None]
    scattered = rng.random(n) < noise
    points[scattered] = rng.normal(size=(int(scattered.sum()), dim)) * 1.5
    return points.astype(np.float32)


def reachability(points: NDArray[np.float32], min_samples: int) -> NDArray[np.float64]:
    """All mutual reachability distances, the plain way."""
    gaps = points[:, None].astype(np.float64) - points[None]
    distance = np.maximum(np.sqrt((gaps**2).sum(axis=2)), NO_DISTANCE)
    np.fill_diagonal(distance, 0)
    k = min(min_samples, len(points) - 1)
    core = np.sort(distance, axis=1)[:, k]
    found = np.maximum(np.maximum(core[:, None], core[None]), distance)
    np.fill_diagonal(found, 0)
    return found


@settings(max_examples=60)
@example(n=69, dim=1, min_samples=1, seed=69, copies=True)  # a copy and a point 0.0003 away look equally near
@given(
    n=st.integers(2, 90),
    dim=st.integers(1, 12),
    min_samples=st.integers(1, 20),
    seed=st.integers(0, 10_000),
    copies=st.booleans(),
)
def test_the_tree_is_the_lightest(n: int, dim: int, min_samples: int, seed: int, copies: bool) -> None:
    points = blobs(n, dim, seed)
    if copies:
        points[n // 2 :] = points[: n - n // 2]
    tree = spanning_tree(points, min_samples)
    all_pairs = reachability(points, min_samples)
    best = minimum_spanning_tree(all_pairs).toarray()
    assert len(tree.weight) == n - 1
    # The same weights, edge by edge in order: they decide the whole hierarchy. Differences of squares of float32 tell
    # distances below about a thousandth of the points' extent no more apart, so much the tree may be off.
    extent = float(np.abs(points - points.mean(axis=0)).max())
    assert np.allclose(np.sort(tree.weight), np.sort(best[best > 0]), rtol=1e-4, atol=1e-3 * extent)
    # Which of several such neighbours is the k-th may be off as much, and with it a core distance.
    assert np.allclose(tree.weight, all_pairs[tree.one, tree.other], rtol=1e-4, atol=1e-3 * extent)


@pytest.mark.parametrize("few", [False, True], ids=["whole", "sifted"])
def test_many_tiles_and_the_clusters_of_the_library(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More points than a tile has, with clusters that touch; `sifted` where not all found pairs may be kept."""
    import hdbscan
    from scipy.sparse import csr_array
    from sklearn.metrics import adjusted_rand_score

    if few:
        monkeypatch.setattr(spanning, "PAIRS", 200)
        monkeypatch.setattr(spanning, "SAMPLED_PAIRS", 20)
    points = blobs(1700, 24, 3, clusters=12)
    tree = spanning_tree(points, 7)
    theirs = hdbscan.HDBSCAN(
        min_cluster_size=7, min_samples=7, approx_min_span_tree=False, gen_min_span_tree=True, core_dist_n_jobs=1
    ).fit(points)
    weights = np.sort(theirs.minimum_spanning_tree_.to_numpy()[:, 2])
    assert np.allclose(np.sort(tree.weight), weights, rtol=1e-4)
    assert tree.weight.sum() == pytest.approx(weights.sum(), rel=1e-6)
    edges = csr_array((tree.weight, (tree.one, tree.other)), shape=(1700, 1700))
    ours = hdbscan.HDBSCAN(metric="precomputed", min_samples=1, min_cluster_size=7).fit(edges + edges.T)
    # Not every label is equal: where weights tie, several trees are the lightest, and a point at a cluster's rim may fall.
    assert adjusted_rand_score(ours.labels_, theirs.labels_) > 0.995 and ours.labels_.max() >= 9


def test_any_number_of_threads_gives_the_same_tree() -> None:
    points = blobs(1300, 16, 5)
    one, four = spanning_tree(points, 5, workers=1), spanning_tree(points, 5, workers=4)
    assert all(np.array_equal(getattr(one, name), getattr(four, name)) for name in ("one", "other", "weight", "core"))
