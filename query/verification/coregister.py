"""A homography made more exact: the query is laid onto the candidate, and points are matched again where they ought to be.

Co-registration as EarthMatch does it (Berton et al., 2024), without drawing the picture anew: SIFT follows turns and scales. A
point need only differ from the few near its place, so that about twice as many match; a robust least squares over them weighs
each by how well it fits. More rounds bring nothing (docs/verification.md).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from outcrop.query.verification.features import LocalFeatures
from outcrop.query.verification.geometry import (
    RATIO,
    TOLERANCE,
    GeometricMatch,
    comparable,
    corners,
    described,
    implausible,
    project,
)

REACH = 6.0
"""Working pixels of the candidate within which a point is looked for again."""
ALIKE = 0.8
"""Least similarity of two points that are taken for one."""
STEPS = 8
"""Rounds of reweighted least squares."""
SHIFT = 3 * TOLERANCE
"""Working pixels by which a corner of the query may move: more is another answer, not a more exact one."""


def coregistered(query: LocalFeatures, candidate: LocalFeatures, match: GeometricMatch) -> GeometricMatch:
    """The match with a more exact homography, and what follows from it; its inliers and evidence stay those that verified it."""
    if match.homography is None or query.method not in RATIO:
        return match
    before = np.array(match.homography)
    rows, columns = _nearby(query, candidate, before)
    if len(rows) < match.inliers / 2:
        return match
    here, there = query.points[rows].astype(np.float64), candidate.points[columns].astype(np.float64)
    found = _fitted(here, there, before, candidate.unit)
    outline = corners(query.width, query.height)
    if found is None or implausible(found, query, candidate):
        return match
    moved = np.array(project(found, outline)) - np.array(project(before, outline))
    if np.hypot(*moved.T).max() > SHIFT * candidate.unit:
        return match
    return replace(match, **described(found, query))


def _nearby(
    query: LocalFeatures, candidate: LocalFeatures, matrix: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of points in both that are each other's best within reach, and clearly better than the next there."""
    from scipy.spatial import cKDTree

    ratio = RATIO[query.method]
    sent = np.array(project(matrix, query.points)) / candidate.unit
    near = cKDTree(sent).sparse_distance_matrix(
        cKDTree(candidate.points / candidate.unit), REACH, output_type="ndarray"
    )
    left, right = near["i"].astype(np.intp), near["j"].astype(np.intp)
    one, other = comparable(query.descriptors, query.method), comparable(candidate.descriptors, candidate.method)
    similarity = np.einsum("nd,nd->n", one[left], other[right])
    best, top = np.full(len(query), -1.0, np.float32), np.full(len(candidate), -1.0, np.float32)
    np.maximum.at(best, left, similarity)
    np.maximum.at(top, right, similarity)
    mutual = (similarity >= best[left]) & (similarity >= top[right]) & (similarity > ALIKE)
    second = np.full(len(query), -1.0, np.float32)
    np.maximum.at(second, left, np.where(mutual, np.float32(-1), similarity))
    clear = np.maximum(2 - 2 * similarity, 0) < ratio**2 * (2 - 2 * second[left])
    kept = np.flatnonzero(mutual & clear)
    return left[kept], right[kept]


def _fitted(
    here: NDArray[np.float64], there: NDArray[np.float64], matrix: NDArray[np.float64], unit: float
) -> NDArray[np.float64] | None:
    """The homography of least squares, each match weighed by ``1 / (1 + off^2)`` (Cauchy), `off` in working pixels."""
    for _ in range(STEPS):
        off = np.hypot(*(np.array(project(matrix, here)) - there).T) / unit
        agree = off < TOLERANCE
        if agree.sum() < 8:
            return None
        matrix = _least_squares(here[agree], there[agree], 1 / (1 + off[agree] ** 2))
        if not np.isfinite(matrix).all() or abs(matrix[2, 2]) < 1e-12:
            return None
        matrix = matrix / matrix[2, 2]
    return matrix


def _least_squares(
    here: NDArray[np.float64], there: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The homography between weighed points (Hartley's normalised linear solution)."""
    to_here, to_there = _normal(here), _normal(there)
    x, y = np.array(project(to_here, here)), np.array(project(to_there, there))
    one, none = np.ones((len(x), 1)), np.zeros((len(x), 3))
    point = np.hstack([x, one])
    rows = np.vstack(
        [
            np.hstack([-point, none, point * y[:, :1]]) * weights[:, None],
            np.hstack([none, -point, point * y[:, 1:]]) * weights[:, None],
        ]
    )
    # The smallest eigenvector of nine by nine numbers, instead of a decomposition of all rows.
    solution = np.linalg.eigh(rows.T @ rows)[1][:, 0].reshape(3, 3)
    return np.asarray(np.linalg.inv(to_there) @ solution @ to_here, np.float64)


def _normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moves points to their middle and scales them to a mean square distance of 2, 3 x 3."""
    middle = points.mean(axis=0)
    by = math.sqrt(2.0 / max(float(((points - middle) ** 2).sum(axis=1).mean()), 1e-12))
    return np.array([[by, 0, -by * middle[0]], [0, by, -by * middle[1]], [0, 0, 1]])
