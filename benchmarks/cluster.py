"""`query cluster`'s clustering against the usual recipe (PCA 64, then `hdbscan`), on the same vectors in one process.

    python benchmarks/cluster.py [--sizes 20000] [--repeats 3] [--recipe-up-to 20000] [--json]

The vectors imitate embeddings: 384-d, of length 1; clusters of very unequal sizes and densities with heavy tails, each on a
plane of few dimensions of its own, in groups of related ones; an eighth of all is scattered. Both take turns, so that noise
meets both; ratios and medians are reported, with processor seconds beside, since the recipe runs on one core and ours on all. ARI
is against the truth (the scattered are a class of their own) and of one against the other. Where the recipe would take too long
(`--recipe-up-to`), its time is extrapolated with the square of the size, and marked so. Memory is the highest resident size that
the clustering reaches beyond the vectors, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last: what is installed wins

DIM, MIN_CLUSTER_SIZE = 384, 10


def main() -> None:
    """Runs the benchmark and prints medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--recipe-up-to", type=int, default=20_000, help="larger sizes are extrapolated for the recipe")
    parser.add_argument(
        "--memory-of", type=int, help="only measure memory at this size (started by the benchmark itself)"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(memory(arguments.memory_of))
        return
    results = []
    for size in arguments.sizes:
        result = measure(size, arguments.repeats, size <= arguments.recipe_up_to, results)
        results.append(result)
        if not arguments.json:
            for name, value in result.items():
                print(f"{name:36} {value}", flush=True)
            print()
    if arguments.json:
        print(json.dumps(results, indent=1))


def measure(size: int, repeats: int, recipe_too: bool, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Median seconds of both ways and their ratio, and how they agree."""
    from sklearn.metrics import adjusted_rand_score

    vectors, truth = mixture(size)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {"ours": ours}
    if recipe_too:
        ways["recipe"] = recipe
    for way in ways.values():
        way(vectors[:800])  # imports, compilation
    walls: dict[str, list[float]] = {name: [] for name in ways}
    cpus: dict[str, list[float]] = {name: [] for name in ways}
    labels: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            labels[name] = way(vectors)
            walls[name].append(time.perf_counter() - wall)
            cpus[name].append(time.process_time() - cpu)
    result: dict[str, Any] = {"vectors": f"{size} x {DIM}", "repeats": repeats}
    for name in ways:
        result[f"{name}: seconds, median"] = round(statistics.median(walls[name]), 2)
        result[f"{name}: processor seconds, median"] = round(statistics.median(cpus[name]), 2)
        result[f"{name}: clusters"] = int(labels[name].max()) + 1
        result[f"{name}: in no cluster"] = round(float((labels[name] < 0).mean()), 4)
        result[f"{name}: ARI against the truth"] = round(float(adjusted_rand_score(truth, labels[name])), 5)
    if recipe_too:
        result["ratio of seconds, median"] = round(statistics.median(
            r / o for r, o in zip(walls["recipe"], walls["ours"], strict=True)
        ), 1)  # fmt: skip
        result["ratio of processor seconds"] = round(
            statistics.median(cpus["recipe"]) / statistics.median(cpus["ours"]), 1
        )
        result["ARI of one against the other"] = round(float(adjusted_rand_score(labels["recipe"], labels["ours"])), 5)
    else:
        known = [r for r in before if "recipe: seconds, median" in r]
        if known:
            base = int(known[-1]["vectors"].split()[0])
            guess = known[-1]["recipe: seconds, median"] * (size / base) ** 2
            result["recipe: seconds, EXTRAPOLATED"] = f"{guess:.0f} (from {base}, with the square)"
    found = subprocess.run(
        [sys.executable, __file__, "--memory-of", str(size)], capture_output=True, text=True, check=True
    )
    result["ours: memory beyond the vectors, MB"] = int(found.stdout)
    result["vectors, MB"] = round(vectors.nbytes / 2**20)
    return result


def ours(vectors: np.ndarray) -> np.ndarray:
    """`outcrop.query.clusters.cluster` as the command calls it, with the recipe's own parameters."""
    from outcrop.query.clusters.cluster import Recipe, cluster

    return cluster(vectors, Recipe(min_cluster_size=MIN_CLUSTER_SIZE, min_samples=MIN_CLUSTER_SIZE)).labels


def recipe(vectors: np.ndarray) -> np.ndarray:
    """PCA 64 and hdbscan as they come."""
    import hdbscan
    from sklearn.decomposition import PCA

    points = PCA(64, random_state=0).fit_transform(vectors)
    return hdbscan.HDBSCAN(min_cluster_size=MIN_CLUSTER_SIZE).fit(points).labels_


def memory(size: int) -> int:
    """Megabytes that the clustering needs at most beyond what was there before it."""
    from benchmarks.memory import begin_anew, peak_mb

    vectors, _ = mixture(size)
    ours(vectors[:800])
    before = begin_anew()
    ours(vectors)
    return int(peak_mb() - before)


def mixture(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [size, 384] float32 of length 1 and their clusters (-1: scattered)."""
    rng = np.random.default_rng(seed)
    clusters = 60
    share = rng.pareto(1.5, clusters) + 0.3
    counts = np.maximum((share / share.sum() * size * 0.88).astype(int), 12)
    basis = np.linalg.qr(rng.normal(size=(DIM, 48)))[0]
    families = rng.normal(size=(clusters // 6, 48))
    vectors, truth = np.empty((size, DIM), np.float32), np.full(size, -1)
    row = 0
    for cluster in range(clusters):
        count = min(int(counts[cluster]), size - row)
        centre = basis @ (0.8 * families[rng.integers(len(families))] + 0.7 * rng.normal(size=48))
        rank, spread = int(rng.integers(4, 14)), rng.uniform(0.15, 0.5)
        plane = rng.normal(size=(DIM, rank))
        plane *= spread * np.exp(-np.arange(rank) / 4) / np.linalg.norm(plane, axis=0)
        heavy = np.sqrt(rng.chisquare(6, size=(count, 1)) / 6)
        within = (rng.normal(size=(count, rank)) / heavy) @ plane.T
        noise = rng.normal(size=(count, DIM)) * 0.5 * spread / np.sqrt(DIM)
        vectors[row : row + count] = centre / np.linalg.norm(centre) + within + noise
        truth[row : row + count] = cluster
        row += count
    scattered = rng.normal(size=(size - row, 48)) @ basis.T / np.sqrt(48)
    vectors[row:] = scattered + rng.normal(size=(size - row, DIM)) * 0.3 / np.sqrt(DIM)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = rng.permutation(size)
    return vectors[order], truth[order]


if __name__ == "__main__":
    main()
