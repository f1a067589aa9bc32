"""The clusters of a spanning tree: hdbscan's second half (Campello, Moulavi, Sander 2013), behind one door.

Its public way to this takes a sparse matrix of distances, and six times as long, for it copies the matrix entry by entry. So the
functions that follow in it are called directly. They are not public: `CHECKED` names the versions in which they were tried, and a
version in which they are gone or changed gets the public way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.query.clusters.spanning import SpanningTree

CHECKED = ("0.8.42", "0.8.43", "0.8.44")
"""Versions of hdbscan in which the inner functions and the public way gave the same."""

Membership = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Labels [N] (-1: in none), probabilities [N], GLOSH's outlier scores [N] (both from 0 to 1)."""


def clusters_of(tree: SpanningTree, min_cluster_size: int) -> Membership:
    """The clusters that persist in the hierarchy of a spanning tree, and how far from the density around them points lie."""
    try:
        return inner(tree, min_cluster_size)
    except (ImportError, AttributeError, TypeError):
        return public(tree, min_cluster_size)


def inner(tree: SpanningTree, min_cluster_size: int) -> Membership:
    """By functions that hdbscan keeps to itself."""
    from hdbscan._hdbscan_linkage import label
    from hdbscan._hdbscan_tree import outlier_scores
    from hdbscan.hdbscan_ import _tree_to_labels

    edges = np.stack([tree.one, tree.other, tree.weight], axis=1)  # the lightest first, as they are
    labels, probability, _, condensed, _ = _tree_to_labels(None, label(edges), min_cluster_size)
    return _membership(labels, probability, outlier_scores(condensed))


def public(tree: SpanningTree, min_cluster_size: int) -> Membership:
    """By hdbscan's own front door: a tree is its own lightest spanning tree, and with one sample its own reachability."""
    from hdbscan import HDBSCAN
    from scipy.sparse import csr_array

    edges = csr_array((tree.weight, (tree.one, tree.other)), shape=(len(tree.core),) * 2)
    found = HDBSCAN(metric="precomputed", min_samples=1, min_cluster_size=min_cluster_size).fit(edges + edges.T)
    return _membership(found.labels_, found.probabilities_, found.outlier_scores_)


def _membership(labels: Any, probability: Any, outlier: Any) -> Membership:
    return np.asarray(labels, np.int64), np.asarray(probability, np.float64), np.nan_to_num(np.asarray(outlier))
