"""Plane geometry of convex polygons: area, clipping, inset, subdivision, hatching.

A polygon is an `[N, 2]` float64 array of corners in metres (east, north), in either direction of travel.
Angles are radians counter-clockwise from east, as `numpy.cos` and `numpy.sin` take them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
SLIVER = 1e-6


@dataclass(frozen=True)
class Cut:
    """A straight cut made while subdividing: its two ends in metres, and how many cuts came before it."""

    start: Points
    end: Points
    depth: int


def signed_area(polygon: Points) -> float:
    """Area in square metres by the shoelace formula; positive when the corners run counter-clockwise."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:] + x[-1] * y[0] - y[-1] * x[0]) / 2


def area(polygon: Points) -> float:
    """Area in square metres, whichever way the corners run."""
    return abs(signed_area(polygon)) if len(polygon) >= 3 else 0.0


def clip(polygon: Points, point: Points, normal: Points) -> Points:
    """The part of a convex polygon on the side of `point` that `normal` points to (maybe `[0, 2]`)."""
    if len(polygon) == 0:
        return polygon
    side = (polygon - point) @ normal
    kept: list[Points] = []
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        if side[i] >= 0:
            kept.append(polygon[i])
        if (side[i] >= 0) != (side[j] >= 0):
            kept.append(polygon[i] + (polygon[j] - polygon[i]) * (side[i] / (side[i] - side[j])))
    ring = np.array(kept).reshape(-1, 2)
    if len(ring) == 0:
        return ring
    # Slivers of edges point anywhere: later insets would cut the polygon away along them.
    long_enough = np.hypot(*np.diff(ring, axis=0, append=ring[:1]).T) > SLIVER
    return ring[long_enough] if long_enough.sum() >= 3 else np.zeros((0, 2))


def intersection(subject: Points, window: Points) -> Points:
    """The part of polygon `subject` inside the convex polygon `window` (maybe `[0, 2]`)."""
    ring = window if signed_area(window) > 0 else window[::-1]
    for i in range(len(ring)):
        edge = ring[(i + 1) % len(ring)] - ring[i]
        subject = clip(subject, ring[i], np.array([-edge[1], edge[0]]))
    return subject


def inset(polygon: Points, distance: float) -> Points:
    """A convex polygon with every edge moved inward by `distance` metres (maybe `[0, 2]`)."""
    ring = polygon if signed_area(polygon) > 0 else polygon[::-1]
    result = ring
    for i in range(len(ring)):
        edge = ring[(i + 1) % len(ring)] - ring[i]
        length = float(np.hypot(*edge))
        if length > SLIVER:
            inward = np.array([-edge[1], edge[0]]) / length
            result = clip(result, ring[i] + inward * distance, inward)
    return result


def rectangle(centre: ArrayLike, length: float, width: float, angle: float) -> Points:
    """The `[4, 2]` corners of a rectangle `length` metres along `angle` and `width` metres across it."""
    along = np.array([np.cos(angle), np.sin(angle)]) * (length / 2)
    across = np.array([-np.sin(angle), np.cos(angle)]) * (width / 2)
    corners: Points = np.asarray(centre, dtype=np.float64) + np.array(
        [along + across, -along + across, -along - across, along - across]
    )
    return corners


