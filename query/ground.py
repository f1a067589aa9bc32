"""Places and footprints on the ground: distances on the sphere, and how much of one polygon lies in others."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS = 6_371_008.8
"""Mean radius in metres (IUGG)."""


def distances(
    latitude: ArrayLike, longitude: ArrayLike, other_latitude: ArrayLike, other_longitude: ArrayLike
) -> NDArray[np.float64]:
    """Metres between places in degrees, along the sphere (haversine); numpy's rules of shape."""
    a, b = np.radians(latitude), np.radians(other_latitude)
    turn = np.radians(np.subtract(other_longitude, longitude))
    h = np.sin((b - a) / 2) ** 2 + np.cos(a) * np.cos(b) * np.sin(turn / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS * np.arcsin(np.sqrt(np.minimum(1.0, h))))


def areas(polygons: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed areas [N] of polygons [N, M, 2] (shoelace formula): positive where the corners go counterclockwise."""
    x, y = polygons[..., 0], polygons[..., 1]
    return np.asarray((x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1) / 2)


def is_convex(polygon: NDArray[np.float64]) -> bool:
    """Whether a polygon [M, 2] has an area, and turns one way only, and once. Corners may be repeated."""
    edges = np.roll(polygon, -1, 0) - polygon
    edges = edges[(edges != 0).any(1)]
    after = np.roll(edges, -1, 0)
    cross = edges[:, 0] * after[:, 1] - edges[:, 1] * after[:, 0]
    tolerance = 1e-9 * float(np.abs(edges).max(initial=0.0)) ** 2
    if not (np.all(cross >= -tolerance) or np.all(cross <= tolerance)) or np.abs(cross).max(initial=0.0) <= tolerance:
        return False
    turned = np.arctan2(cross, (edges * after).sum(-1)).sum()
    return bool(abs(abs(turned) - 2 * np.pi) < 1e-6)


def shares(polygon: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share [N], 0 to 1, of a convex polygon's area ([M, 2]) that lies in each of N convex polygons [N, L, 2].

    The others are clipped by each edge of the polygon in turn (Sutherland and Hodgman, 1974), all at once.
    """
    whole = float(areas(polygon[None])[0])
    ring = polygon if whole >= 0 else polygon[::-1]
    if not len(others) or whole == 0:
        return np.zeros(len(others))
    middle = ring.mean(0)  # near the origin, less is lost to rounding
    ring = ring - middle
    rest = np.asarray(others, dtype=np.float64) - middle
    near = np.flatnonzero(
        np.all((rest.min(1) <= ring.max(0)) & (rest.max(1) >= ring.min(0)), axis=1)  # the boxes around them meet
    )
    rest = rest[near]
    for start, end in zip(ring, np.roll(ring, -1, 0), strict=True):
        rest = _clip(rest, start, end)
    found = np.zeros(len(others))
    found[near] = np.clip(np.abs(areas(rest)) / abs(whole), 0.0, 1.0)
    return found


def _clip(polygons: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """What of polygons [N, L, 2] lies on the left of a line: [N, L + 1, 2], the last corner repeated where there are fewer."""
    edge = end - start
    side = edge[0] * (polygons[..., 1] - start[1]) - edge[1] * (polygons[..., 0] - start[0])
    before, side_before = np.roll(polygons, 1, 1), np.roll(side, 1, 1)
    crosses = (side >= 0) != (side_before >= 0)
    step = np.where(crosses, side_before - side, 1.0)
    crossing = before + (side_before / step)[..., None] * (polygons - before)
    corners = np.stack((crossing, polygons), axis=2).reshape(len(polygons), 2 * polygons.shape[1], 2)
    kept = np.stack((crosses, side >= 0), axis=2).reshape(corners.shape[:2])
    # Kept corners first, in their order: of a convex polygon at most L + 1. The last one fills the room that is left.
    order = np.argsort(~kept, axis=1, kind="stable")
    count = kept.sum(axis=1, keepdims=True)
    chosen = np.minimum(np.arange(polygons.shape[1] + 1), np.maximum(count - 1, 0))
    clipped = np.take_along_axis(corners, np.take_along_axis(order, chosen, axis=1)[..., None], axis=1)
    return np.where((count == 0)[..., None], 0.0, clipped)
