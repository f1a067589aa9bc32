"""How much of a query a match explains: what verified candidates are ranked by.

Neighbouring photographs overlap, and on fields and roofs the overlap alone may hold as many inliers as the whole of the right
photograph. So it counts first how much of the query the candidate shows, then how densely and how exactly the two agree there;
the bare number of inliers does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELLS = 8
"""Square cells along the longest side of the query."""
EXACT = 1.5
"""Working pixels by which an inlier lies off that counts e^(-1/2): a photograph fits itself more exactly than its neighbour,
whose view of roofs and trees is from another side."""
DENSE = 4.0
"""Effective inliers, were the whole query shown, of half the evidence."""


def evidence(effective: float, shown: float) -> float:
    """The evidence of a match, 0 to 1: the share of the query that the candidate shows, times ``d / (d + 4)``.

    `d` is the density of the agreement: the effective inliers (`effective_inliers`) that there would be if what agrees as in the
    part that is `shown` (0 to 1) were the whole query.
    """
    if effective <= 0 or shown <= 0:
        return 0.0
    density = effective / shown
    return shown * density / (density + DENSE)


def effective_inliers(
    points: NDArray[np.float32], off: NDArray[np.floating], size: tuple[int, int], distinctive: NDArray[np.float32]
) -> float:
    """The inliers by how exact they are and how evenly they lie: their number where all are exact and every cell has as many.

    ``(sum over cells of sqrt(w))^2 / cells``, where `w` adds ``exp(-(off / 1.5)^2 / 2)`` over the inliers of a cell, and cells
    count in which the query has a `distinctive` point ([N, 2]) or an inlier. Inliers that crowd in a share `f` of the query so
    count as `f` times their number.

    Args:
        points: the inliers in the query, [n, 2], full-size pixels.
        off: by how many working pixels of the candidate each lies off, [n].
        size: width and height of the query.
    """
    if not len(points):
        return 0.0
    side = max(size) / CELLS
    across = math.ceil(size[0] / side - 1e-6)
    weights = np.exp(-((np.asarray(off, np.float64) / EXACT) ** 2) / 2)
    here, filled = _cells(points, side, across), _cells(distinctive, side, across)
    weight = np.bincount(here, weights=weights)
    counted = len(np.union1d(here, filled))
    return float(np.sqrt(weight).sum() ** 2 / counted)


def shown_share(footprint: Sequence[tuple[float, float]], size: tuple[int, int]) -> float:
    """The share of a query that a candidate of `size` (width, height) shows, by the query's corners in the candidate's pixels."""
    import cv2

    width, height = size
    outline = np.array(footprint, np.float32)
    edges = np.array([(-0.5, -0.5), (width - 0.5, -0.5), (width - 0.5, height - 0.5), (-0.5, height - 0.5)], np.float32)
    whole = float(cv2.contourArea(outline))
    common, _ = cv2.intersectConvexConvex(outline, edges)
    return min(1.0, float(common) / whole) if whole > 0 else 0.0


def _cells(points: NDArray[np.float32], side: float, across: int) -> NDArray[np.int64]:
    """The number of the cell of each point, row by row."""
    place = np.maximum((np.asarray(points, np.float64).reshape(-1, 2) + 0.5) // side, 0).astype(np.int64)
    return place[:, 1] * (across + 1) + place[:, 0]
