"""What simple classifiers make of stored vectors, and how much the items of a category differ: vectors are measured, not answers.

A **linear probe** is multinomial logistic regression, trained on four fifths of the parents (specimens, photographs) and asked
about the rest, five times, so that each is asked once by a classifier that never saw any of its items. A **k-shot probe** is the
nearest of the categories' means, each over k parents drawn at random, asked about all others; twenty draws. Accuracy is the
share of a parent's items that are right, averaged over parents; intervals draw parents anew. **Disparity** is what
palaeontologists report of a group's morphospace (M. Foote, 1997): the sum of variances and the mean distance of pairs, here
of the parents' mean vectors, with intervals over parents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.evaluation.figures import Bootstrap
from outcrop.query.evaluation.measures import Estimate, mean_intervals
from outcrop.schema.errors import InputError
from outcrop.schema.filters import Filter, equals
from outcrop.schema.item import parent_of
from outcrop.store.collection import Collection

SHOTS = (1, 5, 10)
DRAWS, FOLDS = 20, 5
SPREAD = 2000
"""Parents of a category whose distances are taken."""
Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Probed:
    """`linear` and `shots` (by k) are accuracies, None where categories have too few parents; `chance` is the share of the
    largest category. `disparity` has for each category its parents, the sum of variances and the mean distance of pairs."""

    collection: str
    items: int
    parents: int
    categories: int
    chance: float
    linear: Estimate | None
    shots: Mapping[int, Estimate | None]
    disparity: Mapping[str, tuple[int, Estimate, Estimate]]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **{name: getattr(self, name) for name in ("collection", "items", "parents", "categories", "chance")},
            "linear": asdict(self.linear) if self.linear else None,
            "shots": {str(k): asdict(one) if one else None for k, one in self.shots.items()},
            "disparity": {
                name: {"parents": count, "sum_of_variances": asdict(spread), "mean_pairwise_distance": asdict(apart)}
                for name, (count, spread, apart) in self.disparity.items()
            },
        }


def probe_collection(
    collection: Collection, filter: Filter, levels: int | None = None, bootstrap: Bootstrap = Bootstrap()
) -> Probed:
    """Probes the items with a category (its first `levels` levels) that a filter keeps.

    Raises:
        InputError: they have fewer than two categories.
    """
    found = [
        (row["key"], "/".join(row["category"].split("/")[:levels]), row["vector"])
        for page in collection.scan_rows(filter, ["key", "category", "vector"])
        for row in page
        if row["category"]
    ]
    found.sort(key=lambda one: one[0])
    names, labels = np.unique([name for _, name, _ in found], return_inverse=True)
    if len(names) < 2:
        raise InputError(f"the items of {collection.name!r} that fit have {len(names)} categories; a probe needs two")
    groups = np.unique([parent_of(key) for key, _, _ in found], return_inverse=True)[1]
    vectors = np.asarray([vector for _, _, vector in found], np.float32)
    return _probed(
        collection.name, vectors, labels.astype(np.int64), groups.astype(np.int64), names.tolist(), bootstrap
    )


def items_of(dataset: str, kind: str) -> Filter:
    """The filter for the items of a kind of a dataset."""
    return equals("dataset", dataset) & equals("kind", kind)


def _probed(
    name: str, vectors: Vectors, labels: Labels, groups: Labels, names: Sequence[str], bootstrap: Bootstrap
) -> Probed:
    _, first = np.unique(groups, return_index=True)
    of_parent = labels[first]
    means = np.stack([vectors[groups == group].mean(axis=0) for group in range(len(first))]).astype(np.float64)
    counts = np.bincount(of_parent)
    disparity = {
        category: (int(counts[label]), *disparity_of(means[of_parent == label], bootstrap))
        for label, category in enumerate(names)
        if counts[label] > 1
    }
    return Probed(
        name,
        len(vectors),
        len(first),
        len(names),
        float(counts.max() / counts.sum()),
        linear_probe(vectors, labels, groups, bootstrap),
        {k: shot_probe(vectors, labels, groups, k, bootstrap) for k in SHOTS},
        disparity,
    )


def linear_probe(vectors: Vectors, labels: Labels, groups: Labels, bootstrap: Bootstrap) -> Estimate | None:
    """The accuracy of logistic regression, folds apart by parent; None where no category has `FOLDS` parents. Categories of fewer
    are left out."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    parents = np.array([len(np.unique(groups[labels == label])) for label in range(labels.max() + 1)])
    kept = parents[labels] >= FOLDS
    if len(np.unique(labels[kept])) < 2:
        return None
    vectors, labels, groups = vectors[kept], labels[kept], groups[kept]
    right = np.zeros(len(vectors))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=bootstrap.seed)
    for train, test in folds.split(vectors, labels, groups):
        model = LogisticRegression(C=100.0, max_iter=500).fit(vectors[train], labels[train])
        right[test] = model.predict(vectors[test]) == labels[test]
    return _over_parents(right, groups, np.ones(len(right)), bootstrap)


