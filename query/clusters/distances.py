"""Distances between many points, exact whatever the processor: float32 products only bound them, float64 differences decide.

A squared distance taken as ``|p|² + |q|² - 2 p·q`` from one float32 product is off by an amount that grows with the norms and the
dimension, and the same pair comes out differently in a product of another shape or under another BLAS kernel. So such a product
is never compared with another one. It is made to stay below the true value (`Bounds`); what it cannot decide is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

NO_DISTANCE = 1e-6
"""Vectors of length 1 that are closer are equal within float32; no distance is taken to be smaller."""
_MEASURED = 65_536
"""Pairs measured at once: their differences stay in the processor's cache."""


@dataclass(frozen=True)
class Bounds:
    """What encloses the squared distance of each pair of points r and c, in any order of summation.

    ``product = left[r] @ right[:, c]`` is at most the squared distance, and ``product + margin[r] + margin[c]`` at least that.
    `left` is [N, D + 2], `right` [D + 2, N], both of the type of the `points` [N, D]; `margin` is [N] float64.
    """

    points: Floats
    left: NDArray[Any]
    right: NDArray[Any]
    margin: Doubles

    @classmethod
    def of(cls, points: NDArray[Any]) -> Bounds:
        """The bounds of points [N, D], float32 or float64.

        A sum of m products is off by at most ``m u / (1 - m u)`` times the sum of their magnitudes, where u is half of the
        type's epsilon, in any order and with or without fused multiplication (Higham, Accuracy and Stability of Numerical
        Algorithms, 3.1); here the magnitudes add up to ``2 (|p|² + |q|²)`` at most. Taking off the mean (smaller norms, smaller
        errors) and rounding the squared norms add eight u at most.
        """
        centred = points - points.mean(axis=0)
        unit = float(np.finfo(points.dtype).eps) / 2
        terms = (points.shape[1] + 2) * unit
        error = 2 * terms / (1 - terms) + 8 * unit
        squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
        lowered = (squares * (1 - error)).astype(points.dtype)[:, None]
        ones = np.ones_like(lowered)
        left = np.concatenate([-2 * centred, lowered, ones], axis=1)
        right = np.concatenate([centred, ones, lowered], axis=1)
        return cls(points, left, np.ascontiguousarray(right.T), squares * (2 * error + 2 * unit))

    def __len__(self) -> int:
        return len(self.left)

    def fine(self, rows: slice, columns: slice) -> tuple[Doubles, Doubles]:
        """Tiles of lower and of upper bounds from products in float64, for points that are very close together."""
        one, other = self.points[rows], self.points[columns]
        bounds = Bounds.of(np.concatenate([one, other]).astype(np.float64))
        low = bounds.left[: len(one)] @ bounds.right[:, len(one) :]
        return low, low + bounds.margin[: len(one), None] + bounds.margin[len(one) :]


def distances(points: Floats, one: Indices, other: Indices) -> Doubles:
    """The Euclidean distances of pairs of points, taken from their differences in float64; at least `NO_DISTANCE`."""
    found = np.empty(len(one))
    for at in range(0, len(one), _MEASURED):
        part = slice(at, at + _MEASURED)
        gap = points[one[part]].astype(np.float64)
        gap -= points[other[part]]
        found[part] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    return np.maximum(found, NO_DISTANCE)


def not_below(values: Doubles) -> Floats:
    """Float32 numbers just above (or at) values that are not negative."""
    return (values * (1 + 2.0**-23)).astype(np.float32)  # rounding takes off 2^-24 of it at most
