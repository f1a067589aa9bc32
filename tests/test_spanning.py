"""The spanning tree under HDBSCAN is the lightest one, and gives the clusters that the library itself gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels import kernels, run_under
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from outcrop.query.clusters import spanning
from outcrop.query.clusters.distances import NO_DISTANCE, Bounds
from outcrop.query.clusters.spanning import ROWS, spanning_tree


def blobs(n: int, dim: int, seed: int, clusters: int = 5, noise: float = 0.1) -> NDArray[np.float32]:
    """Clusters of unequal density and scattered points, float32 [n, dim]."""
    rng = np.random.default_rng(seed)
    centres, spread = rng.normal(size=(clusters, dim)), rng.uniform(0.05, 0.4, clusters)
    which = rng.integers(clusters, size=n)
    points = centres[which] + rng.normal(size=(n, dim)) * spread[which, None]
    scattered = rng.random(n) < noise
    points[scattered] = rng.normal(size=(int(scattered.sum()), dim)) * 1.5
    return points.astype(np.float32)


def clumps(n: int, dim: int, seed: int, apart: float = 3e-3, copies: bool = False) -> NDArray[np.float32]:
    """Vectors of length 1 in a few clumps of near-duplicates, which are about `apart` from each other; some twice."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    points = centres[rng.integers(4, size=n)] + rng.normal(size=(n, dim)) * apart / np.sqrt(2 * dim)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    if copies:
        points[rng.integers(n, size=n // 3)] = points[0]
    return points.astype(np.float32)


def lightest(points: NDArray[np.float32], min_samples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sorted edge weights of the lightest tree by Prim's algorithm, and the core distances: all in float64."""
    points = points.astype(np.float64)

    def away(row: int) -> NDArray[np.float64]:
        return np.maximum(np.sqrt(((points - points[row]) ** 2).sum(axis=1)), NO_DISTANCE)

    core = np.array(
        [np.partition(np.delete(away(row), row), min_samples - 1)[min_samples - 1] for row in range(len(points))]
    )
    nearest, inside, weights = np.full(len(points), np.inf), np.zeros(len(points), bool), []
    row = 0
    for _ in range(len(points) - 1):
        inside[row] = True
        nearest = np.minimum(nearest, np.maximum(np.maximum(core, core[row]), away(row)))
        row = int(np.where(inside, np.inf, nearest).argmin())
        weights.append(nearest[row])
    return np.sort(weights), core


def spans(one: NDArray[np.int64], other: NDArray[np.int64], n: int) -> bool:
    graph = csr_array((np.ones(len(one)), (one, other)), shape=(n, n))
    return len(one) == n - 1 and connected_components(graph, directed=False)[0] == 1


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
    assert_exact(points, min_samples)


def assert_exact(points: NDArray[np.float32], min_samples: int) -> None:
    tree = spanning_tree(points, min_samples)
    weights, core = lightest(points, min(min_samples, len(points) - 1))
    # The same weights, edge by edge in order: they decide the whole hierarchy.
    assert np.allclose(np.sort(tree.weight), weights, rtol=1e-9, atol=0)
    assert np.allclose(tree.core, core, rtol=1e-9, atol=0)
    assert spans(tree.one, tree.other, len(points))
    gaps = np.linalg.norm(points[tree.one].astype(np.float64) - points[tree.other], axis=1)
    reach = np.maximum(np.maximum(core[tree.one], core[tree.other]), gaps)
    assert np.allclose(tree.weight, reach, rtol=1e-9, atol=0)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(30, 700),
    dim=st.sampled_from([4, 64, 384]),
    min_samples=st.integers(1, 12),
    apart=st.sampled_from([1e-1, 3e-3, 1e-4, 1e-6]),
    copies=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_near_duplicates_of_length_1(n: int, dim: int, min_samples: int, apart: float, copies: bool, seed: int) -> None:
    """Squares differ by 1e-5 and less where products of float32 are off by as much."""
    assert_exact(clumps(n, dim, seed, apart, copies), min_samples)


@pytest.mark.parametrize("offset", [10.0, 1000.0])
def test_points_far_from_the_origin(offset: float) -> None:
    assert_exact(blobs(700, 8, 2) + np.float32(offset), 5)


def test_equal_points() -> None:
    """Each is the other's first neighbour, and a core distance reaches past them where they are fewer than its neighbours."""
    points = blobs(40, 8, 1)[np.repeat(np.arange(40), np.arange(40) % 5 + 1)]
    for min_samples in (1, 3, 7, len(points) - 1):
        assert_exact(points, min_samples)
    assert_exact(np.repeat(points[:1], 9, axis=0), 3)


@pytest.mark.parametrize("apart", [3e-3, 1e-5])
def test_many_pairs_are_thinned_out_on_the_way(apart: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spanning, "SIFTED", 3000)
    monkeypatch.setattr(spanning, "PAIRS", 200)
    monkeypatch.setattr(spanning, "SAMPLED_PAIRS", 20)
    assert_exact(clumps(1300, 16, 4, apart), 6)


def test_a_wrong_bound_loses_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row with too few pairs once took those of the next row."""
    monkeypatch.setattr(
        spanning, "_limits", lambda bounds, start, k: np.zeros(min(ROWS, len(bounds) - start), np.float32)
    )
    assert_exact(blobs(700, 8, 2), 5)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [3, 64, 768])
def test_bounds_enclose_the_distances(dim: int, kind: type) -> None:
    """Also of points whose norms differ much, and of products of any shape."""
    points = np.concatenate([clumps(100, dim, 1), blobs(100, dim, 2) * 30]).astype(kind)
    bounds = Bounds.of(points)
    true = np.stack([((points.astype(np.longdouble) - point) ** 2).sum(axis=1) for point in points])
    for columns in (slice(0, 200), slice(0, 17), slice(199, 200)):
        product = bounds.left @ bounds.right[:, columns]
        assert (product <= true[:, columns]).all()
        assert (product + bounds.margin[:, None] + bounds.margin[columns] >= true[:, columns]).all()


UNDER_A_KERNEL = """
import sys
import numpy as np
from outcrop.query.clusters.spanning import spanning_tree
trees = {}
with np.load(sys.argv[1]) as sets:
    for name, points in sets.items():
        tree = spanning_tree(points, 7)
        trees |= {f"{name} weight": tree.weight, f"{name} core": tree.core}
np.savez(sys.argv[2], **trees)
"""


def test_the_same_tree_under_every_kernel(tmp_path: Path) -> None:
    sets = {"blobs": blobs(1700, 24, 3, clusters=12), "clumps": clumps(1300, 64, 5), "wide": clumps(700, 768, 6, 1e-2)}
    np.savez(tmp_path / "points.npz", allow_pickle=False, **sets)
    expected = {name: lightest(points, 7) for name, points in sets.items()}
    for kernel in kernels():
        run_under(kernel, UNDER_A_KERNEL, tmp_path / "points.npz", tmp_path / f"{kernel}.npz")
        with np.load(tmp_path / f"{kernel}.npz") as found:
            for name, (weights, core) in expected.items():
                assert np.allclose(np.sort(found[f"{name} weight"]), weights, rtol=1e-9, atol=0), (kernel, name)
                assert np.allclose(found[f"{name} core"], core, rtol=1e-9, atol=0), (kernel, name)


@pytest.mark.parametrize("few", [False, True], ids=["whole", "sifted"])
def test_many_tiles_and_the_clusters_of_the_library(few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """More points than a tile has, with clusters that touch; `sifted` where not all found pairs may be kept."""
    import hdbscan
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
    assert np.allclose(np.sort(tree.weight), weights, rtol=1e-6)
    edges = csr_array((tree.weight, (tree.one, tree.other)), shape=(1700, 1700))
    ours = hdbscan.HDBSCAN(metric="precomputed", min_samples=1, min_cluster_size=7).fit(edges + edges.T)
    # Not every label is equal: where weights tie, several trees are the lightest, and a point at a cluster's rim may fall.
    assert adjusted_rand_score(ours.labels_, theirs.labels_) > 0.995 and ours.labels_.max() >= 9


def test_any_number_of_threads_gives_the_same_tree() -> None:
    points = blobs(1300, 16, 5)
    one, four = spanning_tree(points, 5, workers=1), spanning_tree(points, 5, workers=4)
    assert all(np.array_equal(getattr(one, name), getattr(four, name)) for name in ("one", "other", "weight", "core"))
