"""How good clusters are: by themselves (silhouette, DBCV), and against known categories (ARI, NMI).

Silhouette: Rousseeuw 1987. DBCV: Moulavi et al. 2014 (density-based validity, which lets clusters have any shape). ARI: Hubert
and Arabie 1985, adjusted for chance. NMI: mutual information by the mean of the entropies.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.cluster import UNASSIGNED, Floats, Labels

MAX_ROWS = 4000
"""Rows, evenly drawn, on which figures over pairs are computed at most."""


@dataclass(frozen=True)
class Quality:
    """Figures of one clustering; None where they do not exist (one cluster, no categories).

    `silhouette` and `dbcv`, from -1 to 1, over the rows that are in a cluster (`rows` of them); `ari`, `nmi`: all rows that
    have a category, those in no cluster counted as a cluster of their own; `ari_assigned`: without these.
    """

    silhouette: float | None
    dbcv: float | None
    rows: int
    ari: float | None = None
    nmi: float | None = None
    ari_assigned: float | None = None
    categories: int = 0


def quality(points: Floats, labels: Labels, categories: Sequence[str] = ()) -> Quality:
    """The figures of labels [N] over points [N, P]; `categories` [N] are the truth, '' where it is not known."""
    silhouette, dbcv, rows = _internal(points, labels)
    known = np.array([bool(category) for category in categories], dtype=bool)
    truth = np.asarray(categories, dtype=object)[known] if len(known) else np.array([], dtype=object)
    if len(set(truth)) < 2:
        return Quality(silhouette, dbcv, rows)
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    names = np.unique(truth.astype(str), return_inverse=True)[1]
    found = labels[known]
    assigned = found != UNASSIGNED
    return Quality(
        silhouette,
        dbcv,
        rows,
        float(adjusted_rand_score(names, found)),
        float(normalized_mutual_info_score(names, found)),
        float(adjusted_rand_score(names[assigned], found[assigned])) if assigned.any() else None,
        len(set(names)),
    )


def _internal(points: Floats, labels: Labels) -> tuple[float | None, float | None, int]:
    inside = np.flatnonzero(labels != UNASSIGNED)
    if len(inside) > MAX_ROWS:
        inside = inside[np.linspace(0, len(inside) - 1, MAX_ROWS).astype(np.int64)]
    points, labels = np.asarray(points[inside], np.float32), labels[inside]
    names, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2 or len(names) >= len(labels):
        return None, None, len(inside)
    from sklearn.metrics import silhouette_score

    silhouette = float(silhouette_score(points, labels))
    whole = counts[labels] > 2  # a sample may leave one or two of a small cluster, which have no density
    return silhouette, _dbcv(points[whole].astype(np.float64), labels[whole]), len(inside)


def _dbcv(points: NDArray[np.float64], labels: Labels) -> float | None:
    from hdbscan.validity import validity_index

    labels = np.unique(labels, return_inverse=True)[1]
    if len(np.unique(labels)) < 2:
        return None
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Distances to the power of the dimension leave the range of doubles unless they are about 1.
        scale = float(np.median(np.linalg.norm(points - points.mean(axis=0), axis=1))) or 1.0
        found = float(validity_index(points / scale, labels.astype(np.int64)))
    return found if np.isfinite(found) else None