def shot_probe(vectors: Vectors, labels: Labels, groups: Labels, k: int, bootstrap: Bootstrap) -> Estimate | None:
    """The accuracy of the nearest category's mean over `k` parents; None where fewer than two categories have more than `k`.
    Categories of fewer are left out."""
    rng = np.random.default_rng(bootstrap.seed)
    by_label = [np.unique(groups[labels == label]) for label in range(labels.max() + 1)]
    used = [label for label, parents in enumerate(by_label) if len(parents) > k]
    if len(used) < 2:
        return None
    right, asked = np.zeros(len(vectors)), np.zeros(len(vectors))
    among = np.isin(labels, used)
    for _ in range(DRAWS):
        shown = [rng.choice(by_label[label], k, replace=False) for label in used]
        centres = np.stack([vectors[np.isin(groups, parents)].mean(axis=0) for parents in shown])
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
        test = among & ~np.isin(groups, np.concatenate(shown))
        said = np.array(used)[(vectors[test] @ centres.T).argmax(axis=1)]
        right[test] += said == labels[test]
        asked[test] += 1
    return _over_parents(right, groups, asked, bootstrap)


def disparity_of(means: NDArray[np.float64], bootstrap: Bootstrap) -> tuple[Estimate, Estimate]:
    """The sum of variances and the mean distance of pairs of vectors [N, D], with intervals over the vectors; pairs of a vector
    with itself, which a resample brings, do not count. Of more than `SPREAD` vectors, every n-th."""
    rng = np.random.default_rng(bootstrap.seed)
    means = means[:: -(-len(means) // SPREAD)]
    centred = means - means.mean(axis=0)
    lengths = (centred**2).sum(axis=1)
    squares = np.maximum(lengths[:, None] + lengths - 2 * centred @ centred.T, 0)
    np.fill_diagonal(squares, 0)
    count, apart = len(means), np.sqrt(squares)
    weights = np.stack([np.ones(count), *rng.multinomial(count, np.full(count, 1 / count), bootstrap.resamples)])
    # The variance is half of the mean squared distance of pairs, those of a vector with itself included.
    spread = np.einsum("bi,ij,bj->b", weights, squares, weights, optimize=True) / (2 * count * (count - 1))
    pairs = np.maximum(count**2 - (weights**2).sum(axis=1), 1)
    distance = np.einsum("bi,ij,bj->b", weights, apart, weights, optimize=True) / pairs
    return _estimate(spread, bootstrap.level), _estimate(distance, bootstrap.level)


def _estimate(values: NDArray[np.float64], level: float) -> Estimate:
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values[0]), float(low), float(high))


def _over_parents(
    right: NDArray[np.float64], groups: Labels, asked: NDArray[np.float64], bootstrap: Bootstrap
) -> Estimate:
    """The share that is right of each parent's, averaged over the parents that were asked about."""
    size = groups.max() + 1
    hits, times = np.bincount(groups, right, size), np.bincount(groups, asked, size)
    share = (hits[times > 0] / times[times > 0])[:, None]
    return mean_intervals(share, resamples=bootstrap.resamples, seed=bootstrap.seed, level=bootstrap.level)[0]