def long_axis(polygon: Points) -> float:
    """Direction of the longest edge, radians in [0, pi)."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    edge = edges[int(np.argmax(np.hypot(edges[:, 0], edges[:, 1])))]
    return float(np.arctan2(edge[1], edge[0]) % np.pi)


def inside(polygon: Points, points: Points) -> NDArray[np.bool_]:
    """Which of the `[N, 2]` points lie in a convex polygon: `[N]` booleans."""
    ring = polygon if signed_area(polygon) > 0 else polygon[::-1]
    edges = np.roll(ring, -1, axis=0) - ring
    dx = points[:, None, 0] - ring[None, :, 0]
    dy = points[:, None, 1] - ring[None, :, 1]
    return np.asarray((edges[:, 0] * dy - edges[:, 1] * dx >= 0).all(axis=1))


def fit_rectangle(polygon: Points, angle: float) -> tuple[Points, float, float]:
    """Centre, length and width (metres) of a rectangle along `angle` that fits in a convex polygon."""
    u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    along, across = polygon @ u, polygon @ v
    centre = polygon.mean(axis=0)
    length, width = float(np.ptp(along)), float(np.ptp(across))
    for scale in np.arange(0.95, 0.2, -0.05):
        if inside(polygon, rectangle(centre, length * scale, width * scale, angle)).all():
            return centre, length * float(scale), width * float(scale)
    return centre, length * 0.2, width * 0.2


def pieces(segments: Points, longest: float, gap: float) -> Points:
    """Segments `[M, 2, 2]` cut into equal parts of at most `longest` metres with `gap` metres between them."""
    parts = []
    for start, end in segments:
        length = float(np.hypot(*(end - start)))
        count = int(np.ceil((length + gap) / (longest + gap)))
        part = (length + gap) / count - gap
        u = (end - start) / max(length, SLIVER)
        for i in range(count):
            first = start + u * (i * (part + gap))
            parts.append(np.stack([first, first + u * part]))
    return np.array(parts).reshape(-1, 2, 2)


def hatch(polygon: Points, angle: float, spacing: float) -> Points:
    """Parallel segments across a convex polygon: `[M, 2 ends, 2]`, `spacing` metres apart, along `angle`."""
    u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    along, across = polygon @ u, polygon @ v
    offsets = np.arange(across.min() + spacing / 2, across.max(), spacing)
    if len(offsets) == 0:
        return np.zeros((0, 2, 2))
    next_along, rise = np.roll(along, -1), np.roll(across, -1) - across
    rise = np.where(np.abs(rise) < 1e-9, 1e-9, rise)
    t = (offsets[:, None] - across[None]) / rise[None]
    hit = (t >= 0) & (t <= 1)
    at = along[None] + t * (next_along - along)[None]
    low, high = np.where(hit, at, np.inf).min(axis=1), np.where(hit, at, -np.inf).max(axis=1)
    good = high > low
    low, high, offsets = low[good], high[good], offsets[good]
    base = offsets[:, None] * v
    return np.stack([base + low[:, None] * u, base + high[:, None] * u], axis=1)


def subdivide(
    polygon: Points,
    rng: np.random.Generator,
    target: tuple[float, float],
    *,
    axis: float | None = None,
    jitter: float = 0.06,
    early: float = 0.0,
    aspect: float = 1.0,
) -> tuple[list[Points], list[Cut]]:
    """Cut a convex polygon across its longer side again and again, into pieces about `aspect` times as long as wide.

    Stops at pieces whose area is under a number drawn from `target` (square metres), or with probability
    `early` at pieces up to four times as large. `axis` (radians) keeps every cut parallel or square to one
    direction; without it, cuts follow each piece's longest edge. `jitter` is the cuts' angular spread (radians).
    Returns the pieces and the cuts, first cuts first.
    """
    done: list[Points] = []
    cuts: list[Cut] = []
    queue = [(polygon, 0)]
    while queue:
        piece, depth = queue.pop(0)
        limit = rng.uniform(*target)
        if area(piece) < limit or (area(piece) < 4 * limit and rng.random() < early):
            done.append(piece)
            continue
        angle = long_axis(piece) if axis is None else axis
        u, v = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        across_long = np.ptp(piece @ u) >= aspect * np.ptp(piece @ v)
        direction = u if across_long else v
        low, high = float((piece @ direction).min()), float((piece @ direction).max())
        position = low + (high - low) * rng.uniform(0.38, 0.62)
        turn = rng.normal(0, jitter)
        cos, sin = np.cos(turn), np.sin(turn)
        normal = np.array([cos * direction[0] - sin * direction[1], sin * direction[0] + cos * direction[1]])
        centre = piece.mean(axis=0)
        point = centre + direction * (position - float(centre @ direction))
        halves = clip(piece, point, normal), clip(piece, point, -normal)
        if min(area(halves[0]), area(halves[1])) < 1.0:
            done.append(piece)
            continue
        tangent = np.array([-normal[1], normal[0]])
        on_cut = np.abs((halves[0] - point) @ normal) < 1e-6
        ends = halves[0][on_cut]
        order = np.argsort(ends @ tangent)
        cuts.append(Cut(ends[order[0]], ends[order[-1]], depth))
        queue += [(halves[0], depth + 1), (halves[1], depth + 1)]
    return done, cuts
