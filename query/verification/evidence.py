"""How much of a query a match explains: what verified candidates are ranked by.

Neighbouring photographs overlap, and on fields and roofs the overlap alone may hold as many inliers as the whole of the right
photograph. So inliers count by how exactly they fit and by how evenly they cover the query, not by their bare number.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CELLS = 8
"""Square cells along the longest side of the query."""
EXACT = 1.5
"""Working pixels by which an inlier lies off that counts e^(-1/2): a photograph fits itself more exactly than its neighbour,
whose view of roofs and trees is from another side."""


def evidence(
    points: NDArray[np.float32], off: NDArray[np.floating], size: tuple[int, int], shown: NDArray[np.float32]
) -> float:
    """The effective number of inliers: at most their number, reached where all are exact and every cell has as many.

    ``(sum over cells of sqrt(w))^2 / cells``, where `w` adds ``exp(-(off / 1.5)^2 / 2)`` over the inliers of a cell, and cells
    count in which the query shows (`shown`, [N, 2]) a distinctive point or an inlier. Inliers that crowd in a share `f` of the
    query so count as `f` times their number.

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
    here, filled = _cells(points, side, across), _cells(shown, side, across)
    weight = np.bincount(here, weights=weights)
    counted = len(np.union1d(here, filled))
    return float(np.sqrt(weight).sum() ** 2 / counted)


def _cells(points: NDArray[np.float32], side: float, across: int) -> NDArray[np.int64]:
    """The number of the cell of each point, row by row."""
    place = np.maximum((np.asarray(points, np.float64).reshape(-1, 2) + 0.5) // side, 0).astype(np.int64)
    return place[:, 1] * (across + 1) + place[:, 0]
